"""What each attention type costs compared to softmax (SDPA): time, memory and decoding, for short and long inputs.

python benchmarks/attention.py --output_stem benchmarks/attention

Times and memory are of forward and backward, per sequence of n tokens. A batch has `--tokens` tokens, but at least one
sequence. On a CPU, times are processor times of all threads, which other programs disturb little. Types take turns: a
round has one step of each. The fastest step counts; a ratio is the median over rounds of the ratio to softmax in the
same round. The first round warms up; beyond 2,048 tokens it is the only one. A mixer is the attention of one layer
without norms and MLP; only the model includes the computation of the mask. Decoding is the time of a token of the model
after n tokens; state is the size of the cache; read is the time to sum all its numbers. A dash: not measured, the
memory was not enough, or the type is a block, not a mixer.
"""

import argparse
import math
import multiprocessing
import resource
import time
from collections.abc import Callable, Sequence
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

LENGTHS = (128, 512, 1024, 2048, 8192, 16384)
LONGEST_IN_ROUNDS = 2048
NEW_TOKENS = 16
COLUMNS = ["name", "n", "model_ms", "model_ratio", "mixer_ms", "mixer_ratio"]
COLUMNS += ["model_MB", "mixer_MB", "decoding_ms", "decoding_ratio", "read_ms", "state_MB"]
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


def train_model(name: str, length: int, batch: int, device: str) -> Callable[[], dict]:
    """A step: forward and backward of the whole model, for a loss at every token."""
    model = BirthGPTForCausalLM(build_config(name, length)).to(device)
    tokens = torch.randint(model.config.vocab_size, (batch, length), device=device)

    def step():
        model.zero_grad()
        model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
        return {}

    return step


def train_mixer(name: str, length: int, batch: int, device: str) -> Callable[[], dict] | None:
    """A step: forward and backward of one mixer; None for a type that is a whole block."""
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
        return {}

    return step


def decode(name: str, length: int, batch: int, device: str) -> Callable[[], dict]:
    """A step: the next token after a prompt of `length` tokens, with the size of the cache and the time to read it."""
    model = BirthGPTForCausalLM(build_config(name, length)).to(device).eval()
    tokens = torch.randint(model.config.vocab_size, (1, length), device=device)
    with torch.inference_mode():
        cache = model(input_ids=tokens, use_cache=True, logits_to_keep=1).past_key_values
    state = state_bytes(cache)

    @torch.inference_mode()
    def step():
        started = now(device)
        model(input_ids=tokens[:, -1:], past_key_values=cache)
        decoded = now(device)
        for tensor in state_tensors(cache):
            tensor.sum()
        read = now(device)
        return {"decoding_ms": 1000 * (decoded - started), "read_ms": 1000 * (read - decoded), "state_MB": state / 1e6}

    return step


SCOPES = {"model": train_model, "mixer": train_mixer, "decoding": decode}


def state_tensors(cache) -> list[torch.Tensor]:
    """The keys, values and named states of every layer."""
    tensors = []
    for layer in cache.layers:
        tensors += [getattr(layer, name, None) for name in ("keys", "values")]
        tensors += getattr(layer, "states", {}).values()
    return [tensor for tensor in tensors if tensor is not None]


def state_bytes(cache) -> int:
    """The size of a cache, without the room behind it."""
    return sum(tensor.nbytes for tensor in state_tensors(cache))


