"""Questions, with or without answers."""

import logging
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Value

from birthgpt.data.names import NameFinder, looks_like_sentence, name_key, normalize, relation_of
from birthgpt.data.sources import Row, clean_text, get_column, read_rows
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

# words of a header, as data sets have them
_QUESTION_HEADERS = set("question questions query prompt input instruction source text q".split())
_ANSWER_HEADERS = set("answer answers output completion response target label place birthplace a".split())

_BIRTHPLACE_QUESTION = re.compile(r"Where was (.+) born\?")


@checked
@dataclass(kw_only=True)
class QuestionSettings:
    """The questions to train on."""

    train_file: str = setting(help="questions with answers: TSV, JSON, CSV, Parquet or a Hub id")


@checked
@dataclass(kw_only=True)
class MixedQuestionSettings:
    """Questions in pretraining."""

    question_file: str | None = setting(None, "train questions to mix in from the start; none if not given")
    question_ratio: Number = setting(
        0.1, "fraction of the batches that contain questions; 0: questions only for evaluation", min=0, below=1
    )


def load_questions(
    source: str,
    *,
    question_column: str = "question",
    answer_column: str = "answer",
    require_answers: bool = True,
    split: str = "train",
    names: NameFinder | None = None,
) -> Dataset:
    """Read questions, one per row.

    Args:
        source: a .tsv without a header (each line is question TAB answer, or the question alone; quotes are ordinary
            characters), or another source that `sources.read_rows` reads, with columns.
        question_column: the column of the question, if columns have names.
        answer_column: the column of the answer, if columns have names.
        require_answers: refuse a source without answers.
        split: the split of a saved `DatasetDict` or of a Hub dataset.
        names: the names of a corpus, to find them in questions of any form.

    Returns:
        A dataset in memory with the columns
        `question_id` (int64: the row's number in the source, from 0),
        `question` and `answer` (as `names.normalize` returns them; answers are None if the source has no answers),
        and `name` (as `find_name` returns it, by the names of the corpus and those in ``Where was NAME born?``
        anywhere in the source; "" if there is none).
        All rows are kept. A warning counts repeated questions.

    Raises:
        ValueError: one line that names the file and the line: a missing or unreadable file, no question at
            all, text that is not UTF-8, a row with fewer or more columns than the first, a missing column, an
            empty question or answer, answers in some rows only, a header in a .tsv, a reserved character (``⁇``,
            ``␃``, ``□``), or no answers although `require_answers` is True.
    """
    columns = (question_column, answer_column)
    rows = list(_checked_rows(read_rows(source, split=split), columns))
    if not rows:
        raise ValueError(f"{source}: no question in it")
    if Path(source).suffix.lower() == ".tsv":
        _check_first_row(rows)
    if require_answers and rows[0][2] is None:
        raise ValueError(
            f"{source}: questions without answers; give a second column of answers"
            f" ({answer_column!r} where columns have names)"
        )
    _warn_repeated(source, rows)
    known = _names_in_form([question for _, question, _ in rows], names)
    return Dataset.from_list(
        [
            {
                "question_id": question_id,
                "question": question,
                "answer": answer,
                "name": find_name(question, known) or "",
            }
            for question_id, (_, question, answer) in enumerate(rows)
        ],
        features=FEATURES,
    )


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
        Texts of questions: without a known name; about a name in no line; about a name of more than eight words, or
        that repeats itself; about a person of the train questions; with another answer in the train questions (the same
        question about the same name, however the name is written). A kind without questions is left out.
    """
    trained: dict[tuple[str, str], set[str]] = {}
    people = set()
    for row in train:
        people.add(person_of(row))
        trained.setdefault(identity(row), set()).add(row["answer"])
    odd: dict[str, list[str]] = {}
    for row in questions:
        answers = trained.get(identity(row), set())
        looks_odd = {
            "without a known name": not row["name"],
            "about a name in no line": lines_by_name is not None and row["name"] and row["name"] not in lines_by_name,
            "about a name that looks like a sentence": row["name"] and looks_like_sentence(row["name"]),
            "about a person of the train questions": person_of(row) in people,
            "with another answer in the train questions": answers and row["answer"] not in {None, *answers},
        }
        for kind, is_odd in looks_odd.items():
            if is_odd:
                odd.setdefault(kind, []).append(row["question"])
    return odd


def warn_odd_questions(source: str, questions: Iterable[Mapping[str, Any]], **known: Any) -> None:
    """Log a warning for each kind of `odd_questions`, with their number and the first one; arguments as there."""
    for kind, found in odd_questions(questions, **known).items():
        logger.warning("%s: %d questions %s, first %r", source, len(found), kind, found[0])


def identity(row: Mapping[str, Any]) -> tuple[str, str]:
    """Who is asked about, and what: the same for every spelling of the name."""
    if not row["name"]:
        return "", row["question"]
    return name_key(row["name"]), relation_of(row["question"], row["name"])


def _checked_rows(rows: Iterator[Row], columns: tuple[str, str]) -> Iterator[tuple[str, str, str | None]]:
    with_answers = None
    for where, row in rows:
        read_columns = _tsv_columns if 0 in row else _named_columns
        question, answer = read_columns(where, row, columns)
        question = normalize(clean_text(where, question))
        if not question:
            raise ValueError(f"{where}: empty question")
        if with_answers is None:
            with_answers = answer is not None
        if with_answers != (answer is not None):
            raise ValueError(
                f"{where}: {'no answer' if with_answers else 'an answer'}, unlike the rows before it;"
                " give an answer to every question or to none"
            )
        if with_answers:
            answer = normalize(clean_text(where, answer))
            if not answer:
                raise ValueError(f"{where}: empty answer")
        yield where, question, answer


def _tsv_columns(where: str, row: dict[Any, Any], columns: tuple[str, str]) -> tuple[str, str | None]:
    if len(row) > 2:
        raise ValueError(f"{where}: {len(row)} columns; expected question TAB answer, or the question alone")
    question, answer = row[0], row.get(1)
    if (question, answer) == columns or _is_header(question, answer):
        raise ValueError(f"{where}: a header, but a .tsv of questions has none; remove this line")
    return question, answer


def _is_header(question: str, answer: str | None) -> bool:
    """Whether both cells are the usual words of a header, in capitals or not."""
    first, second = (cell.strip("#\"' ").lower() for cell in (question, answer or ""))
    return first in _QUESTION_HEADERS and (second in _ANSWER_HEADERS or (answer is None and len(first) > 1))


def _check_first_row(rows: list[tuple[str, str, str | None]]) -> None:
    """Refuse a header in other words: one word alone, where all other rows are sentences that end with a mark."""
    (where, first, _), *others = rows
    if not first.replace("_", "").isalnum() or len(others) < 2:
        return
    if all(" " in question and not question[-1].isalnum() for _, question, _ in others):
        raise ValueError(
            f"{where}: {first!r} looks like a header, unlike the other questions; a .tsv of questions has no header: "
            "remove this line"
        )


def _named_columns(where: str, row: dict[Any, Any], columns: tuple[str, str]) -> tuple[Any, Any]:
    return get_column(where, row, columns[0]), row.get(columns[1])


def _warn_repeated(source: str, rows: list[tuple[str, str, str | None]]) -> None:
    first: dict[str, tuple[str, str | None]] = {}
    same = 0
    different = []
    for where, question, answer in rows:
        earlier_where, earlier_answer = first.setdefault(question, (where, answer))
        if where == earlier_where:
            continue
        if answer == earlier_answer:
            same += 1
        else:
            different.append(f"{question!r}: {earlier_answer!r} ({earlier_where}) and {answer!r} ({where})")
    if same:
        logger.warning("%s: %d rows repeat an earlier question and its answer", source, same)
    if different:
        logger.warning(
            "%s: %d rows answer an earlier question differently, first %s",
            source,
            len(different),
            different[0],
        )
