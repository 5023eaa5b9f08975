"""BigBird: how far a token can be read with and without global and random blocks.

Claim: window, global and random blocks together reach every token in few layers; a window alone reaches only as far
as it is moved by the layers (Zaheer et al., 2007.14062, sections 2 and 3).

Set-up: 64 tokens of noise in blocks of 4, and one of 8 values at a random place; every token behind it (in the
bidirectional form, every token) has to say which value it is. 2 layers of width 32 with 2 heads; a window of 2 blocks
(the own block and the one before it; in the bidirectional form, on each side), 1 global and 2 random blocks. The
accuracy is taken by the distance from the value, in blocks. Dashed: the accuracy if all pairs of tokens that 2 layers
connect were right and the others guessed, computed from the pattern.

Rule: *holds* if, in both forms, global and random blocks together have at least 90% at every distance, and the window
alone less than 50% at the largest one. *Sharpened* if only the bidirectional form does. *Refuted* otherwise.
"""

from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn

from birthgpt import BirthGPTModel
from birthgpt.data.objectives.base import IGNORE
from exploration.experiment import HOLDS, REFUTED, SHARPENED, Curves, Experiment, Sizes, Verdict
from exploration.figures import draw_lines
from exploration.head import seeded
from exploration.training import Batch, seeded_model, tiny_config, train

VALUES, NOISE = 8, 8
"""The tokens 0 … 7 are values, the tokens 8 … 15 are noise."""

WINDOW, GLOBAL, RANDOM, BOTH = "window", "+ global", "+ random", "+ global + random"
CAUSAL, BIDIRECTIONAL = "causal", "bidirectional"


class Reader(nn.Module):
    """A stack of blocks in either form, with a head over the values."""

    def __init__(self, settings: dict[str, Any]):
        super().__init__()
        self.model = BirthGPTModel(tiny_config(vocab_size=VALUES + NOISE, attention_type="bigbird", **settings))
        self.head = nn.Linear(self.model.config.hidden_size, VALUES)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """The logits of the values at each token, (batch, length, values)."""
        return self.head(self.model(input_ids=input_ids, use_cache=False).last_hidden_state)


def needle_batch(rows: int, length: int, is_causal: bool, seed: int) -> Batch:
    """Rows of noise with one value at a random place.

    Returns:
        `input_ids`; `shift_labels`, the value at each token that may see it; `places`, (rows,), where the value is.
    """
    generator = seeded(seed)
    ids = VALUES + torch.randint(NOISE, (rows, length), generator=generator)
    values = torch.randint(VALUES, (rows, 1), generator=generator)
    places = torch.randint(length, (rows, 1), generator=generator)
    ids.scatter_(1, places, values)
    labels = values.expand(rows, length)
    if is_causal:
        labels = labels.masked_fill(torch.arange(length) < places, IGNORE)
    return {"input_ids": ids, "shift_labels": labels, "places": places[:, 0]}


def settings_of(form: str, pattern: str, sizes: Sizes) -> dict[str, Any]:
    """The settings of a model."""
    return {
        "is_causal": form == CAUSAL,
        "num_hidden_layers": sizes["layers"],
        "max_position_embeddings": sizes["length"],
        "bigbird_implementation": "dense",
        "bigbird_block": sizes["block"],
        "bigbird_window": sizes["window"],
        "bigbird_global": 1 if pattern in (GLOBAL, BOTH) else 0,
        "bigbird_random": sizes["random_blocks"] if pattern in (RANDOM, BOTH) else 0,
    }


@torch.inference_mode()
def reachable(reader: Reader, length: int) -> torch.Tensor:
    """Which token can know of which, over all layers and heads: (length, length) booleans, from the patterns."""
    positions = torch.arange(length)[None]
    known = torch.eye(length, dtype=torch.bool)
    for layer in reader.model.layers:
        sees = layer.attention.mask_function(positions, positions)
        heads = layer.attention.random_blocks.shape[0]
        indices = torch.meshgrid(torch.arange(1), torch.arange(heads), positions[0], positions[0], indexing="ij")
        edges = sees(*indices)[0].any(dim=0) | torch.eye(length, dtype=torch.bool)
        known = (edges.double() @ known.double()) > 0
    return known


