"""Checkpoints in shards: any number of processes read them, and they are complete or missing.

Here one process writes one shard. `test_distributed_processes.py` shards weights over two and four.
"""

import os
import shutil
import signal
import threading

import pytest
import torch
from builders import LINES, PERFORMER, Gather, losses, run_pretraining, train
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from birthgpt.commands.convert import ConvertSettings, convert
from birthgpt.commands.loading import load_model, load_tokenizer
from birthgpt.commands.verify import VerifySettings, verify
from birthgpt.training.callbacks import TrainerCallback
from birthgpt.training.distributed_checkpoints import SHARDS, ShardWriter
from birthgpt.training.manifest import check_checkpoint, list_checkpoints
from birthgpt.training.run_folder import checkpoint_to_resume, remove_unfinished
from birthgpt.training.stopping import Stopped

resource = pytest.importorskip("resource", reason="limits the size of files, on Unix")

SHARD = "shard-00001-model-00001-of-00001.safetensors"


@pytest.fixture
def in_shards(monkeypatch):
    """A run of one process saves as a sharded run does."""
    monkeypatch.setattr("birthgpt.training.saving.is_sharded", lambda model: True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, bpe):
    """A run with the checkpoints 4, 8 and 12 in shards; beside it, checkpoint 12 as one piece."""
    folder = tmp_path_factory.mktemp("shards")
    (folder / "whole").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("birthgpt.training.saving.is_sharded", lambda model: True)
        train(folder, bpe, save_steps=4, save_total_limit=3, callbacks=[Gather(folder / "whole", bpe, 12)])
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished / "run", tmp_path / "run")


