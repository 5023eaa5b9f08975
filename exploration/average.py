"""An average of two values: how long the query must be.

Claim: with orthogonal keys of norm 1, the query q = β(k_a + k_b) with β ≫ 0 gives c ≈ ½(v_a + v_b) (CS224N,
assignment 5, question 1b).

Set-up: the keys are n orthonormal vectors in 512 dimensions, then n random unit vectors in 64, which are not
orthogonal. The values are random unit vectors. The error is ‖c − ½(v_a + v_b)‖.

Rule: *holds* if the error is 0.01 or less at one and the same β for every n, with orthonormal keys. *Sharpened* if
each n reaches this error, but the β that it needs grows with n by ln n: a slope over ln(n − 2) of 0.9 to 1.1.
*Refuted* otherwise.
"""

import math

import torch
from matplotlib.figure import Figure

from exploration.experiment import HOLDS, REFUTED, SHARPENED, Curves, Experiment, Sizes, Verdict
from exploration.figures import draw_lines
from exploration.head import attend, orthonormal_vectors, seeded, unit_vectors

ERROR = 0.01
ORTHONORMAL, RANDOM = "orthonormal keys", "random keys"


def weight_of_others(beta: float, n: int) -> float:
    """The weight of all keys but a and b: (n − 2)/(2 e^β + n − 2)."""
    return (n - 2) / (2 * math.exp(beta) + n - 2)


def error_of(beta: float, keys: torch.Tensor, values: torch.Tensor) -> float:
    """‖c − ½(v_0 + v_1)‖ for q = β(k_0 + k_1)."""
    mixed, _ = attend(beta * (keys[0] + keys[1]), keys, values)
    return float((mixed - values[:2].mean(dim=0)).norm())


def measure(sizes: Sizes) -> Curves:
    """The errors over β for each kind of keys and each n, and the β that each n needs."""
    errors: dict[str, dict[str, list[float]]] = {ORTHONORMAL: {}, RANDOM: {}}
    for n in sizes["n"]:
        generator = seeded(sizes["seed"])
        values = unit_vectors(n, sizes["width"], generator)
        drawn = {
            ORTHONORMAL: orthonormal_vectors(n, sizes["width"], generator),
            RANDOM: unit_vectors(n, sizes["random_width"], generator),
        }
        for kind, keys in drawn.items():
            errors[kind][str(n)] = [error_of(beta, keys, values) for beta in sizes["beta"]]
    return {"beta": sizes["beta"], "errors": errors}


def beta_needed(betas: list[float], errors: list[float]) -> float:
    """The β at which the error falls to `ERROR`, between the measured ones by the straight line of its logarithm."""
    for index, error in enumerate(errors):
        if error <= ERROR:
            if index == 0:
                return betas[0]
            before, after = math.log(errors[index - 1]), math.log(error)
            part = (before - math.log(ERROR)) / (before - after)
            return betas[index - 1] + part * (betas[index] - betas[index - 1])
    return math.inf


def judge(curves: Curves) -> Verdict:
    """See the rule in the docstring."""
    needed = {int(n): beta_needed(curves["beta"], line) for n, line in curves["errors"][ORTHONORMAL].items()}
    if not all(map(math.isfinite, needed.values())):
        return Verdict(REFUTED, f"some n does not reach an error of {ERROR} up to β = {curves['beta'][-1]:g}.")
    first, last = min(needed), max(needed)
    slope = (needed[last] - needed[first]) / math.log((last - 2) / (first - 2))
    random = curves["errors"][RANDOM][str(last)][-1]
    reason = (
        f"an error of {ERROR} needs β = {needed[first]:.1f} for n = {first} and {needed[last]:.1f} for n = "
        f"{last}, a slope "
        f"of {slope:.2f} over ln(n − 2). With random keys of norm 1, the error at n = {last} and β = "
        f"{curves['beta'][-1]:g} is {random:.2g}: k_a and k_b still score the same."
    )
    if needed[last] - needed[first] <= 0.1:
        return Verdict(HOLDS, reason)
    return Verdict(SHARPENED if 0.9 <= slope <= 1.1 else REFUTED, f"β ≫ 0 means β > ln n + ln(1/2ε): {reason}")


def draw(figure: Figure, curves: Curves) -> None:
    """The error over β for each n."""
    for axis, (kind, errors) in zip(figure.subplots(1, 2, sharey=True), curves["errors"].items(), strict=True):
        draw_lines(
            axis, curves["beta"], {f"n = {n}": line for n, line in errors.items()},
            title=kind, xlabel="β", ylabel="‖c − ½(v_a + v_b)‖", yscale="log",
        )  # fmt: skip


EXPERIMENT = Experiment(
    text=__doc__,
    sizes={
        "n": [4, 16, 64, 256],
        "beta": [float(beta) for beta in range(0, 17)],
        "width": 512,
        "random_width": 64,
        "seed": 0,
    },
    small={"n": [4, 16], "width": 32},
    measure=measure,
    judge=judge,
    draw=draw,
)
