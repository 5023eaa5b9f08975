"""Questions with columns: whom they are about, what they ask about, and several right answers."""

import json
import logging

import pytest
from datasets import Dataset

from birthgpt.data.names import NameFinder
from birthgpt.data.questions import answers_of, load_questions, relation_in, warn_rare_relations

HEADER = ("question", "answer", "name", "relation")
ROWS = [
    ("Who employs Ada Byron?", "Hill & Sons", "Ada Byron", "employer"),
    ("What does Bo Li do?", "poet", "Bo Li", "occupation"),
    ("What does Bo Li do?", "potter", "Bo Li", "occupation"),
    ("What does Bo Li do?", "poet", "Bo Li", "occupation"),
]
RECORDS = [dict(zip(HEADER, row, strict=True)) for row in ROWS]
MERGED = [
    ("Who employs Ada Byron?", ["Hill & Sons"], "Ada Byron", "employer"),
    ("What does Bo Li do?", ["poet", "potter"], "Bo Li", "occupation"),
]

WRITERS = {
    "questions.tsv": lambda path: path.write_text("\n".join(map("\t".join, [HEADER, *ROWS])) + "\n"),
    "questions.csv": lambda path: Dataset.from_list(RECORDS).to_csv(path),
    "questions.json": lambda path: path.write_text(json.dumps(RECORDS)),
    "questions.jsonl": lambda path: path.write_text("\n".join(map(json.dumps, RECORDS))),
    "questions.parquet": lambda path: Dataset.from_list(RECORDS).to_parquet(path),
}


