"""Verify: whether the files of a model are as they were saved."""

from dataclasses import dataclass
from pathlib import Path

from birthgpt.commands.command import Command
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.evaluation.calibration import has_calibration, load_calibration
from birthgpt.settings import checked, setting
from birthgpt.training.distributed_checkpoints import has_shards, model_of_shards
from birthgpt.training.manifest import check_checkpoint, list_checkpoints, manifest_of, read_manifest


@checked
@dataclass(kw_only=True)
class VerifySettings:
    """Check that the files of a checkpoint, an export or a run are as they were saved."""

    folder: str = setting(help="folder of a checkpoint, an export, or a run with its checkpoints")


def verify(settings: VerifySettings) -> dict[Path, int]:
    """Compare each model of a folder with its manifest, and load it; its calibration must be one of its weights.

    Returns:
        The number of files that were compared, for the folder and for each checkpoint in it; 0 without a manifest.

    Raises:
        ValueError: the folder has no model, or a model is damaged; the message says what is wrong with each.
    """
    folder = Path(settings.folder)
    checkpoints = list_checkpoints(folder)
    models = [folder] if (folder / "config.json").is_file() or manifest_of(folder).is_file() else []
    if not models and not checkpoints:
        raise ValueError(f"{folder} has no model: it has neither config.json nor a checkpoint")
    compared, faults = {}, []
    for model in (*models, *checkpoints):
        try:
            if model in checkpoints:
                check_checkpoint(model)
            if has_shards(model):
                loaded = model_of_shards(model)
            else:
                loaded, _ = load_model_and_tokenizer(str(model))
            if has_calibration(model):
                load_calibration(str(model), loaded, others=None)
            compared[model] = len(read_manifest(model)) if manifest_of(model).is_file() else 0
        except ValueError as fault:
            faults.append(str(fault))
    if faults:
        raise ValueError("; ".join(faults))
    return compared


def show_compared(compared: dict[Path, int]) -> None:
    """Print a line for each model."""
    for folder, files in compared.items():
        if files:
            print(f"{folder}: {files} files are as they were saved, and the model fits its configuration")
        else:
            print(f"{folder}: the model fits its configuration; without a manifest, changed values are not found")


COMMAND = Command(VerifySettings, verify, show_compared, positional=("folder",), several_processes=False)
