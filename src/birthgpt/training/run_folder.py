"""The folder of a run: whether it can be used, and which checkpoint to resume from."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from birthgpt.settings import MAX_SEED, checked, flatten_settings, setting
from birthgpt.training.manifest import (
    RUN,
    UNFINISHED,
    check_checkpoint,
    latest_valid,
    list_checkpoints,
    step_of,
)
from birthgpt.training.processes import check_same_on_all_processes, decided_by_main
from birthgpt.training.run_inputs import (
    INPUTS_FILE,
    SETTINGS_FILE,
    Inputs,
    check_inputs_of_processes,
    check_same_inputs,
    check_same_settings,
)
from birthgpt.utils.files import save_json
from birthgpt.utils.folders import (
    RECORD,
    check_all_recorded,
    check_may_empty,
    check_output_is_not_input,
    record_files,
    recorded_files,
    remove_recorded,
)
from birthgpt.utils.locks import LOCK, contents

logger = logging.getLogger(__name__)

LOG_FILES = "logs/**/events.out.tfevents.*"


@checked
@dataclass(kw_only=True)
class RunSettings:
    """The folder of a run, and its seeds."""

    output_dir: str = setting(help="folder of the checkpoint", free_on_resume=True)
    overwrite_output_dir: bool = setting(False, "delete what an earlier run wrote into the folder", free_on_resume=True)
    resume_from_checkpoint: str | None = setting(None, "a checkpoint of this run, or: latest", free_on_resume=True)
    seed: int = setting(0, "of weights, dropout, examples and their order", min=0, max=MAX_SEED)
    data_seed: int | None = setting(None, "of the examples and their order, if another than seed", min=0, max=MAX_SEED)
    dry_run: bool = setting(False, "print sizes, FLOPs, time and examples, and train nothing", free_on_resume=True)

    @property
    def seed_of_data(self) -> int:
        """The seed of the examples and their order."""
        return self.seed if self.data_seed is None else self.data_seed


def open_run_folder(
    settings: Any, run: RunSettings, accelerator: Accelerator, folders: Sequence[Path], inputs: Inputs | None = None
) -> Path | None:
    """Make the folders of a run and of its models; return the checkpoint to resume from, or None.

    The main process decides for all processes: folders on other machines may have other contents.

    Args:
        settings: all settings of the run, which are saved in its folder.
        folders: the folders of the models if there are several, else empty.
        inputs: fingerprints of what the run reads, which are saved too.

    Raises:
        ValueError: on every process: a new run in a folder that is not empty; no checkpoint at the given path; a run
            with other settings or data; a checkpoint or data that some process does not have.
    """
    folder, inputs = Path(run.output_dir), inputs or {}
    check_inputs_of_processes(inputs, accelerator)
    resume_from = decided_by_main(lambda: _choose_checkpoint(settings, run, folders, inputs), accelerator)
    if resume_from is not None:
        check_same_on_all_processes(resume_from, accelerator)
    if accelerator.is_main_process:
        if run.resume_from_checkpoint is None or _is_elsewhere(resume_from, run, folders):
            remove_recorded(folder, RUN)
        record_files(folder, RUN, [SETTINGS_FILE, INPUTS_FILE, LOG_FILES], [path.name for path in folders])
        # the folder of several models records none of its own files, so that no run of one model resumes there
        for place in [folder, *folders] if folders else []:
            record_files(place, RUN)
        for place in [folder, *folders]:
            remove_unfinished(place)
        save_json(folder / INPUTS_FILE, dict(inputs))
        save_json(folder / SETTINGS_FILE, flatten_settings(settings))
    accelerator.wait_for_everyone()
    return resume_from


def check_run_folder(run: RunSettings, folders: Sequence[Path] = ()) -> None:
    """Raise ValueError if a new run would mix with what its folder, or the folders of its models, contain."""
    folder = Path(run.output_dir)
    if folder.is_file():
        raise ValueError(f"output_dir={run.output_dir} is a file: choose a folder")
    if folder.is_dir() and contents(folder) and not run.overwrite_output_dir:
        raise ValueError(
            f"output_dir={run.output_dir} is not empty: pass --overwrite_output_dir true to start a new run, or "
            "--resume_from_checkpoint latest to continue"
        )
    for place in [folder, *folders]:
        check_may_empty(place, RUN)
        for checkpoint in list_checkpoints(place):
            # it would be taken for a checkpoint of the new run
            check_all_recorded(checkpoint, place)


def check_no_foreign_files(folder: Path, *, folders: Sequence[Path] = ()) -> None:
    """Raise ValueError if a folder without a checkpoint contains files that a stopped run does not leave."""
    of_run = ("logs", "checkpoint-", SETTINGS_FILE, INPUTS_FILE, RECORD, LOCK, UNFINISHED)
    known = (*of_run, *(path.name for path in folders))
    # files of a user may be beside those of a run
    names = recorded_files(folder) or sorted(path.name for path in folder.glob("*"))
    found = [name for name in names if not name.startswith(known)]
    if found:
        raise ValueError(f"{folder} contains {found[0]}, but no checkpoint to resume from")
    if of_another := list_checkpoints(folder):
        raise ValueError(f"{folder} contains {of_another[-1].name} of a run of one model: choose another output_dir")
    logger.warning("%s has no checkpoint yet: the run starts from the beginning", folder)


def checkpoint_to_resume(output_dir: str, resume_from_checkpoint: str | None) -> Path | None:
    """The valid checkpoint that `resume_from_checkpoint` names: a path, or the last valid one for `latest`.

    None means the beginning. `latest` returns None too if the run was stopped before its first checkpoint.

    Raises:
        ValueError: a folder that is not a checkpoint or is damaged; a checkpoint older than others in `output_dir`; a
            run with only damaged checkpoints.
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
    """The newest checkpoint that is valid for all models, in the folder of the first model; None: the beginning.

    Raises:
        ValueError: another value than `latest`; no checkpoint is valid for all models; a model has no checkpoint, but
            others have.
    """
    if resume_from_checkpoint != "latest":
        raise ValueError("several models are resumed together: pass --resume_from_checkpoint latest")
    found = {folder: {path.name for path in list_checkpoints(folder)} for folder in folders}
    names = set.intersection(*found.values())
    # a run that was stopped during the first save has all folders, but checkpoints of only some models
    stopped_early = all(folder.is_dir() and len(of_one) < 2 for folder, of_one in found.items())
    if any(found.values()) and not names and not stopped_early:
        raise ValueError(f"no checkpoint exists in all of {', '.join(map(str, found))}: give the same models")
    newest_first = sorted(names, key=lambda name: -step_of(Path(name)))
    candidates = ([folder / name for folder in folders] for name in newest_first)
    valid = latest_valid(candidates, folders[0].parent)
    return valid[0] if valid is not None else None


