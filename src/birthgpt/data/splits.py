"""Splits of questions by person: all questions about one name are on the same side."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import datasets
import numpy as np

from birthgpt.data.names import name_key

logger = logging.getLogger(__name__)


def person_of(row: Mapping[str, Any]) -> tuple[str, str]:
    """Whom a question is about: its name, however it is written. A question without a known name is its own person."""
    return ("name", name_key(row["name"])) if row.get("name") else ("question", row["question"])


def train_validation_split(
    questions: datasets.Dataset, validation_size: int, seed: int
) -> tuple[datasets.Dataset, datasets.Dataset | None]:
    """The questions to train on, and `validation_size` held-out questions (None if there are none), by person.

    People are drawn until their questions are enough; further wordings about a person are held out too. Questions
    about held-out people that are not needed, and copies of held-out questions, are left out of training. A warning
    counts the relations that no train question is left of.

    Raises:
        ValueError: no question is left to train on.
    """
    if validation_size == 0 and len(questions):
        return questions, None
    people = [person_of(row) for row in questions]
    advice = f"give {_smaller_size(people, validation_size)}, and the same in pretraining and finetuning"
    if not 0 <= validation_size < len(questions):
        raise ValueError(
            f"validation_size={validation_size} of {len(questions)} train questions leaves none to train on: {advice}"
        )
    order = np.random.default_rng(seed).permutation(len(questions)).tolist()
    held_out = _draw_rows(order, people, questions["question"][:], validation_size)
    chosen = {people[row] for row in held_out}
    trained = [row for row in order if people[row] not in chosen]
    if not trained:
        raise ValueError(
            f"validation_size={validation_size}: every train question is about a held-out person, so none of "
            f"{len(questions)} is left to train on: {advice}"
        )
    _warn_lost_relations(questions, set(trained))
    return questions.select(trained), questions.select(held_out)


def divide_people(questions: datasets.Dataset, parts: int, seed: int) -> list[list[int]]:
    """The rows of the questions in `parts` parts with nearly equal numbers of people, in random order.

    Raises:
        ValueError: there are fewer people than parts.
    """
    rows: dict[tuple[str, str], list[int]] = {}
    for index, row in enumerate(questions):
        rows.setdefault(person_of(row), []).append(index)
    if parts > len(rows):
        raise ValueError(
            f"folds={parts}: give at most the number of people in the questions, {len(rows):,} "
            "(a question without a known name counts as one)"
        )
    of_people = list(rows.values())
    order = np.random.default_rng(seed).permutation(len(of_people))
    return [[row for person in part for row in of_people[person]] for part in np.array_split(order, parts)]


def warn_unknown_people(source: str, questions: Iterable[Mapping[str, Any]]) -> None:
    """Log a warning if questions have no known name, because two questions about one person may then be separated."""
    unknown = [row["question"] for row in questions if not row.get("name")]
    if unknown:
        logger.warning(
            "%s: %d questions contain no known name, first %r: they are split by question, not by person; names are "
            "known from `Where was NAME born?` and from the lines of a corpus",
            source,
            len(unknown),
            unknown[0],
        )


def _smaller_size(people: list[tuple[str, str]], refused: int) -> str:
    """Which `validation_size` to give in place of one that leaves no question to train on."""
    if len(set(people)) < 2:
        return "0, to hold none out"
    tenth = max(1, len(people) // 10)
    # one question is about one person, so it leaves the others
    return f"a smaller number, such as {tenth if tenth < refused else 1}"


def _warn_lost_relations(questions: datasets.Dataset, trained: set[int]) -> None:
    """Log a warning if all questions of a relation are about held-out people, because none teaches its form."""
    # that module imports this one
    from birthgpt.data.questions import relation_in

    rows_of: dict[str, list[int]] = {}
    for index, row in enumerate(questions):
        if relation := relation_in(row):
            rows_of.setdefault(relation, []).append(index)
    lost = {relation: rows for relation, rows in rows_of.items() if trained.isdisjoint(rows)}
    if lost:
        first, rows = next(iter(lost.items()))
        logger.warning(
            "%d of %d relations %s no train question left, first %r (%d question%s about held-out people)",
            len(lost),
            len(rows_of),
            "has" if len(lost) == 1 else "have",
            first,
            len(rows),
            "" if len(rows) == 1 else "s",
        )


def _draw_rows(order: list[int], people: list[tuple[str, str]], texts: list[str], count: int) -> list[int]:
    """The first `count` rows in this order, where a drawn row brings the other wordings about the same person."""
    rows_of: dict[tuple[str, str], list[int]] = {}
    for row in order:
        rows_of.setdefault(people[row], []).append(row)
    drawn: dict[int, None] = {}
    for row in order:
        if row in drawn:
            continue
        drawn[row] = None
        asked = {texts[other] for other in rows_of[people[row]] if other in drawn}
        for other in rows_of[people[row]]:
            if texts[other] not in asked:
                asked.add(texts[other])
                drawn[other] = None
        if len(drawn) >= count:
            break
    return list(drawn)[:count]
