"""The time from the start of a process to 80% of 400 held-out train questions of the CS224N files.

    python -m benchmarks.speedrun recipe small_batches gpt2 --data_dir ../shared/data/cs224n

A run is `birthgpt pretrain` and `birthgpt finetune` as a user calls them, each a process of its own: start, reading,
tokenizer, training, evaluation and saving are all counted, and only the installation is not. The 400 questions are held
out of finetuning, and pretraining has no questions. An entry counts if every seed answers 80% of them. The development
questions are asked once, after the time was taken.

The entries are run in turns, so their ratio holds on a machine that is busy. `gpt2` is what others would start from:
GPT-2 of the assignment's size and transformers' Trainer, with the assignment's objective, in the time that the first
entry took (benchmarks/gpt2_with_trainer.py).
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
from pathlib import Path
from statistics import fmean, stdev

from benchmarks.lab import to_arguments
from birthgpt.utils.environment import environment_info
from birthgpt.utils.files import read_json, save_json
from birthgpt.utils.tables import text_table

HELD_OUT, GOAL = 400, 0.8
GPT2 = "gpt2"

RECIPE: dict[str, object] = {"config": "wiki/pretrain"}
ENTRIES: dict[str, dict[str, object]] = {
    # today's recipe: 4e13 FLOPs in batches of 4,096 tokens
    "recipe": RECIPE,
    "half_budget": RECIPE | {"max_train_flops": 2e13},
    # more updates from the same tokens
    "small_batches": RECIPE | {"max_train_flops": 1e13, "tokens_per_batch": 1024},
}
"""Settings of pretraining by the name of the entry; finetuning is that of the recipe."""


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
    shared = {"seed": seed, "save_steps": 0}
    started = time.perf_counter()
    given = {"train_file": data / "wiki.txt", "output_dir": pretrained}
    run_birthgpt("pretrain", ENTRIES[name] | given | shared, log)
    given = {"train_file": data / "birth_places_train.tsv", "model_name_or_path": pretrained, "output_dir": finetuned}
    run_birthgpt("finetune", {"config": "wiki/finetune", "validation_size": HELD_OUT} | given | shared, log)
    seconds = time.perf_counter() - started
    evaluation = {
        "model_name_or_path": finetuned,
        "question_file": data / "birth_dev.tsv",
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


def table(entries: dict[str, list[dict]]) -> str:
    """A row for each entry; the ratio is that to the first one."""
    first = fmean(run["seconds"] for run in next(iter(entries.values())))
    rows = []
    for name, runs in entries.items():
        seconds, dev = [run["seconds"] for run in runs], [100 * run["dev_accuracy"] for run in runs]
        rows.append(
            {
                "entry": name,
                "time (s)": f"{fmean(seconds):.0f}",
                "ratio": f"{fmean(seconds) / first:.2f}",
                "held out (%)": " ".join(f"{100 * run['held_out_accuracy']:.1f}" for run in runs),
                "reached": "yes" if all(run["held_out_accuracy"] >= GOAL for run in runs) else "no",
                "dev (%)": f"{fmean(dev):.1f}" + (f" ± {stdev(dev):.1f}" if len(dev) > 1 else ""),
            }
        )
    return text_table(rows, list(rows[0]))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speedrun", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("entries", nargs="+", choices=(*ENTRIES, GPT2), help="the first one is the reference")
    parser.add_argument("--data_dir", type=Path, required=True, help="folder of the CS224N files")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs_dir", type=Path, default=Path("runs/speedrun"), help="new folder for the trainings")
    parser.add_argument("--output_file", type=Path, help="also write the times here")
    options = parser.parse_args(arguments)
    if options.entries[0] == GPT2:
        parser.error("gpt2 has the time of the first entry: name another entry before it")
    if options.runs_dir.exists():
        parser.error(f"{options.runs_dir} exists: give another --runs_dir")
    runs: dict[str, list[dict]] = {name: [] for name in options.entries}
    for seed in options.seeds:
        for name in options.entries:
            folder = options.runs_dir / f"{name}_{seed}"
            if name == GPT2:
                measured = run_gpt2(options.data_dir, folder, seed, runs[options.entries[0]][-1]["seconds"])
            else:
                measured = run_entry(name, options.data_dir, folder, seed)
            runs[name].append({"seed": seed, **measured})
            print(name, json.dumps(runs[name][-1]), flush=True)
    print(table(runs))
    if options.output_file:
        command = shlex.join(["python", "-m", "benchmarks.speedrun", *(arguments or sys.argv[1:])])
        threads = os.environ.get("OMP_NUM_THREADS")
        found = {"entries": runs, "settings": ENTRIES, "threads": threads, "command": command}
        save_json(options.output_file, found | environment_info())


if __name__ == "__main__":
    main()
