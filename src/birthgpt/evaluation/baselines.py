"""Baselines: predictions without a model."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from birthgpt.data.questions import relation_in

BORN = "born"


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


def open_book_answers(
    questions: Iterable[Mapping[str, Any]], lines: Mapping[str, Sequence[str]], train: Iterable[tuple[str, str]]
) -> list[str]:
    """What a rule reads in the lines: the first known answer of the relation, behind *born* if the question has it.

    It tells how many answers stand in the lines in a form that a pattern finds, so it is no baseline of recall: a
    model answers without the lines.

    Args:
        questions: rows with `question` and `name`.
        lines: the lines of each name.
        train: the relation and the answer of each train question.

    Returns:
        One answer a question; "" where no line has a known answer.

    Raises:
        ValueError: there are no train answers.
    """
    known: dict[str, set[str]] = {}
    for relation, answer in train:
        known.setdefault(relation, set()).add(answer.strip())
    if not known:
        raise ValueError("no train answers: give train_file, whose answers are looked for in the lines")
    patterns = {relation: _any_of(answers) for relation, answers in known.items()}
    return [
        _first_in_lines(lines.get(row.get("name") or "", ()), patterns.get(relation_in(row)), BORN in row["question"])
        for row in questions
    ]


def _any_of(answers: Iterable[str]) -> re.Pattern[str]:
    """A pattern of whole words; of two answers in one place, the longer one is found."""
    longest_first = sorted(filter(None, answers), key=lambda answer: (-len(answer), answer))
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")


def _first_in_lines(lines: Sequence[str], pattern: re.Pattern[str] | None, after_born: bool) -> str:
    if pattern is None:
        return ""
    for line in lines:
        start = max(0, line.find(BORN)) if after_born else 0
        if match := pattern.search(line, start):
            return match[0]
    return ""
