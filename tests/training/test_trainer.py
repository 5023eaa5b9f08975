"""The loop: repeatable, resumable, and the same whatever the accumulation."""

import copy
import dataclasses
import math
import shutil

import pytest
import torch
from birthgpt.training.arguments import OptimizationArguments
from builders import OPTIMIZATION, PERFORMER, VARIANTS, losses, tiny_batches, tiny_config, tiny_model, train
from transformers import AutoModelForCausalLM

from birthgpt import BirthGPTForCausalLM
from birthgpt.data.batching import EpochBatches, model_inputs
from birthgpt.training.checkpoints import Progress, check_run_folder, list_checkpoints
from birthgpt.training.trainer import Trainer, count_parameters


def train_and_load(folder, bpe, **settings):
    """The summary, and the model that was left behind."""
    summary, _ = train(folder, bpe, **settings)
    return summary, AutoModelForCausalLM.from_pretrained(folder / "run")


def test_the_same_run_gives_the_same_losses_and_learns(tmp_path, bpe):
    summary, _ = train(tmp_path, bpe)
    again, _ = train(tmp_path, bpe)
    assert losses(summary) == losses(again)
    assert losses(summary)[-1] < losses(summary)[0] - 0.5
    other, _ = train(tmp_path, bpe, seed=1)
    assert losses(summary) != losses(other)


@pytest.mark.parametrize(("stopped_after", "architecture"), [(1, {}), (5, {}), (9, {}), (5, PERFORMER), (8, PERFORMER)])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, bpe, stopped_after, architecture, monkeypatch):
    whole, model = train(tmp_path, bpe, architecture=architecture)
    budget = dataclasses.replace(OPTIMIZATION, max_train_steps=12)

    class Interrupted(Exception):
        pass

    def interrupt(self):
        original(self)
        if self.progress.step == stopped_after:
            raise Interrupted

    original = Trainer._save_checkpoint
    Trainer._save_checkpoint = interrupt
    try:
        with pytest.raises(Interrupted):
            train(tmp_path, bpe, optimization=budget, save_steps=1, architecture=architecture)
    finally:
        Trainer._save_checkpoint = original
    # whatever a new process would draw instead
    torch.manual_seed(999)
    updates, update = [], Trainer._update
    monkeypatch.setattr(Trainer, "_update", lambda self, batches: updates.append(1) or update(self, batches))
    resumed, resumed_model = train(
        tmp_path, bpe, optimization=budget, resume=True, save_steps=0, architecture=architecture
    )
    assert losses(resumed) == losses(whole) and len(updates) == 12 - stopped_after
    assert (resumed.steps, resumed.tokens) == (whole.steps, whole.tokens)
    for name, value in model.state_dict().items():
        assert torch.equal(value, resumed_model.state_dict()[name]), name


def test_a_run_resumed_in_a_longer_epoch_does_not_end_early(tmp_path, bpe, monkeypatch):
    set_epoch = EpochBatches.set_epoch

    def lengthen_the_second(self, epoch):
        if epoch != self.epoch:
            set_epoch(self, epoch)
            self.batches = self.batches * (3 if epoch == 1 else 1)

    monkeypatch.setattr(EpochBatches, "set_epoch", lengthen_the_second)
    epochs = dataclasses.replace(OPTIMIZATION, max_train_steps=None, num_train_epochs=2)
    whole, _ = train(tmp_path, bpe, optimization=epochs, save_steps=1, save_total_limit=99)
    folder = tmp_path / "run"
    shutil.rmtree(folder / f"checkpoint-{whole.steps}")
    (folder / "config.json").unlink()
    resumed, _ = train(tmp_path, bpe, optimization=epochs, resume=True)
    assert resumed.steps == whole.steps and losses(resumed) == losses(whole)


def test_a_run_goes_on_under_the_precision_it_began_with(tmp_path, bpe, monkeypatch):
    begun_under = Progress.__init__

    def begin_in_bf16(self, **fields):
        begun_under(self, **{**fields, "mixed_precision": "bf16"})

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "__init__", begin_in_bf16)
        train(tmp_path, bpe, save_steps=5)
    with pytest.raises(ValueError, match="was written under mixed precision bf16, this run is under no"):
        train(tmp_path, bpe, resume=True)


def test_a_resumed_run_with_an_average_equals_an_uninterrupted_one(tmp_path, bpe):
    averaged = dataclasses.replace(OPTIMIZATION, ema_decay=0.8)
    whole, model = train_and_load(tmp_path / "whole", bpe, optimization=averaged)
    train(tmp_path / "parts", bpe, optimization=averaged, save_steps=5)
    for late in ("checkpoint-10", "config.json"):
        path = tmp_path / "parts" / "run" / late
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    resumed, resumed_model = train_and_load(tmp_path / "parts", bpe, optimization=averaged, resume=True)
    assert losses(resumed) == losses(whole)
    for name, value in model.state_dict().items():
        assert torch.equal(value, resumed_model.state_dict()[name]), name
    with pytest.raises(ValueError, match="was written without ema_decay: give the same"):
        train(tmp_path / "plain", bpe, save_steps=5)
        train(tmp_path / "plain", bpe, optimization=averaged, resume=True)


