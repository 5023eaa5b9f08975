"""The training loop.

    models = ModelGroup(spec, model, settings.optimizer, accelerator)
    callbacks = standard_callbacks(settings.logging, settings.checkpoints, tokenizer, accelerator)
    summary = Trainer(models, batches, accelerator, settings, callbacks).train()

A `ModelGroup` contains the models. Callbacks run before and after updates. A `TrainerState` is the progress of a run.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from signal import Signals
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device

from birthgpt.data.batching import Batches, TensorBatch, count_tokens, model_inputs
from birthgpt.data.objectives import IGNORE
from birthgpt.training.checkpoints import load_checkpoint
from birthgpt.training.events import TrainerCallback
from birthgpt.training.loaders import EpochLoader, build_loader
from birthgpt.training.model_group import ModelGroup, training_flops
from birthgpt.training.peers import PeerWatch
from birthgpt.training.schedules import lr_scale
from birthgpt.training.settings import TrainingSettings
from birthgpt.training.state import TrainerState, TrainingSummary
from birthgpt.training.stopping import Stopped, StopSignals


class Update(NamedTuple):
    """One update of the weights; its losses, (models,), may not be ready."""

    losses: torch.Tensor
    step: int
    lr_scale: float
    line_ids: list[torch.Tensor]


class Trainer:
    """Trains a group of models on planned batches until the budget is used, or a signal stops the run.

    Args:
        models: the models, with their optimizers.
        batches: the epochs, planned for processes × gradient accumulation steps micro-batches.
        accelerator: the result of `build_accelerator`.
        settings: budget, schedule, computation, and the seed of dropout.
        callbacks: called before and after updates, in this order; see `standard_callbacks`.
    """

    def __init__(
        self,
        models: ModelGroup,
        batches: Batches,
        accelerator: Accelerator,
        settings: TrainingSettings,
        callbacks: Sequence[TrainerCallback] = (),
    ):
        self.models, self.accelerator = models, accelerator
        self.settings, self.callbacks = settings, callbacks
        self.loader = build_loader(batches, accelerator, settings.compute)
        self.flops_per_token = training_flops(models.replicas[0].model, 1)
        self.state = TrainerState(
            loss_sums=[0.0] * len(models),
            num_micro_batches=batches.num_micro_batches,
            mixed_precision=accelerator.mixed_precision,
        )
        self.pending: Update | None = None
        self.signals = StopSignals()

    def train(self, resume_from: Path | None = None) -> TrainingSummary:
        """Train to the end of the budget, from a checkpoint or from the beginning."""
        with closing(self.loader):
            if resume_from is not None:
                self.state = load_checkpoint(resume_from, self.models, expected=self.state)
                self.loader.resume(self.state)
            self.models.train()
            started = time.perf_counter() - self.state.seconds
            with self.signals, PeerWatch(self.accelerator), ExitStack() as callbacks:
                for callback in self.callbacks:
                    callback.on_train_begin(self)
                    callbacks.callback(callback.close)
                self.run_updates(started)
                self.flush_loss()
                self.models.check_finite(self.state.step)
                for callback in self.callbacks:
                    callback.on_train_end(self)
        return self.summary()

    def run_updates(self, started: float) -> None:
        """Update the weights until the budget is used; raises Stopped if a signal ends the run before.

        `started` is the time at which the run began, as if it had never been interrupted.
        """
        for micro_batches in self.updates():
            for callback in self.callbacks:
                callback.on_step_begin(self)
            update = self.update(micro_batches)
            # the loss of the previous update, while a GPU computes this one
            self.flush_loss()
            self.pending = update
            self.state.seconds = time.perf_counter() - started
            if self.accelerator.num_processes == 1:
                self.signals.agree(self.signals.flags())
            for callback in self.callbacks:
                callback.on_step_end(self)
            if self.stopped_by is not None:
                saved = self.settings.checkpoints.save_steps > 0
                raise Stopped(self.stopped_by, self.state.step, self.settings.run.output_dir, saved)

    @property
    def stopped_by(self) -> Signals | None:
        """The signal that ends the run after this update, before its budget is used."""
        return self.signals.agreed if self.fraction_done() < 1 else None

    def updates(self) -> Iterator[list[TensorBatch]]:
        """Yield the micro-batches of each update, from the current state until the budget is used."""
        while self.fraction_done() < 1:
            for group in self.loader.updates(self.state):
                yield group
                if self.fraction_done() >= 1:
                    return
            if self.state.batch == 0:
                raise ValueError("an epoch has no batch to train on: the corpus has no line for this objective")
            self.state.epoch += 1
            self.state.batch = 0

    def update(self, micro_batches: list[TensorBatch]) -> Update:
        """One optimizer step on the mean loss over all targets of the global batch."""
        tokens, targets = self.count(micro_batches)
        torch.manual_seed(self.step_seed(self.settings.run.seed, self.accelerator.process_index))
        losses = torch.zeros(len(self.models), device=self.accelerator.device)
        for batch in micro_batches:
            with self.models.accumulate():
                parts = self.models.losses(self.inputs(batch, targets))
                # accelerate divides by the accumulation steps and averages over processes: undo both
                self.accelerator.backward(parts.sum() * len(micro_batches) * self.accelerator.num_processes)
            losses += parts.detach()
        scale = lr_scale(self.settings.schedule, step=self.state.step, progress=min(1.0, self.fraction_done()))
        self.models.step(scale)
        line_ids = [batch["line_ids"] for batch in micro_batches]
        update = Update(self.accelerator.reduce(losses, "sum"), self.state.step + 1, scale, line_ids)
        self.state.step += 1
        self.state.batch += len(micro_batches) * self.accelerator.num_processes
        self.state.tokens += tokens
        self.state.targets += targets
        return update

    def count(self, micro_batches: list[TensorBatch]) -> tuple[int, int]:
        """The numbers of tokens, including padding, and of targets in the global batch."""
        tokens = sum(map(count_tokens, micro_batches))
        targets = sum(int((batch["shift_labels"] != IGNORE).sum()) for batch in micro_batches)
        if self.accelerator.num_processes == 1:
            return tokens, targets
        # with the counts, the processes exchange which signals they have received
        counts = torch.tensor([tokens, targets, *self.signals.flags()], device=self.accelerator.device)
        tokens, targets, *flags = self.accelerator.reduce(counts, "sum").tolist()
        self.signals.agree(flags)
        return tokens, targets

    def inputs(self, batch: TensorBatch, targets: int) -> dict:
        """The arguments of the model; the head is computed only at the targets."""
        # the mask stays on the host, where finding the targets does not wait for the device
        keep = batch["shift_labels"] != IGNORE
        inputs = send_to_device(model_inputs(batch), self.accelerator.device, non_blocking=True)
        return {**inputs, "logits_to_keep": keep, "num_items_in_batch": targets, "use_cache": False}

    def flush_loss(self) -> None:
        """Add the loss of the newest update to the sum for the next report; raises ValueError if it is not finite."""
        update, self.pending = self.pending, None
        if update is None:
            return
        losses = update.losses.tolist()
        for replica, loss in zip(self.models.replicas, losses, strict=True):
            if not math.isfinite(loss):
                lines = ", ".join(map(str, torch.cat(update.line_ids).unique().tolist()))
                rate = replica.spec.learning_rate * update.lr_scale
                raise ValueError(
                    f"{replica.spec.folder}: the loss of update {update.step} is {loss}, at learning rate {rate:.2e}, "
                    f"for the lines with line_id {lines}: lower learning_rate or max_grad_norm, or look at these "
                    "lines; the last checkpoint is from an earlier update"
                )
        self.state.loss_sums = [total + loss for total, loss in zip(self.state.loss_sums, losses, strict=True)]
        self.state.loss_steps += 1

    def log(self, metrics: dict[str, float], **lists: list[float]) -> None:
        """Add metrics to the history of the run, and pass them to the callbacks."""
        self.state.log_history.append({"step": self.state.step, **metrics, **lists})
        for callback in self.callbacks:
            callback.on_log(self, metrics)

    def fraction_done(self) -> float:
        """The fraction of the budget that is used."""
        length = 0
        if self.settings.budget.num_train_epochs is not None:
            assert isinstance(self.loader, EpochLoader), "a stream does not know the length of an epoch"
            length = len(self.loader)
        return self.state.fraction_done(self.settings.budget, self.flops_per_token, length)

    def step_seed(self, seed: int, process: int) -> int:
        """The seed of the next update, which is the same in a resumed and in an uninterrupted run."""
        return int(np.random.SeedSequence((seed, self.state.step, process)).generate_state(1, np.uint64)[0])

    def summary(self) -> TrainingSummary:
        """The summary of the run so far."""
        state, model = self.state, self.models.replicas[0].model
        losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
        return TrainingSummary(
            steps=state.step,
            tokens=state.tokens,
            target_ratio=state.targets / max(1, state.tokens),
            flops=state.tokens * self.flops_per_token,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            seconds=state.seconds,
            tokens_per_second=state.tokens * len(self.models) / max(state.seconds, 1e-9),
            loss=losses[-1] if losses else math.nan,
            processes=self.accelerator.num_processes,
            mixed_precision=self.accelerator.mixed_precision,
            models=len(self.models),
            history=state.log_history,
        )
