"""What a run leaves beside its checkpoint: the folder itself and a record of how it came about."""

import dataclasses
import json
import logging
import platform
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from birthgpt.training.arguments import RunArguments
from birthgpt.training.checkpoints import (
    MANIFEST,
    SETTINGS,
    TRAINING_STATE,
    check_checkpoint,
    check_no_foreign_files,
    check_run_folder,
    checkpoint_to_resume,
    remove_unfinished,
)
from birthgpt.training.stacked_models import Variant, checkpoint_of_all
from birthgpt.training.trainer import TrainingSummary
from birthgpt.utils.environment import environment_info
from birthgpt.utils.files import save_json, sha256_of

logger = logging.getLogger(__name__)

RUN_METADATA = "run.json"

# settings that change nothing of what a run comes to; accumulation times processes is held to by the training itself
FREE_ON_RESUME = {
    "output_dir",
    "overwrite_output_dir",
    "resume_from_checkpoint",
    "gradient_accumulation_steps",
    "logging_steps",
    "save_steps",
    "save_total_limit",
    "dataloader_num_workers",
    "with_tracking",
    "report_to",
    "dry_run",
}


def open_run_folder(arguments: tuple, accelerator: Accelerator, variants: Sequence[Variant] = ()) -> Path | None:
    """Make the folder of a run, with those of its variants; the checkpoint to resume from, or None.

    The main process decides, for all: folders on other machines may hold something else.

    Args:
        arguments: the groups of settings of the run, `RunArguments` last.

    Raises:
        ValueError: on every process, a folder that holds a run, no checkpoint where one was named, one that was
            begun with other settings, or one that is not there for each process.
    """
    run = arguments[-1]
    folder, places = Path(run.output_dir), [variant.folder for variant in variants]
    resume_from = decided_by_main(lambda: _choose_checkpoint(arguments, variants), accelerator)
    if resume_from is not None:
        check_same_on_all_processes(resume_from, accelerator)
    if accelerator.is_main_process:
        if run.resume_from_checkpoint is None and folder.is_dir():
            empty_folder(folder)
        for place in [folder, *places]:
            place.mkdir(parents=True, exist_ok=True)
            remove_unfinished(place)
        save_json(folder / SETTINGS, settings_of(arguments))
    accelerator.wait_for_everyone()
    return resume_from


def _choose_checkpoint(arguments: tuple, variants: Sequence[Variant]) -> Path | None:
    run = arguments[-1]
    if run.resume_from_checkpoint is None:
        check_run_folder(run.output_dir, overwrite=run.overwrite_output_dir)
        return None
    places = [variant.folder for variant in variants]
    if variants:
        resume_from = checkpoint_of_all(variants, run.resume_from_checkpoint)
    else:
        resume_from = checkpoint_to_resume(run.output_dir, run.resume_from_checkpoint)
    if resume_from is not None and not variants and resume_from.resolve().parent != Path(run.output_dir).resolve():
        check_run_folder(run.output_dir, overwrite=run.overwrite_output_dir)
    if resume_from is None:
        for place in [Path(run.output_dir), *places]:
            check_no_foreign_files(place, variants=places)
    else:
        check_same_settings(Path(run.output_dir) if variants else resume_from.parent, arguments)
    return resume_from


def empty_folder(folder: Path) -> None:
    """Remove all that is in it; the folder itself may be a link, or where a disk is mounted."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def check_output_is_not_input(run: RunArguments, **sources: str | None) -> None:
    """ValueError where `output_dir` is, or holds, a file or checkpoint that the run begins with: it is emptied."""
    folder = Path(run.output_dir).resolve()
    for name, source in sources.items():
        # what is not there may be a name on the Hub
        if source is None or not Path(source).exists():
            continue
        if folder in (Path(source).resolve(), *Path(source).resolve().parents):
            raise ValueError(f"output_dir={run.output_dir} is made anew, but holds {name}={source}: choose another")


def settings_of(arguments: tuple) -> dict[str, dict]:
    """The settings of a run by group and name."""
    return {type(group).__name__: dataclasses.asdict(group) for group in arguments}


def check_same_settings(folder: Path, arguments: tuple) -> None:
    """ValueError where the run in this folder was begun with a setting, its budget among them, that is another now."""
    if not (folder / SETTINGS).is_file():
        logger.warning("%s does not say with what settings the run began: see that they are the same", folder)
        return
    begun = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    for group, settings in settings_of(arguments).items():
        for name in settings.keys() - FREE_ON_RESUME:
            before = begun.get(group, {}).get(name, settings[name])
            if before != settings[name]:
                raise ValueError(
                    f"{folder} was begun with {name}={before}, not {settings[name]}: a resumed run goes on as it "
                    "began; give the same, or begin another in an output_dir of its own"
                )


def decided_by_main(decide: Callable[[], Path | None], accelerator: Accelerator) -> Path | None:
    """What the main process finds, for all of them; its ValueError is raised on all."""
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
    """ValueError on every process unless each of them finds the checkpoint as the main one does."""
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
            f"the run cannot go on from {checkpoint}, which the main process has: {'; '.join(faults)}; put output_dir "
            "on a disk that all machines share, or copy the checkpoint to each"
        )


def save_run_metadata(kind: str, arguments: tuple, summary: TrainingSummary) -> None:
    """Write `run.json`: settings, summary, command, hardware, versions and date."""
    run = arguments[-1]
    save_json(
        Path(run.output_dir) / RUN_METADATA,
        {
            "kind": kind,
            **dataclasses.asdict(summary),
            **environment_info(),
            "seed": run.seed,
            "settings": settings_of(arguments),
        },
    )
