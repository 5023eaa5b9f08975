"""Batches of a stream of lines, which may be larger than memory, and shared out between processes."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import datasets
import numpy as np
import torch
from datasets.distributed import split_dataset_by_node

from birthgpt.data.batching import Batches, BatchSettings, EpochBatches, TensorBatch, empty_batch
from birthgpt.data.objectives import Objective
from birthgpt.settings import checked, setting

logger = logging.getLogger(__name__)


@checked
@dataclass(kw_only=True)
class StreamSettings:
    """How a stream is put into batches."""

    stream_buffer_size: int = setting(
        4096, "lines of a stream that a process shuffles and puts into batches at a time", min=1
    )


Position = dict[str, Any]
"""Where a process is in an epoch: `source`, the state of its stream at the first line of its buffer, None at the
beginning; `batches`, how many batches of this buffer are done; `shards`, how many shards the stream has. It can be
written as JSON."""


def share_of_process(
    stream: datasets.IterableDataset, process_index: int, num_processes: int, name: str = "the corpus"
) -> datasets.IterableDataset:
    """The lines of one of several processes: its shards, or every n-th line if there are fewer shards than processes.

    Args:
        name: what the log of the first process calls the stream.
    """
    if num_processes == 1:
        return stream
    shards = stream.num_shards
    if shards < num_processes and process_index == 0:
        logger.warning(
            "%s has fewer shards (%d) than there are processes (%d): each process reads all lines, and keeps its own",
            name,
            shards,
            num_processes,
        )
    strategy = "shards" if shards >= num_processes else "examples"
    return split_dataset_by_node(stream, process_index, num_processes, strategy=strategy)


class StreamedBatches(Batches, torch.utils.data.IterableDataset[TensorBatch]):
    """The batches that one process makes of its share of a stream; `buffer_size` lines are planned at a time.

    Args:
        source: the lines of this process (`share_of_process`).
        objective: converts them to examples.
        pad_token_id: the pad token.
        settings: the size of a batch; `tokens_per_batch` is divided among the processes.
        seed: the seed of the examples and their order.
        num_micro_batches: processes × gradient accumulation steps. The steps of an update are consecutive.
        num_processes: the processes that share the stream.
        buffer_size: lines that are shuffled and planned together.
        watch: called with the columns of the lines of each buffer.
    """

    def __init__(
        self,
        source: datasets.IterableDataset,
        objective: Objective,
        pad_token_id: int,
        settings: BatchSettings,
        *,
        seed: int,
        num_micro_batches: int = 1,
        num_processes: int = 1,
        buffer_size: int,
        watch: Callable[[dict[str, list]], None] | None = None,
    ):
        assert num_micro_batches % num_processes == 0
        self.source, self.objective, self.pad_token_id = source, objective, pad_token_id
        self.seed, self.num_micro_batches, self.num_steps = seed, num_micro_batches, num_micro_batches // num_processes
        self.settings = settings
        if settings.tokens_per_batch is not None:
            self.settings = replace(settings, tokens_per_batch=max(1, settings.tokens_per_batch // num_processes))
        self.buffer_size, self.watch = buffer_size, watch
        self.epoch = 0
        self.warned = False

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[TensorBatch]:
        return (batch for batch, _ in self.read())

    def read(self, position: Position | None = None) -> Iterator[tuple[TensorBatch, Position]]:
        """Yield the batches of an epoch from a position on, each with the position after it.

        The lines before the buffer of this position are not read again, except those at the beginning of its shard.
        """
        source: Any = self.source
        state, done = (None, 0) if position is None else (position["source"], position["batches"])
        # the state of an earlier epoch stays with the stream, and with its copies, until it is replaced
        source.load_state_dict(state)
        lines = iter(source)
        while buffer := list(islice(lines, self.buffer_size)):
            rows = {name: [line[name] for line in buffer] for name in buffer[0]}
            if self.watch is not None:
                self.watch(rows)
            planned = self.plan(rows)
            for index in range(done, len(planned)):
                yield planned[index], {"source": state, "batches": index + 1, "shards": self.source.num_shards}
            state, done = source.state_dict(), 0

    def plan(self, rows: dict[str, list]) -> "EpochBatches | list[TensorBatch]":
        """The batches of these lines; batches without a target fill an update that has too few lines."""
        planned = EpochBatches(
            datasets.Dataset.from_dict(rows),
            self.objective,
            self.pad_token_id,
            self.settings,
            seed=self.seed,
            num_micro_batches=self.num_steps,
            epoch=self.epoch,
        )
        count = len(planned.examples)
        if count and not len(planned):
            planned.batches = list(np.arange(count)[:, None])
            return [planned[index] for index in range(count)] + [self.empty_batch()] * (self.num_steps - count)
        self._warn_of_small_buffer(len(rows["text"]), int(planned.lengths.sum()))
        return planned

    def empty_batch(self) -> TensorBatch:
        """What a process computes while only others have lines left."""
        return empty_batch(self.pad_token_id, for_encoder_decoder=self.objective.for_encoder_decoder)

    def _warn_of_small_buffer(self, lines: int, tokens: int) -> None:
        wanted = self.settings.tokens_per_batch
        if not self.warned and wanted is not None and lines == self.buffer_size and tokens < wanted:
            self.warned = True
            logger.warning(
                "stream_buffer_size=%d lines are only %d tokens, and a batch of a process has %d: raise it",
                self.buffer_size,
                tokens,
                wanted,
            )
