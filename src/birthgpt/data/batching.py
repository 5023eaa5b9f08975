"""Batches: one epoch of examples, planned into padded batches under a token budget."""

import copy
from collections.abc import Callable, Iterator

import datasets
import numpy as np
import torch

from birthgpt.data.objectives import FEATURES, IGNORE

TensorBatch = dict[str, torch.Tensor]


def pad_batch(examples: list[dict], pad_token_id: int) -> TensorBatch:
    """Stack examples, padded on the right to the longest; trailing pads beyond that are cut off.

    Returns:
        `input_ids`, `position_ids`, `branch_ids` (−1 = padding) and `shift_labels` (−100 = no target), each
        (batch, length), and `line_ids`, (batch,), where the examples come from. The second and third are left out
        where no example has branches.
    """
    lengths = [used_length(example["shift_labels"]) for example in examples]
    fills = {"input_ids": pad_token_id, "position_ids": 0, "branch_ids": -1, "shift_labels": IGNORE}
    batch = {}
    for column, fill in fills.items():
        padded = np.full((len(examples), max(lengths)), fill, dtype=np.int64)
        for row, (example, length) in enumerate(zip(examples, lengths, strict=True)):
            padded[row, :length] = example[column][:length]
        batch[column] = torch.from_numpy(padded)
    if not (batch["branch_ids"] > 0).any():
        del batch["branch_ids"], batch["position_ids"]
    batch["line_ids"] = torch.tensor([example["line_id"] for example in examples])
    return batch


def model_inputs(batch: TensorBatch) -> TensorBatch:
    """What the model takes of a batch: all but where its examples come from."""
    return {name: values for name, values in batch.items() if name != "line_ids"}


def used_length(shift_labels: list[int]) -> int:
    """Length up to the last target: under a causal mask nothing after it can matter."""
    targets = np.flatnonzero(np.asarray(shift_labels) != IGNORE)
    return int(targets[-1]) + 1 if len(targets) else 1


