"""How far a run has come, how long it may go on, and what it did."""

from dataclasses import dataclass, field, replace

from birthgpt.settings import checked, setting


@checked
@dataclass(kw_only=True)
class BudgetSettings:
    """How long to train: one of steps, epochs and FLOPs."""

    max_train_steps: int | None = setting(None, "updates; give one of steps, epochs and FLOPs", min=1)
    num_train_epochs: float | int | None = setting(None, "passes over the data", above=0)
    max_train_flops: float | int | None = setting(None, "budget: 6 × parameters (without embeddings) × tokens", above=0)

    def validate_budget(self):
        """One budget ends the run."""
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
    tokens: int = 0
    """Tokens so far, pads counted."""
    targets: int = 0
    seconds: float = 0.0
    num_micro_batches: int = 1
    """Processes × gradient accumulation steps, by which epochs are planned."""
    mixed_precision: str | None = None
    loss_sums: list[float] = field(default_factory=list)
    """Of each model, over the updates since the last report."""
    loss_steps: int = 0
    best_metric: float | None = None
    evaluated_at: int | None = None
    """The step of the last evaluation."""
    log_history: list[dict] = field(default_factory=list)

    def fraction_done(self, budget: BudgetSettings, flops_per_token: float, batches_per_epoch: int) -> float:
        """The fraction of the budget that is used up; 1 or more at the end."""
        if budget.max_train_steps is not None:
            return self.step / budget.max_train_steps
        if budget.max_train_flops is not None:
            return self.tokens * flops_per_token / budget.max_train_flops
        assert budget.num_train_epochs is not None
        return (self.epoch + self.batch / batches_per_epoch) / budget.num_train_epochs


@dataclass
class TrainingSummary:
    """What a run did. `tokens` counts pads; `target_ratio` is the part of them that carried loss.

    Where several models are trained at once, every value is that of one model, but for `seconds` and
    `tokens_per_second`, which are those of all.
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
        """The summary of one of the models; its time is its part of the time of all."""
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
