"""Callbacks before and after the updates of a run: logging, evaluation, new random features. `saving` has the last one.

Events have the same names as in the `TrainerCallback` of transformers. Each event receives the trainer, whose `state`,
`models` and `log` are public. Callbacks are called in the order of the list.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from statistics import fmean
from typing import TYPE_CHECKING, Literal

import torch
from accelerate import Accelerator
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from birthgpt.model.attention import Attention
from birthgpt.settings import checked, setting
from birthgpt.training.checkpoints import CheckpointSettings
from birthgpt.training.events import Metrics, TrainerCallback
from birthgpt.training.saving import CheckpointCallback
from birthgpt.training.sharding import full_weights, load_full_weights, unsharded

if TYPE_CHECKING:
    from birthgpt.training.trainer import Trainer


@checked
@dataclass(kw_only=True)
class LoggingSettings:
    """What a run reports."""

    logging_steps: int = setting(50, "updates between two reports", min=1, free_on_resume=True)
    with_tracking: bool = setting(
        False, "log metrics to a tracker; TensorBoard writes to output_dir/logs", free_on_resume=True
    )
    report_to: Literal["tensorboard", "trackio", "wandb"] = setting("tensorboard", "the tracker", free_on_resume=True)

    def validate_tracker(self):
        """Check that the package of the tracker is installed."""
        if self.with_tracking and find_spec(self.report_to) is None:
            raise ValueError(f"report_to={self.report_to} needs its package: pip install {self.report_to}")


@checked
@dataclass(kw_only=True)
class ValidationSettings:
    """Evaluation on questions during training."""

    validation_size: int = setting(0, "train questions that are held out for evaluation", min=0)
    eval_steps: int | None = setting(
        None, "updates between two evaluations, 0 for none; by default 10 in finetuning and none in pretraining", min=0
    )


def standard_callbacks(
    logging: LoggingSettings,
    checkpoints: CheckpointSettings,
    tokenizer: PreTrainedTokenizerBase,
    accelerator: Accelerator,
    evaluation: "EvaluationCallback | None" = None,
) -> list[TrainerCallback]:
    """The callbacks of a run, in the order in which they depend on each other."""
    return [
        FeatureRedrawCallback(),
        LoggingCallback(logging),
        *([evaluation] if evaluation is not None else []),
        CheckpointCallback(checkpoints, tokenizer),
        *([TrackingCallback(accelerator)] if logging.with_tracking else []),
    ]


class FeatureRedrawCallback(TrainerCallback):
    """Calls `Attention.between_updates` of every layer, with the same random numbers in every process."""

    def on_step_begin(self, trainer: "Trainer") -> None:
        step = trainer.state.step
        if step == 0:
            return
        for replica in trainer.models.replicas:
            generator = torch.Generator().manual_seed(trainer.step_seed(replica.spec.seed, process=0))
            for module in replica.model.modules():
                if isinstance(module, Attention):
                    module.between_updates(step, generator)


class LoggingCallback(TrainerCallback):
    """Logs the mean loss every `logging_steps` updates. A bar shows how much of the budget is used."""

    def __init__(self, settings: LoggingSettings):
        self.logging_steps = settings.logging_steps

    def on_train_begin(self, trainer: "Trainer") -> None:
        self.bar = tqdm(
            total=100,
            unit="%",
            disable=not trainer.accelerator.is_main_process,
            desc="training",
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
        )

    def on_step_end(self, trainer: "Trainer") -> None:
        if trainer.state.step % self.logging_steps == 0:
            self._log_loss(trainer)

    def on_log(self, trainer: "Trainer", metrics: Metrics) -> None:
        if "loss" not in metrics and not self.bar.disable:
            # through the bar, so that the bar stays intact
            self.bar.write(f"step {trainer.state.step}: {_in_one_line(metrics)}")

    def on_train_end(self, trainer: "Trainer") -> None:
        trainer.flush_loss()
        if trainer.state.loss_steps:
            self._log_loss(trainer)

    def close(self) -> None:
        self.bar.close()

    def _log_loss(self, trainer: "Trainer") -> None:
        trainer.flush_loss()
        state = trainer.state
        losses = [total / state.loss_steps for total in state.loss_sums]
        state.loss_sums, state.loss_steps = [0.0] * len(losses), 0
        rates = [replica.optimizers[0].param_groups[0]["lr"] for replica in trainer.models.replicas]
        loss, rate = fmean(losses), fmean(rates)
        speed = state.tokens * len(losses) / max(state.seconds, 1e-9)
        metrics = {"loss": loss, "learning_rate": rate, "tokens_per_second": speed}
        of_each = {"losses": losses, "learning_rates": rates} if len(losses) > 1 else {}
        trainer.log(metrics, **of_each)
        self.bar.n = min(100.0, 100 * trainer.fraction_done())
        self.bar.set_postfix_str(f" step {state.step}, loss {loss:.3f}, rate {rate:.1e}, {speed:,.0f} tokens/s")


class TrackingCallback(TrainerCallback):
    """Sends all metrics to the trackers of accelerate."""

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        accelerator.init_trackers("logs")

    def on_log(self, trainer: "Trainer", metrics: Metrics) -> None:
        self.accelerator.log(metrics, step=trainer.state.step)

    def close(self) -> None:
        # end_training of accelerate would also end the process group
        for tracker in self.accelerator.trackers:
            tracker.finish()


class EvaluationCallback(TrainerCallback):
    """Evaluates a single model during training, and keeps its best weights.

    Args:
        evaluate: returns metrics of a model; they are logged. `score/a` is a part of `score`, of which the history has
            all parts and the log has the lowest.
        eval_steps: updates between two evaluations; the first is before, the last after the training.
        metric_for_best_model: the metric that selects the best weights, which are restored at the end; None: the last
            weights are kept.
    """

    def __init__(
        self,
        evaluate: Callable[[PreTrainedModel], Metrics],
        eval_steps: int,
        metric_for_best_model: str | None = None,
    ):
        self.evaluate, self.eval_steps, self.metric_for_best_model = evaluate, eval_steps, metric_for_best_model

    def on_train_begin(self, trainer: "Trainer") -> None:
        if trainer.state.step == 0:
            self._evaluate(trainer)

    def on_step_end(self, trainer: "Trainer") -> None:
        if trainer.state.step % self.eval_steps == 0:
            self._evaluate(trainer)

    def on_train_end(self, trainer: "Trainer") -> None:
        self._evaluate(trainer)
        (replica,) = trainer.models.replicas
        if replica.best_weights is not None:
            load_full_weights(replica.eval_model, replica.best_weights)

    def _evaluate(self, trainer: "Trainer") -> None:
        state = trainer.state
        if state.evaluated_at == state.step:
            return
        trainer.flush_loss()
        state.evaluated_at = state.step
        (replica,) = trainer.models.replicas
        metrics = self.evaluate(unsharded(replica.eval_model))
        replica.model.train()
        score = metrics[self.metric_for_best_model] if self.metric_for_best_model else None
        if score is not None and (state.best_metric is None or score > state.best_metric):
            state.best_metric = score
            weights = full_weights(replica.eval_model)
            replica.best_weights = {name: value.detach().clone() for name, value in weights.items()}
        trainer.log(metrics)


def _in_one_line(metrics: Metrics) -> str:
    """All metrics, but only the lowest of the parts of one: `score/a` is a part of `score`."""
    parts: dict[str, Metrics] = {name: {} for name in metrics}
    for name, value in metrics.items():
        whole, _, part = name.partition("/")
        if part and whole in parts:
            parts[whole][part] = value
            del parts[name]
    return ", ".join(f"{name} {metrics[name]:.3f}{_lowest(found)}" for name, found in parts.items())


def _lowest(parts: Metrics) -> str:
    if not parts:
        return ""
    name = min(parts, key=parts.__getitem__)
    return f" (lowest: {name} {parts[name]:.3f})"
