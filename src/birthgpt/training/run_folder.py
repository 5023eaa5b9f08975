"""The folder of a run: whether it may be used, which checkpoint to resume from, with which settings it began."""

import json
import logging
import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from birthgpt.settings import checked, declared_settings, flatten_settings, setting
from birthgpt.training.manifest import (
    MANIFEST,
    TRAINING_STATE,
    UNFINISHED,
    check_checkpoint,
    latest_valid,
    list_checkpoints,
    step_of,
)
from birthgpt.utils.files import save_json, sha256_of

logger = logging.getLogger(__name__)

SETTINGS_FILE = "settings.json"


@checked
@dataclass(kw_only=True)
class RunSettings:
    """Where a run is saved, and its random numbers."""

    output_dir: str = setting(help="folder of the checkpoint", free_on_resume=True)
    overwrite_output_dir: bool = setting(False, "delete what the folder contains", free_on_resume=True)
    resume_from_checkpoint: str | None = setting(None, "a checkpoint of this run, or: latest", free_on_resume=True)
    seed: int = setting(0, "of weights, dropout, examples and their order")
    data_seed: int | None = setting(None, "of the examples and their order, if another than seed")
    dry_run: bool = setting(False, "print sizes, FLOPs, time and examples, and train nothing", free_on_resume=True)

    @property
    def seed_of_data(self) -> int:
        """The seed of the examples and their order."""
        return self.seed if self.data_seed is None else self.data_seed


def open_run_folder(settings: Any, run: RunSettings, accelerator: Accelerator, folders: Sequence[Path]) -> Path | None:
    """Make the folder of a run, with those of its models; the checkpoint to resume from, or None.

    The main process decides for all: folders on other machines may contain something else.

    Args:
        settings: all settings of the run, which are saved beside it.
        folders: those of the models, where there are several; else empty.

    Raises:
        ValueError: on every process: a folder that contains a run; no checkpoint where one is named; a run that began
            with other settings; a checkpoint that some process does not have.
    """
    folder = Path(run.output_dir)
    resume_from = decided_by_main(lambda: _choose_checkpoint(settings, run, folders), accelerator)
    if resume_from is not None:
        check_same_on_all_processes(resume_from, accelerator)
    if accelerator.is_main_process:
        if run.resume_from_checkpoint is None and folder.is_dir():
            empty_folder(folder)
        for place in [folder, *folders]:
            place.mkdir(parents=True, exist_ok=True)
            remove_unfinished(place)
        save_json(folder / SETTINGS_FILE, flatten_settings(settings))
    accelerator.wait_for_everyone()
    return resume_from


def check_run_folder(run: RunSettings) -> None:
    """ValueError where a new run would mix with what the folder contains."""
    folder = Path(run.output_dir)
    if folder.is_file():
        raise ValueError(f"output_dir={run.output_dir} is a file")
    if folder.is_dir() and any(folder.iterdir()) and not run.overwrite_output_dir:
        raise ValueError(
            f"{run.output_dir} is not empty: pass --overwrite_output_dir true to begin a new run, or "
            "--resume_from_checkpoint latest to continue"
        )


def check_output_is_not_input(run: RunSettings, **sources: str | None) -> None:
    """ValueError where `output_dir`, which is emptied, is or contains a file or checkpoint that the run reads."""
    folder = Path(run.output_dir).resolve()
    for name, source in sources.items():
        # a name that is not a path here may be one on the Hub
        if source is None or not Path(source).exists():
            continue
        if folder in (Path(source).resolve(), *Path(source).resolve().parents):
            raise ValueError(f"output_dir={run.output_dir} is emptied, but contains {name}={source}: choose another")


def check_same_settings(folder: Path, settings: Any) -> None:
    """ValueError where the run in this folder began with another value of a setting that changes the result."""
    if not (folder / SETTINGS_FILE).is_file():
        logger.warning("%s does not say with which settings the run began: make sure they are the same", folder)
        return
    begun = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
    declared = declared_settings(type(settings))
    for name, value in flatten_settings(settings).items():
        before = begun.get(name, value)
        if before != value and not declared[name].metadata["free_on_resume"]:
            raise ValueError(
                f"{folder} was begun with {name}={before}, not {value}: a run is resumed with the settings it began "
                "with; give the same, or begin another run in its own output_dir"
            )


def check_no_foreign_files(folder: Path, *, folders: Sequence[Path] = ()) -> None:
    """ValueError where a run without a checkpoint is to be resumed, and its folder has files that no new run leaves."""
    known = ("logs", "checkpoint-", SETTINGS_FILE, UNFINISHED, *(path.name for path in folders))
    found = [path.name for path in sorted(folder.glob("*")) if not path.name.startswith(known)]
    if found:
        raise ValueError(f"{folder} contains {found[0]}, but no checkpoint to resume from")
    logger.warning("%s has no checkpoint yet: the run starts from the beginning", folder)


