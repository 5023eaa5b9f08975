"""The files that probes and ensembles of checkpoints write."""

import json

import pytest
from builders import run_finetuning

from birthgpt.commands.ensemble import EnsembleSettings, ensemble
from birthgpt.commands.evaluate import EvaluateSettings, evaluate
from birthgpt.commands.labels import LabelSettings, is_readable, label_questions
from birthgpt.commands.probe import ProbeSettings, probe, show_recall
from birthgpt.commands.report_answers import Questions, ReportSettings
from birthgpt.data.corpus import load_corpus
from birthgpt.data.names import normalize, text_after_name
from birthgpt.data.questions import load_questions
from birthgpt.evaluation.answering import Answer
from birthgpt.settings import make_settings


def test_a_probe_writes_a_row_for_each_kind_of_prompt(people_files, pretrained, tmp_path):
    files = {"question_file": str(people_files / "birth_dev.tsv"), "corpus_file": str(people_files / "wiki.txt")}
    settings = make_settings(ProbeSettings, model_name_or_path=str(pretrained), output_dir=str(tmp_path), **files)
    rows, by_relation = probe(settings)
    assert not by_relation and len(rows) == 4 and all(row["total"] == 20 for row in rows)
    assert all(row["recall@1"] <= row["recall@3"] <= row["recall@10"] <= row["recall@30"] <= 1 for row in rows)
    assert json.loads((tmp_path / "probe.json").read_text())["rows"] == rows


def test_a_probe_of_people_that_are_not_in_the_corpus_is_refused(people_files, pretrained, tmp_path):
    (tmp_path / "questions.tsv").write_text("Where was Nobody born?\tNowhere\n")
    with pytest.raises(ValueError, match="no answer of .*questions.tsv is in the line"):
        probe(
            make_settings(
                ProbeSettings,
                model_name_or_path=str(pretrained),
                question_file=str(tmp_path / "questions.tsv"),
                corpus_file=str(people_files / "wiki.txt"),
                output_dir=str(tmp_path),
            )
        )


def test_a_probe_refuses_a_question_that_is_longer_than_the_model_takes(people_files, pretrained, tmp_path):
    question, answer = (people_files / "birth_dev.tsv").read_text(encoding="utf-8").splitlines()[0].split("\t")
    (tmp_path / "questions.tsv").write_text(f"{'x ' * 5000}{question}\t{answer}\n")
    files = {"question_file": str(tmp_path / "questions.tsv"), "corpus_file": str(people_files / "wiki.txt")}
    with pytest.raises(ValueError, match="questions.tsv: question 1 of 1, .* but the model takes at most"):
        probe(make_settings(ProbeSettings, model_name_or_path=str(pretrained), output_dir=str(tmp_path), **files))


def test_a_probe_counts_any_right_answer_and_reports_by_relation(people_files, pretrained, tmp_path, capsys):
    """The reference probes each relation, and each right answer, alone; the best of them counts."""
    lines = load_corpus(str(people_files / "wiki.txt")).select(range(6))
    words = {line["name"]: text_after_name(line["text"], line["name"]).rstrip(" .").split() for line in lines}
    rows = [
        {"question": f"{relation} {name}?", "answers": answers, "name": name, "relation": relation}
        for name, of_line in words.items()
        for relation, answers in (("first", of_line[:1]), ("last", [of_line[-1], "nowhere"]))
    ]
    rows[1]["answers"].reverse()

    def run(name, rows):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        files = {"question_file": str(tmp_path / f"{name}.jsonl"), "corpus_file": str(people_files / "wiki.txt")}
        output = {"model_name_or_path": str(pretrained), "output_dir": str(tmp_path / name)}
        return probe(make_settings(ProbeSettings, **files, **output))

    recall = run("all", rows)
    assert {row["total"] for row in recall.rows} == {12}
    alone = {
        relation: run(relation, [row for row in rows if row["relation"] == relation]) for relation in ("first", "last")
    }
    assert recall.by_relation == {relation: found.rows for relation, found in alone.items()}
    assert json.loads((tmp_path / "all" / "probe.json").read_text())["by_relation"] == recall.by_relation
    show_recall(recall)
    table = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert [line.split()[:2] for line in table[2:]] == [[name, kind] for name in alone for kind in ("name", "question")]


