"""Questions, with or without answers."""

import logging
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset, Features, List, Value

from birthgpt.data.names import NameFinder, looks_like_sentence, name_key, relation_of
from birthgpt.data.question_rows import ANSWERS, RELATION, WORDING, QuestionRow, read_question_rows
from birthgpt.data.splits import person_of
from birthgpt.settings import Number, checked, setting

logger = logging.getLogger(__name__)

FEATURES = Features(
    {
        "question_id": Value("int64"),
        "question": Value("string"),
        "answer": Value("string"),
        "name": Value("string"),
    }
)

QUESTION_RATIO = 0.1
"""The fraction of batches with questions in pretraining, if another is not given."""

UNKNOWN_RELATION = "unknown"
"""What reports call the relation of questions without a known name."""

WITHOUT_NAME = "without a known name"
"""What warnings say of such questions."""

_MORE_FEATURES = {ANSWERS: List(Value("string")), RELATION: Value("string"), WORDING: Value("string")}

COLUMNS = ("question", "answer")
"""The columns of the question and of its answer, if columns have names."""

_BIRTHPLACE_QUESTION = re.compile(r"Where was (.+) born\?")


@checked
@dataclass(kw_only=True)
class QuestionSettings:
    """The questions to train on."""

    train_file: str = setting(help="questions with answers: TSV, JSON, CSV, Parquet or a Hub id")
    validation_file: str | None = setting(
        None, "development questions, asked during training in place of held-out train questions (validation_size)"
    )


@checked
@dataclass(kw_only=True)
class MixedQuestionSettings:
    """Questions in pretraining."""

    question_file: str | None = setting(None, "train questions to mix in from the start; none if not given")
    question_ratio: Number = setting(
        QUESTION_RATIO,
        "fraction of the batches that contain questions; 0: questions only for evaluation",
        min=0,
        below=1,
    )


def load_questions(
    source: str,
    *,
    question_column: str = COLUMNS[0],
    answer_column: str = COLUMNS[1],
    require_answers: bool = True,
    split: str = "train",
    names: NameFinder | None = None,
    with_wordings: bool = False,
) -> Dataset:
    """Read questions, one per row.

    Args:
        source: a .tsv without a header (each line is question TAB answer, or the question alone; quotes are ordinary
            characters), or another source that `sources.read_rows` reads, with named columns. A .tsv with more columns
            has a header. Named columns may contain `name` (whom the question is about), `relation` (what it asks
            about) and `answers` (a list of several right answers, in place of the column of the answer).
        question_column: the column of the question, if columns have names.
        answer_column: the column of the answer, if columns have names.
        require_answers: refuse a source without answers.
        split: the split of a saved `DatasetDict` or of a Hub dataset.
        names: the names of a corpus, to find them in questions of any form.
        with_wordings: keep the column `wording` of the source, which only reports read.

    Returns:
        A dataset in memory with the columns
        `question_id` (int64: the row's number, from 0),
        `question` and `answer` (as `names.normalize` returns them; answers are None if the source has no answers),
        `name` (that of the source, or else as `find_name` returns it, by the names of the corpus and those in
        ``Where was NAME born?`` anywhere in the source; "" if there is none),
        `answers` (all right answers, `answer` is the first; only if a question has several),
        `relation` (only if the source has one), and `wording` (only if it is asked for, and the source has one).
        All rows of a .tsv without a header are kept, and a warning counts repeated questions. With named columns, rows
        that repeat a question are one row with the answers of all. Warnings count questions with several names, or
        with a name that is part of another.

    Raises:
        ValueError: one line that names the file and the line: a missing or unreadable file, no question at
            all, text that is not UTF-8, a row with fewer or more columns than the first, a missing column, an
            empty question or answer, answers in some rows only, `answers` that is no list, two relations of one
            question, a header in a .tsv of two columns, a reserved character (``⁇``, ``␃``, ``□``, ``␀``), or no
            answers although `require_answers` is True.
    """
    rows = load_question_rows(
        source,
        question_column=question_column,
        answer_column=answer_column,
        require_answers=require_answers,
        split=split,
    )
    return questions_of(source, rows, names, with_wordings=with_wordings)


