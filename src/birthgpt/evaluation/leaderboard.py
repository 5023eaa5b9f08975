"""A leaderboard: the evaluations of one configuration with several seeds are one row, with an interval by bootstrap."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np

from birthgpt.evaluation.confidence_metrics import NUM_RESAMPLES, interval, rate

COSTS = ("parameters", "flops", "seconds")


@dataclass(frozen=True)
class Entry:
    """One evaluation of a leaderboard.

    Args:
        name: how it is called.
        configuration: what is equal for all seeds of a configuration, and different for others.
        seeds: the seeds of its trainings; empty for a baseline.
        accuracy: 0..1.
        total: the number of questions.
        cost: those of `COSTS` that are known: parameters, FLOPs, seconds.
        right: whether each answer is right, if that is known.
        people: whom each question is about; as long as `right`.
    """

    name: str
    configuration: Hashable
    seeds: tuple[int, ...]
    accuracy: float
    total: int
    cost: dict[str, float]
    right: Sequence[bool] | None = None
    people: Sequence[Hashable] = ()


@dataclass(frozen=True)
class Row:
    """A row of a leaderboard: all seeds of one configuration.

    Args:
        name: the name that the entries have in common.
        entries: the indices of its entries.
        accuracy: the mean over the entries, 0..1.
        deviation: the standard deviation over the entries (n − 1); None for one entry.
        low, high: the 95% interval of the accuracy by bootstrap over people.
        total: the number of questions.
        cost: the means of what is known of all entries.
    """

    name: str
    entries: tuple[int, ...]
    accuracy: float
    deviation: float | None
    low: float
    high: float
    total: int
    cost: dict[str, float]


def leaderboard(entries: Sequence[Entry], *, num_resamples: int = NUM_RESAMPLES) -> list[Row]:
    """The rows of a leaderboard, the best first.

    Two entries with the same configuration and the same seeds, such as two ways of decoding, are told apart by name.
    """
    groups: dict[Hashable, list[int]] = {}
    for index, entry in enumerate(entries):
        groups.setdefault((entry.configuration, entry.total), []).append(index)
    rows = []
    for indices in groups.values():
        for same in _with_different_seeds(entries, indices):
            rows.append(_row([entries[index] for index in same], tuple(same), num_resamples))
    return sorted(rows, key=lambda row: (-row.accuracy, row.name))


def bootstrap_interval(
    right: Sequence[Sequence[bool]], people: Sequence[Hashable], *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The 95% interval of the mean accuracy of several seeds on the same questions.

    People are drawn with all their questions, the same for all seeds: it is the interval over the draw of the
    questions, and says nothing about that of the seeds (that is the deviation).

    Args:
        right: whether each answer is right, for each seed.
        people: whom each question is about.
    """
    numbers = {person: number for number, person in enumerate(dict.fromkeys(people))}
    places = np.array([numbers[person] for person in people])
    counts = np.bincount(places, minlength=len(numbers))
    sums = np.bincount(places, weights=np.mean(np.asarray(right, dtype=float), axis=0), minlength=len(numbers))
    generator = np.random.default_rng(seed)
    # how often each person is drawn
    draws = generator.multinomial(len(numbers), np.full(len(numbers), 1 / len(numbers)), size=num_resamples)
    found = interval(float(sums.sum() / counts.sum()), ((draws @ sums) / (draws @ counts)).tolist())
    return found["low"], found["high"]


def _with_different_seeds(entries: Sequence[Entry], indices: list[int]) -> list[list[int]]:
    seeds = [entries[index].seeds for index in indices]
    if len(set(seeds)) == len(seeds):
        return [indices]
    by_name: dict[str, list[int]] = {}
    for index in indices:
        by_name.setdefault(entries[index].name, []).append(index)
    # the same name and seeds twice are two rows: nothing tells which of them is meant
    return [
        part
        for same in by_name.values()
        for part in ([same] if len({entries[index].seeds for index in same}) == len(same) else [[i] for i in same])
    ]


def _row(entries: Sequence[Entry], indices: tuple[int, ...], num_resamples: int) -> Row:
    accuracies = [entry.accuracy for entry in entries]
    mean, total = fmean(accuracies), entries[0].total
    flags = [entry.right for entry in entries if entry.right is not None]
    same_questions = len({tuple(entry.people) for entry in entries}) == 1
    if len(flags) == len(entries) and same_questions:
        low, high = bootstrap_interval(flags, entries[0].people, num_resamples=num_resamples)
    else:
        found = rate(round(mean * total), total, num_resamples=num_resamples)
        low, high = found["low"], found["high"]
    known = [key for key in COSTS if all(key in entry.cost for entry in entries)]
    return Row(
        name=common_name([entry.name for entry in entries]),
        entries=indices,
        accuracy=mean,
        deviation=stdev(accuracies) if len(entries) > 1 else None,
        low=low,
        high=high,
        total=total,
        cost={key: fmean(entry.cost[key] for entry in entries) for key in known},
    )


def common_name(names: Sequence[str]) -> str:
    """What names have in common at their beginning, such as `wiki` of `wiki_seed_0` and `wiki_seed_1`; or the first."""
    first, last = min(names), max(names)
    if first == last:
        return first
    length = next(
        (place for place, pair in enumerate(zip(first, last, strict=False)) if len(set(pair)) > 1), len(first)
    )
    return first[:length].removesuffix("-").removesuffix("_").removesuffix("seed").rstrip(" -_./,") or names[0]