def test_an_ensemble_writes_predictions_metrics_and_labelled_questions(people_files, finetuned, tmp_path):
    arguments = make_settings(
        EnsembleSettings,
        model_names_or_paths=[str(finetuned), str(finetuned)],
        question_file=str(people_files / "birth_dev.tsv"),
        train_file=str(people_files / "birth_places_train.tsv"),
        corpus_file=str(people_files / "wiki.txt"),
        label_names="Where was {name} born?",
        output_dir=str(tmp_path),
        max_new_tokens=8,
    )
    metrics = ensemble(arguments)
    assert json.loads((tmp_path / "metrics.json").read_text())["accuracy"] == metrics["accuracy"]
    assert len((tmp_path / "predictions.txt").read_text().splitlines()) == metrics["total"] == 20
    alone = json.loads((finetuned / "run.json").read_text())
    assert metrics["parameters"] == 2 * alone["parameters"]


def test_labels_are_the_known_answers_and_the_ensemble_answers_for_all_others(
    people_files, finetuned, tmp_path, monkeypatch
):
    def answer(members, questions, **settings):
        # the fourth answer is empty
        return [Answer("" if index == 3 else f"Place {question}", -1.0) for index, question in enumerate(questions)]

    monkeypatch.setattr("birthgpt.commands.ensemble.ensemble_answers", answer)
    ensemble(
        make_settings(
            EnsembleSettings,
            model_names_or_paths=[str(finetuned)],
            question_file=str(people_files / "birth_dev.tsv"),
            train_file=str(people_files / "birth_places_train.tsv"),
            corpus_file=str(people_files / "wiki.txt"),
            label_names="Where was {name} born?",
            output_dir=str(tmp_path),
        )
    )
    train, dev, labelled = (
        [line.split("\t") for line in path.read_text().splitlines()]
        for path in (people_files / "birth_places_train.tsv", people_files / "birth_dev.tsv", tmp_path / "labelled.tsv")
    )
    assert labelled[: len(train)] == train
    others = labelled[len(train) :]
    assert len(others) == len(dev) - 1 and {question for question, _ in others} < {question for question, _ in dev}
    assert all(place == f"Place {question}" for question, place in others)


