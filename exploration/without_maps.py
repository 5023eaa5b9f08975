"""Self-attention without maps: a token cannot read a part of another token.

Claim: for x₁ = u_d + u_b, x₂ = u_a, x₃ = u_c + u_b, with orthogonal vectors of norm β and keys = queries = values =
x, c₂ ≈ u_a. Adding u_d or u_c to x₂ cannot make c₂ ≈ u_b (CS224N, assignment 5, question 1e).

Set-up: the second token is x₂ = u_a + s·u_d + t·u_c for s and t from −2 to 2, β from 0.25 to 6. The error is ‖c₂ −
u_b‖/β for the best s and t, and the best positive multiple of u_b is tried too, which asks for its direction only.

Rule: *holds* if c₂ is within 0.01 β of u_a at the largest β, and no s, t and β bring it within 0.1 of u_b, not even
in direction (a sine of 0.1). *Sharpened* if the direction can be reached. *Refuted* if u_b can be reached.
"""

import torch
from matplotlib.figure import Figure

from exploration.experiment import HOLDS, REFUTED, SHARPENED, Curves, Experiment, Sizes, Verdict
from exploration.figures import draw_lines
from exploration.head import attend

A, B, C, D = 0, 1, 2, 3
"""The coordinates along u_a, u_b, u_c and u_d."""


def tokens(beta: float, s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """x₁, x₂, x₃ in the coordinates of u_a, u_b, u_c, u_d, for each s and t: (..., 3, 4)."""
    x = torch.zeros(*s.shape, 3, 4, dtype=torch.float64)
    x[..., 0, D] = x[..., 0, B] = 1
    x[..., 1, A], x[..., 1, D], x[..., 1, C] = 1, s, t
    x[..., 2, C] = x[..., 2, B] = 1
    return beta * x


def second_output(beta: float, s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """c₂/β for each s and t: (..., 4)."""
    x = tokens(beta, s, t)
    return attend(x[..., 1, :], x, x)[0] / beta


def measure(sizes: Sizes) -> Curves:
    """For each β: the error of c₂ ≈ u_a without additions, and the smallest errors of c₂ ≈ u_b over all s and t."""
    axis = torch.linspace(-2, 2, sizes["steps"], dtype=torch.float64)
    s, t = torch.meshgrid(axis, axis, indexing="ij")
    zero = torch.zeros((), dtype=torch.float64)
    unit = torch.eye(4, dtype=torch.float64)
    errors: dict[str, list[float]] = {"‖c₂ − u_a‖/β, nothing added": [], "‖c₂ − u_b‖/β, best": [], "sine, best": []}
    for beta in sizes["beta"]:
        plain, mixed = second_output(beta, zero, zero), second_output(beta, s, t)
        cosines = mixed[..., B] / mixed.norm(dim=-1)
        sines = torch.where(cosines > 0, (1 - cosines.square()).clamp(min=0).sqrt(), torch.ones_like(cosines))
        best = ((plain - unit[A]).norm(), (mixed - unit[B]).norm(dim=-1).min(), sines.min())
        for line, error in zip(errors.values(), best, strict=True):
            line.append(float(error))
    return {"beta": sizes["beta"], "errors": errors}


def judge(curves: Curves) -> Verdict:
    """See the rule in the docstring."""
    own, other, direction = curves["errors"].values()
    reason = (
        f"c₂ is {own[-1]:.1g} β from u_a at β = {curves['beta'][-1]:g}. With the best additions at the best β it stays "
        f"{min(other):.2f} β from u_b, and the sine of the angle to u_b stays at {min(direction):.2f}."
    )
    if own[-1] > 0.01 or min(other) < 0.1:
        return Verdict(REFUTED, reason)
    return Verdict(SHARPENED if min(direction) < 0.1 else HOLDS, reason)


def draw(figure: Figure, curves: Curves) -> None:
    """The errors over β."""
    axis = figure.subplots()
    shown = {name: [max(error, 1e-6) for error in line] for name, line in curves["errors"].items()}
    draw_lines(axis, curves["beta"], shown, xlabel="β", ylabel="error", yscale="log")


EXPERIMENT = Experiment(
    text=__doc__,
    sizes={"beta": [0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0], "steps": 401},
    small={"steps": 41},
    measure=measure,
    judge=judge,
    draw=draw,
)
