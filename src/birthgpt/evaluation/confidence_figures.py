"""Figures of confidence as SVG: reliability, risk by coverage, and a histogram for right, wrong and invented."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from birthgpt.evaluation.confidence_metrics import adaptive_bins, risk_coverage

logger = logging.getLogger(__name__)

RELIABILITY, RISK_COVERAGE, HISTOGRAM = "reliability.svg", "risk_coverage.svg", "confidence.svg"
FIGURES = (RELIABILITY, RISK_COVERAGE, HISTOGRAM)


def draw_figures(
    folder: Path, probabilities: Sequence[float], right: Sequence[bool], invented: Sequence[float], risk: float
) -> list[Path]:
    """Draw the three figures into a folder, and return their paths; none, with a warning, without matplotlib.

    Args:
        probabilities: p(right) of each answer.
        right: whether it is right.
        invented: p(right) of answers about invented names.
        risk: the allowed risk, which is marked.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        logger.warning("figures of confidence need matplotlib: pip install 'birthgpt[confidence]'")
        return []
    scores, labels = np.asarray(probabilities, dtype=float), np.asarray(right, dtype=bool)
    # letters as text, and the same names of elements in every run
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": "birthgpt"}
    draw = {
        RELIABILITY: lambda axis: _reliability(axis, scores, labels),
        RISK_COVERAGE: lambda axis: _risk_coverage(axis, scores, labels, risk),
        HISTOGRAM: lambda axis: _histogram(axis, scores, labels, np.asarray(invented, dtype=float)),
    }
    with matplotlib.rc_context(style):
        for name, fill in draw.items():
            figure = Figure(figsize=(5, 4), layout="constrained")
            fill(figure.subplots())
            figure.savefig(folder / name, metadata={"Date": None})
    return [folder / name for name in FIGURES]


def _reliability(axis, scores: np.ndarray, right: np.ndarray) -> None:
    parts = adaptive_bins(scores)
    axis.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--", label="calibrated")
    points = [(scores[part].mean(), right[part].mean()) for part in parts]
    errors = [np.sqrt(accuracy * (1 - accuracy) / len(part)) for (_, accuracy), part in zip(points, parts, strict=True)]
    axis.errorbar(*zip(*points, strict=True), yerr=errors, marker="o", markersize=4, capsize=2, label="measured")
    axis.set(xlabel="p(right), mean of a bin", ylabel="fraction right (± standard error)", xlim=(0, 1), ylim=(0, 1.02))
    axis.legend()


def _risk_coverage(axis, scores: np.ndarray, right: np.ndarray, risk: float) -> None:
    coverage, risks = risk_coverage(scores, right)
    axis.plot(100 * coverage, 100 * risks)
    axis.axhline(100 * risk, color="grey", linewidth=1, linestyle="--", label=f"allowed risk, {risk:.1%}")
    axis.set(xlabel="answered (%)", ylabel="wrong among the answered (%)", xlim=(0, 100), ylim=(0, None))
    axis.legend()


def _histogram(axis, scores: np.ndarray, right: np.ndarray, invented: np.ndarray) -> None:
    kinds = {"right": scores[right], "wrong": scores[~right], "about invented names": invented}
    shown = {name: values for name, values in kinds.items() if len(values)}
    weights = [np.full(len(values), 100 / len(values)) for values in shown.values()]
    axis.hist(
        list(shown.values()), bins=np.linspace(0, 1, 11).tolist(), weights=weights, label=list(shown), histtype="bar"
    )
    axis.set(xlabel="p(right)", ylabel="of the answers of this kind (%)", xlim=(0, 1))
    axis.legend()
