"""RESULTS.md and its plot are made from the JSON files of results/ and tables.yaml alone."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from make_results import accuracy_plot, load_tables, main, results_markdown

from birthgpt.evaluation.metrics import compute_metrics
from birthgpt.utils.files import save_json
from birthgpt.utils.tables import percent

QUESTIONS = [
    {"question": f"Where was {name} born?", "answer": answer, "name": name}
    for name, answer in (("Ada", "Rome"), ("Bob", "Oslo"), ("Cid", "Bern"), ("Dan", "Rome"))
]
RIGHT = ["Rome", "Oslo", "Bern", "Rome"]
REPOSITORY = Path(__file__).parents[2]
RESULT_FILES = sorted(REPOSITORY.glob("results/*.json"))
DEV = {"title": "Development", "question": "Which is best?"}


def make_result(name, correct, **values):
    """A result with so many of the four questions answered."""
    lines_by_name = {"Ada": "Ada. Rome", "Bob": "Bob. " + "x" * 30 + "Oslo"}
    predictions = RIGHT[:correct] + ["x"] * (4 - correct)
    return {
        **compute_metrics(QUESTIONS, predictions, ["Rome"], lines_by_name),
        "name": name,
        "table": "dev",
        "parameters": 3_323_392,
        "tokens": 13_600_000,
        "flops": 2.1e14,
        "seconds": 1350.0,
        "pretraining_seed": 7,
        "finetuning_seed": 7,
        "command": f"python scripts/evaluate.py --name {name}",
        "training_command": [f"python scripts/pretrain.py configs/{name}.yaml"],
        "hardware": "2 CPU cores",
        "date": "2026-01-02",
        "versions": {"torch": "2.13.0"},
        **values,
    }


def write_results(folder, *results, tables=None):
    for number, result in enumerate(results):
        save_json(folder / f"{number}.json", result)
    (folder / "tables.yaml").write_text(yaml.safe_dump(tables or {"dev": DEV}, sort_keys=False))
    return folder


def markdown_of(folder):
    return results_markdown(load_tables(folder, folder), "accuracy.svg")


def sections(markdown):
    """The text of each section by its heading."""
    parts = re.split(r"^## (.*)$", markdown, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def first_table(section):
    """The cells of the first table of a section by heading, row by row."""
    lines = [line for line in section.strip().split("\n\n")[1].splitlines()]
    headings, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return [dict(zip(headings, row, strict=True)) for row in rows]


def names(section):
    return [re.sub(r"\[(.*)\]\(.*\)", r"\1", row["name"]) for row in first_table(section)]


def test_a_section_is_question_rows_with_links_and_hardware(tmp_path):
    write_results(tmp_path, make_result("worse", 1), make_result("better", 2))
    markdown = markdown_of(tmp_path)
    section = sections(markdown)["Development"]
    assert section.strip().startswith("Which is best?")
    assert "| [better](1.json) | 50.0 | – | 4 | 3.3M | 2.1e14 | 22.5 | 7 |" in section
    assert "Evaluated on 2 CPU cores, 2026-01-02." in section
    assert "torch 2.13.0" in markdown and "![accuracy against FLOPs](accuracy.svg)" in markdown
    assert "scripts/" not in section


def test_only_the_best_row_of_a_table_with_slices_shows_them_and_no_empty_bucket(tmp_path):
    tables = {"dev": {**DEV, "slices": True}, "test": {"title": "Test", "question": "And here?"}}
    results = [make_result("worse", 1), make_result("better", 2), make_result("other", 3, table="test")]
    by_title = sections(markdown_of(write_results(tmp_path, *results, tables=tables)))
    shown = by_title["Development"].split("The best row, ")[1]
    assert shown.startswith("better,")
    assert "|  | 25-49 | 100.0 | 1 |" in shown and "| answer among the train answers | seen | 50.0 | 2 |" in shown
    assert "125+" not in shown and "best row" not in by_title["Test"]


def test_rows_come_by_order_then_name_and_tables_as_they_are_described(tmp_path):
    described = {key: {"title": key.upper(), "question": "Which?"} for key in ("test", "dev", "unused", "ablations")}
    write_results(
        tmp_path,
        make_result("z", 0),
        make_result("c", 0, order=2),
        make_result("a", 0),
        make_result("d", 0, order=1),
        make_result("e", 0, table="ablations"),
        make_result("f", 0, table="test"),
        tables=described,
    )
    by_title = sections(markdown_of(tmp_path))
    assert list(by_title) == ["TEST", "DEV", "ABLATIONS"]
    assert names(by_title["DEV"]) == ["d", "c", "a", "z"]


def test_the_seeds_of_one_run_are_a_row_of_means_with_the_deviation(tmp_path):
    pairs = [(0, 0), (1, 0), (1, 1)]
    runs = [
        make_result("a", correct, pretraining_seed=pretraining, finetuning_seed=finetuning, flops=flops)
        for correct, flops, (pretraining, finetuning) in zip((1, 2, 3), (1e14, 2e14, 6e14), pairs, strict=True)
    ]
    (row,) = first_table(sections(markdown_of(write_results(tmp_path, *runs)))["Development"])
    # the standard deviation of 25, 50 and 75 is 25
    assert (row["name"], row["accuracy (%)"], row["± (points)"], row["FLOPs"]) == ("a", "50.0", "25.0", "3.0e14")
    assert row["seeds"] == "[0](0.json), [1/0](1.json), [1](2.json)"


@pytest.mark.parametrize("seeds", [(0, 0), (None, None)])
def test_runs_of_the_same_or_of_unknown_seeds_stay_rows_of_their_own(tmp_path, seeds):
    values = {"pretraining_seed": seeds[0], "finetuning_seed": seeds[1]}
    results = [make_result("b", correct, **values) for correct in (2, 1)]
    rows = first_table(sections(markdown_of(write_results(tmp_path, *results)))["Development"])
    assert [(row["accuracy (%)"], row["± (points)"]) for row in rows] == [("25.0", "–"), ("50.0", "–")]


def test_finetuning_without_pretraining_is_averaged_over_its_own_seeds(tmp_path):
    results = [make_result("a", 2, pretraining_seed=None, finetuning_seed=seed) for seed in (3, 5)]
    (row,) = first_table(sections(markdown_of(write_results(tmp_path, *results)))["Development"])
    assert row["seeds"] == "[3](0.json), [5](1.json)"


def test_rows_of_a_table_with_a_reference_are_sorted_by_their_difference_from_it(tmp_path):
    results = [make_result(name, correct) for name, correct in (("a", 0), ("recipe", 2), ("b", 3), ("c", 1))]
    write_results(tmp_path, *results, tables={"dev": {**DEV, "reference": "recipe"}})
    section = sections(markdown_of(tmp_path))["Development"]
    assert names(section) == ["recipe", "b", "c", "a"]
    assert [row["Δ (points)"] for row in first_table(section)] == ["–", "+25.0", "-25.0", "-50.0"]


def test_a_table_with_a_mean_ends_with_the_mean_and_deviation_of_its_rows(tmp_path):
    results = [make_result(name, correct) for name, correct in (("a", 1), ("b", 2), ("c", 3))]
    write_results(tmp_path, *results, tables={"dev": {**DEV, "mean": "mean of the three"}})
    last = first_table(sections(markdown_of(tmp_path))["Development"])[-1]
    assert (last["name"], last["accuracy (%)"], last["± (points)"], last["n"]) == (
        "mean of the three",
        "50.0",
        "25.0",
        "12",
    )


def test_each_sentence_of_the_notes_is_said_once_with_a_mark_at_its_rows(tmp_path):
    write_results(
        tmp_path,
        make_result("a", 1, note="The machine was busy. Half of the lines."),
        make_result("b", 1, note="The machine was busy. Half of the lines. Stopped early."),
        make_result("c", 1, note="The machine was busy."),
        # no training, so that a sentence about every training needs no mark
        {**make_result("London", 1), "training_command": None},
    )
    section = sections(markdown_of(tmp_path))["Development"]
    marks = [row["name"].partition(")")[2].strip() for row in first_table(section)]
    assert marks == ["", "¹", "¹ ²", ""]
    assert section.endswith("The machine was busy. ¹ Half of the lines. ² Stopped early.\n")


def test_results_do_not_depend_on_the_names_of_their_files(tmp_path):
    results = [make_result("a", correct, finetuning_seed=7) for correct in (1, 2, 3)]
    one, other = tmp_path / "one", tmp_path / "other"
    write_results(one, *results)
    write_results(other, *reversed(results))
    links = re.compile(r"\d\.json")
    assert links.sub("", markdown_of(one)) == links.sub("", markdown_of(other))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"table": None}, "0.json: 'table' is missing"),
        ({"table": ""}, "0.json: 'table' is missing"),
        ({"accuracy": None}, "0.json: 'accuracy' is missing"),
        ({"accuracy": 50.0}, "'accuracy' must be a ratio between 0 and 1, not 50.0"),
        ({"accuracy": "0.5"}, "'accuracy' must be a number, not '0.5'"),
        ({"accuracy": 0.75}, "'accuracy' 0.75 is not 'correct' 2 of 'total' 4"),
        ({"seconds": True}, "'seconds' must be a number, not True"),
        ({"pretraining_seed": "0"}, "'pretraining_seed' must be a number, not '0'"),
        ({"order": "first"}, "'order' must be a number"),
        ({"versions": "torch 2.13"}, "'versions' must be of type dict"),
        ({"table": "other"}, "0.json: .*tables.yaml does not describe its table 'other'"),
    ],
)
def test_a_file_that_is_no_result_is_an_error_that_names_it(tmp_path, changes, message):
    write_results(tmp_path, make_result("a", 2, **changes))
    with pytest.raises(ValueError, match=message):
        load_tables(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"title": "Development"}, "the table 'dev' has no title or no question"),
        ({**DEV, "reference": "nobody"}, "reference 'nobody' is the name of 0 rows"),
    ],
)
def test_a_table_that_is_badly_described_is_an_error(tmp_path, table, message):
    write_results(tmp_path, make_result("a", 2), tables={"dev": table})
    with pytest.raises(ValueError, match=message):
        load_tables(tmp_path, tmp_path)


def test_a_folder_without_results_or_tables_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no result"):
        load_tables(tmp_path, tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        load_tables(tmp_path / "missing", tmp_path)
    save_json(tmp_path / "0.json", make_result("a", 2))
    with pytest.raises(ValueError, match=r"tables\.yaml: there is no such file"):
        load_tables(tmp_path, tmp_path)


def texts(svg):
    """The words and numbers of an SVG in their order."""
    return re.findall(r"<text[^>]*>(.*?)</text>", svg, flags=re.DOTALL)


def test_the_plot_has_a_point_for_each_trained_row_and_names_the_labelled_ones(tmp_path):
    described = {"dev": {**DEV, "plotted": True, "labelled": ["a", "b"]}, "test": {"title": "Test", "question": "?"}}
    results = [make_result("a", 1), make_result("b", 2, flops=1e13), make_result("c", 3)]
    results += [make_result("London", 1, flops=None), make_result("d", 3, table="test")]
    svg = accuracy_plot(load_tables(write_results(tmp_path, *results, tables=described), tmp_path))
    assert {"a: 25.0", "b: 50.0", "Development"} <= set(texts(svg)) and "Test" not in svg
    points = re.search(r'<g id="PathCollection_1">(.*?)</g>\s*</g>', svg, flags=re.DOTALL)[1].count("<use")
    assert points == 3


def test_the_command_writes_the_same_files_every_time(tmp_path):
    tables = {"dev": {**DEV, "plotted": True, "labelled": ["a"]}}
    results = write_results(tmp_path / "results", make_result("a", 4), tables=tables)
    files = [tmp_path / "RESULTS.md", results / "accuracy.svg"]
    main([str(results), str(files[0])])
    first = [file.read_bytes() for file in files]
    main([str(results), str(files[0])])
    assert [file.read_bytes() for file in files] == first
    assert b"(results/0.json)" in first[0] and b"(results/accuracy.svg)" in first[0]


def test_the_command_tells_what_is_wrong_in_one_line_and_writes_nothing(tmp_path, capsys):
    (tmp_path / "results").mkdir()
    write_results(tmp_path / "results", make_result("a", 1))
    (tmp_path / "results" / "broken.json").write_text('{"name": ')
    with pytest.raises(SystemExit) as exit:
        main([str(tmp_path / "results"), str(tmp_path / "RESULTS.md")])
    assert exit.value.code == 2
    assert "broken.json is damaged: it is not JSON" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "RESULTS.md").exists() and not (tmp_path / "results" / "accuracy.svg").exists()


@pytest.fixture(scope="module")
def published_tables():
    return load_tables(REPOSITORY / "results", REPOSITORY)


def test_the_published_results_are_those_of_the_result_files(published_tables):
    published = (REPOSITORY / "RESULTS.md").read_text(encoding="utf-8")
    assert published == results_markdown(published_tables, "results/accuracy.svg")


def test_the_published_results_are_short_and_without_commands():
    published = (REPOSITORY / "RESULTS.md").read_text(encoding="utf-8")
    assert len(published.encode("utf-8")) <= 10 * 1024
    assert "--" not in re.sub(r"-{3,}:?", "", published)
    for link in re.findall(r"\]\((.*?)\)", published):
        assert (REPOSITORY / link).is_file()


def test_the_published_plot_is_that_of_the_result_files(published_tables):
    published = (REPOSITORY / "results" / "accuracy.svg").read_text(encoding="utf-8")
    assert texts(published) == texts(accuracy_plot(published_tables))
    labels = [name for table in published_tables for name in table.get("labelled", ())]
    assert len(labels) == sum(text.rpartition(": ")[0] in labels for text in texts(published))


def seeds_of(command):
    """The kind of a training command, and its seed."""
    words = shlex.split(command)
    # `python scripts/pretrain.py …` or `birthgpt pretrain …`
    kind = {"pretrain": "pretraining", "finetune": "finetuning"}[Path(words[1]).stem]
    return kind, int(words[words.index("--seed") + 1]) if "--seed" in words else 0


@pytest.mark.parametrize("path", RESULT_FILES, ids=lambda path: path.stem)
def test_the_seeds_of_a_published_result_are_those_of_its_commands(path):
    result = json.loads(path.read_text(encoding="utf-8"))
    commands = [seeds_of(command) for command in result.get("training_command") or []]
    # an ensemble has several runs of a kind, so no one seed; a baseline has none
    expected = dict(commands) if len(dict(commands)) == len(commands) else {}
    assert {
        kind: result[f"{kind}_seed"] for kind in ("pretraining", "finetuning") if f"{kind}_seed" in result
    } == expected
    assert "seed" not in result


OUTSIDE_FIGURES = {
    "40.4": "the best public model, by its published predictions",
    "95.8": "how often the line of a person contains the place, counted in wiki.txt and birth_dev.tsv",
}
_UNITS = r"\w|\.\d| ?(?:×|points?|times|minutes?|hours?|seconds?|ms|s|[KMGT]B)\b"


def quoted_percentages(markdown):
    """Accuracies with one decimal, each with its deviation or None.

    These are the numbers in sentences that contain a percent sign, so that `83.4%, Performer 86.4` is two, and in
    table columns whose heading has one. Code and numbers with a unit of their own are left out.
    """
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", markdown, flags=re.DOTALL | re.MULTILINE)
    tables = "\n".join(line for line in prose.splitlines() if line.startswith("|"))
    prose = " ".join("" if line.startswith("|") else line or "\0" for line in prose.splitlines())
    told = [text for text in re.split(r"(?<=[.:!?])\s|\0", prose) if re.search(r"\d\s?%", text)]
    number = rf"(?<![\w.≥~])(\d+\.\d)(?:\s*±\s*(\d+\.\d))?(?!{_UNITS})"
    found = [match for text in told for match in re.findall(number, text)]
    return {(accuracy, deviation or None) for accuracy, deviation in found + _cells_in_percent(tables)}


def _cells_in_percent(tables):
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in tables.splitlines()]
    found, headings = [], []
    for row, following in zip(rows, [*rows[1:], []], strict=True):
        if following and all(re.fullmatch(":?-+:?", cell) for cell in following):
            headings = row
        for heading, cell in zip(headings, row, strict=False):
            if "%" in heading and (match := re.match(r"\**(\d+\.\d)(?:\s*±\s*(\d+\.\d))?(?![\w.])", cell)):
                found.append(match.groups(default=""))
    return found


def test_quoted_percentages_are_found_in_sentences_and_tables():
    text = """
