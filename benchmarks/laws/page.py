"""Write docs/laws.md from the JSON files of the experiments: python -m benchmarks.laws.page"""

from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from benchmarks.laws.__main__ import LAWS, find_law
from benchmarks.laws.law import SCALES, Law
from birthgpt.utils.files import read_json, write_text
from birthgpt.utils.strict_yaml import load_yaml
from birthgpt.utils.tables import number_table, scientific

RESULTS = Path(__file__).with_name("results")
FINDINGS = Path(__file__).with_name("findings.yaml")
PAGE = Path(__file__).parents[2] / "docs" / "laws.md"
NOT_RUN, NO_FIGURE = "not run", "–"
SHOWN_SCALES = ("small", "full")
LONGEST_TABLE = 14
"""Rows of the longest table that shows everything."""

HEAD = """# Laws of knowledge, in small

`python -m benchmarks.laws.page` writes this page from `benchmarks/laws/results/*.json` and
`benchmarks/laws/findings.yaml`. Each law is one file of [benchmarks/laws](../benchmarks/laws), and is run by

    python -m benchmarks.laws NAME --scale small --output_file benchmarks/laws/results/NAME_small.json

`small` takes minutes on two cores, `full` needs a GPU. The JSON files contain every `birthgpt` command, seed, date,
version and the hardware. The published figures are of models with 124M parameters and more, and of 100,000 people and
more: what does not carry over at this size is said as it is. {sizes}
"""


def page() -> str:
    """The page: a section for each law."""
    findings = load_yaml(FINDINGS.read_text(encoding="utf-8"))
    head = HEAD.format(sizes=describe_sizes())
    return "\n\n".join([head.strip(), *(section(name, findings.get(name)) for name in LAWS)]) + "\n"


def describe_sizes() -> str:
    """What is small and what is full."""
    return " ".join(
        f"*{name.capitalize()}*: {sizes.people:,} people with {len(sizes.relations)} relations, a model with "
        f"{sizes.model['num_hidden_layers']} layers of width {sizes.model['hidden_size']}, "
        f"{scientific(sizes.max_train_flops)} FLOPs for a pretraining."
        for name, sizes in SCALES.items()
        if name in SHOWN_SCALES
    )


def section(name: str, finding: str | None) -> str:
    """The docstring of a law, its table, what was found, and where it was run."""
    law = find_law(name)
    results = {scale: load_results(name, scale) for scale in SHOWN_SCALES}
    link = f"File: [{name}.py](../benchmarks/laws/{name}.py)."
    parts = [f"## {law.title}", *map(emphasise, law.paragraphs), link, table(law, results)]
    parts += [f"**Found.** {' '.join(finding.split())}"] if finding else []
    return "\n\n".join([*parts, *(origin(scale, found) for scale, found in results.items() if found)])


def load_results(name: str, scale: str) -> dict[str, list[dict[str, Any]]]:
    """Row → its runs, one for each seed; empty if nothing was run."""
    path = RESULTS / f"{name}_{scale}.json"
    return read_json(path)["rows"] if path.is_file() else {}


def emphasise(paragraph: str) -> str:
    """`Hypothesis: …` → `**Hypothesis.** …`"""
    word, _, rest = paragraph.partition(": ")
    return f"**{word}.** {rest[0].upper()}{rest[1:]}"


def table(law: Law, results: dict[str, dict[str, list[dict[str, Any]]]]) -> str:
    """A line for each row; of a law with many rows, for those that were run or have a published figure."""
    run = {row for found in results.values() for row in found}
    shown = [row for row in law.rows if len(law.rows) <= LONGEST_TABLE or row in law.published or row in run]
    columns = {scale: list(law.measures if results[scale] else list(law.measures)[:1]) for scale in SHOWN_SCALES}
    heads = ["", "published", *(f"{scale}: {law.measures[key]}" for scale in SHOWN_SCALES for key in columns[scale])]
    lines = [
        [
            law.rows[row],
            law.published.get(row, NO_FIGURE),
            *(cell(results[scale].get(row), key) for scale in SHOWN_SCALES for key in columns[scale]),
        ]
        for row in shown
    ]
    text = number_table(heads, lines)
    missing = len(law.rows) - len(shown)
    return text + (f"\n\n{missing} more rows were {NOT_RUN}." if missing else "")


def cell(runs: list[dict[str, Any]] | None, key: str) -> str:
    """The mean of the seeds, with their standard deviation (n − 1) if there are several."""
    if not runs:
        return NOT_RUN
    values = [run["measures"][key] for run in runs]
    if None in values:
        return NO_FIGURE
    digits = 2 if "per_parameter" in key else 0 if key in ("parameters", "people") else 1
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{fmean(values):,.{digits}f}{spread}"


def origin(scale: str, rows: dict[str, list[dict[str, Any]]]) -> str:
    """Seeds, hardware, date and time of the runs of a scale."""
    runs = [run for found in rows.values() for run in found]
    seeds, hardware, dates = (sorted({run[key] for run in runs}) for key in ("seed", "hardware", "date"))
    counts = sorted({len(found) for found in rows.values()})
    shared = {command: run for run in runs for command in run["birthgpt_commands"]}
    return (
        f"*{scale.capitalize()}*: {'one seed' if counts == [1] else f'{counts[0]} to {counts[-1]} seeds'} "
        f"({', '.join(map(str, seeds))}); {', '.join(hardware)}; {' to '.join(dict.fromkeys([dates[0], dates[-1]]))}; "
        f"{len(shared)} commands."
    )


if __name__ == "__main__":
    write_text(PAGE, page())
