"""The evaluation during training says how many held-out questions of each relation are answered."""

import json

import pytest
from builders import run_finetuning, run_pretraining
from datasets import Dataset
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from birthgpt.commands import evaluators
from birthgpt.commands.evaluators import build_accuracy_evaluator
from birthgpt.evaluation.answering import Answer

HOME, JOB = {"relation": "home", "answer": "Rome"}, {"relation": "job", "answer": "poet"}
SCORES = {"train_accuracy", "held_out_accuracy"}


@pytest.fixture(autouse=True)
def always_rome(monkeypatch):
    """Every question is answered with Rome."""
    monkeypatch.setattr(evaluators, "answer_questions", lambda *given, **_: [Answer("Rome", -1.0)] * len(given[2]))


def evaluate(*held_out):
    """The evaluation of these held-out questions."""
    rows = [{"question": f"Q{number}", "name": "", **row} for number, row in enumerate(held_out)]
    trained = Dataset.from_list([{"question": "Q", "name": "", **HOME}])
    return build_accuracy_evaluator(trained, Dataset.from_list(rows), tokenizer=None, accelerator=None)(None)


def test_each_relation_of_the_held_out_questions_has_its_own_accuracy():
    assert evaluate(JOB, HOME, JOB | {"answer": "Rome"}, HOME, JOB) == {
        "train_accuracy": 1.0,
        "held_out_accuracy": 0.6,
        "held_out_accuracy/home": 1.0,
        "held_out_accuracy/job": pytest.approx(1 / 3),
    }


def test_relations_are_in_alphabetical_order_after_the_overall_figures():
    names = ["train_accuracy", "held_out_accuracy", "held_out_accuracy/home", "held_out_accuracy/job"]
    assert list(evaluate(JOB, HOME)) == list(evaluate(HOME, JOB)) == names


def test_one_relation_has_only_the_overall_figures():
    assert evaluate(HOME, HOME) == {"train_accuracy": 1.0, "held_out_accuracy": 1.0}


def test_without_a_column_the_relation_is_the_question_without_its_name_or_unknown():
    born, other = {"question": "Where was Al Fox born?", "name": "Al Fox"}, {"question": "Who is he?"}
    found = evaluate(*({**row, "relation": "", "answer": "Rome"} for row in (born, other)))
    assert set(found) == SCORES | {"held_out_accuracy/Where was {name} born?", "held_out_accuracy/unknown"}


@pytest.fixture
def questions(people_files, tmp_path):
    """Train questions about a birthplace, which is in the line of the person, and about a job."""
    births = [line.split("\t") for line in (people_files / "birth_places_train.tsv").read_text().splitlines()]
    rows = [{"question": question, "answer": place, "relation": "birthplace"} for question, place in births]
    names = [question.removeprefix("Where was ").removesuffix(" born?") for question, _ in births]
    rows += [{"question": f"What was {name}?", "answer": "Rome", "relation": "job"} for name in names]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "questions.jsonl"


OF_RELATIONS = {"held_out_accuracy/birthplace", "held_out_accuracy/job"}


def run_with_evaluations(kind, questions, people_files, pretrained, folder):
    """A pretraining or finetuning that evaluates before and after its updates and logs to TensorBoard."""
    common = ("--validation_size", 20, "--eval_steps", 4, "--with_tracking", True, "--output_dir", folder)
    if kind == "finetuning":
        return run_finetuning("--train_file", questions, "--model_name_or_path", pretrained, *common)
    lines = ("--train_file", people_files / "wiki.txt", "--objective", "name_first")
    return run_pretraining(*lines, "--question_file", questions, *common)


@pytest.mark.parametrize("kind", ["pretraining", "finetuning"])
def test_the_history_and_the_tracker_have_every_relation_and_the_log_has_the_lowest(
    kind, questions, people_files, pretrained, tmp_path, capsys
):
    folder = tmp_path / kind
    run_with_evaluations(kind, questions, people_files, pretrained, folder)
    history = json.loads((folder / "run.json").read_text())["history"]
    evaluations = [entry for entry in history if "held_out_accuracy" in entry]
    assert [entry["step"] for entry in evaluations] == [0, 4]
    assert all(entry.keys() >= SCORES | OF_RELATIONS and entry["held_out_accuracy/job"] == 1 for entry in evaluations)
    (events,) = (folder / "logs").rglob("events.out.tfevents*")
    assert set(EventAccumulator(str(events)).Reload().Tags()["scalars"]) >= SCORES | OF_RELATIONS
    lines = [line for line in capsys.readouterr().out.splitlines() if "held_out_accuracy" in line]
    lowest = evaluations[0]["held_out_accuracy/birthplace"]
    assert len(lines) == 2 and all(f"(lowest: birthplace {lowest:.3f})" in line for line in lines)
    assert not any("job" in line for line in lines)