@pytest.mark.parametrize(
    ("answer", "cell"),
    [
        ("New\u00a0York", "New York"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("👩\u200d🚀", "👩\u200d🚀"),
        ("soft\u00adly", "softly"),
        ("", None),
        ("\u200b", None),
        ("Rome\tBonn", None),
        ("Rome\nBonn", None),
        ("Rome⁇", None),
    ],
)
def test_labels_are_kept_if_they_can_be_read_again(tmp_path, answer, cell):
    assert is_readable(answer) == (cell is not None)
    if cell is not None:
        (tmp_path / "labelled.tsv").write_text(f"Who?\t{normalize(answer)}\n", encoding="utf-8")
        assert load_questions(str(tmp_path / "labelled.tsv"))["answer"][:] == [cell]


def test_labels_leave_out_known_people_however_they_are_written(tmp_path, caplog):
    (tmp_path / "lines.txt").write_text("Sammy Davis Jr. Born in Harlem .\nBo Li. Born in Bonn .\nAl Fox. Born .\n")
    (tmp_path / "train.tsv").write_text("Where was Sammy Davis Jr born?\tHarlem\n")
    settings = ReportSettings(
        question_file=str(tmp_path / "train.tsv"),
        train_file=str(tmp_path / "train.tsv"),
        corpus_file=str(tmp_path / "lines.txt"),
        output_dir=str(tmp_path),
    )
    labels = LabelSettings(label_names="Where was {name} born?")
    answers = [Answer("Bonn", -1.0), Answer("\t", -1.0)]
    name, content = label_questions(labels, Questions.load(settings), "", lambda questions: answers)
    assert (name, content) == (
        "labelled.tsv",
        "Where was Sammy Davis Jr born?\tHarlem\nWhere was Bo Li born?\tBonn\n",
    )
    assert "labels: 1 of 2 answers are left out" in caplog.text


@pytest.fixture
def column_files(tmp_path):
    """A corpus without names in its lines, and questions in another form."""
    people = {"Bo Li": "Bonn", "Al Fox": "Rome", "Jo Hill": "Oslo", "Ann Bell": "Cork"}
    rows = "".join(f"{name},He was born in {place} .\n" for name, place in people.items())
    (tmp_path / "lines.csv").write_text(f"person,bio\n{rows}")
    forms = ["Home of {}?", "Where was {} born?"]
    (tmp_path / "questions.tsv").write_text(
        "".join(f"{form.format(name)}\t{place}\n" for form in forms for name, place in people.items())
    )
    return {
        "corpus_file": str(tmp_path / "lines.csv"),
        "text_column": "bio",
        "name_column": "person",
    }, str(tmp_path / "questions.tsv")


def test_every_command_takes_the_columns_of_its_corpus(column_files, finetuned, tmp_path, caplog):
    columns, questions = column_files
    model = {"model_name_or_path": str(finetuned)}
    metrics = evaluate(
        make_settings(
            EvaluateSettings, **columns, **model, question_file=questions, output_dir=str(tmp_path), max_new_tokens=2
        )
    )
    assert metrics["slices"]["answer_end"]["0-24"]["count"] == 8
    settings = make_settings(ProbeSettings, **columns, **model, question_file=questions, output_dir=str(tmp_path))
    rows = probe(settings).rows
    assert all(row["total"] == 8 for row in rows)
    files = ("--train_file", questions, "--output_dir", tmp_path / "x", "--model_name_or_path", finetuned)
    given = [item for name, value in columns.items() for item in (f"--{name}", value)]
    run_finetuning(*files, *given, "--validation_size", 2)
    assert "no known name" not in caplog.text and "in no line" not in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_names": "Where was {name} born?"}, "label_names needs train_file and corpus_file"),
        ({"label_names": "Where?", "train_file": "birth_places_train.tsv", "corpus_file": "wiki.txt"}, "Where\\?'"),
        ({"label_names": ["Is {name} {job}?"]}, "{job} is no field: a question has the field {name}"),
        ({"held_out_file": ["birth_dev.tsv"]}, "held_out_file leaves people out of the labels: give label_names"),
    ],
)
def test_labels_need_names_and_a_question(people_files, finetuned, tmp_path, settings, message):
    settings = {
        key: value if key in ("label_names", "held_out_file") else str(people_files / value)
        for key, value in settings.items()
    }
    with pytest.raises(ValueError, match=message):
        ensemble(
            make_settings(
                EnsembleSettings,
                model_names_or_paths=[str(finetuned)],
                question_file=str(people_files / "birth_dev.tsv"),
                output_dir=str(tmp_path),
                **settings,
            )
        )


@pytest.mark.parametrize(
    "gap", ["\t", "\n", "\r\n", "\r", "\x1c", "\x85", "\u2028", "\tParis\n", "\nWhere was Eve born?\tRome\n"]
)
def test_a_name_and_an_answer_cannot_forge_a_row_of_labels(finetuned, tmp_path, monkeypatch, gap):
    name = f"Ada{gap}Byron"
    rows = {
        "corpus.json": {"text": f"{name}. Born in London .", "name": name},
        "train.json": {"question": f"Where was Zoe{gap}Bell born?", "answer": f"New{gap}York"},
    }
    for file, row in rows.items():
        (tmp_path / file).write_text(json.dumps([row]))
    settings = make_settings(
        EnsembleSettings,
        model_names_or_paths=[str(finetuned)],
        question_file=str(tmp_path / "train.json"),
        train_file=str(tmp_path / "train.json"),
        corpus_file=str(tmp_path / "corpus.json"),
        name_column="name",
        label_names="Where was {name} born?",
        output_dir=str(tmp_path / "out"),
    )

    def answers(members, questions, **_):
        return [Answer(f"Lon{gap}don", -1.0)] * len(questions)

    monkeypatch.setattr("birthgpt.commands.ensemble.ensemble_answers", answers)
    ensemble(settings)
    labelled = load_questions(str(tmp_path / "out" / "labelled.tsv"))
    # the answer of the ensemble has a line break or a control character, and is left out
    assert set(labelled["question"]) <= {" ".join(f"Where was {who} born?".split()) for who in (name, f"Zoe{gap}Bell")}
    assert " ".join(f"New{gap}York".split()) in labelled["answer"][:]
    assert "Eve" not in {row["name"] for row in labelled} and len(labelled) <= 2
