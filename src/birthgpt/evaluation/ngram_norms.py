"""The norms of the n-gram vectors of names: training changes those of n-grams that were read, and no others."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from birthgpt.model.ngrams import NgramEmbedding, hash_ngrams


@torch.no_grad()
def name_ngram_norms(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, names: Sequence[str]) -> torch.Tensor:
    """(names, 3 · orders): the mean, smallest and largest norm over the n-grams of each name, order by order.

    An order that is longer than a name has zeros. Which norms mean that a name was read is not known in advance: fit a
    regression on names that were read and on invented ones.

    Raises:
        ValueError: the model has no n-gram embeddings.
    """
    found = [module for module in model.modules() if isinstance(module, NgramEmbedding)]
    if not found:
        raise ValueError("the model has no n-gram embeddings: it was trained without ngram_orders")
    (ngrams,) = found
    tables: list[torch.Tensor] = [table.get_parameter("weight") for table in ngrams.tables]
    rows = []
    for name in names:
        ids = torch.tensor(tokenizer(name)["input_ids"])
        row: list[float] = []
        for order, vectors in zip(ngrams.orders, tables, strict=True):
            if len(ids) < order:
                row += [0.0, 0.0, 0.0]
                continue
            places = hash_ngrams(ids.unfold(0, order, 1), ngrams.rows)  # (n-grams,)
            norms = vectors[places.to(vectors.device)].float().norm(dim=-1)
            row += [norms.mean().item(), norms.min().item(), norms.max().item()]
        rows.append(row)
    return torch.tensor(rows)
