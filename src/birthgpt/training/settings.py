"""The settings of a training."""

from dataclasses import dataclass

from birthgpt.data.batching import BatchSettings
from birthgpt.settings import checked
from birthgpt.training.accelerators import ComputeSettings
from birthgpt.training.callbacks import LoggingSettings
from birthgpt.training.checkpoints import CheckpointSettings
from birthgpt.training.optimizers import OptimizerSettings
from birthgpt.training.run_folder import RunSettings
from birthgpt.training.schedules import ScheduleSettings
from birthgpt.training.state import BudgetSettings


@checked
@dataclass(kw_only=True)
class TrainingSettings:
    """The settings that every training command has."""

    budget: BudgetSettings
    batches: BatchSettings
    optimizer: OptimizerSettings
    schedule: ScheduleSettings
    compute: ComputeSettings
    logging: LoggingSettings
    checkpoints: CheckpointSettings
    run: RunSettings
