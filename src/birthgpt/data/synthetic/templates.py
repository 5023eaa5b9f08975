"""Templates: how lines tell the relations of a table, and how questions ask for them.

A file of templates is YAML:

    name: player                # the column of the names; `name` if not given
    pronoun: pronoun            # the column of she, he or it; without it, sentences repeat the name
    relations:
      team:
        answer: club            # the column of the answers; the name of the relation if not given
        texts:
          - "{subject} plays for {answer} in {country}."
        questions:
          - "Which team does {name} play for?"
        new_questions:          # never trained on; may be left out
          - "Who is the team of {name}?"

A template contains columns of the table in braces, and these words:

    {name}        the name
    {answer}      the answer of the relation; {an_answer}: the same after `a` or `an`
    {subject}     the name, or the pronoun (she); {possessive}: her; {object}: her
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml

from birthgpt.data.sources import clean_text
from birthgpt.model.settings import did_you_mean
from birthgpt.utils.files import read_text

NAME, ANSWER, AN_ANSWER = "name", "answer", "an_answer"
MENTIONS = ("subject", "possessive", "object")
"""The words for the name or a pronoun; only sentences may contain them."""

_FIELD = re.compile(r"\{([^{}]*)\}")
_COLUMNS = ("name", "pronoun")
_KEYS = (*_COLUMNS, "relations")
_RELATION_KEYS = ("answer", "texts", "questions", "new_questions")


@dataclass(frozen=True)
class Template:
    """A sentence or a question with fields. `pieces` alternates between text and the names of fields."""

    where: str  # file and line
    text: str
    pieces: tuple[str, ...]

    @property
    def fields(self) -> tuple[str, ...]:
        """The names in braces, in order."""
        return self.pieces[1::2]

    def fill(self, values: Mapping[str, str]) -> str:
        """The text with the value of each field."""
        return "".join(values[piece] if index % 2 else piece for index, piece in enumerate(self.pieces))


@dataclass(frozen=True)
class Relation:
    """One kind of fact: its sentences, its questions, and questions that are never trained on."""

    name: str
    answer: str  # the column of the answers
    texts: tuple[Template, ...]
    questions: tuple[Template, ...]
    new_questions: tuple[Template, ...] = ()


@dataclass(frozen=True)
class Templates:
    """A file of templates."""

    source: str
    name: str  # the column of the names
    pronoun: str | None  # the column of the pronouns
    relations: tuple[Relation, ...]
    columns: tuple[tuple[str, str], ...]  # file and line, and column, of names, pronouns and answers

    def select(self, names: Collection[str], setting: str = "relations") -> tuple[Relation, ...]:
        """The relations with these names, in this order; all of them for the single name `all`.

        Raises:
            ValueError: there is no such relation, or a name is repeated.
        """
        if list(names) == ["all"]:
            return self.relations
        by_name = {relation.name: relation for relation in self.relations}
        for name in names:
            if name not in by_name:
                hint = did_you_mean(name, by_name)
                raise ValueError(
                    f"{setting}: there is no relation {name!r} in {self.source}; "
                    f"{hint}{' ' if hint else ''}choose from all, {', '.join(by_name)}"
                )
        if len(set(names)) < len(names) or not names:
            raise ValueError(f"{setting}: {' '.join(names) or 'none'}: give each relation once, and at least one")
        return tuple(by_name[name] for name in names)


def read_templates(path: str) -> Templates:
    """Read a file of templates.

    Raises:
        ValueError: one line with file and line: no such file, not YAML, an unknown or missing key, a template that is
            not text, that repeats another one of its relation, whose braces do not match, or that lacks the field
            without which it tells or asks nothing.
    """
    return parse_templates(read_text(path, "the templates"), path)


@cache
def builtin_templates() -> Templates:
    """The templates of synthetic people."""
    name = "relations.yaml"
    return parse_templates(resources.files(__package__).joinpath(name).read_text(encoding="utf-8"), name)


def parse_templates(text: str, source: str) -> Templates:
    """The templates in a YAML text; errors as in `read_templates`."""
    try:
        root = yaml.compose(text)
    except yaml.YAMLError as error:
        raise ValueError(
            f"{source}: this is not YAML: {' '.join(str(error).split())}; a template that contains braces or a colon "
            'needs quotes: "{name} lives in {answer}."'
        ) from None
    entries = read_entries(root, source, "name, pronoun and relations", _KEYS)
    if "relations" not in entries:
        raise ValueError(f"{source}: the key 'relations' is missing")
    relations = read_entries(entries["relations"], source, "one entry a relation")
    if not relations:
        raise ValueError(f"{source}: there are no relations in it")
    given = [key for key in _COLUMNS if key in entries]
    columns = {key: (place_of(entries[key], source), read_line(entries[key], source)) for key in given}
    name = columns.setdefault("name", (source, NAME))[1]
    found = [_relation(key, node, source, name) for key, node in relations.items()]
    answers = [
        (place_of(node, source), relation.answer) for node, relation in zip(relations.values(), found, strict=True)
    ]
    pronoun = columns["pronoun"][1] if "pronoun" in columns else None
    return Templates(source, name, pronoun, tuple(found), (*columns.values(), *answers))


def check_fields(templates: Templates, columns: Collection[str], table: str) -> None:
    """Check that the table has all columns that the templates name.

    Raises:
        ValueError: with file and line: a column of names, pronouns or answers does not exist; fields are not columns
            (the first one, and how many there are); or a field could be a column or a word of the templates.
    """
    for where, column in templates.columns:
        if column not in columns:
            raise ValueError(f"{where}: {column!r} is not a column of {table}; {_columns_there_are(column, columns)}")
    words = {NAME, ANSWER, AN_ANSWER, *MENTIONS}
    fields = [
        (relation, template, field)
        for relation in templates.relations
        for template in (*relation.texts, *relation.questions, *relation.new_questions)
        for field in template.fields
    ]
    # a field that a template repeats is one mistake
    unknown = dict.fromkeys((template, field) for _, template, field in fields if field not in {*words, *columns})
    if unknown:
        raise _unknown_fields(list(unknown), columns, table)
    for relation, template, field in fields:
        if field in words & set(columns) - {templates.name, relation.answer}:
            raise ValueError(
                f"{template.where}: {{{field}}} is a word of templates, and also a column of {table}: rename the column"
            )


def _unknown_fields(unknown: list[tuple[Template, str]], columns: Collection[str], table: str) -> ValueError:
    """The error for fields that are not columns: how many, in how many templates, and the first one."""
    template, field = unknown[0]
    example, there_are = f"{{{field}}} in {template.text!r}", _columns_there_are(field, columns)
    if len(unknown) == 1:
        return ValueError(f"{template.where}: {example} is not a column of {table}; {there_are}")
    count = len({template for template, _ in unknown})
    return ValueError(
        f"{len(unknown)} fields in {count} template{'s' if count > 1 else ''} are not columns of {table}, "
        f"first {example} ({template.where}); {there_are}"
    )


def _columns_there_are(unknown: str, columns: Collection[str]) -> str:
    """The column that an unknown one may stand for, and all columns."""
    hint = did_you_mean(unknown, columns)
    return f"{hint}{' ' if hint else ''}there are: {', '.join(columns)}"


def _relation(name: str, node: yaml.Node, source: str, name_column: str) -> Relation:
    keys = read_entries(node, source, "texts and questions", _RELATION_KEYS)
    for key in ("texts", "questions"):
        if key not in keys:
            raise ValueError(f"{place_of(node, source)}: relation {name} has no {key}")
    answer = read_line(keys["answer"], source) if "answer" in keys else name
    questions, new_questions = read_questions(keys, source, {NAME, name_column}, {answer, AN_ANSWER, ANSWER})
    texts = list(_templates(keys["texts"], source))
    _check_repetitions(texts)
    for template in texts:
        if not {ANSWER, AN_ANSWER, answer} & set(template.fields):
            raise ValueError(f"{template.where}: {template.text!r} does not tell the answer; add {{answer}}")
    return Relation(name, answer, tuple(texts), questions, new_questions)


def read_questions(
    keys: Mapping[str, yaml.Node], source: str, names: Collection[str], answers: Collection[str]
) -> tuple[tuple[Template, ...], tuple[Template, ...]]:
    """The questions of a relation, and those that are never trained on.

    Args:
        keys: the entries of the relation, among them `questions`.
        source: the file, for errors.
        names: the fields that stand for the name; every question needs one.
        answers: the fields that stand for the answer; no question may contain one.

    Raises:
        ValueError: a question is repeated, asks about nobody, or contains its answer or a pronoun.
    """
    trained, new = (tuple(_templates(keys.get(key), source)) for key in ("questions", "new_questions"))
    _check_repetitions([*trained, *new])
    for template in (*trained, *new):
        if not set(names) & set(template.fields):
            raise ValueError(f"{template.where}: {template.text!r} asks about nobody; add {{name}}")
        if found := sorted({*answers, *MENTIONS} & set(template.fields)):
            raise ValueError(f"{template.where}: {template.text!r} is a question, which cannot contain {{{found[0]}}}")
    return trained, new


def _check_repetitions(templates: list[Template]) -> None:
    first: dict[str, Template] = {}
    for template in templates:
        earlier = first.setdefault(template.text, template)
        if earlier is not template:
            raise ValueError(f"{template.where}: {template.text!r} repeats {earlier.where.rpartition(', ')[2]}")


def _templates(node: yaml.Node | None, source: str) -> Iterator[Template]:
    """The templates of a list."""
    if node is None:
        return
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        raise ValueError(f'{place_of(node, source)}: expected a list of templates, one `- "…"` a line')
    for entry in node.value:
        where, text = place_of(entry, source), read_line(entry, source)
        pieces = tuple(_FIELD.split(text))
        if any(brace in piece for piece in pieces[::2] for brace in "{}"):
            raise ValueError(f"{where}: the braces in {text!r} do not match")
        yield Template(where, text, pieces)


def read_entries(
    node: yaml.Node | None, source: str, expected: str, known: Collection[str] = ()
) -> dict[str, yaml.Node]:
    """The entries of a mapping; only known keys are allowed, if any are given."""
    if not isinstance(node, yaml.MappingNode):
        where = source if node is None else place_of(node, source)
        raise ValueError(f"{where}: expected a mapping: {expected}")
    entries: dict[str, yaml.Node] = {}
    for key_node, value in node.value:
        key = read_line(key_node, source)
        if known and key not in known:
            hint = did_you_mean(key, known) or f"there are: {', '.join(known)}"
            raise ValueError(f"{place_of(key_node, source)}: {key!r} is not a key; {hint}")
        if key in entries:
            raise ValueError(f"{place_of(key_node, source)}: {key!r} is given twice")
        entries[key] = value
    return entries


def read_line(node: yaml.Node, source: str) -> str:
    """The text of a node; a ValueError unless it is on one line, without tabs."""
    where = place_of(node, source)
    if not isinstance(node, yaml.ScalarNode):
        raise ValueError(f'{where}: expected text; a template that contains braces needs quotes: "{{name}} …"')
    text = clean_text(where, node.value)
    if not text or any(character in text for character in "\t\n\r"):
        raise ValueError(f"{where}: expected text on one line, without tabs")
    return text


def place_of(node: yaml.Node, source: str) -> str:
    """File and line of a node, for errors."""
    return f"{source}, line {node.start_mark.line + 1}"
