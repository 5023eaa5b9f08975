"""Rows of questions, read strictly from a source: with or without a header, with one right answer or several."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from birthgpt.data.names import normalize
from birthgpt.data.sources import Row, clean_text, get_column, read_rows

logger = logging.getLogger(__name__)

ANSWERS, NAME, RELATION, WORDING = "answers", "name", "relation", "wording"
"""Columns of a source with named columns, beside those of the question and its answer."""

# words of a header, as data sets have them
_QUESTION_HEADERS = set("question questions query prompt input instruction source text q".split())
_ANSWER_HEADERS = set("answer answers output completion response target label place birthplace a".split())


class QuestionRow(NamedTuple):
    """A question of a source, normalised.

    Args:
        where: the place in the source, for messages.
        question: the question.
        answers: its right answers, all different; None if the source has no answers.
        name: whom it is about, "" if the source does not say it.
        relation: what it asks about, "" if the source does not say it.
        wording: in which words it asks, "" if the source does not say it.
        cells: the rows of the source that it was read from, by their columns: one row, or all that repeat a question.
    """

    where: str
    question: str
    answers: tuple[str, ...] | None
    name: str = ""
    relation: str = ""
    wording: str = ""
    cells: tuple[Mapping[Any, Any], ...] = ()


def read_question_rows(source: str, columns: tuple[str, str], *, split: str = "train") -> list[QuestionRow]:
    """The rows of a source; with named columns, the rows that repeat a question are one row with all their answers.

    Args:
        source: see `questions.load_questions`.
        columns: the columns of the question and of its answer, if columns have names.
        split: the split of a saved `DatasetDict` or of a Hub dataset.

    Raises:
        ValueError: see `questions.load_questions`.
    """
    raw, has_names = _with_header(read_rows(source, split=split), columns)
    rows = list(_checked_rows(raw, columns))
    if has_names:
        return _merge_repeated(source, rows)
    if Path(source).suffix.lower() == ".tsv":
        _check_first_row(rows)
    _warn_repeated(source, rows)
    return rows


def _with_header(rows: Iterator[Row], columns: tuple[str, str]) -> tuple[Iterator[Row], bool]:
    """The rows, and whether their columns have names: as in a .tsv of more than two columns with a header."""
    first = next(rows, None)
    if first is None:
        return rows, False
    header = list(first[1].values())
    if 0 not in first[1]:
        return _chain(first, rows), True
    if len(header) < 3 or columns[0] not in header:
        return _chain(first, rows), False
    return named_rows(rows, *first), True


def _chain(first: Row, rows: Iterator[Row]) -> Iterator[Row]:
    yield first
    yield from rows


def named_rows(rows: Iterable[Row], where: str, header: Mapping[Any, str]) -> Iterator[Row]:
    """The rows of a .tsv below its header, with the names of their columns.

    Args:
        rows: the rows below the header.
        where, header: the row of the header.

    Raises:
        ValueError: the header names a column twice, or a row has more or fewer columns.
    """
    names = list(header.values())
    if len(set(names)) < len(names):
        raise ValueError(f"{where}: two columns of the same name in {', '.join(names)}")
    for where, row in rows:
        if len(row) != len(names):
            raise ValueError(f"{where}: {len(row)} columns, but the header has {len(names)}")
        yield where, dict(zip(names, row.values(), strict=True))


def _checked_rows(rows: Iterator[Row], columns: tuple[str, str]) -> Iterator[QuestionRow]:
    with_answers = None
    for where, row in rows:
        found = cells_row(where, row, columns) if 0 in row else _named_row(where, row, columns)
        if not found.question:
            raise ValueError(f"{where}: empty question")
        if with_answers is None:
            with_answers = found.answers is not None
        if with_answers != (found.answers is not None):
            raise ValueError(
                f"{where}: {'no answer' if with_answers else 'an answer'}, unlike the rows before it;"
                " give an answer to every question or to none"
            )
        if with_answers and not (found.answers and all(found.answers)):
            raise ValueError(f"{where}: empty answer")
        yield found._replace(cells=(row,))


def cells_row(where: str, row: Mapping[Any, Any], columns: tuple[str, str]) -> QuestionRow:
    """A row of a .tsv without a header; a ValueError if it is a header, or has more than two columns."""
    if len(row) > 2:
        raise ValueError(
            f"{where}: {len(row)} columns; expected question TAB answer, or the question alone; give a .tsv of more "
            f"columns a header that contains {columns[0]!r}"
        )
    question, answer = row[0], row.get(1)
    if (question, answer) == columns or _is_header(question, answer):
        raise ValueError(f"{where}: a header, but a .tsv of questions has none; remove this line")
    return QuestionRow(where, _text(where, question), None if answer is None else (_text(where, answer),))


def _named_row(where: str, row: Mapping[Any, Any], columns: tuple[str, str]) -> QuestionRow:
    """A row whose columns have names."""
    answers = answer_list(where, row[ANSWERS]) if row.get(ANSWERS) is not None else None
    answer = row.get(columns[1])
    if answers is None and answer is not None:
        answers = [answer]
    return QuestionRow(
        where,
        _text(where, get_column(where, dict(row), columns[0])),
        None if answers is None else tuple(dict.fromkeys(_text(where, answer) for answer in answers)),
        _text(where, row.get(NAME)),
        _text(where, row.get(RELATION)),
        _text(where, row.get(WORDING)),
    )


def answer_list(where: str, value: Any) -> list:
    """Several right answers: a list, or a cell of text that contains a list in JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            pass
    if not isinstance(value, list):
        raise ValueError(
            f'{where}: {ANSWERS!r} must be a list such as ["Rome", "Roma"], not {value!r}; a single answer belongs '
            "into the column of answers, and further answers into rows that repeat the question"
        )
    return value


