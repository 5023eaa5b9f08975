"""What an evaluation says about questions of several relations."""

import json

import pytest

from birthgpt.commands.evaluate import EvaluateSettings, evaluate
from birthgpt.commands.report_answers import show_accuracy, slice_table
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
    table = slice_table("relation", counts).splitlines()
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


SPEAK = {"home": ["Home of {name}?", "Where does {name} live?"], "job": ["Job of {name}?", "What is {name}?"]}


@pytest.mark.parametrize("column", ["wording", "none", "numbers"])
@pytest.mark.parametrize("train_has_columns", [True, False])
def test_wordings_are_reported_and_whether_they_are_trained_on(tmp_path, capsys, column, train_has_columns):
    """Two wordings of two relations; the first of each is trained on."""

    def write(file, names, wordings, with_columns=True):
        rows = []
        for name in names:
            for relation in SPEAK:
                for number in wordings:
                    row = {
                        "question": SPEAK[relation][number].replace("{name}", name),
                        "answer": f"{relation} {number}",
                    }
                    given = {"wording": SPEAK[relation][number], "numbers": f"wording {number}"}.get(column)
                    columns = {"name": name, "relation": relation} | ({"wording": given} if given else {})
                    rows.append(row | (columns if with_columns else {}))
        (tmp_path / file).write_text("\n".join(map(json.dumps, rows)))
        return str(tmp_path / file)

    (tmp_path / "lines.txt").write_text("Ada Byron. x\nBo Li. x\nAl Fox. x\n")
    files = {
        "question_file": write("dev.jsonl", ["Ada Byron", "Bo Li"], (0, 1)),
        "train_file": write("train.jsonl", ["Al Fox"], (0,), train_has_columns),
        "corpus_file": str(tmp_path / "lines.txt"),
        "output_dir": str(tmp_path / "out"),
    }
    metrics = evaluate(make_settings(EvaluateSettings, baseline="home 0", **files))
    found = {
        kind: {bucket: (counts["correct"], counts["count"]) for bucket, counts in metrics["slices"][kind].items()}
        for kind in ("relation", "wording", "wording_in_train")
    }
    assert found["relation"] == {"home": (2, 4), "job": (0, 4)}
    assert found["wording_in_train"] == {"wordings trained on": (2, 4), "new wordings": (0, 4)}
    names = {
        (relation, number): f"{relation}: wording {number}" if column == "numbers" else SPEAK[relation][number]
        for relation in SPEAK
        for number in (0, 1)
    }
    assert found["wording"] == {name: (2 * (key == ("home", 0)), 2) for key, name in names.items()}
    show_accuracy(metrics)
    tables = capsys.readouterr().out.split("\n\n")
    assert [table.split("  ")[0] for table in tables[1:]] == ["relation", "wording in train", "wording"]
    assert tables[2].splitlines()[2].split() == ["wordings", "trained", "on", "50.0", "2", "4"]


def test_one_wording_that_is_trained_on_has_no_slice_and_a_new_one_has(tmp_path, corpus):
    (tmp_path / "lines.txt").write_text("Ada Byron. x\nBo Li. x\nAl Fox. x\n")
    (tmp_path / "train.tsv").write_text("Home of Al Fox?\tOslo\n")
    files = {"corpus_file": corpus, "train_file": str(tmp_path / "train.tsv")}
    assert not {"wording", "wording_in_train"} & run(tmp_path, *QUESTIONS[:2], **files)["slices"].keys()
    (tmp_path / "train.tsv").write_text("Job of Al Fox?\tOslo\n")
    by_wording = run(tmp_path, *QUESTIONS[:2], ("Who?", ["Rome"]), **files)["slices"]["wording_in_train"]
    assert {kind: counts["count"] for kind, counts in by_wording.items()} == {
        "wordings trained on": 0,
        "new wordings": 2,
        "unknown": 1,
    }


def test_the_table_of_many_wordings_is_short_and_the_metrics_have_all(tmp_path, corpus, capsys):
    asked = [(f"Home {number} of Ada Byron?", ["Rome"]) for number in range(60)]
    rows = [{"question": question, "answers": answers, "relation": "home"} for question, answers in asked]
    (tmp_path / "dev.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files = {"question_file": str(tmp_path / "dev.jsonl"), "corpus_file": corpus, "output_dir": str(tmp_path / "out")}
    metrics = evaluate(make_settings(EvaluateSettings, baseline="Rome", **files))
    assert len(metrics["slices"]["wording"]) == 60
    show_accuracy(metrics)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) < 30 and printed[-1] == "(40 more in metrics.json)"
