"""Batches: the examples of an epoch are planned into padded batches with a token budget."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import datasets
import numpy as np
import pyarrow
import torch

from birthgpt.data.objectives import IGNORE, Objective
from birthgpt.settings import checked, setting

TensorBatch = dict[str, torch.Tensor]


@checked
@dataclass(kw_only=True)
class BatchSettings:
    """How examples are put into batches."""

    tokens_per_batch: int | None = setting(
        None, "most tokens in a batch of similar lengths, including pads and all processes", min=1
    )
    per_device_train_batch_size: int | None = setting(
        None, "instead of tokens_per_batch: examples per micro-batch of a process", min=1
    )
    shuffle: bool = setting(True, "shuffle the examples in every epoch")

    def validate_batch_size(self):
        """One of the two sizes is given, and batches of similar length are always shuffled."""
        if (self.tokens_per_batch is None) == (self.per_device_train_batch_size is None):
            raise ValueError("give exactly one of tokens_per_batch and per_device_train_batch_size")
        if self.tokens_per_batch is not None and not self.shuffle:
            raise ValueError(
                "shuffle=false: batches of similar length (tokens_per_batch) are not in the order of the lines: give "
                "per_device_train_batch_size instead"
            )


class Batches(torch.utils.data.Dataset[TensorBatch]):
    """The data of a trainer: the micro-batches of an epoch, in order."""

    num_micro_batches: int

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch. Its batches depend only on (seed, epoch)."""
        raise NotImplementedError


class PlannedBatches(Batches):
    """Batches whose number is known when an epoch begins."""

    def __len__(self) -> int:
        """The micro-batches of the epoch."""
        raise NotImplementedError

    def __getitem__(self, index: int) -> TensorBatch:
        raise NotImplementedError


def pad_batch(examples: list[dict], pad_token_id: int) -> TensorBatch:
    """Stack examples: each is cut after its last target and padded on the right to the longest one.

    Returns:
        `input_ids`, `position_ids`, `branch_ids` (−1 for padding) and `shift_labels` (−100 for no target), each
        (batch, length), and `line_ids` (batch,), the line of each example. `position_ids` and `branch_ids` are left
        out if no example has branches. For examples of an encoder–decoder, see `pad_pairs`.
    """
    if "decoder_input_ids" in examples[0]:
        return pad_pairs(examples, pad_token_id)
    lengths = [used_length(example["shift_labels"]) for example in examples]
    fills = {"input_ids": pad_token_id, "position_ids": 0, "branch_ids": -1, "shift_labels": IGNORE}
    batch = {name: fill_up([example[name] for example in examples], lengths, fill) for name, fill in fills.items()}
    if not (batch["branch_ids"] > 0).any():
        del batch["branch_ids"], batch["position_ids"]
    batch["line_ids"] = torch.tensor([example["line_id"] for example in examples])
    return batch


def pad_pairs(examples: list[dict], pad_token_id: int) -> TensorBatch:
    """`pad_batch` for an encoder–decoder: the output is cut after its last target.

    Returns:
        `input_ids` and `attention_mask` of the encoder, (batch, length); `decoder_input_ids` and `shift_labels`,
        (batch, output length); `line_ids` (batch,). Padding behind an output has no effect, because a decoder is
        causal.
    """
    inputs = [example["input_ids"] for example in examples]
    lengths = [used_length(example["shift_labels"]) for example in examples]
    batch = {
        "input_ids": fill_up(inputs, [len(row) for row in inputs], pad_token_id),
        "attention_mask": fill_up([[1] * len(row) for row in inputs], [len(row) for row in inputs], 0),
    }
    for name, fill in (("decoder_input_ids", pad_token_id), ("shift_labels", IGNORE)):
        batch[name] = fill_up([example[name] for example in examples], lengths, fill)
    batch["line_ids"] = torch.tensor([example["line_id"] for example in examples])
    return batch


def empty_batch(pad_token_id: int, *, for_encoder_decoder: bool = False) -> TensorBatch:
    """A batch of one pad without a target, (1, 1): it adds nothing to losses and gradients."""
    pad = torch.full((1, 1), pad_token_id)
    batch = {"input_ids": pad, "shift_labels": torch.full_like(pad, IGNORE)}
    if for_encoder_decoder:
        batch |= {"attention_mask": torch.ones_like(pad), "decoder_input_ids": pad}
    return batch | {"line_ids": torch.empty(0, dtype=torch.int64)}