def test_the_average_is_that_of_the_weights_after_each_update(tmp_path, bpe):
    seen = []

    def look(self, micro_batches):
        update = original(self, micro_batches)
        seen.append(copy.deepcopy(self.model.state_dict()))
        return update

    original = Trainer._update
    Trainer._update = look
    try:
        averaged = dataclasses.replace(OPTIMIZATION, ema_decay=0.8)
        _, model = train_and_load(tmp_path, bpe, optimization=averaged)
    finally:
        Trainer._update = original
    for name, value in model.state_dict().items():
        mean = seen[0][name]
        for weights in seen[1:]:
            mean = 0.8 * mean + 0.2 * weights[name]
        assert torch.allclose(value, mean, atol=1e-6), name
        assert name not in dict(model.named_parameters()) or not torch.equal(value, seen[-1][name])


@pytest.mark.slow
def test_compiling_changes_no_loss(tmp_path, bpe, nothing_compiled):
    short = dataclasses.replace(OPTIMIZATION, max_train_steps=4)
    eager, _ = train(tmp_path / "eager", bpe, optimization=short, dropout=0.0)
    compiled, _ = train_and_load(
        tmp_path / "compiled", bpe, optimization=dataclasses.replace(short, torch_compile=True), dropout=0.0
    )
    assert losses(compiled) == pytest.approx(losses(eager), abs=1e-4)


def test_workers_change_no_loss(tmp_path, bpe):
    alone, _ = train(tmp_path / "alone", bpe)
    beside, _ = train(tmp_path / "beside", bpe, dataloader_num_workers=2)
    assert losses(alone) == losses(beside)


def test_random_features_are_drawn_anew_between_updates(tmp_path, bpe):
    seen = []

    def look(self, micro_batches):
        loss = original(self, micro_batches)
        seen.append(self.model.model.layers[0].attention.projection.clone())
        return loss

    original = Trainer._update
    Trainer._update = look
    try:
        train(tmp_path, bpe, architecture=PERFORMER)
    finally:
        Trainer._update = original
    changed = [step for step in range(1, 12) if not torch.equal(seen[step - 1], seen[step])]
    assert changed == [4, 8]


def test_accumulation_changes_no_loss(tmp_path, bpe):
    # one seed's epochs are planned alike only for equal parts: compare 2 against 4 halves of the same batches
    def run(steps):
        optimization = dataclasses.replace(OPTIMIZATION, gradient_accumulation_steps=steps, max_train_steps=3)
        return losses(train(tmp_path, bpe, optimization=optimization, dropout=0.0)[0])

    assert run(1) == pytest.approx(run(2), abs=1e-5)


def test_checkpoints_load_and_the_oldest_are_removed(tmp_path, bpe):
    _, model = train(tmp_path, bpe, save_steps=3, save_total_limit=2)
    folder = tmp_path / "run"
    assert [path.name for path in list_checkpoints(folder)] == ["checkpoint-9", "checkpoint-12"]
    assert not list(folder.glob(".unfinished*"))
    loaded = AutoModelForCausalLM.from_pretrained(folder / "checkpoint-12")
    final = AutoModelForCausalLM.from_pretrained(folder)
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]) and torch.equal(value, final.state_dict()[name])


def test_the_best_weights_are_kept(tmp_path, bpe):
    seen = []

    def evaluate(model):
        seen.append(copy.deepcopy(model.state_dict()))
        # the second look is the best
        return {"score": {1: 0.5, 2: 0.9}.get(len(seen), 0.1)}

    summary, model = train(tmp_path, bpe, evaluate=evaluate, metric_for_best_model="score")
    assert [entry["score"] for entry in summary.history if "score" in entry][:3] == [0.5, 0.9, 0.1]
    assert all(torch.equal(value, seen[1][name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("budget", "steps"),
    [({"max_train_steps": 5}, 5), ({"num_train_epochs": 2}, "two epochs"), ({"max_train_flops": 2e8}, None)],
)
def test_each_budget_ends_the_run(tmp_path, bpe, budget, steps):
    optimization = OptimizationArguments(**budget, tokens_per_batch=400, learning_rate=1e-3)
    summary, model = train(tmp_path, bpe, optimization=optimization)
    if steps == "two epochs":
        steps = sum(len(tiny_batches(bpe, epoch=epoch)) for epoch in range(2))
    assert steps is None or summary.steps == steps
    assert summary.flops == 6 * count_parameters(model) * summary.tokens
    if "max_train_flops" in budget:
        assert 2e8 <= summary.flops < 2e8 * 1.5
    assert 0.5 < summary.target_ratio < 1


def test_a_folder_that_holds_a_run_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="is not empty: pass --overwrite_output_dir true"):
        check_run_folder(str(tmp_path), overwrite=False)
    check_run_folder(str(tmp_path), overwrite=True)
    with pytest.raises(ValueError, match="is a file"):
        check_run_folder(str(tmp_path / "config.json"), overwrite=True)


def test_training_is_the_loop_of_a_textbook(tmp_path, bpe):
    optimization = OptimizationArguments(
        max_train_steps=12,
        tokens_per_batch=400,
        learning_rate=5e-3,
        warmup_steps=3,
        lr_scheduler_type="cosine",
        weight_decay=0.5,
        adam_beta1=0.8,
        adam_beta2=0.9,
        max_grad_norm=0.3,
    )
    summary, model = train(tmp_path, bpe, optimization=optimization, dropout=0.0)
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
