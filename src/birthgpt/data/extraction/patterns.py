"""Patterns: how lines tell relations, and how questions ask for them.

A file of patterns is YAML:

    parts:                      # pieces of expressions, for use as %{year} below; may be left out
      year: "1[0-9]{3}|20[0-9]{2}"
    relations:
      birth_year:
        patterns:               # regular expressions of Python; the group `answer` is the answer
          - '\\bborn in (?P<answer>%{year})\\b'
        questions:
          - "In which year was {name} born?"
        new_questions:          # never trained on; may be left out
          - "{name} was born in which year?"

Expressions are searched for in the text behind the name at the start of a line, with single spaces.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml

from birthgpt.data.names import normalize
from birthgpt.data.synthetic.templates import (
    ANSWER,
    NAME,
    Relation,
    place_of,
    read_entries,
    read_questions,
)
from birthgpt.model.settings import did_you_mean
from birthgpt.utils.files import read_text

_KEYS = ("parts", "relations")
_RELATION_KEYS = ("patterns", "questions", "new_questions")
_PART = re.compile(r"%\{([^{}]*)\}")


@dataclass(frozen=True)
class PatternRelation:
    """One kind of fact: the expressions that find it, and its questions."""

    expressions: tuple[re.Pattern[str], ...]
    questions: Relation

    @property
    def name(self) -> str:
        """The name of the relation."""
        return self.questions.name

    def answers(self, text: str) -> list[str]:
        """The normalised answers in a text, one for each place where an expression finds one."""
        return [normalize(text[start:end]) for start, end in self.places(text)]

    def places(self, text: str) -> list[tuple[int, int]]:
        """Where the answers are in a text: start and end of each, in order."""
        spans = {match.span(ANSWER) for expression in self.expressions for match in expression.finditer(text)}
        # a group that takes no part in a match is at (-1, -1)
        return [(start, end) for start, end in sorted(spans) if start >= 0 and normalize(text[start:end])]


def read_patterns(path: str) -> tuple[PatternRelation, ...]:
    """Read a file of patterns.

    Raises:
        ValueError: one line with file, line and relation: no such file, not YAML, an unknown or missing key, an
            expression that is wrong, that names an unknown part or that has no group `answer`, or a question that asks
            about nobody, is repeated, or contains a field other than the name.
    """
    return parse_patterns(read_text(path, "the patterns"), path)


@cache
def builtin_patterns() -> tuple[PatternRelation, ...]:
    """The patterns for English biographies that come with the package."""
    return _packaged_patterns("biographies.yaml")


@cache
def birthplace_patterns() -> tuple[PatternRelation, ...]:
    """The patterns for birthplaces in English lines.

    They look an answer up for a user. They are not among `builtin_patterns`, because `extract` would make train
    questions of them, and the questions that measure recall ask for birthplaces.
    """
    return _packaged_patterns("birthplaces.yaml")


def _packaged_patterns(name: str) -> tuple[PatternRelation, ...]:
    return parse_patterns(resources.files(__package__).joinpath(name).read_text(encoding="utf-8"), name)


def parse_patterns(text: str, source: str) -> tuple[PatternRelation, ...]:
    """The patterns in a YAML text; errors as in `read_patterns`."""
    try:
        root = yaml.compose(text)
    except yaml.YAMLError as error:
        raise ValueError(
            f"{source}: this is not YAML: {' '.join(str(error).split())}; put expressions in single quotes"
        ) from None
    entries = read_entries(root, source, "parts and relations", _KEYS)
    if "relations" not in entries:
        raise ValueError(f"{source}: the key 'relations' is missing")
    parts: dict[str, str] = {}
    if "parts" in entries:
        for name, node in read_entries(entries["parts"], source, "one entry a part").items():
            where = f"{place_of(node, source)}, part {name}"
            # a part may contain those above it
            parts[name] = _insert_parts(where, _expression(where, node), parts)
            _compile(where, parts[name])
    relations = read_entries(entries["relations"], source, "one entry a relation")
    if not relations:
        raise ValueError(f"{source}: there are no relations in it")
    return tuple(_relation(name, node, source, parts) for name, node in relations.items())


def _relation(name: str, node: yaml.Node, source: str, parts: Mapping[str, str]) -> PatternRelation:
    keys = read_entries(node, source, "patterns and questions", _RELATION_KEYS)
    for key in ("patterns", "questions"):
        if key not in keys:
            raise ValueError(f"{place_of(node, source)}: relation {name} has no {key}")
    questions, new_questions = read_questions(keys, source, {NAME}, {ANSWER})
    for template in (*questions, *new_questions):
        if others := sorted(set(template.fields) - {NAME}):
            raise ValueError(
                f"{template.where}: {{{others[0]}}} in {template.text!r} is unknown: a question contains {{name}} alone"
            )
    expressions = tuple(_expressions(name, keys["patterns"], source, parts))
    return PatternRelation(expressions, Relation(name, name, (), questions, new_questions))


def _expressions(relation: str, node: yaml.Node, source: str, parts: Mapping[str, str]) -> Iterator[re.Pattern[str]]:
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        raise ValueError(
            f"{place_of(node, source)}, relation {relation}: expected a list of patterns, one `- '…'` a line"
        )
    for entry in node.value:
        where = f"{place_of(entry, source)}, relation {relation}"
        expression = _compile(where, _insert_parts(where, _expression(where, entry), parts))
        if ANSWER not in expression.groupindex:
            raise ValueError(
                f"{where}: the pattern {entry.value!r} has no group `answer`: write (?P<answer>…) around the answer"
            )
        yield expression


def _expression(where: str, node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode) or not node.value.strip():
        raise ValueError(f"{where}: expected a regular expression in single quotes")
    return node.value


def _insert_parts(where: str, expression: str, parts: Mapping[str, str]) -> str:
    def insert(match: re.Match[str]) -> str:
        if match[1] not in parts:
            hint = did_you_mean(match[1], parts) or f"there are: {', '.join(parts) or 'none'}"
            raise ValueError(f"{where}: {match[0]} is not a part; {hint}")
        return f"(?:{parts[match[1]]})"

    return _PART.sub(insert, expression)


def _compile(where: str, expression: str) -> re.Pattern[str]:
    try:
        return re.compile(expression)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{where}: {expression!r} is not a regular expression: {error}") from None
