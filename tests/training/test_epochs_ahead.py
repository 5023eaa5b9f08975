"""Epochs that worker processes draw: the same batches, whatever happens to the workers."""

import multiprocessing
import os
import signal

import pytest
import torch
from builders import LINES, NAMES
from datasets import Dataset

from birthgpt.data.batching import BatchSettings, EpochBatches, MixedBatches
from birthgpt.data.objectives import NameFirst
from birthgpt.training.epochs_ahead import EpochsAhead


def planned(bpe, seed: int = 0) -> EpochBatches:
    count = 4 * len(LINES)
    lines = Dataset.from_dict({"line_id": list(range(count)), "text": 4 * LINES, "name": 4 * NAMES})
    return EpochBatches(lines, NameFirst(bpe, 256), bpe.pad_token_id, BatchSettings(tokens_per_batch=400), seed=seed)


@pytest.fixture
def ahead(bpe):
    """Batches that two workers draw; nobody is left behind them."""
    batches = EpochsAhead(planned(bpe), num_workers=2)
    yield batches
    batches.close()
    assert not multiprocessing.active_children()


def assert_same_epoch(batches, expected, epoch: int):
    batches.set_epoch(epoch)
    expected.set_epoch(epoch)
    assert len(batches) == len(expected) > 1
    for index in range(len(expected)):
        assert batches[index].keys() == expected[index].keys()
        assert all(torch.equal(batches[index][name], tensor) for name, tensor in expected[index].items())


# one after the other, after a resumed checkpoint, and once more
@pytest.mark.parametrize("epochs", [range(6), [3, 4, 5], [2, 2, 7, 8, 0]])
def test_every_epoch_has_the_batches_of_the_main_process(ahead, bpe, epochs):
    expected = planned(bpe)
    for epoch in epochs:
        assert_same_epoch(ahead, expected, epoch)


def test_lines_and_questions_are_drawn_together(bpe):
    def mixed():
        return MixedBatches(planned(bpe), planned(bpe, seed=1), question_ratio=0.3, seed=0)

    ahead, expected = EpochsAhead(mixed(), num_workers=3), mixed()
    for epoch in range(5):
        assert_same_epoch(ahead, expected, epoch)
    ahead.close()


def test_a_worker_that_is_killed_is_reported(ahead):
    ahead.set_epoch(0)
    for worker in ahead.workers:
        os.kill(worker.process.pid, signal.SIGKILL)
        worker.process.join()
    with pytest.raises(ValueError, match="has ended; if the memory was full, lower dataloader_num_workers"):
        ahead.set_epoch(1)


def test_an_error_of_a_worker_is_that_of_the_main_process(bpe):
    batches = planned(bpe)

    def fail(*_, **__):
        raise ValueError("line 3 of wiki.txt has no name")

    batches.objective.examples = fail
    ahead = EpochsAhead(batches, num_workers=2)
    # the first epoch was drawn before
    ahead.set_epoch(0)
    with pytest.raises(ValueError, match="line 3 of wiki.txt has no name"):
        ahead.set_epoch(1)
    ahead.close()
