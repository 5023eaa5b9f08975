"""Epochs that worker processes draw while the model is trained on earlier ones.

The batches of an epoch depend only on the seed and the number of the epoch, so whole epochs can be drawn side by side.
"""

import multiprocessing
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch

from birthgpt.data.batching import PlannedBatches, TensorBatch
from birthgpt.training.stopping import leave_signals_to_main_process

ArrayBatch = dict[str, np.ndarray]


class EpochsAhead(PlannedBatches):
    """The same batches, drawn by worker processes; each of them has one epoch ready.

    Args:
        batches: planned epochs.
        num_workers: processes, at least 1.
    """

    def __init__(self, batches: PlannedBatches, num_workers: int):
        self.source, self.num_workers = batches, num_workers
        self.num_micro_batches = batches.num_micro_batches
        self.workers: list[Worker] = []
        self.epoch: int | None = None
        self.micro_batches: list[ArrayBatch] = []

    def set_epoch(self, epoch: int) -> None:
        """Wait for the batches of an epoch, and let later ones be drawn.

        Raises:
            ValueError: they cannot be drawn, or a worker has ended.
        """
        if epoch == self.epoch:
            return
        if not self.workers or self.workers[0].epoch != epoch:
            self.close()
            self.workers = [Worker(self.source, epoch + number) for number in range(self.num_workers)]
        worker, *others = self.workers
        self.micro_batches = worker.receive()
        worker.draw(epoch + self.num_workers)
        self.workers, self.epoch = [*others, worker], epoch

    def __len__(self) -> int:
        return len(self.micro_batches)

    def __getitem__(self, index: int) -> TensorBatch:
        return {name: torch.from_numpy(array) for name, array in self.micro_batches[index].items()}

    def close(self) -> None:
        """End the workers: nobody needs what they are drawing."""
        for worker in self.workers:
            worker.close()
        self.workers = []


class Worker:
    """A process that draws one epoch after the other."""

    def __init__(self, batches: PlannedBatches, epoch: int):
        self.connection, connection = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=_draw_epochs, args=(batches, connection), daemon=True)
        self.process.start()
        # with one end left, that of the process, its end is noticed
        connection.close()
        self.draw(epoch)

    def draw(self, epoch: int) -> None:
        """Let an epoch be drawn, after the one before was received."""
        self.epoch = epoch
        try:
            self.connection.send(epoch)
        except OSError:
            # it has ended, which is said when its epoch is needed
            pass

    def receive(self) -> list[ArrayBatch]:
        """Wait for the epoch."""
        try:
            drawn: Any = self.connection.recv()
        except (EOFError, OSError):
            raise ValueError(
                "a process that makes batches has ended; if the memory was full, lower dataloader_num_workers"
            ) from None
        if isinstance(drawn, Exception):
            raise drawn
        return drawn

    def close(self) -> None:
        """End the process."""
        self.connection.close()
        # it ignores the signals that ask it to end
        self.process.kill()
        self.process.join()


def _draw_epochs(batches: PlannedBatches, connection: Connection) -> None:
    """Draw each epoch that is asked for, until the main process ends."""
    leave_signals_to_main_process()
    torch.set_num_threads(1)
    while (epoch := _next_epoch(connection)) is not None:
        try:
            drawn: list[ArrayBatch] | Exception = _arrays_of(batches, epoch)
        except Exception as error:
            drawn = error
        try:
            connection.send(drawn)
        except OSError:
            return


def _next_epoch(connection: Connection) -> int | None:
    """The next epoch that is asked for; None if the main process has ended."""
    try:
        return connection.recv()
    except (EOFError, OSError):
        return None


def _arrays_of(batches: PlannedBatches, epoch: int) -> list[ArrayBatch]:
    """The batches of an epoch as arrays: many tensors would need more open files than a process may have."""
    batches.set_epoch(epoch)
    return [{name: tensor.numpy() for name, tensor in batches[index].items()} for index in range(len(batches))]
