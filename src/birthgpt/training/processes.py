"""What the processes of a run decide together, so that all of them go on or all of them stop."""

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from birthgpt.training.manifest import MANIFEST, TRAINING_STATE, check_checkpoint
from birthgpt.utils.files import sha256_of

Decision = TypeVar("Decision")


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
