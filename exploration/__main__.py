"""Run experiments on attention, and write a figure and a JSON file for each: python -m exploration --help"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from birthgpt.utils.files import save_json
from exploration.experiment import FULL, SMALL, Experiment, run
from exploration.figures import save_figure

EXPERIMENTS = (
    "copying",
    "average",
    "subspaces",
    "one_head",
    "several_heads",
    "key_norm",
    "without_maps",
    "with_maps",
    "associative_recall",
    "low_rank",
    "random_features",
    "trigonometric_training",
    "bigbird_distance",
    "name_attention",
    "logit_lens",
    "place_probe",
    "name_patching",
)
"""Each experiment is a module of this package with an `EXPERIMENT`."""

RESULTS = Path(__file__).with_name("results")
"""Figures and records of the published runs."""

SMALL_RESULTS = Path("runs/exploration_small")


def find_experiment(name: str) -> Experiment:
    """The experiment with this name."""
    return import_module(f"exploration.{name}").EXPERIMENT


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(prog="python -m exploration", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"experiments: {', '.join(EXPERIMENTS)}")
    parser.add_argument("--all", action="store_true", help="all experiments, instead of names")
    parser.add_argument("--small", action="store_true", help="small sizes: whether everything runs, in seconds")
    parser.add_argument(
        "--output_dir", type=Path, help=f"folder of figures and records; exploration/results, or {SMALL_RESULTS}"
    )
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in EXPERIMENTS]
    if unknown:
        parser.error(f"{unknown[0]!r} is no experiment: choose from {', '.join(EXPERIMENTS)}")
    if bool(options.names) == options.all:
        parser.error("give names of experiments, or --all")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run experiments; each is written when it ends."""
    options = parse(arguments)
    scale = SMALL if options.small else FULL
    folder = options.output_dir or (SMALL_RESULTS if options.small else RESULTS)
    for name in options.names or EXPERIMENTS:
        experiment = find_experiment(name)
        command = ["python", "-m", "exploration", name] + (["--small"] if options.small else [])
        record = run(name, experiment, scale, shlex.join(command))
        save_json(folder / f"{name}.json", record)
        save_figure(folder / f"{name}.svg", experiment.draw, record["curves"])
        verdict = record["verdict"]
        print(f"{name} ({record['cpu_seconds']} s of one core): {verdict['word']}. {verdict['reason']}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
