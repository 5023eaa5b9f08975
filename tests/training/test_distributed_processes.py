"""Sharded runs in two and four processes: each writes its part, and any number of processes reads them."""

import errno
import os
import shutil

import pytest
import torch
from builders import Gather, losses, train
from processes import in_processes, pretend_fsdp
from safetensors.torch import load_file, save_file

from birthgpt.commands.convert import ConvertSettings, convert
from birthgpt.training.callbacks import TrainerCallback
from birthgpt.training.distributed_checkpoints import SHARDS, ShardWriter
from birthgpt.training.manifest import check_checkpoint, list_checkpoints
from birthgpt.training.sharding import full_optimizer_state, unsharded

LONG = {"weight_decay": 0.1, "dropout": 0.0, "save_steps": 4, "save_total_limit": 3}
"""The product of processes and accumulated batches is 4 in every run, and so the batches are the same."""


def train_and_gather(folder, bpe, accumulation: int) -> list[float]:
    """The losses of a run that also saves update 8 as one piece."""
    callback = Gather(folder / "whole", bpe, 8)
    summary, _ = train(folder, bpe, gradient_accumulation_steps=accumulation, callbacks=[callback], **LONG)
    return losses(summary)


class KeepLoaded(TrainerCallback):
    """Writes the whole weights and states of optimizers that a run begins with to `folder/loaded.safetensors`."""

    def __init__(self, folder):
        self.file = folder / "loaded.safetensors"

    def on_train_begin(self, trainer):
        (replica,) = trainer.models.replicas
        optimizers = full_optimizer_state(replica.model, replica.plain_optimizers)
        found = {name: value.clone() for name, value in unsharded(replica.model).state_dict().items()}
        # only the main process has the states
        for name, entries in optimizers.get("state", {}).items():
            found |= {f"{name}/{key}": torch.as_tensor(value) for key, value in entries.items()}
        if trainer.accelerator.is_main_process:
            save_file(found, self.file)


def go_on(folder, bpe, accumulation: int) -> list[float]:
    """The losses of a run that is resumed in these processes."""
    settings = {**LONG, "gradient_accumulation_steps": accumulation, "resume": True}
    return losses(train(folder, bpe, callbacks=[KeepLoaded(folder)], **settings)[0])


def go_back(folder, elsewhere):
    """A copy of a run, in which update 8 has the last checkpoint."""
    shutil.copytree(folder, elsewhere)
    shutil.rmtree(elsewhere / "run" / "checkpoint-12")
    return elsewhere


WRITE_DATA = ShardWriter.write_data


