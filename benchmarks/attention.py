"""What each attention type costs compared to softmax (SDPA): time, memory and decoding, for short and long inputs.

python benchmarks/attention.py --output_stem benchmarks/attention

Times and memory are of forward and backward, per sequence of n tokens. A batch has 4,096 tokens, but at least one
sequence. The fastest step counts, for up to 2,048 tokens in three rounds. A mixer is the attention of one layer without
norms and MLP; only the model includes the computation of the mask. Decoding is the median time of a token of the model
after n tokens; state is the size of the cache. A dash: the memory was not enough, or the type is a block, not a mixer.
"""

import argparse
import math
import multiprocessing
import resource
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from statistics import linear_regression, median

import psutil
import torch
from matplotlib import pyplot

from birthgpt import BirthGPTConfig
from birthgpt.model.block import BirthGPTBlock
from birthgpt.model.masks import build_masks
from birthgpt.model.modeling_birthgpt import BirthGPTForCausalLM
from birthgpt.utils.environment import environment_info
from birthgpt.utils.files import save_json
from birthgpt.utils.tables import markdown_table, text_table

SETTINGS = {
    "softmax": {},
    "sliding_softmax": {"sliding_window": 256},
    "synthesizer": {},
    "perceiver": {"perceiver_bottleneck": 128},
    "abc": {"abc_num_slots": 16},
    "linformer": {"linformer_block": 128, "linformer_window": 256, "linformer_num_slots": 1},
    "bigbird": {"bigbird_block": 64, "bigbird_global": 1, "bigbird_window": 2, "bigbird_random": 1},
    "performer": {"performer_features": 64},
    "gated_deltanet": {},
}
"""The attention types, with sizes for long inputs: some hundred keys per token."""

LENGTHS = (128, 512, 2048, 8192, 16384)
LONGEST_IN_ROUNDS = 2048
NEW_TOKENS = 16
COLUMNS = ["name", "n", "model_ms", "model_ratio", "mixer_ms", "mixer_ratio"]
COLUMNS += ["model_MB", "mixer_MB", "decoding_ms", "state_MB"]
GROWTH_COLUMNS = ["name", "model_ms", "mixer_ms", "decoding_ms", "state_MB"]


def build_config(name: str, length: int) -> BirthGPTConfig:
    """A model of the assignment's shape (d = 256, 4 layers, 8 heads) with room for the prompt and new tokens."""
    return BirthGPTConfig(
        vocab_size=512,
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=8,
        max_position_embeddings=length + NEW_TOKENS,
        position_embedding_type="rotary",
        norm_type="rmsnorm",
        hidden_act="relu2",
        hidden_dropout=0.0,
        attention_dropout=0.0,
        attention_type=name,
        **SETTINGS[name],
    )


def train_model(name: str, length: int, batch: int, device: str):
    """Forward and backward of the whole model, for a loss at every token."""
    model = BirthGPTForCausalLM(build_config(name, length)).to(device)
    tokens = torch.randint(model.config.vocab_size, (batch, length), device=device)

    def step():
        model.zero_grad()
        model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()

    return step


def train_mixer(name: str, length: int, batch: int, device: str):
    """Forward and backward of one mixer; None for a type that is a whole block."""
    model = BirthGPTForCausalLM(build_config(name, length)).model.to(device)
    if not isinstance(model.layers[0], BirthGPTBlock):
        return None
    states = torch.randn(batch, length, model.config.hidden_size, device=device, requires_grad=True)
    positions = torch.arange(length, device=device)[None]
    inputs = {"position_ids": positions, "past_key_values": None, "branch_ids": None}
    mixer = model.layers[0].attention
    (mask,) = build_masks(model.layers[:1], model.config, inputs_embeds=states, attention_mask=None, **inputs)
    rotary = model.rotary_embedding(positions, states.dtype)

    def step():
        mixer.zero_grad()
        mixer(states, attention_mask=mask, position_embeddings=rotary, **inputs)[0].sum().backward()

    return step


