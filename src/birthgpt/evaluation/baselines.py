"""Baselines: predictions without a model."""

from collections import Counter
from collections.abc import Sequence


def constant_place(place: str, count: int) -> list[str]:
    """The same place for each of `count` questions."""
    if not place.strip():
        raise ValueError("the place of a constant baseline is empty: give one, such as 'London'")
    return [place] * count


def most_common_train_place(train_answers: Sequence[str]) -> str:
    """The most common train answer, or the alphabetically first one of several.

    Raises:
        ValueError: there are no train answers.
    """
    if not len(train_answers):
        raise ValueError("no train answers: give at least one for the most common place")
    counts = Counter(answer.strip() for answer in train_answers)
    return min(counts, key=lambda place: (-counts[place], place))