def load_question_rows(
    source: str,
    *,
    question_column: str = COLUMNS[0],
    answer_column: str = COLUMNS[1],
    require_answers: bool = True,
    split: str = "train",
) -> list[QuestionRow]:
    """The rows of a source with everything that it says; arguments and errors as for `load_questions`."""
    rows = read_question_rows(source, (question_column, answer_column), split=split)
    if not rows:
        raise ValueError(f"{source}: no question in it")
    if require_answers and rows[0].answers is None:
        raise ValueError(
            f"{source}: questions without answers; give a second column of answers"
            f" ({answer_column!r} where columns have names)"
        )
    return rows


def questions_of(
    source: str, rows: Sequence[QuestionRow], names: NameFinder | None = None, *, with_wordings: bool = False
) -> Dataset:
    """The dataset that `load_questions` returns, with a row for each of these rows."""
    known = _names_in_form([row.question for row in rows], names)
    _warn_ambiguous_names(source, rows, known)
    columns: dict[str, list] = {
        "question_id": list(range(len(rows))),
        "question": [row.question for row in rows],
        "answer": [None if row.answers is None else row.answers[0] for row in rows],
        "name": [_name_of(row, known) for row in rows],
    }
    # without them, a source has the same rows and the same fingerprint as ever
    if any(row.answers and len(row.answers) > 1 for row in rows):
        columns[ANSWERS] = [list(row.answers or ()) for row in rows]
    if any(row.relation for row in rows):
        columns[RELATION] = [row.relation for row in rows]
    if with_wordings and any(row.wording for row in rows):
        columns[WORDING] = [row.wording for row in rows]
    features = {**FEATURES, **{name: kind for name, kind in _MORE_FEATURES.items() if name in columns}}
    return Dataset.from_dict(columns, features=Features(features))


def answers_of(row: Mapping[str, Any]) -> list[str]:
    """All right answers to a question; empty if it has none."""
    if row.get(ANSWERS):
        return list(row[ANSWERS])
    return [] if row.get("answer") is None else [row["answer"]]


def relation_in(row: Mapping[str, Any]) -> str:
    """What a question asks about: its column `relation`, or else the question without its name; "" if unknown."""
    if row.get(RELATION):
        return row[RELATION]
    return relation_of(row["question"], row["name"]) if row.get("name") else ""


def wording_in(row: Mapping[str, Any]) -> str:
    """In which words a question asks: its column `wording`, or else the question without its name; "" if unknown."""
    if row.get(WORDING):
        return row[WORDING]
    return relation_of(row["question"], row["name"]) if row.get("name") else ""


def read_question_name(question: str) -> str | None:
    """NAME if the question is ``Where was NAME born?``, otherwise None."""
    match = _BIRTHPLACE_QUESTION.fullmatch(question)
    return match[1] if match else None


def find_name(question: str, names: NameFinder | None = None) -> str | None:
    """The name in a question, as the corpus writes it.

    It is NAME in ``Where was NAME born?``, or else the longest of the names of the corpus that the question contains.
    """
    name = read_question_name(question)
    if names is None:
        return name
    if name is not None:
        return names.spelled(name)
    mentions = names.find(question)
    return max(mentions, key=lambda mention: len(mention.name)).name if mentions else None


def _names_in_form(questions: Sequence[str], names: NameFinder | None) -> NameFinder | None:
    """The names of a corpus and of the questions ``Where was NAME born?``, to find them in the other questions."""
    in_form = [read_question_name(question) for question in questions]
    if all(in_form):
        return names
    known = [] if names is None else names.names.values()
    return NameFinder([*known, *filter(None, in_form)])


def _name_of(row: QuestionRow, known: NameFinder | None) -> str:
    if row.name:
        return row.name if known is None else known.spelled(row.name)
    return find_name(row.question, known) or ""


def _warn_ambiguous_names(source: str, rows: Sequence[QuestionRow], known: NameFinder | None) -> None:
    """Log a warning for several names in a question, or one that is part of another: whom it is about is a guess."""
    if known is None:
        return
    several, single = [], []
    for row in rows:
        if not row.name and read_question_name(row.question) is None:
            names = list(dict.fromkeys(mention.name for mention in known.find(row.question)))
            if len(names) > 1:
                several.append((row.question, names))
            elif names:
                single.append((row.question, names[0]))
    longer = known.longer_names({name for _, name in single})
    partial = [(question, [name, longer[name]]) for question, name in single if name in longer]
    for found, what, taken in (
        (several, "contain several names", "each counts as one about its longest name"),
        (partial, "contain a name that is part of another", "each counts as one about the shorter"),
    ):
        if found:
            question, names = found[0]
            logger.warning(
                "%s: %d questions %s, first %r (%s): %s; a column 'name' says whom a question is about",
                source,
                len(found),
                what,
                question,
                ", ".join(map(repr, names)),
                taken,
            )


