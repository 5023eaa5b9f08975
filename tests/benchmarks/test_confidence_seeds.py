"""Confidence over seeds: who is trained on, calibrated on and measured on, and whose name no line has."""

import json
from pathlib import Path

import pytest

from benchmarks import confidence_seeds
from birthgpt.data.names import name_key, read_name
from birthgpt.data.synthetic import DEV

RESULTS = Path(confidence_seeds.__file__).with_suffix(".json")


@pytest.fixture
def parts(people_files, tmp_path):
    return confidence_seeds.parts_of(people_files, tmp_path)


def names_of(rows) -> set[str]:
    return {row["name"] for row in rows}


def test_nobody_is_in_two_roles_of_a_part(parts):
    for part in parts:
        roles = [names_of(part.train), names_of(part.calibration), names_of(part.measurement)]
        assert all(roles) and sum(map(len, roles)) == len(set.union(*roles)), part.name


def test_each_train_question_is_measured_in_one_fold(parts):
    folds = [part for part in parts if part.name.startswith("fold")]
    measured = [row["name"] for fold in folds for row in fold.measurement]
    assert len(folds) == confidence_seeds.FOLDS and len(measured) == len(set(measured))
    assert set(measured) == names_of(folds[0].train) | names_of(folds[0].calibration) | names_of(folds[0].measurement)


def test_names_left_out_are_in_no_line_and_the_others_are(parts):
    left_out = [part for part in parts if part.left_out]
    assert [part.name for part in left_out] == ["names left out", "synthetic people"]
    for part in left_out:
        named = {name_key(read_name(line)) for line in confidence_seeds.read_lines(part.corpus)}
        assert not named & {name_key(name) for name in names_of(part.left_out)}
        assert {name_key(name) for name in names_of(part.measurement)} <= named


def test_a_part_without_half_of_the_development_people_asks_about_all_of_them(parts, people_files):
    (part,) = [part for part in parts if part.name == "names left out"]
    asked = names_of(part.left_out) | names_of(part.measurement)
    assert len(asked) == len(confidence_seeds.read_lines(people_files / DEV))


def test_unknown_names_are_told_apart_by_their_probability(tmp_path):
    for name, values in (("known", [0.1, 0.4]), ("unknown", [0.9, 0.3])):
        (tmp_path / name).mkdir()
        rows = "".join(json.dumps({"unknown": value}) + "\n" for value in values)
        (tmp_path / name / confidence_seeds.CONFIDENCE).write_text(rows)
    # of four pairs, the unknown name has the greater probability in three
    assert confidence_seeds.auroc_of_unknown(tmp_path / "known", tmp_path / "unknown") == 0.75


@pytest.mark.skipif(not RESULTS.exists(), reason="not measured")
def test_the_committed_page_shows_the_committed_results():
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert confidence_seeds.page(results) == RESULTS.with_suffix(".md").read_text(encoding="utf-8")


def test_a_table_has_the_mean_and_the_deviation_over_seeds_and_over_all_folds():
    measured = {
        "dev": [{"accuracy": 0.8}, {"accuracy": 0.9}],
        "fold 1": [{"accuracy": 0.7}, {"accuracy": 0.7}],
        "fold 2": [{"accuracy": 0.8}, {"accuracy": 0.8}],
    }
    row = confidence_seeds.rows_of(measured)[0]
    assert row == {"in percent": "accuracy", "dev": "85.0 ± 7.1", "folds": "75.0 ± 5.8"}
    assert confidence_seeds.rows_of(measured)[1]["dev"] == "–"
