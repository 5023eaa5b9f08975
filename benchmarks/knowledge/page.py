"""Write docs/knowledge.md from the results of the experiments: python -m benchmarks.knowledge.page"""

import math
from pathlib import Path

from benchmarks.knowledge import exposures, origins, unread_names
from benchmarks.knowledge.people import SCALES
from birthgpt.utils.files import read_json, write_text
from birthgpt.utils.strict_yaml import load_yaml
from birthgpt.utils.tables import number_table

FOLDER = Path(__file__).parent
RESULTS, FINDINGS = FOLDER / "results.json", FOLDER / "findings.yaml"
PAGE = Path(__file__).parents[2] / "docs" / "knowledge.md"

HEAD = """# What is known, and what is answered where nothing is known

`python -m benchmarks.knowledge.page` writes this page from `benchmarks/knowledge/results.json`, which

    {command}

has written ({hardware}; {date}; seed {seed}, one training of each model; {seconds:.0f} seconds of training beside
other work). A model has two layers of width 64 and embeddings of n-grams. It is pretrained by salient spans with cues
on lines such as

    {line}

and finetuned on the questions of people who are not asked about. The experiments are small: intervals in brackets are
of 95% (Wilson), over people, and do not contain the spread between trainings.
"""


def page(results: dict, findings: dict[str, str]) -> str:
    """The page: a section for each part."""
    parts = results["parts"]
    first = parts["exposures"]
    seconds = first["training_seconds"] + parts["origins"]["training_seconds"]
    line = exposures.population(SCALES["small"], first["seed"])[0][0].line
    of_run = {key: first[key] for key in ("command", "hardware", "date", "seed")}
    head = HEAD.format(**of_run, seconds=seconds, line=line)
    sections = [
        section(exposures, findings["exposures"], exposures_table(first)),
        section(unread_names, findings["unread_names"], unread_table(parts["unread_names"])),
        section(origins, findings["origins"], origins_table(parts["origins"])),
    ]
    return "\n\n".join([head.strip(), *sections]) + "\n"


def section(module, finding: str, tables: str) -> str:
    """The docstring of a part, its tables, and what was found."""
    title, *paragraphs = module.__doc__.strip().split("\n\n")
    link = f"File: [{Path(module.__file__).name}](../benchmarks/knowledge/{Path(module.__file__).name})."
    found = f"**Found.** {finding.strip()}"
    return "\n\n".join([f"## {title.rstrip('.')}", *paragraphs, link, tables, found])


def exposures_table(part: dict) -> str:
    """Right answers by exposures, and what a guess gets right."""
    rows = [[str(row["exposures"]), str(row["people"]), ratio(row["correct"], row["people"])] for row in part["rows"]]
    rows.append(
        [f"`{part['guess']}` for everyone", str(part["asked"]), ratio(part["right_by_the_guess"], part["asked"])]
    )
    return number_table(["exposures", "people", "right (%)"], rows)


def unread_table(part: dict) -> str:
    """Where answers come from by kind of name; what each half of a name decides."""
    head = ["", *(f"{row['names']}: {row['count']} names" for row in part["rows"])]
    lines = {
        "is_of_nearest": "the answer is that of the name with the nearest state",
        "shares_first": "… which has the same first name",
        "shares_last": "… which has the same last name",
        "is_of_first": "the answer is that of a name with the same first name",
        "chance_of_first": "… and would be by chance",
        "is_of_last": "the answer is that of a name with the same last name",
        "chance_of_last": "… and would be by chance",
        "top_1": "the answer is the most common place of the lines",
        "top_5": "the answer is one of the five most common places",
        "a_place": "the answer is any place of the lines",
    }
    rows = [[name, *(percent(row[key]) for row in part["rows"])] for key, name in lines.items()]
    common, halves = part["places_of_lines"], part["halves"]
    return "\n\n".join(
        [
            number_table(head, rows),
            f"In percent. Of the people in the lines, {percent(common['top_1'])}% were born in the most common place, "
            f"{percent(common['top_5'])}% in one of the five most common.",
            number_table(
                ["the answers about two names are the same", "%"],
                [
                    ["the last name stays, the first is another", percent(halves["the_last_name_stays"])],
                    ["the first name stays, the last is another", percent(halves["the_first_name_stays"])],
                    ["any two names", percent(halves["any_two_names"])],
                ],
            ),
        ]
    )


def origins_table(part: dict) -> str:
    """How often a place of the origin is answered, by the share in the lines."""
    rows = [
        [
            percent(row["of_origin_in_lines"]),
            interval(row["recombined"], row["recombined_names"]),
            interval(row["new_parts"], row["new_names"]),
            percent(row["accuracy_born_there"]),
            percent(row["accuracy_born_elsewhere"]),
            f"{percent(row['wrong_answers_of_origin'])} of {row['wrong_answers']}",
        ]
        for row in part["rows"]
    ]
    head = [
        "people in the lines born in the country of their name",
        "places of that country, answered about other pairs of read names",
        "… about names of new parts",
        "right about read people born there",
        "right about read people born elsewhere",
        "wrong answers that name a place of the country",
    ]
    return number_table(head, rows) + "\n\nIn percent; 25% would be without any relation between name and place."


def percent(value: float | None) -> str:
    """A ratio in percent; an en dash if there is none."""
    return "–" if value is None else f"{100 * value:.1f}"


def ratio(correct: int, count: int) -> str:
    """A number of people in percent, with its interval."""
    return interval(correct / count, count)


def interval(value: float, count: int) -> str:
    """A ratio in percent, with its 95% interval: `65.0 (49.5 to 77.9)`."""
    low, high = wilson(value, count)
    return f"{percent(value)} ({percent(low)} to {percent(high)})"


def wilson(value: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """The score interval of Wilson (1927) for a ratio of `count` independent draws."""
    center = (value + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(value * (1 - value) / count + z**2 / (4 * count**2))
    return max(0.0, center - half), min(1.0, center + half)


if __name__ == "__main__":
    write_text(PAGE, page(read_json(RESULTS), load_yaml(FINDINGS.read_text(encoding="utf-8"))))
