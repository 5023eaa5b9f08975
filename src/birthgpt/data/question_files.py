"""Write questions into files that have the columns of their source."""

import datetime
import decimal
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from birthgpt.data.question_rows import QuestionRow


class FileForm(NamedTuple):
    """The form of a file of questions.

    Args:
        suffix: `.tsv` or `.jsonl`.
        header: the columns of a `.tsv` with a header, else empty.
    """

    suffix: str
    header: tuple[str, ...] = ()

    def text(self, rows: Sequence[QuestionRow]) -> str:
        """The content of a file with these rows, and with all rows of the source that repeat a question.

        Raises:
            ValueError: a cell contains something that JSON cannot express, such as an image.
        """
        if self.suffix == ".jsonl":
            return "".join(_json_line(row, cells) for row in rows for cells in row.cells)
        if self.header:
            lines = ["\t".join(self.header), *("\t".join(cells.values()) for row in rows for cells in row.cells)]
            return "".join(f"{line}\n" for line in lines)
        # normalised texts contain no tab and no line break
        return "".join("\t".join([row.question, *(row.answers or ())]) + "\n" for row in rows)


def form_of(source: str, rows: Sequence[QuestionRow], columns: tuple[str, str]) -> FileForm:
    """The form that keeps everything that a source says.

    It is a `.tsv` of two columns if the source has only questions, each with one answer; a `.tsv` with a header if the
    source is one; else `.jsonl`, which can contain lists and numbers.

    Args:
        source: the source of the rows.
        rows: what `load_question_rows` returns.
        columns: the columns of the question and of its answer, if columns have names.
    """
    cells = [cells for row in rows for cells in row.cells]
    if 0 in cells[0]:
        return FileForm(".tsv")
    if Path(source).suffix.lower() == ".tsv":
        return FileForm(".tsv", tuple(cells[0]))
    is_plain = len(cells) == len(rows) and all(row.keys() <= set(columns) for row in cells)
    return FileForm(".tsv" if is_plain else ".jsonl")


def _json_line(row: QuestionRow, cells: Mapping[str, Any]) -> str:
    try:
        line = json.dumps(cells, ensure_ascii=False, allow_nan=False, default=_as_text) + "\n"
        line.encode()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{row.where}: this row cannot be written as JSON ({error}): change or remove it") from None
    return line


def _as_text(value: Any) -> str:
    """Dates and decimal numbers, as Parquet has them."""
    if isinstance(value, datetime.date | datetime.time | decimal.Decimal):
        return str(value)
    raise TypeError(f"it contains {type(value).__name__}")
