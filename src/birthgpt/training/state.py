"""The budget, the progress and the summary of a run."""

from dataclasses import dataclass, field, replace
from typing import Any

from birthgpt.settings import checked, setting


@checked
@dataclass(kw_only=True)
class BudgetSettings:
    """How long to train: one of steps, epochs and FLOPs."""

    max_train_steps: int | None = setting(None, "updates; give one of steps, epochs and FLOPs", min=1)
    num_train_epochs: float | int | None = setting(None, "passes over the data", above=0)
    max_train_flops: float | int | None = setting(None, "budget: 6 × parameters (without embeddings) × tokens", above=0)

    def validate_budget(self):
        """Check that exactly one budget is given."""
        names = ("max_train_steps", "num_train_epochs", "max_train_flops")
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(names)}, not {' and '.join(given) or 'none'}")


@dataclass
class TrainerState:
    """The progress of a run, saved with every checkpoint."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    """Micro-batches of this epoch that are done, over all processes."""
    stream_positions: list[dict[str, Any] | None] = field(default_factory=list)
    """Where each process is in a stream when a checkpoint is written (`data.streaming.Position`)."""
    tokens: int = 0
    """Tokens so far, including padding."""
    targets: int = 0
    seconds: float = 0.0
    num_micro_batches: int = 1
    """Processes × gradient accumulation steps, for which epochs are planned."""
    mixed_precision: str | None = None
    loss_sums: list[float] = field(default_factory=list)
    """The sum of losses of each model since the last report."""
    loss_steps: int = 0
    best_metric: float | None = None
    evaluated_at: int | None = None
    """The step of the last evaluation."""
    log_history: list[dict] = field(default_factory=list)

    def fraction_done(self, budget: BudgetSettings, flops_per_token: float, batches_per_epoch: int) -> float:
        """The fraction of the budget that is used; 1 or more at the end."""
        if budget.max_train_steps is not None:
            return self.step / budget.max_train_steps
        if budget.max_train_flops is not None:
            return self.tokens * flops_per_token / budget.max_train_flops
        assert budget.num_train_epochs is not None
        return (self.epoch + self.batch / batches_per_epoch) / budget.num_train_epochs


@dataclass
class TrainingSummary:
    """The summary of a run. `tokens` includes padding; `target_ratio` is the fraction of tokens with a target.

    If several models are trained at once, `seconds` and `tokens_per_second` are for all models together. All other
    values are for one model.
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

    def of_model(self, index: int) -> "TrainingSummary":
        """The summary of one of the models; its time is an equal part of the total time."""
        if self.models == 1:
            return self
        history = [
            {
                **{key: value for key, value in entry.items() if key not in ("losses", "learning_rates")},
                "loss": entry["losses"][index],
                "learning_rate": entry["learning_rates"][index],
            }
            for entry in self.history
        ]
        return replace(self, history=history, loss=history[-1]["loss"], seconds=self.seconds / self.models)
