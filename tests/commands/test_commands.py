"""The runs of the commands, end to end on a few synthetic people."""

import json
import shutil

import pytest
import torch
from builders import LINES, run_finetuning, run_pretraining
from processes import in_two_processes
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from birthgpt.cli import find_command
from birthgpt.commands import evaluators
from birthgpt.commands.compare import CompareSettings, compare
from birthgpt.commands.evaluate import EvaluateSettings, evaluate
from birthgpt.commands.report_answers import training_cost
from birthgpt.data.objectives import QuestionAnswering
from birthgpt.settings import make_settings
from birthgpt.utils.files import save_json


def ask(people_files, output_dir, **settings):
    return evaluate(
        make_settings(
            EvaluateSettings,
            **{"question_file": str(people_files / "birth_dev.tsv"), **settings},
            output_dir=str(output_dir),
            train_file=str(people_files / "birth_places_train.tsv"),
            corpus_file=str(people_files / "wiki.txt"),
        )
    )


@pytest.mark.parametrize("objective", ["span_corruption", "language_modeling", "name_first", "salient_spans"])
@pytest.mark.parametrize("streaming", [False, True])
def test_every_objective_trains_streamed_or_not(people_files, tmp_path, objective, streaming):
    summary = run_pretraining(
        "--train_file", people_files / "wiki.txt", "--objective", objective, "--streaming", streaming,
        "--output_dir", tmp_path,
    )  # fmt: skip
    assert summary.steps == 4 and summary.loss < 7


@pytest.mark.parametrize("attention_type", ["synthesizer", "perceiver", "linformer", "abc", "bigbird", "performer"])
def test_every_attention_of_the_assignments_trains_is_finetuned_and_answers(people_files, tmp_path, attention_type):
    settings = ["--attention_type", attention_type, "--num_hidden_layers", 2]
    summary = run_pretraining(
        *settings, "--objective", "name_first", "--objective_layout", "unrolled",
        "--train_file", people_files / "wiki.txt", "--output_dir", tmp_path / "pretrained",
    )  # fmt: skip
    assert summary.steps == 4 and summary.loss < 7
    run_finetuning(
        "--model_name_or_path", tmp_path / "pretrained", "--train_file", people_files / "birth_places_train.tsv",
        "--output_dir", tmp_path / "finetuned",
    )  # fmt: skip
    assert ask(people_files, tmp_path / "answers", model_name_or_path=str(tmp_path / "finetuned"))["total"] == 20


def losses_and_targets(corpus, output_dir, *settings):
    """The loss of each update, and the number of targets, of a pretraining without dropout."""
    summary = run_pretraining(
        *("--train_file", corpus, "--output_dir", output_dir, "--objective", "name_first", "--logging_steps", 1),
        *("--max_train_steps", 20, "--hidden_dropout", 0, "--attention_dropout", 0, *settings),
    )
    return [entry["loss"] for entry in summary.history], summary.target_ratio * summary.tokens


@pytest.mark.slow
def test_two_processes_and_two_accumulated_batches_train_as_one(people_files, tmp_path):
    # 37 lines, so that the last batches of an epoch are uneven
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("".join((people_files / "wiki.txt").read_text().splitlines(keepends=True)[:37]))
    losses, targets = losses_and_targets(corpus, tmp_path / "one")
    assert len(losses) == 20
    others = in_two_processes(losses_and_targets, corpus, tmp_path / "two_processes")
    others.append(losses_and_targets(corpus, tmp_path / "accumulated", "--gradient_accumulation_steps", 2))
    for other_losses, other_targets in others:
        assert other_losses == pytest.approx(losses, abs=1e-5)
        assert other_targets == pytest.approx(targets)


