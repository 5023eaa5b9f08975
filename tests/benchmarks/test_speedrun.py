"""The speedrun: what counts as the goal, and what the reference of others learns from."""

import numpy as np
from builders import read_lines

from benchmarks import speedrun
from benchmarks.gpt2_with_trainer import Examples
from benchmarks.lab import to_arguments
from birthgpt.commands.pretrain import PretrainSettings
from birthgpt.data.objectives import IGNORE, QuestionAnswering
from birthgpt.data.questions import load_questions
from birthgpt.settings import parse_settings


def test_the_best_evaluation_of_finetuning_counts_since_its_weights_are_kept(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text("step 0: train_accuracy 0.9, held_out_accuracy 0.520\rstep 5: held_out_accuracy 0.815\n"
                   "step 10: held_out_accuracy 0.790\n")  # fmt: skip
    assert speedrun.best_accuracy(log) == 0.815


def test_an_entry_reaches_the_goal_only_if_every_seed_does():
    def run(seconds, held_out):
        return {"seconds": seconds, "held_out_accuracy": held_out, "dev_accuracy": 0.81}

    text = speedrun.table({"recipe": [run(400, 0.8), run(420, 0.83)], "faster": [run(100, 0.79), run(105, 0.85)]})
    first, second = text.splitlines()[2:]
    assert "1.00" in first and "yes" in first and "81.0 ± 0.0" in first
    assert "0.25" in second and "no" in second


def test_every_entry_is_a_config_with_settings_that_exist():
    for settings in speedrun.ENTRIES.values():
        assert settings["config"] == "wiki/pretrain"
        # a setting that does not exist is refused
        parse_settings(PretrainSettings, to_arguments(settings))


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
