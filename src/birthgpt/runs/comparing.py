"""Runs side by side in one table."""

from dataclasses import dataclass, field

from birthgpt.evaluation.report import compare_runs, save_json, text_table

COLUMNS = ("name", "accuracy", "correct", "total", "parameters", "tokens", "seconds")


@dataclass
class ComparisonArguments:
    """The evaluations to set side by side."""

    figures_files: list[str] = field(metadata={"help": "figures.json of each run, in the order of the table"})
    output_file: str | None = field(default=None, metadata={"help": "also write the rows here, as JSON"})
    dry_run: bool = field(default=False, metadata={"help": "check the files and print nothing"})


def compare(arguments: ComparisonArguments) -> list[dict]:
    """Print the table and return its rows; ValueError for a file that holds no figures."""
    rows = [{key: row.get(key) for key in COLUMNS} for row in compare_runs(arguments.figures_files)]
    if arguments.dry_run:
        return rows
    print(text_table(rows, COLUMNS))
    if arguments.output_file is not None:
        save_json(arguments.output_file, rows)
    return rows
