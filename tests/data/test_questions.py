"""Reading questions, with or without answers, from every source; bad rows are refused with their line."""

import json
import logging
import unicodedata

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from birthgpt.data.names import NameFinder, normalize
from birthgpt.data.questions import FEATURES, load_questions, odd_questions, read_question_name

QUESTIONS = ["Where was Zoë M. Müller born?", 'Who wrote "Emma"?', "Where was None born?"]
ANSWERS = ["Köln", '"Jane"', "NA"]
NAMES = ["Zoë M. Müller", "", "None"]

WRITERS = {
    "questions.csv": lambda path, rows: Dataset.from_list(rows).to_csv(path),
    "questions.json": lambda path, rows: path.write_text(json.dumps(rows)),
    "questions.jsonl": lambda path, rows: path.write_text("\n".join(map(json.dumps, rows))),
    "questions.parquet": lambda path, rows: Dataset.from_list(rows).to_parquet(path),
    "saved": lambda path, rows: Dataset.from_list(rows).save_to_disk(path),
}


def write_tsv(path, *rows, end="\n"):
    path.write_bytes("".join("\t".join(row) + end for row in rows).encode())


def error_of(path, **settings):
    """The error message of reading a source. It has one line; its folder is removed."""
    with pytest.raises(ValueError) as caught:
        load_questions(str(path), **settings)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.__cause__ is None
    return message.replace(f"{path.parent}/", "")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_tsv_is_read_literally(tmp_path, end):
    write_tsv(tmp_path / "dev.tsv", *zip(QUESTIONS, ANSWERS, strict=True), end=end)
    questions = load_questions(str(tmp_path / "dev.tsv"))
    assert questions.features == FEATURES
    assert questions.to_dict() == {
        "question_id": [0, 1, 2],
        "question": QUESTIONS,
        "answer": ANSWERS,
        "name": NAMES,
    }


def test_questions_alone_have_no_answers(tmp_path):
    write_tsv(tmp_path / "test.tsv", *zip(QUESTIONS, strict=True))
    questions = load_questions(str(tmp_path / "test.tsv"), require_answers=False)
    assert questions.features == FEATURES
    assert questions["question"][:] == QUESTIONS
    assert questions["answer"][:] == [None, None, None]


@pytest.mark.parametrize("name", WRITERS)
def test_every_source_has_the_same_rows(tmp_path, name):
    rows = [{"q": question, "a": answer} for question, answer in zip(QUESTIONS, ANSWERS, strict=True)]
    WRITERS[name](tmp_path / name, rows)
    questions = load_questions(str(tmp_path / name), question_column="q", answer_column="a")
    assert questions.to_dict() == {
        "question_id": [0, 1, 2],
        "question": QUESTIONS,
        "answer": ANSWERS,
        "name": NAMES,
    }


@pytest.mark.parametrize("name", WRITERS)
def test_a_source_without_answer_column_has_no_answers(tmp_path, name):
    WRITERS[name](tmp_path / name, [{"question": question} for question in QUESTIONS])
    assert load_questions(str(tmp_path / name), require_answers=False)["answer"][:] == [None, None, None]
    assert error_of(tmp_path / name) == (
        f"{name}: questions without answers; give a second column of answers ('answer' where columns have names)"
    )


@pytest.mark.parametrize(
    "rows", [["Rome", "Where is Bonn?"], ["Rome", "Bonn", "Where is Oslo?"], ["Rome", "In X", "Y?"]]
)
def test_a_question_of_one_word_is_no_header(tmp_path, rows):
    write_tsv(tmp_path / "dev.tsv", *((row, "Ada") for row in rows))
    assert load_questions(str(tmp_path / "dev.tsv"))["question"][:] == rows


def test_outer_white_space_is_stripped(tmp_path):
    write_tsv(tmp_path / "dev.tsv", (" Where was Ada born? ", " London "))
    (row,) = load_questions(str(tmp_path / "dev.tsv"))
    assert row == {"question_id": 0, "question": "Where was Ada born?", "answer": "London", "name": "Ada"}


# cells of a TSV: no tab, no line break
CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="⁇␃□\t\n\r")).map(normalize).filter(bool)