def pretrain_with_and_without_questions(people_files, folder, question_ratio):
    """The summaries with questions (`folder/with`) and without (`folder/without`), and the evaluations of the first."""
    arguments = ["--train_file", people_files / "wiki.txt", "--objective", "name_first"]
    plain = run_pretraining(*arguments, "--output_dir", folder / "without")
    asked = run_pretraining(
        *arguments, "--question_file", people_files / "birth_places_train.tsv", "--question_ratio", question_ratio,
        "--validation_size", 10, "--eval_steps", 2, "--output_dir", folder / "with",
    )  # fmt: skip
    evaluations = [entry for entry in asked.history if "held_out_accuracy" in entry]
    assert [entry["step"] for entry in evaluations] == [0, 2, 4] and all(
        "train_accuracy" in entry for entry in evaluations
    )
    return asked, plain, evaluations


def test_train_questions_are_mixed_into_pretraining(people_files, tmp_path):
    mixed, plain, _ = pretrain_with_and_without_questions(people_files, tmp_path, 0.5)
    # only the answer of a question is a target
    assert mixed.target_ratio < plain.target_ratio - 0.1


def test_words_of_the_train_questions_are_mixed_into_the_cues_of_pretraining(people_files, tmp_path):
    questions = tmp_path / "questions.jsonl"
    wordings = {"birthplace": "In which place was {} born?", "workplace": "In which place does {} work?"}
    names = [line.split(". ")[0] for line in (people_files / "wiki.txt").read_text(encoding="utf-8").splitlines()]
    rows = [
        {"question": wording.format(name), "answer": "Rome", "relation": relation}
        for name in dict.fromkeys(names)
        for relation, wording in wordings.items()
    ]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    losses = [
        run_pretraining(
            "--train_file", people_files / "wiki.txt", "--objective", "salient_spans", "--question_file", questions,
            "--cue_before_name_probability", 1, "--cue_question_words", number, "--output_dir", tmp_path / str(number),
        ).loss
        for number in (0, 3)
    ]  # fmt: skip
    assert losses[0] != losses[1]


def test_evaluations_do_not_change_the_training(people_files, tmp_path):
    evaluated, plain, evaluations = pretrain_with_and_without_questions(people_files, tmp_path, 0)
    assert (evaluated.loss, evaluated.target_ratio) == (plain.loss, plain.target_ratio)
    for evaluation in evaluations:
        recalls = [evaluation[f"name_recall@{limit}"] for limit in (1, 3, 10, 30)]
        assert recalls == sorted(recalls) and 0 <= recalls[0] <= recalls[-1] <= 1
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("with", "without")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_a_checkpoint_contains_all_files_for_loading_and_its_metadata(pretrained):
    names = {path.name for path in pretrained.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "run.json"} <= names
    record = json.loads((pretrained / "run.json").read_text())
    assert record["kind"] == "pretraining" and record["tokens"] > 0 and record["versions"]["torch"]
    with safe_open(pretrained / "model.safetensors", "pt") as file:
        assert any("attention.projections.q_proj" in key for key in file.keys())
    # ordinary checkpoints contain no code
    assert not list(pretrained.glob("*.py")) and "auto_map" not in (pretrained / "config.json").read_text()


def test_a_pipeline_and_evaluation_answer_a_question_alike(people_files, finetuned, tmp_path):
    metrics = ask(people_files, tmp_path, model_name_or_path=str(finetuned))
    predictions = (tmp_path / "predictions.txt").read_text().splitlines()
    assert metrics["total"] == len(predictions) == 20
    assert metrics["tokens"] > json.loads((finetuned / "run.json").read_text())["tokens"], "pretraining counts too"
    answerer = pipeline(
        "text-generation",
        model=AutoModelForCausalLM.from_pretrained(finetuned),
        tokenizer=AutoTokenizer.from_pretrained(finetuned),
    )
    questions = [line.split("\t")[0] for line in (people_files / "birth_dev.tsv").read_text().splitlines()]
    for question, prediction in zip(questions[:5], predictions, strict=False):
        (generated,) = answerer(f"{question}⁇", return_full_text=False)
        assert generated["generated_text"] == prediction
        (generated,) = answerer([{"role": "user", "content": question}], return_full_text=False)
        assert generated["generated_text"] == prediction


