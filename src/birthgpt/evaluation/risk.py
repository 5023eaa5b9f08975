"""Thresholds with a finite-sample bound on the risk: the rate of wrong answers among those that are given.

A threshold may be used for a risk if a test rejects that the true rate is greater: p(at most w wrong of n | risk) ≤ δ
for the exact binomial test, whose inversion is the bound of Clopper and Pearson (1934). Many thresholds are tried, so
one of them could pass by luck. Therefore they are tested in a fixed sequence, and the first that fails ends the tests
(*learn then test*: Angelopoulos et al., 2110.01052). Other people than those of the tests decide the sequence: the most
promising thresholds come first (*Pareto testing*: Laufer-Goldshtein et al., 2210.07913).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Threshold:
    """A threshold of p(right), with what it does on two independent groups of people.

    Args:
        value: an answer is given if p(right) is at least this.
        answered, wrong: the questions of the tests that would be answered, and how many of them wrong.
        design_effect: how much greater the variance of the rate is than that of as many independent questions, at least
            1. It is 1 if each person has one question.
        answered_before, wrong_before: the same counts on the people that decide the sequence.
    """

    value: float
    answered: int
    wrong: int
    design_effect: float
    answered_before: int
    wrong_before: int


def check_risk(risk: float, name: str = "max_risk") -> None:
    """Raise ValueError unless a risk is between 0 and 1, both excluded."""
    if not 0 < risk < 1:
        raise ValueError(f"{name}={risk}: it must be greater than 0 and less than 1, such as 0.05 for 5%")


def p_value(wrong: float, answered: float, risk: float) -> float:
    """p(at most `wrong` of `answered` | each is wrong with probability `risk`): the exact binomial test."""
    if wrong >= answered:
        return 1.0
    counts = range(int(wrong) + 1)
    logarithms = [
        math.lgamma(answered + 1)
        - math.lgamma(count + 1)
        - math.lgamma(answered - count + 1)
        + count * math.log(risk)
        + (answered - count) * math.log1p(-risk)
        for count in counts
    ]
    largest = max(logarithms)
    return min(1.0, math.exp(largest) * sum(math.exp(value - largest) for value in logarithms))


def upper_bound(wrong: float, answered: float, confidence: float) -> float:
    """The upper bound of Clopper and Pearson: the largest risk that the test does not reject at `confidence`."""
    low, high = (wrong / answered if answered else 0.0), 1.0
    if wrong >= answered:
        return 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if p_value(wrong, answered, middle) > 1 - confidence else (low, middle)
    return high


def effective_counts(threshold: Threshold) -> tuple[int, int]:
    """Wrong and answered, as if of independent questions (Korn and Graubard, 1998), rounded to the safe side."""
    answered = int(threshold.answered / threshold.design_effect + 1e-9)
    return math.ceil(threshold.wrong / threshold.design_effect - 1e-9), answered


def choose_threshold(thresholds: Sequence[Threshold], risk: float, confidence: float) -> Threshold | None:
    """The lowest threshold that the tests allow for a risk; None if they allow none.

    With a probability of at least `confidence`, over the draw of the people of the tests, the rate of wrong answers
    among the answers that it lets through is at most `risk`.

    Raises:
        ValueError: the risk is not between 0 and 1.
    """
    check_risk(risk)
    order = sorted(
        thresholds,
        key=lambda threshold: (p_value(threshold.wrong_before, threshold.answered_before, risk), -threshold.value),
    )
    allowed = []
    for threshold in order:
        if p_value(*effective_counts(threshold), risk) > 1 - confidence:
            break
        allowed.append(threshold)
    return min(allowed, key=lambda threshold: threshold.value, default=None)


def tabulate_thresholds(
    values: Sequence[float],
    tested: tuple[Sequence[float], Sequence[bool], Sequence[int]],
    before: tuple[Sequence[float], Sequence[bool], Sequence[int]],
) -> list[Threshold]:
    """What each threshold does on the people of the tests, and on those that decide the sequence.

    Args:
        values: the thresholds, which may depend on the people of `before`, never on those of `tested`.
        tested: p(right) of each question of the tests, whether its answer is right, and the number of its person.
        before: the same of other people. They also tell how alike the answers about a person are.
    """
    scores, right, people = map(np.asarray, tested)
    scores_before, right_before, people_before = map(np.asarray, before)
    correlation = within_person(~right_before, people_before)
    found = []
    for value in values:
        given, given_before = scores >= value, scores_before >= value
        found.append(
            Threshold(
                float(value),
                int(given.sum()),
                int((given & ~right).sum()),
                design_effect(people[given], correlation),
                int(given_before.sum()),
                int((given_before & ~right_before).sum()),
            )
        )
    return found


def design_effect(people: np.ndarray, correlation: float) -> float:
    """The variance of a rate over questions, relative to independent questions: 1 + (m − 1) · correlation (Kish, 1965).

    Args:
        people: the person of each question.
        correlation: that of two questions about the same person (0..1).

    Returns:
        The effect, with m = Σ n² / Σ n for n questions of a person; 1 if each person has one question.
    """
    if not len(people):
        return 1.0
    counts = np.unique(people, return_counts=True)[1]
    return float(1 + ((counts**2).sum() / counts.sum() - 1) * correlation)


def within_person(wrong: np.ndarray, people: np.ndarray) -> float:
    """The correlation (0..1) of two questions about the same person: of *wrong*, over all pairs of questions.

    It is Σ_i Σ_{j≠k} (w_ij − r)(w_ik − r) over the number of pairs, divided by the variance r (1 − r).
    """
    rate = wrong.mean() if len(wrong) else 0.0
    _, groups, counts = np.unique(people, return_inverse=True, return_counts=True)
    pairs = (counts * (counts - 1)).sum()
    if not pairs or rate in (0.0, 1.0):
        # without pairs it does not matter, and without a wrong answer the worst is assumed
        return 1.0 if pairs else 0.0
    residuals = wrong - rate
    sums = np.bincount(groups, weights=residuals)
    products = (sums**2).sum() - (residuals**2).sum()
    return float(min(1.0, max(0.0, products / pairs / (rate * (1 - rate)))))
