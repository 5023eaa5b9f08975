"""The time from the start of a process to 80% of 400 held-out train questions of the CS224N files.

    python -m benchmarks.speedrun recipe half_budget gpt2 --data_dir ../shared/data/cs224n

A run is `birthgpt pretrain` and `birthgpt finetune` as a user calls them, each a process of its own: start, reading,
tokenizer, training, evaluation and saving are all counted, and only the installation is not. The 400 questions are held
out of pretraining and finetuning. An entry counts if every seed answers 80% of them. The development questions are
asked once, after the time was taken.

The entries are run in turns, so their ratio holds on a machine that is busy; times of different calls are not compared.
A record is the fastest entry of a call that counts, with three seeds or more. `gpt2` is what others would start from:
GPT-2 of the assignment's size and transformers' Trainer, with the assignment's objective, in the time that the first
entry took (benchmarks/gpt2_with_trainer.py).

With `--output_file`, the call is added to those of the file. `--page_file` is written from all of them.
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, stdev

from benchmarks.lab import to_arguments
from birthgpt.data.synthetic import DEV, TRAIN, WIKI
from birthgpt.utils.environment import environment_info
from birthgpt.utils.files import read_json, save_json, write_text
from birthgpt.utils.tables import markdown_table, text_table

HELD_OUT, GOAL = 400, 0.8
SEEDS_OF_A_RECORD = 3
GPT2 = "gpt2"


@dataclass(frozen=True)
class Entry:
    """A way to 80%.

    Args:
        change: what differs from the recipe, in words.
        pretraining, finetuning: settings of the two commands that differ.
    """

    change: str
    pretraining: dict[str, object] = field(default_factory=dict)
    finetuning: dict[str, object] = field(default_factory=dict)


ENTRIES = {
    "recipe": Entry("none: 4e13 FLOPs in batches of 4,096 tokens"),
    "half_budget": Entry("half the budget", {"max_train_flops": 2e13}),
    "small_batches": Entry(
        "a quarter of the budget, and a quarter of the tokens in a batch",
        {"max_train_flops": 1e13, "tokens_per_batch": 1024},
    ),
    "one_layer": Entry(
        "one layer instead of three, a third of the budget", {"max_train_flops": 1.4e13, "num_hidden_layers": 1}
    ),
    "small": Entry(
        "`wiki/pretrain_small`: a small layer instead of three, tables of n-grams four times as large and updated by "
        "rows, a seventh of the budget; finetuning is evaluated three times instead of seven",
        {"config": "wiki/pretrain_small"},
        {"eval_steps": 15},
    ),
}
COLUMNS = ("entry", "change", "time (s)", "ratio", "held out (%)", "reached", "dev (%)")

Runs = list[dict[str, float]]
"""What was measured of an entry, for each seed."""


def run_birthgpt(command: str, settings: dict[str, object], log: Path) -> None:
    """Run a command in a process of its own.

    Raises:
        SystemExit: it failed; its log is named.
    """
    arguments = [sys.executable, "-m", "birthgpt", command, *to_arguments(settings)]
    with log.open("a", encoding="utf-8") as output:
        output.write(shlex.join(arguments) + "\n")
        output.flush()
        if subprocess.run(arguments, stdout=output, stderr=subprocess.STDOUT, check=False).returncode:
            raise SystemExit(f"birthgpt {command} failed: see {log}")


def run_entry(name: str, data: Path, folder: Path, seed: int) -> dict[str, float]:
    """The time of an entry, the accuracy on the held-out questions, and that on the development questions."""
    folder.mkdir(parents=True)
    pretrained, finetuned, log = folder / "pretrained", folder / "finetuned", folder / "log.txt"
    entry, shared = ENTRIES[name], {"seed": seed, "save_steps": 0}
    started = time.perf_counter()
    recipe = {"config": "wiki/pretrain", "train_file": data / WIKI}
    run_birthgpt("pretrain", recipe | entry.pretraining | shared | {"output_dir": pretrained}, log)
    given = {"train_file": data / TRAIN, "model_name_or_path": pretrained, "output_dir": finetuned}
    recipe = {"config": "wiki/finetune", "validation_size": HELD_OUT}
    run_birthgpt("finetune", recipe | entry.finetuning | given | shared, log)
    seconds = time.perf_counter() - started
    evaluation = {
        "model_name_or_path": finetuned,
        "question_file": data / DEV,
        "output_dir": folder / "dev",
    }
    run_birthgpt("evaluate", evaluation, log)
    return {
        "seconds": seconds,
        "held_out_accuracy": best_accuracy(log),
        "dev_accuracy": read_json(folder / "dev" / "metrics.json")["accuracy"],
    }


def best_accuracy(log: Path) -> float:
    """The best accuracy on held-out questions, whose weights finetuning keeps."""
    found = re.findall(r"held_out_accuracy ([0-9.]+)", log.read_text(encoding="utf-8"))
    assert found, f"{log} has no evaluation"
    return max(map(float, found))


def run_gpt2(data: Path, folder: Path, seed: int, seconds: float) -> dict[str, float]:
    """GPT-2 with transformers' Trainer, in this time."""
    script = Path(__file__).with_name("gpt2_with_trainer.py")
    output = folder / "metrics.json"
    folder.mkdir(parents=True)
    arguments = [sys.executable, script, "--data_dir", data, "--seconds", seconds, "--seed", seed]
    subprocess.run([*map(str, arguments), "--output_file", str(output)], check=True, stdout=subprocess.DEVNULL)
    return read_json(output)