@settings(deadline=None, derandomize=True)
@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1))
def test_a_tsv_returns_any_normalised_text(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("any") / "dev.tsv"
    write_tsv(path, *rows)
    questions = load_questions(str(path))
    assert list(zip(questions["question"], questions["answer"], strict=True)) == rows


@pytest.mark.parametrize(
    "question",
    [
        unicodedata.normalize("NFD", "Where was Zoë Byron born?"),
        "Where\u00a0was Zoë\u00a0Byron  born?",
        "\ufeffWhere was Zo\u200bë Byr\u00adon born?",
        "Where was Zo\u200cë By\u200dron\u200e born?",
    ],
)
def test_every_form_of_a_question_is_the_same_question(tmp_path, question):
    write_tsv(tmp_path / "dev.tsv", ("Who?", "Ada"), (question, unicodedata.normalize("NFD", "Köln")))
    row = load_questions(str(tmp_path / "dev.tsv"))[1]
    assert row == {"question_id": 1, "question": "Where was Zoë Byron born?", "answer": "Köln", "name": "Zoë Byron"}


def test_answers_keep_the_joiners_that_their_script_needs(tmp_path):
    write_tsv(tmp_path / "dev.tsv", ("Where?", "می\u200cخواهم"), ("Who?", "👩\u200d🚀"), ("What?", "New\u00a0York"))
    answers = load_questions(str(tmp_path / "dev.tsv"))["answer"][:]
    assert answers == ["می\u200cخواهم", "👩\u200d🚀", "New York"]


def test_names_of_a_corpus_are_found_in_questions_of_any_form(tmp_path):
    names = NameFinder(["Ada Byron", "Ada", "Sammy Davis Jr."])
    asked = [
        "Which city is Ada Byron from?",
        "Where was Sammy Davis Jr born?",
        "Where was Bo Li born?",
        "Who was Adam?",
    ]
    write_tsv(tmp_path / "dev.tsv", *zip(asked, strict=True))
    questions = load_questions(str(tmp_path / "dev.tsv"), require_answers=False, names=names)
    assert questions["name"][:] == ["Ada Byron", "Sammy Davis Jr.", "Bo Li", ""]


def test_odd_questions_are_counted():
    rows = [
        ("Who?", "Ada", ""),
        ("Where was Bo Li born?", "Rome", "Bo Li"),
        ("Where was Ada Byron born?", "Rome", "Ada Byron"),
        ("Where was Sammy Davis Jr. born?", "Rome", "Sammy Davis Jr."),
        ("Where was Ada Byron Ada Byron was a poet born?", "Rome", "Ada Byron Ada Byron was a poet"),
        ("Where was Jo Hill born?", None, "Jo Hill"),
        # the column of the name says who is meant, the question does not
        ("What is the job?", "poet", "Jo Hill"),
    ]
    questions = [dict(zip(("question", "answer", "name"), row, strict=True)) for row in rows]
    train = [
        {"question": "Where was Sammy Davis Jr born?", "answer": "Harlem", "name": "Sammy Davis Jr"},
        {"question": "When was Ada Byron born?", "answer": "1815", "name": "Ada Byron"},
        {"question": "Where was Jo Hill born?", "answer": "Oslo", "name": "Jo Hill"},
    ]
    lines = {"Ada Byron": [], "Sammy Davis Jr.": [], "Jo Hill": [], "Ada Byron Ada Byron was a poet": []}
    assert odd_questions(questions, lines, train) == {
        "without a known name": ["Who?"],
        "without their name in them": ["What is the job?"],
        "about a name in no line": ["Where was Bo Li born?"],
        "about a name that looks like a sentence": [rows[4][0]],
        "about a person of the train questions": [rows[2][0], rows[3][0], rows[5][0], rows[6][0]],
        "with another answer in the train questions": [rows[3][0]],
    }
    assert odd_questions(questions[2:3]) == {}


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("Where was Ada Lovelace born?", "Ada Lovelace"),
        ("Where was Was born? born?", "Was born?"),
        ("Where was Ada Lovelace born", None),
        ("When was Ada Lovelace born?", None),
        ("So: Where was Ada born?", None),
        ("", None),
    ],
)
def test_the_name_is_read_from_the_form_of_the_question(question, name):
    assert read_question_name(question) == name


FIRST_LINE = b"Where was Ada born?\tLondon\n"

