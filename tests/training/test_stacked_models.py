"""Many models at once: each equals the model that is trained alone with its seed or learning rate."""

import json
import shutil

import pytest
import torch
from builders import CASES, LINES, case_model, run_finetuning, run_pretraining
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from birthgpt.training.stacked_models import stack_weights, stacked_losses, template_of, unstack_gradients


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("".join(f"{line}\n" for line in LINES * 10))
    return path


def run_of(folder) -> dict:
    return json.loads((folder / "run.json").read_text())


def losses_of(folder) -> list[float]:
    return [entry["loss"] for entry in run_of(folder)["history"] if "loss" in entry]


def rates_of(folder) -> list[float]:
    return [entry["learning_rate"] for entry in run_of(folder)["history"]]


def weights_of(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


TIED = {"tie_word_embeddings": True}
NO_DROPOUT = ("--hidden_dropout", 0.0, "--attention_dropout", 0.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer", [["adamw"], ["muon"], ["muon", "--ngram_orders", 2, 3, "--sparse_ngrams", "true"]]
)
def test_each_seed_equals_the_same_seed_trained_alone(corpus, tmp_path, optimizer):
    settings = ["--train_file", corpus, "--optimizer", *optimizer, "--max_train_steps", 50, "--logging_steps", 1]
    settings += ["--save_steps", 0, "--weight_decay", 0.1, *NO_DROPOUT]
    run_pretraining(*settings, "--seeds", 0, 1, 5, "--seed", 7, "--output_dir", tmp_path / "all")
    for seed in (0, 1, 5):
        alone, together = tmp_path / f"alone-{seed}", tmp_path / "all" / f"seed-{seed}"
        run_pretraining(*settings, "--seed", seed, "--data_seed", 7, "--output_dir", alone)
        assert losses_of(together) == pytest.approx(losses_of(alone), abs=1e-4)
        weights = weights_of(together)
        assert all(torch.allclose(weights[name], value, atol=1e-3) for name, value in weights_of(alone).items())
        assert (run_of(together)["seed"], run_of(together)["settings"]["data_seed"]) == (seed, 7)
        AutoModelForCausalLM.from_pretrained(together)
    assert losses_of(tmp_path / "all" / "seed-0") != losses_of(tmp_path / "all" / "seed-1")


@pytest.mark.slow
def test_each_model_leaves_out_the_targets_that_it_knows(corpus, tmp_path):
    settings = ["--train_file", corpus, "--max_train_steps", 30, "--logging_steps", 1, "--learning_rate", 1e-2]
    settings += ["--save_steps", 0, "--data_seed", 7, *NO_DROPOUT]
    run_pretraining(*settings, "--seed", 0, "--output_dir", tmp_path / "all-targets")
    settings += ["--leave_out_known", 0.2]
    run_pretraining(*settings, "--seeds", 0, 1, "--output_dir", tmp_path / "all")
    for seed in (0, 1):
        run_pretraining(*settings, "--seed", seed, "--output_dir", tmp_path / f"alone-{seed}")
        assert losses_of(tmp_path / "all" / f"seed-{seed}") == pytest.approx(
            losses_of(tmp_path / f"alone-{seed}"), abs=1e-4
        )
    # the mean of what is not known
    assert losses_of(tmp_path / "all" / "seed-0")[-1] > losses_of(tmp_path / "all-targets")[-1]


def test_each_learning_rate_equals_the_same_rate_alone(corpus, tmp_path):
    settings = ["--train_file", corpus, "--max_train_steps", 4, "--logging_steps", 1, *NO_DROPOUT, "--ema_decay", 0.5]
    run_pretraining(*settings, "--learning_rates", 1e-3, 4e-3, "--output_dir", tmp_path / "all")
    for rate, name in ((1e-3, "learning_rate-0.001"), (4e-3, "learning_rate-0.004")):
        run_pretraining(*settings, "--learning_rate", rate, "--output_dir", tmp_path / name)
        assert losses_of(tmp_path / "all" / name) == pytest.approx(losses_of(tmp_path / name), abs=1e-4)
        assert rates_of(tmp_path / "all" / name) == rates_of(tmp_path / name)
        assert run_of(tmp_path / "all" / name)["settings"]["learning_rate"] == rate
        weights = weights_of(tmp_path / "all" / name)
        alone = weights_of(tmp_path / name)
        assert all(torch.allclose(weights[key], value, atol=1e-4) for key, value in alone.items())


def test_seeds_and_rates_are_combined(corpus, tmp_path):
    settings = ["--train_file", corpus, "--max_train_steps", 1, "--save_steps", 0, "--output_dir", tmp_path / "all"]
    run_pretraining(*settings, "--seeds", 1, 2, "--learning_rates", 1e-3, 2e-3)
    names = sorted(path.name for path in (tmp_path / "all").iterdir() if path.is_dir())
    assert names == [f"seed-{seed}_learning_rate-{rate}" for seed in (1, 2) for rate in ("0.001", "0.002")]


def test_a_resumed_run_of_many_equals_an_uninterrupted_one(corpus, tmp_path, caplog):
    settings = ["--train_file", corpus, "--max_train_steps", 6, "--logging_steps", 1, "--hidden_dropout", 0.1]
    settings += ["--save_steps", 2, "--save_total_limit", 9, "--seeds", 0, 1]
    run_pretraining(*settings, "--output_dir", tmp_path / "whole")
    run_pretraining(*settings, "--output_dir", tmp_path / "parts")
    # as if the run had stopped between the checkpoints of both models, with one damaged checkpoint
    shutil.rmtree(tmp_path / "parts" / "seed-0" / "checkpoint-6")
    (tmp_path / "parts" / "seed-1" / "checkpoint-4" / "model.safetensors").write_bytes(b"")
    run_pretraining(*settings, "--output_dir", tmp_path / "parts", "--resume_from_checkpoint", "latest")
    # the run continues from checkpoint-2, the last one that both models have
    assert "checkpoint-4 is damaged: model.safetensors has 0 bytes" in caplog.text
    for name in ("seed-0", "seed-1"):
        assert losses_of(tmp_path / "parts" / name) == losses_of(tmp_path / "whole" / name)
        whole = weights_of(tmp_path / "whole" / name)
        assert all(torch.equal(whole[key], value) for key, value in weights_of(tmp_path / "parts" / name).items())


def test_what_many_models_left_is_never_deleted_by_a_resume(corpus, tmp_path):
    settings = ["--train_file", corpus, "--max_train_steps", 2, "--output_dir", tmp_path / "all"]
    run_pretraining(*settings, "--save_steps", 0, "--seeds", 0, 1)
    latest = ("--resume_from_checkpoint", "latest")
    for wrong in (("--seeds", 0, 1), ("--seeds", 0, 1, 2), ()):
        with pytest.raises(ValueError, match="but no checkpoint to resume from"):
            run_pretraining(*settings, *wrong, *latest)
    run_pretraining(*settings, "--save_steps", 1, "--seeds", 0, 1, "--overwrite_output_dir", True)
    with pytest.raises(ValueError, match="no checkpoint exists in all of .*seed-2"):
        run_pretraining(*settings, "--seeds", 0, 1, 2, *latest)
    assert all((tmp_path / "all" / name / "model.safetensors").is_file() for name in ("seed-0", "seed-1"))


def test_settings_are_refused_before_the_old_run_is_gone(corpus, tmp_path):
    settings = ["--train_file", corpus, "--max_train_steps", 1, "--output_dir", tmp_path / "run"]
    run_pretraining(*settings)
    for name in ("torch_compile", "gradient_checkpointing"):
        with pytest.raises(ValueError, match=f"{name} is for one model"):
            run_pretraining(*settings, "--overwrite_output_dir", True, "--seeds", 1, 2, f"--{name}", True)
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_mistakes_are_named(corpus, tmp_path):
    settings = ["--train_file", corpus, "--output_dir", tmp_path / "run"]
    with pytest.raises(ValueError, match=r"seeds=\[1, 1\].*: one is listed twice"):
        run_pretraining(*settings, "--seeds", 1, 1)
    with pytest.raises(ValueError, match="pass --resume_from_checkpoint latest"):
        run_pretraining(*settings, "--seeds", 1, 2, "--resume_from_checkpoint", tmp_path)
    with pytest.raises(ValueError, match="each must be greater than 0"):
        run_pretraining(*settings, "--learning_rates", 0, 1e-3)
    with pytest.raises(ValueError, match=r"seeds=\[1, 1\].*: one is listed twice"):
        run_pretraining(*settings, "--seeds", 1, 1, "--dry_run", True)
    with pytest.raises(ValueError, match="'seeds' is not a setting of this command"):
        run_finetuning(*settings, "--seeds", 1, 2)


@pytest.mark.parametrize(("case", "settings"), [*((case, {}) for case in CASES), ("softmax", TIED)])
def test_stacked_losses_are_those_of_each_model(case, settings):
    models = [case_model(case, **settings).train() for _ in range(2)]
    with torch.no_grad():
        for parameter in models[1].parameters():
            parameter.mul_(1 + 0.1 * torch.randn_like(parameter))
    tokens = torch.randint(models[0].config.vocab_size, (2, 19))
    inputs = {"input_ids": tokens, "labels": tokens, "use_cache": False}
    alone = [model(**inputs).loss for model in models]
    gradients = [torch.autograd.grad(loss, list(model.parameters())) for loss, model in zip(alone, models, strict=True)]

    weights, buffers = stack_weights(models)
    losses = stacked_losses(template_of(models[0]).train(), weights, buffers, inputs)
    losses.sum().backward()
    assert torch.allclose(losses, torch.stack(alone), atol=1e-10)
    for index, model in enumerate(models):
        unstack_gradients(model, weights, index)
        for parameter, gradient in zip(model.parameters(), gradients[index], strict=True):
            assert torch.allclose(parameter.grad, gradient, atol=1e-10)
