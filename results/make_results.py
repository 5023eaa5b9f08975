"""Tables of metrics, and RESULTS.md made from the JSON files under results/."""

import argparse
import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from birthgpt.evaluation.metrics import read_metrics
from birthgpt.utils.files import write_text
from birthgpt.utils.tables import MISSING, markdown_table

_RESULT_COLUMNS = (
    "name",
    "accuracy",
    "deviation",
    "total",
    "parameters",
    "tokens",
    "target_ratio",
    "flops",
    "seconds",
    "tokens_per_second",
    "seed",
)
_AVERAGED = ("accuracy", "parameters", "tokens", "target_ratio", "flops", "seconds", "tokens_per_second")
_SLICE_TITLES = {
    "answer_end": "answer ends at character",
    "answer_in_train": "answer among train answers",
    "train_frequency": "train questions with this answer",
}


def results_markdown(results_dir: str | Path) -> str:
    """RESULTS.md from the result files `*.json` under a folder, and from nothing else.

    One section a table: its rows, those of one name and several seeds as one of means; then their commands,
    hardware and versions; then the slices of the best row. Rows come by their `order` (last if they have none), then
    name; tables by their first row.

    Raises:
        ValueError: no such folder, no results in it, or a file that is not a result.
    """
    if not Path(results_dir).is_dir():
        raise ValueError(f"{results_dir}: there is no such folder of results")
    paths = sorted(Path(results_dir).rglob("*.json"))
    results = [read_metrics(path, required=("name", "table")) for path in paths]
    if not results:
        raise ValueError(f"{results_dir}: there is no result (*.json) in this folder")
    head = (
        "# Results\n\nGenerated from the JSON files under `results/` by "
        "`python results/make_results.py`; edits are overwritten.\n\n"
        "Training tokens count pads and, like FLOPs (nominal: 6 × parameters without embeddings × tokens) and minutes, "
        "are those of pretraining and finetuning together; the target share is the part of tokens that carries loss; "
        "± is the standard deviation over seeds (n − 1)."
    )
    return "\n\n".join([head, *(_section(table, rows) for table, rows in _tables(results))]) + "\n"


def _row_order(result: Mapping[str, Any]) -> tuple:
    order, seed = (float("inf") if result.get(key) is None else result[key] for key in ("order", "seed"))
    # the last part settles rows of one name and seed, whatever their files are called
    return (order, result["name"], seed, json.dumps(result, sort_keys=True))


def _tables(results: Sequence[Mapping[str, Any]]) -> list[tuple[str, list]]:
    by_table = groupby(sorted(results, key=itemgetter("table")), key=itemgetter("table"))
    tables = [(table, sorted(rows, key=_row_order)) for table, rows in by_table]
    return sorted(tables, key=lambda table: (_row_order(table[1][0])[0], table[0]))


def _section(table: str, rows: Sequence[Mapping[str, Any]]) -> str:
    runs = "\n".join(_run_line(row) for row in rows)
    by_name = [list(same) for _, same in groupby(rows, key=itemgetter("name"))]
    shown = [row for same in by_name for row in _over_seeds(same)]
    return "\n\n".join([f"## {table}", markdown_table(shown, _RESULT_COLUMNS), runs, *_best_slices(rows)])


def _over_seeds(rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """One row for several seeds of a run: means, and the standard deviation (n − 1) of their accuracies."""
    seeds = [row.get("seed") for row in rows]
    if len(rows) == 1 or None in seeds or len(set(seeds)) < len(seeds):
        return rows
    means = {key: fmean(row[key] for row in rows) for key in _AVERAGED if all(row.get(key) is not None for row in rows)}
    deviation = {"deviation": stdev(row["accuracy"] for row in rows)} if "accuracy" in means else {}
    return [{**rows[0], **means, **deviation, "seed": ", ".join(map(str, seeds))}]


def _run_line(row: Mapping[str, Any]) -> str:
    steps = [*(row.get("training_command") or []), *([row["command"]] if row.get("command") else [])]
    command = ", then ".join(f"`{' '.join(step.split())}`" for step in steps) or MISSING
    versions = ", ".join(f"{library} {version}" for library, version in (row.get("versions") or {}).items())
    environment_info = "; ".join(str(part) for part in (row.get("hardware"), row.get("date"), versions) if part)
    seed = "" if row.get("seed") is None else f" (seed {row['seed']})"
    note = f" {row['note']}" if row.get("note") else ""
    return f"- **{row['name']}**{seed}: {command}. {environment_info or MISSING}.{note}"


def _best_slices(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    sliced = [row for row in rows if row.get("slices") and row.get("accuracy") is not None]
    best = max((row["accuracy"] for row in sliced), default=None)
    return [part for row in sliced if row["accuracy"] == best for part in _slice_tables(row)]


def _slice_tables(row: Mapping[str, Any]) -> list[str]:
    parts = [f"Slices of **{row['name']}**:"]
    for name, buckets in row["slices"].items():
        title = _SLICE_TITLES.get(name, name.replace("_", " "))
        parts.append(
            markdown_table(
                [{title: bucket, **metrics} for bucket, metrics in buckets.items()],
                (title, "accuracy", "count"),
            )
        )
    return parts


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the tables of a folder of results to a Markdown file."""
    parser = argparse.ArgumentParser(prog="make_results.py", description=main.__doc__)
    parser.add_argument("results_dir", help="folder of result files (*.json)")
    parser.add_argument("output_file", type=Path, help="Markdown file to write, e.g. RESULTS.md")
    options = parser.parse_args(arguments)
    try:
        text = results_markdown(options.results_dir)
    except ValueError as error:
        parser.error(str(error))
    write_text(options.output_file, text)


if __name__ == "__main__":
    main()