def decode(name: str, length: int, device: str) -> dict[str, float]:
    """Milliseconds per token after a prompt of `length` tokens, and the size of the cache."""
    model = BirthGPTForCausalLM(build_config(name, length)).to(device).eval()
    tokens = torch.randint(model.config.vocab_size, (1, length), device=device)
    with torch.inference_mode():
        outputs = model(input_ids=tokens, use_cache=True, logits_to_keep=1)
        state = state_bytes(outputs.past_key_values)
        seconds = []
        for _ in range(NEW_TOKENS):
            started = now(device)
            outputs = model(input_ids=tokens[:, -1:], past_key_values=outputs.past_key_values)
            seconds.append(now(device) - started)
    return {"decoding_ms": 1000 * median(seconds), "state_MB": state / 1e6}


def state_bytes(cache) -> int:
    """Bytes in the keys, values and named states of every layer."""
    tensors = []
    for layer in cache.layers:
        tensors += [
            getattr(layer, "keys", None),
            getattr(layer, "values", None),
            *getattr(layer, "states", {}).values(),
        ]
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


def now(device: str) -> float:
    """The time in seconds, after all work of the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def time_steps(step, device: str, seconds: float) -> float:
    """Milliseconds of the fastest step; at least two steps run for `seconds`, after one step to warm up."""
    step()
    times, began = [], now(device)
    while len(times) < 2 or now(device) - began < seconds:
        started = now(device)
        step()
        times.append(now(device) - started)
    return 1000 * min(times)


def peak_bytes(device: str) -> int:
    """The peak memory so far, of this process or on the device."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def limit_memory() -> None:
    """Limit the memory of this process, so that it raises an error before the memory of the machine is full."""
    limit = psutil.Process().memory_info().vms + int(0.85 * psutil.virtual_memory().available)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def measure(scope: str, name: str, length: int, batch: int, device: str, seconds: float) -> dict[str, float]:
    """The metrics of a scope for one sequence; empty if the type has no such scope or there is not enough memory."""
    torch.manual_seed(0)
    try:
        if scope == "decoding":
            return decode(name, length, device)
        step = {"model": train_model, "mixer": train_mixer}[scope](name, length, batch, device)
        if step is None:
            return {}
        before = peak_bytes(device)
        milliseconds = time_steps(step, device, seconds)
        return {f"{scope}_ms": milliseconds / batch, f"{scope}_MB": (peak_bytes(device) - before) / batch / 1e6}
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        return {}


