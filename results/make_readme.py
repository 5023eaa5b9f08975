"""Write the tables of README.md from the JSON files of results/ and benchmarks/: python results/make_readme.py"""

import json
import re
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from birthgpt.evaluation.metrics import read_metrics
from birthgpt.utils.files import write_text
from birthgpt.utils.tables import percent

RESULTS = Path(__file__).resolve().parent
README = RESULTS.parent / "README.md"

# from the assignment's handout, and from the predictions of its best public solution
PUBLISHED = {
    "recipe of the assignment, as published": ("about 25", "hours on a GPU"),
    "best published predictions": ("40.4", "unknown"),
}
ATTENTION = {
    "softmax": ("softmax", "all earlier tokens"),
    "synthesizer": ("synthesizer", "all earlier tokens, by scores made without keys"),
    "performer": ("performer", "all earlier tokens, by random features of the softmax kernel"),
    "linformer": ("linformer", "recent blocks, and projections of the older ones"),
    "abc": ("abc", "a fixed number of slots that tokens write into"),
    "bigbird": ("bigbird", "global, neighbouring and random blocks"),
    "perceiver": ("perceiver", "latents that read the tokens"),
    "gated_deltanet": ("gated_deltanet", "an associative memory that decays (with Canon layers)"),
}
"""The result file of each attention type, and what a token reads from."""


def accuracy_table() -> list[list[str]]:
    """The accuracy and the cost of each way of training."""
    seeds = [read_metrics(path) for path in sorted(RESULTS.glob("wiki_seed_*.json"))]
    folds = [read_metrics(path) for path in sorted(RESULTS.glob("wiki_fold_*.json"))]
    small = [read_metrics(path) for path in sorted(RESULTS.glob("small_[0-9].json"))]
    students = [read_metrics(path) for path in sorted(RESULTS.glob("taught_*.json"))]
    together = read_metrics(RESULTS / "small_ensemble.json")
    student = mean_cost(students)
    # a student has been pretrained as a part of the ensemble, and only its finetuning comes on top
    all_of_them = {key: together[key] + student[key] - mean_cost(small)[key] for key in student}
    distilled, ensemble = (read_metrics(RESULTS / f"wiki_{name}.json") for name in ("distilled", "ensemble"))
    (london, assignment, untrained) = (
        read_metrics(RESULTS / f"{name}.json")
        for name in ("wiki_london", "cs224n_1.2e14_flops", "wiki_without_pretraining")
    )
    return [
        ["", "accuracy (%)", "cost of training"],
        ["`London` for everyone", percent(london["accuracy"]), "none"],
        ["without pretraining", percent(untrained["accuracy"]), cost(untrained)],
        ["recipe of the assignment, ended early", percent(assignment["accuracy"]), cost(assignment)],
        *[[name, *values] for name, values in PUBLISHED.items()],
        [f"**this recipe**, {len(seeds)} seeds", f"**{mean_accuracy(seeds)}**", cost(mean_cost(seeds))],
        [f"{len(folds)} folds of the train questions", mean_accuracy(folds), cost(mean_cost(folds))],
        ["ensemble of the five models", percent(ensemble["accuracy"]), cost(ensemble)],
        ["one model that learned from the ensemble", percent(distilled["accuracy"]), "that of the ensemble, and a bit"],
        [f"`wiki/pretrain_small`, {len(small)} seeds", mean_accuracy(small), cost(mean_cost(small))],
        ["the same, taught by the ensemble of the five", mean_accuracy(students), cost(all_of_them)],
    ]


def attention_table() -> list[list[str]]:
    """The accuracy of each attention type with one recipe, and its time compared to softmax."""
    measured = json.loads((RESULTS.parent / "benchmarks" / "attention.json").read_text(encoding="utf-8"))["rows"]
    ratios = {(row["name"], row["n"]): f"{row['model_ratio']:.1f}" for row in measured if "model_ratio" in row}
    rows = [["`attention_type`", "a token reads from", "accuracy (%)", "time, 128 tokens", "time, 8,192 tokens"]]
    for name, (result, reads) in ATTENTION.items():
        accuracy = percent(read_metrics(RESULTS / f"attention_{result}.json")["accuracy"])
        rows.append([f"`{name}`", reads, accuracy, ratios[name, 128], ratios[name, 8192]])
    return rows


def mean_accuracy(results: list[dict[str, Any]]) -> str:
    """`84.2 ± 1.6`: the mean and the standard deviation (n − 1)."""
    accuracies = [result["accuracy"] for result in results]
    return f"{percent(fmean(accuracies))} ± {percent(stdev(accuracies))}"


def mean_cost(results: list[dict[str, Any]]) -> dict[str, float]:
    """The mean FLOPs and seconds of several results."""
    return {key: fmean(result[key] for result in results) for key in ("flops", "seconds")}


def cost(result: dict[str, Any]) -> str:
    """`4.1e13 FLOPs, 15 min`."""
    flops = re.sub(r"e\+?0?", "e", f"{result['flops']:.1e}")
    return f"{flops} FLOPs, {result['seconds'] / 60:.0f} min"


def markdown(rows: list[list[str]]) -> str:
    """A Markdown table; text is left-aligned in the first column and right-aligned in those with numbers."""
    numeric = [all(re.match(r"[\d*]|about", row[column]) for row in rows[1:]) for column in range(len(rows[0]))]
    rule = ["---:" if right else "---" for right in numeric]
    return "\n".join(f"| {' | '.join(row)} |" for row in [rows[0], rule, *rows[1:]])


def fill(text: str, name: str, table: str) -> str:
    """The text with the table between its two markers; a ValueError if they are missing."""
    start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    if text.count(start) != 1 or text.count(end) != 1:
        raise ValueError(f"README.md: the lines {start.strip()} and {end.strip()} around a table are missing")
    before, rest = text.split(start)
    return before + start + table + "\n" + end + rest.split(end)[1]


def readme(text: str) -> str:
    """README.md with tables of the current results."""
    return fill(fill(text, "accuracy", markdown(accuracy_table())), "attention", markdown(attention_table()))


if __name__ == "__main__":
    write_text(README, readme(README.read_text(encoding="utf-8")))
