"""Performer's random features: how far estimated attention is from softmax attention.

Claim: positive and trigonometric features estimate exp(q·k/√d_head) without bias, with the mean squared errors of
Lemma 2 of Choromanski et al. (2009.14794). Positive features are better where the weight is small, and orthogonal
rows make the error of positive features smaller for every m (theorem 2 there). ReLU features are another kernel.

Set-up: heads have the width d_head = 16; x = q/d_head^¼ and y = k/d_head^¼ of norm 0.6 at an angle of 0° to 180°. The
projections are drawn many times, by the function of the package. The relative error is the root of the mean squared
error, divided by exp(x·y). The error of attention is that of 64 mixed Gaussian values, relative to their norm, for
Gaussian queries and keys whose scores have a standard deviation of 0.5.

Rule: *holds* if independent rows have the errors of the formulas up to 15% at every angle and m, positive features
beat trigonometric ones at 180° and lose at 0°, and orthogonal rows lower the error of positive features at every m.
*Sharpened* if only the last is not so at every m. *Refuted* otherwise.
"""

import math
from typing import Any

import torch
from matplotlib.figure import Figure

from birthgpt.model.attention_performer import (
    SMALLEST_SUM,
    draw_projection,
    quadratic_weights,
    random_features,
)
from exploration.experiment import HOLDS, REFUTED, SHARPENED, Curves, Experiment, Sizes, Verdict
from exploration.figures import draw_lines
from exploration.head import seeded

KINDS = ("positive", "trigonometric", "relu")
INDEPENDENT, ORTHOGONAL = "independent", "orthogonal"
ROWS = {INDEPENDENT: False, ORTHOGONAL: True}


def relative_error_by_formula(kind: str, x: torch.Tensor, y: torch.Tensor, m: int) -> float:
    """The root of the mean squared error of m independent rows, divided by exp(x·y) (2009.14794, lemma 2).

    positive: e^{‖x+y‖²}(1 − e^{−‖x+y‖²})/m;  trigonometric: e^{‖x+y‖²} SM⁻⁴ (1 − e^{−‖x−y‖²})²/2m, with SM = e^{x·y}.
    """
    far, near = float((x + y).square().sum()), float((x - y).square().sum())
    if kind == "positive":
        return math.sqrt(math.exp(far) * (1 - math.exp(-far)) / m)
    return math.sqrt(math.exp(far - 4 * float(x @ y)) / (2 * m)) * (1 - math.exp(-near))


def estimates(kind: str, x: torch.Tensor, y: torch.Tensor, projections: torch.Tensor) -> torch.Tensor:
    """φ(x)·φ(y) for each of (draws, m, d_head) projections: (draws,)."""
    states = torch.stack((x, y)) * x.shape[-1] ** 0.25  # as queries and keys
    features, scales = random_features(states.expand(1, len(projections), 2, -1), projections, kind)
    return ((features[0, :, 0] * features[0, :, 1]).sum(dim=-1)) * scales[0].sum(dim=-1).exp()


def relative_error(kind: str, x: torch.Tensor, y: torch.Tensor, projections: torch.Tensor) -> float:
    """The root of the mean squared error over draws, divided by exp(x·y)."""
    kernel = (x @ y).exp()
    return float((estimates(kind, x, y, projections) / kernel - 1).square().mean().sqrt())