def measure_alone(scope: str, name: str, length: int, batch: int, device: str, seconds: float) -> dict[str, float]:
    """`measure` in a new process, so that its peak memory does not include other measurements."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["birthgpt.model.modeling_birthgpt", "birthgpt.utils.environment", "matplotlib.pyplot"]
    )
    prepare = limit_memory if device == "cpu" else None
    with ProcessPoolExecutor(1, mp_context=context, initializer=prepare) as pool:
        try:
            return pool.submit(measure, scope, name, length, batch, device, seconds).result()
        except BrokenProcessPool:
            # the process was killed, because the memory of the machine was full
            return {}


def measure_row(name: str, length: int, batch: int, device: str, seconds: float) -> dict:
    """All metrics of one type at one length."""
    row = {"name": name, "n": length}
    for scope in ("model", "mixer", "decoding"):
        row |= measure_alone(scope, name, length, batch, device, seconds)
    print(row, flush=True)
    return row


def fastest(rounds: Sequence[dict]) -> dict:
    """The smallest value of each metric, because a disturbance can only increase it."""
    found = {key for row in rounds for key in row if key != "name"}
    return {"name": rounds[0]["name"]} | {key: min(row[key] for row in rounds if key in row) for key in sorted(found)}


def with_ratios(rows: list[dict]) -> list[dict]:
    """Add the ratio of each time of forward and backward to the time of softmax at the same length."""
    softmax = {row["n"]: row for row in rows if row["name"] == "softmax"}
    for row in rows:
        for scope in ("model", "mixer"):
            if f"{scope}_ms" in row and f"{scope}_ms" in softmax.get(row["n"], {}):
                row[f"{scope}_ratio"] = row[f"{scope}_ms"] / softmax[row["n"]][f"{scope}_ms"]
    return rows


def slopes(rows: list[dict], since: int = 2048) -> list[dict]:
    """How time and state grow from `since` tokens on: the slope of their logarithm over log n, by least squares."""
    found = []
    for name in dict.fromkeys(row["name"] for row in rows):
        found.append({"name": name})
        for column in GROWTH_COLUMNS[1:]:
            points = [
                (math.log(row["n"]), math.log(row[column]))
                for row in rows
                if row["name"] == name and row["n"] >= since and column in row
            ]
            if len(points) > 1:
                found[-1][column] = linear_regression(*zip(*points, strict=True)).slope
    return found


def rounded(rows: list[dict]) -> list[dict]:
    """The rows with three digits of every number, and without decimals from 100 on."""
    return [{key: _rounded(value) if isinstance(value, float) else value for key, value in row.items()} for row in rows]


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def write_page(metrics: dict) -> str:
    """The metrics as a page of Markdown."""
    measured = {row["name"] for row in metrics["rows"]}
    settings = [
        f"`{name}`: " + ", ".join(f"{key} {value}" for key, value in chosen.items())
        for name, chosen in metrics["settings"].items()
        if chosen and name in measured
    ]
    return "\n".join(
        [
            "# What each attention type costs",
            "",
            "By `{command}`; {hardware}; {date}; torch {versions[torch]}.".format(**metrics),
            __doc__.split("\n\n")[2].strip(),
            "Ratios are to softmax at the same n, by SDPA. " + "; ".join(settings) + ".",
            "",
            markdown_table(rounded(metrics["rows"]), COLUMNS),
            "",
            "Slope of the logarithm over log n, from 2,048 tokens on (1: linear, 2: quadratic, 0: constant):",
            "",
            markdown_table(rounded(metrics["slopes"]), GROWTH_COLUMNS),
            "",
            "![time and memory over n](attention.svg)",
            "",
        ]
    )


def plot(rows: list[dict], path: Path) -> None:
    """Four panels over n: forward and backward of the model and of the mixer, memory of the mixer, decoding."""
    panels = {
        "mixer_ms": "mixer, forward + backward (ms)",
        "model_ms": "model, forward + backward (ms)",
        "mixer_MB": "mixer, peak memory (MB)",
        "decoding_ms": "one decoded token (ms)",
    }
    # letters as text, not as outlines
    pyplot.rcParams["svg.fonttype"] = "none"
    figure, axes = pyplot.subplots(2, 2, figsize=(11, 8), sharex=True, layout="constrained")
    for axis, (column, title) in zip(axes.flat, panels.items(), strict=True):
        for name in dict.fromkeys(row["name"] for row in rows):
            points = [(row["n"], row[column]) for row in rows if row["name"] == name and row.get(column, 0) > 0]
            if points:
                axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
        axis.set(title=title, xscale="log", yscale="log")
        axis.set_xticks(lengths := sorted({row["n"] for row in rows}), labels=lengths)
        axis.minorticks_off()
    for axis in axes[1]:
        axis.set_xlabel("n, tokens of a sequence")
    axes[0, 1].legend()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", nargs="+", choices=SETTINGS, default=list(SETTINGS), help="rows of the table")
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS, help="tokens of a sequence")
    parser.add_argument("--tokens", type=int, default=4096, help="tokens of a batch; at least one sequence")
    parser.add_argument("--seconds", type=float, default=0.5, help="time for each metric, at least two steps")
    parser.add_argument(
        "--rounds", type=int, default=3, help=f"measurements of each row up to {LONGEST_IN_ROUNDS:,} tokens"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--output_stem", type=Path, help="also write STEM.json, STEM.md and STEM.svg")
    arguments = parser.parse_args()
    rows = []
    for length in arguments.lengths:
        batch = max(1, arguments.tokens // length)
        # in turns, so that a busy machine affects all types
        turns = [
            [measure_row(name, length, batch, arguments.device, arguments.seconds) for name in arguments.names]
            for _ in range(arguments.rounds if length <= LONGEST_IN_ROUNDS else 1)
        ]
        rows += [fastest(rounds) for rounds in zip(*turns, strict=True)]
    rows, growth = with_ratios(rows), slopes(rows)
    print(text_table(rounded(rows), COLUMNS), "", text_table(rounded(growth), GROWTH_COLUMNS), sep="\n")
    if arguments.output_stem:
        metrics = {"rows": rows, "slopes": growth, "settings": SETTINGS, **environment_info()}
        save_json(arguments.output_stem.with_suffix(".json"), metrics)
        arguments.output_stem.with_suffix(".md").write_text(write_page(metrics), encoding="utf-8")
        plot(rows, arguments.output_stem.with_suffix(".svg"))


if __name__ == "__main__":
    main()
