"""Write docs/relations.md from the JSON files of the cases: python -m benchmarks.relations.page"""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from benchmarks.relations.cases import CASES, CONFIDENCE_MEASURES, EIGHT, PARTS, RECIPE, SCALES, WIKI_CASES
from birthgpt.model.attention_types import ATTENTION_TYPES
from birthgpt.settings import read_config
from birthgpt.utils.files import read_json, write_text
from birthgpt.utils.tables import number_table, scientific

RESULTS = Path(__file__).with_name("results")
REPOSITORY = Path(__file__).parents[2]
PAGE, PUBLISHED = REPOSITORY / "docs" / "relations.md", REPOSITORY / "results"
SHOWN_SCALES = ("full", "small")
NO_FIGURE, NOT_RUN = "–", "not run"

HEAD = """# Many relations

`python -m benchmarks.relations.page` writes this page from `benchmarks/relations/results/*.json`. Those files contain
every command, seed, date, version and the hardware. A case is run by

    python -m benchmarks.relations CASES --scale full --output_file benchmarks/relations/results/full.json

and `wiki` needs `--wiki_folder`, the folder of the CS224N files.

The recipe is `configs/relations`. The accuracy (%, exact match) is that of questions about people whose questions were
never trained on. *New wordings* are questions whose wording was never trained on either. *Softmax* is the ratio of
the accuracy to that of the first row. The last table is of confidence: each model is calibrated on half of the held-out
people and measured on the others, as [confidence.md](confidence.md) says; ECE is the calibration error. A model that
answers all but a few of these questions right has no row there: it cannot be calibrated on them.
"""

Results = dict[str, list[dict[str, Any]]]
"""Case → its runs, one for each seed."""


def page() -> str:
    """The page: for each scale, all cases in one table, and each relation in another."""
    found = {scale: read_results(scale) for scale in SHOWN_SCALES}
    parts = [section(scale, results) for scale, results in found.items() if results]
    return "\n\n".join([HEAD.strip(), targets(found), *parts]) + "\n"


def read_results(scale: str) -> Results:
    """The results of a scale; empty if nothing was run."""
    path = RESULTS / f"{scale}.json"
    return read_json(path)["cases"] if path.is_file() else {}


def targets(found: dict[str, Results]) -> str:
    """What the recipe is meant to reach, and what it reached at every scale that was run."""
    lines = []
    for what, target, measure in TARGETS:
        values = {scale: measure(results) for scale, results in found.items()}
        measured = [
            value if "wiki" in what else f"{value} ({SCALES[scale].people:,} people)"
            for scale, value in values.items()
            if value is not None
        ]
        lines.append([what, target, "; ".join(dict.fromkeys(measured)) or NOT_RUN])
    return "## Targets\n\n" + number_table(["", "target", "measured"], lines)


def lowest(runs: list[dict[str, Any]]) -> str:
    """The relation with the lowest accuracy, the first one of several."""
    relations = [relation for relation in runs[0]["accuracy"] if relation != "all"]
    return min(relations, key=lambda relation: mean(runs, "accuracy", relation))


def worst_relation(results: Results) -> str | None:
    """The relation of the recipe with the lowest accuracy."""
    if "softmax" not in results:
        return None
    runs = results["softmax"]
    worst = lowest(runs)
    return f"{mean(runs, 'accuracy', worst):.1f}, {worst}"


def accuracy_of(name: str) -> Callable[[Results], str | None]:
    """The accuracy of a case."""
    return lambda results: f"{mean(results[name], 'accuracy', 'all'):.1f}" if name in results else None


def new_to_trained(results: Results) -> str | None:
    """The accuracy in new wordings over that in trained ones."""
    if "softmax" not in results:
        return None
    runs = results["softmax"]
    return f"{mean(runs, 'new_wordings', 'all') / mean(runs, 'accuracy', 'all'):.2f}"


def worst_to_softmax(names: Sequence[str]) -> Callable[[Results], str | None]:
    """The lowest accuracy of the cases that were run, over that of softmax."""

    def measure(results: Results) -> str | None:
        run = [name for name in names if name in results]
        if "softmax" not in results or not run:
            return None
        worst = min(run, key=lambda name: mean(results[name], "accuracy", "all"))
        ratio = mean(results[worst], "accuracy", "all") / mean(results["softmax"], "accuracy", "all")
        return f"{ratio:.2f}" + (f", {worst} of {len(run)}" if len(names) > 1 else "")

    return measure


def birthplaces_of_seeds(results: Results) -> str:
    """The accuracy of `wiki/pretrain` on the development questions, which RESULTS.md has too."""
    found = [100 * read_json(path)["accuracy"] for path in sorted(PUBLISHED.glob("wiki_seed_*.json"))]
    return f"{fmean(found):.1f} ± {stdev(found):.1f}"


TARGETS: tuple[tuple[str, str, Callable[[Results], str | None]], ...] = (
    ("wiki.txt, birthplaces alone, `wiki/pretrain`, five seeds", "≥ 84", birthplaces_of_seeds),
    ("each of eight relations, five wordings in the lines", "≥ 97", worst_relation),
    ("all relations, one wording in the lines", "≥ 85", accuracy_of("one_wording")),
    ("new wordings / trained wordings", "≥ 0.9", new_to_trained),
    ("the worst other attention type / softmax", "≥ 0.85", worst_to_softmax(sorted({*ATTENTION_TYPES} - {"softmax"}))),
    ("characters / softmax", "≥ 0.85", worst_to_softmax(["characters"])),
    ("wiki.txt, all relations in one model, eight minutes of an H100", "≥ 85", accuracy_of("wiki_on_a_gpu")),
    ("wiki.txt, all relations in one model, an hour and a half of one core", "≥ 85", accuracy_of("wiki_gaps")),
)
"""What is measured, the target, and how it is read from results."""