def pair_at(degrees: float, norm: float, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two vectors of a norm at an angle."""
    x, y = torch.zeros(2, width, dtype=torch.float64)
    x[0] = norm
    y[0], y[1] = norm * math.cos(math.radians(degrees)), norm * math.sin(math.radians(degrees))
    return x, y


def attention_error(kind: str, orthogonal: bool, m: int, sizes: Sizes) -> float:
    """The error of mixed values, relative to those of softmax attention; the mean over draws of the features."""
    generator, draws, width = seeded(sizes["seed"]), sizes["attention_draws"], sizes["width"]
    queries, keys, values = torch.randn(3, 1, 1, 64, width, generator=generator, dtype=torch.float64)
    queries, keys = (states * 0.5**0.5 for states in (queries, keys))  # their scores have a deviation of 0.5
    exact = (queries @ keys.transpose(-1, -2) * width**-0.5).softmax(dim=-1) @ values
    projections = draw_projection(draws, m, width, orthogonal, generator).double()
    query_features, _ = random_features(queries.expand(1, draws, -1, -1), projections, kind)
    key_features, scales = random_features(keys.expand(1, draws, -1, -1), projections, kind)
    visible = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    weights = quadratic_weights(query_features, key_features, scales, visible, SMALLEST_SUM[kind])
    errors = (weights @ values - exact).flatten(2).norm(dim=-1) / exact.flatten(2).norm(dim=-1)
    # the median: single estimates of a sum may be close to zero
    return float(errors.median())


def measure(sizes: Sizes) -> Curves:
    """The relative errors over the angle and over m, and those of attention over m."""
    norm, width, fixed = sizes["norm"], sizes["width"], sizes["fixed_features"]
    by_angle: dict[str, list[float]] = {}
    by_features: dict[str, list[float]] = {}
    attention: dict[str, list[float]] = {}
    for rows, orthogonal in ROWS.items():
        for kind in KINDS:
            name = f"{kind}, {rows}"
            for degrees in sizes["degrees"]:
                generator = seeded(sizes["seed"] + 1)
                projections = draw_projection(sizes["draws"], fixed, width, orthogonal, generator).double()
                error = relative_error(kind, *pair_at(degrees, norm, width), projections)
                by_angle.setdefault(name, []).append(error)
            for m in sizes["features"]:
                generator = seeded(sizes["seed"] + 2)
                projections = draw_projection(sizes["draws"], m, width, orthogonal, generator).double()
                error = relative_error(kind, *pair_at(90, norm, width), projections)
                by_features.setdefault(name, []).append(error)
                attention.setdefault(name, []).append(attention_error(kind, orthogonal, m, sizes))
    formulas: dict[str, Any] = {"by_angle": {}, "by_features": {}}
    for kind in KINDS[:2]:
        at_angles = [pair_at(degrees, norm, width) for degrees in sizes["degrees"]]
        formulas["by_angle"][kind] = [relative_error_by_formula(kind, *pair, fixed) for pair in at_angles]
        right_angle = pair_at(90, norm, width)
        formulas["by_features"][kind] = [relative_error_by_formula(kind, *right_angle, m) for m in sizes["features"]]
    return {
        "degrees": sizes["degrees"],
        "features": sizes["features"],
        "by_angle": by_angle,
        "by_features": by_features,
        "attention": attention,
        "formulas": formulas,
    }


def judge(curves: Curves) -> Verdict:
    """See the rule in the docstring."""
    deviations = [
        abs(measured / formula - 1)
        for axis in ("by_angle", "by_features")
        for kind in KINDS[:2]
        for measured, formula in zip(
            curves[axis][f"{kind}, {INDEPENDENT}"], curves["formulas"][axis][kind], strict=True
        )
        if formula > 0
    ]
    positive, trigonometric = (curves["by_angle"][f"{kind}, {INDEPENDENT}"] for kind in KINDS[:2])
    rows = [curves["by_features"][f"positive, {kind}"] for kind in (ORTHOGONAL, INDEPENDENT)]
    ratios = [orthogonal / independent for orthogonal, independent in zip(*rows, strict=True)]
    attention = {kind: curves["attention"][f"{kind}, {ORTHOGONAL}"][-1] for kind in KINDS}
    reason = (
        f"the errors of independent rows are within {max(deviations):.0%} of the formulas. At "
        f"{curves['degrees'][-1]:g}° "
        f"the relative error is {positive[-1]:.2g} with positive and {trigonometric[-1]:.2g} with "
        f"trigonometric features; at "
        f"0° it is {positive[0]:.2g} and {trigonometric[0]:.2g}. Orthogonal rows have {min(ratios):.2f} to "
        f"{max(ratios):.2f} times the error of independent ones. Attention with {curves['features'][-1]} features is "
        f"{attention['positive']:.2f} from softmax attention with positive, {attention['trigonometric']:.2f} with "
        f"trigonometric and {attention['relu']:.2f} with ReLU features."
    )
    crosses = positive[-1] < trigonometric[-1] and positive[0] > trigonometric[0]
    if max(deviations) > 0.15 or not crosses:
        return Verdict(REFUTED, reason)
    return Verdict(HOLDS if max(ratios) < 1 else SHARPENED, reason)


def draw(figure: Figure, curves: Curves) -> None:
    """The errors over the angle, over m, and of attention over m."""
    figure.set_size_inches(10, 3.4)
    left, middle, right = figure.subplots(1, 3)
    for axis, key, x in ((left, "by_angle", "degrees"), (middle, "by_features", "features")):
        for line in curves["formulas"][key].values():
            axis.plot(curves[x], line, "k--", linewidth=0.7)
    draw_lines(
        left, curves["degrees"], curves["by_angle"], xlabel="angle (°)", ylabel="relative error of a weight",
        yscale="log", ylim=(1e-2, None),
    )  # fmt: skip
    both = {"xscale": "log", "yscale": "log", "xlabel": "features m"}
    draw_lines(middle, curves["features"], curves["by_features"], ylabel="relative error at 90°", **both)
    draw_lines(right, curves["features"], curves["attention"], ylabel="error of attention", **both)


EXPERIMENT = Experiment(
    text=__doc__,
    sizes={
        "width": 16,
        "norm": 0.6,
        "degrees": [0, 30, 60, 90, 120, 150, 180],
        "features": [4, 8, 16, 32, 64, 128],
        "fixed_features": 64,
        "draws": 2000,
        "attention_draws": 20,
        "seed": 0,
    },
    small={"degrees": [0, 90, 180], "features": [4, 16], "fixed_features": 8, "draws": 1000, "attention_draws": 5},
    measure=measure,
    judge=judge,
    draw=draw,
)
