"""The logit lens: in which layer the answer appears.

Claim: the prediction is refined layer by layer: the final norm and the output head, applied to the state after each
layer, show the answer more and more (nostalgebraist, Interpreting GPT: the logit lens, 2020; Geva et al.,
2203.14680).

Set-up: the models of `answering_models`. At the ⁇ of the question, and at the last token of the name, the share of
held-out people for whom the first token of the place is the most likely one, and its probability, after each layer.

Rule: *holds* if, in every type, the probability at ⁇ grows in each layer, and the answer is the most likely token for
at least half of the final share of people before the last layer. *Sharpened* if in every type the probability is
largest after the last layer. *Refuted* otherwise.
"""

import torch
from matplotlib.figure import Figure

from exploration.answering_models import SIZES, SMALL, Answering, answering_models, layer_states
from exploration.experiment import HOLDS, REFUTED, SHARPENED, Curves, Experiment, Sizes, Verdict
from exploration.figures import draw_lines

ANSWER, NAME = "at ⁇", "at the last token of the name"


@torch.inference_mode()
def lens(answering: Answering) -> dict[str, dict[str, list[float]]]:
    """The share of right first tokens and their mean probability by layer, at both positions."""
    model, people = answering.model, answering.people
    found: dict[str, list[torch.Tensor]] = {ANSWER: [], NAME: []}
    targets = torch.tensor([people.answer_token(row) for row in people.held_out])
    for row in people.held_out:
        states = layer_states(model, people.prompt(row))
        for where, place in ((ANSWER, -1), (NAME, people.name_place(row)[-1])):
            found[where].append(model.lm_head(model.model.norm(states[:, place])).softmax(dim=-1))
    measured = {}
    for where, rows in found.items():
        probabilities = torch.stack(rows)  # (people, 1 + layers, vocabulary)
        of_answer = probabilities[torch.arange(len(rows)), :, targets]  # (people, 1 + layers)
        is_right = probabilities.argmax(dim=-1) == targets[:, None]
        measured[where] = {
            "right": is_right.double().mean(dim=0).tolist(),
            "probability": of_answer.double().mean(dim=0).tolist(),
        }
    return measured


def measure(sizes: Sizes) -> Curves:
    """The lens of each type."""
    return {"lens": {kind: lens(answering) for kind, answering in answering_models(sizes).items()}}


def judge(curves: Curves) -> Verdict:
    """See the rule in the docstring."""
    grows, is_last, parts = [], [], []
    for kind, found in curves["lens"].items():
        probability, right = found[ANSWER]["probability"], found[ANSWER]["right"]
        rises = all(after > before for before, after in zip(probability, probability[1:], strict=False))
        grows.append(rises and right[-2] >= right[-1] / 2 > 0)
        is_last.append(probability[-1] == max(probability))
        shown = ", ".join(f"{share:.0%}" for share in right)
        parts.append(f"{kind}: {shown}")
    word = HOLDS if all(grows) else SHARPENED if all(is_last) else REFUTED
    return Verdict(word, f"right first tokens at ⁇, after the embedding and each layer: {'; '.join(parts)}.")


def draw(figure: Figure, curves: Curves) -> None:
    """The share of right first tokens and their probability by layer."""
    for axis, (kind, found) in zip(
        figure.subplots(1, len(curves["lens"]), sharey=True), curves["lens"].items(), strict=True
    ):
        x = list(range(len(found[ANSWER]["right"])))
        labels = {ANSWER: "⁇", NAME: "name"}
        lines = {f"{key}, {labels[where]}": found[where][key] for where in labels for key in ("right", "probability")}
        draw_lines(axis, x, lines, title=kind, xlabel="layers", ylabel="first token", ylim=(0, 1.02), xticks=x)


EXPERIMENT = Experiment(text=__doc__, sizes=SIZES, small=SMALL, measure=measure, judge=judge, draw=draw)
