"""Learning-rate schedules: the factor on the peak rate at a point of the run."""

import math


def lr_scale(
    schedule: str, *, step: int, progress: float, warmup_steps: int = 0, cycle_steps: int | None = None
) -> float:
    """The factor for the update after `step` updates, when `progress` in [0, 1] of the run is done.

    - `linear`: falls to zero; `cosine`: likewise, along half a cosine; `constant`: stays.
    - `warmup_stable_decay`: stays until 80% of the run, then falls linearly to zero.
    - `assignment_cosine`: the CS224N recipe's, a cosine of half-period `cycle_steps` with floor 0.1 that is
      *not clamped at its end*: in a run longer than that it climbs back to the peak. Kept for comparison.

    Each rises linearly over `warmup_steps` first. All but the last never rise after that.

    Raises:
        ValueError: a schedule that does not exist, or `assignment_cosine` without `cycle_steps`.
    """
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    if schedule == "constant":
        return warmup
    if schedule == "linear":
        return warmup * (1 - progress)
    if schedule == "cosine":
        return warmup * 0.5 * (1 + math.cos(math.pi * progress))
    if schedule == "warmup_stable_decay":
        return warmup * min(1.0, (1 - progress) / 0.2)
    if schedule == "assignment_cosine":
        if not cycle_steps:
            raise ValueError("lr_scheduler_type=assignment_cosine needs lr_cycle_steps, its half-period")
        return warmup * max(0.1, 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / cycle_steps)))
    raise ValueError(
        f"lr_scheduler_type={schedule!r} does not exist: choose linear, cosine, constant, "
        "warmup_stable_decay or assignment_cosine"
    )
