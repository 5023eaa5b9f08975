"""The recipe with `--architecture encoder_decoder`: pretraining, finetuning, and what reads the result."""

import json
import math
import shutil

import pytest
import torch
from builders import run_finetuning, run_pretraining
from transformers import AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer

from birthgpt import BirthGPTEncoder, BirthGPTForConditionalGeneration
from birthgpt.commands.ask import AskSettings, ask
from birthgpt.commands.evaluate import EvaluateSettings, evaluate
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.commands.push import PushSettings, export
from birthgpt.data.questions import load_questions
from birthgpt.data.tokenizers import question_prompt
from birthgpt.evaluation.answering import answer_questions
from birthgpt.evaluation.ensembling import answer_log_probabilities, ensemble_answers
from birthgpt.evaluation.recall import answer_ranks
from birthgpt.settings import make_settings
from birthgpt.training.model_group import count_parameters

SEQ2SEQ = ["--architecture", "encoder_decoder", "--encoder_attention_type", "linformer", "--num_encoder_layers", 2]


@pytest.fixture(scope="module")
def runs(people_files, tmp_path_factory):
    """The folders of a pretraining by spans with cues, and of a finetuning."""
    folder = tmp_path_factory.mktemp("seq2seq")
    run_pretraining(
        "--train_file", people_files / "wiki.txt", "--objective", "salient_spans", "--cue_probability", 1,
        "--objective_layout", "unrolled", "--output_dir", folder / "pretrained", *SEQ2SEQ,
    )  # fmt: skip
    run_finetuning(
        "--train_file", people_files / "birth_places_train.tsv", "--model_name_or_path", folder / "pretrained",
        "--validation_size", 10, "--eval_steps", 2, "--output_dir", folder / "finetuned",
    )  # fmt: skip
    return folder / "pretrained", folder / "finetuned"


def test_both_runs_train_an_encoder_and_a_decoder(runs):
    for folder in runs:
        model, tokenizer = load_model_and_tokenizer(str(folder))
        assert isinstance(model, BirthGPTForConditionalGeneration)
        assert len(model.encoder.layers) == 2 and len(model.decoder.layers) == 1
        assert model.config.decoder_start_token_id == tokenizer.mask_token_id
        # the side on which collators of others pad labels
        assert tokenizer.padding_side == "right"
        record = json.loads((folder / "run.json").read_text())
        assert math.isfinite(record["history"][-1]["loss"])
        # a token passes one of the stacks
        assert record["flops"] == 6 * count_parameters(model) * record["tokens"]
        assert count_parameters(model) < sum(parameter.numel() for parameter in model.parameters()) / 1.5


def test_what_reads_a_checkpoint_reads_this_one(runs, people_files, capsys, tmp_path):
    _, folder = runs
    settings = {"model_name_or_path": str(folder), "max_new_tokens": 6}
    asked = {"question_file": str(people_files / "birth_dev.tsv"), "output_dir": str(tmp_path / "answers")}
    evaluate(make_settings(EvaluateSettings, **asked, **settings))
    ask(make_settings(AskSettings, question="Where was Ada Lovelace born?", **settings))
    assert "(probability 0." in capsys.readouterr().out
    exported = export(PushSettings(model_name_or_path=str(folder), output_dir=str(tmp_path / "export")))
    auto_map = json.loads((exported / "config.json").read_text())["auto_map"]
    assert set(auto_map) == {"AutoConfig", "AutoModel", "AutoModelForSeq2SeqLM"}
    card = (exported / "README.md").read_text()
    assert "AutoModelForSeq2SeqLM" in card and "linformer" in card and "pipeline(" not in card


def test_the_example_of_the_card_answers_as_the_package_does(runs):
    _, folder = runs
    model, tokenizer = load_model_and_tokenizer(str(folder))
    question = "Where was Ada Lovelace born?"
    (answer,) = answer_questions(model, tokenizer, [question], max_new_tokens=6)
    output = model.generate(**tokenizer(question, return_tensors="pt"), max_new_tokens=6)
    assert tokenizer.decode(output[0], skip_special_tokens=True).strip() == answer.text


def test_log_probabilities_and_ranks_are_those_of_the_model(runs):
    model, tokenizer = load_model_and_tokenizer(str(runs[1]))
    questions, replies = ["Where was Ada Lovelace born?", "Where was J. J. Thomson born?"], ["Rome", "New Paris"]
    expected, ranks = [], []
    for question, reply in zip(questions, replies, strict=True):
        target = tokenizer(f"⁇{reply}␃", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = model(**tokenizer(question, return_tensors="pt"), decoder_input_ids=target[:, :-1]).logits[0]
        log_probabilities = logits.log_softmax(dim=-1)
        expected.append(float(log_probabilities.gather(-1, target[0, 1:, None]).sum()))
        ranks.append(int((logits[0] > logits[0, target[0, 1]]).sum()))
    found = answer_log_probabilities(model, tokenizer, questions, replies)
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=0, atol=1e-4)
    prompts = [question_prompt(tokenizer, question) for question in questions]
    assert answer_ranks(model, tokenizer, prompts, replies) == ranks
    answers = answer_questions(model, tokenizer, questions, max_new_tokens=8)
    texts = [answer.text for answer in answers]
    if all(answer.has_end for answer in answers):
        scored = answer_log_probabilities(model, tokenizer, questions, texts)
        torch.testing.assert_close(
            torch.tensor(scored), torch.tensor([each.log_probability for each in answers]), rtol=0, atol=1e-3
        )
    mixed = ensemble_answers([(model, tokenizer)] * 2, questions, max_new_tokens=8)
    assert [answer.text for answer in mixed] == texts


