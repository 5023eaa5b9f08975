"""Train the models, ask them, and write the figures to a JSON file: python -m benchmarks.knowledge --help"""

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from benchmarks.knowledge.people import SCALES
from benchmarks.lab import Lab
from birthgpt.utils.environment import environment_info
from birthgpt.utils.files import read_json, save_json

PARTS = ("exposures", "unread_names", "origins")
"""Each is a module of this package with a function `measure`."""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.knowledge", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--scale", choices=SCALES, default="small", help="small: minutes; tiny: whether it runs")
    parser.add_argument("--seed", type=int, default=0, help="seed of people and trainings")
    parser.add_argument("--runs_dir", type=Path, default=Path("runs/knowledge"), help="folder of the trainings")
    parser.add_argument("--output_file", type=Path, help="JSON; parts that are in it are not measured again")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the parts that are missing; the file is written after each."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = parse(arguments)
    sizes = SCALES[options.scale]
    results = {"scale": options.scale, "seed": options.seed, "sizes": asdict(sizes), "parts": {}}
    if options.output_file and options.output_file.exists():
        earlier = read_json(options.output_file)
        for key in ("scale", "seed", "sizes"):
            if earlier.get(key) != results[key]:
                raise ValueError(
                    f"{options.output_file}: {key} is {earlier.get(key)}, not {results[key]}: give another output_file"
                )
        results = earlier
    lab = Lab(options.runs_dir / f"{options.scale}_{options.seed}", options.seed)
    for name in options.parts:
        if name in results["parts"]:
            continue
        lab.start_row()
        started = time.perf_counter()
        measured = import_module(f"benchmarks.knowledge.{name}").measure(lab, sizes)
        results["parts"][name] = {
            **measured,
            "training_seconds": lab.seconds,
            "wall_seconds": time.perf_counter() - started,
            "birthgpt_commands": lab.commands,
            "seed": options.seed,
            **environment_info(),
            "command": shlex.join(["python", "-m", "benchmarks.knowledge", *arguments]),
        }
        print(name, measured, flush=True)
        if options.output_file:
            save_json(options.output_file, results)


if __name__ == "__main__":
    main()
