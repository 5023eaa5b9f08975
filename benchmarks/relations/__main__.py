"""Run cases, and add their figures to a JSON file: python -m benchmarks.relations --help"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.lab import Lab
from benchmarks.relations.cases import CASES, PARTS, RECIPE, SCALES, WIKI_CASES, Accuracies, find_measure
from birthgpt.settings import read_config
from birthgpt.utils.environment import environment_info
from birthgpt.utils.files import read_json, save_json
from birthgpt.utils.tables import text_table


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.relations", description=__doc__)
    parser.add_argument("cases", nargs="+", choices=(*CASES, *WIKI_CASES), help="the cases")
    parser.add_argument("--scale", choices=SCALES, default="small", help="small and full take minutes a case")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="seeds of people and trainings")
    parser.add_argument("--wiki_folder", type=Path, help="folder of the CS224N files, for the cases on wiki.txt")
    parser.add_argument("--runs_dir", type=Path, default=Path("runs/relations"), help="folder of people and models")
    parser.add_argument("--output_file", type=Path, help="JSON; cases of an earlier run in it are kept")
    return parser.parse_args(arguments)


def read_results(path: Path | None, scale: str) -> dict:
    """The results in a file to which cases are added; new ones if there is no file.

    Raises:
        ValueError: they are those of another scale.
    """
    new = {"scale": scale, "sizes": asdict(SCALES[scale]), "cases": {}}
    if path is None or not path.exists():
        return new
    results = read_json(path)
    if (results.get("scale"), results.get("sizes")) != (scale, new["sizes"]):
        raise ValueError(f"{path}: its scale is {results.get('scale')!r}, not {scale!r}: give another output_file")
    return results


def rounded(accuracies: Accuracies) -> dict[str, str]:
    """Accuracies as text."""
    return {relation: f"{value:.1f}" for relation, value in accuracies.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the cases; the file is written after each."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = parse(arguments)
    command, scale = shlex.join(["python", "-m", "benchmarks.relations", *arguments]), SCALES[options.scale]
    results = read_results(options.output_file, options.scale)
    for name in options.cases:
        measure = find_measure(name, options.wiki_folder)
        for seed in options.seeds:
            lab = Lab(options.runs_dir / f"{options.scale}_{seed}", seed)
            measured = {"seed": seed, **measure(lab, scale), "training_seconds": lab.seconds}
            measured |= {"recipe": read_config(RECIPE), "birthgpt_commands": lab.commands}
            measured |= {**environment_info(), "command": command}
            others = [earlier for earlier in results["cases"].get(name, []) if earlier["seed"] != seed]
            results["cases"][name] = sorted([*others, measured], key=lambda one: one["seed"])
            shown = [{"case": name, "asked in": part, **rounded(measured[part])} for part in PARTS]
            print(text_table(shown, list(shown[0])))
            if options.output_file:
                save_json(options.output_file, results)


if __name__ == "__main__":
    main()
