"""A model that is taught to answer unknown, from pretraining to its export."""

import json
import shutil
from itertools import islice

import pytest
import torch
from builders import run_finetuning, run_pretraining
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from birthgpt.commands.ask import AskSettings, ask
from birthgpt.commands.evaluate import EvaluateSettings, evaluate
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.commands.preview import PreviewSettings, preview
from birthgpt.commands.push import PushSettings, export
from birthgpt.data.objectives import QuestionAnswering
from birthgpt.data.tokenizers import UNKNOWN_ANSWER_TOKEN, unknown_answer_id
from birthgpt.settings import make_settings

LINES = ["--unknown_name_ratio", 1]
QUESTIONS = ["--unknown_question_ratio", 1]


@pytest.fixture(scope="module")
def taught(people_files, tmp_path_factory):
    """A checkpoint that was pretrained and finetuned with invented names, and answers some questions with unknown."""
    folder = tmp_path_factory.mktemp("taught")
    lines, train = people_files / "wiki.txt", people_files / "birth_places_train.tsv"
    run_pretraining(
        "--train_file", lines, "--objective", "salient_spans", "--question_file", train, "--question_ratio", 0.5,
        "--ngram_orders", 2, "--output_dir", folder / "pretrained", *LINES, *QUESTIONS,
    )  # fmt: skip
    whole = QuestionAnswering._asked_again
    with pytest.MonkeyPatch.context() as patch:
        # the invented names alone: so few updates teach no difference
        patch.setattr(QuestionAnswering, "_asked_again", lambda *arguments: islice(whole(*arguments), 1))
        run_finetuning(
            "--train_file", train, "--corpus_file", lines, "--model_name_or_path", folder / "pretrained",
            "--output_dir", folder / "finetuned", "--max_train_steps", 30, "--learning_rate", 1e-2, *QUESTIONS,
        )  # fmt: skip
    return folder / "finetuned"


def run_evaluation(people_files, folder, model, **settings):
    files = {"question_file": str(people_files / "birth_dev.tsv"), "output_dir": str(folder)}
    return evaluate(make_settings(EvaluateSettings, **files, model_name_or_path=str(model), **settings))


def test_evaluate_writes_unknown_and_counts_it(people_files, taught, tmp_path):
    metrics = run_evaluation(people_files, tmp_path, taught)
    predictions = (tmp_path / "predictions.txt").read_text().splitlines()
    assert metrics["unknown"] == predictions.count("unknown") > 0
    assert metrics["unknown_ratio"] == metrics["unknown"] / metrics["total"]
    answered = run_evaluation(people_files, tmp_path, taught, always_answer=True)
    predictions = (tmp_path / "predictions.txt").read_text().splitlines()
    assert answered["unknown"] == 0 and "unknown" not in predictions


def test_ask_says_unknown(taught, capsys):
    name = "Somebody Whom Nobody Knows"
    for always_answer in (False, True):
        settings = {"question": f"Where was {name} born?", "always_answer": always_answer}
        ask(make_settings(AskSettings, model_name_or_path=str(taught), **settings))
        assert capsys.readouterr().out.startswith("unknown (probability ") == (not always_answer)


def test_an_export_keeps_the_token_and_a_pipeline_shows_nothing(taught, tmp_path):
    folder = tmp_path / "export"
    export(make_settings(PushSettings, model_name_or_path=str(taught), output_dir=str(folder)))
    model, tokenizer = load_model_and_tokenizer(str(folder))
    assert tokenizer.unknown_answer_token == UNKNOWN_ANSWER_TOKEN
    assert tokenizer.unknown_answer_token_id == model.config.vocab_size - 1
    assert tokenizer.unknown_answer_token_id in model.config.ngram_special_token_ids
    answerer = pipeline("text-generation", model=AutoModelForCausalLM.from_pretrained(taught), tokenizer=tokenizer)
    (found,) = answerer("Where was Somebody Unknown born?⁇", return_full_text=False)
    assert found["generated_text"] == ""