def arrays_of(column: pyarrow.Array) -> Sequence:
    """The rows of a column: an array for each list, or all numbers in one array."""
    if not pyarrow.types.is_list(column.type):
        return column.to_numpy(zero_copy_only=False)
    offsets = column.offsets.to_numpy()
    rows = np.split(column.flatten().to_numpy(), offsets[1:] - offsets[0])
    # behind the last row
    return rows[:-1]


def fill_up(rows: Sequence[Sequence[int] | np.ndarray], lengths: list[int], fill: int) -> torch.Tensor:
    """The first `lengths` values of each row, and then `fill`: (rows, longest)."""
    padded = np.full((len(rows), max(lengths)), fill, dtype=np.int64)
    for index, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        padded[index, :length] = row[:length]
    return torch.from_numpy(padded)


def count_tokens(batch: TensorBatch) -> int:
    """The number of tokens that the model reads in a batch, including padding, in both stacks if it has two."""
    return sum(batch[name].numel() for name in ("input_ids", "decoder_input_ids") if name in batch)


def model_inputs(batch: TensorBatch) -> TensorBatch:
    """The inputs of the model in a batch: everything except `line_ids`."""
    return {name: values for name, values in batch.items() if name != "line_ids"}


def used_length(shift_labels: Sequence[int] | np.ndarray) -> int:
    """The length up to the last target. With a causal mask, the tokens after it have no effect on the loss."""
    targets = np.flatnonzero(np.asarray(shift_labels) != IGNORE)
    return int(targets[-1]) + 1 if len(targets) else 1


