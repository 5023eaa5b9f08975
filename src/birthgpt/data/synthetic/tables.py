"""The table of a user as subjects of biographies: one row, one name."""

import logging
from collections.abc import Mapping
from typing import Any

from birthgpt.data.corpus import read_name
from birthgpt.data.sources import Row, clean_text, read_rows
from birthgpt.data.synthetic.templates import Templates, check_fields
from birthgpt.data.synthetic.wordings import PRONOUNS, Subject

logger = logging.getLogger(__name__)


def read_table(table: str, templates: Templates) -> list[Subject]:
    """The rows of a table, in order, with the columns that the templates need.

    Args:
        table: a .csv, .tsv with a header, .json, .jsonl or .parquet. An empty or missing cell is a fact that nobody
            knows. Numbers are written as Python writes them.

    Raises:
        ValueError: one line with the place: a file that cannot be read, a template with a field that the table lacks
            (see `check_fields`), no rows, a row without a name, a name twice or that no line can begin with, a pronoun
            other than she, he and it, a cell that is not text, or a column of answers without any.
    """
    rows = list(_rows_with_header(table))
    if not rows:
        raise ValueError(f"{table}: no row in it")
    # rows of JSON may leave out columns
    columns = list(dict.fromkeys(column for _, row in rows for column in row))
    check_fields(templates, columns, table)
    subjects = [_subject(where, row, columns, templates) for where, row in rows]
    first: dict[str, str] = {}
    for (where, _), subject in zip(rows, subjects, strict=True):
        earlier = first.setdefault(subject.name, where)
        if earlier != where:
            raise ValueError(f"{where}: the name {subject.name!r} is also in {earlier}: each name needs one row")
    _check_answers(subjects, templates, table)
    return subjects


def _rows_with_header(table: str) -> list[Row]:
    rows = list(read_rows(table))
    if not rows or 0 not in rows[0][1]:
        return rows
    # a .tsv, whose columns have numbers
    (where, first), *others = rows
    header = list(first.values())
    if len(set(header)) < len(header):
        raise ValueError(f"{where}: two columns of the same name in {', '.join(header)}")
    for where, row in others:
        if len(row) != len(header):
            raise ValueError(f"{where}: {len(row)} columns, but the header has {len(header)}")
    return [(where, dict(zip(header, row.values(), strict=True))) for where, row in others]


def _subject(where: str, row: Mapping[Any, Any], columns: list[str], templates: Templates) -> Subject:
    values = {column: _cell(where, column, row.get(column)) for column in columns}
    name = values[templates.name]
    if not name:
        raise ValueError(f"{where}: the name (column {templates.name!r}) is empty")
    if read_name(f"{name}. ") != name:
        raise ValueError(
            f"{where}: the name {name!r} would be read as {read_name(f'{name}. ')!r} at the start of a line, because a "
            "full stop ends a name: write the name without it, and with a word of two letters at its end"
        )
    pronoun = values[templates.pronoun].lower() if templates.pronoun is not None else ""
    if pronoun and pronoun not in PRONOUNS:
        raise ValueError(f"{where}: the pronoun {pronoun!r} is not one of {', '.join(PRONOUNS)}, or empty")
    return Subject(name, values, pronoun or None)


def _cell(where: str, column: str, value: Any) -> str:
    where = f"{where}, column {column!r}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    text = clean_text(where, value)
    if any(character in text for character in "\t\n\r"):
        raise ValueError(f"{where}: {text!r} contains a tab or line break, which is not possible in a line or a .tsv")
    return text


def _check_answers(subjects: list[Subject], templates: Templates, table: str) -> None:
    """Refuse a column of answers without any, and log how many are empty."""
    for relation in templates.relations:
        empty = [subject.name for subject in subjects if not subject.values[relation.answer]]
        if len(empty) == len(subjects):
            raise ValueError(f"{table}: the column {relation.answer!r}, the answers of {relation.name}, is empty")
        if empty:
            logger.info("%s: no %s for %d names, first %s", table, relation.name, len(empty), empty[0])