def test_without_gold_answers_only_predictions_are_written(people_files, finetuned, tmp_path):
    bare = tmp_path / "questions.tsv"
    bare.write_text("Where was Ada born?\nWhere was Lise born?\n")
    assert ask(people_files, tmp_path / "out", model_name_or_path=str(finetuned), question_file=str(bare)) is None
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["predictions.txt"]
    assert len((tmp_path / "out" / "predictions.txt").read_text().splitlines()) == 2


def test_baselines_and_comparison(people_files, finetuned, tmp_path, capsys):
    ask(people_files, tmp_path / "a", baseline="most_common")
    ask(people_files, tmp_path / "b", baseline="Atlantis")
    rows = compare(CompareSettings(metrics_files=[str(tmp_path / run / "metrics.json") for run in "ab"]))
    assert rows[1]["accuracy"] == 0.0 and rows[0]["total"] == 20
    assert "Atlantis" in capsys.readouterr().out


def test_finetuning_without_pretraining_and_with_a_held_out_slice(people_files, tmp_path):
    summary = run_finetuning(
        *("--train_file", people_files / "birth_places_train.tsv", "--corpus_file", people_files / "wiki.txt"),
        *("--tokenizer_type", "bpe", "--vocab_size", 400, "--hidden_size", 32, "--num_attention_heads", 2),
        *("--validation_size", 10, "--eval_steps", 2, "--output_dir", tmp_path / "scratch"),
    )
    evaluations = [entry for entry in summary.history if "held_out_accuracy" in entry]
    assert [entry["step"] for entry in evaluations] == [0, 2, 4]
    assert all(0 <= entry["train_accuracy"] <= 1 for entry in evaluations)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "scratch").config.hidden_size == 32


def test_a_dry_run_of_a_stream_without_names_is_refused(tmp_path):
    (tmp_path / "lines.txt").write_text("no name here\nnor here\n" * 50)
    settings = ["--objective", "name_first", "--streaming", True, "--dry_run", True]
    with pytest.raises(ValueError, match="no line has an example"):
        run_pretraining("--train_file", tmp_path / "lines.txt", *settings, "--output_dir", tmp_path / "x")


