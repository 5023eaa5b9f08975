"""Write RESULTS.md and the plot of accuracy against FLOPs from the JSON files in results/.

python results/make_results.py
"""

import argparse
import io
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from birthgpt.evaluation.metrics import read_metrics
from birthgpt.utils.files import write_text
from birthgpt.utils.strict_yaml import load_yaml
from birthgpt.utils.tables import markdown_table, percent

RESULTS_DIR = Path(__file__).resolve().parent
TABLES, PLOT = "tables.yaml", "accuracy.svg"

_AVERAGED = ("parameters", "flops", "seconds")
_COLUMNS = ("name", "accuracy", "deviation", "total", "parameters", "flops", "seconds", "seeds")
_SLICE_TITLES = {
    "answer_end": "answer ends at character",
    "answer_in_train": "answer among the train answers",
    "train_frequency": "train questions with this answer",
}
_HEAD = """# Results

`python results/make_results.py` writes this file and the plot from `results/*.json`. A run links to its JSON file,
which has the command of every step. Version 0.2 renamed settings and configurations ([CHANGELOG.md](CHANGELOG.md)),
and ends answers with `␃` instead of `⁇` ([docs/lab-notes.md](docs/lab-notes.md)).

![accuracy against FLOPs]({plot})

*The recipe* is `wiki/pretrain` (salient spans with cues, embeddings of n-grams) and `wiki/finetune`; *the small
recipe* begins with `wiki/pretrain_small`. FLOPs (6 × parameters without embeddings × tokens, pads included) and
minutes are those of pretraining and finetuning together. A row of several seeds contains means; ± is the standard
deviation (n − 1). One seed says little about a difference of two points. Seeds `a/b` are a in pretraining and b in
finetuning. {versions}"""


def load_tables(results_dir: Path, folder: Path) -> list[dict[str, Any]]:
    """The tables of `tables.yaml` that have results, each with its `results` (`*.json`) and the `rows` to show.

    Args:
        folder: links to the result files are relative to it.

    Raises:
        ValueError: no such folder, no results in it, a file that is not a result, or a table that is not described.
    """
    if not results_dir.is_dir():
        raise ValueError(f"{results_dir}: there is no such folder of results")
    paths = sorted(results_dir.rglob("*.json"))
    if not paths:
        raise ValueError(f"{results_dir}: there is no result (*.json) in this folder")
    tables = {key: {**table, "results": []} for key, table in _described_tables(results_dir / TABLES).items()}
    for path in paths:
        result = read_metrics(path, required=("name", "table", "accuracy", "total"))
        if result["table"] not in tables:
            raise ValueError(f"{path}: {results_dir / TABLES} does not describe its table {result['table']!r}: add it")
        link = Path(os.path.relpath(path, folder)).as_posix()
        tables[result["table"]]["results"].append({**result, "link": link, "seeds": _seeds_text(result)})
    filled = [table for table in tables.values() if table["results"]]
    for table in filled:
        table["results"].sort(key=_order)
        table["rows"] = _rows(table)
    return filled


