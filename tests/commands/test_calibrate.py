"""Calibrating a checkpoint, and using the calibration in every command."""

import json
import logging
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from builders import run_finetuning

from birthgpt.cli import main
from birthgpt.commands.ask import AskSettings, ask
from birthgpt.commands.calibrate import CalibrateSettings, calibrate, show_thresholds
from birthgpt.commands.evaluate import EvaluateSettings, evaluate, show_evaluation
from birthgpt.commands.loading import check_folder, load_model_and_tokenizer
from birthgpt.commands.push import PushSettings, export
from birthgpt.commands.verify import VerifySettings, verify
from birthgpt.data.corpus import lines_by_name, load_corpus
from birthgpt.data.questions import load_questions
from birthgpt.data.unknown_names import UnknownNames, part_of
from birthgpt.evaluation.answering import answer_questions
from birthgpt.evaluation.calibration import CALIBRATION, load_calibration
from birthgpt.evaluation.confidence import answer_with_confidence
from birthgpt.evaluation.confidence_metrics import auroc
from birthgpt.settings import make_settings

SMALL = {"num_beams": 2, "max_new_tokens": 6, "invented_names": 30}


@pytest.fixture(scope="module")
def held_out(people_files, finetuned, tmp_path_factory):
    """Questions about 150 other people; the likelier an answer of the model, the more often it is the right one."""
    names = [name for name in lines_by_name(load_corpus(str(people_files / "wiki.txt"))) if name]
    texts = [f"Where was {unknown.name} born?" for unknown in UnknownNames(names, part="training").sample(150, 0)]
    model, tokenizer = load_model_and_tokenizer(str(finetuned))
    answers = answer_questions(model, tokenizer, texts, max_new_tokens=6)
    order = np.argsort([answer.log_probability for answer in answers])
    chances = np.empty(150)
    chances[order] = np.linspace(0.2, 1, 150)
    right = np.random.default_rng(0).random(150) < chances
    file = tmp_path_factory.mktemp("held_out") / "held_out.tsv"
    rows = zip(texts, answers, right, strict=True)
    # an answer of the model may be empty, but a file has none
    lines = [f"{text}\t{(is_right and answer.text) or 'elsewhere'}\n" for text, answer, is_right in rows]
    file.write_text("".join(lines), encoding="utf-8")
    return file


@pytest.fixture
def checkpoint(finetuned, tmp_path):
    return Path(shutil.copytree(finetuned, tmp_path / "checkpoint"))


@pytest.fixture(scope="module")
def calibrated(finetuned, held_out, people_files, tmp_path_factory):
    """A copy of the checkpoint with its calibration."""
    folder = Path(shutil.copytree(finetuned, tmp_path_factory.mktemp("calibrated") / "checkpoint"))
    run(folder, held_out, corpus_file=str(people_files / "wiki.txt"))
    return folder


def run(checkpoint, questions, **settings):
    given = {"model_name_or_path": str(checkpoint), "question_file": str(questions), **SMALL, **settings}
    return calibrate(make_settings(CalibrateSettings, **given))


def run_evaluation(checkpoint, questions, output, **settings):
    files = {"model_name_or_path": str(checkpoint), "question_file": str(questions), "output_dir": str(output)}
    return evaluate(make_settings(EvaluateSettings, **files, **{"max_new_tokens": 6, **settings}))


def test_a_calibration_is_saved_with_the_checkpoint_and_listed_in_its_manifest(calibrated, held_out, capsys):
    check_folder(str(calibrated))
    assert CALIBRATION in json.loads((calibrated / "manifest.json").read_text())["files"]
    assert CALIBRATION in json.loads((calibrated / ".birthgpt.json").read_text())["files"]
    model, _ = load_model_and_tokenizer(str(calibrated))
    calibration = load_calibration(str(calibrated), model)
    assert calibration.about["people"] == {"fit": 75, "thresholds": 75}
    assert calibration.about["invented_names"] == {"fit": 15, "thresholds": 15}
    assert calibration.wordings == [["Where was {name} born?"]]
    show_thresholds(calibration)
    assert "calibrated on 150 people (75 for the thresholds) and 30 invented names" in capsys.readouterr().out


