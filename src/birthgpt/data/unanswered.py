"""Questions that a model did not answer, with answers that were found: a file for `finetune`."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from birthgpt.data.names import normalize
from birthgpt.data.question_rows import cells_row, read_question_rows
from birthgpt.data.questions import COLUMNS
from birthgpt.data.sources import clean_text
from birthgpt.utils.files import check_output_file, check_regular, write_text
from birthgpt.utils.locks import locked_file

logger = logging.getLogger(__name__)


def check_unanswered_file(path: str | Path, inputs: Mapping[str, Any]) -> None:
    """Check, before the work, that rows can be appended to a file.

    Args:
        path: a .tsv; it may not exist.
        inputs: what the command reads, as in `files.check_output_file`.

    Raises:
        ValueError: it is no .tsv, or cannot be written; it is an input, or contains something other than rows of
            question TAB answer.
    """
    if Path(path).suffix.lower() != ".tsv":
        raise ValueError(f"{path}: finetune reads questions TAB answers from a .tsv: give a name that ends with .tsv")
    check_output_file(path, inputs)
    _known_answers(Path(path))


def append_questions(path: str | Path, pairs: Iterable[tuple[str, str]]) -> int:
    """Append questions with their answers to a .tsv, in the form that `finetune` reads; return the number of new rows.

    A question that the file contains stays as it is. What is in the file stays, byte for byte. The file is complete at
    every moment, and several processes may append to it at once.

    Raises:
        ValueError: see `check_unanswered_file`; or a question or an answer is empty, or contains a reserved character.
    """
    path = Path(path)
    rows = [_row(str(path), question, answer) for question, answer in pairs]
    if not rows:
        return 0
    check_regular(path)
    with locked_file(path):
        known = _known_answers(path)
        new: dict[str, str] = {}
        for question, answer in rows:
            earlier = known[question] if question in known else new.setdefault(question, answer)
            if earlier != answer:
                logger.warning(
                    "%s: %r has the answer %r already, and keeps it; %r was found now", path, question, earlier, answer
                )
        if new:
            text = path.read_bytes().decode() if path.exists() else ""
            text += "\n" if text and not text.endswith("\n") else ""
            write_text(path, text + "".join(f"{question}\t{answer}\n" for question, answer in new.items()))
    return len(new)


def _row(where: str, question: str, answer: str) -> tuple[str, str]:
    """The normalised pair, which contains no tab and no line break."""
    pair = normalize(clean_text(where, question)), normalize(clean_text(where, answer))
    if not all(pair):
        raise ValueError(f"{where}: an empty question or answer cannot be appended: {question!r}, {answer!r}")
    cells_row(where, dict(enumerate(pair)), COLUMNS)
    return pair


def _known_answers(path: Path) -> dict[str, str]:
    """The first answer of each question of a file."""
    if not path.exists() or not path.stat().st_size:
        return {}
    found: dict[str, str] = {}
    for row in read_question_rows(str(path), COLUMNS):
        if row.answers is None or 0 not in row.cells[0]:
            raise ValueError(f"{row.where}: expected question TAB answer, without a header: choose another file")
        found.setdefault(row.question, row.answers[0])
    return found
