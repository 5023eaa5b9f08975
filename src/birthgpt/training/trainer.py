"""The training loop."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator, DataLoaderConfiguration, skip_first_batches
from accelerate.utils import send_to_device, set_seed
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from birthgpt.data.batching import EpochBatches, TensorBatch, model_inputs
from birthgpt.data.objectives import IGNORE
from birthgpt.training.arguments import OptimizationArguments, RunArguments
from birthgpt.training.checkpoints import (
    Progress,
    load_checkpoint,
    prune_checkpoints,
    save_checkpoint,
    save_model,
)
from birthgpt.training.optimizers import build_optimizers
from birthgpt.training.schedules import lr_scale
from birthgpt.training.sharding import gather, gather_optimizer, prepare_sharding, whole_model, whole_tensor
from birthgpt.utils.environment import use_all_cores

logger = logging.getLogger(__name__)


@dataclass
class TrainingSummary:
    """What a run did; `tokens` counts pads, `target_ratio` is the part of them that carried loss.

    Of several models trained at once, everything is of each alone but `seconds` and `tokens_per_second`.
    """

    steps: int
    tokens: int
    target_ratio: float
    flops: float
    parameters: int
    seconds: float
    tokens_per_second: float
    loss: float
    processes: int
    mixed_precision: str
    models: int = 1
    history: list[dict] = field(default_factory=list)


class Update(NamedTuple):
    """One update of the weights, while its losses, (members,), may still be being computed."""

    losses: torch.Tensor
    step: int
    lr_scale: float
    line_ids: list[torch.Tensor]


def build_accelerator(optimization: OptimizationArguments, run: RunArguments) -> Accelerator:
    """The accelerator of a run, on all cores of this machine however it was launched."""
    accelerator = Accelerator(
        gradient_accumulation_steps=optimization.gradient_accumulation_steps,
        mixed_precision=optimization.mixed_precision,
        log_with=run.report_to if run.with_tracking else None,
        project_dir=run.output_dir,
        # batches differ in size: each process draws its own instead of a share of a common one
        dataloader_config=DataLoaderConfiguration(even_batches=False, dispatch_batches=False),
        step_scheduler_with_optimizer=False,
    )
    if accelerator.mixed_precision not in ("no", "bf16"):
        raise ValueError(f"mixed precision {accelerator.mixed_precision} is not for this training: launch with bf16")
    prepare_sharding(accelerator, optimization, run)
    use_all_cores(accelerator)
    set_seed(run.seed)
    return accelerator


def first_item(items: list[TensorBatch]) -> TensorBatch:
    """An item of the dataset is a whole batch already."""
    assert len(items) == 1
    return items[0]


def plain(optimizer) -> torch.optim.Optimizer:
    """The optimiser itself, without what accelerate puts around it."""
    return getattr(optimizer, "optimizer", optimizer)


def count_parameters(model: PreTrainedModel) -> int:
    """Parameters of the products that a token goes through: without embeddings, with the head."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    head = model.get_output_embeddings()
    embeddings -= {id(head.weight)} if head is not None else set()
    return sum(p.numel() for p in model.parameters() if id(p) not in embeddings)


def training_flops(model: PreTrainedModel, tokens: int) -> float:
    """6 · N · tokens, pads counted: nominal, as if every parameter were applied at every token."""
    return 6.0 * count_parameters(model) * tokens


def step_seed(seed: int, step: int, process: int) -> int:
    """The seed of dropout in one update: a resumed run draws what an uninterrupted one would."""
    return int(np.random.SeedSequence((seed, step, process)).generate_state(1, np.uint64)[0])


@dataclass
class Member:
    """A model in training, and what belongs to it alone."""

    model: PreTrainedModel
    optimizers: list[torch.optim.Optimizer]
    seed: int
    learning_rate: float
    folder: Path
    average: AveragedModel | None = None
    best_weights: dict[str, torch.Tensor] | None = None

    @property
    def eval_model(self) -> PreTrainedModel:
        """What is evaluated, and saved at the end: the weights themselves, or their running average."""
        return self.model if self.average is None else self.average.module


