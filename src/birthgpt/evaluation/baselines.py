"""Baselines: predictions without a model."""

from collections import Counter
from collections.abc import Iterable, Sequence


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


def most_common_answers(relations: Iterable[str], train: Iterable[tuple[str, str]]) -> list[str]:
    """For each relation, its most common train answer: what can be guessed without knowing the person.

    A relation that is "" or has no train question gets the most common of all train answers.

    Args:
        relations: the relation of each question, as `questions.relation_in` returns it.
        train: the relation and the answer of each train question.

    Raises:
        ValueError: there are no train answers.
    """
    by_relation: dict[str, list[str]] = {}
    everything = []
    for relation, answer in train:
        by_relation.setdefault(relation, []).append(answer)
        everything.append(answer)
    of_all = most_common_train_place(everything)
    guesses = {relation: most_common_train_place(answers) for relation, answers in by_relation.items() if relation}
    return [guesses.get(relation, of_all) for relation in relations]
