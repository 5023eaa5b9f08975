"""Warm-up: the first epochs are about some of the people, and the later ones about all."""

from collections.abc import Iterable
from dataclasses import dataclass

import datasets
import numpy as np

from birthgpt.data.batching import PlannedBatches, TensorBatch
from birthgpt.data.names import name_key
from birthgpt.settings import Number, checked, setting


@checked
@dataclass(kw_only=True)
class WarmupSettings:
    """Which people the first epochs are about.

    A model learns how to recall before it knows the facts of each person, and the time for it grows with the number of
    people. So it is shorter with few people at first (Zucchet et al., 2025, 2503.21676).
    """

    warmup_people: Number = setting(
        0.1, "fraction of the people that the first epochs are about (2503.21676)", above=0, max=1
    )
    warmup_epochs: int = setting(0, "so many epochs are about these people alone; 0 for none", min=0)


class WarmupBatches(PlannedBatches):
    """The batches of some people in the first epochs, then those of all.

    Args:
        first: the batches of the first epochs.
        following: those of later epochs.
        epochs: the number of first epochs.
    """

    def __init__(self, first: PlannedBatches, following: PlannedBatches, epochs: int):
        assert first.num_micro_batches == following.num_micro_batches
        self.first, self.following, self.epochs = first, following, epochs
        self.num_micro_batches = first.num_micro_batches
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, and with it the people."""
        self.current = self.first if epoch < self.epochs else self.following
        self.current.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.current)

    def __getitem__(self, index: int) -> TensorBatch:
        return self.current[index]

    def count(self, epochs: float) -> float:
        """About how many micro-batches the first epochs have."""
        first = min(epochs, self.epochs)
        return self.first.count(first) + self.following.count(epochs - first)


def draw_people(names: Iterable[str], fraction: float, seed: int) -> set[str]:
    """The `name_key` of a fraction of the people, one person at least.

    Raises:
        ValueError: there is no name.
    """
    people = sorted({name_key(name) for name in names if name})
    if not people:
        raise ValueError("warmup_epochs: no line has a name, so there are no first people: set it to 0")
    count = max(1, round(fraction * len(people)))
    return {people[index] for index in np.random.default_rng(seed).permutation(len(people))[:count]}


def rows_about(rows: datasets.Dataset, people: set[str]) -> datasets.Dataset:
    """The lines or questions about some people."""
    return rows.select([index for index, name in enumerate(rows["name"]) if name_key(name) in people])
