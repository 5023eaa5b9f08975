"""Attention from the answer to the name: whether a model that answers looks at the name when it answers.

Claim: the answer is read from the tokens of the name by attention from the last position (Geva et al., Dissecting
Recall, 2304.14767, section 6).

Set-up: the models of `answering_models` with softmax, Performer and Synthesizer attention: 100 people, of whom 50 are
held out, 10 places, 3 layers of width 64. At the ⁇ of `Where was NAME born?⁇`, the weight on the tokens of the name
is measured for each layer, as the mean over heads and the held-out people whose answer is right. The prompt is
causal, so equal weights would give the name its share of the tokens.

Rule: *holds* if, in every type, some layer gives the name at least ten percentage points more than its share of the
tokens, and more than the same layer did before training. *Sharpened* if that is so for some types. *Refuted* if for
none.
"""

import torch
from matplotlib.figure import Figure

from exploration.answering_models import SIZES, SMALL, Answering, answering_models, held_out_accuracy, recalled
from exploration.experiment import HOLDS, REFUTED, SHARPENED, Curves, Experiment, Sizes, Verdict
from exploration.figures import draw_lines

MARGIN = 0.1


@torch.inference_mode()
def weights_on_name(answering: Answering, rows: list[dict[str, str]]) -> list[list[float]]:
    """For each layer, the mean weight from ⁇ on the whole name and on its last token."""
    people, found = answering.people, []
    for row in rows:
        ids, name = torch.tensor([people.prompt(row)]), people.name_place(row)
        layers = answering.model(input_ids=ids, use_cache=False, output_attentions=True).attentions
        last = torch.stack([weights[0, :, -1].mean(dim=0) for weights in layers])  # (layers, length)
        found.append(torch.stack((last[:, name].sum(dim=-1), last[:, name[-1]]), dim=-1))
    return torch.stack(found).mean(dim=0).tolist()


def measure(sizes: Sizes) -> Curves:
    """For each type: the weights by layer, before and after training, and the share of the name among the tokens."""
    curves: Curves = {"weights": {}, "before": {}, "accuracy": {}, "share": {}}
    for kind, answering in answering_models(sizes).items():
        rows = recalled(answering)
        curves["accuracy"][kind] = held_out_accuracy(answering)
        curves["weights"][kind] = weights_on_name(answering, rows)
        with answering.at(0):
            curves["before"][kind] = weights_on_name(answering, rows)
        people = answering.people
        shares = [len(people.name_place(row)) / len(people.prompt(row)) for row in rows]
        curves["share"][kind] = sum(shares) / len(shares)
    return curves


def judge(curves: Curves) -> Verdict:
    """See the rule in the docstring."""
    looks, parts = {}, []
    for kind, layers in curves["weights"].items():
        share = curves["share"][kind]
        pairs = zip(layers, curves["before"][kind], strict=True)
        looks[kind] = any(after[0] > max(share + MARGIN, before[0]) for after, before in pairs)
        best = max(range(len(layers)), key=lambda layer: layers[layer][0])
        parts.append(
            f"{kind} (right about {curves['accuracy'][kind]:.0%} of the held-out people) gives the name "
            f"{layers[best][0]:.0%} in layer {best + 1}, where equal weights give {share:.0%}"
        )
    word = HOLDS if all(looks.values()) else SHARPENED if any(looks.values()) else REFUTED
    return Verdict(word, "; ".join(parts) + ".")


def draw(figure: Figure, curves: Curves) -> None:
    """The weights by layer, after and before training."""
    panels = zip(figure.subplots(1, len(curves["weights"]), sharey=True), curves["weights"].items(), strict=True)
    for axis, (kind, layers) in panels:
        x = list(range(1, len(layers) + 1))
        axis.axhline(curves["share"][kind], color="grey", linewidth=1, linestyle="--", label="equal weights")
        lines = {
            "the name": [pair[0] for pair in layers],
            "its last token": [pair[1] for pair in layers],
            "the name, untrained": [pair[0] for pair in curves["before"][kind]],
        }
        draw_lines(axis, x, lines, title=kind, xlabel="layer", ylabel="weight from ⁇", ylim=(0, 1.02), xticks=x)


EXPERIMENT = Experiment(text=__doc__, sizes=SIZES, small=SMALL, measure=measure, judge=judge, draw=draw)