BAD_FILES = {
    "empty": ("dev.tsv", b"", "dev.tsv: no question in it"),
    "one-column-among-two": (
        "dev.tsv",
        FIRST_LINE + b"Where was Zoe born?\n",
        "dev.tsv, line 2: no answer, unlike the rows before it; give an answer to every question or to none",
    ),
    "two-columns-among-one": (
        "dev.tsv",
        b"Who?\nWho?\tAda",
        "dev.tsv, line 2: an answer, unlike the rows before it",
    ),
    "three-columns": (
        "dev.tsv",
        FIRST_LINE + b"Who?\tAda\tZoe",
        "dev.tsv, line 2: 3 columns; expected question TAB answer",
    ),
    "blank-line": ("dev.tsv", FIRST_LINE + b"\n", "dev.tsv, line 2: empty question"),
    "empty-question": ("dev.tsv", FIRST_LINE + b" \tParis\n", "dev.tsv, line 2: empty question"),
    "empty-answer": ("dev.tsv", FIRST_LINE + b"Where was Zoe born?\t\n", "dev.tsv, line 2: empty answer"),
    "null-answer": (
        "dev.jsonl",
        b'{"question": "Who?", "answer": "A"}\n{"question": "Who?", "answer": null}',
        "dev.jsonl, line 2: no answer, unlike the rows before it",
    ),
    "header": (
        "dev.tsv",
        b"question\tanswer\n" + FIRST_LINE,
        "dev.tsv, line 1: a header, but a .tsv of questions has none",
    ),
    "header-in-capitals": (
        "dev.tsv",
        b"Question\tPlace\n" + FIRST_LINE,
        "dev.tsv, line 1: a header, but a .tsv of questions has none",
    ),
    "header-of-questions-alone": (
        "dev.tsv",
        b"# query\nWhere was Ada born?\n",
        "dev.tsv, line 1: a header, but a .tsv of questions has none",
    ),
    "header-in-other-words": (
        "dev.tsv",
        b"Frage\tOrt\n" + FIRST_LINE * 2,
        "dev.tsv, line 1: 'Frage' looks like a header, unlike the other questions",
    ),
    "latin-1": (
        "dev.tsv",
        FIRST_LINE + b"Where was Zo\xeb born?\tK",
        "dev.tsv, line 2: not UTF-8: byte 0xeb at offset 39",
    ),
    "mask": (
        "dev.tsv",
        "Where was Ada born?⁇\tLondon".encode(),
        "dev.tsv, line 1, character 20: '⁇' (U+2047) is a",
    ),
    "pad-in-answer": (
        "dev.csv",
        "question,answer\nWho?,□".encode(),
        "dev.csv, line 2, character 1: '□' (U+25A1) is",
    ),
    "no-column": ("dev.csv", b"q,a\nWho?,Ada", "dev.csv, line 2: no column 'question'; there are: q, a"),
    "number": (
        "dev.jsonl",
        b'{"question": "Who?", "answer": 1}',
        "dev.jsonl, line 1: expected text, found int 1",
    ),
    "other-format": ("dev.xlsx", b"", "dev.xlsx: cannot read this kind of file; give one of .txt, .tsv, "),
}


@pytest.mark.parametrize("require_answers", [True, False], ids=["with-answers", "any"])
@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_files_are_refused_with_their_line(tmp_path, name, content, message, require_answers):
    (tmp_path / name).write_bytes(content)
    assert error_of(tmp_path / name, require_answers=require_answers).startswith(message)


def test_a_tsv_without_required_answers_is_refused(tmp_path):
    write_tsv(tmp_path / "test.tsv", *zip(QUESTIONS, strict=True))
    assert error_of(tmp_path / "test.tsv").startswith("test.tsv: questions without answers; give a second column")


def test_a_missing_file_is_refused_with_the_nearest_name(tmp_path):
    write_tsv(tmp_path / "birth_dev.tsv", ("Who?", "Ada"))
    message = error_of(tmp_path / "birth-dev.tsv")
    assert message == "birth-dev.tsv: no such file; did you mean birth_dev.tsv?"


def test_repeated_questions_are_kept_and_counted_in_a_warning(tmp_path, caplog):
    rows = [("Who?", "Ada"), ("Where?", "Rome"), ("Who?", "Zoe"), ("Where?", "Rome"), ("Who?", "Bo")]
    write_tsv(tmp_path / "dev.tsv", *rows)
    with caplog.at_level(logging.WARNING):
        questions = load_questions(str(tmp_path / "dev.tsv"))
    assert len(questions) == 5
    same, different = (record.getMessage().replace(f"{tmp_path}/", "") for record in caplog.records)
    assert same == "dev.tsv: 1 rows repeat an earlier question and its answer"
    assert different == (
        "dev.tsv: 2 rows answer an earlier question differently, first"
        " 'Who?': 'Ada' (dev.tsv, line 1) and 'Zoe' (dev.tsv, line 3); each row is asked on its own:"
        " JSONL with a list `answers` gives a question several right answers"
    )


def test_questions_that_occur_once_cause_no_warning(tmp_path, caplog):
    write_tsv(tmp_path / "dev.tsv", ("Who?", "Ada"), ("Where?", "Ada"))
    load_questions(str(tmp_path / "dev.tsv"))
    assert not caplog.records
