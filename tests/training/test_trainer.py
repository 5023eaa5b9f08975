"""The training loop: it can be repeated and resumed, and does not depend on the accumulation."""

import copy
import math
import shutil

import pytest
import torch
from accelerate.state import AcceleratorState
from builders import (
    PERFORMER,
    TRAINING,
    VARIANTS,
    losses,
    tiny_batches,
    tiny_config,
    tiny_model,
    train,
    training_settings,
)
from transformers import AutoModelForCausalLM

from birthgpt import BirthGPTForCausalLM
from birthgpt.data.batching import EpochBatches, model_inputs
from birthgpt.training.callbacks import EvaluationCallback, TrainerCallback
from birthgpt.training.manifest import list_checkpoints
from birthgpt.training.model_group import count_parameters

NGRAMS = {"ngram_orders": [2, 3], "ngram_vocab_size": 500}


class Interrupted(Exception):
    """Raised to stop a run."""


class InterruptAfter(TrainerCallback):
    """Stops a run after an update and its checkpoint."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, trainer):
        if trainer.state.step == self.step:
            raise Interrupted


class Recorder(TrainerCallback):
    """Records what `look` returns for the model after every update."""

    def __init__(self, look):
        self.look, self.seen = look, []

    def on_step_end(self, trainer):
        self.seen.append(self.look(trainer.models.replicas[0].model))


def state_of(model) -> dict[str, torch.Tensor]:
    return copy.deepcopy(model.state_dict())


def assert_same_weights(model, other) -> None:
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def train_and_load(folder, bpe, **settings):
    """The summary and the saved model of a run."""
    summary, _ = train(folder, bpe, **settings)
    return summary, AutoModelForCausalLM.from_pretrained(folder / "run")


def test_the_same_run_has_the_same_losses_and_learns(tmp_path, bpe):
    summary, _ = train(tmp_path, bpe)
    again, _ = train(tmp_path, bpe)
    assert losses(summary) == losses(again)
    assert losses(summary)[-1] < losses(summary)[0] - 0.5
    other, _ = train(tmp_path, bpe, seed=1)
    assert losses(summary) != losses(other)


@pytest.mark.parametrize(
    ("stopped_after", "settings", "architecture"),
    [
        (1, {}, {}), (5, {"optimizer": "muon"}, {}), (9, {}, {}), (5, {}, PERFORMER), (8, {}, PERFORMER),
        (5, {"sparse_ngrams": True}, NGRAMS),
    ],
)  # fmt: skip
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, bpe, stopped_after, settings, architecture):
    whole, model = train(tmp_path, bpe, architecture=architecture, **settings)
    with pytest.raises(Interrupted):
        callbacks = [InterruptAfter(stopped_after)]
        train(tmp_path, bpe, save_steps=1, architecture=architecture, callbacks=callbacks, **settings)
    # a new process would draw other numbers
    torch.manual_seed(999)
    recorder = Recorder(lambda model: None)
    resumed, resumed_model = train(
        tmp_path, bpe, resume=True, save_steps=0, architecture=architecture, callbacks=[recorder], **settings
    )
    assert losses(resumed) == losses(whole) and len(recorder.seen) == 12 - stopped_after
    assert (resumed.steps, resumed.tokens) == (whole.steps, whole.tokens)
    assert_same_weights(model, resumed_model)


class GrowingEpochs(EpochBatches):
    """The second epoch is three times as long."""

    def set_epoch(self, epoch):
        if epoch != self.epoch:
            super().set_epoch(epoch)
            self.batches = self.batches * (3 if epoch == 1 else 1)


def growing_epochs(bpe) -> GrowingEpochs:
    plain = tiny_batches(bpe)
    return GrowingEpochs(plain.source, plain.objective, plain.pad_token_id, plain.settings, seed=plain.seed)


def test_a_run_resumed_in_a_longer_epoch_does_not_end_early(tmp_path, bpe):
    settings = {"num_train_epochs": 2, "save_total_limit": 99}
    whole, _ = train(tmp_path, bpe, batches=growing_epochs(bpe), save_steps=1, **settings)
    folder = tmp_path / "run"
    shutil.rmtree(folder / f"checkpoint-{whole.steps}")
    (folder / "config.json").unlink()
    resumed, _ = train(tmp_path, bpe, batches=growing_epochs(bpe), resume=True, **settings)
    assert resumed.steps == whole.steps and losses(resumed) == losses(whole)


def test_a_run_is_resumed_under_the_precision_it_began_with(tmp_path, bpe):
    AcceleratorState._reset_state()
    train(tmp_path, bpe, save_steps=5, mixed_precision="bf16", max_train_steps=5)
    AcceleratorState._reset_state()
    with pytest.raises(ValueError, match="was written with mixed_precision=bf16, this run has no"):
        train(tmp_path, bpe, resume=True, mixed_precision="no")


def test_a_resumed_run_with_an_average_equals_an_uninterrupted_one(tmp_path, bpe):
    whole, model = train_and_load(tmp_path / "whole", bpe, ema_decay=0.8)
    train(tmp_path / "parts", bpe, ema_decay=0.8, save_steps=5)
    for late in ("checkpoint-10", "config.json"):
        path = tmp_path / "parts" / "run" / late
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    resumed, resumed_model = train_and_load(tmp_path / "parts", bpe, ema_decay=0.8, resume=True)
    assert losses(resumed) == losses(whole)
    assert_same_weights(model, resumed_model)
    train(tmp_path / "plain", bpe, save_steps=5)
    with pytest.raises(ValueError, match="was written without ema_decay: use the setting of that run"):
        train(tmp_path / "plain", bpe, ema_decay=0.8, resume=True)


def test_the_average_is_that_of_the_weights_after_each_update(tmp_path, bpe):
    recorder = Recorder(state_of)
    _, model = train_and_load(tmp_path, bpe, ema_decay=0.8, callbacks=[recorder])
    for name, value in model.state_dict().items():
        mean = recorder.seen[0][name]
        for weights in recorder.seen[1:]:
            mean = 0.8 * mean + 0.2 * weights[name]
        assert torch.allclose(value, mean, atol=1e-6), name
        assert name not in dict(model.named_parameters()) or not torch.equal(value, recorder.seen[-1][name])


@pytest.mark.slow
def test_compiling_changes_no_loss(tmp_path, bpe, nothing_compiled, monkeypatch):
    compile_model = torch.compile
    # only the capture of graphs: code generation is the task of torch, and takes a minute
    monkeypatch.setattr(torch, "compile", lambda model, **given: compile_model(model, backend="aot_eager", **given))
    eager, _ = train(tmp_path / "eager", bpe, max_train_steps=4, dropout=0.0)
    compiled, _ = train_and_load(tmp_path / "compiled", bpe, max_train_steps=4, torch_compile=True, dropout=0.0)
    assert losses(compiled) == pytest.approx(losses(eager), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"torch_compile": True}, {"gradient_accumulation_steps": 2}])
def test_gradients_of_ngrams_are_sparse_or_dense_with_the_same_losses(
    tmp_path, bpe, nothing_compiled, monkeypatch, settings
):
    compile_model = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, **given: compile_model(model, backend="aot_eager", **given))
    seen = Recorder(lambda model: {table.sparse for table in model.model.embed_ngrams.tables})
    shared = {"max_train_steps": 4, "dropout": 0.0, "sparse_ngrams": True, "architecture": NGRAMS}
    sparse, _ = train(tmp_path / "sparse", bpe, callbacks=[seen], **shared)
    other, _ = train(tmp_path / "other", bpe, **shared, **settings)
    assert seen.seen == [{True}] * 4
    assert losses(other) == pytest.approx(losses(sparse), abs=1e-4)


def test_workers_change_no_loss(tmp_path, bpe):
    alone, _ = train(tmp_path / "alone", bpe)
    beside, _ = train(tmp_path / "beside", bpe, dataloader_num_workers=2)
    assert losses(alone) == losses(beside)


def test_random_features_are_drawn_anew_between_updates(tmp_path, bpe):
    recorder = Recorder(lambda model: model.model.layers[0].attention.projection.clone())
    train(tmp_path, bpe, architecture=PERFORMER, callbacks=[recorder])
    changed = [step for step in range(1, 12) if not torch.equal(recorder.seen[step - 1], recorder.seen[step])]
    # features are recorded after an update, and drawn before the next one
    assert changed == [4, 8]


def test_accumulation_changes_no_loss(tmp_path, bpe):
    # epochs with one seed have the same plan: the micro-batches are two halves of the same batches
    def run(steps):
        settings = {"gradient_accumulation_steps": steps, "max_train_steps": 3}
        return losses(train(tmp_path, bpe, dropout=0.0, **settings)[0])

    assert run(1) == pytest.approx(run(2), abs=1e-4)


def test_checkpoints_load_and_the_oldest_are_removed(tmp_path, bpe):
    _, model = train(tmp_path, bpe, save_steps=3, save_total_limit=2)
    folder = tmp_path / "run"
    assert [path.name for path in list_checkpoints(folder)] == ["checkpoint-9", "checkpoint-12"]
    assert not list(folder.glob(".unfinished*"))
    assert_same_weights(model, AutoModelForCausalLM.from_pretrained(folder / "checkpoint-12"))
    assert_same_weights(model, AutoModelForCausalLM.from_pretrained(folder))


def test_the_best_weights_are_kept(tmp_path, bpe):
    seen = []

    def evaluate(model):
        seen.append(state_of(model))
        # the second evaluation is the best
        return {"score": {1: 0.5, 2: 0.9}.get(len(seen), 0.1)}

    summary, model = train(tmp_path, bpe, evaluation=EvaluationCallback(evaluate, 4, "score"))
    assert [entry["score"] for entry in summary.history if "score" in entry][:3] == [0.5, 0.9, 0.1]
    assert all(torch.equal(value, seen[1][name]) for name, value in model.state_dict().items())


def test_the_log_has_the_lowest_part_of_a_metric_and_the_history_has_all_parts(tmp_path, bpe, capsys):
    scores = {"loss_of_b": 2.0, "score": 0.5, "score/a": 0.75, "score/b": 0.25}
    summary, _ = train(tmp_path, bpe, evaluation=EvaluationCallback(lambda model: scores, 12, "score"))
    assert [entry for entry in summary.history if "score" in entry] == [{"step": step, **scores} for step in (0, 12)]
    lines = [line for line in capsys.readouterr().out.splitlines() if "score" in line]
    assert lines == [f"step {step}: loss_of_b 2.000, score 0.500 (lowest: b 0.250)" for step in (0, 12)]


@pytest.mark.parametrize(
    ("budget", "steps"),
    [({"max_train_steps": 5}, 5), ({"num_train_epochs": 2}, "two epochs"), ({"max_train_flops": 2e8}, None)],
)
def test_each_budget_ends_the_run(tmp_path, bpe, budget, steps):
    summary, model = train(tmp_path, bpe, **budget)
    if steps == "two epochs":
        steps = sum(len(tiny_batches(bpe, epoch=epoch)) for epoch in range(2))
    assert steps is None or summary.steps == steps
    assert summary.flops == 6 * count_parameters(model) * summary.tokens
    if "max_train_flops" in budget:
        assert 2e8 <= summary.flops < 2e8 * 1.5
    assert 0.5 < summary.target_ratio < 1


def test_training_is_the_loop_of_a_textbook(tmp_path, bpe):
    summary, model = train(
        tmp_path,
        bpe,
        dropout=0.0,
        warmup_steps=3,
        lr_scheduler_type="cosine",
        weight_decay=0.5,
        adam_beta1=0.8,
        adam_beta2=0.9,
        max_grad_norm=0.3,
    )
    torch.manual_seed(0)
    config = tiny_config(vocab_size=len(bpe), hidden_dropout=0.0, attention_dropout=0.0)
    expected = BirthGPTForCausalLM(config).train()
    is_matrix = {name: "layers" in name and p.ndim == 2 for name, p in expected.named_parameters()}
    groups = [
        {"params": [p for name, p in expected.named_parameters() if is_matrix[name] == decays], "weight_decay": decay}
        for decays, decay in ((True, 0.5), (False, 0.0))
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.8, 0.9))
    batches = [batch for epoch in range(12) for batch in tiny_batches(bpe, epoch=epoch)][:12]
    seen = []
    for step, batch in enumerate(batches):
        logits = expected(**model_inputs(batch), use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["shift_labels"].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(expected.parameters(), 0.3)
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * min(1, (step + 1) / 3) * 0.5 * (1 + math.cos(math.pi * step / 12))
        optimizer.step()
        seen.append(loss.item())
    assert losses(summary) == pytest.approx(seen, abs=1e-4)
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=0, atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_flops_count_the_head_and_no_embedding(variant):
    model = tiny_model(variant, ngram_orders=[2], ngram_vocab_size=100)
    parameters = dict(model.named_parameters())
    head = parameters.get("lm_head.weight", parameters["model.embed_tokens.weight"])
    rest = [p for name, p in parameters.items() if "embed_" not in name and "lm_head" not in name]
    assert count_parameters(model) == sum(p.numel() for p in (*rest, head))


def test_a_callback_is_told_of_everything_in_order(tmp_path, bpe):
    told = []

    class Listener(TrainerCallback):
        def on_train_begin(self, trainer):
            told.append("train begin")

        def on_step_begin(self, trainer):
            told.append(f"begin {trainer.state.step}")

        def on_log(self, trainer, metrics):
            told.append(f"log {', '.join(metrics)}")

        def on_step_end(self, trainer):
            told.append(f"end {trainer.state.step}")

        def on_train_end(self, trainer):
            told.append("train end")

    train(tmp_path, bpe, max_train_steps=2, logging_steps=2, callbacks=[Listener()])
    log = "log loss, learning_rate, tokens_per_second"
    assert told == ["train begin", "begin 0", "end 1", "begin 1", log, "end 2", "train end"]


def test_the_settings_of_the_tests_are_those_of_a_run(tmp_path):
    settings = training_settings(tmp_path)
    assert settings.optimizer.learning_rate == TRAINING["learning_rate"]
    assert settings.run.output_dir == str(tmp_path)