def by_distance(values: torch.Tensor, queries: torch.Tensor, places: torch.Tensor, sizes: Sizes) -> list[float | None]:
    """The mean of values by the distance of their query from its place, in blocks, up to the largest."""
    blocks = (queries // sizes["block"] - places // sizes["block"]).abs()
    count = sizes["length"] // sizes["block"]
    means = [values[blocks == distance].double().mean() for distance in range(count)]
    return [None if mean.isnan() else float(mean) for mean in means]


def measure_pattern(form: str, pattern: str, sizes: Sizes) -> dict[str, list[float | None]]:
    """The accuracy and the share of connected pairs, by distance, of a trained model."""
    is_causal, length = form == CAUSAL, sizes["length"]
    reader = seeded_model(lambda: Reader(settings_of(form, pattern, sizes)), sizes["seed"])

    def loss_of(model: Reader, batch: Batch) -> torch.Tensor:
        logits = model(batch["input_ids"])
        return nn.functional.cross_entropy(logits.flatten(0, 1), batch["shift_labels"].flatten(), ignore_index=IGNORE)

    train(
        reader,
        lambda step: needle_batch(sizes["batch"], length, is_causal, seed=step + 1),
        steps=sizes["steps"],
        learning_rate=sizes["learning_rate"],
        loss_of=loss_of,
    )
    batch = needle_batch(sizes["test_rows"], length, is_causal, seed=0)
    with torch.inference_mode():
        is_right = reader(batch["input_ids"]).argmax(dim=-1) == batch["shift_labels"]
    is_asked = batch["shift_labels"] != IGNORE
    rows, queries = is_asked.nonzero(as_tuple=True)
    known = reachable(reader, length)
    pairs_query, pairs_key = torch.meshgrid(torch.arange(length), torch.arange(length), indexing="ij")
    allowed = pairs_key <= pairs_query if is_causal else torch.ones_like(known)
    return {
        "accuracy": by_distance(is_right[is_asked], queries, batch["places"][rows], sizes),
        "connected": by_distance(known[allowed], pairs_query[allowed], pairs_key[allowed], sizes),
    }


def measure(sizes: Sizes) -> Curves:
    """The curves of each form and pattern."""
    forms = {
        form: {pattern: measure_pattern(form, pattern, sizes) for pattern in (WINDOW, GLOBAL, RANDOM, BOTH)}
        for form in (CAUSAL, BIDIRECTIONAL)
    }
    return {"distances": list(range(sizes["length"] // sizes["block"])), "forms": forms}


def judge(curves: Curves) -> Verdict:
    """See the rule in the docstring."""
    passes, parts = {}, []
    for form, patterns in curves["forms"].items():
        worst = {
            name: min(value for value in found["accuracy"] if value is not None) for name, found in patterns.items()
        }
        window = patterns[WINDOW]["accuracy"][-1]
        passes[form] = worst[BOTH] >= 0.9 and window < 0.5
        shown = ", ".join(f"{name} {value:.0%}" for name, value in worst.items())
        connected = min(value for value in patterns[BOTH]["connected"] if value is not None)
        parts.append(
            f"{form}: the lowest accuracy over the distances is {shown}; with all blocks, 2 layers connect at least "
            f"{connected:.0%} of the pairs at a distance"
        )
    word = HOLDS if all(passes.values()) else SHARPENED if passes[BIDIRECTIONAL] else REFUTED
    return Verdict(word, ". ".join(part[0].upper() + part[1:] for part in parts) + ".")


def draw(figure: Figure, curves: Curves) -> None:
    """The accuracy by distance; dashed: the accuracy if every connected pair were right, and the others guessed."""
    for axis, (form, patterns) in zip(figure.subplots(1, 2, sharey=True), curves["forms"].items(), strict=True):
        lines = {name: found["accuracy"] for name, found in patterns.items()}
        draw_lines(
            axis, curves["distances"], lines, title=form, xlabel="distance (blocks)", ylabel="accuracy", ylim=(0, 1.02)
        )
        for line, found in zip(axis.get_lines(), patterns.values(), strict=True):
            bound = [share + (1 - share) / VALUES for share in found["connected"]]
            axis.plot(curves["distances"], bound, "--", linewidth=0.8, color=line.get_color())


EXPERIMENT = Experiment(
    text=__doc__,
    sizes={
        "length": 64,
        "block": 4,
        "layers": 2,
        "window": 2,
        "random_blocks": 2,
        "steps": 450,
        "batch": 16,
        "test_rows": 512,
        "learning_rate": 1e-2,
        "seed": 0,
    },
    small={"length": 16, "steps": 4, "batch": 4, "test_rows": 32},
    measure=measure,
    judge=judge,
    draw=draw,
)
