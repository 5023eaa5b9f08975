"""Every experiment runs in its small form, and what is published is complete and follows from its curves."""

import json
import re

import pytest

from exploration import __main__ as runner
from exploration import experiment, figures, page


@pytest.fixture(scope="module", params=runner.EXPERIMENTS)
def small(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    runner.main([request.param, "--small", "--output_dir", str(folder)])
    return request.param, folder


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_small_form_writes_a_figure_and_a_record_that_says_how_it_was_made(small):
    name, folder = small
    record = read(folder / f"{name}.json")
    assert (record["name"], record["scale"]) == (name, "small")
    assert all(record[key] for key in ("sizes", "curves", "hardware", "date", "versions"))
    assert record["command"] == f"python -m exploration {name} --small"
    figure = (folder / f"{name}.svg").read_bytes()
    assert figure.startswith(b"<?xml") and len(figure) < figures.LARGEST_FIGURE


def test_figure_and_verdict_are_those_of_the_record(small, tmp_path):
    name, folder = small
    found, record = runner.find_experiment(name), read(folder / f"{name}.json")
    figures.save_figure(tmp_path / "again.svg", found.draw, record["curves"])
    assert (tmp_path / "again.svg").read_bytes() == (folder / f"{name}.svg").read_bytes()
    assert experiment.asdict(found.judge(record["curves"])) == record["verdict"]


@pytest.mark.parametrize("name", runner.EXPERIMENTS)
def test_an_experiment_says_what_is_claimed_what_is_done_and_how_it_is_judged(name):
    words = [paragraph.partition(":")[0] for paragraph in runner.find_experiment(name).paragraphs]
    assert [word.partition(",")[0] for word in words] == ["Claim", "Set-up", "Rule"]


@pytest.mark.parametrize("name", runner.EXPERIMENTS)
def test_a_published_result_is_complete_and_its_verdict_follows_from_its_curves(name):
    record, found = read(runner.RESULTS / f"{name}.json"), runner.find_experiment(name)
    assert (record["name"], record["scale"], record["command"]) == (name, "full", f"python -m exploration {name}")
    assert record["sizes"] == json.loads(json.dumps(found.sizes_of("full")))
    assert record["hardware"] and record["date"] and record["versions"]
    assert experiment.asdict(found.judge(record["curves"])) == record["verdict"]
    assert (runner.RESULTS / f"{name}.svg").stat().st_size < figures.LARGEST_FIGURE


def test_the_page_is_that_of_the_records_and_its_links_to_sections_lead_somewhere():
    text = page.PAGE.read_text(encoding="utf-8")
    assert text == page.page()
    headings = {page.anchor(line.removeprefix("## ")) for line in text.splitlines() if line.startswith("## ")}
    assert set(re.findall(r"\]\(#([^)]*)\)", text)) == headings


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["copy"], "'copy' is no experiment: choose from copying"),
        ([], "give names of experiments, or --all"),
        (["copying", "--all"], "give names of experiments, or --all"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit):
        runner.main(arguments)
    assert message in capsys.readouterr().err