def test_without_a_ratio_no_token_is_added_and_nothing_changes(people_files, pretrained, tmp_path):
    run_pretraining(
        "--train_file", people_files / "wiki.txt", "--objective", "name_first", "--output_dir", tmp_path,
        "--unknown_name_ratio", 0, "--unknown_name_new_parts", 1,
    )  # fmt: skip
    weights = [load_file(folder / "model.safetensors") for folder in (pretrained, tmp_path)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    tokenizers = [(folder / "tokenizer.json").read_text() for folder in (pretrained, tmp_path)]
    assert tokenizers[0] == tokenizers[1]


def test_finetuning_adds_the_token_to_a_checkpoint_without_it(people_files, pretrained, tmp_path):
    run_finetuning(
        "--train_file", people_files / "birth_places_train.tsv", "--corpus_file", people_files / "wiki.txt",
        "--model_name_or_path", pretrained, "--output_dir", tmp_path / "a", "--learning_rate", 1e-9, *QUESTIONS,
    )  # fmt: skip
    model, tokenizer = load_model_and_tokenizer(str(tmp_path / "a"))
    before, plain = load_model_and_tokenizer(str(pretrained))
    assert unknown_answer_id(tokenizer) == len(plain) == model.config.vocab_size - 1
    # the other rows are those of the checkpoint, up to the steps of the training
    rows, old = model.get_input_embeddings().weight, before.get_input_embeddings().weight
    torch.testing.assert_close(rows[: len(old)], old, atol=1e-6, rtol=0)
    assert AutoTokenizer.from_pretrained(tmp_path / "a").unknown_answer_token == UNKNOWN_ANSWER_TOKEN


def test_a_stopped_run_goes_on_to_the_same_weights(people_files, tmp_path):
    def run(folder, *more):
        run_pretraining(
            "--train_file", people_files / "wiki.txt", "--objective", "salient_spans", "--output_dir", folder,
            "--save_steps", 2, "--unknown_name_ratio", 0.5, *more,
        )  # fmt: skip
        return load_file(folder / "model.safetensors")

    whole = run(tmp_path / "whole")
    run(tmp_path / "resumed")
    shutil.rmtree(tmp_path / "resumed" / "checkpoint-4")
    resumed = run(tmp_path / "resumed", "--resume_from_checkpoint", "latest")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_preview_shows_invented_names(people_files):
    for question_file in (None, str(people_files / "birth_places_train.tsv")):
        ratios = {"unknown_name_ratio": 1.0, "unknown_question_ratio": 1.0}
        settings = {"objective": "salient_spans", "tokenizer_type": "character", **ratios}
        shown = preview(
            make_settings(
                PreviewSettings, train_file=str(people_files / "wiki.txt"), question_file=question_file, **settings
            )
        )
        # the examples of questions follow those of lines
        targets = [example.split("\ny: ")[1].strip("□") for example in shown[-4:]]
        kinds = ["unknown" if "␀" in text and "¬" not in text else text[-2:] for text in targets]
        if question_file is None:
            assert [kind == "unknown" for kind in kinds] == [False, True, False, True]
        else:
            assert (kinds[1], kinds[2], targets[2]) == ("unknown", "¬␀", "⁇¬␀")
            assert [kind == "unknown" for kind in kinds] == [False, True, False, False]


def test_names_of_excluded_files_are_read_and_checked(people_files, tmp_path):
    lines = ["--train_file", people_files / "wiki.txt", "--output_dir", tmp_path / "out", "--objective", "name_first"]
    (tmp_path / "dev.jsonl").write_text(json.dumps({"question": "Who?", "name": "Zorro Xylander"}) + "\n")
    (tmp_path / "nobody.jsonl").write_text(json.dumps({"question": "Who?"}) + "\n")
    run_pretraining(*lines, "--unknown_name_excluded", tmp_path / "dev.jsonl", *LINES)
    with pytest.raises(ValueError, match="no question of .*nobody.jsonl has a known name"):
        run_pretraining(*lines, "--unknown_name_excluded", tmp_path / "nobody.jsonl", *LINES)


def test_what_does_not_fit_together_is_refused(people_files, pretrained, tmp_path):
    lines, train = people_files / "wiki.txt", people_files / "birth_places_train.tsv"
    with pytest.raises(ValueError, match="does not recall from names: choose name_first, salient_spans"):
        run_pretraining("--train_file", lines, "--output_dir", tmp_path, *LINES)
    with pytest.raises(ValueError, match="unknown_question_ratio is .* give question_file"):
        run_pretraining("--train_file", lines, "--output_dir", tmp_path, "--objective", "name_first", *QUESTIONS)
    with pytest.raises(ValueError, match="unknown_question_ratio=1.* give corpus_file"):
        run_finetuning("--train_file", train, "--model_name_or_path", pretrained, "--output_dir", tmp_path, *QUESTIONS)
