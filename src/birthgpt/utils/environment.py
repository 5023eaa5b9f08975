"""The machine of a program: cores, processors, versions."""

import datetime
import logging
import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import version

import torch
from accelerate import Accelerator, PartialState

from birthgpt import __version__

logger = logging.getLogger(__name__)

LIBRARIES = ("torch", "transformers", "datasets", "accelerate", "tokenizers")


def available_cores() -> int:
    """The number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_all_cores(accelerator: Accelerator) -> None:
    """Divide this machine's cores among its processes. `OMP_NUM_THREADS` limits them if the user has set it.

    `accelerate launch` on CPU sets `OMP_NUM_THREADS=1` if the user has not set it, so this value is ignored there.
    """
    limit = os.environ.get("OMP_NUM_THREADS", "")
    is_set_by_launcher = limit == "1" and "ACCELERATE_MIXED_PRECISION" in os.environ
    if limit.isdecimal() and not is_set_by_launcher:
        threads = int(limit)
    else:
        threads = available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", accelerator.num_processes))
    torch.set_num_threads(max(1, threads))
    if accelerator.is_main_process:
        logger.info("processes: %d, threads of each: %d", accelerator.num_processes, torch.get_num_threads())


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
