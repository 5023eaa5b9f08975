"""Checkpoints are complete or missing, damage is found, and a killed run continues as if it was never killed."""

import json
import random
import shutil
import time

import pytest
import torch
from builders import LINES, PERFORMER, losses, run_pretraining, train
from processes import new_processes
from safetensors.torch import load_file

from birthgpt.training.callbacks import EvaluationCallback, TrainerCallback
from birthgpt.training.manifest import check_checkpoint, list_checkpoints, prune_checkpoints, step_of
from birthgpt.training.run_folder import checkpoint_to_resume
from birthgpt.utils.folders import record_files

resource = pytest.importorskip("resource", reason="limits the size of files, on Unix")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, bpe):
    """A run with the checkpoints 4, 8 and 12."""
    folder = tmp_path_factory.mktemp("checkpoints")
    train(folder, bpe, save_steps=4, save_total_limit=3)
    return folder / "run"


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("".join(f"{line}\n" for line in LINES * 30))
    return path


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def flip_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "a truncated file": (
        lambda c: (c / "model.safetensors").write_bytes(b"half"),
        "model.safetensors has 4 bytes instead of",
    ),
    "a flipped byte": (
        lambda c: flip_byte(c / "model.safetensors"),
        "model.safetensors has changed since it was written",
    ),
    "a flipped byte in the state": (
        lambda c: flip_byte(c / "training_state" / "optimizer.safetensors"),
        "training_state/optimizer.safetensors has changed since it was written",
    ),
    "a missing file": (lambda c: (c / "config.json").unlink(), "config.json is missing"),
    "no manifest": (lambda c: (c / "training_state" / "manifest.json").unlink(), "manifest.json is missing"),
    "half a manifest": (
        lambda c: (c / "training_state" / "manifest.json").write_text('{"files": {"conf'),
        "manifest.json cannot be read",
    ),
    "no training state": (lambda c: shutil.rmtree(c / "training_state"), "manifest.json is missing"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_passed_over_for_the_last_valid_one(run, damage, caplog):
    spoil, message = DAMAGES[damage]
    assert checkpoint_to_resume(str(run), "latest") == run / "checkpoint-12"
    spoil(run / "checkpoint-12")
    with pytest.raises(ValueError, match=message):
        checkpoint_to_resume(str(run), str(run / "checkpoint-12"))
    assert checkpoint_to_resume(str(run), "latest") == run / "checkpoint-8"
    assert message in caplog.text and "checkpoint-12" in caplog.text
    spoil(run / "checkpoint-8")
    assert checkpoint_to_resume(str(run), "latest") == run / "checkpoint-4"
    spoil(run / "checkpoint-4")
    with pytest.raises(ValueError, match="has no valid checkpoint to resume from: .*checkpoint-12.*checkpoint-4"):
        checkpoint_to_resume(str(run), "latest")


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is not a checkpoint of a run"):
        checkpoint_to_resume(str(tmp_path), str(tmp_path / "checkpoint-1"))


def test_a_run_that_has_gone_on_is_not_resumed_from_before(run):
    with pytest.raises(ValueError, match="has continued to checkpoint-12: remove the checkpoints after checkpoint-4"):
        checkpoint_to_resume(str(run), str(run / "checkpoint-4"))


def test_the_latest_of_a_run_that_never_wrote_one_is_the_beginning_and_of_anything_else_an_error(tmp_path, corpus):
    arguments = ["--train_file", corpus, "--max_train_steps", 1, "--resume_from_checkpoint", "latest"]
    young, other = tmp_path / "young", tmp_path / "other"
    (young / ".unfinished-checkpoint-1").mkdir(parents=True)
    run_pretraining(*arguments, "--output_dir", young)
    assert (young / "model.safetensors").is_file() and not list(young.glob(".unfinished*"))
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    for folder, kept in ((other, "thesis.txt"), (young, "chat_template.jinja")):
        with pytest.raises(ValueError, match=f"contains {kept}, but no checkpoint to resume from"):
            run_pretraining(*arguments, "--output_dir", folder)
        assert (folder / kept).is_file()


def test_a_model_of_another_size_is_refused_in_a_line(run, bpe):
    with pytest.raises(ValueError, match="contains another model: "):
        train(run.parent, bpe, resume=True, architecture={"hidden_size": 16, "num_attention_heads": 2})


def test_other_accumulation_is_refused(run, bpe):
    with pytest.raises(ValueError, match="a run of 1 processes × gradient_accumulation_steps, this run has 2"):
        train(run.parent, bpe, gradient_accumulation_steps=2, resume=True)


def test_a_checkpoint_of_another_optimizer_is_refused(run, bpe):
    with pytest.raises(ValueError, match="was written with another optimizer"):
        train(run.parent, bpe, optimizer="muon", resume=True)


def test_a_checkpoint_of_an_earlier_version_is_refused_in_a_line(run, bpe):
    state = run / "checkpoint-12" / "training_state"
    files = json.loads((state / "manifest.json").read_text())["files"]
    del files["training_state/trainer_state.json"]
    (state / "manifest.json").write_text(json.dumps({"files": files}))
    (state / "trainer_state.json").unlink()
    with pytest.raises(ValueError, match="was written by an earlier version of birthgpt: resume it with that version"):
        train(run.parent, bpe, resume=True)


class FullDisk(TrainerCallback):
    """From one update on, no file may have more than 4000 bytes, as if the disk was full."""

    def __init__(self, step: int):
        self.step = step

    def on_step_begin(self, trainer):
        if trainer.state.step == self.step - 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


# the last checkpoint, if the disk is full from this update on
LEFT = {8: ("checkpoint-8", "checkpoint-4"), 10: ("the finished model in .*run", "checkpoint-8")}


@pytest.mark.parametrize("step", LEFT)
def test_a_full_disk_stops_the_run_in_a_line_and_leaves_the_last_checkpoint(tmp_path, bpe, step):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    lost, last = LEFT[step]
    try:
        with pytest.raises(ValueError, match=f"{lost} could not be written .* checkpoint is .*{last}"):
            train(tmp_path, bpe, save_steps=4, save_total_limit=1, max_train_steps=10, callbacks=[FullDisk(step)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    folder = tmp_path / "run"
    assert list_checkpoints(folder) == [folder / last]
    check_checkpoint(folder / last)
    assert not list(folder.glob(".unfinished*"))


def test_a_loss_that_is_not_finite_stops_the_run_with_step_rate_and_lines(tmp_path, bpe):
    message = r"loss of update \d is (nan|inf), at learning rate \d.\d\de\+\d\d, for the lines with line_id \d+, \d+"
    with pytest.raises(ValueError, match=message):
        train(tmp_path, bpe, learning_rate=1e30, warmup_steps=0, save_steps=10)
    assert not list_checkpoints(tmp_path / "run")


class SpoilWeights(TrainerCallback):
    """Sets a weight to NaN before the checkpoint of an update."""

    def on_step_begin(self, trainer):
        if trainer.state.step == 7:
            with torch.no_grad():
                trainer.models.replicas[0].model.model.norm.weight.fill_(torch.nan)


def test_weights_that_are_not_finite_are_not_saved(tmp_path, bpe, monkeypatch):
    # without this, the loss would stop the run first
    monkeypatch.setattr("birthgpt.training.trainer.math.isfinite", lambda loss: True)
    with pytest.raises(ValueError, match="is not finite after update 8"):
        train(tmp_path, bpe, save_steps=4, callbacks=[SpoilWeights()])
    with pytest.raises(ValueError, match="is not finite after update 8"):
        train(tmp_path / "to-the-end", bpe, max_train_steps=8, save_steps=0, callbacks=[SpoilWeights()])
    assert [path.name for path in list_checkpoints(tmp_path / "run")] == ["checkpoint-4"]
    assert not (tmp_path / "to-the-end" / "run" / "model.safetensors").exists()


def test_best_weights_and_history_survive_a_resume(tmp_path, bpe):
    def scoring(*scores: float) -> EvaluationCallback:
        remaining = iter(scores)
        return EvaluationCallback(lambda model: {"score": next(remaining)}, 4, "score")

    whole, model = train(tmp_path / "whole", bpe, evaluation=scoring(0.1, 0.9, 0.2, 0.3))
    with pytest.raises(StopIteration):
        # the scores end before the run
        train(tmp_path / "parts", bpe, evaluation=scoring(0.1, 0.9, 0.2), save_steps=5)
    resumed, resumed_model = train(tmp_path / "parts", bpe, evaluation=scoring(0.3), save_steps=5, resume=True)
    assert [entry["score"] for entry in resumed.history if "score" in entry] == [0.1, 0.9, 0.2, 0.3]
    assert losses(resumed) == losses(whole)
    for name, value in model.state_dict().items():
        assert torch.equal(value, resumed_model.state_dict()[name]), name


def wait_for_checkpoint(run, process, beyond: int) -> int:
    """Wait until there is a checkpoint after step `beyond`, or the process has ended; return the newest step."""
    while True:
        newest = max([step_of(path) for path in list_checkpoints(run)], default=-1)
        if newest > beyond or process.exitcode is not None:
            return newest
        time.sleep(0.001)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [{}, PERFORMER], ids=["softmax", "performer"])
def test_a_run_killed_again_and_again_ends_as_one_that_was_not(tmp_path, corpus, architecture):
    arguments = ["--train_file", corpus, "--logging_steps", 1, "--save_steps", 1, "--max_train_steps", 16]
    arguments += ["--hidden_dropout", 0.1]
    arguments += [item for key, value in architecture.items() for item in (f"--{key}", value)]
    run_pretraining(*arguments, "--output_dir", tmp_path / "whole")

    arguments += ["--output_dir", tmp_path / "killed", "--resume_from_checkpoint", "latest"]
    processes = new_processes()
    moments, kills, newest = random.Random(0), 0, -1
    while True:
        process = processes.Process(target=run_pretraining, args=arguments)
        process.start()
        # wait for some progress, then for a random time, often until the next checkpoint is being written
        newest = wait_for_checkpoint(tmp_path / "killed", process, beyond=newest)
        process.join(moments.uniform(0, 0.05) if kills < 6 else None)
        if process.exitcode is not None:
            assert process.exitcode == 0
            break
        process.kill()
        process.join()
        kills += 1
    assert kills
    whole, killed = (json.loads((tmp_path / name / "run.json").read_text()) for name in ("whole", "killed"))
    assert [entry["loss"] for entry in killed["history"]] == [entry["loss"] for entry in whole["history"]]
    weights, killed_weights = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(value, killed_weights[name]) for name, value in weights.items())


class Damage(TrainerCallback):
    """Changes a checkpoint after an update, as a bad disk does."""

    def __init__(self, *damaged: int):
        self.damaged = damaged

    def on_step_end(self, trainer):
        step, folder = trainer.state.step, trainer.models.replicas[0].spec.folder
        if step in self.damaged:
            file = folder / f"checkpoint-{step}" / "model.safetensors"
            content = bytearray(file.read_bytes())
            content[-1] ^= 1
            file.write_bytes(content)


@pytest.mark.parametrize(
    ("damaged", "left"),
    [((), [10, 12]), ((10,), [8, 10, 12]), ((8, 10), [6, 8, 10, 12]), ((6,), [10, 12]), ((2, 4, 6, 8, 10), None)],
)
def test_only_sound_checkpoints_count_for_the_limit(tmp_path, bpe, damaged, left):
    train(tmp_path, bpe, save_steps=2, save_total_limit=2, callbacks=[Damage(*damaged)])
    steps = [int(path.name.split("-")[1]) for path in list_checkpoints(tmp_path / "run")]
    assert steps == (left or [2, 4, 6, 8, 10, 12])


def test_a_checkpoint_with_files_of_a_user_is_kept(tmp_path, bpe, caplog):
    class Answer(TrainerCallback):
        def on_step_end(self, trainer):
            if trainer.state.step == 4:
                (trainer.models.replicas[0].spec.folder / "checkpoint-4" / "answers.txt").write_text("mine")

    train(tmp_path, bpe, save_steps=2, save_total_limit=1, callbacks=[Answer()])
    folder = tmp_path / "run"
    assert list_checkpoints(folder) == [folder / "checkpoint-4", folder / "checkpoint-12"]
    assert "checkpoint-4 is kept" in caplog.text and (folder / "checkpoint-4" / "answers.txt").read_text() == "mine"


def test_a_checkpoint_that_one_of_several_models_lost_does_not_count(tmp_path):
    for folder in (tmp_path / "a", tmp_path / "b"):
        for step in (1, 2, 3):
            state = folder / f"checkpoint-{step}" / "training_state"
            state.mkdir(parents=True)
            (state / "manifest.json").write_text('{"files": {}}')
            record_files(folder, "run", [f"checkpoint-{step}/training_state/manifest.json"])
    (tmp_path / "b" / "checkpoint-2" / "training_state" / "manifest.json").unlink()
    prune_checkpoints([tmp_path / "a", tmp_path / "b"], 2)
    assert {path.name for path in list_checkpoints(tmp_path / "a")} == {"checkpoint-1", "checkpoint-2", "checkpoint-3"}
    prune_checkpoints([tmp_path / "a", tmp_path / "b"], 1)
    assert {path.name for path in list_checkpoints(tmp_path / "a")} == {"checkpoint-3"}


def test_a_damaged_checkpoint_with_files_of_a_user_is_not_removed_when_it_is_saved_again(tmp_path, bpe):
    train(tmp_path, bpe, save_steps=6, save_total_limit=2)
    folder = tmp_path / "run"
    (folder / "checkpoint-12" / "answers.txt").write_text("mine")
    (folder / "checkpoint-12" / "model.safetensors").write_bytes(b"damaged")
    train(tmp_path, bpe, save_steps=6, save_total_limit=2, resume=True)
    check_checkpoint(folder / "checkpoint-12")
    assert (folder / "checkpoint-12-kept" / "answers.txt").read_text() == "mine"
    assert [path.name for path in list_checkpoints(folder)] == ["checkpoint-6", "checkpoint-12"]