def test_a_dry_run_reports_and_writes_nothing(people_files, tmp_path, capsys):
    run_pretraining(
        "--train_file",
        people_files / "wiki.txt",
        "--objective",
        "name_first",
        "--output_dir",
        tmp_path / "x",
        "--dry_run",
        True,
    )
    shown = capsys.readouterr().out
    for word in ("parameters", "flops", "predicted_minutes", "padding_ratio", "example 3"):
        assert word in shown
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--train_file nowhere.txt", "nowhere.txt"),
        ("--objective name_last", "objective='name_last' does not exist"),
        ("--objective_layout rolled --objective name_first", "objective_layout='rolled' does not exist"),
        ("--tokenizer_type words", "tokenizer_type='words' does not exist"),
        ("--hidden_size 33", "hidden_size=33 is not a multiple"),
        ("--optimizer sgd", "optimizer='sgd' does not exist"),
        ("--lr_scheduler_type cosin", "lr_scheduler_type='cosin' does not exist"),
        ("--streaming true --num_train_epochs 1", "give exactly one of max_train_steps"),
        ("--attention_type sofmax", "did you mean 'softmax'"),
        ("--attention_type bigbird --objective name_first", "cannot take branches: set objective_layout to unrolled"),
        ("--attention_type sliding_softmax", "needs sliding_window"),
        ("--attention_type softmax perceiver --num_hidden_layers 2", "cannot be in a list"),
        ("--objective name_first --max_span_words 0", "max_span_words=0"),
        ("--objective salient_spans --cue_probability 1.5", "cue_probability=1.5"),
        ("--ngram_orders 2 2", "ngram_orders=.2, 2.: give different lengths"),
        ("--question_file nowhere.tsv", "nowhere.tsv"),
        ("--eval_steps 2", "eval_steps evaluates on questions: give question_file"),
        ("--eval_steps 2 --question_file nowhere.tsv", "give their number, validation_size"),
        ("--question_ratio 0.2", "question_ratio=0.2 is for questions: give question_file"),
        ("--validation_size 9", "validation_size=9 holds questions out: give question_file, or set validation_size"),
        ("--question_file nowhere.tsv --question_ratio 0", "give eval_steps to evaluate on them"),
        ("--question_file nowhere.tsv --question_ratio 1", "question_ratio=1.0"),
        ("--attn_implementation sdpaa", "sdpaa"),
        ("--per_layer_config {1:3}", "per_layer_config"),
        ("--per_layer_config {last:{sliding_window:3}}", "per_layer_config"),
        ("--per_layer_config {1:[sliding_window]}", "per_layer_config"),
        ("--attn_implementation flash_attention_2", "attn_implementation=flash_attention_2: "),
    ],
)
def test_bad_pretraining_settings_are_one_line_and_leave_nothing(people_files, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        run_pretraining("--train_file", people_files / "wiki.txt", "--output_dir", tmp_path / "x", *arguments.split())
    assert "\n" not in str(error.value)
    assert not (tmp_path / "x").exists()


def test_a_corpus_without_names_is_refused_for_name_first(tmp_path):
    (tmp_path / "lines.txt").write_text("no name here\nnor here\n" * 50)
    with pytest.raises(ValueError, match="no line of .* has an example for name_first"):
        run_pretraining(
            "--train_file", tmp_path / "lines.txt", "--objective", "name_first", "--output_dir", tmp_path / "x"
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "give model_name_or_path to finetune a checkpoint"),
        ("--model_name_or_path nowhere", "nowhere has no model that can be loaded"),
        ("--model_name_or_path {pretrained} --hidden_size 64", "hidden_size=64 does not fit .* trained with 32"),
        ("--model_name_or_path {pretrained} --tokenizer_name_or_path {pretrained}", "has its own tokenizer"),
        (
            "--model_name_or_path {pretrained} --validation_size 100",
            "train.tsv: validation_size=100 of 100 train questions",
        ),
        ("--model_name_or_path {pretrained} --output_dir {pretrained}", "contains model_name_or_path"),
    ],
)
def test_bad_finetuning_settings(people_files, pretrained, tmp_path, arguments, message):
    arguments = arguments.format(pretrained=pretrained, people_files=people_files).split()
    with pytest.raises(ValueError, match=message):
        run_finetuning(
            "--train_file", people_files / "birth_places_train.tsv", "--output_dir", tmp_path / "x", *arguments
        )
    assert not (tmp_path / "x").exists()


def test_a_recipe_that_holds_out_too_many_questions_says_how_many_are_possible(tmp_path, capsys):
    """The recipe for relations holds out 200 questions; this file has 150. The model is not even looked for."""
    questions = "".join(f"Where was P{number} Hill born?\tTown {number % 9}\n" for number in range(150))
    (tmp_path / "q.tsv").write_text(questions)
    arguments = [
        "--config",
        "relations/finetune",
        "--train_file",
        tmp_path / "q.tsv",
        "--model_name_or_path",
        "nowhere",
    ]
    with pytest.raises(SystemExit, match="2"):
        find_command("finetune")([*map(str, arguments), "--output_dir", str(tmp_path / "x")])
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert line == (
        f"error: {tmp_path}/q.tsv: validation_size=200 of 150 train questions leaves none to train on: give a smaller "
        "number, such as 15, and the same in pretraining and finetuning"
    )


