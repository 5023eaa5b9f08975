"""Metrics of several evaluations side by side in one table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birthgpt.commands.command import Command
from birthgpt.evaluation.metrics import read_metrics
from birthgpt.settings import checked, setting
from birthgpt.utils.files import check_output_file, read_json_list, save_json
from birthgpt.utils.tables import text_table

COLUMNS = ("name", "accuracy", "correct", "total", "parameters", "tokens", "seconds")


@checked
@dataclass(kw_only=True)
class CompareSettings:
    """Print the metrics of several evaluations side by side in one table."""

    metrics_files: list[str] = setting(help="metrics.json of each evaluation, in the order of the table")
    output_file: str | None = setting(None, "also write the rows to this file, as JSON")
    dry_run: bool = setting(False, "check the files and print nothing")


def compare(settings: CompareSettings) -> list[dict]:
    """Print the table and return its rows; a ValueError if a file contains no metrics."""
    if settings.output_file is not None:
        check_output_file(settings.output_file, {"metrics_files": settings.metrics_files}, is_own=contains_rows)
    rows = [{key: row.get(key) for key in COLUMNS} for row in comparison_rows(settings.metrics_files)]
    if settings.dry_run:
        return rows
    print(text_table(rows, COLUMNS))
    if settings.output_file is not None:
        save_json(settings.output_file, rows)
    return rows


def contains_rows(file: Path) -> bool:
    """Whether a file contains the rows of an earlier comparison."""
    try:
        rows = read_json_list(file)
        return bool(rows) and all(row.keys() == set(COLUMNS) for row in rows)
    except (ValueError, TypeError, AttributeError):
        return False


def comparison_rows(metrics_files: Sequence[str | Path]) -> list[dict[str, Any]]:
    """One row per file of metrics, in the given order; the path replaces a missing name.

    Raises:
        ValueError: a file that is missing, is not JSON, or lacks `accuracy`, `correct` or `total`.
    """
    rows = []
    for path in metrics_files:
        metrics = read_metrics(Path(path), required=("accuracy", "correct", "total"))
        rows.append({**metrics, "name": metrics.get("name", str(path))})
    return rows


COMMAND = Command(CompareSettings, compare, several_processes=False)