def _described_tables(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file; it describes each table by a title and a question")
    tables = load_yaml(path.read_text(encoding="utf-8")) or {}
    for key, table in tables.items():
        if not table.get("title") or not table.get("question"):
            raise ValueError(f"{path}: the table {key!r} has no title or no question: add it")
    return tables


def _seed_pair(result: Mapping[str, Any]) -> tuple[int | None, int | None]:
    return result.get("pretraining_seed"), result.get("finetuning_seed")


def _seeds_text(result: Mapping[str, Any]) -> str | None:
    """`0` for one seed in all runs, `1/0` for two; None for a baseline or an ensemble."""
    return "/".join(str(seed) for seed in dict.fromkeys(_seed_pair(result)) if seed is not None) or None


def _order(result: Mapping[str, Any]) -> tuple:
    order = float("inf") if result.get("order") is None else result["order"]
    seeds = [-1 if seed is None else seed for seed in _seed_pair(result)]
    # rows of one name and seed are ordered by accuracy, not by the names of their files
    return order, result["name"], seeds, result["accuracy"]


def _rows(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    by_name: dict[str, list] = {}
    for result in table["results"]:
        by_name.setdefault(result["name"], []).append(result)
    rows = [row for same in by_name.values() for row in _over_seeds(same)]
    if table.get("reference"):
        rows = _by_difference(rows, table["reference"])
    if table.get("mean"):
        total = sum(result["total"] for result in table["results"])
        rows.append({"name": table["mean"], "total": total, **_mean_accuracy(table["results"])})
    return rows


def _mean_accuracy(results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    accuracies = [result["accuracy"] for result in results]
    return {"accuracy": fmean(accuracies), "deviation": stdev(accuracies)}


def _over_seeds(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row of means for several seeds of a run; the rows are unchanged if seeds repeat or are unknown."""
    if len(results) == 1 or None in [result["seeds"] for result in results]:
        return results
    if len(set(map(_seed_pair, results))) < len(results):
        return results
    known = [key for key in _AVERAGED if all(result.get(key) is not None for result in results)]
    means = {key: fmean(result[key] for result in results) for key in known}
    seeds = ", ".join(f"[{result['seeds']}]({result['link']})" for result in results)
    return [{**results[0], **means, **_mean_accuracy(results), "seeds": seeds, "link": None}]


def _by_difference(rows: list[dict[str, Any]], reference: str) -> list[dict[str, Any]]:
    """The reference first, then the others from the largest gain of accuracy to the largest loss."""
    references = [row for row in rows if row["name"] == reference]
    if len(references) != 1:
        raise ValueError(f"{TABLES}: reference {reference!r} is the name of {len(references)} rows, not of one")
    others = [row for row in rows if row["name"] != reference]
    others = [{**row, "difference": row["accuracy"] - references[0]["accuracy"]} for row in others]
    return [*references, *sorted(others, key=itemgetter("difference"), reverse=True)]


def results_markdown(tables: Sequence[Mapping[str, Any]], plot: str) -> str:
    """RESULTS.md: the plot, then a section for each table with its question, rows, notes and hardware.

    Args:
        tables: from `load_tables`.
        plot: the link to the plot.
    """
    versions = _versions(result for table in tables for result in table["results"])
    return "\n\n".join([_HEAD.format(plot=plot, versions=versions), *map(_section, tables)]) + "\n"


def _section(table: Mapping[str, Any]) -> str:
    columns = [*_COLUMNS[:2], "difference", *_COLUMNS[2:]] if table.get("reference") else _COLUMNS
    marks, notes = _notes(table["results"])
    shown = [{**row, "name": _linked_name(row) + marks.get(row["name"], "")} for row in table["rows"]]
    footnote = " ".join([_hardware(table["results"]), *notes])
    parts = [f"## {table['title']}", table["question"], markdown_table(shown, columns), footnote]
    return "\n\n".join([*parts, *(_best_slices(table["rows"]) if table.get("slices") else [])])


def _linked_name(row: Mapping[str, Any]) -> str:
    return f"[{row['name']}]({row['link']})" if row.get("link") else row["name"]


def _hardware(results: Iterable[Mapping[str, Any]]) -> str:
    hardware, dates = (sorted({result[key] for result in results if result.get(key)}) for key in ("hardware", "date"))
    hardware = [re.sub(r"\(R\)| Processor", "", name) for name in hardware]
    period = " to ".join(dict.fromkeys([*dates[:1], *dates[-1:]]))
    return f"Evaluated on {', '.join(filter(None, [' or '.join(hardware), period])) or 'unknown hardware'}."


def _versions(results: Iterable[Mapping[str, Any]]) -> str:
    versions: dict[str, dict[str, None]] = {}
    for result in results:
        for library, version in (result.get("versions") or {}).items():
            versions.setdefault(library, {})[version] = None
    libraries = [f"{library} {' or '.join(found)}" for library, found in versions.items()]
    return f"Versions: {', '.join(libraries) or 'unknown'}."


def _notes(results: Sequence[Mapping[str, Any]]) -> tuple[dict[str, str], list[str]]:
    """The marks of each name, and each sentence of the notes once after its mark.

    A sentence about all trained models has no mark.
    """
    names_of: dict[str, dict[str, None]] = {}
    for result in results:
        for sentence in re.split(r"(?<=\.) (?=[A-Z])", result.get("note") or ""):
            names_of.setdefault(sentence, {})[result["name"]] = None
    names_of.pop("", None)
    trained = {result["name"] for result in results if result.get("training_command")}
    common = [sentence for sentence, names in names_of.items() if trained <= names.keys()]
    marked = [sentence for sentence in names_of if sentence not in common]
    marks: dict[str, str] = {}
    for number, sentence in enumerate(marked, start=1):
        for name in names_of[sentence]:
            marks[name] = f"{marks.get(name, '')} {_superscript(number)}"
    return marks, common + [f"{_superscript(number)} {sentence}" for number, sentence in enumerate(marked, start=1)]


def _superscript(number: int) -> str:
    return str(number).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _best_slices(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The slices of the row with the best accuracy, without empty buckets."""
    best = max(rows, key=itemgetter("accuracy"))
    buckets = []
    for name, by_bucket in (best.get("slices") or {}).items():
        title = _SLICE_TITLES.get(name, name)
        for bucket, metrics in by_bucket.items():
            if metrics["count"]:
                buckets.append({"slice": title, "": bucket, **metrics})
                # the other buckets of this slice need no title
                title = ""
    table = markdown_table(buckets, ("slice", "", "accuracy", "count"))
    return [f"The best row, {best['name']}, by slices of the questions:", table] if buckets else []


def accuracy_plot(tables: Iterable[Mapping[str, Any]]) -> str:
    """An SVG of accuracy against FLOPs, with a label at the `labelled` rows; its bytes are always the same."""
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "birthgpt"}):
        figure = Figure(figsize=(9, 5), layout="constrained")
        axes = figure.subplots()
        axes.set(xscale="log", xlabel="FLOPs of training", ylabel="accuracy (%)", ylim=(-3, 100))
        for table in tables:
            rows = [row for row in table["rows"] if table.get("plotted") and row.get("flops")]
            if rows:
                accuracies = [100 * row["accuracy"] for row in rows]
                axes.scatter([row["flops"] for row in rows], accuracies, s=20, label=table["title"])
            for row in rows:
                if row["name"] in table.get("labelled", ()):
                    _label(axes, row)
        axes.grid(alpha=0.3)
        axes.legend(loc="center left")
        svg = io.StringIO()
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return svg.getvalue()


def _label(axes: Axes, row: Mapping[str, Any]) -> None:
    """Name and accuracy next to a point: on its left above 1e14 FLOPs, because there is no room on its right."""
    text = f"{row['name']}: {percent(row['accuracy'])}"
    point = (row["flops"], 100 * row["accuracy"])
    offset, side = (-6, "right") if row["flops"] > 1e14 else (6, "left")
    axes.annotate(text, point, (offset, 0), textcoords="offset points", ha=side, va="center", fontsize="small")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write RESULTS.md and the plot from the result files."""
    parser = argparse.ArgumentParser(prog="make_results.py", description=main.__doc__)
    parser.add_argument("results_dir", nargs="?", type=Path, default=RESULTS_DIR, help="folder of *.json, tables.yaml")
    parser.add_argument("output_file", nargs="?", type=Path, default=RESULTS_DIR.parent / "RESULTS.md", help="Markdown")
    options = parser.parse_args(arguments)
    plot = options.results_dir / PLOT
    folder = options.output_file.parent
    try:
        tables = load_tables(options.results_dir, folder)
    except ValueError as error:
        parser.error(str(error))
    write_text(plot, accuracy_plot(tables))
    write_text(options.output_file, results_markdown(tables, Path(os.path.relpath(plot, folder)).as_posix()))


if __name__ == "__main__":
    main()
