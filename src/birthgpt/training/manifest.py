"""The checkpoints of a run, and whether they are complete: a manifest lists every file with size and SHA-256."""

import json
import logging
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from birthgpt.utils.files import sha256_of

logger = logging.getLogger(__name__)

RUN = "run"
"""The kind of a run's folder in its record (`utils.folders`)."""

TRAINING_STATE = "training_state"
MANIFEST = "manifest.json"
UNFINISHED = ".unfinished-"
"""The beginning of the name of a folder that is being written or removed."""


def write_manifest(folder: Path) -> None:
    """Write the size and SHA-256 of every file, then make sure that all files are on the disk."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    entries = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in files
    }
    manifest = folder / TRAINING_STATE / MANIFEST
    manifest.write_text(json.dumps({"files": entries}, indent=1))
    for path in [*files, manifest]:
        with path.open("rb") as file:
            os.fsync(file.fileno())


def check_checkpoint(checkpoint: Path) -> None:
    """Raise ValueError, with the file and what is wrong, unless the checkpoint is as it was written."""
    manifest = checkpoint / TRAINING_STATE / MANIFEST
    if not manifest.is_file():
        raise ValueError(f"{checkpoint} is not a checkpoint of a run, or is damaged: {manifest.name} is missing")
    try:
        files = json.loads(manifest.read_text())["files"]
        expected = {name: (entry["bytes"], entry["sha256"]) for name, entry in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{checkpoint} is damaged: {manifest.name} cannot be read") from None
    for name, (size, digest) in expected.items():
        file = checkpoint / name
        if not file.is_file():
            raise ValueError(f"{checkpoint} is damaged: {name} is missing")
        if file.stat().st_size != size:
            raise ValueError(f"{checkpoint} is damaged: {name} has {file.stat().st_size:,} bytes instead of {size:,}")
        if sha256_of(file) != digest:
            raise ValueError(f"{checkpoint} is damaged: {name} has changed since it was written (its SHA-256 differs)")


def latest_valid(candidates: Iterable[Sequence[Path]], output_dir: str | Path) -> Sequence[Path] | None:
    """The first candidate with only valid folders, from newest to oldest; None if there are no candidates.

    Raises:
        ValueError: all candidates are damaged; the message says what is wrong with each.
    """
    faults = []
    for checkpoints in candidates:
        try:
            for checkpoint in checkpoints:
                check_checkpoint(checkpoint)
        except ValueError as fault:
            logger.warning("%s; an earlier checkpoint is used", fault)
            faults.append(str(fault))
        else:
            return checkpoints
    if faults:
        raise ValueError(f"{output_dir} has no valid checkpoint to resume from: " + "; ".join(faults))
    return None


def list_checkpoints(run_folder: Path) -> list[Path]:
    """The checkpoints of a run, sorted by step, valid or not."""
    found = (path for path in run_folder.glob("checkpoint-*") if step_of(path) >= 0 and path.is_dir())
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step in the name of a checkpoint; −1 for a folder with another name."""
    number = checkpoint.name.removeprefix("checkpoint-")
    return int(number) if number.isdecimal() else -1


def prune_checkpoints(run_folder: Path, save_total_limit: int) -> None:
    """Remove the oldest checkpoints beyond the limit."""
    for old in list_checkpoints(run_folder)[:-save_total_limit]:
        remove_checkpoint(old)


def remove_checkpoint(checkpoint: Path) -> None:
    """Remove a checkpoint. It is renamed first, so that a partly removed checkpoint is never found."""
    temporary = checkpoint.with_name(f"{UNFINISHED}{checkpoint.name}-removed")
    shutil.rmtree(temporary, ignore_errors=True)
    os.replace(checkpoint, temporary)
    shutil.rmtree(temporary)