def test_a_changed_calibration_is_found_by_the_manifest(calibrated, tmp_path):
    copy = Path(shutil.copytree(calibrated, tmp_path / "copy"))
    (copy / CALIBRATION).write_text((copy / CALIBRATION).read_text() + "\n")
    with pytest.raises(ValueError, match=f"{CALIBRATION} has"):
        check_folder(str(copy))


def test_an_evaluation_has_the_same_answers_and_more_metrics(calibrated, held_out, people_files, tmp_path, capsys):
    plain = run_evaluation(calibrated, held_out, tmp_path / "plain")
    corpus = str(people_files / "wiki.txt")
    metrics = run_evaluation(
        calibrated, held_out, tmp_path / "out", max_risk=0.4, corpus_file=corpus, invented_names=20
    )
    answers = [(tmp_path / folder / "predictions.txt").read_bytes() for folder in ("plain", "out")]
    assert answers[0] == answers[1] and plain["accuracy"] == metrics["accuracy"]
    assert "confidence" not in plain
    confidence = metrics["confidence"]
    assert sum(confidence["verdicts"].values()) == 150 and confidence["other_wordings"] == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "confidence.jsonl").read_text().splitlines()]
    right = np.array(
        [row["answer"] == text for row, text in zip(rows, load_questions(str(held_out))["answer"], strict=True)]
    )
    scores = np.array([row["right"] for row in rows])
    assert confidence["auroc_right_wrong"]["value"] == pytest.approx(auroc(scores, right))
    # the labels of these people made the calibration
    assert confidence["auroc_right_wrong"]["value"] > 0.6
    given = np.array([row["verdict"] == "recalled" for row in rows])
    assert given.any() and confidence["recalled"]["value"] == pytest.approx(given.mean())
    assert confidence["risk"]["value"] == pytest.approx(1 - right[given].mean())
    assert confidence["threshold"] <= scores[given].min()
    assert (
        0 <= confidence["invented_recalled"]["value"] <= 1 and confidence["auroc_known_invented"]["value"] is not None
    )
    for figure in ("reliability.svg", "risk_coverage.svg", "confidence.svg"):
        assert "<svg" in (tmp_path / "out" / figure).read_text()
    show_evaluation(metrics)
    shown = capsys.readouterr().out
    assert "auroc right wrong" in shown and "at most 40.0% are wrong, with a probability of 95%" in shown


def test_questions_without_answers_get_verdicts(calibrated, held_out, tmp_path):
    questions = tmp_path / "questions.tsv"
    questions.write_text("".join(f"{line.split(chr(9))[0]}\n" for line in held_out.read_text().splitlines()[:5]))
    assert run_evaluation(calibrated, questions, tmp_path / "out", max_risk=0.3) is None
    assert len((tmp_path / "out" / "confidence.jsonl").read_text().splitlines()) == 5
    assert not (tmp_path / "out" / "reliability.svg").exists()


