"""The comparison of cases with many relations: what a run writes, and the page that is made of it."""

import dataclasses

import pytest

from benchmarks.lab import Lab, read_questions
from benchmarks.relations import __main__ as runner
from benchmarks.relations import cases, page
from birthgpt.commands.building import ModelSettings, build_model
from birthgpt.data.tokenizers import train_character_tokenizer
from birthgpt.model.attention_types import ATTENTION_TYPES
from birthgpt.settings import make_settings, read_config
from birthgpt.utils.files import read_json, save_json


def run(tmp_path, *arguments):
    output = tmp_path / "results.json"
    runner.main([*arguments, "--scale", "tiny", "--runs_dir", str(tmp_path / "runs"), "--output_file", str(output)])
    return read_json(output)["cases"]


def test_every_attention_type_is_a_case_and_has_branches_if_it_supports_them():
    for name, kind in ATTENTION_TYPES.items():
        pretraining = cases.CASES[name].pretraining
        assert name == "softmax" or pretraining["attention_type"] == name
        assert (pretraining.get("objective_layout") == "unrolled") is not kind.supports_branches


@pytest.mark.parametrize("name", [*cases.CASES, *cases.WIKI_CASES])
def test_every_case_has_what_its_model_needs(name):
    case = (cases.CASES | cases.WIKI_CASES)[name]
    known = {field.name for field in dataclasses.fields(ModelSettings)}
    given = {**read_config(case.config), **case.pretraining}
    settings = make_settings(ModelSettings, **{key: value for key, value in given.items() if key in known})
    model = build_model(settings, train_character_tokenizer(["Ada was born in Delft."], 64), 64)
    assert set(model.config.attention_types) == {case.pretraining.get("attention_type", "softmax")}


@pytest.mark.slow
def test_a_run_writes_accuracies_by_relation_and_the_commands_and_keeps_the_cases_of_an_earlier_run(tmp_path):
    run(tmp_path, "softmax")
    results = run(tmp_path, "perceiver", "--seeds", "0")
    assert list(results) == ["softmax", "perceiver"]
    for (measured,) in results.values():
        assert measured["seed"] == 0 and measured["training_seconds"] > 0 and measured["hardware"]
        assert [command.split()[1] for command in measured["birthgpt_commands"]] == [
            "people", "pretrain", "finetune", "evaluate", "evaluate", "evaluate",
        ]  # fmt: skip
        # so small a model has no right answer
        assert measured["confidence"] == {}
        for part in cases.PARTS:
            assert set(measured[part]) == {"all", *cases.EIGHT}
            assert all(0 <= value <= 100 for value in measured[part].values())


def eight_questions(lab):
    rows = [
        {"question": f"Where was {name} born?", "answer": "Delft", "name": name, "relation": "birthplace"}
        for name in (f"Ada {letter}." for letter in "ABCDEFGH")
    ]
    return lab.write_questions("dev", rows)


@pytest.mark.parametrize("answers", [["Delft"] * 8, ["Paris"] * 8, ["Delft"] * 7 + ["Paris"]])
def test_a_model_with_hardly_a_wrong_or_no_right_answer_has_no_confidence(answers, tmp_path, monkeypatch):
    lab = Lab(tmp_path, seed=0)
    questions = eight_questions(lab)
    monkeypatch.setattr(lab, "answers", lambda model, file: answers)
    monkeypatch.setattr(lab, "run", None)
    assert cases.confidence(lab, cases.SCALES["tiny"], tmp_path / "model", tmp_path / "lines.txt", questions) == {}


def test_confidence_is_calibrated_on_half_of_the_people_and_measured_on_the_others(tmp_path, monkeypatch):
    """With a lab that runs nothing: half of the answers are right."""
    lab = Lab(tmp_path, seed=0)
    questions = eight_questions(lab)
    ran = []

    def run(command, name, **settings):
        ran.append((command, read_questions(settings["question_file"])))
        save_json(tmp_path / "metrics.json", {"confidence": {"auroc_right_wrong": {"value": 0.9}, "recalled": None}})
        return tmp_path

    monkeypatch.setattr(cases, "FEWEST_WRONG", 1)
    monkeypatch.setattr(lab, "answers", lambda model, file: ["Delft", "Paris"] * 4)
    monkeypatch.setattr(lab, "run", run)
    measured = cases.confidence(lab, cases.SCALES["tiny"], tmp_path / "model", tmp_path / "lines.txt", questions)
    assert measured == {"auroc_right_wrong": 0.9, "recalled": None}
    assert [command for command, _ in ran] == ["calibrate", "evaluate"]
    people = [{row["name"] for row in asked} for _, asked in ran]
    assert len(people[0]) == len(people[1]) == 4 and not people[0] & people[1]


@pytest.mark.slow
def test_nobody_of_the_development_and_test_questions_is_trained_on(tmp_path):
    names = [f"{first} {last}" for first in ("Ada", "Bob", "Cleo", "Dora") for last in ("Byron", "Clark", "Drew")]
    lines = [f"{name}. {name} (born 3 May 19{20 + row}) is a Dutch painter ." for row, name in enumerate(names)]
    (tmp_path / "wiki.txt").write_text("\n".join(lines * 2) + "\n", encoding="utf-8")
    questions = [f"Where was {name} born?" for name in names]
    for file, rows in (("birth_places_train", questions[:9]), ("birth_dev", questions[8:10])):
        text = "".join(f"{question}\tDelft\n" for question in rows)
        (tmp_path / f"{file}.tsv").write_text(text, encoding="utf-8")
    (tmp_path / "birth_test_inputs.tsv").write_text("\n".join(questions[10:]) + "\n", encoding="utf-8")
    (measured,) = run(tmp_path, "wiki", "--wiki_folder", str(tmp_path))["wiki"]
    folder = tmp_path / "runs" / "tiny_0" / "questions"
    files = [folder / "wiki_train.jsonl", folder / "wiki_dev.jsonl"]
    trained, asked = ({row["name"] for row in read_questions(file)} for file in files)
    # the extraction holds out some of the people who are in neither file
    assert trained and asked - set(names[8:])
    assert not trained & (asked | set(names[8:]))
    assert {"all", "birthplace", "birth_year"} <= set(measured["accuracy"])


def test_the_case_on_wiki_needs_its_folder():
    with pytest.raises(ValueError, match="wiki needs --wiki_folder"):
        cases.find_measure("wiki", None)


def test_the_page_is_current():
    assert page.PAGE.read_text(encoding="utf-8") == page.page()


def test_a_cell_has_the_mean_and_the_deviation_of_the_seeds():
    runs = [{"accuracy": {"all": 80.0}}, {"accuracy": {"all": 90.0}}]
    assert page.cell(runs, "accuracy", "all") == "85.0 ± 7.1"
    assert page.cell(runs[:1], "accuracy", "all") == "80.0" and page.cell(runs, "accuracy", "spouse") == "–"


def test_the_page_says_what_is_noted_about_a_run():
    runs = [{"seed": 0, "note": "beside two other runs"}, {"seed": 1}]
    assert page.notes({"wiki": runs, "softmax": [{"seed": 0}]}) == [f"{page.title_of('wiki')}: beside two other runs."]
