"""The accelerator of a run: precision, processes, compilation."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import set_seed

from birthgpt.settings import checked, flatten_settings, setting
from birthgpt.training.sharding import check_sharding
from birthgpt.utils.environment import connected_accelerator, use_threads

if TYPE_CHECKING:
    from birthgpt.training.settings import TrainingSettings


@checked
@dataclass(kw_only=True)
class ThreadSettings:
    """The threads of a program."""

    num_threads: int | None = setting(
        None,
        "threads of each process; if not given, OMP_NUM_THREADS, or an equal part of all cores",
        min=1,
        # far more threads than any machine has cores end the process without a word
        max=1024,
        free_on_resume=True,
    )


@checked
@dataclass(kw_only=True)
class ComputeSettings(ThreadSettings):
    """The settings of the computation."""

    gradient_accumulation_steps: int = setting(1, "batches an update", min=1, free_on_resume=True)
    mixed_precision: Literal["no", "bf16"] | None = setting(
        None, "no or bf16; if not given, as accelerate was launched"
    )
    torch_compile: bool = setting(False, "compile the model: about a minute at the start, faster after that")
    dataloader_num_workers: int = setting(
        0, "processes that draw later epochs beside the training; they change no batch", min=0, free_on_resume=True
    )


def build_accelerator(settings: "TrainingSettings") -> Accelerator:
    """The accelerator of a run, on all cores of this machine if nothing else is given, for every kind of launch.

    It also seeds all global random number generators.

    Raises:
        ValueError: a precision other than float32 and bfloat16, or settings that do not work with sharded weights.
    """
    compute = settings.compute
    accelerator = connected_accelerator(
        gradient_accumulation_steps=compute.gradient_accumulation_steps,
        mixed_precision=compute.mixed_precision,
        log_with=settings.logging.report_to if settings.logging.with_tracking else None,
        project_dir=settings.run.output_dir,
        # batches differ in size, so each process takes whole batches instead of parts of one batch
        dataloader_config=DataLoaderConfiguration(even_batches=False, dispatch_batches=False),
        step_scheduler_with_optimizer=False,
    )
    if accelerator.mixed_precision not in ("no", "bf16"):
        raise ValueError(f"mixed_precision={accelerator.mixed_precision} is not supported: choose no or bf16")
    check_sharding(accelerator, flatten_settings(settings))
    use_threads(accelerator, compute.num_threads)
    set_seed(settings.run.seed)
    return accelerator
