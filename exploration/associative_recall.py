"""Associative recall: which attention types find the value of a key, in how many layers.

Claim: in a single layer, the Synthesizer cannot do what key–query–value attention does: its scores do not depend on
what the other token is, so it cannot look for the token that has a key (CS224N, assignment 5, question 2g, and its
published solutions).

Set-up: multi-query associative recall of 4 pairs from 8 keys and 8 values, 16 tokens, width 32, 2 heads, learned
positions. Every attention type of the package is trained from scratch with 1 and 2 layers, and with 1 layer and Canon
(a causal convolution of width 4), which brings a key and its value into one token. So one look-up is then enough.
Windows and blocks are shorter than the text. The accuracy is that on 512 new texts. Who knows which 4 values were
told, but not of which key, is right in about a third.

Rule, by the column of 1 layer with Canon: *holds* if softmax has at least 99% and both kinds of Synthesizer without
keys have less than 90%. *Refuted* if such a Synthesizer has at least 99% or softmax has less. *Sharpened* otherwise.
"""

from typing import Any

from matplotlib.figure import Figure

from exploration.experiment import HOLDS, REFUTED, SHARPENED, Curves, Experiment, Sizes, Verdict
from exploration.figures import draw_heatmap
from exploration.recall_task import recall_batch
from exploration.training import accuracy, tiny_model, train

KINDS: dict[str, dict[str, Any]] = {
    "softmax": {},
    "sliding_softmax": {"sliding_window": 8},
    "synthesizer, dense": {"synthesizer_kind": "dense"},
    "synthesizer, random": {"synthesizer_kind": "random"},
    "synthesizer, dense + keys": {"synthesizer_mixture": "plus"},
    "performer": {"performer_features": 64},
    "linformer": {"linformer_block": 4, "linformer_window": 4, "linformer_num_slots": 2},
    "abc": {"abc_num_slots": 8},
    "bigbird": {"bigbird_block": 2, "bigbird_window": 2, "bigbird_random": 2},
    "gated_deltanet": {"deltanet_chunk": 16},
    "perceiver": {"perceiver_bottleneck": 8},
}
"""The attention types, with their settings; the type is the name before the comma."""

WITHOUT_KEYS = ("synthesizer, dense", "synthesizer, random")
DEPTHS: dict[str, dict[str, int]] = {
    "1 layer": {"num_hidden_layers": 1},
    "2 layers": {"num_hidden_layers": 2},
    "1 layer + Canon": {"num_hidden_layers": 1, "canon_width": 4},
}


def trained_accuracy(kind: str, depth: str, sizes: Sizes) -> float | None:
    """The accuracy of a model that is trained from scratch; None if the type needs more layers."""
    if kind == "perceiver" and DEPTHS[depth]["num_hidden_layers"] < 2:
        return None
    pairs, symbols = sizes["pairs"], sizes["symbols"]
    model = tiny_model(
        sizes["seed"],
        vocab_size=2 * symbols,
        max_position_embeddings=4 * pairs,
        attention_type=kind.split(",")[0],
        **DEPTHS[depth],
        **KINDS[kind],
    )
    train(
        model,
        lambda step: recall_batch(sizes["batch"], pairs, symbols, seed=step + 1),
        steps=sizes["steps"],
        learning_rate=sizes["learning_rate"],
    )
    return accuracy(model, recall_batch(512, pairs, symbols, seed=0))


def measure(sizes: Sizes) -> Curves:
    """The accuracy of each type at each depth."""
    table = {kind: [trained_accuracy(kind, depth, sizes) for depth in DEPTHS] for kind in sizes["kinds"]}
    return {"depths": list(DEPTHS), "accuracy": table}


def judge(curves: Curves) -> Verdict:
    """See the rule in the docstring."""
    one_look_up = {kind: row[-1] for kind, row in curves["accuracy"].items()}
    without = [one_look_up[kind] for kind in WITHOUT_KEYS if kind in one_look_up]
    softmax = one_look_up["softmax"]
    solved = {
        depth: [kind for kind, row in curves["accuracy"].items() if (row[index] or 0) >= 0.99]
        for index, depth in enumerate(curves["depths"])
    }
    shown = "; ".join(f"{depth}: {', '.join(kinds) or 'none'}" for depth, kinds in solved.items())
    reason = (
        f"in 1 layer with Canon, softmax has {softmax:.0%} and the Synthesizer without keys "
        f"{max(without):.0%} at most. "
        f"At least 99% have, in {shown}."
    )
    if softmax < 0.99 or max(without) >= 0.99:
        return Verdict(REFUTED, reason)
    return Verdict(HOLDS if max(without) < 0.9 else SHARPENED, reason)


def draw(figure: Figure, curves: Curves) -> None:
    """The table of accuracies."""
    figure.set_size_inches(6, 4)
    draw_heatmap(figure.subplots(), curves["accuracy"], curves["depths"], title="accuracy on new texts")


EXPERIMENT = Experiment(
    text=__doc__,
    sizes={
        "kinds": list(KINDS),
        "pairs": 4,
        "symbols": 8,
        "steps": 500,
        "batch": 64,
        "learning_rate": 5e-3,
        "seed": 0,
    },
    small={"kinds": ["softmax", "synthesizer, dense"], "steps": 4, "batch": 8},
    measure=measure,
    judge=judge,
    draw=draw,
)
