"""The base class of all objectives: a batched map function for `datasets`, from lines to examples."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import datasets
import numpy as np
from transformers import PreTrainedTokenizerBase

from birthgpt.settings import setting

IGNORE = -100
"""The label of a position that is not a target."""

NOT_UNKNOWN = -200
"""The label of a position whose target is any token but the unknown answer (`training.losses`)."""

FEATURES = datasets.Features(
    {
        "line_id": datasets.Value("int64"),
        "input_ids": datasets.List(datasets.Value("int32")),
        "position_ids": datasets.List(datasets.Value("int32")),
        "branch_ids": datasets.List(datasets.Value("int32")),
        "shift_labels": datasets.List(datasets.Value("int32")),
        "truncated": datasets.Value("bool"),
    }
)
"""The columns of examples and their types. Without them, datasets reads every token to find the types."""

PAIR_FEATURES = datasets.Features(
    {
        "line_id": datasets.Value("int64"),
        "input_ids": datasets.List(datasets.Value("int32")),
        "decoder_input_ids": datasets.List(datasets.Value("int32")),
        "shift_labels": datasets.List(datasets.Value("int32")),
        "truncated": datasets.Value("bool"),
    }
)
"""The columns of examples for an encoder–decoder and their types."""

MAX_CACHED_TOKENS = 5_000_000
"""The most tokens that an objective keeps in memory; a token needs 8 bytes."""

Batch = dict[str, list]


@dataclass
class Objective:
    """Converts lines to inputs and targets.

    It is called as `objective(batch, seed=…, epoch=…)` and returns the columns

    - `line_id`: the line or question of the example,
    - `input_ids`, `position_ids`: (length,),
    - `branch_ids`: (length,), 0 for the shared prefix, k > 0 for branch k; all 0 without branches,
    - `shift_labels`: (length,), the token that each position must predict, −100 for none,
    - `truncated`: whether a part of the line was left out.

    Randomness depends only on (seed, epoch, line_id): the same call returns the same examples in every order, in every
    process and after a restart.
    """

    tokenizer: PreTrainedTokenizerBase
    block_size: int = setting(128, "longest example, in tokens", min=1)
    for_encoder_decoder: bool = field(default=False, kw_only=True)
    """Whether `examples` divides each example into what an encoder reads and what a decoder writes."""

    output_mask: ClassVar[int] = 1
    """The output of an example begins with its first ⁇, its second, …; 0 if an example has no output."""

    @property
    def features(self) -> datasets.Features:
        """The columns of `examples`, and their types."""
        return PAIR_FEATURES if self.for_encoder_decoder else FEATURES

    def examples(self, batch: Batch, *, seed: int, epoch: int) -> Batch:
        """The examples of lines; for an encoder–decoder, divided at the ⁇ that begins their output.

        The encoder reads the tokens before this ⁇. The decoder reads this ⁇ and the tokens after it, and only its
        positions have targets: `shift_labels` has the length of `decoder_input_ids`.
        """
        made = self(batch, seed=seed, epoch=epoch)
        if not self.for_encoder_decoder:
            return made
        rows = zip(made["input_ids"], made["shift_labels"], strict=True)
        starts = [self.start_of_output(tokens) for tokens in made["input_ids"]]
        pairs = [
            (tokens[:start], tokens[start:], targets[start:])
            for start, (tokens, targets) in zip(starts, rows, strict=True)
        ]
        names = ("input_ids", "decoder_input_ids", "shift_labels")
        columns = {name: [pair[index] for pair in pairs] for index, name in enumerate(names)}
        return {"line_id": made["line_id"], **columns, "truncated": made["truncated"]}

    def start_of_output(self, tokens: list[int]) -> int:
        """The index of the ⁇ that begins the output."""
        index = -1
        for _ in range(self.output_mask):
            index = tokens.index(self.tokenizer.mask_token_id, index + 1)
        return index

    def __call__(self, batch: Batch, *, seed: int, epoch: int) -> Batch:
        raise NotImplementedError

    def read_corpus(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Count in the corpus what the objective needs to know of it; most need nothing."""

    def read_questions(self, questions: Iterable[Mapping[str, Any]]) -> None:
        """Count in the train questions what the objective needs to know of them; most need nothing."""

    def count_lines(self, lines: Iterable[Mapping[str, Any]]) -> dict[str, int]:
        """How many lines (rows with `text` and `name`) become other examples than most, by what happens to them."""
        return {}

    def encode(self, texts: list[str]) -> list[list[int]]:
        """The tokens of each text. The lists are shared between calls and must not be changed."""
        tokens_of = {text: self._cache[text] for text in texts if text in self._cache}
        new = [text for text in dict.fromkeys(texts) if text not in tokens_of]
        if new:
            # not verbose: the objective itself handles lines that are longer than a block
            encoded = self.tokenizer(new, return_attention_mask=False, verbose=False)
            encoded = dict(zip(new, encoded["input_ids"], strict=True))
            self._cache.add(encoded)
            tokens_of |= encoded
        return [tokens_of[text] for text in texts]

    @cached_property
    def _cache(self) -> "TokenCache":
        return TokenCache()


class TokenCache(dict[str, list[int]]):
    """A cache of the tokens of texts, because every epoch needs the same lines and spans. A full cache is emptied."""

    count = 0

    def add(self, tokens_of: dict[str, list[int]]) -> None:
        """Add these tokens; empty the cache first if there would be too many."""
        count = sum(map(len, tokens_of.values()))
        if self.count + count > MAX_CACHED_TOKENS:
            self.clear()
            self.count = 0
        self.update(tokens_of)
        self.count += count


def line_generator(seed: int, epoch: int, line_id: int) -> np.random.Generator:
    """The random generator of one line in one epoch."""
    return np.random.default_rng((seed, epoch, line_id))


def new_batch() -> Batch:
    """An empty batch of examples."""
    return {column: [] for column in FEATURES}


def append_example(examples: Batch, line_id: int, inputs: list[int], targets: list[int], truncated: bool) -> None:
    """Add an example without branches; positions after the last target have no target."""
    length = len(inputs)
    _append_row(
        examples,
        line_id=line_id,
        input_ids=inputs,
        position_ids=list(range(length)),
        branch_ids=[0] * length,
        shift_labels=targets + [IGNORE] * (length - len(targets)),
        truncated=truncated,
    )


def append_branches(
    examples: Batch, line_id: int, prefix: list[int], branches: list[tuple[list[int], list[int], bool]]
) -> None:
    """Add an example of one shared prefix and its branches, each (inputs, targets, truncated)."""
    row = {
        "input_ids": list(prefix),
        "position_ids": list(range(len(prefix))),
        "branch_ids": [0] * len(prefix),
        "shift_labels": [IGNORE] * len(prefix),
    }
    for branch_id, (inputs, targets, _) in enumerate(branches, start=1):
        row["input_ids"] += inputs
        row["position_ids"] += range(len(prefix), len(prefix) + len(inputs))
        row["branch_ids"] += [branch_id] * len(inputs)
        row["shift_labels"] += targets
    _append_row(examples, line_id=line_id, truncated=any(truncated for _, _, truncated in branches), **row)


def _append_row(examples: Batch, **row) -> None:
    for column, value in row.items():
        examples[column].append(value)
