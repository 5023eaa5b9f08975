"""The norm of a key: a longer key draws the average to its own value.

Claim: for q = β(μ_a + μ_b), c goes to v_a when the norm of k_a grows (CS224N, assignment 5, question 1c). One
published solution says v_b.

Set-up: the key k_a is γμ_a, and all other keys are at their orthonormal means, n = 10 in 32 dimensions, γ from 0 to
2. The logistic function of β(γ − 1) is the weight on v_a if only a and b matter.

Rule: *holds* if at every β the weight on v_a never falls with γ and, at γ = 2 and the largest β, is at least 0.99.
*Refuted* if it falls. *Sharpened* otherwise.
"""

import math

import torch
from matplotlib.figure import Figure

from exploration.experiment import HOLDS, REFUTED, SHARPENED, Curves, Experiment, Sizes, Verdict
from exploration.figures import draw_lines
from exploration.head import attend, orthonormal_vectors, seeded


def logistic_weight(beta: float, gamma: float) -> float:
    """1/(1 + e^(−β(γ − 1))), the weight on v_a among a and b."""
    return 1 / (1 + math.exp(-beta * (gamma - 1)))


def measure(sizes: Sizes) -> Curves:
    """The weight on v_a over γ, for each β."""
    means = orthonormal_vectors(sizes["n"], sizes["width"], seeded(sizes["seed"]))
    gammas = [step * 2 / sizes["steps"] for step in range(sizes["steps"] + 1)]
    keys = means.repeat(len(gammas), 1, 1)
    keys[:, 0] *= torch.tensor(gammas, dtype=torch.float64)[:, None]
    weights = {
        beta: attend(beta * (means[0] + means[1]).expand(len(gammas), -1), keys, keys)[1][:, 0]
        for beta in sizes["beta"]
    }
    formula = {beta: [logistic_weight(beta, gamma) for gamma in gammas] for beta in sizes["beta"]}
    return {"gamma": gammas, "weights": weights, "formula": formula}


def judge(curves: Curves) -> Verdict:
    """See the rule in the docstring."""
    largest = list(curves["weights"])[-1]
    last = curves["weights"][largest]
    reason = f"at β = {largest} the weight on v_a is {last[0]:.2g} at γ = 0 and {last[-1]:.4f} at γ = 2."
    if any(
        after < before for line in curves["weights"].values() for before, after in zip(line, line[1:], strict=False)
    ):
        return Verdict(REFUTED, reason)
    return Verdict(HOLDS if last[-1] >= 0.99 else SHARPENED, f"it is v_a, not v_b: {reason}")


def draw(figure: Figure, curves: Curves) -> None:
    """The weight on v_a over γ; dashed: the logistic function."""
    axis = figure.subplots()
    for line in curves["formula"].values():
        axis.plot(curves["gamma"], line, "k--", linewidth=0.7)
    draw_lines(
        axis, curves["gamma"], {f"β = {beta}": line for beta, line in curves["weights"].items()},
        xlabel="γ, the norm of k_a", ylabel="weight on v_a",
    )  # fmt: skip


EXPERIMENT = Experiment(
    text=__doc__,
    sizes={"n": 10, "width": 32, "beta": [1.0, 4.0, 16.0], "steps": 40, "seed": 0},
    small={"steps": 10},
    measure=measure,
    judge=judge,
    draw=draw,
)