def now(device: str) -> float:
    """The time in seconds, after all work of the device is done; processor time on a CPU."""
    if device == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def peak_bytes(device: str) -> int:
    """The peak memory so far, of this process or on the device."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def limit_memory() -> None:
    """Limit the memory of this process, so that it raises an error before the memory of the machine is full."""
    limit = psutil.Process().memory_info().vms + int(0.85 * psutil.virtual_memory().available)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


class Measurement:
    """The steps of one type in one scope, in this process."""

    def __init__(self, scope: str, name: str, length: int, batch: int, device: str):
        torch.manual_seed(0)
        self.scope, self.batch, self.device = scope, batch, device
        self.take = SCOPES[scope](name, length, batch, device)
        self.before = peak_bytes(device)

    def step(self) -> dict[str, float]:
        """The metrics of one step for one sequence; empty if the type has no such scope."""
        if self.take is None:
            return {}
        started = now(self.device)
        metrics = self.take()
        seconds = now(self.device) - started
        if self.scope == "decoding":
            return metrics
        megabytes = (peak_bytes(self.device) - self.before) / self.batch / 1e6
        return {f"{self.scope}_ms": 1000 * seconds / self.batch, f"{self.scope}_MB": megabytes}


measurement: Measurement | None = None
"""What this process measures, if it is a process of `MeasurementAlone`."""


def start(*arguments) -> None:
    """Prepare the measurement of this process."""
    global measurement
    measurement = Measurement(*arguments)


def step() -> dict[str, float]:
    """A step of the measurement of this process."""
    assert measurement is not None
    return measurement.step()


class MeasurementAlone:
    """A `Measurement` in a process of its own, so that its peak memory is its own."""

    def __init__(self, *arguments):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(
            ["birthgpt.model.modeling_birthgpt", "birthgpt.utils.environment", "matplotlib.pyplot"]
        )
        prepare = limit_memory if arguments[-1] == "cpu" else None
        self.pool: ProcessPoolExecutor | None = ProcessPoolExecutor(1, mp_context=context, initializer=prepare)
        self._call(start, *arguments)

    def step(self) -> dict[str, float]:
        """The metrics of a step; empty if there was not enough memory."""
        return self._call(step) or {}

    def _call(self, function: Callable, *arguments):
        if self.pool is None:
            return None
        try:
            return self.pool.submit(function, *arguments).result()
        except (RuntimeError, MemoryError, BrokenProcessPool) as error:
            # a broken pool was killed, because the memory of the machine was full
            is_memory = isinstance(error, MemoryError | torch.OutOfMemoryError | BrokenProcessPool)
            if not is_memory and "can't allocate memory" not in str(error):
                raise
            self.close()
            return None

    def close(self) -> None:
        """End the process."""
        if self.pool is not None:
            self.pool.shutdown()
        self.pool = None


def measure_in_turns(scope: str, names: Sequence[str], length: int, batch: int, device: str, rounds: int) -> list[dict]:
    """The metrics of a scope for each type, and the ratio of its time to that of softmax."""
    measurements: list[MeasurementAlone] = []
    steps: list[list[dict]] = [[] for _ in range(rounds)]
    for name in names:
        measurements.append(MeasurementAlone(scope, name, length, batch, device))
        steps[0].append(measurements[-1].step())
        if rounds == 1:
            # the memory of all types at once may be too much
            measurements[-1].close()
    for turn in steps[1:]:
        turn += [measurement.step() for measurement in measurements]
    for each in measurements:
        each.close()
    return summarise(scope, names, steps)


def summarise(scope: str, names: Sequence[str], steps: list[list[dict]]) -> list[dict]:
    """One row a type, from the steps of each round; the first of several rounds gives only the memory."""
    timed, rows = steps[1:] or steps, []
    for index, name in enumerate(names):
        found = {key: min(turn[index][key] for turn in timed if key in turn[index]) for key in timed[0][index]}
        # the peak of the first step, or a later one
        if f"{scope}_MB" in found:
            found[f"{scope}_MB"] = max(turn[index].get(f"{scope}_MB", 0.0) for turn in steps)
        key = f"{scope}_ms"
        if key in found and "softmax" in names:
            base = names.index("softmax")
            ratios = [turn[index][key] / turn[base][key] for turn in timed if key in turn[index] and key in turn[base]]
            if ratios:
                found[f"{scope}_ratio"] = median(ratios)
        rows.append({"name": name} | found)
    return rows


def measure_rows(names: Sequence[str], length: int, scopes: Sequence[str], arguments) -> list[dict]:
    """All metrics of each type at one length."""
    batch = max(1, arguments.tokens // length)
    rows = [{"name": name, "n": length} for name in names]
    for scope in scopes:
        rounds = arguments.rounds if length <= LONGEST_IN_ROUNDS else 1
        rounds = NEW_TOKENS if scope == "decoding" else rounds
        measured = measure_in_turns(scope, names, length, batch, arguments.device, rounds)
        rows = [row | found for row, found in zip(rows, measured, strict=True)]
    for row in rows:
        print(row, flush=True)
    return rows


def slopes(rows: list[dict], since: int = 1024) -> list[dict]:
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
            "By `{command}`; threads: {threads}; {hardware}; {date}; torch {versions[torch]}.".format(**metrics),
            __doc__.split("\n\n")[2].strip(),
            "Ratios are to softmax at the same n, by SDPA. " + "; ".join(settings) + ".",
            "",
            markdown_table(rounded(metrics["rows"]), COLUMNS),
            "",
            "Slope of the logarithm over log n, from 1,024 tokens on (1: linear, 2: quadratic, 0: constant):",
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
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS, help="tokens of a sequence, in training")
    parser.add_argument("--decoding_lengths", nargs="*", type=int, default=LENGTHS, help="tokens before a decoded one")
    parser.add_argument("--tokens", type=int, default=4096, help="tokens of a batch; at least one sequence")
    parser.add_argument(
        "--rounds", type=int, default=4, help=f"steps of each type up to {LONGEST_IN_ROUNDS:,} tokens, in training"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--output_stem", type=Path, help="also write STEM.json, STEM.md and STEM.svg")
    arguments = parser.parse_args()
    rows = []
    for length in sorted({*arguments.lengths, *arguments.decoding_lengths}):
        scopes = ["model", "mixer"] if length in arguments.lengths else []
        scopes += ["decoding"] if length in arguments.decoding_lengths else []
        rows += measure_rows(arguments.names, length, scopes, arguments)
    growth = slopes(rows)
    print(text_table(rounded(rows), COLUMNS), "", text_table(rounded(growth), GROWTH_COLUMNS), sep="\n")
    if arguments.output_stem:
        measured = {"rows": rows, "slopes": growth, "settings": SETTINGS}
        metrics = {**measured, "threads": torch.get_num_threads(), **environment_info()}
        save_json(arguments.output_stem.with_suffix(".json"), metrics)
        arguments.output_stem.with_suffix(".md").write_text(write_page(metrics), encoding="utf-8")
        plot(rows, arguments.output_stem.with_suffix(".svg"))


if __name__ == "__main__":
    main()