def checkpoint_to_resume(output_dir: str, resume_from_checkpoint: str | None) -> Path | None:
    """The checkpoint that `resume_from_checkpoint` means, checked: a path, or the last valid one for `latest`.

    None means the beginning, also for `latest` in a run that was stopped before its first checkpoint.

    Raises:
        ValueError: a folder that is not a checkpoint, or a damaged one; a checkpoint that the run in `output_dir` is
            beyond; a run all of whose checkpoints are damaged.
    """
    if resume_from_checkpoint is None:
        return None
    if resume_from_checkpoint != "latest":
        checkpoint = Path(resume_from_checkpoint)
        check_checkpoint(checkpoint)
        later = [path for path in list_checkpoints(Path(output_dir)) if step_of(path) > step_of(checkpoint)]
        if later:
            raise ValueError(
                f"{output_dir} has continued to {later[-1].name}: remove the checkpoints after {checkpoint.name}"
            )
        return checkpoint
    found = latest_valid(([checkpoint] for checkpoint in reversed(list_checkpoints(Path(output_dir)))), output_dir)
    return found[0] if found is not None else None


def checkpoint_of_all(folders: Sequence[Path], resume_from_checkpoint: str) -> Path | None:
    """The newest checkpoint that is valid for every model of a group, in the folder of the first; None: the beginning.

    Raises:
        ValueError: another value than `latest`; checkpoints of which none is valid for all; a model that has none where
            others have some.
    """
    if resume_from_checkpoint != "latest":
        raise ValueError("several models are resumed together: pass --resume_from_checkpoint latest")
    found = {folder: {path.name for path in list_checkpoints(folder)} for folder in folders}
    names = set.intersection(*found.values())
    # a run that is stopped while it writes the very first has one of some models, and a folder for each
    stopped_early = all(folder.is_dir() and len(of_one) < 2 for folder, of_one in found.items())
    if any(found.values()) and not names and not stopped_early:
        raise ValueError(f"these have no checkpoint in common: {', '.join(map(str, found))}; give the same models")
    newest_first = sorted(names, key=lambda name: -step_of(Path(name)))
    candidates = ([folder / name for folder in folders] for name in newest_first)
    valid = latest_valid(candidates, folders[0].parent)
    return valid[0] if valid is not None else None


def empty_folder(folder: Path) -> None:
    """Remove its content; the folder itself may be a link, or the place where a disk is mounted."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def remove_unfinished(folder: Path) -> None:
    """Remove what a run that was killed was writing."""
    for path in folder.glob(f"{UNFINISHED}*"):
        shutil.rmtree(path)


def decided_by_main(decide: Callable[[], Path | None], accelerator: Accelerator) -> Path | None:
    """What the main process decides, on all of them; its ValueError is raised on all."""
    found, fault = None, None
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
    """ValueError on every process unless each of them has the same checkpoint as the main one."""
    fault = None
    manifest = checkpoint / TRAINING_STATE / MANIFEST
    (expected,) = broadcast_object_list([sha256_of(manifest) if accelerator.is_main_process else None])
    try:
        if not accelerator.is_main_process:
            check_checkpoint(checkpoint)
            if sha256_of(manifest) != expected:
                raise ValueError(f"{checkpoint} is not that of the main process: {MANIFEST} differs")
    except ValueError as error:
        fault = f"process {accelerator.process_index} of {platform.node()}: {error}"
    faults = [fault for fault in gather_object([fault]) if fault is not None]
    if faults:
        raise ValueError(
            f"the run cannot continue from {checkpoint}, which the main process has: {'; '.join(faults)}; put "
            "output_dir on a disk that all machines share, or copy the checkpoint to each"
        )


def _choose_checkpoint(settings: Any, run: RunSettings, folders: Sequence[Path]) -> Path | None:
    if run.resume_from_checkpoint is None:
        check_run_folder(run)
        return None
    if folders:
        resume_from = checkpoint_of_all(folders, run.resume_from_checkpoint)
    else:
        resume_from = checkpoint_to_resume(run.output_dir, run.resume_from_checkpoint)
    if resume_from is None:
        for place in [Path(run.output_dir), *folders]:
            check_no_foreign_files(place, folders=folders)
        return None
    if not folders and resume_from.resolve().parent != Path(run.output_dir).resolve():
        check_run_folder(run)
    check_same_settings(Path(run.output_dir) if folders else resume_from.parent, settings)
    return resume_from
