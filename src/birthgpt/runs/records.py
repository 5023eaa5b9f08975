"""What a run leaves beside its checkpoint: the folder itself and a record of how it came about."""

import dataclasses
import datetime
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from accelerate import Accelerator

from birthgpt.evaluation.report import save_json
from birthgpt.training.arguments import RunArguments
from birthgpt.training.checkpoints import (
    check_run_folder,
    check_unstarted,
    checkpoint_to_resume,
    remove_unfinished,
)
from birthgpt.training.loop import TrainingSummary, available_cores
from birthgpt.training.seeds import Variant, checkpoint_of_all

RUN_RECORD = "run.json"


def open_run_folder(run: RunArguments, accelerator: Accelerator, variants: Sequence[Variant] = ()) -> Path | None:
    """Make the folder of a run, with those of its variants; the checkpoint to resume from, or None.

    Raises:
        ValueError: on every process, a folder that holds a run, or no checkpoint where one was named.
    """
    folder, places = Path(run.output_dir), [variant.folder for variant in variants]
    if run.resume_from_checkpoint is None:
        check_run_folder(run.output_dir, overwrite=run.overwrite_output_dir)
    if variants:
        resume_from = checkpoint_of_all(variants, run.resume_from_checkpoint)
    else:
        resume_from = checkpoint_to_resume(run.output_dir, run.resume_from_checkpoint)
    if run.resume_from_checkpoint is not None and resume_from is None:
        for place in [folder, *places]:
            check_unstarted(place, variants=places)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if run.resume_from_checkpoint is None and folder.is_dir():
            shutil.rmtree(folder)
        for place in [folder, *places]:
            place.mkdir(parents=True, exist_ok=True)
            remove_unfinished(place)
    accelerator.wait_for_everyone()
    return resume_from


def save_run_record(kind: str, arguments: tuple, summary: TrainingSummary) -> None:
    """Write `run.json`: settings, summary, command, hardware, versions and date."""
    run = arguments[-1]
    save_json(
        Path(run.output_dir) / RUN_RECORD,
        {
            "kind": kind,
            **dataclasses.asdict(summary),
            **circumstances(),
            "seed": run.seed,
            "settings": {type(group).__name__: dataclasses.asdict(group) for group in arguments},
        },
    )


def circumstances() -> dict:
    """Command, hardware, date and versions, as every figure names them."""
    packages = ("birthgpt", "torch", "transformers", "datasets", "accelerate", "tokenizers")
    return {
        "command": shlex.join(["python", *sys.argv]),
        "hardware": hardware(),
        "date": datetime.date.today().isoformat(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }


def hardware() -> str:
    """The processor that computes, in words."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} × {torch.cuda.get_device_name()}"
    return f"{available_cores()} cores of {_processor_name()}"


def _processor_name() -> str:
    try:
        listing = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in listing.splitlines() if line.startswith("Model name")]
    return names[0] if names else platform.machine()
