"""A run on a stream: processes have each line once in an epoch, and a stopped run goes on as if it had not stopped."""

import os
import shutil

import pytest
import torch
from builders import losses, train
from processes import in_two_processes
from safetensors.torch import load_file

from birthgpt.data import shards
from birthgpt.data.batching import BatchSettings
from birthgpt.data.corpus import load_corpus
from birthgpt.data.objectives import LanguageModeling
from birthgpt.data.streaming import StreamedBatches, share_of_process
from birthgpt.training.events import TrainerCallback
from birthgpt.training.manifest import write_manifest
from birthgpt.utils.files import read_json, save_json

PEOPLE = 100
# three shards: one process has two of them, so the other one has no line left at the end of an epoch
SHARD_BYTES = 1500


class LinesOfUpdates(TrainerCallback):
    """Records the epoch and the lines of every update of this process."""

    def __init__(self):
        self.seen = []

    def on_train_begin(self, trainer):
        updates = trainer.loader.updates

        def recorded(state):
            for group in updates(state):
                self.seen.append((state.epoch, torch.cat([batch["line_ids"] for batch in group]).tolist()))
                yield group

        trainer.loader.updates = recorded


def write_lines(folder):
    path = folder / "lines.txt"
    path.write_text("\n".join(f"Person {number}. Born in the {number}th city of {number}." for number in range(PEOPLE)))
    return path


def streamed(path, tokenizer, *, steps: int = 1) -> StreamedBatches:
    """The batches of this process."""
    rank, processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    # in whichever process this is
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "MIN_SHARD_BYTES", SHARD_BYTES)
        corpus = load_corpus(str(path), streaming=True)
    return StreamedBatches(
        share_of_process(corpus, rank, processes),
        LanguageModeling(tokenizer, 64),
        tokenizer.pad_token_id,
        BatchSettings(tokens_per_batch=160 * processes),
        seed=0,
        num_micro_batches=processes * steps,
        num_processes=processes,
        buffer_size=10,
    )


def train_streamed(folder, tokenizer, *, steps: int = 1, **given):
    """The losses, and the epoch and the lines of every update of this process."""
    lines = LinesOfUpdates()
    batches = streamed(folder / "lines.txt", tokenizer, steps=steps)
    summary, _ = train(
        folder,
        tokenizer,
        batches=batches,
        callbacks=[lines],
        gradient_accumulation_steps=steps,
        logging_steps=1,
        **given,
    )
    return losses(summary), lines.seen


def stop_after(folder, step: int) -> None:
    """Leave what a run that was killed after this update had written."""
    for path in (folder / "run").iterdir():
        if path.name != f"checkpoint-{step}":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def run_and_resume(folder, tokenizer, settings: dict) -> dict:
    """A run of 30 updates; and the same one that goes on after update 9."""
    found = {"whole": train_streamed(folder, tokenizer, **settings)}
    if int(os.environ.get("RANK", 0)) == 0:
        shutil.copytree(folder / "run", folder / "whole")
        stop_after(folder, 9)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
    found["resumed"] = train_streamed(folder, tokenizer, resume=True, **settings)
    return found


SETTINGS = {"max_train_steps": 30, "save_steps": 9, "save_total_limit": 9}
RUNS = {"plain": SETTINGS, "accumulated": {**SETTINGS, "steps": 3}}
# processes that a test starts have no workers
ALONE = {**RUNS, "worker": {**SETTINGS, "dataloader_num_workers": 2}}


def run_all(folder, tokenizer, settings_of_runs: dict) -> dict:
    return {name: run_and_resume(folder / name, tokenizer, given) for name, given in settings_of_runs.items()}


def new_streams(folder, names):
    """The folder, with the lines of a stream for each run."""
    for name in names:
        (folder / name).mkdir()
        write_lines(folder / name)
    return folder


@pytest.fixture(scope="module")
def runs_of_one(tmp_path_factory, bpe):
    """The folder, and what each process found."""
    folder = new_streams(tmp_path_factory.mktemp("one"), ALONE)
    return folder, [run_all(folder, bpe, ALONE)]