def fill_disk(writer, *arguments):
    """Write the shards of every checkpoint but the one of update 8."""
    if writer.folder.name.endswith("checkpoint-8"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return WRITE_DATA(writer, *arguments)


def in_two(folder, bpe) -> dict:
    """Runs in two processes with sharded weights: begun here, resumed, begun by one, and with a full disk of one."""
    pretend_fsdp()
    rank = torch.distributed.get_rank()
    found = {"begun": train_and_gather(folder / "two", bpe, 2)}
    torch.distributed.barrier()
    if rank == 0:
        for elsewhere in ("two-again", "two-in-one", "two-in-four"):
            go_back(folder / "two", folder / elsewhere)
    torch.distributed.barrier()
    found["resumed"] = go_on(folder / "two-again", bpe, 2)
    found["begun by one"] = go_on(folder / "one-in-two", bpe, 2)
    if rank == 1:
        ShardWriter.write_data = fill_disk
    with pytest.raises(ValueError) as error:
        train(folder / "full", bpe, **LONG)
    return found | {"full disk": str(error.value)}


def in_four(folder, bpe) -> list[float]:
    pretend_fsdp()
    return go_on(folder / "two-in-four", bpe, 1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, bpe):
    """The folder, and the losses of all runs in each process."""
    folder = tmp_path_factory.mktemp("processes")
    for name in ("one", "two"):
        (folder / name / "whole").mkdir(parents=True)
    one = {"one": train_and_gather(folder / "one", bpe, 4)}
    go_back(folder / "one", folder / "one-in-two")
    of_two = in_processes(2, in_two, folder, bpe, patience=600)
    of_four = in_processes(4, in_four, folder, bpe, patience=600)
    one["two in one"] = go_on(folder / "two-in-one", bpe, 4)
    return folder, one, of_two, of_four


@pytest.mark.slow
def test_each_process_writes_its_part(runs):
    folder, *_ = runs
    checkpoint = folder / "two" / "run" / "checkpoint-8"
    whole = sum(file.stat().st_size for file in (folder / "two" / "whole" / "checkpoint-8").rglob("*.safetensors"))
    sizes = [file.stat().st_size for file in sorted((checkpoint / SHARDS).iterdir())]
    # what has no second half, such as the number of updates, and names are in the files too
    assert len(sizes) == 2 and all(0.4 * whole < size < 0.75 * whole for size in sizes), (sizes, whole)
    assert len(list((folder / "two-in-four" / "run" / "checkpoint-12" / SHARDS).iterdir())) == 4
    for run in (folder / "two" / "run", folder / "two-in-four" / "run"):
        assert [path.name for path in list_checkpoints(run)] == ["checkpoint-4", "checkpoint-8", "checkpoint-12"]
        for path in list_checkpoints(run):
            check_checkpoint(path)


@pytest.mark.slow
@pytest.mark.parametrize("resumed", ["two-again", "two-in-one", "two-in-four", "one-in-two"])
def test_any_number_of_processes_loads_the_same_weights_and_states(runs, resumed):
    folder, *_ = runs
    whole = folder / resumed.split("-")[0] / "whole" / "checkpoint-8"
    loaded = load_file(folder / resumed / "loaded.safetensors")
    saved = load_file(whole / "model.safetensors") | load_file(whole / "training_state" / "optimizer.safetensors")
    assert saved.keys() <= loaded.keys()
    assert all(torch.equal(loaded[name], value) for name, value in saved.items())


@pytest.mark.slow
def test_a_run_goes_on_as_before_in_as_many_processes_and_up_to_rounding_in_others(runs):
    _, one, of_two, of_four = runs
    for found in of_two:
        assert found["resumed"] == found["begun"]
        assert found["begun by one"] == pytest.approx(one["one"], abs=1e-5)
        assert one["two in one"] == pytest.approx(found["begun"], abs=1e-5)
        assert all(found == pytest.approx(of_two[0]["begun"], abs=1e-5) for found in of_four)


@pytest.mark.slow
def test_a_converted_checkpoint_of_two_processes_has_the_gathered_weights(runs, tmp_path):
    folder, *_ = runs
    whole = folder / "two" / "whole" / "checkpoint-8"
    checkpoint = folder / "two" / "run" / "checkpoint-8"
    converted = convert(ConvertSettings(model_name_or_path=str(checkpoint), output_dir=str(tmp_path / "model")))
    for name in ("model.safetensors", "config.json", "generation_config.json"):
        assert (converted / name).read_bytes() == (whole / name).read_bytes(), name
    last = convert(
        ConvertSettings(
            model_name_or_path=str(checkpoint.with_name("checkpoint-12")), output_dir=str(tmp_path / "last")
        )
    )
    assert (last / "model.safetensors").read_bytes() == (folder / "two" / "run" / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_process_that_cannot_write_its_part_ends_all_of_them(runs):
    folder, _, of_two, _ = runs
    run = folder / "full" / "run"
    for found in of_two:
        message = found["full disk"]
        assert "checkpoint-8 could not be written (process 1: " in message
        assert message.endswith(f"the last checkpoint is {run / 'checkpoint-4'}")
    assert list_checkpoints(run) == [run / "checkpoint-4"] and not list(run.glob(".unfinished*"))
