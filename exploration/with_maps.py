"""Self-attention with keys, queries and values: the worked construction, and its scale.

Claim: with K = I, Q = (u_d u_aᵀ + u_c u_dᵀ)/β² and V = (u_b u_bᵀ − u_c u_cᵀ)/β², the tokens of `without_maps` give c₂
≈ u_b and c₁ ≈ u_b − u_c (CS224N, assignment 5, question 1e).

Set-up: orthogonal u of norm β in 16 dimensions, β from 0.5 to 6. The error is relative to the norm of the target.
Without 1/β² in V, or in Q, the construction is measured too. The scores are also divided by √d, as a Transformer has
it.

Rule: *holds* if, as given, both errors are below 0.01 for every β of 3 and more. *Sharpened* if only at the largest
β. *Refuted* otherwise.
"""

import math

import torch
from matplotlib.figure import Figure

from exploration.experiment import HOLDS, REFUTED, SHARPENED, Curves, Experiment, Sizes, Verdict
from exploration.figures import draw_lines
from exploration.head import attend, orthonormal_vectors, seeded

GIVEN, NO_VALUE_SCALE, NO_QUERY_SCALE, DIVIDED = (
    "as given",
    "V without 1/β²",
    "Q without 1/β²",
    "scores divided by √d",
)


def error_by_formula(beta: float) -> float:
    """‖c₂ − u_b‖/β: scores β², 0, 0, and values u_b, 0, u_b − u_c: the third key adds −u_c and the second takes u_b."""
    others = 1 / (math.exp(beta**2) + 2)
    return others * math.sqrt(2)


def relative_errors(beta: float, case: str, directions: torch.Tensor) -> tuple[float, float]:
    """The relative errors of c₂ ≈ u_b and c₁ ≈ u_b − u_c."""
    u_a, u_b, u_c, u_d = beta * directions
    x = torch.stack((u_d + u_b, u_a, u_c + u_b))
    queries = x @ (torch.outer(u_d, u_a) + torch.outer(u_c, u_d)).T
    values = x @ (torch.outer(u_b, u_b) - torch.outer(u_c, u_c)).T
    queries = queries / (1 if case == NO_QUERY_SCALE else beta**2)
    values = values / (1 if case == NO_VALUE_SCALE else beta**2)
    if case == DIVIDED:
        queries = queries / math.sqrt(x.shape[1])
    errors = []
    for token, target in ((1, u_b), (0, u_b - u_c)):
        mixed, _ = attend(queries[token], x, values)
        errors.append(float((mixed - target).norm() / target.norm()))
    return errors[0], errors[1]


def measure(sizes: Sizes) -> Curves:
    """The errors of c₂ and c₁ over β for each case."""
    directions = orthonormal_vectors(4, sizes["width"], seeded(sizes["seed"]))
    found = {
        case: [relative_errors(beta, case, directions) for beta in sizes["beta"]]
        for case in (GIVEN, NO_VALUE_SCALE, NO_QUERY_SCALE, DIVIDED)
    }
    second, first = ({case: [pair[index] for pair in pairs] for case, pairs in found.items()} for index in (0, 1))
    return {"beta": sizes["beta"], "second": second, "first": first, "width": sizes["width"]}


def judge(curves: Curves) -> Verdict:
    """See the rule in the docstring."""
    given = [max(pair) for pair in zip(curves["second"][GIVEN], curves["first"][GIVEN], strict=True)]
    last = {case: max(curves["second"][case][-1], curves["first"][case][-1]) for case in curves["second"]}
    first_small = next(beta for beta, error in zip(curves["beta"], given, strict=True) if error < 0.01)
    reason = (
        f"both errors are below 1% from β = {first_small:g} on. At β = {curves['beta'][-1]:g} the larger one is "
        f"{last[GIVEN]:.1g}; without 1/β² in V it is {last[NO_VALUE_SCALE]:.0f}, because c₂ ≈ β²u_b; without "
        f"it in Q it is "
        f"{last[NO_QUERY_SCALE]:.1g}; with scores divided by √d it is {last[DIVIDED]:.1g}."
    )
    if all(error < 0.01 for beta, error in zip(curves["beta"], given, strict=True) if beta >= 3):
        return Verdict(HOLDS, reason)
    return Verdict(SHARPENED if last[GIVEN] < 0.01 else REFUTED, reason)


def draw(figure: Figure, curves: Curves) -> None:
    """The errors of c₂ and c₁ over β."""
    titles = {"second": "c₂ ≈ u_b", "first": "c₁ ≈ u_b − u_c"}
    for axis, (key, title) in zip(figure.subplots(1, 2, sharey=True), titles.items(), strict=True):
        shown = {case: [max(error, 1e-9) for error in line] for case, line in curves[key].items()}
        draw_lines(axis, curves["beta"], shown, title=title, xlabel="β", ylabel="relative error", yscale="log")


EXPERIMENT = Experiment(
    text=__doc__,
    sizes={"beta": [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0], "width": 16, "seed": 0},
    small={},
    measure=measure,
    judge=judge,
    draw=draw,
)
