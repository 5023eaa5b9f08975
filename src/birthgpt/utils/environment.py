"""The machine of a program: cores, processors, versions."""

import datetime
import logging
import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState

from birthgpt import __version__

logger = logging.getLogger(__name__)

LAUNCHED = {"ACCELERATE_DYNAMO_BACKEND", "TORCHELASTIC_RUN_ID"}
"""Variables in the environment of processes that accelerate or torchrun has launched."""

LIBRARIES = ("torch", "transformers", "datasets", "accelerate", "tokenizers")


def available_cores() -> int:
    """The number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def launcher() -> int | None:
    """The process of `accelerate launch` or `torchrun` that has started this one; None if none of them has."""
    return os.getppid() if LAUNCHED & os.environ.keys() else None


def connected_accelerator(**settings: Any) -> Accelerator:
    """An accelerator that knows the other processes of the launch.

    `torchrun` does not tell accelerate that a machine has no GPU: each process would take itself for the only one, and
    do all the work.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return Accelerator(cpu=several and not torch.accelerator.is_available(), **settings)


def use_threads(accelerator: Accelerator, num_threads: int | None = None) -> None:
    """Set the number of threads that this process computes with.

    Args:
        num_threads: None: `OMP_NUM_THREADS`, or an equal part of this machine's cores if the user has not set it.
    """
    # of several numbers, the first is for the outermost loop
    limit = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if num_threads is not None:
        threads = num_threads
    elif limit.isdecimal() and not (limit == "1" and _is_default_of_launcher()):
        threads = int(limit)
    else:
        threads = available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", accelerator.num_processes))
    torch.set_num_threads(max(1, threads))
    if accelerator.is_main_process:
        logger.info("processes: %d, threads of each: %d", accelerator.num_processes, torch.get_num_threads())


def _is_default_of_launcher() -> bool:
    """Whether a launcher, and not the user, has set `OMP_NUM_THREADS`: launchers set 1 if nothing else is given."""
    process = launcher()
    if process is None:
        return False
    try:
        # what it was started with
        variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
        arguments = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return True
    is_given = any(variable.startswith(b"OMP_NUM_THREADS=") for variable in variables)
    return not is_given and not any(b"num_cpu_threads_per_process" in argument for argument in arguments)


def environment_info() -> dict:
    """Command, hardware, date and versions, which are saved with all published metrics."""
    # the version of this package is that of the code that runs, installed or not
    versions = {name: version(name) for name in LIBRARIES}
    return {
        "command": shlex.join(["python", *sys.argv]),
        "hardware": hardware(),
        "date": datetime.date.today().isoformat(),
        "versions": {"python": platform.python_version(), "birthgpt": __version__, **versions},
    }


def hardware() -> str:
    """The number and the name of the processors."""
    state = PartialState()
    if state.device.type == "cuda":
        return f"{state.num_processes} × {torch.cuda.get_device_name(state.device)}"
    cores = available_cores()
    return f"{cores} core{'' if cores == 1 else 's'} of {_processor_name()}"


def _processor_name() -> str:
    try:
        listing = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in listing.splitlines() if line.startswith("Model name")]
    return names[0] if names else platform.machine()