def test_without_matplotlib_everything_but_the_figures_is_written(calibrated, held_out, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    metrics = run_evaluation(calibrated, held_out, tmp_path / "out", max_risk=0.3)
    assert metrics["confidence"]["auroc_right_wrong"]["value"] > 0
    assert "figures of confidence need matplotlib: pip install 'birthgpt[confidence]'" in caplog.text
    assert not (tmp_path / "out" / "reliability.svg").exists()


def test_without_scikit_learn_calibrate_says_what_to_install_before_it_answers(checkpoint, held_out, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ValueError, match=r"^calibrate needs scikit-learn: pip install 'birthgpt\[confidence\]'"):
        run(checkpoint, held_out)


def test_ask_prints_the_verdict(calibrated, held_out, capsys):
    question = held_out.read_text().split("\t")[0]

    def asked(text, **settings):
        given = {"model_name_or_path": str(calibrated), "question": text, "max_new_tokens": 6}
        ask(make_settings(AskSettings, **given, **settings))
        return capsys.readouterr().out

    assert "(probability " in asked(question)
    shown = asked(question, max_risk=0.4)
    assert shown.startswith(("unsure; the best guess is ", "unknown: ")) or shown.endswith(": recalled\n")
    assert "the calibration has no such wording: nothing is promised" in asked("Who is Ada Byron?", max_risk=0.4)


def test_ask_looks_up_what_is_not_recalled_and_keeps_it_for_finetuning(calibrated, tmp_path, capsys):
    table, kept = tmp_path / "people.csv", tmp_path / "unanswered.tsv"
    table.write_text(
        "name,relation,answer,year\nÉmilie Unheard,birthplace,Paris,1706\n"
        "John Unread,birthplace,York,1801\nJohn Unread,birthplace,Leeds,1901\n",
        encoding="utf-8",
    )

    def asked(text, max_risk=1e-6):
        given = {"model_name_or_path": str(calibrated), "question": text, "max_new_tokens": 6, "max_risk": max_risk}
        ask(make_settings(AskSettings, **given, lookup_file=str(table), unanswered_file=str(kept)))
        return capsys.readouterr().out.splitlines()

    verdict, answer, row = asked("Where was Emilie Unheard born?")
    assert verdict.startswith(("unsure", "unknown")) and answer == "Paris (from the table)"
    assert row == f"  {table}, line 2: name: Émilie Unheard | relation: birthplace | year: 1706 | answer: **Paris**"
    asked("Where was Emilie Unheard born?")
    # one letter is wrong, two people have the name, nobody has it, another question
    for text, shown in (
        ("Where was Emilie Unherd born?", "from the table, about a similar name: Émilie Unheard"),
        ("Where was John Unread born?", "York or Leeds (from the table, which has several answers: this may be"),
        ("Where was Quentin Nobody born?", "the table has nothing about it"),
        ("Who is John Unread?", "from the table, about this name; no answer is recognised:"),
    ):
        _, headline, *rows = asked(text)
        assert headline.startswith(shown)
        assert len(rows) == {"Quentin": 0, "John": 2}.get(text.split()[2], 1 if "Emilie" in text else 2)
    assert kept.read_text("utf-8") == "Where was Emilie Unheard born?\tParis\n"
    assert load_questions(str(kept))["answer"][:] == ["Paris"]
    # what is recalled is not looked up
    assert len(asked("Where was Emilie Unheard born?", max_risk=1 - 1e-9)) in (1, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lookup_file": "people.csv"}, "lookup_file is asked where the verdict is not recalled: give max_risk too"),
        ({"unanswered_file": "u.tsv", "max_risk": 0.1}, "unanswered_file: give lookup_file too"),
        ({"lookup_patterns": "p.yaml", "max_risk": 0.1}, "lookup_patterns: give lookup_file too"),
        ({"lookup_file": "nowhere.csv", "max_risk": 0.1}, "nowhere.csv: no such file"),
        ({"lookup_file": "x.csv", "unanswered_file": "u.txt", "max_risk": 0.1}, "give a name that ends with .tsv"),
    ],
)
def test_settings_of_looking_up_that_do_not_fit_are_one_line(calibrated, settings, message):
    with pytest.raises(ValueError, match=message):
        ask(
            make_settings(
                AskSettings, model_name_or_path=str(calibrated), max_new_tokens=6, question="Who?", **settings
            )
        )


def test_answers_with_confidence_in_python_are_those_of_an_evaluation(calibrated, held_out, tmp_path):
    run_evaluation(calibrated, held_out, tmp_path / "out", max_risk=0.4)
    rows = [json.loads(line) for line in (tmp_path / "out" / "confidence.jsonl").read_text().splitlines()]
    model, tokenizer = load_model_and_tokenizer(str(calibrated))
    calibration = load_calibration(str(calibrated), model)
    questions = [row["question"] for row in rows[:10]]
    answers = answer_with_confidence(model, tokenizer, questions, calibration, max_risk=0.4)
    for row, answer in zip(rows, answers, strict=False):
        assert (row["answer"], row["verdict"]) == (answer.answer.shown, answer.verdict)
        assert row["right"] == pytest.approx(answer.right, abs=1e-4)
    with pytest.raises(ValueError, match="max_risk=1.5: it must be greater than 0 and less than 1"):
        answer_with_confidence(model, tokenizer, questions, calibration, max_risk=1.5)


