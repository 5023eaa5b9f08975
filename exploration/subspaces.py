"""Extracting one value from a sum: M = Σ aᵢaᵢᵀ, and what is left when the subspaces are not orthogonal.

Claim: if v_a is in the span of the orthonormal a₁, …, a_m and v_b in the span of the orthonormal b₁, …, b_p, with all
aᵢ orthogonal to all bⱼ, then M = Σ aᵢaᵢᵀ = AAᵀ gives M(v_a + v_b) = v_a (CS224N, assignment 5, question 1b). One
published solution gives M = Aᵀ, the matrix with the rows aᵢᵀ.

Set-up: each subspace has m = p = 8 directions of 64 dimensions; v_a and v_b are random unit vectors of the two
subspaces. The angle between each aᵢ and bᵢ is then turned from 90° to 5°. The oblique projection [A 0]·[A B]⁺, which
sends B to zero, is compared, with Gaussian noise of norm 0.01 added to the sum. Random subspaces of d dimensions are
measured too.

Rule: *holds* if, at 90°, AAᵀ has an error ‖M(v_a + v_b) − v_a‖ below 1e-6 and Aᵀ(v_a + v_b) is another vector, whose
coordinates in A are v_a: the claim is then right, and the other solution is short of the factor A. *Sharpened* if AAᵀ
has an error there below 0.1. *Refuted* otherwise.
"""

import math

import torch
from matplotlib.figure import Figure

from exploration.experiment import HOLDS, REFUTED, SHARPENED, Curves, Experiment, Sizes, Verdict
from exploration.figures import draw_lines
from exploration.head import orthonormal_vectors, seeded

Bases = tuple[torch.Tensor, torch.Tensor]
"""A and B, (d, m) each; their columns are the directions."""


def bases_at(degrees: float, m: int, width: int, generator: torch.Generator) -> Bases:
    """Two orthonormal bases with all principal angles equal: aᵢ·bᵢ = cos θ, aᵢ·bⱼ = 0."""
    directions = orthonormal_vectors(2 * m, width, generator).T  # (width, 2m)
    a, rest = directions[:, :m], directions[:, m:]
    angle = math.radians(degrees)
    return a, math.cos(angle) * a + math.sin(angle) * rest


def oblique_projection(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The matrix that keeps the span of A and sends the span of B to zero, (width, width)."""
    return torch.cat((a, torch.zeros_like(b)), dim=1) @ torch.linalg.pinv(torch.cat((a, b), dim=1))


def unit_values(basis: torch.Tensor, samples: int, generator: torch.Generator) -> torch.Tensor:
    """(width, samples) random unit vectors in the span of an orthonormal basis."""
    coordinates = torch.randn(basis.shape[1], samples, generator=generator, dtype=torch.float64)
    return basis @ (coordinates / coordinates.norm(dim=0))


def mean_error(matrix: torch.Tensor, sums: torch.Tensor, values: torch.Tensor) -> float:
    """The mean of ‖M s − v_a‖ over samples, which are columns."""
    return float((matrix @ sums - values).norm(dim=0).mean())


def measure(sizes: Sizes) -> Curves:
    """The errors over the angle, those of random subspaces over d, and what Aᵀ gives at 90°."""
    generator, m, samples = seeded(sizes["seed"]), sizes["directions"], sizes["samples"]
    by_angle: dict[str, list[float]] = {"AAᵀ": [], "AAᵀ, with noise": [], "oblique": [], "oblique, with noise": []}
    for degrees in sizes["degrees"]:
        a, b = bases_at(degrees, m, sizes["width"], generator)
        v_a, v_b = unit_values(a, samples, generator), unit_values(b, samples, generator)
        noise = torch.randn(v_a.shape, generator=generator, dtype=torch.float64)
        noise = sizes["noise"] * noise / noise.norm(dim=0)
        for name, matrix in (("AAᵀ", a @ a.T), ("oblique", oblique_projection(a, b))):
            by_angle[name].append(mean_error(matrix, v_a + v_b, v_a))
            by_angle[f"{name}, with noise"].append(mean_error(matrix, v_a + v_b + noise, v_a))
    a, b = bases_at(90, m, sizes["width"], generator)
    v_a, v_b = unit_values(a, samples, generator), unit_values(b, samples, generator)
    coordinates = a.T @ (v_a + v_b)  # (m, samples)
    random = []
    for width in sizes["widths"]:
        one, other = (orthonormal_vectors(m, width, generator).T for _ in range(2))
        values = unit_values(one, samples, generator)
        random.append(mean_error(one @ one.T, values + unit_values(other, samples, generator), values))
    return {
        "degrees": sizes["degrees"],
        "by_angle": by_angle,
        "entries_of_transpose": coordinates.shape[0],
        "entries_of_value": v_a.shape[0],
        "error_of_coordinates": mean_error(a, coordinates, v_a),
        "widths": sizes["widths"],
        "random": random,
        "random_by_formula": [math.sqrt(m / width) for width in sizes["widths"]],
    }


def judge(curves: Curves) -> Verdict:
    """See the rule in the docstring."""
    assert curves["degrees"][0] == 90
    error = curves["by_angle"]["AAᵀ"][0]
    are_coordinates = curves["error_of_coordinates"] < 1e-6 and (
        curves["entries_of_transpose"] != curves["entries_of_value"]
    )
    smallest, noisy = curves["degrees"][-1], {name: line[-1] for name, line in curves["by_angle"].items()}
    reason = (
        f"at 90° the error of AAᵀ is {error:.1g}. Aᵀ gives {curves['entries_of_transpose']} coordinates of "
        f"v_a, not its "
        f"{curves['entries_of_value']} entries. At {smallest:g}° AAᵀ keeps {noisy['AAᵀ']:.2f} of v_b; the oblique "
        f"projection keeps nothing of it, and makes a noise of 0.01 an error of {noisy['oblique, with noise']:.2f}. In "
        f"{curves['widths'][-1]} dimensions, random subspaces leave an error of {curves['random'][-1]:.2f}."
    )
    if error < 1e-6 and are_coordinates:
        return Verdict(HOLDS, reason)
    return Verdict(SHARPENED if error < 0.1 else REFUTED, reason)


def draw(figure: Figure, curves: Curves) -> None:
    """The errors over the angle, and over the dimensions of random subspaces."""
    left, right = figure.subplots(1, 2)
    # an error of rounding is drawn at the lower edge
    shown = {name: [max(error, 1e-5) for error in line] for name, line in curves["by_angle"].items()}
    draw_lines(
        left,
        curves["degrees"],
        shown,
        xlabel="angle between aᵢ and bᵢ (°)",
        ylabel="‖M(v_a + v_b) − v_a‖",
        yscale="log",
    )
    lines = {"measured": curves["random"], "√(m/d)": curves["random_by_formula"]}
    draw_lines(right, curves["widths"], lines, xlabel="d", ylabel="error of AAᵀ, random subspaces", xscale="log")


EXPERIMENT = Experiment(
    text=__doc__,
    sizes={
        "directions": 8,
        "width": 64,
        "degrees": [90, 80, 70, 60, 50, 40, 30, 20, 10, 5],
        "noise": 0.01,
        "widths": [16, 32, 64, 128, 256, 512, 1024],
        "samples": 500,
        "seed": 0,
    },
    small={"widths": [16, 32, 64], "samples": 100},
    measure=measure,
    judge=judge,
    draw=draw,
)
