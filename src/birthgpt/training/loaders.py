"""Loaders: which micro-batches a process takes for each update of an epoch, from its beginning or from a checkpoint."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from accelerate import Accelerator, skip_first_batches
from accelerate.utils import gather_object
from torch.utils.data import DataLoader, IterableDataset

from birthgpt.data.batching import Batches, PlannedBatches, TensorBatch
from birthgpt.data.streaming import Position, StreamedBatches
from birthgpt.training.accelerators import ComputeSettings
from birthgpt.training.epochs_ahead import EpochsAhead
from birthgpt.training.state import TrainerState
from birthgpt.training.stopping import leave_signals_to_main_process


class EpochLoader:
    """Planned epochs: accelerate deals the micro-batches out, and a resumed run skips those that are done."""

    def __init__(self, batches: PlannedBatches, accelerator: Accelerator, settings: ComputeSettings):
        self.accelerator, self.num_steps = accelerator, settings.gradient_accumulation_steps
        workers = settings.dataloader_num_workers
        self.batches: Any = EpochsAhead(batches, workers) if workers > 0 else batches
        # batches stay on the host until their targets are counted: reading a count from a GPU would wait for the GPU
        loader = _data_loader(self.batches, accelerator, num_workers=0)
        self.loader: Any = accelerator.prepare_data_loader(loader, device_placement=False)

    def __len__(self) -> int:
        """The number of micro-batches of this epoch."""
        return len(self.batches)

    def close(self) -> None:
        """End the workers."""
        if isinstance(self.batches, EpochsAhead):
            self.batches.close()

    def resume(self, state: TrainerState) -> None:
        """Go on from a checkpoint: epochs differ in length, and the progress depends on the length of this epoch."""
        self.batches.set_epoch(state.epoch)

    def positions(self) -> list[Position | None]:
        """The number of done batches says everything."""
        return []

    def updates(self, state: TrainerState) -> Iterator[list[TensorBatch]]:
        """Yield the micro-batches of each update in the rest of this epoch."""
        self.batches.set_epoch(state.epoch)
        self.loader.set_epoch(state.epoch)
        loader = skip_first_batches(self.loader, state.batch // self.accelerator.num_processes)
        return _grouped(loader, self.num_steps)


class StreamLoader:
    """A stream: each process reads its share. All of them take equally many updates, and go on where they were."""

    def __init__(self, batches: StreamedBatches, accelerator: Accelerator, settings: ComputeSettings):
        self.batches, self.accelerator = batches, accelerator
        self.num_steps = settings.gradient_accumulation_steps
        # one worker reads ahead; several would share the lines out once more
        self.num_workers = min(1, settings.dataloader_num_workers)
        self.position: Position | None = None

    def close(self) -> None:
        """Nothing is left: each epoch ends its worker."""

    def resume(self, state: TrainerState) -> None:
        """Go on from the positions of a checkpoint.

        Raises:
            ValueError: it was written by another number of processes, or the stream has other shards.
        """
        found, expected = state.stream_positions, self.accelerator.num_processes
        if not found:
            raise ValueError("the checkpoint of this stream has no position: resume it with the version that wrote it")
        if len(found) != expected:
            raise ValueError(
                f"the checkpoint was written by {len(found)} processes that share a stream, and this run has {expected}"
                ": use the same number of processes"
            )
        self.position = found[self.accelerator.process_index]
        shards = self.batches.source.num_shards
        if self.position is not None and self.position["shards"] != shards:
            raise ValueError(
                f"the stream of the checkpoint has {self.position['shards']} shards for a process, and that of this "
                f"run {shards}: bring back the files that the run was started with"
            )

    def positions(self) -> list[Position | None]:
        """Where each process is; all of them call this."""
        return gather_object([self.position])

    def updates(self, state: TrainerState) -> Iterator[list[TensorBatch]]:
        """Yield the micro-batches of each update in the rest of this epoch, until no process has any left.

        A process without lines takes part with batches that have no target.

        Raises:
            ValueError: on every process, if one of them cannot read its share.
        """
        self.batches.set_epoch(state.epoch)
        if state.batch == 0:
            self.position = None
        loader = _data_loader(_Positioned(self.batches, self.position), self.accelerator, self.num_workers)
        own = _grouped(loader, self.num_steps)
        while (group := self._next(own)) is not None:
            if group:
                self.position = group[-1][1]
            yield [batch for batch, _ in group] or [self.batches.empty_batch()] * self.num_steps

    def _next(self, own: Iterator[list]) -> list[tuple[TensorBatch, Position]] | None:
        """The next group of this process, empty if it has none; None if no process has any."""
        group: list = []
        fault = None
        try:
            group = next(own, [])
        except ValueError as error:
            fault = error
        if self.accelerator.num_processes == 1:
            left, failed = len(group), fault is not None
        else:
            flags = torch.tensor([len(group), fault is not None], device=self.accelerator.device, dtype=torch.int64)
            left, failed = self.accelerator.reduce(flags, "sum").tolist()
        if failed:
            raise fault or ValueError("another process cannot read its share of the stream; its message says why")
        return group if left else None


def build_loader(batches: Batches, accelerator: Accelerator, settings: ComputeSettings) -> EpochLoader | StreamLoader:
    """The loader of these batches."""
    if isinstance(batches, StreamedBatches):
        return StreamLoader(batches, accelerator, settings)
    assert isinstance(batches, PlannedBatches)
    return EpochLoader(batches, accelerator, settings)


class _Positioned(IterableDataset):
    """A stream from a position on: a position comes with its batch, because a worker reads ahead."""

    def __init__(self, batches: StreamedBatches, position: Position | None):
        self.batches, self.position = batches, position

    def __iter__(self) -> Iterator[tuple[TensorBatch, Position]]:
        return self.batches.read(self.position)


def _data_loader(batches: Any, accelerator: Accelerator, num_workers: int) -> DataLoader:
    return DataLoader(
        batches,
        batch_size=1,
        collate_fn=_first_item,
        num_workers=num_workers,
        pin_memory=accelerator.device.type == "cuda",
        worker_init_fn=leave_signals_to_main_process,
    )


def _grouped(batches: Iterable, size: int) -> Iterator[list]:
    group: list = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    assert not group, "the plan is a multiple of processes × accumulation steps"


def _first_item(items: list) -> Any:
    """The only item: each item of the dataset is already a whole batch."""
    assert len(items) == 1
    return items[0]
