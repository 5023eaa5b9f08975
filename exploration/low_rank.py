"""Low rank: the spectra of trained attention, beside those of random weights.

Claim: attention matrices are approximately of low rank: most of the sum of their singular values is in the largest
ones, the more so in higher layers (Wang et al., Linformer, 2006.04768, section 3.1 and figure 1, for 512 × 512
matrices and their largest 128).

Set-up: a language model of each type that shows its weights, 3 layers of width 64 with 4 heads, is trained on packed
lines about synthetic people, 128 tokens at a time. Its matrices are causal, where those of the paper are
bidirectional. The share of the largest quarter of the singular values in their sum is the mean over heads and new
texts, before and after training. Lower triangular matrices are compared: the mean of all tokens so far, which random
weights are close to, and softmax of independent scores from N(0, 1) and N(0, 3²).

Rule: *holds* if, in every layer of trained softmax attention, the largest quarter has at least 90%, and more than
with random weights. *Sharpened* if it has at least 90%, but not more than with random weights in some layer.
*Refuted* if it has less than 90% in some layer.
"""

import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from matplotlib.figure import Figure

from birthgpt import BirthGPTForCausalLM
from birthgpt.data.synthetic import RelationSettings, SyntheticSettings, write_related_people
from birthgpt.data.synthetic.relation_corpus import BIOGRAPHIES
from birthgpt.data.tokenizers import train_bpe_tokenizer
from birthgpt.settings import make_settings
from exploration.experiment import HOLDS, REFUTED, SHARPENED, Curves, Experiment, Sizes, Verdict
from exploration.figures import draw_lines
from exploration.head import seeded
from exploration.training import Batch, tiny_model, train

KINDS: dict[str, dict[str, Any]] = {
    "softmax": {},
    "performer": {"performer_features": 64},
    "synthesizer": {"synthesizer_kind": "dense"},
    "sliding_softmax": {"sliding_window": 32},
}


def packed_tokens(sizes: Sizes) -> tuple[torch.Tensor, int]:
    """All lines as one sequence of tokens, (tokens,), and the size of the vocabulary."""
    synthetic = make_settings(SyntheticSettings, people=sizes["people"], held_out=1, biographies_per_person=2)
    relation = make_settings(RelationSettings, relations=["birthplace", "birth_date", "occupation"])
    with TemporaryDirectory() as folder:
        write_related_people(folder, synthetic, relation, seed=sizes["seed"])
        lines = Path(folder, BIOGRAPHIES).read_text(encoding="utf-8").splitlines()
    random.Random(sizes["seed"]).shuffle(lines)
    tokenizer = train_bpe_tokenizer(lines, sizes["vocab_size"], sizes["length"])
    rows = tokenizer(lines, verbose=False)["input_ids"]
    return torch.tensor([token for row in rows for token in [*row, tokenizer.eos_token_id]]), len(tokenizer)


def windows_of(tokens: torch.Tensor, count: int, length: int, seed: int) -> Batch:
    """Windows of tokens that begin anywhere: `input_ids` and `shift_labels`, (count, length)."""
    starts = torch.randint(len(tokens) - length, (count, 1), generator=seeded(seed))
    windows = tokens[starts + torch.arange(length + 1)]
    return {"input_ids": windows[:, :-1], "shift_labels": windows[:, 1:]}


def share_of_largest(weights: torch.Tensor, part: float = 0.25) -> float:
    """The mean share of the largest singular values in their sum, of (..., n, n) matrices; `part` of them count."""
    values = torch.linalg.svdvals(weights.double())
    return float((values[..., : round(part * weights.shape[-1])].sum(dim=-1) / values.sum(dim=-1)).mean())


@torch.inference_mode()
def shares_by_layer(model: BirthGPTForCausalLM, texts: Batch) -> list[float]:
    """The share of the largest quarter in each layer."""
    layers = model(input_ids=texts["input_ids"], use_cache=False, output_attentions=True).attentions
    return [share_of_largest(weights) for weights in layers]


