"""Examples as the model sees them."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import datasets
import torch
from transformers import PreTrainedTokenizerBase

from birthgpt.data.objectives import IGNORE, Objective


def show_example(tokenizer: PreTrainedTokenizerBase, example: Mapping[str, Sequence[int] | torch.Tensor]) -> str:
    """The text of an example and, below it, its targets; □ marks a position without a target.

    Of an encoder–decoder, the input of the encoder, that of the decoder, and its targets.
    """
    targets = torch.as_tensor(example["shift_labels"])
    shown = torch.where(targets == IGNORE, tokenizer.pad_token_id, targets)
    text = f"x: {tokenizer.decode(torch.as_tensor(example['input_ids']))}\n"
    if "decoder_input_ids" in example:
        text += f"d: {tokenizer.decode(torch.as_tensor(example['decoder_input_ids']))}\n"
    return f"{text}y: {tokenizer.decode(shown)}"


def examples(
    source: datasets.Dataset | datasets.IterableDataset, objective: Objective, *, seed: int, epoch: int, count: int
) -> Iterator[dict[str, list[int]]]:
    """At most `count` examples, from the first `count` rows of an epoch."""
    first = datasets.Dataset.from_list(list(itertools.islice(source, count)))
    rows = objective(first[:], seed=seed, epoch=epoch)
    for _, values in zip(range(count), zip(*rows.values(), strict=True), strict=False):
        yield dict(zip(rows, values, strict=True))
