"""Metrics of several evaluations side by side in one table."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from birthgpt.evaluation.metrics import read_metrics
from birthgpt.utils.files import save_json
from birthgpt.utils.tables import text_table

COLUMNS = ("name", "accuracy", "correct", "total", "parameters", "tokens", "seconds")


@dataclass
class ComparisonArguments:
    """The evaluations to set side by side."""

    metrics_files: list[str] = field(metadata={"help": "metrics.json of each run, in the order of the table"})
    output_file: str | None = field(default=None, metadata={"help": "also write the rows here, as JSON"})
    dry_run: bool = field(default=False, metadata={"help": "check the files and print nothing"})


def compare(arguments: ComparisonArguments) -> list[dict]:
    """Print the table and return its rows; ValueError for a file that contains no metrics."""
    rows = [{key: row.get(key) for key in COLUMNS} for row in comparison_rows(arguments.metrics_files)]
    if arguments.dry_run:
        return rows
    print(text_table(rows, COLUMNS))
    if arguments.output_file is not None:
        save_json(arguments.output_file, rows)
    return rows


def comparison_rows(metrics_files: Sequence[str | Path]) -> list[dict[str, Any]]:
    """One row a file of metrics, in the given order; a file without a name is named by its path.

    Raises:
        ValueError: a file that is missing, is not JSON, or lacks `accuracy`, `correct` or `total`.
    """
    rows = []
    for path in metrics_files:
        metrics = read_metrics(Path(path), required=("accuracy", "correct", "total"))
        rows.append({**metrics, "name": metrics.get("name", str(path))})
    return rows
