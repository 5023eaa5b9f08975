"""Trigonometric features in training: where they break.

Claim: training with trigonometric features is unstable, because their estimates of small weights may be negative or
far too large; with positive features it is stable (Choromanski et al., 2009.14794, section 4).

Set-up: associative recall of 4 pairs from 8 keys and 8 values, 1 layer with Canon of width 4, width 32, 2 heads.
Softmax attention is compared with Performer attention of each kind, with m = 16 and 64 orthogonal features. The loss
is the mean of 20 steps. After the training, all queries and keys are scaled so that the scores are 0.25 to 4 times as
large. A row is impossible if it has a weight below −0.1 or above 1.1: weights of softmax are in 0..1.

Rule: *holds* if, with both m, trigonometric features end with a loss that is not finite or at least 0.1 above that
of positive ones. *Sharpened* if that is so with one m only, or if no loss shows it, but at the largest scores at
least 10% of the rows are impossible with trigonometric features and none with positive ones. *Refuted* otherwise.
"""

import math
from typing import Any

import torch
from matplotlib.figure import Figure

from birthgpt import BirthGPTForCausalLM
from exploration.experiment import HOLDS, REFUTED, SHARPENED, Curves, Experiment, Sizes, Verdict
from exploration.figures import draw_lines
from exploration.recall_task import recall_batch
from exploration.training import tiny_model, train

WINDOW = 20
SMALLEST_WEIGHT, LARGEST_WEIGHT = -0.1, 1.1


def train_model(settings: dict[str, Any], sizes: Sizes) -> tuple[BirthGPTForCausalLM, list[float]]:
    """A trained model of one layer, and the mean loss of each 20 steps."""
    pairs, symbols = sizes["pairs"], sizes["symbols"]
    model = tiny_model(
        sizes["seed"],
        vocab_size=2 * symbols,
        max_position_embeddings=4 * pairs,
        num_hidden_layers=1,
        canon_width=4,
        **settings,
    )
    losses = train(
        model,
        lambda step: recall_batch(sizes["batch"], pairs, symbols, seed=step + 1),
        steps=sizes["steps"],
        learning_rate=sizes["learning_rate"],
    )
    starts = range(0, len(losses), WINDOW)
    return model, [sum(part) / len(part) for part in (losses[start : start + WINDOW] for start in starts)]


@torch.inference_mode()
def impossible_rows(model: BirthGPTForCausalLM, sizes: Sizes) -> list[float]:
    """The share of rows with impossible weights, for each factor of the scores; the model is as before afterwards."""
    projections = model.model.layers[0].attention.projections
    scaled = [parameter for part in (projections.q_proj, projections.k_proj) for parameter in part.parameters()]
    kept = [parameter.clone() for parameter in scaled]
    ids = recall_batch(64, sizes["pairs"], sizes["symbols"], seed=0)["input_ids"]
    shares = []
    for factor in sizes["factors"]:
        for parameter, value in zip(scaled, kept, strict=True):
            parameter.copy_(value * math.sqrt(factor))
        (weights,) = model(input_ids=ids, use_cache=False, output_attentions=True).attentions
        is_impossible = ((weights < SMALLEST_WEIGHT) | (weights > LARGEST_WEIGHT)).any(dim=-1)
        shares.append(float(is_impossible.double().mean()))
    for parameter, value in zip(scaled, kept, strict=True):
        parameter.copy_(value)
    return shares


def measure(sizes: Sizes) -> Curves:
    """The losses over the steps and the shares of impossible rows, of softmax and of each kind and m."""
    cases: dict[str, dict[str, Any]] = {"softmax": {}}
    for kind in ("positive", "trigonometric", "relu"):
        for m in sizes["features"]:
            cases[f"{kind}, m = {m}"] = {
                "attention_type": "performer",
                "performer_kind": kind,
                "performer_features": m,
            }
    losses, impossible = {}, {}
    for name, settings in cases.items():
        model, losses[name] = train_model(settings, sizes)
        if name != "softmax":
            impossible[name] = impossible_rows(model, sizes)
    # JSON has no NaN
    losses = {name: [loss if math.isfinite(loss) else None for loss in line] for name, line in losses.items()}
    steps = list(range(WINDOW, WINDOW * len(losses["softmax"]) + 1, WINDOW))
    return {
        "steps": steps,
        "losses": losses,
        "factors": sizes["factors"],
        "impossible": impossible,
        "features": sizes["features"],
    }


def judge(curves: Curves) -> Verdict:
    """See the rule in the docstring."""
    breaks, parts = [], []
    for m in curves["features"]:
        ends = {kind: curves["losses"][f"{kind}, m = {m}"][-1] for kind in ("positive", "trigonometric", "relu")}
        breaks.append(ends["trigonometric"] is None or ends["trigonometric"] >= ends["positive"] + 0.1)
        shown = ", ".join(f"{kind} {'not finite' if end is None else format(end, '.2f')}" for kind, end in ends.items())
        parts.append(f"m = {m}: {shown}")
    largest = {
        kind: [curves["impossible"][f"{kind}, m = {m}"][-1] for m in curves["features"]]
        for kind in ("positive", "trigonometric")
    }
    reason = (
        f"the last losses with {'; '.join(parts)}; softmax {curves['losses']['softmax'][-1]:.2f}. At "
        f"{curves['factors'][-1]:g} times the scores, {min(largest['trigonometric']):.0%} to "
        f"{max(largest['trigonometric']):.0%} of the rows are impossible with trigonometric features, and "
        f"{max(largest['positive']):.0%} with positive ones."
    )
    rows_break = min(largest["trigonometric"]) >= 0.1 and max(largest["positive"]) == 0
    word = HOLDS if all(breaks) else SHARPENED if any(breaks) or rows_break else REFUTED
    return Verdict(word, reason)


def draw(figure: Figure, curves: Curves) -> None:
    """The losses over the steps, and the share of impossible rows over the size of the scores."""
    left, right = figure.subplots(1, 2)
    draw_lines(left, curves["steps"], curves["losses"], style="-", xlabel="step", ylabel="loss")
    draw_lines(
        right, curves["factors"], curves["impossible"], xlabel="factor of the scores", ylabel="impossible rows",
        ylim=(-0.02, 1),
    )  # fmt: skip
    right.set_xscale("log", base=2)


EXPERIMENT = Experiment(
    text=__doc__,
    sizes={
        "features": [16, 64],
        "factors": [0.25, 0.5, 1.0, 2.0, 4.0],
        "pairs": 4,
        "symbols": 8,
        "steps": 300,
        "batch": 64,
        "learning_rate": 5e-3,
        "seed": 0,
    },
    small={"features": [16], "steps": 20, "batch": 8},
    measure=measure,
    judge=judge,
    draw=draw,
)
