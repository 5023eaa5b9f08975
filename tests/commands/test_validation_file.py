"""Finetuning with a development file: it is asked during training, and nothing is held out."""

import json

import pytest
from builders import run_finetuning

from birthgpt.commands import evaluators
from birthgpt.data.objectives import QuestionAnswering
from birthgpt.evaluation.answering import Answer


@pytest.fixture
def files(people_files, tmp_path):
    """Train questions, and development questions with two right answers each."""
    rows = [line.split("\t") for line in (people_files / "birth_dev.tsv").read_text().splitlines()[:6]]
    lines = [json.dumps({"question": question, "answers": [answer, "Atlantis"]}) for question, answer in rows]
    (tmp_path / "dev.jsonl").write_text("\n".join(lines))
    return people_files / "birth_places_train.tsv", tmp_path / "dev.jsonl"


def texts(path):
    return {line.split("\t")[0] for line in path.read_text().splitlines()}


def test_the_development_file_is_asked_and_every_train_question_is_trained_on(files, pretrained, tmp_path, monkeypatch):
    train, development = files
    trained, asked, learn = set(), [], QuestionAnswering.__call__

    def learning(self, batch, **settings):
        trained.update(batch["question"])
        return learn(self, batch, **settings)

    def answer(model, tokenizer, questions, **settings):
        asked.append(list(questions))
        return [Answer("Atlantis", -1.0)] * len(questions)

    monkeypatch.setattr(QuestionAnswering, "__call__", learning)
    monkeypatch.setattr(evaluators, "answer_questions", answer)
    summary = run_finetuning(
        *("--train_file", train, "--validation_file", development, "--model_name_or_path", pretrained),
        *("--eval_steps", 2, "--output_dir", tmp_path / "run"),
    )
    assert trained == texts(train)
    given = [json.loads(line)["question"] for line in development.read_text().splitlines()]
    assert asked[1::2] == [given] * 3
    # the second of the right answers is enough
    assert [entry["held_out_accuracy"] for entry in summary.history if "held_out_accuracy" in entry] == [1.0] * 3


def test_a_development_file_and_held_out_questions_are_refused(files, pretrained, tmp_path):
    train, development = files
    with pytest.raises(
        ValueError, match="takes the place of held-out train questions: set validation_size to 0, not 10"
    ):
        run_finetuning(
            *("--train_file", train, "--validation_file", development, "--model_name_or_path", pretrained),
            *("--validation_size", 10, "--output_dir", tmp_path / "run"),
        )


def test_people_of_the_train_questions_are_counted_before_training(files, pretrained, tmp_path, caplog):
    train, _ = files
    run_finetuning(
        *("--train_file", train, "--validation_file", train, "--model_name_or_path", pretrained),
        *("--dry_run", True, "--output_dir", tmp_path / "run"),
    )
    assert "100 questions about a person of the train questions" in caplog.text


def test_a_run_is_not_resumed_with_other_development_questions(files, pretrained, tmp_path):
    train, development = files
    given = [
        *("--train_file", train, "--validation_file", development, "--model_name_or_path", pretrained),
        *("--save_steps", 2, "--output_dir", tmp_path / "run"),
    ]
    run_finetuning(*given)
    development.write_text(development.read_text().splitlines()[0])
    with pytest.raises(ValueError, match="another content of validation_file"):
        run_finetuning(*given, "--resume_from_checkpoint", "latest")
