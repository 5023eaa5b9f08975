"""Metrics of confidence against scikit-learn and against their definitions."""

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from birthgpt.evaluation.confidence_metrics import (
    accuracy_at_coverage,
    adaptive_bins,
    auroc,
    calibration_error,
    coverage_at_risk,
    error_by_chance,
    interval,
    measure_confidence,
    measure_unknown,
    rate,
    risk_coverage,
)


def draw(seed, count=200, decimals=1):
    """Scores with many ties, and labels that depend on them."""
    generator = np.random.default_rng(seed)
    scores = generator.random(count).round(decimals)
    return scores, generator.random(count) < scores


@pytest.mark.parametrize("decimals", [1, 8])
@pytest.mark.parametrize("seed", range(5))
def test_the_auroc_is_that_of_scikit_learn(seed, decimals):
    scores, labels = draw(seed, decimals=decimals)
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_the_auroc_of_one_class_is_not_defined():
    assert math.isnan(auroc(np.array([0.1, 0.9]), np.array([True, True])))


@pytest.mark.parametrize("count", [3, 15, 100, 157])
def test_adaptive_bins_have_nearly_equal_sizes_and_all_answers_in_order(count):
    scores, _ = draw(0, count, 8)
    parts = adaptive_bins(scores)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1 and len(parts) == min(15, count)
    assert scores[np.concatenate(parts)].tolist() == sorted(scores.tolist())


def test_the_calibration_error_is_that_of_its_definition():
    scores, labels = draw(1, 157, 8)
    rows, start, expected = sorted(zip(scores, labels, strict=True)), 0, 0.0
    for number in range(15):
        size = 157 // 15 + (number < 157 % 15)
        part = rows[start : start + size]
        start += size
        gap = sum(label for _, label in part) / size - sum(score for score, _ in part) / size
        expected += size / 157 * abs(gap)
    assert calibration_error(scores, labels) == pytest.approx(expected, abs=1e-12)


def test_the_error_of_exact_probabilities_is_what_chance_adds():
    generator = np.random.default_rng(0)
    scores = generator.random(500)
    by_chance = error_by_chance(scores)
    measured = np.mean([calibration_error(scores, generator.random(500) < scores) for _ in range(100)])
    assert by_chance == pytest.approx(measured, rel=0.1)
    assert error_by_chance(scores[:50]) > by_chance > 0
    assert calibration_error(1 - scores, generator.random(500) < scores) > 5 * by_chance


@pytest.mark.parametrize("seed", range(5))
def test_risk_and_coverage_are_those_of_each_threshold(seed):
    scores, labels = draw(seed)
    coverage, risk = risk_coverage(scores, labels)
    thresholds = sorted(set(scores.tolist()), reverse=True)
    assert len(coverage) == len(thresholds) and coverage[-1] == 1
    for threshold, given, wrong in zip(thresholds, coverage, risk, strict=True):
        chosen = labels[scores >= threshold]
        assert (given, wrong) == pytest.approx((len(chosen) / 200, 1 - chosen.mean()))
    allowed = [given for given, wrong in zip(coverage, risk, strict=True) if wrong <= 0.2]
    assert coverage_at_risk(scores, labels, 0.2) == max(allowed, default=0)


def test_accuracy_at_coverage_is_that_of_the_surest_answers():
    right = np.array([True, True, False, True, False])
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    assert [accuracy_at_coverage(scores, right, share) for share in (0.2, 0.6, 1.0)] == pytest.approx([1, 2 / 3, 3 / 5])
    # of equal scores, no order is preferred
    assert accuracy_at_coverage(np.full(5, 0.5), right, 0.4) == pytest.approx(3 / 5)


def test_intervals_contain_the_value_and_are_wider_for_questions_about_the_same_people():
    scores, labels = draw(3, 400, 8)
    alone = measure_confidence(scores, labels, list(range(400)), 0.2, num_resamples=200)
    for entry in alone.values():
        assert entry["low"] <= entry["value"] <= entry["high"] or entry is alone["calibration_error"]
    copied = measure_confidence(
        np.repeat(scores[:100], 4), np.repeat(labels[:100], 4), np.repeat(np.arange(100), 4).tolist(), 0.2,
        num_resamples=200,
    )  # fmt: skip
    width = {name: entry["high"] - entry["low"] for name, entry in copied.items()}
    assert width["auroc_right_wrong"] > 1.5 * (alone["auroc_right_wrong"]["high"] - alone["auroc_right_wrong"]["low"])


def test_a_bootstrap_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = 0
    for seed in range(100):
        known, invented = generator.normal(1, 1, 80), generator.normal(0, 1, 80)
        found = measure_unknown(known, invented, num_resamples=200, seed=seed)
        # the AUROC of two normal distributions: Φ(1 / √2)
        covered += found["low"] <= 0.7602 <= found["high"]
    assert covered >= 88


def test_a_rate_of_nothing_is_not_defined():
    assert rate(0, 0) == {"value": None, "low": None, "high": None}
    found = rate(5, 100)
    assert found["value"] == 0.05 and 0 < found["low"] < 0.05 < found["high"] < 0.15
    assert interval(0.5, [math.nan]) == {"value": 0.5, "low": None, "high": None}