def random_shares(length: int, seed: int) -> dict[str, float]:
    """The shares of causal softmax of independent scores, by their standard deviation."""
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    scores = torch.randn(8, length, length, generator=seeded(seed), dtype=torch.float64)
    names = {0.0: "mean of all tokens so far", 1.0: "scores from N(0, 1)", 3.0: "scores from N(0, 3²)"}
    return {
        name: share_of_largest((deviation * scores).masked_fill(future, -torch.inf).softmax(dim=-1))
        for deviation, name in names.items()
    }


def measure(sizes: Sizes) -> Curves:
    """The shares by layer of each type, before and after training, and those of random matrices."""
    tokens, vocab_size = packed_tokens(sizes)
    length = sizes["length"]
    # the last tenth is not trained on
    cut = len(tokens) * 9 // 10
    texts = windows_of(tokens[cut:], sizes["texts"], length, seed=0)
    curves: Curves = {"random": random_shares(length, sizes["seed"]), "before": {}, "after": {}, "losses": {}}
    for kind in sizes["kinds"]:
        model = tiny_model(
            sizes["seed"],
            vocab_size=vocab_size,
            max_position_embeddings=length,
            attention_type=kind,
            hidden_size=sizes["width"],
            intermediate_size=4 * sizes["width"],
            num_hidden_layers=sizes["layers"],
            num_attention_heads=4,
            **KINDS[kind],
        )
        model.set_attn_implementation("eager")
        curves["before"][kind] = shares_by_layer(model, texts)
        losses = train(
            model,
            lambda step: windows_of(tokens[:cut], sizes["batch"], length, seed=step + 1),
            steps=sizes["steps"],
            learning_rate=sizes["learning_rate"],
        )
        curves["losses"][kind] = [losses[0], sum(losses[-10:]) / len(losses[-10:])]
        curves["after"][kind] = shares_by_layer(model, texts)
    return curves


def judge(curves: Curves) -> Verdict:
    """See the rule in the docstring."""
    before, after = curves["before"]["softmax"], curves["after"]["softmax"]
    others = "; ".join(
        f"{kind} {min(line):.0%} to {max(line):.0%}" for kind, line in curves["after"].items() if kind != "softmax"
    )
    random = "; ".join(f"{name} {share:.0%}" for name, share in curves["random"].items())
    reason = (
        f"by layer, the largest quarter has {', '.join(f'{share:.0%}' for share in after)} in trained softmax "
        f"attention, "
        f"and {', '.join(f'{share:.0%}' for share in before)} before training. Other trained types: {others}. Matrices "
        f"without any weights: {random}."
    )
    if min(after) < 0.9:
        return Verdict(REFUTED, reason)
    is_learned = all(trained > start for trained, start in zip(after, before, strict=True))
    return Verdict(HOLDS if is_learned else SHARPENED, reason)


def draw(figure: Figure, curves: Curves) -> None:
    """The shares by layer, before and after training; grey: random matrices."""
    panels = figure.subplots(1, 2, sharey=True)
    for axis, key, title in zip(panels, ("before", "after"), ("random weights", "trained"), strict=True):
        x = list(range(1, len(curves[key]["softmax"]) + 1))
        for style, (name, share) in zip((":", "--", "-."), curves["random"].items(), strict=True):
            axis.axhline(share, color="grey", linewidth=1, linestyle=style, label=name)
        draw_lines(
            axis, x, curves[key], title=title, xlabel="layer", ylabel="share of the largest quarter", xticks=x,
            ylim=(0, 1.02),
        )  # fmt: skip


EXPERIMENT = Experiment(
    text=__doc__,
    sizes={
        "kinds": list(KINDS),
        "people": 400,
        "vocab_size": 512,
        "length": 128,
        "width": 64,
        "layers": 3,
        "steps": 200,
        "batch": 8,
        "texts": 8,
        "learning_rate": 3e-3,
        "seed": 0,
    },
    small={"kinds": ["softmax"], "people": 100, "length": 32, "width": 16, "steps": 3, "batch": 2, "texts": 2},
    measure=measure,
    judge=judge,
    draw=draw,
)
