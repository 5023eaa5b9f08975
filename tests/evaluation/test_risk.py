"""Thresholds whose risk is bounded: exact tests against scipy, and the promise on redrawn people."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from birthgpt.evaluation.risk import (
    Threshold,
    choose_threshold,
    design_effect,
    effective_counts,
    p_value,
    tabulate_thresholds,
    upper_bound,
    within_person,
)

GRID = np.linspace(0.2, 0.99, 60).tolist()


@pytest.mark.parametrize("answered", [1, 20, 137, 3000])
@pytest.mark.parametrize("risk", [0.01, 0.05, 0.5, 0.99])
def test_the_test_is_the_exact_binomial_test(answered, risk):
    for wrong in {0, 1, answered // 20, answered // 2, answered - 1, answered}:
        expected = stats.binom.cdf(wrong, answered, risk)
        assert p_value(wrong, answered, risk) == pytest.approx(expected, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize(("wrong", "answered"), [(0, 1), (0, 60), (3, 60), (59, 60), (60, 60), (20, 2000), (0, 0)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_the_bound_is_that_of_clopper_and_pearson(wrong, answered, confidence):
    expected = 1.0 if wrong == answered else stats.beta.ppf(confidence, wrong + 1, answered - wrong)
    assert upper_bound(wrong, answered, confidence) == pytest.approx(expected, rel=1e-6)


def draw(generator, people, questions=1):
    """p(right) by a score that is too sure of itself, whether right, and the person of each question."""
    scores = np.repeat(generator.beta(4, 1, people), questions)
    # all answers about a person depend on the same luck
    luck = np.repeat(generator.random(people), questions)
    return scores, luck < true_probability(scores), np.repeat(np.arange(people), questions)


def true_probability(scores):
    return scores**1.5


def true_risk(value):
    """The rate of wrong answers above a threshold, by numerical integration over the scores."""
    scores = np.linspace(value, 1, 20_001)
    density = stats.beta.pdf(scores, 4, 1)
    return 1 - (density * true_probability(scores)).sum() / density.sum()


@pytest.mark.slow
@pytest.mark.parametrize("questions", [1, 4])
@pytest.mark.parametrize("people", [100, 400])
@pytest.mark.parametrize("risk", [0.05, 0.2])
def test_the_promised_risk_is_met_in_95_of_100_redraws(people, risk, questions):
    generator = np.random.default_rng(people)
    met = chosen = 0
    for _ in range(200):
        table = tabulate_thresholds(GRID, draw(generator, people, questions), draw(generator, people, questions))
        threshold = choose_threshold(table, risk, confidence=0.95)
        chosen += threshold is not None
        met += threshold is None or true_risk(threshold.value) <= risk
    # 190 are expected at least; fewer than 184 of 200 have a probability of 2% then
    assert met >= 184
    assert chosen > 150 if (people, risk) == (400, 0.2) else True


def test_many_thresholds_do_not_make_a_threshold_pass_by_luck():
    """All answers are wrong with the same probability, just above the risk: every threshold that is chosen is false."""
    generator = np.random.default_rng(0)
    false = 0
    for _ in range(400):
        groups = [
            (generator.random(300), generator.random(300) > 0.101, np.arange(300)),
            (generator.random(300), generator.random(300) > 0.101, np.arange(300)),
        ]
        table = tabulate_thresholds(GRID, *groups)
        false += choose_threshold(table, 0.1, confidence=0.9) is not None
    assert stats.binomtest(false, 400, 0.1, alternative="greater").pvalue > 0.01
    # without the fixed sequence, some threshold would pass far more often
    assert false < 70


def test_counts_are_those_of_a_loop():
    generator = np.random.default_rng(2)
    scores, right, people = draw(generator, 50, 3)
    (row,) = tabulate_thresholds([0.7], (scores, right, people), (scores[:30], right[:30], people[:30]))
    assert (row.answered, row.wrong) == (
        sum(score >= 0.7 for score in scores),
        sum(score >= 0.7 and not is_right for score, is_right in zip(scores, right, strict=True)),
    )
    assert row.answered_before == sum(score >= 0.7 for score in scores[:30])


def test_the_correlation_within_people_is_that_of_all_pairs_of_questions():
    generator = np.random.default_rng(3)
    people = generator.integers(0, 40, 150)
    wrong = generator.random(150) < 0.3 + 0.4 * (people % 2)
    pairs = [
        (wrong[one], wrong[other])
        for one in range(150)
        for other in range(150)
        if one != other and people[one] == people[other]
    ]
    rate = wrong.mean()
    expected = np.mean([(one - rate) * (other - rate) for one, other in pairs]) / (rate * (1 - rate))
    assert within_person(wrong, people) == pytest.approx(expected) and expected > 0.05


def test_copies_count_once_and_independent_questions_for_themselves():
    generator = np.random.default_rng(3)
    wrong = generator.random(2000) < 0.2
    copies, alone = np.repeat(np.arange(2000), 4), np.arange(2000)
    assert within_person(wrong, alone) == 0 and design_effect(alone, 0.7) == 1
    assert design_effect(copies, within_person(np.repeat(wrong, 4), copies)) == pytest.approx(4)
    assert design_effect(copies[:2000], within_person(wrong, copies[:2000])) == pytest.approx(1, abs=0.1)
    # without a wrong answer, copies are assumed
    assert within_person(np.zeros(40, dtype=bool), np.repeat(np.arange(10), 4)) == 1
    assert design_effect(np.array([]), 0.5) == 1


def test_effective_counts_are_rounded_to_the_safe_side():
    threshold = Threshold(0.5, 100, 7, 1.0, 0, 0)
    assert effective_counts(threshold) == (7, 100)
    assert effective_counts(dataclasses.replace(threshold, design_effect=3.0)) == (3, 33)


def test_no_threshold_is_chosen_from_none_or_from_too_few_answers():
    assert choose_threshold([], 0.1, 0.95) is None
    assert choose_threshold([Threshold(0.9, 58, 0, 1.0, 58, 0)], 0.05, 0.95) is None
    assert choose_threshold([Threshold(0.9, 59, 0, 1.0, 59, 0)], 0.05, 0.95) is not None


@pytest.mark.parametrize("risk", [0, 1, -0.1, 5, float("nan")])
def test_a_risk_that_is_no_rate_is_refused(risk):
    with pytest.raises(ValueError, match=r"max_risk=.*: it must be greater than 0 and less than 1"):
        choose_threshold([], risk, 0.95)
