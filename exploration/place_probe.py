"""A linear probe for the place: where and when the name alone tells it.

Claim: what a model learned about a person is linearly encoded in the state of the last token of the name (Allen-Zhu &
Li, 2309.14316, section 4: almost perfectly if it can be asked for).

Set-up: the models of `answering_models`. The states at the last token of the name in `NAME`, which no word of the
question precedes, of the 50 people who are asked about, are the inputs of a ridge regression on their 10 places; it
is tested on the 50 held-out people. A guess is right for 10%. The probe is fitted for each layer after some numbers
of updates.

Rule: *holds* if, in every type, the best layer has at least 90% at the end. *Sharpened* if in every type it has at
least three times the share of the same layer before training and of a guess. *Refuted* otherwise.
"""

import torch
from matplotlib.figure import Figure

from exploration.answering_models import SIZES, SMALL, Answering, answering_models, layer_states
from exploration.experiment import HOLDS, REFUTED, SHARPENED, Curves, Experiment, Sizes, Verdict
from exploration.figures import draw_lines

PENALTY = 1.0


def fit_probe(states: torch.Tensor, classes: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A ridge regression from states, (n, width), to the indicators of classes, (n,): its matrix and its bias.

    The states are centred, and divided by their mean norm, so that the penalty does not depend on their scale.
    """
    states, targets = states.double(), torch.nn.functional.one_hot(classes, count).double()
    mean, share = states.mean(dim=0), targets.mean(dim=0)
    centred = states - mean
    scale = centred.norm(dim=-1).mean()
    centred = centred / scale
    gram = centred.T @ centred + PENALTY * torch.eye(states.shape[1], dtype=torch.float64)
    matrix = torch.linalg.solve(gram, centred.T @ (targets - share)) / scale
    return matrix, share - mean @ matrix


def probe_accuracy(train: torch.Tensor, test: torch.Tensor, classes: tuple[torch.Tensor, torch.Tensor]) -> float:
    """The accuracy on test states of a probe that is fitted on train states; `classes` are those of both."""
    matrix, bias = fit_probe(train, classes[0], int(max(part.max() for part in classes)) + 1)
    return float(((test.double() @ matrix + bias).argmax(dim=-1) == classes[1]).double().mean())


def name_states(answering: Answering, rows: list[dict[str, str]]) -> torch.Tensor:
    """The states at the last token of each name, (1 + layers, people, width)."""
    tokens = [answering.people.tokenizer(row["name"])["input_ids"] for row in rows]
    return torch.stack([layer_states(answering.model, ids)[:, -1] for ids in tokens], dim=1)


def probe(answering: Answering) -> dict[int, list[float]]:
    """For each number of updates, the accuracy of the probe after the embedding and each layer."""
    people = answering.people
    parts = (people.trained, people.held_out)
    train, test = (torch.tensor([people.places.index(row["answer"]) for row in rows]) for rows in parts)
    found = {}
    for step in answering.snapshots:
        with answering.at(step):
            states = [name_states(answering, rows) for rows in parts]
            found[step] = [probe_accuracy(*layer, (train, test)) for layer in zip(*states, strict=True)]
    return found


def measure(sizes: Sizes) -> Curves:
    """The probes of each type."""
    probes = {kind: probe(answering) for kind, answering in answering_models(sizes).items()}
    return {"probes": probes, "guess": 1 / sizes["places"]}


def judge(curves: Curves) -> Verdict:
    """See the rule in the docstring."""
    encodes, improves, parts = [], [], []
    for kind, steps in curves["probes"].items():
        first, last = list(steps.values())[0], list(steps.values())[-1]
        best = max(range(len(last)), key=lambda layer: last[layer])
        encodes.append(last[best] >= 0.9)
        improves.append(last[best] >= 3 * max(first[best], curves["guess"]))
        parts.append(f"{kind} {last[best]:.0%} after layer {best} ({first[best]:.0%} before training)")
    word = HOLDS if all(encodes) else SHARPENED if all(improves) else REFUTED
    return Verdict(word, f"the best probes on held-out people: {'; '.join(parts)}. A guess has {curves['guess']:.0%}.")


def draw(figure: Figure, curves: Curves) -> None:
    """The accuracy by layer, a line for each number of updates."""
    for axis, (kind, steps) in zip(
        figure.subplots(1, len(curves["probes"]), sharey=True), curves["probes"].items(), strict=True
    ):
        x = list(range(len(next(iter(steps.values())))))
        axis.axhline(curves["guess"], color="grey", linewidth=1, linestyle="--", label="a guess")
        lines = {f"{step} updates": line for step, line in steps.items()}
        draw_lines(
            axis, x, lines, title=kind, xlabel="layers", ylabel="places of held-out people", ylim=(0, 1), xticks=x
        )


EXPERIMENT = Experiment(text=__doc__, sizes=SIZES, small=SMALL, measure=measure, judge=judge, draw=draw)
