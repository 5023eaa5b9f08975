"""Write docs/exploration.md from the records of the experiments: python -m exploration.page"""

from pathlib import Path
from typing import Any

from benchmarks.laws.page import emphasise
from birthgpt.utils.files import read_json, write_text
from exploration.__main__ import EXPERIMENTS, RESULTS, find_experiment
from exploration.experiment import VERDICTS

PAGE = Path(__file__).parents[1] / "docs" / "exploration.md"

HEAD = """# Attention explored

`python -m exploration.page` writes this page from `exploration/results/*.json`. Each claim is one file of
[exploration](../exploration), which is run by

    python -m exploration NAME

and `python -m exploration --all` runs all of them. They took {minutes:.1f} minutes of one core. `--small` runs the same
code on small sizes, in seconds. A verdict is computed from the measurement by the rule of its experiment: *holds*,
*sharpened* (the claim is right under a condition that it does not state) or *refuted*. Trainings have one seed unless a
set-up says more. A verdict is about its set-up, and models of another size may differ.
"""


def page() -> str:
    """The page: a table of the verdicts, then a section for each experiment."""
    records = {name: read_json(RESULTS / f"{name}.json") for name in EXPERIMENTS}
    minutes = sum(record["cpu_seconds"] for record in records.values()) / 60
    sections = [section(name, record) for name, record in records.items()]
    return "\n\n".join([HEAD.format(minutes=minutes).strip(), summary(records), *sections]) + "\n"


def summary(records: dict[str, dict[str, Any]]) -> str:
    """A line for each experiment, and how many claims have each verdict."""
    lines = [
        f"| [{name}](#{anchor(find_experiment(name).title)}) | {find_experiment(name).title} | "
        f"*{record['verdict']['word']}* |"
        for name, record in records.items()
    ]
    words = [record["verdict"]["word"] for record in records.values()]
    counts = ", ".join(f"{word} {words.count(word)}" for word in VERDICTS)
    return (
        "\n".join(["| experiment | what it is about | verdict |", "| --- | --- | --- |", *lines])
        + f"\n\nOf these claims: {counts}."
    )


def anchor(title: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return "".join(char for char in title.lower().replace(" ", "-") if char.isalnum() or char in "-_")


def section(name: str, record: dict[str, Any]) -> str:
    """The docstring of an experiment, its figure, its verdict, and how it was run."""
    experiment = find_experiment(name)
    verdict = record["verdict"]
    sizes = ", ".join(f"{key} {show(value)}" for key, value in record["sizes"].items())
    return "\n\n".join(
        [
            f"## {experiment.title}",
            *map(emphasise, experiment.paragraphs),
            f"![{experiment.title}](../exploration/results/{name}.svg)",
            f"**Verdict: {verdict['word']}.** {verdict['reason']}",
            f"File: [{name}.py](../exploration/{name}.py). Command: `{record['command']}`. Sizes: {sizes}. "
            f"{record['cpu_seconds']:g} s of one core of {record['hardware']}, {record['date']}.",
        ]
    )


def show(value: Any) -> str:
    """A size as text."""
    if isinstance(value, list):
        return " ".join(map(show, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    write_text(PAGE, page())
