"""The facts that the lines of a corpus tell for certain."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from birthgpt.data.extraction.patterns import PatternRelation
from birthgpt.data.names import name_key, normalize, text_after_name
from birthgpt.data.synthetic.wordings import Subject


@dataclass(frozen=True)
class ExtractedFacts:
    """The facts of a corpus.

    Args:
        subjects: the names with at least one fact, in the order of their first lines, with an answer for each relation
            ("" if there is no certain one).
        lines_matched: by relation, the lines in which a pattern matches.
    """

    subjects: tuple[Subject, ...]
    lines_matched: Mapping[str, int]


def extract_facts(lines: Iterable[Mapping[str, Any]], relations: Sequence[PatternRelation]) -> ExtractedFacts:
    """The certain facts in the lines of a corpus, as `load_corpus` returns them.

    A fact is certain if exactly one place in a line matches, the answer has a word that the name does not contain, and
    no other line about the same name tells another answer or several. Lines without a name are passed over.
    """
    names: dict[str, str] = {}
    # name and relation → everything that the lines say; None: a line says several things
    told: dict[tuple[str, str], set[str | None]] = {}
    lines_matched = {relation.name: 0 for relation in relations}
    for line in lines:
        if not line["name"]:
            continue
        key = name_key(line["name"])
        names.setdefault(key, line["name"])
        text = normalize(text_after_name(line["text"], line["name"]))
        for relation in relations:
            answers = relation.answers(text)
            if answers:
                lines_matched[relation.name] += 1
                told.setdefault((key, relation.name), set()).add(answers[0] if len(answers) == 1 else None)
    subjects = []
    for key, name in names.items():
        values = {relation.name: _certain(name, told.get((key, relation.name), set())) for relation in relations}
        if any(values.values()):
            subjects.append(Subject(name, values))
    return ExtractedFacts(tuple(subjects), lines_matched)


def _certain(name: str, answers: set[str | None]) -> str:
    """The one answer that all lines tell; "" if there is none, or if the name contains it."""
    (answer, *others) = answers or {None}
    if others or answer is None or _words(answer) <= _words(name):
        return ""
    return answer


def _words(text: str) -> set[str]:
    return {word.strip(".,()'\"").casefold() for word in text.split()}
