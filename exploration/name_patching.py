"""Activation patching: whether the answer depends on the state of the last token of the name.

Claim: the fact passes through the state of the last token of the name in the lower layers, and through the last
position in the upper ones (Meng et al., ROME, 2202.05262, section 2).

Set-up: the models of `answering_models`. Pairs of held-out people whose answers are right and different, and whose
names have the same number of tokens. In the question about one of them, the residual state is replaced, after the
embedding or after a layer, by that of the question about the other one: at the last token of the name, at all tokens
of the name, or at the ⁇. The share of answers (first tokens) that become those of the other person is measured.

Rule: *holds* if, in every type, patching the last token of the name changes at least half of the answers after some
layer, and ⁇ does so after the last one. *Sharpened* if that is so in some types. *Refuted* if in none.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import permutations

import torch
from matplotlib.figure import Figure
from torch import nn

from exploration.answering_models import (
    SIZES,
    SMALL,
    Answering,
    answering_models,
    layer_states,
    patch_points,
    recalled,
)
from exploration.experiment import HOLDS, REFUTED, SHARPENED, Curves, Experiment, Sizes, Verdict
from exploration.figures import draw_lines

LAST, WHOLE, ANSWER = "last token of the name", "whole name", "⁇"
MOST_PAIRS = 60


@contextmanager
def patched(module: nn.Module, positions: list[int], states: torch.Tensor) -> Iterator[None]:
    """Inside the block, the output of a module is replaced at some positions by `states`, (positions, width)."""

    def replace(_module, _inputs, output: torch.Tensor) -> torch.Tensor:
        output = output.clone()
        output[:, positions] = states
        return output

    hook = module.register_forward_hook(replace)
    try:
        yield
    finally:
        hook.remove()


def pairs_of(answering: Answering) -> list[tuple[dict[str, str], dict[str, str]]]:
    """Pairs of people with different places whose names have the same number of tokens in the question."""
    people = answering.people
    found = [
        (one, other)
        for one, other in permutations(recalled(answering), 2)
        if one["answer"] != other["answer"] and people.name_place(one) == people.name_place(other)
    ]
    # spread over all people
    return found[:: max(1, len(found) // MOST_PAIRS)][:MOST_PAIRS]


@torch.inference_mode()
def shares_changed(answering: Answering) -> dict[str, list[float]]:
    """For each place of the patch, the share of answers that become the other person's, by layer."""
    model, people, pairs = answering.model, answering.people, pairs_of(answering)
    changed = {where: torch.zeros(len(patch_points(model))) for where in (LAST, WHOLE, ANSWER)}
    for one, other in pairs:
        tokens, name = people.prompt(one), people.name_place(one)
        states, target = layer_states(model, people.prompt(other)), people.answer_token(other)
        positions = {LAST: [name[-1]], WHOLE: list(name), ANSWER: [len(tokens) - 1]}
        for where, places in positions.items():
            for layer, module in enumerate(patch_points(model)):
                with patched(module, places, states[layer, places]):
                    logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1]
                changed[where][layer] += int(logits.argmax()) == target
    return {where: (count / len(pairs)).tolist() for where, count in changed.items()}


def measure(sizes: Sizes) -> Curves:
    """The shares of each type."""
    models = answering_models(sizes)
    return {
        "pairs": {kind: len(pairs_of(answering)) for kind, answering in models.items()},
        "changed": {kind: shares_changed(answering) for kind, answering in models.items()},
    }


def judge(curves: Curves) -> Verdict:
    """See the rule in the docstring."""
    passes, parts = [], []
    for kind, changed in curves["changed"].items():
        last, whole = changed[LAST], changed[WHOLE]
        best = max(range(len(last)), key=lambda layer: last[layer])
        passes.append(last[best] >= 0.5 and changed[ANSWER][-1] >= 0.5)
        parts.append(
            f"{kind}: the last token of the name changes {last[best]:.0%} of the answers at most (after layer "
            f"{best}), the "
            f"whole name {whole[0]:.0%} after the embedding and {whole[-2]:.0%} before the last layer"
        )
    word = HOLDS if all(passes) else SHARPENED if any(passes) else REFUTED
    return Verdict(word, "; ".join(parts) + ".")


def draw(figure: Figure, curves: Curves) -> None:
    """The share of changed answers by layer."""
    for axis, (kind, changed) in zip(
        figure.subplots(1, len(curves["changed"]), sharey=True), curves["changed"].items(), strict=True
    ):
        x = list(range(len(changed[LAST])))
        draw_lines(
            axis, x, changed, title=kind, xlabel="patched after layer", ylabel="answers of the other person",
            ylim=(0, 1.02), xticks=x,
        )  # fmt: skip


EXPERIMENT = Experiment(text=__doc__, sizes=SIZES, small=SMALL, measure=measure, judge=judge, draw=draw)
