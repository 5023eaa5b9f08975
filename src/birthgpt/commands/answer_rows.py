"""`answers.jsonl`: each question of an evaluation with its right answers, the given one, and what competed with it."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from birthgpt.data.questions import answers_of, relation_in
from birthgpt.evaluation.answering import Answer
from birthgpt.utils.files import read_text

ANSWERS = "answers.jsonl"
LONGEST_LINE = 2000
"""Characters of a line that are kept: what is about the answer of a question is at its beginning."""


def answer_rows(
    asked: Iterable[Mapping[str, Any]],
    answers: Sequence[Answer],
    lines: Mapping[str, Sequence[str]] | None = None,
    *,
    with_probabilities: bool = True,
    candidates: Sequence[Sequence[Answer]] | None = None,
) -> list[dict[str, Any]]:
    """A row for each question, ready for JSON.

    `question`, `name` ("" if unknown), `relation` ("" if unknown), `right_answers`, `answer` (as a reader sees it),
    `is_right`, `probability` (0..1, or None), `lines` (those of the name) and `candidates` (a list of `answer` and
    `probability`, the most likely first; equal texts once).

    Args:
        asked: rows with answers, as `questions.load_questions` returns them.
        lines: the lines of each name.
        with_probabilities: whether the answers have probabilities; False for baselines.
        candidates: the answers of all beams to each question.
    """
    every = candidates or [()] * len(answers)
    return [
        {
            "question": row["question"],
            "name": row.get("name") or "",
            "relation": relation_in(row),
            "right_answers": answers_of(row),
            "answer": answer.shown,
            "is_right": answer.text in answers_of(row),
            "probability": answer.probability if with_probabilities else None,
            "lines": [line[:LONGEST_LINE] for line in (lines or {}).get(row.get("name") or "", ())],
            "candidates": merged_candidates(beams),
        }
        for row, answer, beams in zip(asked, answers, every, strict=True)
    ]


def merged_candidates(beams: Iterable[Answer]) -> list[dict[str, Any]]:
    """The answers of beams, the most likely first; the probabilities of equal texts are added."""
    masses: dict[str, float] = {}
    for beam in beams:
        masses[beam.shown] = masses.get(beam.shown, 0.0) + beam.probability
    return [{"answer": text, "probability": mass} for text, mass in sorted(masses.items(), key=lambda item: -item[1])]


def fingerprint_of_questions(questions: Iterable[str]) -> str:
    """The SHA-256 of questions in their order, which tells whether two evaluations asked the same."""
    return hashlib.sha256("\n".join(questions).encode("utf-8")).hexdigest()


def path_from(folder: str | Path, checkpoint: str | None) -> str | None:
    """The path of a checkpoint as seen from a folder, so that both can be moved; a name on the Hub stays as it is."""
    if checkpoint is None or not Path(checkpoint).is_dir():
        return checkpoint
    return Path(os.path.relpath(Path(checkpoint).resolve(), Path(folder).resolve())).as_posix()


def as_lines(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as JSON, one a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read_rows(path: Path, required: Mapping[str, Callable[[Any], bool]]) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines.

    Args:
        required: keys that each row has, each with whether a value can be right.

    Raises:
        ValueError: the file cannot be read, or a line is no object with these keys; the message names the line.
    """
    rows = []
    # a separator of lines within a text is part of it
    for number, line in enumerate(read_text(path, "the answers").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            # an escape such as \ud800 is half a character, which no page can show
            json.dumps(row, ensure_ascii=False).encode("utf-8")
        except (ValueError, RecursionError):
            raise ValueError(f"{path}, line {number}: this is not JSON in UTF-8: evaluate again") from None
        for key, is_right in required.items():
            if not isinstance(row, dict) or not is_right(row.get(key)):
                raise ValueError(f"{path}, line {number}: {key!r} is missing or damaged: evaluate again")
        rows.append(row)
    return rows


def is_text(value: Any) -> bool:
    """Whether a value is a text."""
    return isinstance(value, str)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def are_texts(value: Any) -> bool:
    """Whether a value is a list of texts."""
    return isinstance(value, list) and all(map(is_text, value))


def are_candidates(value: Any) -> bool:
    """Whether a value is a list of answers with their probabilities."""
    return isinstance(value, list) and all(
        isinstance(entry, dict) and is_text(entry.get("answer")) and is_number(entry.get("probability"))
        for entry in value
    )


ANSWER_KEYS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("question", "name", "relation", "answer"), is_text),
    **dict.fromkeys(("right_answers", "lines"), are_texts),
    "candidates": are_candidates,
    "is_right": lambda value: isinstance(value, bool),
    "probability": lambda value: value is None or is_number(value),
}
"""The keys of each row of `answers.jsonl`."""
