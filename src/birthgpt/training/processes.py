"""What the processes of a run decide together, so that all of them go on or all of them stop."""

import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from birthgpt.training.manifest import MANIFEST, TRAINING_STATE, check_checkpoint
from birthgpt.utils.files import sha256_of

Decision = TypeVar("Decision")
Item = TypeVar("Item")
Result = TypeVar("Result")


def decided_by_main(decide: Callable[[], Decision], accelerator: Accelerator) -> Decision:
    """What the main process decides, on all processes; its ValueError is raised on all processes."""
    found: Any = None
    fault = None
    if accelerator.is_main_process:
        try:
            found = decide()
        except ValueError as error:
            fault = str(error)
    found, fault = broadcast_object_list([found, fault])
    if fault is not None:
        raise ValueError(fault)
    return found


def on_all_processes(work: Callable[[], Result], accelerator: Accelerator) -> list[Result]:
    """What each process finds, in all of them; the ValueError of one process is raised on all."""
    found: Any = None
    fault = None
    try:
        found = work()
    except ValueError as error:
        fault = str(error)
    everything = gather_object([(found, fault)])
    for process, (_, fault) in enumerate(everything):
        if fault is not None:
            raise ValueError(fault if process == accelerator.process_index else f"process {process}: {fault}")
    return [found for found, _ in everything]


def shared_out(work: Callable[[Item], Result], items: Sequence[Item], accelerator: Accelerator) -> list[Result]:
    """The result of each item; each process does a part of the work.

    Raises:
        ValueError: on every process, if one of them raises it, or has other items.
    """
    rank, processes = accelerator.process_index, accelerator.num_processes
    of_each = on_all_processes(lambda: (list(items), [work(item) for item in items[rank::processes]]), accelerator)
    results: list[Any] = [None] * len(items)
    for process, (found, part) in enumerate(of_each):
        if found != list(items):
            raise ValueError(f"process {process} finds other files, or files of another size, than process {rank}")
        results[process::processes] = part
    return results


def check_same_on_all_processes(checkpoint: Path, accelerator: Accelerator) -> None:
    """Raise ValueError on every process unless all of them have the checkpoint of the main process."""
    fault = None
    manifest = checkpoint / TRAINING_STATE / MANIFEST
    (expected,) = broadcast_object_list([sha256_of(manifest) if accelerator.is_main_process else None])
    try:
        if not accelerator.is_main_process:
            check_checkpoint(checkpoint)
            if sha256_of(manifest) != expected:
                raise ValueError(f"{checkpoint} is not the one of the main process: {MANIFEST} differs")
    except ValueError as error:
        fault = f"process {accelerator.process_index} of {platform.node()}: {error}"
    faults = [fault for fault in gather_object([fault]) if fault is not None]
    if faults:
        raise ValueError(
            f"the run cannot continue from {checkpoint}, which the main process has: {'; '.join(faults)}; put "
            "output_dir on a disk that all machines share, or copy the checkpoint to each machine"
        )