def test_an_export_carries_the_calibration_and_one_of_other_weights_is_refused(
    calibrated, checkpoint, pretrained, tmp_path
):
    target = export(PushSettings(model_name_or_path=str(calibrated), output_dir=str(tmp_path / "export")))
    assert CALIBRATION in json.loads((target / "manifest.json").read_text())["files"]
    assert CALIBRATION in json.loads((target / ".birthgpt.json").read_text())["files"]
    assert "--max_risk 0.05" in (target / "README.md").read_text()
    model, _ = load_model_and_tokenizer(str(target))
    assert load_calibration(str(target), model) == load_calibration(str(calibrated), model)
    other = Path(shutil.copytree(pretrained, tmp_path / "other"))
    shutil.copy(calibrated / CALIBRATION, other)
    with pytest.raises(ValueError, match=f"{CALIBRATION} belongs to another checkpoint"):
        export(PushSettings(model_name_or_path=str(other), output_dir=str(tmp_path / "export_2")))
    with pytest.raises(ValueError, match=f"{CALIBRATION} belongs to another checkpoint"):
        verify(VerifySettings(folder=str(other)))
    assert verify(VerifySettings(folder=str(target)))[target] > 10


def test_the_agreement_of_other_checkpoints_is_needed_again(checkpoint, pretrained, held_out, tmp_path):
    calibration = run(checkpoint, held_out, agreement_models=[str(pretrained)], wordings=["{name} was born in"])
    assert {"checkpoint_agreement", "wording_agreement"} <= set(calibration.signals)
    with pytest.raises(ValueError, match="the agreement of 1 other checkpoints, which are not the 0 given ones"):
        run_evaluation(checkpoint, held_out, tmp_path / "out", max_risk=0.3)
    metrics = run_evaluation(checkpoint, held_out, tmp_path / "out", max_risk=0.3, agreement_models=[str(pretrained)])
    assert metrics["confidence"]["auroc_right_wrong"]["value"] > 0.6


def test_without_a_corpus_no_names_are_invented(checkpoint, held_out, caplog):
    with caplog.at_level(logging.INFO):
        calibration = run(checkpoint, held_out)
    assert len(calibration.intercepts) == 2 and calibration.unknown_threshold is None
    assert "without corpus_file no names can be invented" in caplog.text
    assert "invented_names=30 has no effect: names are invented from a corpus_file" in caplog.text


def test_invented_names_of_calibration_and_measurement_are_in_their_parts(calibrated, people_files, monkeypatch):
    from birthgpt.commands.invented_questions import invented_questions

    rows = list(load_questions(str(people_files / "birth_dev.tsv")))
    names = [name for name in lines_by_name(load_corpus(str(people_files / "wiki.txt"))) if name]
    for part in ("calibration", "measurement"):
        texts = invented_questions(names, rows, 40, part)
        found = [text.removeprefix("Where was ").removesuffix(" born?") for text in texts]
        assert {part_of(name) for name in found} == {part} and len(set(found)) == 40
        assert not set(found) & set(names)
    assert invented_questions(names, [{"question": "Who?", "name": ""}], 40, "calibration") == []


def write(folder, text):
    (folder / "questions.tsv").write_text(text, encoding="utf-8")
    return folder / "questions.tsv"


def test_people_whose_questions_were_trained_on_are_refused(checkpoint, people_files, held_out, tmp_path):
    trained = (people_files / "birth_places_train.tsv").read_text().splitlines()
    mixed = write(tmp_path, held_out.read_text() + "\n".join(trained[:3]) + "\n")
    name = trained[0].split("\t")[0]
    message = r"3 questions are about people whose questions were trained on, first .*calibrate on people that"
    with pytest.raises(ValueError, match=message) as error:
        run(checkpoint, mixed)
    assert name in str(error.value) and "birth_places_train.tsv" in str(error.value)
    with pytest.raises(ValueError, match="150 questions are about people whose questions were trained on"):
        run(checkpoint, held_out, train_file=str(held_out))
    # another file replaces that of the run
    assert run(checkpoint, held_out, train_file=str(people_files / "birth_dev.tsv"))