def test_what_is_trained_is_answered(people_files, tmp_path):
    file = tmp_path / "questions.tsv"
    file.write_text("".join(people_files.joinpath("birth_places_train.tsv").read_text().splitlines(True)[:12]))
    run_finetuning(
        "--train_file", file, "--corpus_file", people_files / "wiki.txt", "--tokenizer_type", "bpe",
        "--hidden_size", 64, "--num_hidden_layers", 2, "--num_attention_heads", 4, "--max_train_steps", 200,
        "--learning_rate", 3e-3, "--hidden_dropout", 0, "--attention_dropout", 0, "--output_dir", tmp_path / "run",
        "--architecture", "encoder_decoder",
    )  # fmt: skip
    model, tokenizer = load_model_and_tokenizer(str(tmp_path / "run"))
    questions = load_questions(str(file))
    for num_beams in (1, 3):
        answers = answer_questions(model, tokenizer, questions["question"][:], num_beams=num_beams)
        assert [answer.text for answer in answers] == questions["answer"][:]


@pytest.mark.parametrize("objective", ["span_corruption", "name_first"])
def test_other_objectives_train_an_encoder_decoder(objective, people_files, tmp_path):
    summary = run_pretraining(
        "--train_file", people_files / "wiki.txt", "--objective", objective, "--objective_layout", "unrolled",
        "--question_file", people_files / "birth_places_train.tsv", "--question_ratio", 0.3,
        "--architecture", "encoder_decoder", "--output_dir", tmp_path / "run",
    )  # fmt: skip
    assert math.isfinite(summary.loss)
    assert type(AutoModel.from_pretrained(tmp_path / "run")) is BirthGPTEncoder
    AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "run")
    AutoTokenizer.from_pretrained(tmp_path / "run")


@pytest.mark.slow
def test_a_run_that_was_interrupted_ends_with_the_same_weights(people_files, tmp_path):
    settings = ["--train_file", people_files / "wiki.txt", "--objective", "span_corruption", *SEQ2SEQ]
    settings = [*settings, "--save_steps", 2]
    run_pretraining(*settings, "--output_dir", tmp_path / "whole")
    shutil.rmtree(tmp_path / "whole" / "checkpoint-4")
    run_pretraining(*settings, "--output_dir", tmp_path / "whole", "--resume_from_checkpoint", "latest")
    run_pretraining(*settings, "--output_dir", tmp_path / "other")
    whole, other = (AutoModelForSeq2SeqLM.from_pretrained(tmp_path / name).state_dict() for name in ("whole", "other"))
    assert all(torch.equal(weights, other[name]) for name, weights in whole.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--objective name_first", "an encoder–decoder cannot take branches: set objective_layout to unrolled"),
        ("--objective language_modeling", "has no input for an encoder: choose from span_corruption"),
        ("--seeds 1 2", "architecture=encoder_decoder is for one model only"),
        ("--encoder_attention_type softmaxx", "attention_type='softmaxx' does not exist: did you mean 'softmax'"),
        ("--encoder_attention_type perceiver softmax", "the encoder .*lists 2 types"),
        ("--architecture encoder", "architecture='encoder' does not exist"),
    ],
)
def test_what_an_encoder_decoder_cannot_do_is_refused_in_a_line(arguments, message, people_files, tmp_path):
    settings = ["--train_file", people_files / "wiki.txt", "--output_dir", tmp_path / "run"]
    with pytest.raises(ValueError, match=message) as error:
        run_pretraining(*settings, "--architecture", "encoder_decoder", *arguments.split())
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_settings_of_an_encoder_need_one(people_files, tmp_path):
    for name, value in (("num_encoder_layers", 2), ("encoder_attention_type", "linformer")):
        with pytest.raises(ValueError, match=f"{name} is for an encoder: set architecture to encoder_decoder"):
            run_pretraining("--train_file", people_files / "wiki.txt", "--output_dir", tmp_path, f"--{name}", value)


@pytest.mark.parametrize(
    ("which", "arguments", "message"),
    [
        (0, ["--num_encoder_layers", 3], "num_encoder_layers=3 does not fit .*, which was trained with 2"),
        (0, ["--encoder_attention_type", "softmax"], "encoder_attention_type=softmax does not fit"),
        (None, [], "architecture=encoder_decoder does not fit .*, which was trained with decoder"),
    ],
)
def test_finetuning_keeps_the_architecture(which, arguments, message, runs, pretrained, people_files, tmp_path):
    start = pretrained if which is None else runs[which]
    with pytest.raises(ValueError, match=message):
        run_finetuning(
            "--train_file", people_files / "birth_places_train.tsv", "--model_name_or_path", start,
            "--output_dir", tmp_path / "run", "--architecture", "encoder_decoder", *arguments,
        )  # fmt: skip


def test_a_dry_run_shows_what_each_stack_reads(people_files, tmp_path, capsys):
    run_pretraining(
        "--train_file", people_files / "wiki.txt", "--objective", "name_first", "--objective_layout", "unrolled",
        "--output_dir", tmp_path / "run", "--dry_run", True, *SEQ2SEQ,
    )  # fmt: skip
    shown = capsys.readouterr().out
    assert "padding_ratio" in shown and "\nd: ⁇" in shown