def people_asked_about(sources: Iterable[str], names: NameFinder) -> set[str]:
    """The keys of all names of a corpus that are in questions, to keep these people out of training.

    A warning counts the questions about nobody of the corpus.
    """
    people: set[str] = set()
    for source in sources:
        unknown = []
        for row in load_questions(source, require_answers=False, names=names):
            found = {name_key(mention.name) for mention in names.find(row["question"])}
            found |= {name_key(row["name"])} & names.names.keys()
            if not found:
                unknown.append(row["question"])
            people |= found
        if unknown:
            logger.warning(
                "%s: %d questions contain no name of the corpus, first %r: nobody is held out for them",
                source,
                len(unknown),
                unknown[0],
            )
    return people


def warn_rare_relations(source: str, questions: Iterable[Mapping[str, Any]]) -> None:
    """Log a warning if only one question asks about a relation, while other questions ask about others."""
    asked: dict[str, list[str]] = {}
    for row in questions:
        if relation := relation_in(row):
            asked.setdefault(relation, []).append(row["question"])
    alone = [found[0] for found in asked.values() if len(found) == 1]
    if alone and len(asked) > 1:
        logger.warning(
            "%s: %d of %d relations have one question, first %r: no other question teaches their form",
            source,
            len(alone),
            len(asked),
            alone[0],
        )


def odd_questions(
    questions: Iterable[Mapping[str, Any]],
    lines_by_name: Container[str] | None = None,
    train: Iterable[Mapping[str, Any]] = (),
) -> dict[str, list[str]]:
    """The questions that may be misread, by what looks odd.

    Args:
        questions: rows as `load_questions` returns them.
        lines_by_name: the names of the corpus.
        train: train questions, whose answers are compared.

    Returns:
        Texts of questions: without a known name; without their name in them; about a name in no line; about a name of
        more than eight words, or that repeats itself; about a person of the train questions; with another answer in the
        train questions (the same question about the same name, however the name is written). A kind without questions
        is left out.
    """
    trained: dict[tuple[str, str], set[str]] = {}
    people = set()
    for row in train:
        people.add(person_of(row))
        trained.setdefault(identity(row), set()).update(answers_of(row))
    odd: dict[str, list[str]] = {}
    for row in questions:
        answers = trained.get(identity(row), set())
        looks_odd = {
            WITHOUT_NAME: not row["name"],
            "without their name in them": row["name"] and "{name}" not in relation_of(row["question"], row["name"]),
            "about a name in no line": lines_by_name is not None and row["name"] and row["name"] not in lines_by_name,
            "about a name that looks like a sentence": row["name"] and looks_like_sentence(row["name"]),
            "about a person of the train questions": person_of(row) in people,
            "with another answer in the train questions": answers and answers.isdisjoint(answers_of(row) or answers),
        }
        for kind, is_odd in looks_odd.items():
            if is_odd:
                odd.setdefault(kind, []).append(row["question"])
    return odd


def warn_odd_questions(source: str, questions: Iterable[Mapping[str, Any]], **known: Any) -> None:
    """Log a warning for each kind of `odd_questions`, with their number and the first one; arguments as there."""
    for kind, found in odd_questions(questions, **known).items():
        needs_names = kind == WITHOUT_NAME and known.get("lines_by_name") is None
        advice = ": names of a corpus are found in questions, so give corpus_file" if needs_names else ""
        logger.warning("%s: %d questions %s, first %r%s", source, len(found), kind, found[0], advice)


def identity(row: Mapping[str, Any]) -> tuple[str, str]:
    """Who is asked about, and what: the same for every spelling of the name."""
    if not row["name"]:
        return "", row["question"]
    return name_key(row["name"]), relation_of(row["question"], row["name"])
