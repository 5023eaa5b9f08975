"""Warm-up: the first epochs are about some people, the later ones about all, and a run can be resumed in between."""

import shutil

import pytest
import torch
from builders import LINES, NAMES, run_pretraining
from datasets import Dataset
from safetensors.torch import load_file

from birthgpt.data.batching import BatchSettings, EpochBatches, MixedBatches
from birthgpt.data.names import read_name
from birthgpt.data.objectives import NameFirst
from birthgpt.data.warmup import WarmupBatches, draw_people, rows_about
from birthgpt.training.epochs_ahead import EpochsAhead

PEOPLE = [f"Ada {number}" for number in range(200)]


def corpus(copies: int = 8) -> Dataset:
    count = len(LINES) * copies
    return Dataset.from_dict({"line_id": list(range(count)), "text": LINES * copies, "name": NAMES * copies})


def warmed_up(bpe) -> WarmupBatches:
    """Two epochs about half of the people, then all."""

    def planned(lines: Dataset, seed: int = 0) -> EpochBatches:
        settings = BatchSettings(tokens_per_batch=400)
        return EpochBatches(lines, NameFirst(bpe, 256), bpe.pad_token_id, settings, seed=seed)

    def mixed(lines: Dataset) -> MixedBatches:
        return MixedBatches(planned(lines), planned(lines, seed=1), question_ratio=0.3, seed=0)

    lines = corpus()
    people = draw_people(lines["name"], 0.5, seed=0)
    return WarmupBatches(mixed(rows_about(lines, people)), mixed(lines), epochs=2)


def lines_of_epoch(batches, epoch: int) -> set[int]:
    batches.set_epoch(epoch)
    return {line for index in range(len(batches)) for line in batches[index]["line_ids"].tolist()}


@pytest.mark.parametrize(("fraction", "count"), [(1, 200), (0.1, 20), (0.0001, 1)])
def test_a_fraction_of_the_people_is_drawn_one_at_least(fraction, count):
    drawn = draw_people([*PEOPLE, *PEOPLE, ""], fraction, seed=0)
    assert len(drawn) == count and drawn <= set(PEOPLE)
    # neither the order of the lines nor how often they name a person matters, but the seed does
    assert draw_people(PEOPLE[::-1], fraction, seed=0) == drawn
    assert fraction == 1 or draw_people(PEOPLE, fraction, seed=1) != drawn


def test_all_lines_and_questions_about_the_drawn_people_are_chosen_however_a_name_is_written():
    rows = Dataset.from_dict({"name": ["Ada", "Ada.", "Bob", ""]})
    assert rows_about(rows, {"Ada"})["name"][:] == ["Ada", "Ada."]


def test_no_name_is_an_error_for_people():
    with pytest.raises(ValueError, match="warmup_epochs: no line has a name"):
        draw_people(["", ""], 0.5, seed=0)


def test_the_first_epochs_have_every_line_of_the_first_people_and_no_other(bpe):
    batches = warmed_up(bpe)
    rows = corpus()
    people = draw_people(rows["name"], 0.5, seed=0)
    first = {row["line_id"] for row in rows if row["name"] in people}
    assert 0 < len(first) < len(rows)
    assert [lines_of_epoch(batches, epoch) == first for epoch in (0, 1, 2, 3, 0)] == [True, True, False, False, True]
    assert lines_of_epoch(batches, 2) == set(range(len(rows)))


@pytest.mark.parametrize("epochs", [1, 2, 5, 2.5])
def test_batches_are_counted_by_the_people_of_their_epoch(bpe, epochs):
    batches = warmed_up(bpe)
    first, following = len(batches.first), len(batches.following)
    assert batches.count(epochs) == min(epochs, 2) * first + max(epochs - 2, 0) * following
    assert first < following


def test_workers_draw_the_same_epochs(bpe):
    ahead, expected = EpochsAhead(warmed_up(bpe), num_workers=2), warmed_up(bpe)
    for epoch in range(4):
        ahead.set_epoch(epoch)
        expected.set_epoch(epoch)
        assert len(ahead) == len(expected) > 1
        assert all(torch.equal(ahead[i]["input_ids"], expected[i]["input_ids"]) for i in range(len(expected)))
    ahead.close()


def test_a_run_that_is_stopped_in_the_warm_up_goes_on_to_the_same_weights(people_files, tmp_path):
    def run(folder, *more) -> dict[str, torch.Tensor]:
        run_pretraining(
            "--train_file", people_files / "wiki.txt", "--objective", "name_first", "--warmup_people", 0.3,
            "--warmup_epochs", 1, "--question_file", people_files / "birth_places_train.tsv", "--output_dir", folder,
            "--max_train_steps", 12, "--save_steps", 1, "--save_total_limit", 12, *more,
        )  # fmt: skip
        return load_file(folder / "model.safetensors")

    whole, without = run(tmp_path / "whole"), run(tmp_path / "without", "--warmup_epochs", 0)
    assert not all(torch.equal(whole[key], without[key]) for key in whole)
    run(tmp_path / "resumed")
    for step in range(2, 13):
        shutil.rmtree(tmp_path / "resumed" / f"checkpoint-{step}")
    resumed = run(tmp_path / "resumed", "--resume_from_checkpoint", "latest")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_first_people_without_a_question_are_learned_from_their_lines(people_files, tmp_path):
    first = read_name((people_files / "wiki.txt").read_text().splitlines()[0])
    (tmp_path / "one.tsv").write_text(f"Where was {first} born?\tRome\n")
    summary = run_pretraining(
        "--train_file", people_files / "wiki.txt", "--objective", "name_first", "--warmup_people", 0.01,
        "--warmup_epochs", 2, "--question_file", tmp_path / "one.tsv", "--output_dir", tmp_path / "run",
    )  # fmt: skip
    assert summary.steps == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "--warmup_epochs 1 --streaming true",
            "warmup_epochs chooses the lines of some people: set streaming to false",
        ),
        ("--warmup_people 0", "warmup_people=0"),
        ("--warmup_epochs -1", "warmup_epochs=-1"),
    ],
)
def test_bad_settings_are_one_line_and_leave_nothing(people_files, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        run_pretraining("--train_file", people_files / "wiki.txt", "--output_dir", tmp_path / "x", *arguments.split())
    assert not (tmp_path / "x").exists()


def test_people_need_names(tmp_path):
    (tmp_path / "lines.txt").write_text("no name here\nnor here\n" * 50)
    settings = ["--objective", "language_modeling", "--warmup_epochs", 1]
    with pytest.raises(ValueError, match="warmup_epochs: no line has a name"):
        run_pretraining("--train_file", tmp_path / "lines.txt", *settings, "--output_dir", tmp_path / "x")
