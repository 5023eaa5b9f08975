"""Export a checkpoint, so that it runs without birthgpt installed, and push it to the Hub."""

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from birthgpt import BirthGPTConfig
from birthgpt.code_version import model_code
from birthgpt.commands.card_metadata import CardSettings, evaluation_of
from birthgpt.commands.command import Command
from birthgpt.commands.hub import HubSettings, hub_fault, open_repository, upload
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.commands.model_card import model_card
from birthgpt.commands.report_answers import training_cost
from birthgpt.commands.run_metadata import read_run_metadata
from birthgpt.commands.space import SpaceSettings, check_space, write_space
from birthgpt.evaluation.calibration import Calibration, has_calibration, load_calibration, save_calibration
from birthgpt.settings import checked, setting
from birthgpt.training.manifest import write_manifest
from birthgpt.utils.files import read_json, write_text
from birthgpt.utils.folders import (
    check_may_empty,
    check_output_is_not_input,
    move_files,
    record_files,
    recorded_files,
    remove_recorded,
)
from birthgpt.utils.locks import locked

EXPORT = "export"
"""The kind of an export in the record of its folder (`utils.folders`)."""

CARD = "README.md"

AUTO_MAPS = {
    "birthgpt": {
        "AutoConfig": "configuration_birthgpt.BirthGPTConfig",
        "AutoModel": "modeling_birthgpt.BirthGPTModel",
        "AutoModelForCausalLM": "modeling_birthgpt.BirthGPTForCausalLM",
    },
    "birthgpt_encoder_decoder": {
        "AutoConfig": "configuration_encoder_decoder_birthgpt.BirthGPTEncoderDecoderConfig",
        "AutoModel": "modeling_encoder_decoder_birthgpt.BirthGPTEncoder",
        "AutoModelForSeq2SeqLM": "modeling_encoder_decoder_birthgpt.BirthGPTForConditionalGeneration",
    },
}
"""The `auto_map` of an export, by its `model_type`."""


@checked
@dataclass(kw_only=True)
class PushSettings(HubSettings, CardSettings, SpaceSettings):
    """Export a checkpoint with its code, and push it to the Hub if `hub_model_id` is given."""

    model_name_or_path: str = setting(help="checkpoint to export")
    output_dir: str = setting(help="folder of the export")
    overwrite_output_dir: bool = setting(False, "replace an earlier export in the folder")
    dry_run: bool = setting(False, "load the checkpoint, list the files, write nothing")


def export(settings: PushSettings) -> Path | None:
    """Write the export, and push it if `hub_model_id` is given; return the folder of the export.

    Raises:
        ValueError: there is no checkpoint; its calibration or `metrics_file` is of another; the folder exists, or is
            not an earlier export; the Hub refuses or cannot be reached.
    """
    target = Path(settings.output_dir)
    check_target(target, settings)
    check_space(settings, model_name_or_path=settings.model_name_or_path, export=settings.output_dir)
    metrics = evaluation_of(settings, settings.model_name_or_path)
    model, tokenizer = load_model_and_tokenizer(settings.model_name_or_path)
    calibration = None
    if has_calibration(settings.model_name_or_path):
        calibration = load_calibration(settings.model_name_or_path, model, others=None)
    if settings.dry_run:
        print(f"{settings.model_name_or_path} with", *(file.name for file in model_code()))
        return None
    run = read_run_metadata(settings.model_name_or_path)
    figures: dict[str, Any] = {
        "metrics": metrics,
        "cost": training_cost(settings.model_name_or_path),
        "is_calibrated": calibration is not None,
    }
    card = model_card(model, run, settings.hub_model_id or target.name, settings, **figures)
    write_export(target, model, tokenizer, card, calibration)
    if settings.space_dir is not None:
        write_space(settings, target, recorded_files(target), settings.hub_model_id, settings.license)
    if settings.hub_model_id is None:
        return target
    try:
        repository = open_repository(settings)
        write_text(target / CARD, model_card(model, run, repository.name, settings, **figures))
        upload(target, recorded_files(target), repository, settings.commit_message, settings.hub_tag)
    # many libraries raise their own errors here
    except Exception as error:
        raise ValueError(
            f"{settings.hub_model_id} could not be pushed ({hub_fault(error)}); the export is in {target}"
        ) from None
    return target


def check_target(target: Path, settings: PushSettings) -> None:
    """Raise ValueError unless the folder is new, or an earlier export that may be replaced."""
    if os.path.lexists(target) and not settings.overwrite_output_dir:
        raise ValueError(f"{target} exists: pass --overwrite_output_dir true to replace it")
    check_output_is_not_input(target, model_name_or_path=settings.model_name_or_path)
    check_may_empty(target, EXPORT)


def write_export(
    target: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    card: str,
    calibration: Calibration | None = None,
) -> None:
    """Write all files of the export beside the folder, then replace an earlier export by them."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target), tempfile.TemporaryDirectory(prefix=".unfinished-", dir=target.parent) as scratch:
        temporary = Path(scratch, "export")
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        add_code(temporary)
        if calibration is not None:
            save_calibration(temporary, calibration)
        # the card is written again for the Hub
        write_manifest(temporary)
        write_text(temporary / CARD, card)
        remove_recorded(target, EXPORT)
        record_files(target, EXPORT, [file.name for file in temporary.iterdir()])
        move_files(temporary, target)


def add_code(folder: Path) -> None:
    """Copy the code of the model into a checkpoint, and name its version and its three Auto classes in its config."""
    for file in model_code():
        shutil.copy(file, folder / file.name)
    config_file = folder / "config.json"
    config = read_json(config_file)
    config |= {"auto_map": AUTO_MAPS[config["model_type"]], "code_version": BirthGPTConfig.installed_code}
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def show_folder(folder: Path | None) -> None:
    """Print the folder of the export; nothing after a dry run."""
    if folder is not None:
        print(f"exported to {folder}")


COMMAND = Command(PushSettings, export, show_folder, several_processes=False)
