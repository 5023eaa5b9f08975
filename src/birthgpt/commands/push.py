"""Export a checkpoint, so that it runs without birthgpt installed, and push it to the Hub."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi

import birthgpt.model
from birthgpt.commands.command import Command
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.commands.model_card import model_card
from birthgpt.commands.run_metadata import read_run_metadata
from birthgpt.settings import checked, setting
from birthgpt.training.manifest import write_manifest
from birthgpt.utils.errors import first_line

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
    overwrite_output_dir: bool = setting(False, "replace what the folder contains")
    dry_run: bool = setting(False, "load the checkpoint, list the files, write nothing")


def export(settings: PushSettings) -> Path | None:
    """Write the export, and push it if `hub_model_id` is given; return the folder of the export.

    Raises:
        ValueError: there is no checkpoint; the folder contains something else; the Hub refuses or cannot be reached.
    """
    model, tokenizer = load_model_and_tokenizer(settings.model_name_or_path)
    if settings.dry_run:
        print(f"{settings.model_name_or_path} with", *(file.name for file in model_code()))
        return None
    target = Path(settings.output_dir)
    if target.exists() and not settings.overwrite_output_dir:
        raise ValueError(f"{target} exists: pass --overwrite_output_dir true to replace it")
    temporary = target.with_name(f".unfinished-{target.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    add_code(temporary)
    card = model_card(model, read_run_metadata(settings.model_name_or_path), settings.hub_model_id or target.name)
    (temporary / "README.md").write_text(card, encoding="utf-8")
    write_manifest(temporary, [path for path in temporary.iterdir() if path.name != "README.md"])
    shutil.rmtree(target, ignore_errors=True)
    os.replace(temporary, target)
    if settings.hub_model_id is not None:
        push(target, settings.hub_model_id, private=settings.private, commit_message=settings.commit_message)
    return target


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
    """Upload the folder as one commit."""
    api = HfApi()
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=commit_message)
    # many libraries raise their own errors here
    except Exception as error:
        raise ValueError(f"{repo_id} could not be pushed ({first_line(error)}); the export is in {folder}") from None


def show_folder(folder: Path | None) -> None:
    """Print the folder of the export; nothing after a dry run."""
    if folder is not None:
        print(f"exported to {folder}")


COMMAND = Command(PushSettings, export, show_folder, several_processes=False)
