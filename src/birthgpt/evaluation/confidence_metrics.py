"""How good a confidence is: AUROC, calibration error, and accuracy by coverage, with bootstrap intervals by person."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

COVERAGES = (0.5, 0.8, 0.9)
NUM_BINS = 15
NUM_RESAMPLES = 1000
CONFIDENCE = 0.95


def auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    """p(score of a positive > score of a negative) + ½ p(equal), over all pairs; NaN if one class is missing.

    It is the U of Mann and Whitney over the number of pairs.
    """
    scores, positive = np.asarray(scores, dtype=float), np.asarray(positive, dtype=bool)
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return math.nan
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    # equal scores share the mean of their ranks, which begin at 1
    ranks = (counts.cumsum() - (counts - 1) / 2)[inverse]
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def adaptive_bins(probabilities: np.ndarray, num_bins: int = NUM_BINS) -> list[np.ndarray]:
    """The indices of the probabilities in order, in bins of nearly equal size."""
    order = np.argsort(probabilities, kind="stable")
    return [part for part in np.array_split(order, num_bins) if len(part)]


def calibration_error(probabilities: np.ndarray, right: np.ndarray, num_bins: int = NUM_BINS) -> float:
    """The expected calibration error with adaptive bins (Nixon et al., 1904.01685): Σ_b |b| / n · |accuracy − mean p|.

    Bins have equal sizes, so that each has enough answers. With few answers, the error is positive by chance alone.
    """
    probabilities, right = np.asarray(probabilities, dtype=float), np.asarray(right, dtype=float)
    gaps = [
        len(part) * abs(right[part].mean() - probabilities[part].mean())
        for part in adaptive_bins(probabilities, num_bins)
    ]
    return float(sum(gaps) / len(right))


def error_by_chance(probabilities: Sequence[float], *, num_draws: int = 200, seed: int = 0) -> float:
    """The mean calibration error of probabilities that are exactly right, with as many answers: what chance alone adds.

    Whether each answer is right is drawn with its own probability.
    """
    given = np.asarray(probabilities, dtype=float)
    generator = np.random.default_rng(seed)
    draws = [calibration_error(given, generator.random(len(given)) < given) for _ in range(num_draws)]
    return float(np.mean(draws))


def risk_coverage(scores: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The coverage (0..1) and the risk (0..1, wrong among given answers) of each threshold, the highest score first.

    Answers with equal scores are given together.
    """
    scores, right = np.asarray(scores, dtype=float), np.asarray(right, dtype=bool)
    order = np.argsort(-scores, kind="stable")
    is_last = np.append(np.diff(scores[order]) != 0, True)
    given = np.arange(1, len(scores) + 1)[is_last]
    wrong = (~right[order]).cumsum()[is_last]
    return given / len(scores), wrong / given


def coverage_at_risk(scores: np.ndarray, right: np.ndarray, risk: float) -> float:
    """The greatest coverage (0..1) of a threshold whose risk on these answers is at most `risk`; 0 if there is none.

    The threshold is chosen by the same answers: this measures how good an order is, and promises nothing.
    """
    coverage, risks = risk_coverage(scores, right)
    return float(coverage[risks <= risk].max(initial=0.0))


def accuracy_at_coverage(scores: np.ndarray, right: np.ndarray, coverage: float) -> float:
    """The accuracy (0..1) of the fraction `coverage` of answers with the highest scores; of equal ones, the mean."""
    scores, right = np.asarray(scores, dtype=float), np.asarray(right, dtype=float)
    count = max(1, round(coverage * len(scores)))
    last = np.sort(scores)[::-1][count - 1]
    above, equal = scores > last, scores == last
    return float((right[above].sum() + (count - above.sum()) * right[equal].mean()) / count)


def measure_confidence(
    probabilities: Sequence[float],
    right: Sequence[bool],
    people: Sequence[Hashable],
    risk: float,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """The metrics of p(right), each with its 95% interval.

    Args:
        people: whom each question is about: the bootstrap draws people with all their questions.
        risk: for `coverage_at_risk`.

    Returns:
        `{metric: {"value", "low", "high"}}` for `auroc_right_wrong`, `calibration_error`, `coverage_at_risk` and
        `accuracy_at_coverage_50`, `_80`, `_90`; a value that is not defined is None.
    """
    measures: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
        "auroc_right_wrong": auroc,
        "calibration_error": calibration_error,
        "coverage_at_risk": lambda scores, labels: coverage_at_risk(scores, labels, risk),
        **{f"accuracy_at_coverage_{round(100 * coverage)}": _at(coverage) for coverage in COVERAGES},
    }
    scores, labels = np.asarray(probabilities, dtype=float), np.asarray(right, dtype=bool)
    draws = [np.concatenate(rows) for rows in _resamples(people, num_resamples, seed)]
    return {
        name: interval(measure(scores, labels), [measure(scores[rows], labels[rows]) for rows in draws])
        for name, measure in measures.items()
    }


def measure_unknown(
    known: Sequence[float], invented: Sequence[float], *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """The AUROC of known against invented names with its 95% interval.

    Args:
        known: 1 − p(unknown) of an answer about each known name.
        invented: the same of each invented name.
    """
    generator = np.random.default_rng(seed)
    first, second = np.asarray(known, dtype=float), np.asarray(invented, dtype=float)
    labels = np.arange(len(first) + len(second)) < len(first)
    draws = []
    for _ in range(num_resamples):
        one = first[generator.integers(len(first), size=len(first))]
        other = second[generator.integers(len(second), size=len(second))]
        draws.append(auroc(np.concatenate((one, other)), labels))
    return interval(auroc(np.concatenate((first, second)), labels), draws)


def rate(count: int, total: int, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """A rate with its 95% interval by bootstrap."""
    if not total:
        return interval(math.nan, [])
    draws = np.random.default_rng(seed).binomial(total, count / total, size=num_resamples) / total
    return interval(count / total, draws.tolist())


def interval(value: float, draws: Sequence[float]) -> dict[str, Any]:
    """A value with the percentiles of its bootstrap draws; None for what is not defined."""
    known = [draw for draw in draws if not math.isnan(draw)]
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist() if known else (None, None)
    return {"value": None if math.isnan(value) else value, "low": low, "high": high}


def _at(coverage: float) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda scores, labels: accuracy_at_coverage(scores, labels, coverage)


def _resamples(people: Sequence[Hashable], count: int, seed: int) -> list[list[np.ndarray]]:
    """The rows of as many people as there are, drawn with replacement, `count` times."""
    of_person: dict[Hashable, list[int]] = {}
    for row, person in enumerate(people):
        of_person.setdefault(person, []).append(row)
    rows = [np.array(found) for found in of_person.values()]
    generator = np.random.default_rng(seed)
    return [[rows[index] for index in generator.integers(len(rows), size=len(rows))] for _ in range(count)]


def show_metrics(metrics: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """The rows of a table: each metric in percent with its interval."""
    return [
        {
            "metric": name.replace("_", " "),
            "percent": "–" if entry["value"] is None else f"{100 * entry['value']:.1f}",
            "interval": "–" if entry["low"] is None else f"{100 * entry['low']:.1f} to {100 * entry['high']:.1f}",
        }
        for name, entry in metrics.items()
    ]