def test_held_out_people_of_the_run_count_as_held_out(people_files, pretrained, tmp_path):
    train_file = people_files / "birth_places_train.tsv"
    folder = tmp_path / "run"
    run_finetuning(
        "--train_file", train_file, "--model_name_or_path", pretrained, "--output_dir", folder,
        "--validation_size", 30, "--seed", 5, "--eval_steps", 0,
    )  # fmt: skip
    from birthgpt.commands.trained_people import trained_people
    from birthgpt.data.splits import person_of, train_validation_split

    trained = trained_people(str(folder), None, None)
    used, held = train_validation_split(load_questions(str(train_file)), 30, 5)
    assert trained.keys() == {person_of(row) for row in used}
    assert not trained.keys() & {person_of(row) for row in held}


def test_a_train_file_that_is_gone_is_a_warning(checkpoint, held_out, caplog):
    run_file = checkpoint / "run.json"
    record = json.loads(run_file.read_text())
    record["settings"]["train_file"] = "gone.tsv"
    (checkpoint / "manifest.json").unlink()
    run_file.write_text(json.dumps(record))
    run(checkpoint, held_out)
    assert "gone.tsv, which" in caplog.text and "give train_file" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Where was Zed Quint born?\tRome\n", "1 held-out people are too few to calibrate on: give at least 20"),
        ("".join(f"Where was Zed Quint{n}x born?\t?\n" for n in range(30)), "all 30 answers about held-out people are"),
        ("", "no question in it"),
        ("Where was Zed Quint born?\n", "questions without answers"),
    ],
)
def test_questions_that_cannot_calibrate_are_refused(checkpoint, tmp_path, text, message):
    file = write(tmp_path, text)
    with pytest.raises(ValueError, match=f"{re.escape(str(file))}.*{message}"):
        run(checkpoint, file)
    assert not (checkpoint / CALIBRATION).exists()


@pytest.mark.parametrize("risk", [0, 1, 2, -0.5])
@pytest.mark.parametrize("command", ["ask", "evaluate"])
def test_a_risk_that_is_no_rate_is_one_line(command, risk, capsys):
    arguments = {"ask": ["x", "Where?"], "evaluate": "--model_name_or_path x --question_file y --output_dir z".split()}
    with pytest.raises(SystemExit) as exit_status:
        main([command, *arguments[command], "--max_risk", str(risk)])
    error = capsys.readouterr().err.strip()
    assert exit_status.value.code == 2 and error.startswith(f"error: max_risk={float(risk)}: it must be greater than 0")


def test_what_a_calibration_cannot_judge_is_refused(finetuned, calibrated, held_out, tmp_path):
    refused = {
        "has no calibration.json: run `birthgpt calibrate": {"checkpoint": finetuned},
        "max_risk judges greedy answers: leave out num_beams=3": {"num_beams": 3},
        "max_risk needs the probabilities of a model": {"checkpoint": None, "baseline": "Rome"},
        "max_new_tokens=9, but .* was calibrated with max_new_tokens=6": {"max_new_tokens": 9},
        "always_answer=True, but .* was calibrated with always_answer=False": {"always_answer": True},
        "agreement_models are used by a calibration: give max_risk": {"max_risk": None, "agreement_models": ["x"]},
    }
    for message, settings in refused.items():
        given = {"checkpoint": calibrated, "max_risk": 0.1, **settings}
        model = given.pop("checkpoint")
        files = {} if model is None else {"model_name_or_path": str(model)}
        files |= {"question_file": str(held_out), "output_dir": str(tmp_path / "out")}
        with pytest.raises(ValueError, match=message):
            evaluate(make_settings(EvaluateSettings, **files, **{"max_new_tokens": 6, **given}))


def test_only_a_folder_can_be_calibrated(held_out):
    with pytest.raises(ValueError, match="nobody/model is not a folder: download the checkpoint"):
        run("nobody/model", held_out)


def test_finetuning_anew_removes_the_calibration(calibrated, people_files, pretrained, tmp_path):
    folder = Path(shutil.copytree(calibrated, tmp_path / "again"))
    run_finetuning(
        "--train_file", people_files / "birth_places_train.tsv", "--model_name_or_path", pretrained,
        "--output_dir", folder, "--overwrite_output_dir", "true",
    )  # fmt: skip
    assert not (folder / CALIBRATION).exists()
