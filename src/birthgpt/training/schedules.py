"""Learning-rate schedules: the factor of the peak learning rate for each update."""

import math
from dataclasses import dataclass
from typing import Literal

from birthgpt.settings import checked, setting


@checked
@dataclass(kw_only=True)
class ScheduleSettings:
    """How the learning rate changes over a run.

    - `linear`: falls linearly to zero. `cosine`: falls to zero along half a cosine. `constant`: does not change.
    - `warmup_stable_decay`: does not change until 80% of the run, then falls linearly to zero.
    - `assignment_cosine`: the schedule of the CS224N assignment, a cosine of half-period `lr_cycle_steps` with floor
      0.1. It is *not clamped at its end*: in a longer run it rises to the peak again. For comparison only.

    Every schedule first rises linearly over `warmup_steps`. After that, only `assignment_cosine` rises again.
    """

    lr_scheduler_type: Literal["linear", "cosine", "constant", "warmup_stable_decay", "assignment_cosine"] = setting(
        "linear", "schedule of the learning rate"
    )
    warmup_steps: int = setting(0, "updates until the peak rate", min=0)
    lr_cycle_steps: int | None = setting(None, "half-period of assignment_cosine, in updates", min=1)

    def validate_cycle(self):
        """Check that the cosine of the assignment has a period."""
        if self.lr_scheduler_type == "assignment_cosine" and self.lr_cycle_steps is None:
            raise ValueError("lr_scheduler_type=assignment_cosine needs lr_cycle_steps, its half-period")


def lr_scale(settings: ScheduleSettings, *, step: int, progress: float) -> float:
    """The factor of the next update, after `step` updates and the fraction `progress` in [0, 1] of the run."""
    warmup = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    if settings.lr_scheduler_type == "constant":
        return warmup
    if settings.lr_scheduler_type == "linear":
        return warmup * (1 - progress)
    if settings.lr_scheduler_type == "cosine":
        return warmup * 0.5 * (1 + math.cos(math.pi * progress))
    if settings.lr_scheduler_type == "warmup_stable_decay":
        return warmup * min(1.0, (1 - progress) / 0.2)
    assert settings.lr_cycle_steps is not None
    angle = math.pi * (step - settings.warmup_steps) / settings.lr_cycle_steps
    return warmup * max(0.1, 0.5 * (1 + math.cos(angle)))
