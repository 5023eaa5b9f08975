"""What is looked up: the rows of a table, or the lines of a corpus, that a user gives."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from birthgpt.data.names import normalize, read_name
from birthgpt.data.question_rows import ANSWERS, answer_list, named_rows
from birthgpt.data.questions import read_question_name
from birthgpt.data.sources import Row, clean_text, read_rows

logger = logging.getLogger(__name__)

Kind = Literal["table", "corpus"]


@dataclass(frozen=True)
class LookupColumns:
    """Where a table has what is looked up, and where a corpus has its lines."""

    name: str = "name"
    relation: str = "relation"
    answer: str = "answer"
    question: str = "question"
    text: str = "text"


@dataclass(frozen=True)
class Entry:
    """A row of a table, or a line of a corpus. All texts are normalised.

    Args:
        where: the file and the line.
        kind: what it is a row of.
        text: the line; of a table, `name: Ada Lovelace | answer: London`.
        name: whom it is about; "" if it does not say it.
        relation: what the answer is about, "" if it does not say it.
        question: the question; "" without one.
        answers: its answers; empty in a corpus.
        spans: where the answers are in `text`: start and end of each.
    """

    where: str
    kind: Kind
    text: str
    name: str = ""
    relation: str = ""
    question: str = ""
    answers: tuple[str, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()


def read_entries(source: str, columns: LookupColumns | None = None) -> list[Entry]:
    """Read a table or a corpus, each row once.

    Args:
        source: any source that `sources.read_rows` reads. With a column of answers (or `answers`, a list of them) and a
            column of names or of questions, it is a table; with a column of text, as a .txt, it is a corpus. A .tsv of
            two columns without a header has questions and answers. Rows without an answer are passed over.
        columns: how the columns are called.

    Raises:
        ValueError: one line that names the file and the line: it cannot be read, it is empty, it has other columns or a
            column twice, a row says neither a name nor a question, a cell is not text, or no row has an answer.
    """
    columns = columns or LookupColumns()
    rows = _with_columns(source, list(read_rows(source)), columns)
    if not rows:
        raise ValueError(f"{source}: no row in it: there is nothing to look up")
    kind = _kind_of(source, list(dict.fromkeys(column for _, row in rows for column in row)), columns)
    if kind == "corpus":
        entries = [_line(where, row, columns) for where, row in rows if row.get(columns.text)]
        entries = [entry for entry in entries if entry.text]
    else:
        entries = [entry for where, row in rows if (entry := _row(where, row, columns)).answers]
    if not entries:
        raise ValueError(f"{source}: no {'text' if kind == 'corpus' else 'answer'} in any row: nothing to look up")
    return _without_repetitions(source, entries)


def _with_columns(source: str, rows: list[Row], columns: LookupColumns) -> list[Row]:
    """The rows with named columns, also those of a .tsv."""
    if not rows or 0 not in rows[0][1]:
        return rows
    (where, first), *others = rows
    if _is_table(first.values(), columns):
        return list(named_rows(others, where, first))
    for where, row in rows:
        if len(row) != 2:
            raise ValueError(
                f"{where}: {len(row)} column{'s' * (len(row) != 1)}; expected question TAB answer, or a header with "
                f"{columns.answer!r} and {columns.name!r} or {columns.question!r}"
            )
    return [(where, {columns.question: row[0], columns.answer: row[1]}) for where, row in rows]


def _is_table(found: Iterable[Any], columns: LookupColumns) -> bool:
    names = set(found)
    return bool(names & {columns.answer, ANSWERS} and names & {columns.name, columns.question})


def _kind_of(source: str, found: Sequence[Any], columns: LookupColumns) -> Kind:
    if _is_table(found, columns):
        return "table"
    if columns.text in found:
        return "corpus"
    raise ValueError(
        f"{source}: expected the columns {columns.answer!r} and {columns.name!r} or {columns.question!r} of a table, "
        f"or {columns.text!r} of a corpus; there are: {', '.join(map(str, found))}"
    )


def _line(where: str, row: Mapping[Any, Any], columns: LookupColumns) -> Entry:
    text = clean_text(where, row[columns.text])
    name = _cell(where, columns.name, row.get(columns.name))
    return Entry(where, "corpus", normalize(text), name or read_name(text) or "")


def _row(where: str, row: Mapping[Any, Any], columns: LookupColumns) -> Entry:
    """A row of a table; without an answer, if its cell is empty."""
    known = (columns.name, columns.relation, columns.question)
    name, relation, question = (_cell(where, column, row.get(column)) for column in known)
    if not name and not question:
        raise ValueError(f"{where}: neither {columns.name!r} nor {columns.question!r} says whom the row is about")
    answers = _answers(where, row, columns.answer)
    # the answer is last, so that its place is known
    cells = {column: row[column] for column in row if column not in (columns.answer, ANSWERS)}
    shown = [f"{column}: {_cell(where, column, cell)}" for column, cell in cells.items() if _is_shown(cell)]
    text = " | ".join([*shown, f"{columns.answer}: "])
    spans = []
    for index, answer in enumerate(answers):
        text += " or " if index else ""
        spans.append((len(text), len(text) + len(answer)))
        text += answer
    return Entry(
        where, "table", text, name or read_question_name(question) or "", relation, question, answers, tuple(spans)
    )


def _answers(where: str, row: Mapping[Any, Any], column: str) -> tuple[str, ...]:
    """The answers of a row, all different; empty cells are none."""
    given = [row.get(column)] if row.get(ANSWERS) is None else answer_list(where, row[ANSWERS])
    cells = (_cell(where, column, value) for value in given)
    return tuple(dict.fromkeys(filter(None, cells)))


def _is_shown(cell: Any) -> bool:
    return isinstance(cell, str | int | float) and not isinstance(cell, bool) and cell != ""


def _cell(where: str, column: str, value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return normalize(clean_text(f"{where}, column {column!r}", value))


def _without_repetitions(source: str, entries: Sequence[Entry]) -> list[Entry]:
    first: dict[tuple, Entry] = {}
    repeated = []
    for entry in entries:
        key = (entry.text, entry.name, entry.answers)
        if first.setdefault(key, entry) is not entry:
            repeated.append(entry)
    if repeated:
        logger.warning(
            "%s: %d rows repeat an earlier row, first %s; each counts once", source, len(repeated), repeated[0].where
        )
    return list(first.values())
