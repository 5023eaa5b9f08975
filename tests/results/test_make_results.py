"""RESULTS.md is made from the JSON files of results/ alone."""

import json
import re
from pathlib import Path
from statistics import mean, stdev

import pytest
from make_results import main, results_markdown

from birthgpt.evaluation.metrics import compute_metrics
from birthgpt.utils.files import save_json

QUESTIONS = [
    {"question": f"Where was {name} born?", "answer": answer, "name": name}
    for name, answer in (("Ada", "Rome"), ("Bob", "Oslo"), ("Cid", "Bern"), ("Dan", "Rome"))
]
REPOSITORY = Path(__file__).parents[2]


def make_result(name, predictions, **values):
    lines_by_name = {"Ada": "Ada. Rome", "Bob": "Bob. " + "x" * 30 + "Oslo"}
    return {
        **compute_metrics(QUESTIONS, predictions, ["Rome"], lines_by_name),
        "name": name,
        "table": "dev",
        "parameters": 3_323_392,
        "tokens": 13_600_000,
        "flops": 2.1e14,
        "seconds": 1350.0,
        "tokens_per_second": 10_074.4,
        "target_ratio": 0.853,
        "seed": 7,
        "command": f"python scripts/pretrain.py configs/{name}.yaml",
        "hardware": "2 CPU cores",
        "date": "2026-01-02",
        "versions": {"torch": "2.13.0"},
        **values,
    }


def write_results(folder, *results):
    for number, result in enumerate(results):
        save_json(folder / f"{number}.json", result)
    return folder


def sections(markdown):
    """The text of each section by its heading."""
    parts = re.split(r"^## (.*)$", markdown, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def first_cells(section):
    """The names in the first table of a section."""
    rows = section.strip().split("\n\n")[0].splitlines()[2:]
    return [row.split("|")[1].strip() for row in rows]


def test_results_show_rows_then_commands_then_slices_of_the_best(tmp_path):
    markdown = results_markdown(
        write_results(
            tmp_path,
            make_result("worse", ["Rome", "x", "x", "x"]),
            make_result("better", ["Rome", "Oslo", "x", "x"], note="Half the lines."),
        )
    )
    section = sections(markdown)["dev"]
    assert "| better | 50.0 | – | 4 | 3.3M | 13.6M | 85.3 | 2.1e14 | 22.5 | 10,074 | 7 |" in section
    assert (
        "- **better** (seed 7): `python scripts/pretrain.py configs/better.yaml`. "
        "2 CPU cores; 2026-01-02; torch 2.13.0. Half the lines."
    ) in section
    assert "Slices of **better**" in section and "Slices of **worse**" not in section
    assert "| 25-49 | 100.0 | 1 |" in section
    assert "| 125+ | – | 0 |" in section
    assert "| seen | 50.0 | 2 |" in section
    assert section.index("| worse") < section.index("- **better**") < section.index("Slices of")


def test_all_of_several_best_rows_show_their_slices(tmp_path):
    right = ["Rome", "Oslo", "Bern", "Rome"]
    write_results(tmp_path, make_result("one", right), make_result("two", right), make_result("three", ["x"] * 4))
    shown = re.findall(r"Slices of \*\*(\w+)\*\*", results_markdown(tmp_path))
    assert shown == ["one", "two"]


def test_rows_come_by_order_then_name_and_tables_by_their_first_row(tmp_path):
    wrong = ["x"] * 4
    write_results(
        tmp_path,
        make_result("z", wrong),
        make_result("c", wrong, order=2),
        make_result("a", wrong),
        make_result("d", wrong, order=1),
        make_result("e", wrong, table="ablations"),
        make_result("f", wrong, table="test", order=0),
    )
    by_table = sections(results_markdown(tmp_path))
    assert list(by_table) == ["test", "dev", "ablations"]
    assert first_cells(by_table["dev"]) == ["d", "c", "a", "z"]


def test_the_seeds_of_one_run_are_a_row_of_means_with_the_deviation(tmp_path):
    quarter, half, three = ["Rome", "x", "x", "x"], ["Rome", "Oslo", "x", "x"], ["Rome", "Oslo", "Bern", "x"]
    runs = [make_result("a", said, seed=seed) for seed, said in ((0, quarter), (1, half), (4, three))]
    write_results(tmp_path, *runs, make_result("b", half, seed=0), make_result("b", quarter, seed=0))
    section = sections(results_markdown(tmp_path))["dev"]
    table = section.strip().split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table]
    # the standard deviation of 25, 50 and 75 is 25
    assert (cells[0][:3], cells[0][-1]) == (["a", "50.0", "25.0"], "0, 1, 4")
    # the same seed twice is no sample
    assert sorted(row[:3] for row in cells[1:]) == [["b", "25.0", "–"], ["b", "50.0", "–"]]
    # each has its command
    assert section.count("- **a** (seed") == 3