def test_a_checkpoint_without_tokenizer_and_a_long_question_are_named(people_files, pretrained, finetuned, tmp_path):
    AutoModelForCausalLM.from_pretrained(pretrained).save_pretrained(tmp_path / "bare")
    with pytest.raises(ValueError, match="bare has no tokenizer"):
        ask(people_files, tmp_path / "out", model_name_or_path=str(tmp_path / "bare"))
    long = tmp_path / "long.tsv"
    long.write_text(f"Where was {' '.join(LINES)} {' '.join(LINES)} born?\tLondon\n")
    with pytest.raises(ValueError, match="question 1 of 1"):
        ask(people_files, tmp_path / "out", model_name_or_path=str(finetuned), question_file=str(long))
    with pytest.raises(ValueError, match="exactly one of model_name_or_path and baseline"):
        ask(people_files, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_does_not_empty_the_folder_of_its_inputs(people_files, pretrained, tmp_path):
    settings = ["--overwrite_output_dir", True, "--train_file", people_files / "birth_places_train.tsv"]
    for folder in (pretrained, pretrained.parent):
        with pytest.raises(ValueError, match="contains model_name_or_path=.*: choose another"):
            run_finetuning(*settings, "--model_name_or_path", pretrained, "--output_dir", folder)
    with pytest.raises(ValueError, match="contains train_file=.*: choose another"):
        run_pretraining(
            "--overwrite_output_dir", True, "--train_file", people_files / "wiki.txt", "--output_dir", people_files
        )
    assert (pretrained / "model.safetensors").is_file() and (people_files / "wiki.txt").is_file()


def write_run(folder, kind, seed, origin=None, **values):
    """A folder with the `run.json` of a run that began from the folder `origin`."""
    record = {"kind": kind, "seed": seed, "command": folder.name, "parameters": 5, "target_ratio": 0.5, **values}
    record |= {"steps": 1, "hardware": "a computer"}
    record |= {"settings": {"model_name_or_path": origin and str(origin)}}
    save_json(folder / "run.json", {"tokens": 10, "flops": 10, "seconds": 10, **record})


def test_the_cost_of_a_checkpoint_is_that_of_all_its_runs(tmp_path):
    write_run(tmp_path / "a", "pretraining", 1, tokens=30, flops=300, seconds=5, target_ratio=0.9)
    write_run(tmp_path / "b", "finetuning", 0, origin=tmp_path / "a")
    assert training_cost(str(tmp_path / "b")) == {
        "parameters": 5,
        "tokens": 40,
        "flops": 310,
        "seconds": 15,
        "tokens_per_second": 40 / 15,
        "target_ratio": pytest.approx(0.8),
        "pretraining_seed": 1,
        "finetuning_seed": 0,
        "training_command": ["a", "b"],
    }


def test_the_cost_of_runs_that_began_from_each_other_is_counted_once(tmp_path):
    # a later run may have overwritten the folder of an earlier one
    write_run(tmp_path / "a", "finetuning", 0, origin=tmp_path / "b")
    write_run(tmp_path / "b", "finetuning", 1, origin=tmp_path / "a")
    metrics = training_cost(str(tmp_path / "a"))
    assert metrics["tokens"] == 20 and metrics["training_command"] == ["b", "a"]
    assert metrics["finetuning_seed"] == 0


@pytest.mark.parametrize("kind", ["pretraining", "finetuning"])
def test_a_single_run_has_only_the_seed_of_its_kind(tmp_path, kind):
    write_run(tmp_path, kind, 3)
    assert {key: value for key, value in training_cost(str(tmp_path)).items() if "seed" in key} == {f"{kind}_seed": 3}


def test_the_seeds_of_metrics_are_those_of_the_records_of_the_runs(people_files, tmp_path):
    run_pretraining(
        *("--train_file", people_files / "wiki.txt", "--objective", "name_first"),
        *("--seed", 1, "--output_dir", tmp_path / "pretrained"),
    )
    run_finetuning(
        *("--train_file", people_files / "birth_places_train.tsv", "--model_name_or_path", tmp_path / "pretrained"),
        *("--seed", 2, "--output_dir", tmp_path / "finetuned"),
    )
    metrics = ask(people_files, tmp_path / "answers", model_name_or_path=str(tmp_path / "finetuned"))
    written = json.loads((tmp_path / "answers" / "metrics.json").read_text())
    for kind in ("pretraining", "finetuning"):
        record = json.loads((tmp_path / kind.replace("ing", "ed") / "run.json").read_text())
        assert metrics[f"{kind}_seed"] == written[f"{kind}_seed"] == record["seed"]
    assert (metrics["pretraining_seed"], metrics["finetuning_seed"]) == (1, 2)
    assert "seed" not in metrics
    baseline = ask(people_files, tmp_path / "baseline", baseline="London")
    assert not {"pretraining_seed", "finetuning_seed", "seed"} & baseline.keys()


def test_an_output_folder_may_be_a_link(people_files, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    run_pretraining(
        "--train_file", people_files / "wiki.txt", "--objective", "name_first", "--output_dir", tmp_path / "link"
    )
    assert (tmp_path / "disk" / "model.safetensors").is_file()


def test_half_a_file_of_weights_is_named(people_files, pretrained, tmp_path):
    shutil.copytree(pretrained, tmp_path / "half")
    weights = (tmp_path / "half" / "model.safetensors").read_bytes()
    (tmp_path / "half" / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ValueError, match="half is damaged: model.safetensors has"):
        ask(people_files, tmp_path / "out", model_name_or_path=str(tmp_path / "half"))


def test_tracking_writes_curves(people_files, tmp_path):
    run_pretraining(
        *("--train_file", people_files / "wiki.txt", "--output_dir", tmp_path / "x", "--objective", "name_first"),
        *("--with_tracking", True, "--logging_steps", 2),
    )
    assert list((tmp_path / "x" / "logs").rglob("events.out.tfevents*"))


def test_held_out_questions_are_never_trained_on_and_are_the_same_in_all_evaluations(
    people_files, pretrained, tmp_path, monkeypatch
):
    trained, asked, learn, answer = set(), [], QuestionAnswering.__call__, evaluators.answer_questions

    def learning(self, batch, **settings):
        trained.update(batch["question"])
        return learn(self, batch, **settings)

    def asking(model, tokenizer, questions, **settings):
        asked.append(set(questions))
        return answer(model, tokenizer, questions, max_new_tokens=2)

    monkeypatch.setattr(QuestionAnswering, "__call__", learning)
    monkeypatch.setattr(evaluators, "answer_questions", asking)
    train_file = people_files / "birth_places_train.tsv"
    questions = {line.split("\t")[0] for line in train_file.read_text().splitlines()}
    evaluations = ("--validation_size", 10, "--eval_steps", 4)
    mixed_in = ("--objective", "name_first", "--question_file", train_file, "--question_ratio", 0.5)
    runs = {
        "pretrained": lambda *settings: run_pretraining(
            "--train_file", people_files / "wiki.txt", *mixed_in, *settings
        ),
        "finetuned": lambda *settings: run_finetuning(
            "--train_file", train_file, "--model_name_or_path", pretrained, *settings
        ),
    }
    held_out = []
    for name, run in runs.items():
        trained.clear()
        asked.clear()
        run(*evaluations, "--output_dir", tmp_path / name)
        held_out.append(questions - trained)
        # each evaluation asks train questions first, and then the held-out questions
        assert len(asked) == 4
        assert all(questions <= trained for questions in asked[::2])
        assert all(questions == held_out[-1] for questions in asked[1::2])
    assert len(held_out[0]) == 10 and held_out[0] == held_out[1]


@pytest.mark.parametrize(("settings", "kept_at"), [((), 1), (("--load_best_model_at_end", "false"), 2)])
def test_finetuning_keeps_the_weights_that_answer_most_of_the_held_out_questions_or_the_last_ones(
    settings, kept_at, people_files, pretrained, tmp_path, monkeypatch
):
    evaluations = []

    def build_changing_evaluator(*_):
        def evaluate(model):
            evaluations.append({name: value.clone() for name, value in model.state_dict().items()})
            return {"train_accuracy": len(evaluations) / 10, "held_out_accuracy": [0.1, 0.9, 0.2][len(evaluations) - 1]}

        return evaluate

    monkeypatch.setattr("birthgpt.commands.finetune.build_accuracy_evaluator", build_changing_evaluator)
    held_out = ("--validation_size", 10, "--eval_steps", 2)
    files = ("--train_file", people_files / "birth_places_train.tsv", "--model_name_or_path", pretrained)
    run_finetuning(*files, *held_out, *settings, "--output_dir", tmp_path)
    assert len(evaluations) == 3
    kept = load_file(tmp_path / "model.safetensors")
    for number, weights in enumerate(evaluations):
        assert all(torch.equal(tensor, weights[name]) for name, tensor in kept.items()) == (number == kept_at)