def _text(where: str, value: Any) -> str:
    return normalize(clean_text(where, value))


def _is_header(question: str, answer: str | None) -> bool:
    """Whether both cells are the usual words of a header, in capitals or not."""
    first, second = (cell.strip("#\"' ").lower() for cell in (question, answer or ""))
    return first in _QUESTION_HEADERS and (second in _ANSWER_HEADERS or (answer is None and len(first) > 1))


def _check_first_row(rows: Sequence[QuestionRow]) -> None:
    """Refuse a header in other words: one word alone, where all other rows are sentences that end with a mark."""
    if len(rows) < 3:
        return
    first, *others = rows
    if not first.question.replace("_", "").isalnum():
        return
    if all(" " in row.question and not row.question[-1].isalnum() for row in others):
        raise ValueError(
            f"{first.where}: {first.question!r} looks like a header, unlike the other questions; a .tsv of questions "
            "has no header: remove this line"
        )


def _merge_repeated(source: str, rows: Sequence[QuestionRow]) -> list[QuestionRow]:
    """One row for each question about a name, with the answers of all its rows in their order."""
    merged: dict[tuple[str, str], QuestionRow] = {}
    for row in rows:
        key = (row.question, row.name)
        earlier = merged.get(key)
        if earlier is None:
            merged[key] = row
            continue
        if row.relation != earlier.relation:
            raise ValueError(
                f"{row.where}: the relation {row.relation!r}, but {earlier.where} has {earlier.relation!r} for the "
                f"same question, {row.question!r}; give a question one relation"
            )
        answers = earlier.answers
        if row.answers is not None and answers is not None:
            answers = tuple(dict.fromkeys(answers + row.answers))
        merged[key] = earlier._replace(answers=answers, cells=earlier.cells + row.cells)
    if len(merged) < len(rows):
        logger.info(
            "%s: %d rows repeat an earlier question; it has the answers of all its rows, and is asked once",
            source,
            len(rows) - len(merged),
        )
    return list(merged.values())


def _warn_repeated(source: str, rows: Sequence[QuestionRow]) -> None:
    first: dict[str, QuestionRow] = {}
    same = 0
    different = []
    for row in rows:
        earlier = first.setdefault(row.question, row)
        if row is earlier:
            continue
        if row.answers == earlier.answers:
            same += 1
            continue
        (before,), (answer,) = earlier.answers or ("",), row.answers or ("",)
        different.append(f"{row.question!r}: {before!r} ({earlier.where}) and {answer!r} ({row.where})")
    if same:
        logger.warning("%s: %d rows repeat an earlier question and its answer", source, same)
    if different:
        logger.warning(
            "%s: %d rows answer an earlier question differently, first %s; each row is asked on its own: JSONL with a "
            "list `answers` gives a question several right answers",
            source,
            len(different),
            different[0],
        )
