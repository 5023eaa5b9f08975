"""Learning-rate schedules."""

import pytest

from birthgpt.training.schedules import ScheduleSettings, lr_scale

STEPS, WARMUP = 200, 20


def curve(schedule: str, **settings) -> list[float]:
    schedule_settings = ScheduleSettings(lr_scheduler_type=schedule, warmup_steps=WARMUP, **settings)
    return [lr_scale(schedule_settings, step=step, progress=step / STEPS) for step in range(STEPS)]


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant", "warmup_stable_decay"])
def test_rises_over_the_warmup_and_never_after_it(schedule):
    factors = curve(schedule)
    assert factors[0] == pytest.approx(1 / WARMUP, rel=0.01)
    assert all(a < b for a, b in zip(factors[: WARMUP - 2], factors[1 : WARMUP - 1], strict=True))
    assert all(a >= b for a, b in zip(factors[WARMUP:-1], factors[WARMUP + 1 :], strict=True))
    assert max(factors) <= 1


@pytest.mark.parametrize("schedule", ["linear", "cosine", "warmup_stable_decay"])
def test_ends_near_zero(schedule):
    assert curve(schedule)[-1] < 0.03


def test_warmup_stable_decay_stays_until_four_fifths():
    factors = curve("warmup_stable_decay")
    assert set(factors[WARMUP : int(0.8 * STEPS)]) == {1.0}


def test_the_assignments_cosine_climbs_again_and_has_a_floor():
    factors = curve("assignment_cosine", lr_cycle_steps=60)
    assert min(factors[WARMUP:]) == 0.1
    assert factors[WARMUP + 60] == 0.1 and factors[WARMUP + 120] == pytest.approx(1)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="lr_scheduler_type='cosin' does not exist: did you mean 'cosine'"):
        curve("cosin")
    with pytest.raises(ValueError, match="needs lr_cycle_steps"):
        curve("assignment_cosine")
