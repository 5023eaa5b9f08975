"""Run the experiments of a law, and add their figures to a JSON file: python -m benchmarks.laws --help"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from benchmarks.laws.lab import LawLab
from benchmarks.laws.law import SCALES, Law, Measures, Sizes
from birthgpt.utils.environment import environment_info
from birthgpt.utils.files import read_json, save_json
from birthgpt.utils.tables import text_table

LAWS = ("wording", "mixing", "reversal", "manipulation", "capacity", "editing")
"""Each law is a module of this package with a `LAW`."""


def find_law(name: str) -> Law:
    """The law with this name."""
    return import_module(f"benchmarks.laws.{name}").LAW


def new_results(name: str, scale: str, sizes: Sizes) -> dict:
    """Results without a row."""
    return {"law": name, "scale": scale, "sizes": asdict(sizes), "rows": {}}


def read_results(path: Path, name: str, scale: str, sizes: Sizes) -> dict:
    """The results in a file to which rows are added; new ones if there is no file.

    Raises:
        ValueError: they are those of another law, scale or size.
    """
    new = new_results(name, scale, sizes)
    if not path.exists():
        return new
    results = read_json(path)
    for key in ("law", "scale", "sizes"):
        if results.get(key) != json.loads(json.dumps(new[key])):
            raise ValueError(f"{path}: {key} is {results.get(key)!r}, not {new[key]!r}: give another output_file")
    return results


def measure_row(lab: LawLab, law: Law, row: str, command: str) -> dict:
    """The figures of a row and a seed, with all that is needed to repeat them; `command` is that of this run."""
    lab.start_row()
    started = time.perf_counter()
    measures = law.measure(lab, row)
    assert measures.keys() <= law.measures.keys()
    return {
        "seed": lab.seed,
        "measures": measures,
        "training_seconds": lab.seconds,
        "wall_seconds": time.perf_counter() - started,
        "birthgpt_commands": lab.commands,
        **environment_info(),
        "command": command,
    }


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.laws", description=__doc__)
    parser.add_argument("name", choices=LAWS, help="the law")
    parser.add_argument("--scale", choices=SCALES, default="small", help="small: minutes on two cores; full: a GPU")
    parser.add_argument("--rows", nargs="+", help="some rows of the law; all if not given")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="seeds of people and trainings")
    parser.add_argument("--runs_dir", type=Path, default=Path("runs/laws"), help="folder of people and models")
    parser.add_argument("--output_file", type=Path, help="JSON; rows of an earlier run in it are kept")
    options = parser.parse_args(arguments)
    rows = find_law(options.name).rows
    unknown = sorted(set(options.rows or ()) - rows.keys())
    if unknown:
        parser.error(f"--rows: {unknown[0]!r} is no row of {options.name}: choose from {', '.join(rows)}")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the rows of a law; the file is written after each row."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = parse(arguments)
    command = shlex.join(["python", "-m", "benchmarks.laws", *arguments])
    law, sizes = find_law(options.name), SCALES[options.scale]
    results = new_results(options.name, options.scale, sizes)
    if options.output_file:
        results = read_results(options.output_file, options.name, options.scale, sizes)
    for row in options.rows or law.rows:
        for seed in options.seeds:
            lab = LawLab(options.runs_dir / f"{options.scale}_{seed}", seed, sizes=sizes)
            measured = measure_row(lab, law, row, command)
            others = [earlier for earlier in results["rows"].get(row, []) if earlier["seed"] != seed]
            results["rows"][row] = sorted([*others, measured], key=lambda one: one["seed"])
            shown = {"row": row, **show(law, measured["measures"])}
            print(text_table([shown], list(shown)))
            if options.output_file:
                save_json(options.output_file, results)


def show(law: Law, measures: Measures) -> dict[str, str | None]:
    """The headings of measures, with their figures as text."""
    return {law.measures[key]: None if value is None else f"{value:.4g}" for key, value in measures.items()}


if __name__ == "__main__":
    main()