@pytest.fixture(scope="module")
def runs_of_two(tmp_path_factory, bpe):
    """The folder, and what each process found."""
    folder = new_streams(tmp_path_factory.mktemp("two"), RUNS)
    return folder, in_two_processes(run_all, folder, bpe, RUNS)


every_run = pytest.mark.parametrize(
    ("fixture", "name"), [("runs_of_one", name) for name in ALONE] + [("runs_of_two", name) for name in RUNS]
)


@pytest.mark.slow
@every_run
def test_every_line_is_trained_on_once_in_an_epoch(request, fixture, name):
    _, found = request.getfixturevalue(fixture)
    updates = [of_process[name]["whole"][1] for of_process in found]
    epochs = [[epoch for epoch, _ in of_process] for of_process in updates]
    # all processes take the same updates, and some epochs are complete
    assert all(of_process == epochs[0] for of_process in epochs) and epochs[0][-1] >= 1
    for epoch in range(epochs[0][-1]):
        lines = [line for of_process in updates for number, lines in of_process if number == epoch for line in lines]
        assert sorted(lines) == list(range(PEOPLE))


@pytest.mark.slow
@every_run
def test_a_resumed_run_equals_an_uninterrupted_one(request, fixture, name):
    folder, found = request.getfixturevalue(fixture)
    for of_process in found:
        whole, resumed = of_process[name]["whole"], of_process[name]["resumed"]
        assert resumed[0] == whole[0]
        assert resumed[1] == whole[1][9:]
    weights, expected = (load_file(folder / name / run / "model.safetensors") for run in ("run", "whole"))
    assert all(torch.equal(weights[key], expected[key]) for key in expected)


@pytest.mark.slow
def test_a_stream_goes_on_with_the_same_number_of_processes(runs_of_two, tmp_path, bpe):
    folder, _ = runs_of_two
    shutil.copytree(folder / "plain", tmp_path / "plain")
    stop_after(tmp_path / "plain", 9)
    with pytest.raises(ValueError, match="by 2 processes that share a stream, and this run has 1: use the same"):
        train_streamed(tmp_path / "plain", bpe, resume=True, **{**SETTINGS, "steps": 2})


@pytest.mark.slow
def test_another_stream_than_that_of_the_checkpoint_is_refused(runs_of_one, tmp_path, bpe):
    folder, _ = runs_of_one
    shutil.copytree(folder / "plain", tmp_path / "plain")
    stop_after(tmp_path / "plain", 9)
    path = tmp_path / "plain" / "lines.txt"
    path.write_text(path.read_text()[:2500])
    with pytest.raises(ValueError, match="has 3 shards for a process, and that of this run 2: bring back the files"):
        train_streamed(tmp_path / "plain", bpe, resume=True, **SETTINGS)


@pytest.mark.slow
def test_a_checkpoint_without_a_position_is_refused(runs_of_one, tmp_path, bpe):
    """As of a version in which all processes read everything."""
    folder, _ = runs_of_one
    shutil.copytree(folder / "plain", tmp_path / "plain")
    stop_after(tmp_path / "plain", 9)
    checkpoint = tmp_path / "plain" / "run" / "checkpoint-9"
    state = read_json(checkpoint / "training_state" / "trainer_state.json")
    del state["stream_positions"]
    save_json(checkpoint / "training_state" / "trainer_state.json", state)
    write_manifest(checkpoint)
    with pytest.raises(ValueError, match="of this stream has no position: resume it with the version that wrote it"):
        train_streamed(tmp_path / "plain", bpe, resume=True, **SETTINGS)


def errors_of_a_stream(folder, tokenizer) -> str:
    try:
        train_streamed(folder, tokenizer, max_train_steps=30, save_steps=0)
    except ValueError as error:
        return str(error)
    raise AssertionError("there is no error")


def test_a_share_that_cannot_be_read_ends_all_processes(tmp_path, bpe):
    path = write_lines(tmp_path)
    lines = path.read_text().split("\n")
    lines[50] += "⁇"
    path.write_text("\n".join(lines))
    found = in_two_processes(errors_of_a_stream, tmp_path, bpe)
    assert sorted("line 51" in error for error in found) == [False, True]
    assert sum(error == "another process cannot read its share of the stream; its message says why" for error in found)