def section(scale: str, results: Results) -> str:
    """The two tables of a scale, and where it was run."""
    size = SCALES[scale]
    title = f"## {size.people:,} people, {scientific(size.max_train_flops)} FLOPs of pretraining"
    what = (
        f"Synthetic people with eight relations and five biographies each, in five wordings if nothing else is said; "
        f"{size.held_out} people are held out."
    )
    tables = [summary(results), *(by_relation(results, part) for part in PARTS)]
    if any(runs[0].get("confidence") for runs in results.values()):
        tables.append(confidence_table(results))
    return "\n\n".join([title, what, *tables, origin(results)])


def ordered(results: Results) -> list[str]:
    """The measured cases in the order of their declaration."""
    return [name for name in (*CASES, *WIKI_CASES) if name in results]


def title_of(name: str) -> str:
    """A case in words."""
    return (CASES | WIKI_CASES)[name].title


def summary(results: Results) -> str:
    """All relations together."""
    heads = ["case", "accuracy", "worst relation", "new wordings", "new / trained wordings", "softmax", "seeds"]
    reference = mean(results["softmax"], "accuracy", "all") if "softmax" in results else None
    lines = []
    for name in ordered(results):
        runs = results[name]
        trained, new = mean(runs, "accuracy", "all"), mean(runs, "new_wordings", "all")
        worst = lowest(runs)
        ratio = f"{trained / reference:.2f}" if reference and name in CASES else NO_FIGURE
        lines.append([
            title_of(name), cell(runs, "accuracy", "all"), f"{worst} {cell(runs, 'accuracy', worst)}",
            cell(runs, "new_wordings", "all"), f"{new / trained:.2f}" if trained else NO_FIGURE, ratio, str(len(runs)),
        ])  # fmt: skip
    return number_table(heads, lines)


def by_relation(results: Results, part: str) -> str:
    """One column for each relation."""
    relations = [*EIGHT, *sorted({key for runs in results.values() for key in runs[0][part]} - {*EIGHT, "all"})]
    lines = [[title_of(name), *(cell(results[name], part, key) for key in relations)] for name in ordered(results)]
    return number_table(["in wordings trained on" if part == "accuracy" else "in new wordings", *relations], lines)


def confidence_table(results: Results) -> str:
    """How well each model knows what it knows."""
    judged = [name for name in ordered(results) if results[name][0].get("confidence")]
    lines = [
        [title_of(name), *(in_percent(results[name], key) for key in CONFIDENCE_MEASURES)] for name in judged
    ]  # fmt: skip
    return number_table(["in percent", *CONFIDENCE_MEASURES.values()], lines)


def in_percent(runs: list[dict[str, Any]], key: str) -> str:
    """The mean of a ratio over the seeds that have it, in percent."""
    values = [run["confidence"][key] for run in runs if run.get("confidence", {}).get(key) is not None]
    return f"{100 * fmean(values):.1f}" if values else NO_FIGURE


def mean(runs: list[dict[str, Any]], part: str, key: str) -> float:
    """The mean of the seeds."""
    return fmean(run[part][key] for run in runs)


def cell(runs: list[dict[str, Any]], part: str, key: str) -> str:
    """The mean of the seeds, with their standard deviation (n − 1) if there are several."""
    if key not in runs[0][part]:
        return NO_FIGURE
    spread = f" ± {stdev(run[part][key] for run in runs):.1f}" if len(runs) > 1 else ""
    return f"{mean(runs, part, key):.1f}{spread}"


def origin(results: Results) -> str:
    """Seeds, hardware and dates of all runs."""
    runs = [run for found in results.values() for run in found]
    seeds, hardware, dates = (sorted({run[key] for run in runs}) for key in ("seed", "hardware", "date"))
    days = " to ".join(dict.fromkeys([dates[0], dates[-1]]))
    measured = f"Seeds {', '.join(map(str, seeds))}; {', '.join(hardware)}; {days}."
    return " ".join([measured, *notes(results), *earlier_recipes(results)])


def notes(results: Results) -> list[str]:
    """What somebody wrote into the file about a run."""
    return [f"{title_of(name)}: {run['note']}." for name in ordered(results) for run in results[name] if "note" in run]


def earlier_recipes(results: Results) -> list[str]:
    """A sentence for each recipe of a run that is not the present one."""
    present = read_config(RECIPE)
    cases: dict[str, list[str]] = {}
    for name in ordered(results):
        recipe = results[name][0]["recipe"]
        changed = sorted(key for key in present.keys() | recipe.keys() if present.get(key) != recipe.get(key))
        if changed:
            values = ", ".join(f"`{key}` {recipe.get(key, 'not set')}" for key in changed)
            cases.setdefault(values, []).append(title_of(name))
    return [f"Run with an earlier recipe ({values}): {'; '.join(titles)}." for values, titles in cases.items()]


if __name__ == "__main__":
    write_text(PAGE, page())
