"""What an evaluation says about questions of several relations."""

import json

import pytest

from birthgpt.commands.evaluate import EvaluateSettings, evaluate
from birthgpt.commands.report_answers import accuracy_by_relation, show_accuracy
from birthgpt.settings import make_settings
from birthgpt.utils.tables import LONGEST_TABLE


def run(folder, *questions, baseline="Rome", **settings):
    """The metrics of a baseline on questions; each is a question and its right answers."""
    rows = [json.dumps({"question": question, "answers": answers}) for question, answers in questions]
    (folder / "dev.jsonl").write_text("\n".join(rows))
    settings = {"question_file": str(folder / "dev.jsonl"), "output_dir": str(folder / "out"), **settings}
    return evaluate(make_settings(EvaluateSettings, baseline=baseline, **settings))


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "lines.txt").write_text("Ada Byron. Born in Rome .\nBo Li. A poet in Oslo .\n")
    return str(tmp_path / "lines.txt")


QUESTIONS = [
    ("Home of Ada Byron?", ["Roma", "Rome"]),
    ("Home of Bo Li?", ["Oslo"]),
    ("Job of Bo Li?", ["the rome"]),
]


def test_the_report_prints_and_saves_the_accuracy_by_relation(tmp_path, corpus, capsys):
    metrics = run(tmp_path, *QUESTIONS, corpus_file=corpus)
    assert metrics["correct"] == 1 and metrics["normalized_match"] == metrics["f1"] == pytest.approx(2 / 3)
    show_accuracy(metrics)
    assert capsys.readouterr().out.splitlines() == [
        "Rome: 1 of 3 right, 33.3%; normalized match 66.7%, F1 66.7%",
        "",
        "relation         accuracy (%)  correct  n",
        "---------------  ------------  -------  -",
        "Home of {name}?          50.0        1  2",
        "Job of {name}?            0.0        0  1",
    ]
    saved = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert saved["slices"]["relation"] == metrics["slices"]["relation"] and saved["f1"] == metrics["f1"]


@pytest.mark.parametrize("with_corpus", [True, False])
def test_one_relation_or_none_that_is_known_has_no_table(tmp_path, corpus, capsys, with_corpus):
    asked = QUESTIONS[:2] if with_corpus else QUESTIONS
    show_accuracy(run(tmp_path, *asked, **({"corpus_file": corpus} if with_corpus else {})))
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_table_of_many_relations_shows_those_with_the_most_questions():
    counts = {f"r{number}": {"accuracy": 0.0, "correct": 0, "count": number} for number in range(1, LONGEST_TABLE + 6)}
    table = accuracy_by_relation(counts).splitlines()
    assert len(table) == LONGEST_TABLE + 3 and table[2].startswith("r45 ") and table[-1] == "(5 more in metrics.json)"


def test_the_most_common_answer_is_guessed_by_relation(tmp_path, corpus, caplog):
    train = [("Home of Al Fox?", "Oslo"), ("Job of Al Fox?", "poet"), ("Job of Jo Hill?", "poet")]
    (tmp_path / "train.tsv").write_text("".join(f"{question}\t{answer}\n" for question, answer in train))
    (tmp_path / "lines.txt").write_text("Ada Byron. x\nBo Li. x\nAl Fox. x\nJo Hill. x\n")
    files = {"corpus_file": corpus, "train_file": str(tmp_path / "train.tsv")}
    asked = [*QUESTIONS, ("Age of Bo Li?", ["70"])]
    assert run(tmp_path, *asked, baseline="most_common", **files)["correct"] == 1
    assert (tmp_path / "out" / "predictions.txt").read_text().split() == ["Oslo", "Oslo", "poet", "poet"]
    assert "1 questions are of a relation without train questions, first 'Age of Bo Li?'" in caplog.text
