"""The answers of an ensemble to questions about other people, as training data of one model (distillation)."""

import json
import logging
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from birthgpt.commands.report_answers import Questions
from birthgpt.data.names import NameFinder, name_key, normalize, relation_of
from birthgpt.data.question_rows import ANSWERS, RELATION
from birthgpt.data.questions import answers_of, find_name, people_asked_about, relation_in
from birthgpt.data.tokenizers import RESERVED_TOKENS
from birthgpt.evaluation.answering import Answer
from birthgpt.settings import checked, setting

logger = logging.getLogger(__name__)

LABELLED = ("labelled.tsv", "labelled.jsonl")
"""The file of labels: the second if the train questions have names, relations or several answers."""

TRAIN_QUESTIONS = "train_questions"

_NAME, _FIELD = "{name}", re.compile(r"\{\w*\}")

Row = Mapping[str, Any]


@checked
@dataclass(kw_only=True)
class LabelSettings:
    """Questions that the ensemble answers for a single model to learn from."""

    label_names: str | list[str] | None = setting(
        None,
        "questions with {name}, to answer for every name of the corpus, into labelled.tsv or .jsonl; or: "
        "train_questions, those of each relation of train_file, for names that question_file does not ask about",
    )
    held_out_file: list[str] | None = setting(None, "label_names: files of questions whose people get no label")

    @property
    def templates(self) -> list[str]:
        """The given questions; empty for `train_questions`, and without labels."""
        given = self.label_names or []
        given = [given] if isinstance(given, str) else given
        return [] if given == [TRAIN_QUESTIONS] else given

    def validate_templates(self):
        """A question contains the name once, and no other field."""
        for template in self.templates:
            fields = _FIELD.findall(template)
            if fields.count(_NAME) != 1:
                raise ValueError(f"label_names={template!r}: give a question that contains {_NAME} once")
            if len(fields) > 1:
                other = next(field for field in fields if field != _NAME)
                raise ValueError(f"label_names={template!r}: {other} is no field: a question has the field {_NAME}")

    def validate_held_out(self):
        """Without labels, nobody is left out."""
        if self.held_out_file and not self.label_names:
            raise ValueError("held_out_file leaves people out of the labels: give label_names")


def questions_to_label(settings: LabelSettings, questions: Questions, question_file: str) -> list[dict[str, str]]:
    """The questions to label: `question`, `name` and `relation`, none of which the train questions answer.

    The given questions are asked about every name of the corpus. With `train_questions`, each relation of the train
    questions is asked about every name once, in their wordings by turns; people in `question_file` are left out.

    Raises:
        ValueError: no train question contains its name.
    """
    assert questions.train is not None and questions.lines is not None
    relations = wordings_by_relation(questions.train)
    held_out = list(settings.held_out_file or ())
    if settings.templates:
        relation_of_wording = {wording: relation for relation, found in relations.items() for wording in found}
        given = [normalize(template) for template in settings.templates]
        asked = [(relation_of_wording.get(template, template), [template]) for template in given]
    else:
        asked = list(relations.items())
        held_out.append(question_file)
        if not asked:
            raise ValueError("label_names=train_questions: no train question contains the name of its person")
    left_out = people_asked_about(held_out, NameFinder(questions.lines))
    known = {(name_key(row["name"]), relation_in(row)) for row in questions.train}
    names = [name for name in questions.lines if name and name_key(name) not in left_out]
    texts = set(questions.train["question"])
    rows = []
    for number, name in enumerate(names):
        for offset, (relation, wordings) in enumerate(asked):
            wording = wordings[(number + offset) % len(wordings)]
            question = normalize(wording.replace(_NAME, name))
            if (name_key(name), relation) not in known and question not in texts:
                texts.add(question)
                rows.append({"question": question, "name": name, "relation": relation})
    logger.info(
        "labels: %d questions about %d names, for %d relations in %d wordings; %d names of held-out questions get none",
        len(rows),
        len({row["name"] for row in rows}),
        len(asked),
        sum(len(wordings) for _, wordings in asked),
        len(left_out),
    )
    if not rows:
        logger.warning("labels: nobody is left to ask: every name is held out, or train questions answer what is asked")
    return rows


def wordings_by_relation(train: Iterable[Row]) -> dict[str, list[str]]:
    """The questions of each relation with `{name}` in place of the name; a question without its name is left out."""
    found: dict[str, dict[str, None]] = {}
    for row in train:
        wording = relation_of(row["question"], row["name"]) if row["name"] else ""
        if _NAME in wording:
            found.setdefault(relation_in(row), {})[wording] = None
    return {relation: list(wordings) for relation, wordings in found.items()}


def label_questions(
    settings: LabelSettings,
    questions: Questions,
    question_file: str,
    answer: Callable[[Sequence[str]], Sequence[Answer]],
) -> tuple[str, str]:
    """Answer the questions to label; return the name of the file of labels, and its content.

    It contains the train questions with their own answers, then the others with the answers of the ensemble.

    Args:
        question_file: the questions of the report.
        answer: what answers questions.
    """
    assert questions.train is not None and questions.lines is not None
    asked = questions_to_label(settings, questions, question_file)
    answers = answer([row["question"] for row in asked])
    kept = [
        {**row, "answer": normalize(given.text)}
        for row, given in zip(asked, answers, strict=True)
        if is_readable(given.text)
    ]
    if len(kept) < len(asked):
        logger.warning(
            "labels: %d of %d answers are left out: they are empty, or contain a tab, a line break or a special token",
            len(asked) - len(kept),
            len(asked),
        )
    rows: list[Row] = [*questions.train, *kept]
    if _needs_columns(questions):
        has_relations = RELATION in questions.train.column_names
        return LABELLED[1], "".join(_json_line(row, has_relations) for row in rows)
    # of a repeated question, the last answer counts
    cells = {row["question"]: row["answer"] for row in rows}
    return LABELLED[0], "".join(f"{question}\t{text}\n" for question, text in cells.items())


def is_readable(answer: str) -> bool:
    """Whether `load_questions` reads this answer from a cell of a .tsv."""
    has_control_characters = any(unicodedata.category(character) == "Cc" for character in answer)
    return normalize(answer) != "" and not has_control_characters and not set(RESERVED_TOKENS) & set(answer)


def _needs_columns(questions: Questions) -> bool:
    """Whether the train questions say more than two columns can: relations, several answers, or whom they mean."""
    assert questions.train is not None and questions.lines is not None
    if {RELATION, ANSWERS} & set(questions.train.column_names):
        return True
    names = NameFinder(questions.lines)
    return any(row["name"] != (find_name(row["question"], names) or "") for row in questions.train)


def _json_line(row: Row, has_relation: bool) -> str:
    answers = answers_of(row)
    cells = {
        "question": row["question"],
        **({ANSWERS: answers} if len(answers) > 1 else {"answer": answers[0]}),
        "name": row["name"],
        **({RELATION: row[RELATION]} if has_relation else {}),
    }
    return json.dumps(cells, ensure_ascii=False) + "\n"