def rows_of(entries: dict[str, Runs]) -> list[dict[str, str]]:
    """A row for each entry; the ratio is that to the first one."""
    first = mean_seconds(next(iter(entries.values())))
    rows = []
    for name, runs in entries.items():
        dev = [100 * run["dev_accuracy"] for run in runs]
        rows.append(
            {
                "entry": name,
                "change": ENTRIES[name].change if name in ENTRIES else "GPT-2 and transformers' Trainer",
                "time (s)": f"{mean_seconds(runs):.0f}",
                "ratio": f"{mean_seconds(runs) / first:.2f}",
                "held out (%)": " ".join(f"{100 * run['held_out_accuracy']:.1f}" for run in runs),
                "reached": "yes" if is_reached(runs) else "no",
                "dev (%)": f"{fmean(dev):.1f}" + (f" ± {stdev(dev):.1f}" if len(dev) > 1 else ""),
            }
        )
    return rows


def mean_seconds(runs: Runs) -> float:
    """The mean time of an entry."""
    return fmean(run["seconds"] for run in runs)


def is_reached(runs: Runs) -> bool:
    """Whether every seed answers 80% of the held-out questions."""
    return all(run["held_out_accuracy"] >= GOAL for run in runs)


def record(entries: dict[str, Runs]) -> str | None:
    """The fastest entry that reaches the goal with enough seeds; None if no entry does."""
    reached = [name for name, runs in entries.items() if len(runs) >= SEEDS_OF_A_RECORD and is_reached(runs)]
    return min(reached, key=lambda name: mean_seconds(entries[name]), default=None)


def page(calls: Sequence[dict]) -> str:
    """The page of all calls, the latest first."""
    parts = ["# Speedrun", "`python -m benchmarks.speedrun` writes this page.", __doc__.strip()]
    for call in reversed(calls):
        fastest = record(call["entries"])
        threads = f", {call['threads']} threads" if call["threads"] else ""
        parts += [
            f"## {call['date']}: " + (f"the record is `{fastest}`" if fastest else "no record"),
            f"`{call['command']}`, on {call['hardware']}{threads}.",
            markdown_table(rows_of(call["entries"]), COLUMNS),
        ]
    return "\n\n".join(parts) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speedrun", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("entries", nargs="+", choices=(*ENTRIES, GPT2), help="the first one is the reference")
    parser.add_argument("--data_dir", type=Path, required=True, help="folder of the CS224N files")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--reference_seeds", type=int, help="seeds of the first entry and of gpt2; all if not given")
    parser.add_argument("--runs_dir", type=Path, default=Path("runs/speedrun"), help="new folder for the trainings")
    parser.add_argument("--output_file", type=Path, help="JSON of all calls, to which this one is added")
    parser.add_argument("--page_file", type=Path, help="Markdown that is written from the output file")
    options = parser.parse_args(arguments)
    if options.entries[0] == GPT2:
        parser.error("gpt2 has the time of the first entry: name another entry before it")
    if options.page_file and not options.output_file:
        parser.error("a page is written from the calls of an output file: give --output_file too")
    if options.runs_dir.exists():
        parser.error(f"{options.runs_dir} exists: give another --runs_dir")
    runs: dict[str, Runs] = {name: [] for name in options.entries}
    reference_seeds = options.seeds[: options.reference_seeds]
    for seed in options.seeds:
        for name in options.entries:
            if name in (options.entries[0], GPT2) and seed not in reference_seeds:
                continue
            folder = options.runs_dir / f"{name}_{seed}"
            if name == GPT2:
                measured = run_gpt2(options.data_dir, folder, seed, runs[options.entries[0]][-1]["seconds"])
            else:
                measured = run_entry(name, options.data_dir, folder, seed)
            runs[name].append({"seed": seed, **measured})
            print(name, json.dumps(runs[name][-1]), flush=True)
    print(text_table(rows_of(runs), COLUMNS))
    if options.output_file:
        command = shlex.join(["python", "-m", "benchmarks.speedrun", *(arguments or sys.argv[1:])])
        settings = {name: asdict(ENTRIES[name]) for name in runs if name in ENTRIES}
        call = {"command": command, "threads": os.environ.get("OMP_NUM_THREADS"), "entries": runs, "settings": settings}
        calls = read_json(options.output_file)["calls"] if options.output_file.exists() else []
        calls.append(environment_info() | call)
        save_json(options.output_file, {"calls": calls})
        if options.page_file:
            write_text(options.page_file, page(calls))


if __name__ == "__main__":
    main()