It answers **84.2 ± 1.6%** with
14.7M parameters in 4.4 minutes, 85.0% and 81.9 ± 2.5%. Torch 2.13 and 3.5 do.
- softmax 83.4%, a gain of 3.0 points, Performer 86.4.

A rate of 0.3 is no percentage: 99.9.

```
97.5%
```

| name | accuracy (%) | minutes |
|---|---:|---:|
| a | 61.4 | 3.2 |
| b | 7.0 ± 0.5 | 1.0 |
"""
    assert quoted_percentages(text) == {
        *[("84.2", "1.6"), ("85.0", None), ("81.9", "2.5"), ("83.4", None), ("86.4", None)],
        *[("61.4", None), ("7.0", "0.5")],
    }


def accuracies_on_relations():
    """The accuracies over all relations in benchmarks/relations_*.json and benchmarks/relations/results."""
    files = (REPOSITORY / "benchmarks").glob("relations_*.json")
    calls = [call for file in files for call in json.loads(file.read_text(encoding="utf-8"))["calls"]]
    runs = [run for call in calls for run in call["runs"].values()]
    accuracies = [part["all"] for run in runs for part in run.values() if isinstance(part, dict)]
    for file in (REPOSITORY / "benchmarks" / "relations" / "results").glob("*.json"):
        cases = json.loads(file.read_text(encoding="utf-8"))["cases"].values()
        measured = [run[part]["all"] for found in cases for run in found for part in ("accuracy", "new_wordings")]
        accuracies += [float(f"{value:.1f}") for value in measured]
    return accuracies


def test_the_accuracies_that_the_readme_quotes_are_published_results(published_tables):
    rows = [row for table in published_tables for row in (*table["rows"], *table["results"])]
    published = {(percent(row["accuracy"]), None) for row in rows}
    published |= {(percent(row["accuracy"]), percent(row["deviation"])) for row in rows if "deviation" in row}
    published |= {(str(accuracy), None) for accuracy in accuracies_on_relations()}
    quoted = quoted_percentages((REPOSITORY / "README.md").read_text(encoding="utf-8"))
    assert quoted, "README quotes no accuracy at all"
    assert {quote for quote in quoted if quote[0] not in OUTSIDE_FIGURES} <= published