class Trainer:
    """One run: it owns the optimisers, the order of the data and how far it has come.

    Args:
        evaluate: called every `eval_steps` updates with the model; what it gives is logged.
        metric_for_best_model: the entry of it by which the best weights are chosen and kept; None: the last are kept.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        batches: EpochBatches,
        optimization: OptimizationArguments,
        run: RunArguments,
        accelerator: Accelerator,
        evaluate: Callable[[PreTrainedModel], dict[str, float]] | None = None,
        eval_steps: int = 0,
        metric_for_best_model: str | None = None,
    ):
        self.tokenizer, self.optimization, self.run = tokenizer, optimization, run
        self.accelerator = accelerator
        self.evaluate, self.eval_steps, self.metric_for_best_model = evaluate, eval_steps, metric_for_best_model
        self.batches = batches
        loader = DataLoader(
            batches,
            batch_size=1,
            collate_fn=first_item,
            num_workers=run.dataloader_num_workers,
            pin_memory=accelerator.device.type == "cuda",
        )
        # each update counts its batches before it sends them to the device: reading from there would wait for it
        self.loader = accelerator.prepare_data_loader(loader, device_placement=False)
        self.members = self._prepare(model)
        self.flops_per_token = training_flops(self.members[0].model, 1)
        self.progress = Progress(
            loss_sums=[0.0] * len(self.members),
            parts=batches.parts,
            mixed_precision=accelerator.mixed_precision,
        )
        self.unsettled: Update | None = None

    def _prepare(self, model: PreTrainedModel) -> list[Member]:
        """Place the model on the device, with its optimisers."""
        self.model, *optimizers = self.accelerator.prepare(model, *self._optimizers_of(model))
        model = self.accelerator.unwrap_model(self.model)
        if self.optimization.torch_compile:
            # batches differ in shape
            self.model = torch.compile(self.model, dynamic=True)
        rate, folder = self.optimization.learning_rate, Path(self.run.output_dir)
        return [Member(model, optimizers, self.run.seed, rate, folder, self._average_of(model))]

    def _optimizers_of(self, model: PreTrainedModel) -> list[torch.optim.Optimizer]:
        return build_optimizers(
            model,
            optimizer=self.optimization.optimizer,
            learning_rate=self.optimization.learning_rate,
            weight_decay=self.optimization.weight_decay,
            adam_beta1=self.optimization.adam_beta1,
            adam_beta2=self.optimization.adam_beta2,
        )

    def _average_of(self, model: PreTrainedModel) -> AveragedModel | None:
        decay = self.optimization.ema_decay
        return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay)) if decay else None

    def train(self, resume_from: Path | None = None) -> TrainingSummary:
        """Train to the end of the budget, leave the model in `output_dir`, and say what was done."""
        if resume_from is not None:
            self._load_checkpoint(resume_from)
        if self.run.with_tracking:
            self.accelerator.init_trackers("logs")
        for member in self.members:
            member.model.train()
        bar = tqdm(
            total=100,
            unit="%",
            disable=not self.accelerator.is_main_process,
            desc="training",
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
        )
        progress = self.progress
        started, seconds_before = time.perf_counter(), progress.seconds
        if progress.step == 0:
            self._evaluate(bar)
        for micro_batches in self._updates():
            updated = self._update(micro_batches)
            # of the update before: a GPU is at work on this one meanwhile
            self._settle()
            self.unsettled = updated
            progress.seconds = seconds_before + time.perf_counter() - started
            if progress.step % self.run.logging_steps == 0:
                self._log(bar)
            if self.evaluate is not None and progress.step % self.eval_steps == 0:
                self._evaluate(bar)
            if self.run.save_steps and progress.step % self.run.save_steps == 0:
                self._save_checkpoint()
        self._settle()
        self._check_weights()
        if progress.loss_steps:
            self._log(bar)
        self._evaluate(bar)
        bar.close()
        return self._finish()

    def done(self) -> float:
        """The share of the budget that is used up."""
        settings, progress = self.optimization, self.progress
        if settings.max_train_steps is not None:
            return progress.step / settings.max_train_steps
        if settings.max_train_flops is not None:
            return progress.tokens * self.flops_per_token / settings.max_train_flops
        return (progress.epoch + progress.batch / len(self.batches)) / settings.num_train_epochs

    def _updates(self) -> Iterator[list[TensorBatch]]:
        """The micro-batches of one update after another, from where the run stands, until the budget ends."""
        while self.done() < 1:
            self.batches.set_epoch(self.progress.epoch)
            self.loader.set_epoch(self.progress.epoch)
            processes = self.accelerator.num_processes
            loader = skip_first_batches(self.loader, self.progress.batch // processes)
            group = []
            for batch in loader:
                group.append(batch)
                if len(group) == self.optimization.gradient_accumulation_steps:
                    yield group
                    group = []
                    if self.done() >= 1:
                        return
            assert not group, "the plan is a multiple of processes × accumulation steps"
            if self.progress.batch == 0:
                raise ValueError("an epoch gives no batch to train on: the corpus holds no line for this objective")
            self.progress.epoch += 1
            self.progress.batch = 0

    def _update(self, micro_batches: list[TensorBatch]) -> Update:
        """One step of the optimisers on the mean loss over all targets of the global batch."""
        tokens, targets = self._count(micro_batches)
        self._redraw_features()
        torch.manual_seed(step_seed(self.run.seed, self.progress.step, self.accelerator.process_index))
        losses = torch.zeros(len(self.members), device=self.accelerator.device)
        for batch in micro_batches:
            with self.accelerator.accumulate(self.model):
                shares = self._losses(self._inputs(batch, targets))
                # accelerate divides by the steps, and averages over the processes: undo both
                self.accelerator.backward(shares.sum() * len(micro_batches) * self.accelerator.num_processes)
            losses += shares.detach()
        factor = lr_scale(
            self.optimization.lr_scheduler_type,
            step=self.progress.step,
            progress=min(1.0, self.done()),
            warmup_steps=self.optimization.warmup_steps,
            cycle_steps=self.optimization.lr_cycle_steps,
        )
        for member in self.members:
            self._step(member, factor)
        update = Update(
            losses=self.accelerator.reduce(losses, "sum"),
            step=self.progress.step + 1,
            lr_scale=factor,
            line_ids=[batch["line_ids"] for batch in micro_batches],
        )
        self.progress.step += 1
        self.progress.batch += len(micro_batches) * self.accelerator.num_processes
        self.progress.tokens += tokens
        self.progress.targets += targets
        return update

    def _count(self, micro_batches: list[TensorBatch]) -> tuple[int, int]:
        """Tokens, pads counted, and targets of the global batch."""
        counts = torch.tensor(
            [
                sum(batch["input_ids"].numel() for batch in micro_batches),
                sum(int((batch["shift_labels"] != IGNORE).sum()) for batch in micro_batches),
            ]
        )
        if self.accelerator.num_processes > 1:
            counts = self.accelerator.reduce(counts.to(self.accelerator.device), "sum")
        tokens, targets = counts.tolist()
        return tokens, targets

    def _step(self, member: Member, lr_scale: float) -> None:
        """Clip the gradient of one model and move its weights."""
        if self.optimization.max_grad_norm:
            self.accelerator.clip_grad_norm_(member.model.parameters(), self.optimization.max_grad_norm)
        for optimizer in member.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = member.learning_rate * lr_scale
            optimizer.step()
            optimizer.zero_grad()
        if member.average is not None:
            member.average.update_parameters(member.model)

    def _settle(self) -> None:
        """Read the loss of the newest update into the sum for the next report; ValueError where it is no number."""
        update, self.unsettled = self.unsettled, None
        if update is None:
            return
        losses = update.losses.tolist()
        for member, loss in zip(self.members, losses, strict=True):
            if not math.isfinite(loss):
                lines = ", ".join(map(str, torch.cat(update.line_ids).unique().tolist()))
                rate = member.learning_rate * update.lr_scale
                raise ValueError(
                    f"{member.folder}: the loss of update {update.step} is {loss}, at learning rate {rate:.2e}, for "
                    f"the lines with line_id {lines}: lower learning_rate or max_grad_norm, or look at these lines; "
                    "the last checkpoint is from before it"
                )
        self.progress.loss_sums = [total + loss for total, loss in zip(self.progress.loss_sums, losses, strict=True)]
        self.progress.loss_steps += 1

    def _redraw_features(self) -> None:
        """New random features for the layers that have some, between two updates: never inside a forward pass."""
        every, step = self.members[0].model.config.performer_redraw_steps, self.progress.step
        if not every or not step or step % every:
            return
        for member in self.members:
            generator = torch.Generator().manual_seed(step_seed(member.seed, step, process=0))
            for module in member.model.modules():
                if hasattr(module, "redraw_features"):
                    module.redraw_features(generator)

    def _losses(self, inputs: dict) -> torch.Tensor:
        """(members,): the batch's summed loss, divided by the targets of the global batch."""
        return self.model(**inputs).loss[None]

    def _inputs(self, batch: TensorBatch, targets: int) -> dict:
        """What a model is called with: it computes the head only where a target stands."""
        # the mask stays: where the targets stand is found out without waiting for the device
        keep = batch["shift_labels"] != IGNORE
        inputs = send_to_device(model_inputs(batch), self.accelerator.device, non_blocking=True)
        return {**inputs, "logits_to_keep": keep, "num_items_in_batch": targets, "use_cache": False}

    def _evaluate(self, bar: tqdm) -> None:
        """Evaluate, and keep these weights if they are the best so far."""
        progress = self.progress
        if self.evaluate is None or progress.evaluated_at == progress.step:
            return
        self._settle()
        progress.evaluated_at = progress.step
        (member,) = self.members
        results = self.evaluate(whole_model(member.eval_model))
        member.model.train()
        score = results[self.metric_for_best_model] if self.metric_for_best_model else None
        if score is not None and (progress.best_score is None or score > progress.best_score):
            progress.best_score = score
            weights = member.eval_model.state_dict()
            member.best_weights = {name: value.detach().clone() for name, value in weights.items()}
        progress.history.append({"step": progress.step, **results})
        if self.accelerator.is_main_process:
            bar.write(f"step {self.progress.step}: " + ", ".join(f"{k} {v:.3f}" for k, v in results.items()))
        if self.run.with_tracking:
            self.accelerator.log(results, step=self.progress.step)

    def _log(self, bar: tqdm) -> None:
        """Report the mean loss since the last report."""
        self._settle()
        losses = [total / self.progress.loss_steps for total in self.progress.loss_sums]
        self.progress.loss_sums, self.progress.loss_steps = [0.0] * len(losses), 0
        rates = [member.optimizers[0].param_groups[0]["lr"] for member in self.members]
        loss, rate = fmean(losses), fmean(rates)
        speed = self.progress.tokens * len(losses) / max(self.progress.seconds, 1e-9)
        metrics = {"loss": loss, "learning_rate": rate, "tokens_per_second": speed}
        of_each = {"losses": losses, "learning_rates": rates} if len(losses) > 1 else {}
        self.progress.history.append({"step": self.progress.step, **metrics, **of_each})
        bar.n = min(100.0, 100 * self.done())
        bar.set_postfix_str(f" step {self.progress.step}, loss {loss:.3f}, rate {rate:.1e}, {speed:,.0f} tokens/s")
        if self.run.with_tracking:
            self.accelerator.log(metrics, step=self.progress.step)

    def _check_weights(self) -> None:
        """ValueError for weights that are no numbers: gradients may be bad where the loss is not."""
        for member in self.members:
            kept = member.eval_model.named_parameters()
            for name, weights in [*member.model.named_parameters(), *kept]:
                if not whole_tensor(weights.isfinite().all()):
                    raise ValueError(
                        f"{member.folder}: {name} is not finite after update {self.progress.step}: lower learning_rate "
                        "or max_grad_norm; the last checkpoint is from before it"
                    )

    def _save_checkpoint(self) -> None:
        self._settle()
        self._check_weights()
        self.accelerator.wait_for_everyone()
        for member in self.members:
            # every process has its part in this
            model = whole_model(member.model)
            optimizers = [gather_optimizer(plain(optimizer)) for optimizer in member.optimizers]
            best_weights = None if member.best_weights is None else gather(member.best_weights)
            if self.accelerator.is_main_process:
                save_checkpoint(
                    member.folder, model, self.tokenizer, optimizers, self.progress, best_weights, member.average
                )
        if self.accelerator.is_main_process:
            # when all are written: what is pruned of one may be the last that all have
            for member in self.members:
                prune_checkpoints(member.folder, self.run.save_total_limit)
        self.accelerator.wait_for_everyone()

    def _checkpoint_of(self, member: Member, checkpoint: Path) -> Path:
        """Where the checkpoint of this model lies."""
        return checkpoint

    def _load_checkpoint(self, checkpoint: Path) -> None:
        for member in self.members:
            place = self._checkpoint_of(member, checkpoint)
            optimizers = [plain(optimizer) for optimizer in member.optimizers]
            self.progress, member.best_weights = load_checkpoint(place, member.model, optimizers, member.average)
            if len(self.progress.loss_sums) != len(self.members):
                raise ValueError(
                    f"{place} was written by a run of {len(self.progress.loss_sums)} models: give the same"
                )
            if self.progress.parts != self.batches.parts:
                raise ValueError(
                    f"{place} was written by a run of {self.progress.parts} processes × gradient_accumulation_steps, "
                    f"this one has {self.batches.parts}: give the same"
                )
            if self.progress.mixed_precision not in (None, self.accelerator.mixed_precision):
                raise ValueError(
                    f"{place} was written under mixed precision {self.progress.mixed_precision}, this run is under "
                    f"{self.accelerator.mixed_precision}: launch it with the same"
                )
        self.progress.mixed_precision = self.accelerator.mixed_precision
        # epochs differ in length: what is done of this one is a share of its own
        self.batches.set_epoch(self.progress.epoch)

    def _finish(self) -> TrainingSummary:
        for member in self.members:
            if member.best_weights is not None:
                member.eval_model.load_state_dict(member.best_weights)
            model = whole_model(member.eval_model).eval()
            if self.accelerator.is_main_process:
                member.folder.mkdir(parents=True, exist_ok=True)
                save_model(member.folder, model, self.tokenizer)
        # accelerate's end_training would end the process group with them
        for tracker in self.accelerator.trackers:
            tracker.finish()
        self.accelerator.wait_for_everyone()
        progress = self.progress
        losses = [entry["loss"] for entry in progress.history if "loss" in entry]
        return TrainingSummary(
            steps=progress.step,
            tokens=progress.tokens,
            target_ratio=progress.targets / max(1, progress.tokens),
            flops=progress.tokens * self.flops_per_token,
            parameters=sum(parameter.numel() for parameter in self.members[0].model.parameters()),
            seconds=progress.seconds,
            tokens_per_second=progress.tokens * len(self.members) / max(progress.seconds, 1e-9),
            loss=losses[-1] if losses else math.nan,
            processes=self.accelerator.num_processes,
            mixed_precision=self.accelerator.mixed_precision,
            models=len(self.members),
            history=progress.history,
        )
