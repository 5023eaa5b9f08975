"""The events of a training: the base class of callbacks."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from birthgpt.training.trainer import Trainer

Metrics = dict[str, float]


class TrainerCallback:
    """Base class of callbacks. Every event does nothing."""

    def on_train_begin(self, trainer: "Trainer") -> None:
        """Before the first update, after the checkpoint was loaded."""

    def on_step_begin(self, trainer: "Trainer") -> None:
        """Before an update; `trainer.state` is the state after the previous update."""

    def on_step_end(self, trainer: "Trainer") -> None:
        """After an update, whose loss may not be ready: see `trainer.flush_loss`; see also `trainer.stopped_by`."""

    def on_log(self, trainer: "Trainer", metrics: Metrics) -> None:
        """After `trainer.log`."""

    def on_train_end(self, trainer: "Trainer") -> None:
        """After the last update of the budget."""

    def close(self) -> None:
        """When the training ends, by its budget, by a signal or by an error. Called if `on_train_begin` was."""