def test_results_do_not_depend_on_the_names_of_their_files(tmp_path):
    results = [make_result("a", ["Rome"] * 4, seed=seed) for seed in (1, 2, 3)]
    one, other = tmp_path / "one", tmp_path / "other" / "deeper"
    write_results(one, *results)
    write_results(other, *reversed(results))
    assert results_markdown(one) == results_markdown(other.parent)


def test_a_result_of_name_and_table_alone_is_a_row_of_dashes(tmp_path):
    write_results(tmp_path, {"name": "planned", "table": "dev"})
    section = sections(results_markdown(tmp_path))["dev"]
    assert "| planned |" + " – |" * 9 in section
    assert "- **planned**: –. –." in section


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"table": None}, "0.json: 'table' is missing"),
        ({"table": ""}, "0.json: 'table' is missing"),
        ({"accuracy": 50.0}, "'accuracy' is a ratio between 0 and 1, not 50.0"),
        ({"accuracy": "0.5"}, "'accuracy' is a number, not '0.5'"),
        ({"accuracy": 0.75}, "'accuracy' 0.75 is not 'correct' 2 of 'total' 4"),
        ({"seconds": True}, "'seconds' is a number, not True"),
        ({"order": "first"}, "'order' is a number"),
        ({"versions": "torch 2.13"}, "'versions' is of type dict"),
    ],
)
def test_a_file_that_is_no_result_is_an_error_that_names_it(tmp_path, changes, message):
    write_results(tmp_path, make_result("a", ["Rome", "Oslo", "x", "x"], **changes))
    with pytest.raises(ValueError, match=message):
        results_markdown(tmp_path)


def test_a_folder_without_results_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no result"):
        results_markdown(tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        results_markdown(tmp_path / "missing")


def test_the_command_writes_the_same_file_every_time(tmp_path):
    results = write_results(tmp_path / "results", make_result("a", ["Rome"] * 4))
    output = tmp_path / "RESULTS.md"
    main([str(results), str(output)])
    first = output.read_bytes()
    main([str(results), str(output)])
    assert output.read_bytes() == first
    assert first.decode("utf-8") == results_markdown(results)


def test_the_command_tells_what_is_wrong_in_one_line_and_writes_nothing(tmp_path, capsys):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "broken.json").write_text('{"name": ')
    with pytest.raises(SystemExit) as exit:
        main([str(tmp_path / "results"), str(tmp_path / "RESULTS.md")])
    assert exit.value.code == 2
    assert "broken.json: this is not a file of metrics in JSON" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "RESULTS.md").exists()


@pytest.mark.skipif(not (REPOSITORY / "RESULTS.md").exists(), reason="no results are published yet")
def test_the_published_results_are_those_of_the_result_files():
    published = (REPOSITORY / "RESULTS.md").read_text(encoding="utf-8")
    assert published == results_markdown(REPOSITORY / "results")


def test_the_accuracies_that_the_readme_quotes_are_published_results():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    told = readme[readme.index("## Use it") : readme.index("## Where things are")]
    results = (REPOSITORY / "RESULTS.md").read_text(encoding="utf-8")
    published = set(re.findall(r"\| (\d+\.\d) \| (–|\d+\.\d) \|", results))
    folds = [json.loads(path.read_text())["accuracy"] * 100 for path in REPOSITORY.glob("results/wiki_fold_*.json")]
    published.add((f"{mean(folds):.1f}", f"{stdev(folds):.1f}"))
    # the best public model; how often a person's line holds the place
    not_measured_here = {"40.4", "95.8"}
    quoted = re.findall(r"(\d+\.\d)(?: ± (\d+\.\d))?(?=%|[ ,;])", told)
    accuracies = {(figure, deviation or "–") for figure, deviation in quoted if figure not in not_measured_here}
    assert len(accuracies) >= 5
    assert accuracies <= published
