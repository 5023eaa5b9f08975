"""The questions of the tasks, from a file of the user, and the score of an answer.

`--metadata '{"question_file": "dev.tsv"}'` names the file. lm-evaluation-harness reads this module by its path.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import datasets

from birthgpt.data.questions import answers_of, load_questions, relation_in
from birthgpt.evaluation.squad import f1

CHOICES = 4
"""The answers of a multiple choice; fewer, if a relation has fewer."""


def load(question_file: str | None = None, relation: str | None = None, **_: Any) -> dict[str, datasets.Dataset]:
    """The questions of a file as the split `test`, with all right answers of each in `answers`.

    Args:
        question_file: see `data.questions.load_questions`.
        relation: only questions of this relation.

    Raises:
        ValueError: the file is not given or cannot be read, or has no question of the relation.
    """
    return {"test": datasets.Dataset.from_list(_rows(question_file, relation))}


def load_choices(
    question_file: str | None = None, relation: str | None = None, **_: Any
) -> dict[str, datasets.Dataset]:
    """The questions of a file with `choices`, answers to questions of the same relation, and `gold`, the right one.

    The choice is by a hash of the question, so it is the same in every evaluation. Arguments and errors are those of
    `load`.

    Raises:
        ValueError: also if all questions of a relation have the same answers.
    """
    rows = _rows(question_file, relation)
    by_relation: dict[str, set[str]] = {}
    for row in rows:
        by_relation.setdefault(relation_in(row), set()).update(row["answers"])
    return {"test": datasets.Dataset.from_list([_with_choices(row, by_relation[relation_in(row)]) for row in rows])}


def score(document: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """`exact_match` with any right answer, and the best `f1`, of a generated answer."""
    answer = results[0].strip()
    right = [text.strip() for text in document["answers"]]
    return {"exact_match": float(answer in right), "f1": f1(answer, right)}


def _rows(question_file: str | None, relation: str | None) -> list[dict[str, Any]]:
    if question_file is None:
        raise ValueError("""name the questions by --metadata '{"question_file": "dev.tsv"}'""")
    rows = [{**row, "answers": answers_of(row)} for row in load_questions(question_file)]
    found = [row for row in rows if relation is None or row.get("relation") == relation]
    if not found:
        known = sorted({row["relation"] for row in rows if row.get("relation")})
        has = f"it has {', '.join(known)}: name the tasks of these" if known else "it has no column relation"
        raise ValueError(f"{question_file} has no question of the relation {relation!r}; {has}")
    return found


def _with_choices(row: Mapping[str, Any], answers: set[str]) -> dict[str, Any]:
    """The row with its first right answer among answers that are wrong."""
    wrong = sorted(answers - set(row["answers"]), key=lambda answer: _digest(row["question"], answer))[: CHOICES - 1]
    if not wrong:
        raise ValueError(f"{row['question']!r} has no wrong answer to choose: all questions have the same answer")
    choices = sorted([row["answers"][0], *wrong], key=lambda answer: _digest(answer, row["question"]))
    return {**row, "choices": choices, "gold": choices.index(row["answers"][0])}


def _digest(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode()).digest()
