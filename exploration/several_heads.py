"""Several heads: a query for each key brings the average back, the same query in every head does not.

Claim: with Σ_a = αI + ½μ_aμ_aᵀ, two heads with q₁ = βμ_a and q₂ = βμ_b keep c = ½(c₁ + c₂) at ½(v_a + v_b). Two heads
with q₁ = q₂ = β(μ_a + μ_b) are given as another answer by one published solution, because an average over draws would
be closer to it; both heads of a layer read the same keys (CS224N, assignment 5, question 1d).

Set-up: the keys of `one_head`, n = 10, α = 1e-4. Both heads read the same sample of the keys. The share of samples
with ‖c − ½(v_a + v_b)‖ ≤ 0.1 is measured for orthonormal values, and the spread of the weight on v_a for 1 to 16
heads.

Rule: *holds* if, at the largest β, the share is at least 99% for different queries, below 50% for the same query, and
if 16 heads of the same query have the spread of one. *Sharpened* if the share for different queries is only above
85%. *Refuted* otherwise.
"""

import torch
from matplotlib.figure import Figure

from exploration.experiment import HOLDS, REFUTED, SHARPENED, Curves, Experiment, Sizes, Verdict
from exploration.figures import draw_lines
from exploration.head import orthonormal_vectors, seeded
from exploration.one_head import draw_keys

ERROR = 0.1
DIFFERENT, SAME, BOUND = "q₁ = βμ_a, q₂ = βμ_b", "q₁ = q₂ = β(μ_a + μ_b)", "P(γ > 0)"
PROBABILITY_POSITIVE = float(torch.special.ndtr(torch.tensor(2.0, dtype=torch.float64).sqrt()))
"""P(γ > 0) for γ from N(1, ½): otherwise k_a scores less than the keys that are orthogonal to μ_a."""


def mean_weights(keys: torch.Tensor, queries: list[torch.Tensor]) -> torch.Tensor:
    """The weights of the values in the mean of the heads, (samples, n)."""
    return torch.stack([(keys @ query).softmax(dim=-1) for query in queries]).mean(dim=0)


def share_of_averages(weights: torch.Tensor) -> float:
    """The share of samples with ‖c − ½(v_0 + v_1)‖ ≤ 0.1; for orthonormal values this is a norm of weights."""
    target = torch.zeros_like(weights)
    target[:, :2] = 0.5
    return float(((weights - target).norm(dim=-1) <= ERROR).double().mean())


def measure(sizes: Sizes) -> Curves:
    """The shares over β, and the spread of the weight on v_a over the number of heads."""
    generator = seeded(sizes["seed"])
    means = orthonormal_vectors(sizes["n"], sizes["width"], generator)
    keys = draw_keys(means, sizes["alpha"], sizes["samples"], generator)
    shares: dict[str, list[float]] = {DIFFERENT: [], SAME: [], BOUND: []}
    for beta in sizes["beta"]:
        shares[DIFFERENT].append(share_of_averages(mean_weights(keys, [beta * means[0], beta * means[1]])))
        shares[SAME].append(share_of_averages(mean_weights(keys, [beta * (means[0] + means[1])] * 2)))
        shares[BOUND].append(PROBABILITY_POSITIVE)
    beta = sizes["beta"][-1]
    spreads: dict[str, list[float]] = {DIFFERENT: [], SAME: []}
    for heads in sizes["heads"]:
        different = [beta * means[index % 2] for index in range(heads)]
        same = [beta * (means[0] + means[1])] * heads
        spreads[DIFFERENT].append(float(mean_weights(keys, different)[:, 0].std()))
        spreads[SAME].append(float(mean_weights(keys, same)[:, 0].std()))
    return {"beta": sizes["beta"], "shares": shares, "heads": sizes["heads"], "spreads": spreads}


def judge(curves: Curves) -> Verdict:
    """See the rule in the docstring."""
    different, same = (curves["shares"][name][-1] for name in (DIFFERENT, SAME))
    spread = curves["spreads"][SAME]
    reason = (
        f"at β = {curves['beta'][-1]:g}, {different:.1%} of the samples keep the average with different queries, and "
        f"{same:.1%} with the same query. The bound is P(γ > 0) = {PROBABILITY_POSITIVE:.1%}: where the norm "
        f"along μ_a is "
        f"negative, no query along μ_a finds k_a. The spread of the weight on v_a is {spread[0]:.2f} for one head and "
        f"{spread[-1]:.2f} for {curves['heads'][-1]} heads of the same query."
    )
    if not (same < 0.5 and abs(spread[-1] - spread[0]) < 0.01):
        return Verdict(REFUTED, reason)
    return Verdict(HOLDS if different >= 0.99 else SHARPENED if different > 0.85 else REFUTED, reason)


def draw(figure: Figure, curves: Curves) -> None:
    """The share of averages over β, and the spread over the number of heads."""
    left, right = figure.subplots(1, 2)
    draw_lines(
        left, curves["beta"], curves["shares"], xlabel="β", ylabel="share of samples near the average", xscale="log",
        ylim=(0, 1),
    )  # fmt: skip
    draw_lines(
        right, curves["heads"], curves["spreads"], xlabel="heads", ylabel="standard deviation of the weight on v_a",
        xscale="log", ylim=(0, 0.5),
    )  # fmt: skip


EXPERIMENT = Experiment(
    text=__doc__,
    sizes={
        "n": 10,
        "width": 32,
        "alpha": 1e-4,
        "beta": [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0],
        "heads": [1, 2, 4, 8, 16],
        "samples": 5000,
        "seed": 0,
    },
    small={"samples": 500},
    measure=measure,
    judge=judge,
    draw=draw,
)
