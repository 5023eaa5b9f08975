"""The experiments on what is known: they run, their groups are what they say, the page shows their figures."""

import json
import random
from collections import Counter

import pytest
from scipy.stats import binomtest

from benchmarks.knowledge import __main__ as runner
from benchmarks.knowledge import exposures, origins, page, people, unread_names
from birthgpt.utils.files import read_json
from birthgpt.utils.strict_yaml import load_yaml

SMALL = people.SCALES["small"]


@pytest.mark.slow
def test_a_tiny_run_measures_every_part_once(tmp_path, monkeypatch):
    output = tmp_path / "results.json"
    arguments = ["--scale", "tiny", "--runs_dir", str(tmp_path / "runs"), "--output_file", str(output)]
    runner.main(arguments)
    results = json.loads(output.read_text(encoding="utf-8"))
    assert list(results["parts"]) == list(runner.PARTS)
    for part in results["parts"].values():
        assert all(part[key] for key in ("command", "hardware", "date", "versions", "birthgpt_commands"))
    findings = dict.fromkeys(runner.PARTS, "Nothing.")
    assert page.page(results, findings).count("**Found.** Nothing.") == 3
    monkeypatch.setattr(runner, "import_module", None)
    runner.main(arguments)
    with pytest.raises(ValueError, match="seed is 0, not 1: give another output_file"):
        runner.main([*arguments, "--seed", "1"])


def test_who_is_left_out_of_one_corpus_is_read_most_in_the_other():
    asked, taught = exposures.population(SMALL, seed=0)
    first, second = (exposures.copies_of(asked, taught, mirrored) for mirrored in (False, True))
    assert len({person.name for person in first}) == len(first) == SMALL.asked + SMALL.taught
    assert Counter(first[person] for person in asked) == dict.fromkeys(exposures.COPIES, SMALL.asked // 6)
    pairs = {(first[person], second[person]) for person in asked}
    assert pairs == set(zip(exposures.COPIES, exposures.COPIES[::-1], strict=True))
    # everybody whose question is taught has a line, and the same in both
    assert all(first[person] == second[person] > 0 for person in taught)


def test_a_corpus_has_each_line_as_often_as_it_says(tmp_path):
    asked, _ = exposures.population(SMALL, seed=0)
    copies = {asked[0]: 3, asked[1]: 0, asked[2]: 1}
    lines = people.write_lines(tmp_path / "lines.txt", copies).read_text(encoding="utf-8").splitlines()
    assert Counter(lines) == {asked[0].line: 3, asked[2].line: 1}


@pytest.mark.parametrize("share", origins.SHARES)
def test_the_share_of_an_origin_is_the_one_that_was_put_in(share):
    known = origins.load_origins()
    names = [name for own in known.values() for key in ("given", "family") for name in own[key]]
    assert len(names) == len(set(names))
    for origin, own in known.items():
        found, others = origins.people_of(origin, known, share, SMALL.of_origin, seed=0)
        of_origin = sum(person.place in own["places"] for person in found) / len(found)
        assert of_origin == pytest.approx(share + (1 - share) / 4, abs=0.06)
        read = {person.name for person in found}
        assert len(read) == SMALL.of_origin and not read & set(others)
        # the last names of the lists are in no line
        parts = {part for name in [*read, *others] for part in name.split(" ", 1)}
        assert not parts & {*own["given"][-origins.NEW :], *own["family"][-origins.NEW :]}
        # the names are the same for every share
        assert read == {person.name for person in origins.people_of(origin, known, 0.0, SMALL.of_origin, seed=0)[0]}


def test_common_places_are_counted_from_the_most_common():
    ranked = people.most_common(["a", "b", "b", "c", "c", "c", "d", "e", "f"])
    assert ranked[:3] == ["c", "b", "a"]
    found = unread_names.common_shares(["c", "c", "b", "f", "nowhere"], ranked)
    assert found == {"top_1": 0.4, "top_5": 0.6, "a_place": 0.8}


def test_intervals_are_those_of_scipy():
    for count in (1, 7, 40):
        correct = random.Random(count).randint(0, count)
        expected = binomtest(correct, count).proportion_ci(method="wilson")
        assert page.wilson(correct / count, count) == pytest.approx((expected.low, expected.high), abs=1e-4)


def test_the_page_shows_the_results():
    text = page.page(read_json(page.RESULTS), load_yaml(page.FINDINGS.read_text(encoding="utf-8")))
    assert page.PAGE.read_text(encoding="utf-8") == text
