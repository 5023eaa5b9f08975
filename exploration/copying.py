"""Copying: how much larger one score must be than all others.

Claim: a head copies one value, c ≈ v_j, if k_j·q ≫ k_i·q for all i ≠ j (CS224N, assignment 5, question 1a).

Set-up: one of n keys scores Δ = k_j·q − max_i k_i·q more than the best other. In the worst case, all others
score the same; in the other case, their scores are drawn from N(0, 1). The values are random unit vectors. The
smallest Δ with ‖c − v_j‖ ≤ ε is found by bisection.

Rule: *holds* if this margin is the same for every n, up to 10%. *Sharpened* if the margin is finite and grows by ln n
in the worst case: a slope over ln(n − 1) of 0.9 to 1.1 for every ε. *Refuted* if no margin below 50 is enough.
"""

import math
from collections.abc import Callable

import torch
from matplotlib.figure import Figure

from exploration.experiment import HOLDS, REFUTED, SHARPENED, Curves, Experiment, Sizes, Verdict
from exploration.figures import draw_lines
from exploration.head import seeded, unit_vectors

LARGEST_MARGIN = 50.0
WORST, GAUSSIAN = "all others alike", "others from N(0, 1)"


def margin_by_formula(n: int, error: float) -> float:
    """ln(n − 1) + ln((1 − ε)/ε): the margin at which the other n − 1 keys, which score alike, have the weight ε."""
    return math.log(n - 1) + math.log((1 - error) / error)


def error_of(margin: float, others: torch.Tensor, values: torch.Tensor) -> float:
    """‖c − v_0‖ if key 0 scores `margin` more than the best other.

    Args:
        others: (n − 1,), the scores of the other keys.
        values: (n, d).
    """
    scores = torch.cat((others.max()[None] + margin, others))
    return float((scores.softmax(dim=0) @ values - values[0]).norm())


def smallest_margin(is_enough: Callable[[float], bool]) -> float:
    """The smallest margin that is enough, by bisection, up to 1e-6."""
    low, high = 0.0, LARGEST_MARGIN
    if not is_enough(high):
        return math.inf
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def measure(sizes: Sizes) -> Curves:
    """The smallest margin for each case, ε and n."""
    margins: dict[str, dict[str, list[float]]] = {WORST: {}, GAUSSIAN: {}}
    for error in sizes["errors"]:
        for n in sizes["n"]:
            generator = seeded(sizes["seed"])
            values = unit_vectors(n, sizes["width"], generator)
            scores = {
                WORST: torch.zeros(n - 1, dtype=torch.float64),
                GAUSSIAN: torch.randn(n - 1, generator=generator, dtype=torch.float64),
            }
            for case, others in scores.items():

                def is_enough(margin: float, others=others, values=values, error=error) -> bool:
                    return error_of(margin, others, values) <= error

                margins[case].setdefault(str(error), []).append(smallest_margin(is_enough))
    return {"n": sizes["n"], "margins": margins}


def judge(curves: Curves) -> Verdict:
    """See the rule in the docstring."""
    worst = curves["margins"][WORST]
    if not all(math.isfinite(margin) for margins in worst.values() for margin in margins):
        return Verdict(REFUTED, f"a margin of {LARGEST_MARGIN:g} is not enough.")
    distance = math.log((curves["n"][-1] - 1) / (curves["n"][0] - 1))
    slopes = [(margins[-1] - margins[0]) / distance for margins in worst.values()]
    shown = "; ".join(f"ε = {error}: {margins[0]:.1f} to {margins[-1]:.1f}" for error, margins in worst.items())
    reason = (
        f"the margin from n = {curves['n'][0]} to {curves['n'][-1]} is {shown} where all others score alike, "
        f"a slope of "
        f"{min(slopes):.2f} to {max(slopes):.2f} over ln(n − 1)."
    )
    if all(max(margins) <= 1.1 * min(margins) for margins in worst.values()):
        return Verdict(HOLDS, reason)
    is_logarithmic = all(0.9 <= slope <= 1.1 for slope in slopes)
    return Verdict(SHARPENED if is_logarithmic else REFUTED, f"≫ means ln(n − 1) + ln((1 − ε)/ε): {reason}")


def draw(figure: Figure, curves: Curves) -> None:
    """The margin over n for each case; dashed: the formula."""
    for axis, (case, margins) in zip(figure.subplots(1, 2, sharey=True), curves["margins"].items(), strict=True):
        for error in margins:
            formula = [margin_by_formula(n, float(error)) for n in curves["n"]]
            axis.plot(curves["n"], formula, "k--", linewidth=0.7)
        draw_lines(
            axis, curves["n"], {f"ε = {error}": line for error, line in margins.items()},
            title=case, xlabel="n", ylabel="smallest margin Δ", xscale="log",
        )  # fmt: skip


EXPERIMENT = Experiment(
    text=__doc__,
    sizes={"n": [4, 16, 64, 256, 1024, 4096], "errors": [0.1, 0.01, 0.001], "width": 64, "seed": 0},
    small={"n": [4, 16, 64]},
    measure=measure,
    judge=judge,
    draw=draw,
)
