"""One head and a key of uncertain norm: the average of two becomes a choice of one.

Claim: if k_a is drawn with the covariance Σ_a = αI + ½μ_aμ_aᵀ and all other keys with αI, then for q = β(μ_a + μ_b)
the output c varies from sample to sample between v_a and v_b (CS224N, assignment 5, question 1c).

Set-up: there are n = 10 keys around orthonormal means in 32 dimensions, α = 1e-4. Along μ_a, k_a is then γμ_a with γ
from N(1, ½ + α). The weight on v_a is measured over the samples. An extreme sample gives v_a or v_b at least nine
times the weight of the other.

Rule: *holds* if at every β that averages two keys of norm 1 (all other keys together weigh at most 0.1), at least 80%
of the samples are extreme, and both sides have at least a quarter of them. *Sharpened* if only the largest β passes.
*Refuted* otherwise.
"""

import math

import torch
from matplotlib.figure import Figure

from exploration.average import weight_of_others
from exploration.experiment import HOLDS, REFUTED, SHARPENED, Curves, Experiment, Sizes, Verdict
from exploration.figures import draw_lines
from exploration.head import orthonormal_vectors, seeded

EXTREME_RATIO = 9.0
BINS = 40


def draw_keys(means: torch.Tensor, alpha: float, samples: int, generator: torch.Generator) -> torch.Tensor:
    """Keys around their means, (samples, n, d): key 0 has the covariance αI + ½μ₀μ₀ᵀ, all others αI."""
    shape = (samples, *means.shape)
    keys = means + math.sqrt(alpha) * torch.randn(shape, generator=generator, dtype=torch.float64)
    along = torch.randn(samples, 1, generator=generator, dtype=torch.float64)
    keys[:, 0] += math.sqrt(0.5) * along * means[0]
    return keys


def extreme_by_formula(beta: float, alpha: float) -> float:
    """P(|γ − 1|β > ln 9) for the difference of the scores of k_a and k_b, which is β times N(0, ½ + 4α)."""
    spread = math.sqrt(0.5 + 4 * alpha)
    return math.erfc(math.log(EXTREME_RATIO) / (beta * spread) / math.sqrt(2))


def measure(sizes: Sizes) -> Curves:
    """For each β: the histogram of the weight on v_a, and the shares of samples on either side."""
    generator = seeded(sizes["seed"])
    means = orthonormal_vectors(sizes["n"], sizes["width"], generator)
    keys = draw_keys(means, sizes["alpha"], sizes["samples"], generator)
    shares: dict[str, list[float]] = {"v_a": [], "v_b": [], "formula, both": []}
    histograms = {}
    for beta in sizes["beta"]:
        weights = (keys @ (beta * (means[0] + means[1]))).softmax(dim=-1)  # (samples, n)
        a, b = weights[:, 0], weights[:, 1]
        shares["v_a"].append(float((a > EXTREME_RATIO * b).double().mean()))
        shares["v_b"].append(float((b > EXTREME_RATIO * a).double().mean()))
        shares["formula, both"].append(extreme_by_formula(beta, sizes["alpha"]))
        if beta in sizes["shown"]:
            histograms[beta] = torch.histc(a, BINS, 0, 1) / len(a)
    others = [weight_of_others(beta, sizes["n"]) for beta in sizes["beta"]]
    return {"beta": sizes["beta"], "weight_of_others": others, "shares": shares, "histograms": histograms}


def judge(curves: Curves) -> Verdict:
    """See the rule in the docstring."""
    rows = list(zip(curves["beta"], curves["shares"]["v_a"], curves["shares"]["v_b"], strict=True))
    averaging = [row for row, others in zip(rows, curves["weight_of_others"], strict=True) if others <= 0.1]

    def is_bimodal(row) -> bool:
        return row[1] + row[2] >= 0.8 and min(row[1:]) >= 0.25

    first, last = averaging[0], averaging[-1]
    reason = (
        f"at β = {first[0]:g}, the first that averages two keys of norm 1, {first[1] + first[2]:.0%} of the "
        f"samples are "
        f"extreme; at β = {last[0]:g} it is {last[1]:.0%} on v_a and {last[2]:.0%} on v_b."
    )
    if all(map(is_bimodal, averaging)):
        return Verdict(HOLDS, reason)
    return Verdict(SHARPENED if is_bimodal(last) else REFUTED, f"it depends on β, by the formula: {reason}")


def draw(figure: Figure, curves: Curves) -> None:
    """Histograms of the weight on v_a, and the share of extreme samples over β."""
    left, right = figure.subplots(1, 2)
    middles = [(index + 0.5) / BINS for index in range(BINS)]
    draw_lines(
        left, middles, {f"β = {beta}": line for beta, line in curves["histograms"].items()}, style="-",
        xlabel="weight on v_a", ylabel="share of samples", yscale="log",
    )  # fmt: skip
    draw_lines(
        right,
        curves["beta"],
        curves["shares"],
        xlabel="β",
        ylabel="share of extreme samples",
        xscale="log",
        ylim=(0, 1),
    )


EXPERIMENT = Experiment(
    text=__doc__,
    sizes={
        "n": 10,
        "width": 32,
        "alpha": 1e-4,
        "beta": [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0],
        "shown": [1.0, 4.0, 16.0],
        "samples": 5000,
        "seed": 0,
    },
    small={"samples": 500},
    measure=measure,
    judge=judge,
    draw=draw,
)
