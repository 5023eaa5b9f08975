"""The speedrun: what counts as the goal, and what the reference of others learns from."""

import json
from pathlib import Path

import numpy as np
import pytest
from builders import read_lines

from benchmarks import speedrun
from benchmarks.gpt2_with_trainer import Examples
from benchmarks.lab import to_arguments
from birthgpt.commands.finetune import FinetuneSettings
from birthgpt.commands.pretrain import PretrainSettings
from birthgpt.data.objectives import IGNORE, QuestionAnswering
from birthgpt.data.questions import load_questions
from birthgpt.settings import parse_settings


def test_the_best_evaluation_of_finetuning_counts_since_its_weights_are_kept(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text("step 0: train_accuracy 0.9, held_out_accuracy 0.520\rstep 5: held_out_accuracy 0.815\n"
                   "step 10: held_out_accuracy 0.790\n")  # fmt: skip
    assert speedrun.best_accuracy(log) == 0.815


def run(seconds, held_out):
    return {"seconds": seconds, "held_out_accuracy": held_out, "dev_accuracy": 0.81}


def test_an_entry_reaches_the_goal_only_if_every_seed_does():
    entries = {"recipe": [run(400, 0.8), run(420, 0.83)], "half_budget": [run(100, 0.79), run(105, 0.85)]}
    first, second = speedrun.rows_of(entries)
    assert (first["ratio"], first["reached"], first["dev (%)"]) == ("1.00", "yes", "81.0 ± 0.0")
    assert (second["ratio"], second["reached"], second["held out (%)"]) == ("0.25", "no", "79.0 85.0")


def test_the_record_is_the_fastest_entry_that_reaches_the_goal_with_three_seeds():
    entries = {
        "recipe": [run(400, 0.85)] * 3,
        "half_budget": [run(200, 0.8)] * 3,
        "small_batches": [run(100, 0.79)] * 3,
    }
    assert speedrun.record(entries) == "half_budget"
    assert speedrun.record(entries | {"one_layer": [run(50, 0.9)] * 2}) == "half_budget"
    assert speedrun.record({"recipe": [run(400, 0.7)] * 3}) is None


def test_the_page_shows_the_calls_apart_and_the_latest_first():
    def call(date, entries):
        facts = {"hardware": "2 cores", "threads": None, "command": "python -m benchmarks.speedrun recipe"}
        return facts | {"date": date, "entries": entries}

    calls = [call("2026-01-01", {"recipe": [run(400, 0.7)] * 3}), call("2026-02-01", {"recipe": [run(9, 0.9)] * 3})]
    text = speedrun.page(calls)
    assert text.index("## 2026-02-01: the record is `recipe`") < text.index("## 2026-01-01: no record")


def test_the_committed_page_shows_the_committed_calls():
    calls = json.loads(Path(speedrun.__file__).with_suffix(".json").read_text(encoding="utf-8"))["calls"]
    page = Path(speedrun.__file__).parents[1] / "docs" / "speedrun.md"
    assert speedrun.page(calls) == page.read_text(encoding="utf-8")


def test_a_page_is_of_the_calls_of_a_file(tmp_path, capsys):
    with pytest.raises(SystemExit):
        speedrun.main(["recipe", "--data_dir", str(tmp_path), "--page_file", str(tmp_path / "page.md")])
    assert "give --output_file too" in capsys.readouterr().err


def test_the_reference_may_have_fewer_seeds(tmp_path, monkeypatch):
    def run_entry(name, data, folder, seed):
        measured.append((name, seed))
        return run(100, 0.8)

    measured = []
    monkeypatch.setattr(speedrun, "run_entry", run_entry)
    arguments = ["recipe", "one_layer", "--data_dir", str(tmp_path), "--runs_dir", str(tmp_path / "runs")]
    speedrun.main([*arguments, "--reference_seeds", "1"])
    assert measured == [("recipe", 0), ("one_layer", 0), ("one_layer", 1), ("one_layer", 2)]


def test_every_entry_has_settings_that_exist(tmp_path):
    for entry in speedrun.ENTRIES.values():
        # a setting that does not exist is refused
        parse_settings(
            PretrainSettings, to_arguments({"config": "wiki/pretrain", "train_file": tmp_path} | entry.pretraining)
        )
        parse_settings(FinetuneSettings, to_arguments({"config": "wiki/finetune"} | entry.finetuning))


def test_gpt2_is_given_the_targets_where_its_own_shift_expects_them(tmp_path, characters):
    path = tmp_path / "questions.tsv"
    path.write_text("Where was Ada Byron born?\tLondon\n", encoding="utf-8")
    assert len(read_lines(path)) == 1
    examples = Examples(load_questions(str(path)), QuestionAnswering(characters, 128), seed=0)
    example = examples[0]
    inputs, labels = np.array(example["input_ids"]), np.array(example["labels"])
    assert characters.decode(inputs) == "Where was Ada Byron born?⁇London␃"
    assert (labels[labels != IGNORE] == inputs[labels != IGNORE]).all()
    assert characters.decode(labels[labels != IGNORE]) == "⁇London␃"
