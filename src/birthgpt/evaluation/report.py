"""Tables of figures, and RESULTS.md made from the JSON files under results/."""

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

MISSING = "–"


def percent(share: float) -> str:
    """A share in 0..1 as percent, one decimal: 0.614 → `61.4`."""
    return f"{100 * share:.1f}"


def magnitude(count: float) -> str:
    """A count in thousands, millions or billions: 3323392 → `3.3M`."""
    for size, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        # 999,950 and more would be rounded to 1000.0k
        if count >= 0.99995 * size:
            return f"{count / size:.1f}{suffix}"
    return f"{count:g}"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f}"


def _thousands(number: float) -> str:
    return f"{number:,.0f}"


def _scientific(number: float) -> str:
    return f"{number:.1e}".replace("e+", "e")


# key of a row → heading, format; all but the name are numbers and stand on the right
_NUMBERS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "accuracy": ("accuracy (%)", percent),
    "deviation": ("± (points)", percent),
    "correct": ("correct", _thousands),
    "total": ("n", _thousands),
    "mean_log_probability": ("mean log p", "{:.2f}".format),
    "parameters": ("parameters", magnitude),
    "tokens": ("training tokens", magnitude),
    "target_share": ("target share (%)", percent),
    "flops": ("FLOPs", _scientific),
    "seconds": ("minutes", _minutes),
    "tokens_per_second": ("tokens/s", _thousands),
    "seed": ("seed", str),
    "steps": ("updates", _thousands),
    "loss": ("last loss", "{:.3f}".format),
    "count": ("n", _thousands),
    **{f"first {limit}": (f"first {limit} (%)", percent) for limit in (1, 3, 10, 30)},
}
_RESULT_COLUMNS = (
    "name",
    "accuracy",
    "deviation",
    "total",
    "parameters",
    "tokens",
    "target_share",
    "flops",
    "seconds",
    "tokens_per_second",
    "seed",
)
_AVERAGED = ("accuracy", "parameters", "tokens", "target_share", "flops", "seconds", "tokens_per_second")
_KINDS = {"name": str, "table": str, "command": str, "versions": dict, "slices": dict}
_SLICE_TITLES = {
    "answer_end": "answer ends at character",
    "answer_in_train": "answer among train answers",
    "train_frequency": "train questions with this answer",
}


def markdown_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """A Markdown table of the named keys of each row; known keys get their heading and unit, e.g. percent.

    A missing value, or `None`, is an en dash.
    """
    rules = ["---:" if key in _NUMBERS else "---" for key in columns]
    body = [[_escape(cell) for cell in _cells(row, columns)] for row in rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [_headings(columns), rules, *body])


def text_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """The same table in plain text for a terminal: columns aligned, numbers on the right."""
    lines = [_headings(columns), *(_cells(row, columns) for row in rows)]
    widths = [max(len(line[position]) for line in lines) for position in range(len(columns))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.rjust(width) if key in _NUMBERS else cell.ljust(width)
            for key, cell, width in zip(columns, line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def save_json(path: str | Path, data: Any) -> None:
    """Writes JSON whole or not at all: beside its place first, then renamed. Makes missing folders.

    Raises:
        ValueError: something that JSON cannot hold, NaN and infinity included.
    """
    try:
        text = json.dumps(data, ensure_ascii=False, indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: this cannot be written as JSON ({error})") from error
    write_whole(Path(path), text + "\n")


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
    results = [_read_result(path, required=("name", "table")) for path in paths]
    if not results:
        raise ValueError(f"{results_dir}: there is no result (*.json) in this folder")
    head = (
        "# Results\n\nGenerated from the JSON files under `results/` by "
        "`python -m birthgpt.evaluation.report results RESULTS.md`; edits are overwritten.\n\n"
        "Training tokens count pads and, like FLOPs (nominal: 6 × parameters without embeddings × tokens) and minutes, "
        "are those of pretraining and finetuning together; the target share is the part of tokens that carries loss; "
        "± is the standard deviation over seeds (n − 1)."
    )
    return "\n\n".join([head, *(_section(table, rows) for table, rows in _tables(results))]) + "\n"


def compare_runs(figures_files: Sequence[str | Path]) -> list[dict[str, Any]]:
    """One row a file of figures, in the order given, ready for `text_table` or `markdown_table`.

    Raises:
        ValueError: a file that is missing, is not JSON, or lacks `accuracy`, `correct` or `total`.
    """
    rows = []
    for path in figures_files:
        figures = _read_result(Path(path), required=("accuracy", "correct", "total"))
        rows.append({**figures, "name": figures.get("name", str(path))})
    return rows


def _headings(columns: Sequence[str]) -> list[str]:
    return [_NUMBERS[key][0] if key in _NUMBERS else key.replace("_", " ") for key in columns]


def _cells(row: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    return [
        MISSING if row.get(key) is None else _NUMBERS[key][1](row[key]) if key in _NUMBERS else str(row[key])
        for key in columns
    ]


def _escape(cell: str) -> str:
    return " ".join(cell.split()).replace("|", "\\|")


def write_whole(path: Path, text: str) -> None:
    """Writes a text file whole or not at all: beside its place first, then renamed. Makes missing folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _read_result(path: Path, required: Sequence[str]) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such file of figures") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: this is not a file of figures in JSON ({error})") from error
    if not isinstance(result, dict):
        raise ValueError(f"{path}: figures are a JSON object, not {type(result).__name__}")
    missing = [key for key in required if result.get(key) in (None, "")]
    if missing:
        raise ValueError(f"{path}: {', '.join(map(repr, missing))} is missing")
    _check_values(path, result)
    return result


def _check_values(path: Path, result: Mapping[str, Any]) -> None:
    for key, kind in _KINDS.items():
        if result.get(key) is not None and not isinstance(result[key], kind):
            raise ValueError(f"{path}: {key!r} is of type {kind.__name__}, not {result[key]!r}")
    for key in (*_NUMBERS, "order"):
        value = result.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"{path}: {key!r} is a number, not {value!r}")
    for key in ("accuracy", "target_share"):
        if result.get(key) is not None and not 0 <= result[key] <= 1:
            raise ValueError(f"{path}: {key!r} is a share between 0 and 1, not {result[key]!r}")
    accuracy, correct, total = (result.get(key) for key in ("accuracy", "correct", "total"))
    if None not in (accuracy, correct, total) and abs(accuracy * total - correct) > 1e-3:
        raise ValueError(f"{path}: 'accuracy' {accuracy} is not 'correct' {correct} of 'total' {total}")


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
    circumstances = "; ".join(str(part) for part in (row.get("hardware"), row.get("date"), versions) if part)
    seed = "" if row.get("seed") is None else f" (seed {row['seed']})"
    note = f" {row['note']}" if row.get("note") else ""
    return f"- **{row['name']}**{seed}: {command}. {circumstances or MISSING}.{note}"


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
                [{title: bucket, **figures} for bucket, figures in buckets.items()],
                (title, "accuracy", "count"),
            )
        )
    return parts


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the tables of a folder of results to a Markdown file."""
    parser = argparse.ArgumentParser(prog="python -m birthgpt.evaluation.report", description=main.__doc__)
    parser.add_argument("results_dir", help="folder of result files (*.json)")
    parser.add_argument("output_file", type=Path, help="Markdown file to write, e.g. RESULTS.md")
    options = parser.parse_args(arguments)
    try:
        text = results_markdown(options.results_dir)
    except ValueError as error:
        parser.error(str(error))
    write_whole(options.output_file, text)


if __name__ == "__main__":
    main()