KINDS = {
    "adamw": {"weight_decay": 0.1},
    "muon": {"optimizer": "muon"},
    "untied": {"architecture": {"tie_word_embeddings": False}},
    # its features are drawn anew in training
    "performer": {"architecture": PERFORMER},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_resumed_from_shards_equals_an_uninterrupted_one(tmp_path, bpe, in_shards, kind):
    whole, model = train(tmp_path, bpe, save_steps=5, **KINDS[kind])
    shutil.rmtree(tmp_path / "run" / "checkpoint-10")
    resumed, resumed_model = train(tmp_path, bpe, save_steps=5, resume=True, **KINDS[kind])
    assert losses(resumed) == losses(whole)
    for name, value in model.state_dict().items():
        assert torch.equal(value, resumed_model.state_dict()[name]), name


def test_the_command_goes_on_from_shards_and_deletes_them_when_it_begins_anew(tmp_path, in_shards):
    corpus, run = tmp_path / "corpus.txt", tmp_path / "run"
    corpus.write_text("".join(f"{line}\n" for line in LINES * 30))
    arguments = ["--train_file", corpus, "--output_dir", run, "--max_train_steps", 3, "--save_steps", 1]
    first = run_pretraining(*arguments)
    shutil.rmtree(run / "checkpoint-3")
    resumed = run_pretraining(*arguments, "--resume_from_checkpoint", "latest")
    assert losses(resumed) == losses(first)
    assert [path.name for path in list_checkpoints(run)] == ["checkpoint-2", "checkpoint-3"]
    run_pretraining(*arguments[:-1], 0, "--overwrite_output_dir", True)
    assert not list_checkpoints(run) and not list(run.rglob(f"*{SHARDS}*"))


def test_an_ordinary_run_goes_on_from_shards_and_a_sharded_one_from_an_ordinary_checkpoint(tmp_path, bpe, monkeypatch):
    whole, _ = train(tmp_path / "whole", bpe)
    for first in (True, False):
        monkeypatch.setattr("birthgpt.training.saving.is_sharded", lambda model, saved=first: saved)
        train(tmp_path / str(first), bpe, save_steps=8)
        assert (tmp_path / str(first) / "run" / "checkpoint-8" / SHARDS).is_dir() == first
        monkeypatch.setattr("birthgpt.training.saving.is_sharded", lambda model, saved=not first: saved)
        resumed, _ = train(tmp_path / str(first), bpe, save_steps=12, resume=True)
        assert (tmp_path / str(first) / "run" / "checkpoint-12" / SHARDS).is_dir() == (not first)
        assert losses(resumed) == losses(whole)


def test_a_converted_checkpoint_is_the_model_that_an_ordinary_checkpoint_has(finished, tmp_path):
    checkpoint, whole = finished / "run" / "checkpoint-12", finished / "whole" / "checkpoint-12"
    folder = convert(ConvertSettings(model_name_or_path=str(checkpoint), output_dir=str(tmp_path / "model")))
    of_model = {path.name for path in whole.iterdir() if path.is_file()}
    assert {path.name for path in folder.iterdir()} == {*of_model, "manifest.json"}
    for name in of_model:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    assert load_model(str(folder)).num_parameters() == AutoModelForCausalLM.from_pretrained(whole).num_parameters()


def test_only_weights_and_states_are_in_the_shards_each_once(finished):
    shards = load_file(finished / "run" / "checkpoint-12" / SHARDS / SHARD)
    whole = finished / "whole" / "checkpoint-12"
    weights, states = load_file(whole / "model.safetensors"), load_file(whole / "training_state/optimizer.safetensors")
    expected = {f"model/{name}": value for name, value in weights.items()}
    expected |= {f"optimizer/{name}": value for name, value in states.items()}
    assert shards.keys() == expected.keys()
    assert all(torch.equal(shards[name], value) for name, value in expected.items())


def test_a_checkpoint_in_shards_is_verified_and_elsewhere_refused_with_what_to_do(finished, run, tmp_path):
    compared = verify(VerifySettings(folder=str(run)))
    assert compared.keys() == {run, run / "checkpoint-4", run / "checkpoint-8", run / "checkpoint-12"}
    checkpoint = run / "checkpoint-8"
    with pytest.raises(ValueError, match=f"in shards, .*: `birthgpt convert {checkpoint} --output_dir FOLDER`"):
        load_model(str(checkpoint))
    load_tokenizer(str(checkpoint))
    with pytest.raises(ValueError, match="checkpoint-8 exists: give another output_dir"):
        convert(ConvertSettings(model_name_or_path=str(checkpoint)))
    (checkpoint / SHARDS / SHARD).unlink()
    for refused in (lambda: verify(VerifySettings(folder=str(run))), lambda: load_model(str(checkpoint))):
        with pytest.raises(ValueError, match=f"damaged: {SHARDS}/{SHARD} is missing"):
            refused()
    with pytest.raises(ValueError, match="is missing"):
        convert(ConvertSettings(model_name_or_path=str(checkpoint), output_dir=str(tmp_path / "model")))
    assert not (tmp_path / "model").exists()


DAMAGES = {
    "no manifest": lambda checkpoint: (checkpoint / "training_state" / "manifest.json").unlink(),
    "a missing shard": lambda checkpoint: (checkpoint / SHARDS / SHARD).unlink(),
    "half a shard": lambda checkpoint: (checkpoint / SHARDS / SHARD).write_bytes(b"half"),
    "under its temporary name": lambda checkpoint: checkpoint.rename(checkpoint.parent / ".unfinished-checkpoint-12"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_checkpoint_that_was_cut_off_is_never_the_latest(run, damage):
    assert checkpoint_to_resume(str(run), "latest") == run / "checkpoint-12"
    DAMAGES[damage](run / "checkpoint-12")
    assert checkpoint_to_resume(str(run), "latest") == run / "checkpoint-8"
    remove_unfinished(run)
    assert not list(run.glob(".unfinished*"))


def test_another_model_or_optimizer_is_refused_in_a_line(run, bpe):
    with pytest.raises(ValueError, match="contains another model: "):
        train(run.parent, bpe, resume=True, architecture={"hidden_size": 16, "num_attention_heads": 2})
    with pytest.raises(ValueError, match="was written with another optimizer"):
        train(run.parent, bpe, optimizer="muon", resume=True)


@pytest.fixture
def slow_disk(monkeypatch):
    """Nothing is written before this event is set, for a minute."""
    may_write = threading.Event()
    write_data = ShardWriter.write_data

    def wait_and_write(self, *arguments):
        assert may_write.wait(60)
        return write_data(self, *arguments)

    monkeypatch.setattr(ShardWriter, "write_data", wait_and_write)
    return may_write


def test_training_goes_on_while_a_checkpoint_is_written_and_does_not_change_it(tmp_path, bpe, in_shards, slow_disk):
    class Watch(TrainerCallback):
        def on_step_end(self, trainer):
            folder, step = trainer.models.replicas[0].spec.folder, trainer.state.step
            if step == 7:
                assert not list_checkpoints(folder)
                slow_disk.set()

    (tmp_path / "whole").mkdir()
    train(tmp_path, bpe, save_steps=4, save_total_limit=3, callbacks=[Gather(tmp_path / "whole", bpe, 4), Watch()])
    run, whole = tmp_path / "run", tmp_path / "whole" / "checkpoint-4"
    assert [path.name for path in list_checkpoints(run)] == ["checkpoint-4", "checkpoint-8", "checkpoint-12"]
    shards = load_file(run / "checkpoint-4" / SHARDS / SHARD)
    for name, value in load_file(whole / "model.safetensors").items():
        assert torch.equal(shards[f"model/{name}"], value), name


class Signal(TrainerCallback):
    """Sends this process a signal in update 6."""

    def on_step_begin(self, trainer):
        if trainer.state.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)


class Fail(TrainerCallback):
    """Raises an error after update 6."""

    def on_step_end(self, trainer):
        if trainer.state.step == 6:
            raise ValueError("an error of the training")


@pytest.mark.parametrize(("end", "error", "last"), [(Signal, Stopped, 6), (Fail, ValueError, 4)])
def test_a_checkpoint_that_was_begun_is_complete_when_a_run_ends_early(tmp_path, bpe, in_shards, end, error, last):
    with pytest.raises(error):
        train(tmp_path, bpe, save_steps=4, callbacks=[end()])
    checkpoint = checkpoint_to_resume(str(tmp_path / "run"), "latest")
    assert checkpoint.name == f"checkpoint-{last}" and not list((tmp_path / "run").glob(".unfinished*"))


class FullDisk(TrainerCallback):
    """After one update, no file may have more than 4000 bytes, as if the disk was full."""

    def __init__(self, step):
        self.step, self.reached = step, 0

    def on_step_end(self, trainer):
        self.reached = trainer.state.step
        if trainer.state.step == self.step:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.mark.parametrize("max_train_steps", [11, 12])
def test_a_save_that_fails_in_the_background_ends_the_run_in_a_line(
    tmp_path, bpe, in_shards, slow_disk, max_train_steps
):
    """The disk is full when the shards of update 8 are written: the next save tells it, or the end of the run."""

    class Release(FullDisk):
        def on_step_end(self, trainer):
            super().on_step_end(trainer)
            {4: slow_disk.set, 8: slow_disk.clear, 11: slow_disk.set}.get(self.reached, str)()

    limits, full_disk = resource.getrlimit(resource.RLIMIT_FSIZE), Release(11)
    settings = {"save_steps": 4, "save_total_limit": 1, "max_train_steps": max_train_steps}
    try:
        with pytest.raises(ValueError, match="checkpoint-8 could not be written .*process 0: .* is .*checkpoint-4$"):
            train(tmp_path, bpe, callbacks=[full_disk], **settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    run = tmp_path / "run"
    assert full_disk.reached == 11 and list_checkpoints(run) == [run / "checkpoint-4"]
    check_checkpoint(run / "checkpoint-4")
    assert not list(run.glob(".unfinished*")) and not (run / "model.safetensors").exists()
