"""Whether checkpoints and models are complete: a manifest lists their files with size and SHA-256."""

import logging
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from birthgpt.utils.files import read_json, save_json, sha256_of
from birthgpt.utils.folders import check_all_recorded, record_files

logger = logging.getLogger(__name__)

RUN = "run"
"""The kind of a run's folder in its record (`utils.folders`)."""

TRAINING_STATE = "training_state"
MANIFEST = "manifest.json"
UNFINISHED = ".unfinished-"
"""The beginning of the name of a folder that is being written or removed."""

Entries = dict[str, dict[str, Any]]
"""`bytes` and `sha256` of files, by name."""


def write_manifest(folder: Path, files: Iterable[Path] | None = None, hashed: Entries | None = None) -> None:
    """Write the size and SHA-256 of files, then make sure that all of them are on the disk.

    Args:
        folder: a checkpoint or the folder of a model, which loading compares with its manifest.
        files: the files to list; all files of the folder if not given.
        hashed: entries of files that were hashed before.
    """
    manifest = manifest_of(folder)
    listed = (path for path in folder.rglob("*") if path.is_file()) if files is None else files
    listed = sorted(path for path in listed if path != manifest)
    entries = {path.relative_to(folder).as_posix(): path for path in listed}
    known = hashed or {}
    save_json(manifest, {"files": {name: known.get(name) or _entry(path) for name, path in entries.items()}})
    for path in [*listed, manifest]:
        with path.open("rb") as file:
            os.fsync(file.fileno())


def add_to_manifest(folder: Path, name: str) -> None:
    """List a file that was written after the manifest; nothing if the folder has no manifest."""
    manifest = manifest_of(folder)
    if manifest.is_file():
        save_json(manifest, {"files": read_manifest(folder) | {name: _entry(folder / name)}})


def manifest_of(folder: Path) -> Path:
    """The place of the manifest: beside the training state of a checkpoint, else beside the model."""
    state = folder / TRAINING_STATE
    return (state if state.is_dir() else folder) / MANIFEST


def read_manifest(folder: Path) -> Entries:
    """`bytes` and `sha256` of each file by name; a ValueError if the manifest is damaged."""
    manifest = manifest_of(folder)
    try:
        files = read_json(manifest)["files"]
        complete = all(isinstance(entry["bytes"], int) and isinstance(entry["sha256"], str) for entry in files.values())
    except (ValueError, KeyError, TypeError, AttributeError):
        complete = False
    if not complete:
        raise ValueError(f"{folder} is damaged: {manifest.name} cannot be read")
    return files


def check_checkpoint(checkpoint: Path) -> None:
    """Raise ValueError, with the file and what is wrong, unless the checkpoint is as it was written."""
    manifest = checkpoint / TRAINING_STATE / MANIFEST
    if not manifest.is_file():
        raise ValueError(f"{checkpoint} is not a checkpoint of a run, or is damaged: {manifest.name} is missing")
    check_files(checkpoint)


def check_files(folder: Path) -> None:
    """Raise ValueError, with the file and what is wrong, unless all files are as the manifest says."""
    for name, entry in read_manifest(folder).items():
        file, size = folder / name, entry["bytes"]
        if not file.is_file():
            raise ValueError(f"{folder} is damaged: {name} is missing")
        if file.stat().st_size != size:
            raise ValueError(f"{folder} is damaged: {name} has {file.stat().st_size:,} bytes instead of {size:,}")
        if sha256_of(file) != entry["sha256"]:
            raise ValueError(f"{folder} is damaged: {name} has changed since it was written (its SHA-256 differs)")


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


def checkpoints_to_resume(run_folder: Path, resume_from_checkpoint: str | None) -> list[Path]:
    """The checkpoints that a run may go on from, the newest first, valid or not; none if it begins."""
    if resume_from_checkpoint is None:
        return []
    return list_checkpoints(run_folder)[::-1] if resume_from_checkpoint == "latest" else [Path(resume_from_checkpoint)]


def step_of(checkpoint: Path) -> int:
    """The step in the name of a checkpoint; −1 for a folder with another name."""
    number = checkpoint.name.removeprefix("checkpoint-")
    return int(number) if number.isdecimal() else -1


def prune_checkpoints(run_folders: Sequence[Path], save_total_limit: int) -> None:
    """Remove the checkpoints that are older than the newest sound ones, up to the limit.

    A damaged checkpoint does not count, and neither does one that is sound for only some of the models. A checkpoint
    with files of a user stays.

    Args:
        run_folders: the folder of each model of the run.
    """
    found = [checkpoint for folder in run_folders for checkpoint in list_checkpoints(folder)]
    steps = sorted({step_of(checkpoint) for checkpoint in found}, reverse=True)
    sound = 0
    for step in steps if len(steps) > save_total_limit else []:
        checkpoints = [checkpoint for checkpoint in found if step_of(checkpoint) == step]
        if sound < save_total_limit:
            sound += len(checkpoints) == len(run_folders) and all(map(_is_sound, checkpoints))
            continue
        for old in checkpoints:
            try:
                check_all_recorded(old, old.parent)
                remove_checkpoint(old)
            except ValueError as error:
                logger.warning("%s is kept: %s", old, error)


def finish_checkpoint(unfinished: Path, hashed: Entries | None = None) -> Path:
    """Write the manifest of `.unfinished-checkpoint-N`, and rename it to `checkpoint-N`, which is returned.

    Args:
        hashed: entries of files that were hashed before.
    """
    run_folder, checkpoint = unfinished.parent, unfinished.with_name(unfinished.name.removeprefix(UNFINISHED))
    write_manifest(unfinished, hashed=hashed)
    files = [checkpoint.name / path.relative_to(unfinished) for path in unfinished.rglob("*") if path.is_file()]
    record_files(run_folder, RUN, [path.as_posix() for path in files])
    if checkpoint.is_dir():
        make_room(checkpoint)
    os.replace(unfinished, checkpoint)
    return checkpoint


def make_room(checkpoint: Path) -> None:
    """Remove a checkpoint that is saved again; one with files of a user is renamed to `checkpoint-N-kept`."""
    try:
        check_all_recorded(checkpoint, checkpoint.parent)
    except ValueError as error:
        kept = checkpoint.with_name(f"{checkpoint.name}-kept")
        logger.warning("%s is now %s: %s", checkpoint, kept.name, error)
        os.replace(checkpoint, kept)
    else:
        remove_checkpoint(checkpoint)


def remove_checkpoint(checkpoint: Path) -> None:
    """Remove a checkpoint. It is renamed first, so that a partly removed checkpoint is never found."""
    temporary = checkpoint.with_name(f"{UNFINISHED}{checkpoint.name}-removed")
    shutil.rmtree(temporary, ignore_errors=True)
    os.replace(checkpoint, temporary)
    shutil.rmtree(temporary)


def _entry(file: Path) -> dict[str, Any]:
    return {"bytes": file.stat().st_size, "sha256": sha256_of(file)}


def _is_sound(checkpoint: Path) -> bool:
    try:
        check_checkpoint(checkpoint)
    except ValueError as fault:
        logger.warning("%s; an older checkpoint is kept in its place", fault)
        return False
    return True
