"""Export a checkpoint, so that it runs without birthgpt installed, and push it to the Hub."""

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import birthgpt.model
from birthgpt.commands.building import load_model, load_tokenizer
from birthgpt.commands.command import Command
from birthgpt.commands.model_card import model_card
from birthgpt.commands.run_metadata import read_run_metadata
from birthgpt.settings import checked, setting
from birthgpt.utils.errors import first_line
from birthgpt.utils.folders import (
    check_may_empty,
    check_output_is_not_input,
    move_files,
    record_files,
    recorded_files,
    remove_recorded,
)

EXPORT = "export"
"""The kind of an export in the record of its folder (`utils.folders`)."""

AUTO_MAP = {
    "AutoConfig": "configuration_birthgpt.BirthGPTConfig",
    "AutoModel": "modeling_birthgpt.BirthGPTModel",
    "AutoModelForCausalLM": "modeling_birthgpt.BirthGPTForCausalLM",
}


@checked
@dataclass(kw_only=True)
class PushSettings:
    """Export a checkpoint with its code, and push it to the Hub if `hub_model_id` is given."""

    model_name_or_path: str = setting(help="checkpoint to export")
    output_dir: str = setting(help="folder of the export")
    hub_model_id: str | None = setting(None, "repository to push to, as user/name")
    private: bool = setting(False, "make a new repository private")
    commit_message: str = setting("Upload model", "message of the commit on the Hub")
    overwrite_output_dir: bool = setting(False, "replace an earlier export in the folder")
    dry_run: bool = setting(False, "load the checkpoint, list the files, write nothing")


def export(settings: PushSettings) -> Path | None:
    """Write the export, and push it if `hub_model_id` is given; return the folder of the export.

    Raises:
        ValueError: there is no checkpoint; the folder exists, or is not an earlier export; the Hub refuses or cannot be
            reached.
    """
    target = Path(settings.output_dir)
    check_target(target, settings)
    model = load_model(settings.model_name_or_path)
    tokenizer = load_tokenizer(settings.model_name_or_path)
    if settings.dry_run:
        print(f"{settings.model_name_or_path} with", *(file.name for file in model_code()))
        return None
    card = model_card(model, read_run_metadata(settings.model_name_or_path), settings.hub_model_id or target.name)
    write_export(target, model, tokenizer, card)
    if settings.hub_model_id is not None:
        push(target, settings.hub_model_id, private=settings.private, commit_message=settings.commit_message)
    return target


def check_target(target: Path, settings: PushSettings) -> None:
    """Raise ValueError unless the folder is new, or an earlier export that may be replaced."""
    if os.path.lexists(target) and not settings.overwrite_output_dir:
        raise ValueError(f"{target} exists: pass --overwrite_output_dir true to replace it")
    check_output_is_not_input(target, model_name_or_path=settings.model_name_or_path)
    check_may_empty(target, EXPORT)


def write_export(target: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, card: str) -> None:
    """Write all files of the export beside the folder, then replace an earlier export by them."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=target.parent) as scratch:
        temporary = Path(scratch, "export")
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        add_code(temporary)
        (temporary / "README.md").write_text(card, encoding="utf-8")
        remove_recorded(target, EXPORT)
        record_files(target, EXPORT, [file.name for file in temporary.iterdir()])
        move_files(temporary, target)


def model_code() -> list[Path]:
    """The files of the model folder: all the code that a checkpoint needs to run on its own."""
    folder = Path(birthgpt.model.__file__).parent
    return sorted(file for file in folder.glob("*.py") if file.name != "__init__.py")


def add_code(folder: Path) -> None:
    """Copy the code of the model into a checkpoint, and name its three Auto classes in `auto_map`."""
    for file in model_code():
        shutil.copy(file, folder / file.name)
    config_file = folder / "config.json"
    config = json.loads(config_file.read_text(encoding="utf-8"))
    config["auto_map"] = AUTO_MAP
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def push(folder: Path, repo_id: str, *, private: bool, commit_message: str) -> None:
    """Upload the files of the export as one commit; other files in its folder are not uploaded."""
    api = HfApi()
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            commit_message=commit_message,
            allow_patterns=recorded_files(folder),
        )
    # many libraries raise their own errors here
    except Exception as error:
        raise ValueError(f"{repo_id} could not be pushed ({first_line(error)}); the export is in {folder}") from None


def show_folder(folder: Path | None) -> None:
    """Print the folder of the export; nothing after a dry run."""
    if folder is not None:
        print(f"exported to {folder}")


COMMAND = Command(PushSettings, export, show_folder, several_processes=False)
