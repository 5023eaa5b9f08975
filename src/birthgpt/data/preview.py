"""Examples as the model sees them."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import datasets
import torch
from transformers import PreTrainedTokenizerBase

from birthgpt.data.objectives import IGNORE, NOT_UNKNOWN, Objective
from birthgpt.data.tokenizers import UNKNOWN_ANSWER_TOKEN


def show_example(tokenizer: PreTrainedTokenizerBase, example: Mapping[str, Sequence[int] | torch.Tensor]) -> str:
    """The text of an example and, below it, its targets.

    □ marks a position without a target, and ¬␀ one where every token but ␀ is right. Of an encoder–decoder, it is the
    input of the encoder, that of the decoder, and its targets.
    """
    targets = torch.as_tensor(example["shift_labels"])
    shown = torch.where(targets == IGNORE, tokenizer.pad_token_id, targets)
    ends = (targets == NOT_UNKNOWN).nonzero().flatten().tolist()
    parts = [shown[start:end] for start, end in zip([0, *(end + 1 for end in ends)], [*ends, len(shown)], strict=True)]
    text = f"x: {tokenizer.decode(torch.as_tensor(example['input_ids']))}\n"
    if "decoder_input_ids" in example:
        text += f"d: {tokenizer.decode(torch.as_tensor(example['decoder_input_ids']))}\n"
    return f"{text}y: " + f"¬{UNKNOWN_ANSWER_TOKEN}".join(str(tokenizer.decode(part)) for part in parts)


def examples(
    source: datasets.Dataset | datasets.IterableDataset, objective: Objective, *, seed: int, epoch: int, count: int
) -> Iterator[dict[str, list[int]]]:
    """At most `count` examples, from the first `count` rows of an epoch."""
    first = datasets.Dataset.from_list(list(itertools.islice(source, count)))
    rows = objective(first[:], seed=seed, epoch=epoch)
    for _, values in zip(range(count), zip(*rows.values(), strict=True), strict=False):
        yield dict(zip(rows, values, strict=True))
