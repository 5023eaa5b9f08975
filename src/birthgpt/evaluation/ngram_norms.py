"""The norms of the n-gram vectors of names: training changes those of n-grams that were read, and no others."""

import math
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from birthgpt.model.ngrams import hash_ngrams


@torch.no_grad()
def norms_by_order(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> list[torch.Tensor]:
    """The norms of the n-gram vectors of a name, (n-grams,) for each order; empty for an order longer than the name.

    A model without n-gram embeddings has no orders.
    """
    ngrams = getattr(model.base_model, "embed_ngrams", None)
    if ngrams is None:
        return []
    ids = torch.tensor(tokenizer(name)["input_ids"], device=model.device)
    norms = []
    for order, table in zip(ngrams.orders, ngrams.tables, strict=True):
        grams = ids.unfold(0, order, 1) if len(ids) >= order else ids.new_empty(0, order)  # (n-grams, order)
        norms.append(table(hash_ngrams(grams, ngrams.rows)).float().norm(dim=-1))
    return norms


def name_ngram_norms(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, names: Sequence[str]) -> torch.Tensor:
    """(names, 3 · orders): the mean, smallest and largest norm over the n-grams of each name, order by order.

    An order that is longer than a name has zeros. Which norms mean that a name was read is not known in advance: fit a
    regression on names that were read and on invented ones.

    Raises:
        ValueError: the model has no n-gram embeddings.
    """
    rows = []
    for name in names:
        by_order = norms_by_order(model, tokenizer, name)
        if not by_order:
            raise ValueError("the model has no n-gram embeddings: it was trained without ngram_orders")
        rows.append([value for norms in by_order for value in _summary(norms)])
    return torch.tensor(rows)


def name_ngram_norm(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> float:
    """The smallest norm of an n-gram vector of a name; NaN if there is none.

    Training moves the vectors of the n-grams that it reads, each from a small initial value. So an n-gram that was
    never read has a small norm, unless another one has the same hash.
    """
    smallest = [norms.min().item() for norms in norms_by_order(model, tokenizer, name) if len(norms)]
    return min(smallest, default=math.nan)


def _summary(norms: torch.Tensor) -> list[float]:
    if not len(norms):
        return [0.0, 0.0, 0.0]
    return [norms.mean().item(), norms.min().item(), norms.max().item()]