def remove_unfinished(folder: Path) -> None:
    """Remove the unfinished files of a run that was killed."""
    for path in [*folder.glob(f"{UNFINISHED}model"), *folder.glob(f"{UNFINISHED}checkpoint-*")]:
        shutil.rmtree(path)


def _choose_checkpoint(settings: Any, run: RunSettings, folders: Sequence[Path], inputs: Inputs) -> Path | None:
    if run.resume_from_checkpoint is None:
        check_run_folder(run, folders)
        return None
    if folders:
        resume_from = checkpoint_of_all(folders, run.resume_from_checkpoint)
    else:
        resume_from = checkpoint_to_resume(run.output_dir, run.resume_from_checkpoint)
    if resume_from is None:
        folder = Path(run.output_dir)
        for place in [folder, *folders]:
            check_no_foreign_files(place, folders=folders)
        # a run that was stopped before its first checkpoint begins again, and no other run in its place
        if (folder / SETTINGS_FILE).is_file():
            check_same_settings(folder, settings)
        return None
    if _is_elsewhere(resume_from, run, folders):
        check_output_is_not_input(run.output_dir, resume_from_checkpoint=run.resume_from_checkpoint)
        check_run_folder(run)
    started_in = Path(run.output_dir) if folders else resume_from.parent
    check_same_settings(started_in, settings)
    check_same_inputs(started_in, inputs)
    return resume_from


def _is_elsewhere(resume_from: Path | None, run: RunSettings, folders: Sequence[Path]) -> bool:
    """Whether a run goes on from a checkpoint that is not in its folder."""
    if resume_from is None or folders:
        return False
    return resume_from.resolve().parent != Path(run.output_dir).resolve()
