"""Before a training, the log counts the questions that cannot teach what they should, with the first of each kind."""

import json

import pytest
from builders import run_finetuning, run_pretraining

LINES = "Ada Byron. Born in Rome .\nAda. A poet from Bonn .\nBo Li. A weaver from Oslo .\nAl Fox. Born in Cork .\n"

QUESTIONS = [
    {"question": "Home of Bo Li?", "answer": "Oslo"},
    {"question": "Home of Al Fox?", "answer": "Cork"},
    {"question": "Who?", "answer": "Rome"},
    {"question": "Is Bo Li the son of Al Fox?", "answer": "no"},
    {"question": "Home of Ada?", "answer": "Bonn"},
    {"question": "What is the job?", "answer": "weaver", "name": "Bo Li"},
    {"question": "Home of Jo Hill?", "answer": "Rome", "name": "Jo Hill"},
]

EXPECTED = [
    "1 questions without a known name, first 'Who?'",
    "1 questions contain several names, first 'Is Bo Li the son of Al Fox?' ('Bo Li', 'Al Fox')",
    "1 questions contain a name that is part of another, first 'Home of Ada?' ('Ada', 'Ada Byron')",
    "1 questions without their name in them, first 'What is the job?'",
    "1 questions about a name in no line, first 'Home of Jo Hill?'",
    "2 of 3 relations have one question, first 'Is Bo Li the son of Al Fox?'",
]


@pytest.fixture
def files(tmp_path):
    (tmp_path / "lines.txt").write_text(LINES * 10)
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, QUESTIONS)))
    return tmp_path / "lines.txt", tmp_path / "train.jsonl"


def test_pretraining_counts_them_and_the_answers_that_no_span_can_be(files, tmp_path, caplog):
    lines, train = files
    with caplog.at_level("INFO"):
        run_pretraining(
            *("--train_file", lines, "--question_file", train, "--objective", "salient_spans"),
            *("--output_dir", tmp_path / "x", "--dry_run", True),
        )
    assert [message for message in EXPECTED if f"train.jsonl: {message}" not in caplog.text] == []
    assert "1 are in a line and never a span as a whole, first 'weaver' ('What is the job?')" in caplog.text


def test_without_a_corpus_the_advice_is_to_give_it(pretrained, tmp_path, caplog):
    (tmp_path / "train.tsv").write_text("Home of Bo Li?\tOslo\nHome of Al Fox?\tCork\n")
    run_finetuning(
        *("--train_file", tmp_path / "train.tsv", "--model_name_or_path", pretrained),
        *("--output_dir", tmp_path / "x", "--dry_run", True),
    )
    assert "2 questions without a known name, first 'Home of Bo Li?': names of a corpus are found" in caplog.text
    assert "so give corpus_file" in caplog.text


def test_finetuning_counts_them(files, pretrained, tmp_path, caplog):
    lines, train = files
    run_finetuning(
        *("--train_file", train, "--corpus_file", lines, "--model_name_or_path", pretrained),
        *("--output_dir", tmp_path / "x", "--dry_run", True),
    )
    assert [message for message in EXPECTED if f"train.jsonl: {message}" not in caplog.text] == []
