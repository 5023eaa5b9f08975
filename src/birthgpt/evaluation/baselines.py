"""Predictions that need no model: what an answer is worth beyond a good guess."""

from collections import Counter
from collections.abc import Sequence


def constant_place(place: str, count: int) -> list[str]:
    """The same place for each of `count` questions."""
    if not place.strip():
        raise ValueError("the place of a constant baseline is empty: name one, such as 'London'")
    return [place] * count


def most_common_train_place(train_answers: Sequence[str]) -> str:
    """The place that answers most train questions, the alphabetically first of several.

    Raises:
        ValueError: no train answers.
    """
    if not len(train_answers):
        raise ValueError("no train answers: the most common place needs at least one")
    counts = Counter(answer.strip() for answer in train_answers)
    return min(counts, key=lambda place: (-counts[place], place))
