"""Run a function in processes that are connected by gloo, as in a launch on several machines."""

import os
import queue
import socket
import traceback
from collections.abc import Callable
from multiprocessing.context import BaseContext

import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType


def new_processes() -> BaseContext:
    """A context whose processes start fast: they are forked from a process that has only imported the package.

    OpenMP does not work after a fork of a process that has computed something.
    """
    context = torch.multiprocessing.get_context("forkserver")
    # only installed modules: the server process cannot find others
    context.set_forkserver_preload(["birthgpt.commands.pretrain", "birthgpt.commands.finetune"])
    return context


def in_two_processes(function: Callable, *arguments, patience: float = 300) -> list:
    """`in_processes` with two processes."""
    return in_processes(2, function, *arguments, patience=patience)


def in_processes(count: int, function: Callable, *arguments, patience: float = 300) -> list:
    """The result of each process; AssertionError if one raises or has no result within `patience` seconds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = new_processes()
    results = context.Queue()
    processes = [
        context.Process(target=_run, args=(rank, count, port, results, function, *arguments), daemon=True)
        for rank in range(count)
    ]
    for process in processes:
        process.start()
    found = {}
    try:
        for _ in processes:
            rank, result, error = results.get(timeout=patience)
            assert error is None, f"process {rank}: {error}"
            found[rank] = result
    except queue.Empty:
        raise AssertionError(f"only {sorted(found)} of {count} processes came to an end") from None
    finally:
        for process in processes:
            process.join(timeout=5)
            process.kill()
    return [found[rank] for rank in range(count)]


def _run(rank: int, count: int, port: int, results, function: Callable, *arguments) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "ACCELERATE_USE_CPU": "true",
    }
    try:
        results.put((rank, function(*arguments), None))
    except BaseException:
        results.put((rank, None, traceback.format_exc()))


def pretend_fsdp(mixed_precision: str = "no") -> None:
    """Let accelerate shard on CPUs too. A launch on CPUs would not shard, but sharding works over gloo."""
    AcceleratorState._reset_state()
    state = Accelerator(cpu=True, mixed_precision=mixed_precision).state
    state.fsdp_plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="transformer_based_wrap")
    if mixed_precision != "no":
        state.fsdp_plugin.set_mixed_precision(mixed_precision)
    state.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