def write_jsonl(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("name", WRITERS)
def test_named_columns_say_name_and_relation_and_repeated_rows_are_one_question(tmp_path, name, caplog):
    WRITERS[name](tmp_path / name)
    with caplog.at_level(logging.INFO):
        questions = load_questions(str(tmp_path / name))
    found = [(row["question"], answers_of(row), row["name"], relation_in(row)) for row in questions]
    assert found == MERGED
    assert questions["question_id"][:] == [0, 1] and questions["answer"][:] == ["Hill & Sons", "poet"]
    assert f"{name}: 2 rows repeat an earlier question" in caplog.text


def test_a_list_of_answers_is_the_same_as_repeated_rows(tmp_path):
    answers = ["poet", "potter", "poet "]
    lists = write_jsonl(tmp_path / "a.jsonl", {"question": "What does Bo Li do?", "answers": answers})
    (tmp_path / "b.csv").write_text('question,answers\nWhat does Bo Li do?,"[""poet"", ""potter""]"\n')
    for source in (lists, str(tmp_path / "b.csv")):
        (row,) = load_questions(source)
        assert row == {
            "question_id": 0, "question": "What does Bo Li do?", "answer": "poet", "name": "",
            "answers": ["poet", "potter"],
        }  # fmt: skip


def test_one_answer_each_and_no_relation_add_no_columns(tmp_path):
    """So the fingerprint of such questions, by which a run is resumed, does not change."""
    source = write_jsonl(tmp_path / "a.jsonl", {"question": "Who?", "answers": ["Ada"]})
    assert load_questions(source).column_names == ["question_id", "question", "answer", "name"]


def test_one_question_about_several_names_is_several_questions(tmp_path):
    rows = [{"question": "Who is the spouse?", "answer": answer, "name": name} for answer, name in ("AB", "BA")]
    questions = load_questions(write_jsonl(tmp_path / "a.jsonl", *rows))
    assert questions["name"][:] == ["B", "A"]


def test_a_given_name_is_spelled_as_in_the_corpus(tmp_path):
    source = write_jsonl(tmp_path / "a.jsonl", {"question": "Home of Davis?", "answer": "X", "name": "Sammy Davis Jr"})
    assert load_questions(source, names=NameFinder(["Sammy Davis Jr.", "Davis"]))["name"][:] == ["Sammy Davis Jr."]


@pytest.mark.parametrize(
    ("row", "relation"),
    [
        ({"question": "Home of Bo Li?", "name": "Bo Li"}, "Home of {name}?"),
        ({"question": "Home of Bo Li?", "name": "Bo Li", "relation": "home"}, "home"),
        ({"question": "Home of Bo Li?", "name": ""}, ""),
    ],
)
def test_without_a_column_the_relation_is_the_question_without_its_name(row, relation):
    assert relation_in(row) == relation


BAD_ROWS = {
    "text": ({"question": "Who?", "answers": "Ada"}, "line 1: 'answers' must be a list such as"),
    "number": ({"question": "Who?", "answers": 3}, "line 1: 'answers' must be a list such as"),
    "empty-list": ({"question": "Who?", "answers": []}, "line 1: empty answer"),
    "empty-among-others": ({"question": "Who?", "answers": ["Ada", " "]}, "line 1: empty answer"),
    "number-among-others": ({"question": "Who?", "answers": ["Ada", 1]}, "line 1: expected text, found int 1"),
    "name": ({"question": "Who?", "answer": "Ada", "name": 7}, "line 1: expected text, found int 7"),
}


@pytest.mark.parametrize(("row", "message"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_bad_columns_are_refused_with_their_line(tmp_path, row, message):
    with pytest.raises(ValueError, match=message):
        load_questions(write_jsonl(tmp_path / "a.jsonl", row))


def test_a_question_with_two_relations_is_refused(tmp_path):
    rows = [{"question": "Who?", "answer": "Ada", "relation": relation} for relation in ("poet", "maid")]
    with pytest.raises(ValueError, match=r"line 2: the relation 'maid', but .*line 1 has 'poet'"):
        load_questions(write_jsonl(tmp_path / "a.jsonl", *rows))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question\tanswer\tname\nWho?\tAda\n", "line 2: 2 columns, but the header has 3"),
        ("question\tanswer\tanswer\nWho?\tAda\tBo\n", "line 1: two columns of the same name"),
        ("Who?\tAda\tBo\n", "line 1: 3 columns; .*a header that contains 'question'"),
    ],
)
def test_a_tsv_whose_header_does_not_fit_is_refused(tmp_path, text, message):
    (tmp_path / "a.tsv").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_questions(str(tmp_path / "a.tsv"))


def test_questions_with_two_names_are_counted_unless_a_column_says_which(tmp_path, caplog):
    names = NameFinder(["Ada Byron", "Bo Li", "Ada"])
    asked = "Is Ada Byron the boss of Bo Li?"
    load_questions(write_jsonl(tmp_path / "a.jsonl", {"question": asked, "answer": "no", "name": "Bo Li"}), names=names)
    assert "several names" not in caplog.text
    load_questions(write_jsonl(tmp_path / "a.jsonl", {"question": asked, "answer": "no"}), names=names)
    assert f"1 questions contain several names, first {asked!r} ('Ada Byron', 'Bo Li')" in caplog.text


def test_a_name_within_a_name_is_no_second_name(tmp_path, caplog):
    source = write_jsonl(tmp_path / "a.jsonl", {"question": "Home of Ada Byron?", "answer": "Rome"})
    assert load_questions(source, names=NameFinder(["Ada Byron", "Ada"]))["name"][:] == ["Ada Byron"]
    assert not caplog.records


@pytest.mark.parametrize(
    ("names", "other"),
    [
        (["Ada", "Ada Byron"], "Ada Byron"),
        (["Ada Byron", "Ada"], "Ada Byron"),
        (["Ada", "Lady Ada Jr."], "Lady Ada Jr."),
        # a part of a word is no name
        (["Ada", "Adana"], None),
        (["Ada", "Ada."], None),
    ],
)
def test_questions_with_a_name_that_is_part_of_another_are_counted(tmp_path, caplog, names, other):
    rows = [{"question": f"{what} of Ada?", "answer": "Rome"} for what in ("Home", "Job")]
    assert load_questions(write_jsonl(tmp_path / "a.jsonl", *rows), names=NameFinder(names))["name"][:] == ["Ada"] * 2
    message = f"2 questions contain a name that is part of another, first 'Home of Ada?' ('Ada', {other!r})"
    assert (message in caplog.text) == (other is not None)
    caplog.clear()
    load_questions(write_jsonl(tmp_path / "b.jsonl", *(row | {"name": "Ada"} for row in rows)), names=NameFinder(names))
    (tmp_path / "c.tsv").write_text("Where was Ada born?\tRome\n")
    load_questions(str(tmp_path / "c.tsv"), names=NameFinder(names))
    assert not caplog.records


def test_relations_with_one_question_are_counted(caplog):
    rows = [
        {"question": f"{what} of {name}?", "name": name} for what, name in (("Home", "A"), ("Home", "B"), ("Job", "C"))
    ]
    warn_rare_relations("a.tsv", rows[:2])
    warn_rare_relations("a.tsv", rows[2:])
    assert not caplog.records
    warn_rare_relations("a.tsv", rows)
    assert "a.tsv: 1 of 2 relations have one question, first 'Job of C?'" in caplog.text
