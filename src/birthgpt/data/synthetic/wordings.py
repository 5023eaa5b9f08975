"""Sentences and questions about one subject, in the wordings of templates."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import factorial, prod
from typing import Literal

from birthgpt.data.synthetic.templates import AN_ANSWER, ANSWER, MENTIONS, NAME, Relation, Template
from birthgpt.settings import checked, setting

PRONOUNS = {
    "she": ("she", "her", "her"),
    "he": ("he", "his", "him"),
    "it": ("it", "its", "it"),
}
"""Pronoun → what stands for {subject}, {possessive} and {object}."""


@checked
@dataclass(kw_only=True)
class WordingSettings:
    """How biographies tell the relations, and how questions ask for them."""

    wordings: int | None = setting(None, "sentences to choose from for each relation; all if not given", min=1)
    question_wordings: int | None = setting(
        None, "trained wordings of the question of each relation; all if not given", min=1
    )
    sentence_order: Literal["fixed", "permuted"] = setting("permuted", "order of the relations in a biography")
    subject: Literal["full_name", "pronoun"] = setting("pronoun", "how sentences after the first call their subject")


@dataclass(frozen=True)
class Subject:
    """What the lines are about: a person, or a row of a table."""

    name: str
    values: Mapping[str, str]  # by column; an empty value is a fact that nobody knows
    pronoun: str | None = None  # a key of PRONOUNS; None: sentences repeat the name


@dataclass(frozen=True)
class Question:
    """A question about one relation of one subject."""

    question: str
    answer: str
    name: str
    relation: str
    wording: str  # the template


def limit_wordings(relations: Sequence[Relation], settings: WordingSettings) -> tuple[Relation, ...]:
    """The relations with as many sentences and questions as the settings say.

    Raises:
        ValueError: a relation has fewer.
    """
    for relation in relations:
        for name, given, templates in (
            ("wordings", settings.wordings, relation.texts),
            ("question_wordings", settings.question_wordings, relation.questions),
        ):
            if given is not None and given > len(templates):
                raise ValueError(
                    f"{name}={given}: the relation {relation.name} has {len(templates)}: give at most that"
                )
    return tuple(
        replace(
            relation,
            texts=relation.texts[: settings.wordings],
            questions=relation.questions[: settings.question_wordings],
        )
        for relation in relations
    )


def lines_about(
    subject: Subject, relations: Sequence[Relation], count: int, settings: WordingSettings, seed: int
) -> list[str]:
    """Up to `count` different lines `Name. Sentence. Sentence. …`, each with one sentence for each known relation.

    There are fewer lines if the templates make fewer, and none about a subject without any fact. A larger `count` adds
    lines after the lines of a smaller `count`.
    """
    known = [(relation, texts) for relation in relations if (texts := _usable(relation.texts, relation, subject))]
    orders = factorial(len(known)) if settings.sentence_order == "permuted" else 1
    possible = orders * prod(len(texts) for _, texts in known)
    rng = random.Random(f"{seed}-biographies-{subject.name}")
    # a dictionary keeps the order and drops repetitions
    lines: dict[str, None] = {}
    while known and len(lines) < min(count, possible):
        order = rng.sample(known, len(known)) if settings.sentence_order == "permuted" else known
        sentences = [
            _sentence(subject, relation, rng.choice(texts), settings.subject == "pronoun" and position > 0)
            for position, (relation, texts) in enumerate(order)
        ]
        lines[f"{subject.name}. {' '.join(sentences)}"] = None
    return list(lines)


def questions_about(
    subject: Subject, relations: Sequence[Relation], seed: int, new: bool = False
) -> Iterator[Question]:
    """One question for each known relation, in a wording drawn at random.

    Args:
        new: whether the wordings are those that are never trained on. Relations without such wordings are left out.
    """
    rng = random.Random(f"{seed}-{'new-' if new else ''}questions-{subject.name}")
    for relation in relations:
        wordings = _usable(relation.new_questions if new else relation.questions, relation, subject)
        if wordings:
            wording = rng.choice(wordings)
            question = wording.fill({**subject.values, NAME: subject.name})
            yield Question(question, subject.values[relation.answer], subject.name, relation.name, wording.text)


def _usable(templates: Sequence[Template], relation: Relation, subject: Subject) -> list[Template]:
    """The templates whose fields all have a value; none if the answer is unknown."""
    if not subject.values[relation.answer]:
        return []
    # a field that is no column is a word of templates, which always has a value
    return [template for template in templates if all(subject.values.get(field, field) for field in template.fields)]


def _sentence(subject: Subject, relation: Relation, template: Template, use_pronoun: bool) -> str:
    """A template with its values; a pronoun at its start has a capital."""
    pronoun = subject.pronoun if use_pronoun else None
    mentions = PRONOUNS[pronoun] if pronoun else (subject.name, _possessive(subject.name), subject.name)
    answer = subject.values[relation.answer]
    article = "an" if answer[0].lower() in "aeiou" else "a"
    words = {NAME: subject.name, ANSWER: answer, AN_ANSWER: f"{article} {answer}"}
    text = template.fill({**subject.values, **words, **dict(zip(MENTIONS, mentions, strict=True))})
    # one full stop ends the sentence and the abbreviation before it: `He works for Iron Kite F.C.`
    text = text[:-1] if text.endswith("..") else text
    starts_with_pronoun = pronoun and not template.pieces[0] and template.fields[0] in MENTIONS
    return text[0].upper() + text[1:] if starts_with_pronoun else text


def _possessive(name: str) -> str:
    return f"{name}'s"