def plan_batches(
    lengths: np.ndarray, tokens_per_batch: int, num_micro_batches: int, generator: np.random.Generator
) -> list[list[np.ndarray]]:
    """Group examples of similar length into global batches of at most `tokens_per_batch` tokens, including pads.

    Each global batch is a list of `num_micro_batches` micro-batches (processes × accumulation steps). Examples of equal
    length are shuffled, and the batches are shuffled. A batch has at least `num_micro_batches` examples, even if it
    exceeds the budget. There is no batch if there are fewer examples in total.
    """
    if len(lengths) < num_micro_batches:
        return []
    shuffled = generator.permutation(len(lengths))
    # the longest examples first, so that the smaller last batch has the short examples
    order = shuffled[np.argsort(lengths[shuffled], kind="stable")][::-1]
    batches, start = [], 0
    while start < len(order):
        size = max(num_micro_batches, tokens_per_batch // int(lengths[order[start]]))
        batches.append(order[start : start + size])
        start += size
    batches = _without_small_rest(batches, num_micro_batches)
    return [np.array_split(batches[index], num_micro_batches) for index in generator.permutation(len(batches))]


def fixed_batches(
    count: int, batch_size: int, num_micro_batches: int, generator: np.random.Generator | None = None
) -> list[list[np.ndarray]]:
    """Global batches of `num_micro_batches` micro-batches of `batch_size` examples, shuffled if a generator is given.

    There is no batch if there are fewer examples than `num_micro_batches`.
    """
    if count < num_micro_batches:
        return []
    order = np.arange(count) if generator is None else generator.permutation(count)
    size = batch_size * num_micro_batches
    batches = _without_small_rest([order[start : start + size] for start in range(0, count, size)], num_micro_batches)
    return [np.array_split(batch, num_micro_batches) for batch in batches]


def _without_small_rest(batches: list[np.ndarray], num_micro_batches: int) -> list[np.ndarray]:
    """The batches; if the last one has too few examples for all micro-batches, the last two share their examples."""
    if len(batches[-1]) >= num_micro_batches:
        return batches
    return batches[:-2] + _halves(np.concatenate(batches[-2:]), num_micro_batches)


def _halves(examples: np.ndarray, num_micro_batches: int) -> list[np.ndarray]:
    return np.array_split(examples, 2) if len(examples) >= 2 * num_micro_batches else [examples]


class EpochBatches(PlannedBatches):
    """One epoch as a dataset of padded micro-batches; `set_epoch` draws another epoch.

    Args:
        source: lines or questions, as `load_corpus` and `load_questions` return them.
        objective: converts them to examples.
        pad_token_id: the pad token.
        seed: the seed of the examples and their order.
        settings: the size of a batch.
        num_micro_batches: processes × gradient accumulation steps; the items of a global batch are consecutive.
    """

    def __init__(
        self,
        source: datasets.Dataset,
        objective: Objective,
        pad_token_id: int,
        settings: BatchSettings,
        *,
        seed: int,
        num_micro_batches: int = 1,
        epoch: int = 0,
    ):
        self.source, self.objective, self.pad_token_id = source, objective, pad_token_id
        self.settings, self.seed, self.num_micro_batches = settings, seed, num_micro_batches
        self.epoch: int | None = None
        self.set_epoch(epoch)

    def set_epoch(self, epoch: int) -> None:
        """Draw the examples of an epoch and plan its batches, which depend only on (seed, epoch)."""
        if epoch == self.epoch:
            return
        self.epoch = epoch
        self.examples = map_objective(self.source, self.objective, self.seed, epoch)
        # lists of numbers would be most of the time of a batch
        self.rows = self.examples.with_format("arrow")
        labels = self.examples.data.column("shift_labels")
        self.lengths = np.array([used_length(row) for chunk in labels.chunks for row in arrays_of(chunk)])
        if "decoder_input_ids" in self.examples.column_names:
            inputs = self.examples.data.column("input_ids")
            self.lengths += np.array([len(row) for chunk in inputs.chunks for row in arrays_of(chunk)])
        generator = np.random.default_rng((self.seed, epoch))
        settings, count = self.settings, self.num_micro_batches
        if settings.tokens_per_batch is not None:
            plan = plan_batches(self.lengths, settings.tokens_per_batch, count, generator)
        else:
            assert settings.per_device_train_batch_size is not None
            order = generator if settings.shuffle else None
            plan = fixed_batches(len(self.lengths), settings.per_device_train_batch_size, count, order)
        self.batches = [micro_batch for batch in plan for micro_batch in batch]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> TensorBatch:
        rows = self.rows[self.batches[index]]
        values = zip(*(arrays_of(column.combine_chunks()) for column in rows.columns), strict=True)
        examples = [dict(zip(rows.column_names, row, strict=True)) for row in values]
        return pad_batch(examples, self.pad_token_id)


class MixedBatches(PlannedBatches):
    """The batches of an epoch of lines, randomly interleaved with batches of questions.

    Args:
        lines: the batches of an epoch of lines.
        questions: the batches of an epoch of questions, planned for the same number of micro-batches.
        question_ratio: the fraction of global batches that contain questions, in (0, 1).
        seed: the seed of the order.
    """

    def __init__(self, lines: EpochBatches, questions: EpochBatches, *, question_ratio: float, seed: int):
        assert 0 < question_ratio < 1 and lines.num_micro_batches == questions.num_micro_batches
        self.lines, self.questions, self.question_ratio, self.seed = lines, questions, question_ratio, seed
        self.num_micro_batches = lines.num_micro_batches
        self.epoch: int | None = None
        self.set_epoch(lines.epoch or 0)

    def set_epoch(self, epoch: int) -> None:
        """Plan an epoch, which depends only on (seed, epoch)."""
        if epoch == self.epoch:
            return
        self.epoch = epoch
        self.lines.set_epoch(epoch)
        size = self.num_micro_batches
        lines = [(self.lines, start) for start in range(0, len(self.lines), size)]
        count = max(1, round(len(lines) * self.question_ratio / (1 - self.question_ratio)))
        plan = lines + self._question_batches(count, epoch)
        order = np.random.default_rng((self.seed, epoch)).permutation(len(plan))
        chosen = (plan[index] for index in order)
        self.batches = [(batches, start + offset) for batches, start in chosen for offset in range(size)]

    def _question_batches(self, count: int, epoch: int) -> list[tuple[EpochBatches, int]]:
        """`count` global batches, from as many passes over the questions as necessary."""
        passes = -(-count * self.num_micro_batches // len(self.questions))
        chosen = []
        for number in range(epoch * passes, (epoch + 1) * passes):
            batches = copy.copy(self.questions)
            batches.set_epoch(number)
            chosen += [(batches, start) for start in range(0, len(batches), self.num_micro_batches)]
        return chosen[:count]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> TensorBatch:
        batches, number = self.batches[index]
        return batches[number]


def map_objective(source: datasets.Dataset, objective: Objective, seed: int, epoch: int) -> datasets.Dataset:
    """The examples of one epoch, in memory; nothing is cached on disk."""
    return source.map(
        objective.examples,
        batched=True,
        fn_kwargs={"seed": seed, "epoch": epoch},
        remove_columns=source.column_names,
        features=objective.features,
        keep_in_memory=True,
        load_from_cache_file=False,
        # the examples depend only on these two: without this, datasets hashes the tokenizer in every epoch
        new_fingerprint=f"objective-{seed}-{epoch}",
    )