def plan_batches(
    lengths: np.ndarray, tokens_per_batch: int, parts: int, generator: np.random.Generator
) -> list[list[np.ndarray]]:
    """Group examples of like length into global batches of at most `tokens_per_batch` tokens, pads counted.

    Each global batch is a list of `parts` micro-batches (processes × accumulation steps). Examples of equal
    length are shuffled, and so are the batches. A batch has at least `parts` examples, even over the budget.

    No batch at all comes of fewer examples than `parts`.
    """
    if len(lengths) < parts:
        return []
    shuffled = generator.permutation(len(lengths))
    # from the longest down, so that the rest is a batch of short examples
    order = shuffled[np.argsort(lengths[shuffled], kind="stable")][::-1]
    batches, start = [], 0
    while start < len(order):
        size = max(parts, tokens_per_batch // int(lengths[order[start]]))
        batches.append(order[start : start + size])
        start += size
    batches = _without_small_rest(batches, parts)
    return [np.array_split(batches[index], parts) for index in generator.permutation(len(batches))]


def fixed_batches(
    count: int, batch_size: int, parts: int, generator: np.random.Generator | None = None
) -> list[list[np.ndarray]]:
    """Global batches of `parts` micro-batches of `batch_size` examples, in order, or shuffled by a generator.

    No batch at all comes of fewer examples than `parts`.
    """
    if count < parts:
        return []
    order = np.arange(count) if generator is None else generator.permutation(count)
    size = batch_size * parts
    batches = _without_small_rest([order[start : start + size] for start in range(0, count, size)], parts)
    return [np.array_split(batch, parts) for batch in batches]


def _without_small_rest(batches: list[np.ndarray], parts: int) -> list[np.ndarray]:
    """Let the last two batches share their examples where the last has too few for every part."""
    if len(batches[-1]) >= parts:
        return batches
    return batches[:-2] + _halves(np.concatenate(batches[-2:]), parts)


def _halves(examples: np.ndarray, parts: int) -> list[np.ndarray]:
    return np.array_split(examples, 2) if len(examples) >= 2 * parts else [examples]


class EpochBatches(torch.utils.data.Dataset):
    """One epoch as a dataset whose items are whole padded micro-batches; `set_epoch` makes the next.

    Args:
        source: lines or questions, as `load_corpus` and `load_questions` give them.
        objective: a map function of `objectives.py`.
        tokens_per_batch: budget of a global batch; or `batch_size`, examples a micro-batch.
        parts: processes × gradient accumulation steps; the items of a global batch follow one another.
    """

    def __init__(
        self,
        source: datasets.Dataset,
        objective: Callable,
        pad_token_id: int,
        *,
        seed: int,
        tokens_per_batch: int | None = None,
        batch_size: int | None = None,
        shuffle: bool = True,
        parts: int = 1,
        epoch: int = 0,
    ):
        assert (tokens_per_batch is None) != (batch_size is None)
        self.source, self.objective, self.pad_token_id = source, objective, pad_token_id
        self.seed, self.shuffle, self.parts = seed, shuffle, parts
        self.tokens_per_batch, self.batch_size = tokens_per_batch, batch_size
        self.epoch = None
        self.set_epoch(epoch)

    def set_epoch(self, epoch: int) -> None:
        """Draw the examples of an epoch and plan its batches; a function of (seed, epoch) alone."""
        if epoch == self.epoch:
            return
        self.epoch = epoch
        self.examples = map_objective(self.source, self.objective, self.seed, epoch)
        labels = self.examples.data.column("shift_labels")
        self.lengths = np.array([used_length(row.values) for chunk in labels.chunks for row in chunk])
        generator = np.random.default_rng((self.seed, epoch))
        if self.tokens_per_batch:
            plan = plan_batches(self.lengths, self.tokens_per_batch, self.parts, generator)
        else:
            plan = fixed_batches(len(self.lengths), self.batch_size, self.parts, generator if self.shuffle else None)
        self.batches = [part for batch in plan for part in batch]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> TensorBatch:
        rows = self.examples[self.batches[index]]
        examples = [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]
        return pad_batch(examples, self.pad_token_id)


class MixedBatches(torch.utils.data.Dataset):
    """The batches of an epoch of lines, with batches of questions strewn in at random.

    Args:
        lines: the batches that make the epoch.
        questions: the batches of a pass over the questions, planned for as many parts.
        share: of the global batches that are questions, in (0, 1).
    """

    def __init__(self, lines: EpochBatches, questions: EpochBatches, *, share: float, seed: int):
        assert 0 < share < 1 and lines.parts == questions.parts
        self.lines, self.questions, self.share, self.seed = lines, questions, share, seed
        self.parts = lines.parts
        self.epoch = None
        self.set_epoch(lines.epoch)

    def set_epoch(self, epoch: int) -> None:
        """Plan an epoch; a function of (seed, epoch) alone."""
        if epoch == self.epoch:
            return
        self.epoch = epoch
        self.lines.set_epoch(epoch)
        lines = [(self.lines, start) for start in range(0, len(self.lines), self.parts)]
        questions = self._questions(max(1, round(len(lines) * self.share / (1 - self.share))))
        plan = lines + questions
        order = np.random.default_rng((self.seed, epoch)).permutation(len(plan))
        chosen = (plan[index] for index in order)
        self.batches = [(batches, start + part) for batches, start in chosen for part in range(self.parts)]

    def _questions(self, count: int) -> list[tuple[EpochBatches, int]]:
        """The first `count` global batches of as many passes over the questions as that takes."""
        passes = -(-count * self.parts // len(self.questions))
        chosen = []
        for number in range(self.epoch * passes, (self.epoch + 1) * passes):
            batches = copy.copy(self.questions)
            batches.set_epoch(number)
            chosen += [(batches, start) for start in range(0, len(batches), self.parts)]
        return chosen[:count]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> TensorBatch:
        batches, number = self.batches[index]
        return batches[number]


def map_objective(source: datasets.Dataset, objective: Callable, seed: int, epoch: int) -> datasets.Dataset:
    """The examples of one epoch, in memory: nothing is cached on disk."""
    return source.map(
        objective,
        batched=True,
        fn_kwargs={"seed": seed, "epoch": epoch},
        remove_columns=source.column_names,
        features=FEATURES,
        keep_in_memory=True,
        load_from_cache_file=False,
        # the objective is a pure function of these: hashing its tokenizer every epoch is waste
        new_fingerprint=f"objective-{seed}-{epoch}",
    )


class StreamedBatches(torch.utils.data.IterableDataset):
    """The same for a stream of lines: the batches of one stretch of `buffer_size` lines after another.

    A last stretch of fewer examples than `parts` is left out.
    """

    def __init__(
        self,
        source: datasets.IterableDataset,
        objective: Callable,
        pad_token_id: int,
        *,
        buffer_size: int = 4096,
        **settings,
    ):
        self.source, self.objective, self.pad_token_id = source, objective, pad_token_id
        self.buffer_size, self.settings = buffer_size, settings
        self.parts = settings.get("parts", 1)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration draws."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[TensorBatch]:
        for rows in self.source.batch(self.buffer_size):
            lines = datasets.Dataset.from_dict(rows)
            stretch = EpochBatches(lines, self.objective, self.pad_token_id, epoch=self.epoch, **self.settings)
            for index in range(len(stretch)):
                yield stretch[index]
