"""Checkpoints: whole or not there, recognised when damaged, and a run that is killed goes on as if it had not been."""

import dataclasses
import json
import multiprocessing
import random
import resource
import shutil

import pytest
import torch
from builders import LINES, OPTIMIZATION, PERFORMER, losses, run_pretraining, train
from safetensors.torch import load_file

from birthgpt.training.checkpoints import check_checkpoint, checkpoint_to_resume, list_checkpoints
from birthgpt.training.trainer import Trainer


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
    "a truncated file": (lambda c: (c / "model.safetensors").write_bytes(b"half"), "model.safetensors has 4 bytes of"),
    "a flipped byte": (lambda c: flip_byte(c / "model.safetensors"), "model.safetensors is not what was written"),
    "a flipped byte in the state": (
        lambda c: flip_byte(c / "training_state" / "optimizer_0.safetensors"),
        "training_state/optimizer_0.safetensors is not what was written",
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
def test_a_damaged_checkpoint_is_named_and_passed_over_for_the_last_sound_one(run, damage, caplog):
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
    with pytest.raises(ValueError, match="holds no sound checkpoint to resume from: .*checkpoint-12.*checkpoint-4"):
        checkpoint_to_resume(str(run), "latest")


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is no checkpoint of a run"):
        checkpoint_to_resume(str(tmp_path), str(tmp_path / "checkpoint-1"))


def test_a_run_that_has_gone_on_is_not_resumed_from_before(run):
    with pytest.raises(ValueError, match="has gone on to checkpoint-12: remove what is later than checkpoint-4"):
        checkpoint_to_resume(str(run), str(run / "checkpoint-4"))


def test_the_latest_of_a_run_that_never_wrote_one_is_the_beginning_and_of_anything_else_an_error(tmp_path, corpus):
    arguments = ["--train_file", corpus, "--max_train_steps", 1, "--resume_from_checkpoint", "latest"]
    young, other = tmp_path / "young", tmp_path / "other"
    (young / ".unfinished-checkpoint-1").mkdir(parents=True)
    run_pretraining(*arguments, "--output_dir", young)
    assert (young / "model.safetensors").is_file() and not list(young.glob(".unfinished*"))
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    for folder, kept in ((other, "thesis.txt"), (young, "config.json")):
        with pytest.raises(ValueError, match=f"holds {kept}, but no checkpoint to resume from"):
            run_pretraining(*arguments, "--output_dir", folder)
        assert (folder / kept).is_file()


def test_a_model_of_another_size_is_refused_in_a_line(run, bpe):
    with pytest.raises(ValueError, match="holds another model than this run's"):
        train(run.parent, bpe, resume=True, architecture={"hidden_size": 16, "num_attention_heads": 2})


def test_other_accumulation_is_refused(run, bpe):
    other = dataclasses.replace(OPTIMIZATION, gradient_accumulation_steps=2)
    with pytest.raises(ValueError, match="a run of 1 processes × gradient_accumulation_steps, this one has 2"):
        train(run.parent, bpe, optimization=other, resume=True)


def test_a_checkpoint_of_another_optimizer_is_refused(run, bpe):
    adamw = dataclasses.replace(OPTIMIZATION, optimizer="adamw")
    with pytest.raises(ValueError, match="was written with another optimizer"):
        train(run.parent, bpe, optimization=adamw, resume=True)


def test_a_full_disk_stops_the_run_in_a_line_and_leaves_the_last_checkpoint(tmp_path, bpe):
    save = Trainer._save_checkpoint

    def fill_up(self):
        # no file may grow beyond some bytes: to a writer, a disk that is full
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        if self.progress.step == 8:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
        try:
            save(self)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    Trainer._save_checkpoint = fill_up
    try:
        with pytest.raises(ValueError, match="checkpoint-8 could not be written .* checkpoint is .*checkpoint-4"):
            train(tmp_path, bpe, save_steps=4)
    finally:
        Trainer._save_checkpoint = save
    folder = tmp_path / "run"
    assert list_checkpoints(folder) == [folder / "checkpoint-4"]
    check_checkpoint(folder / "checkpoint-4")
    assert not list(folder.glob(".unfinished*"))


def test_a_loss_that_is_no_number_stops_the_run_with_step_rate_and_lines(tmp_path, bpe):
    wild = dataclasses.replace(OPTIMIZATION, optimizer="adamw", learning_rate=1e30, warmup_steps=0)
    message = r"loss of update \d is (nan|inf), at learning rate \d.\d\de\+\d\d, for the lines with line_id \d+, \d+"
    with pytest.raises(ValueError, match=message):
        train(tmp_path, bpe, optimization=wild, save_steps=10)
    assert not list_checkpoints(tmp_path / "run")


def test_weights_that_are_no_numbers_are_not_saved(tmp_path, bpe):
    update = Trainer._update

    def spoil(self, micro_batches):
        done = update(self, micro_batches)
        if self.progress.step == 8:
            with torch.no_grad():
                self.model.model.norm.weight.fill_(torch.nan)
        return done

    Trainer._update = spoil
    try:
        with pytest.raises(ValueError, match="model.norm.weight is not finite after update 8"):
            train(tmp_path, bpe, save_steps=4)
        last = dataclasses.replace(OPTIMIZATION, max_train_steps=8)
        with pytest.raises(ValueError, match="model.norm.weight is not finite after update 8"):
            train(tmp_path / "to-the-end", bpe, optimization=last, save_steps=0)
    finally:
        Trainer._update = update
    assert [path.name for path in list_checkpoints(tmp_path / "run")] == ["checkpoint-4"]
    assert not (tmp_path / "to-the-end" / "run" / "model.safetensors").exists()


def test_best_weights_and_history_survive_a_resume(tmp_path, bpe):
    scores = iter([0.1, 0.9, 0.2, 0.3])
    whole, model = train(
        tmp_path / "whole", bpe, evaluate=lambda model: {"score": next(scores)}, metric_for_best_model="score"
    )
    scores = iter([0.1, 0.9, 0.2])
    with pytest.raises(StopIteration):
        # the scores end before the run does
        train(
            tmp_path / "parts",
            bpe,
            evaluate=lambda model: {"score": next(scores)},
            metric_for_best_model="score",
            save_steps=5,
        )
    scores = iter([0.3])
    resumed, resumed_model = train(
        tmp_path / "parts",
        bpe,
        evaluate=lambda model: {"score": next(scores)},
        metric_for_best_model="score",
        save_steps=5,
        resume=True,
    )
    assert [entry["score"] for entry in resumed.history if "score" in entry] == [0.1, 0.9, 0.2, 0.3]
    assert losses(resumed) == losses(whole)
    for name, value in model.state_dict().items():
        assert torch.equal(value, resumed_model.state_dict()[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [{}, PERFORMER], ids=["softmax", "performer"])
def test_a_run_killed_again_and_again_ends_as_one_that_was_not(tmp_path, corpus, architecture):
    arguments = ["--train_file", corpus, "--logging_steps", 1, "--save_steps", 1, "--max_train_steps", 10]
    arguments += ["--hidden_dropout", 0.1, "--optimizer", "muon"]
    arguments += [item for key, value in architecture.items() for item in (f"--{key}", value)]
    run_pretraining(*arguments, "--output_dir", tmp_path / "whole")

    arguments += ["--output_dir", tmp_path / "killed", "--resume_from_checkpoint", "latest"]
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tiny_runs"])
    moments, kills = random.Random(0), 0
    while True:
        process = processes.Process(target=run_pretraining, args=arguments)
        process.start()
        # from before the folder is there to behind the last update, and often while a checkpoint is written
        process.join(moments.uniform(0.2, 2.5) if kills < 6 else None)
        if process.exitcode is not None:
            assert process.exitcode == 0
            break
        process.kill()
        process.join()
        kills += 1
    assert kills >= 3
    whole, killed = (json.loads((tmp_path / name / "run.json").read_text()) for name in ("whole", "killed"))
    assert [entry["loss"] for entry in killed["history"]] == [entry["loss"] for entry in whole["history"]]
    weights, killed_weights = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(value, killed_weights[name]) for name, value in weights.items())
