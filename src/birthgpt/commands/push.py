"""Export: a checkpoint that runs where birthgpt is not installed, and its push to the Hub."""

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import HfApi

import birthgpt.model
from birthgpt.commands.building import load_model, load_tokenizer
from birthgpt.commands.model_card import model_card
from birthgpt.commands.run_metadata import RUN_METADATA
from birthgpt.utils.errors import first_line

AUTO_MAP = {
    "AutoConfig": "configuration_birthgpt.BirthGPTConfig",
    "AutoModel": "modeling_birthgpt.BirthGPTModel",
    "AutoModelForCausalLM": "modeling_birthgpt.BirthGPTForCausalLM",
}


@dataclass
class ExportArguments:
    """A checkpoint, where to write it with its code, and where to push it."""

    model_name_or_path: str = field(metadata={"help": "checkpoint to export"})
    output_dir: str = field(metadata={"help": "folder of the export"})
    hub_model_id: str | None = field(default=None, metadata={"help": "repository to push to, as user/name"})
    private: bool = field(default=False, metadata={"help": "make a new repository private"})
    commit_message: str = field(default="Upload model", metadata={"help": "message of the commit on the Hub"})
    overwrite_output_dir: bool = field(default=False, metadata={"help": "replace what the folder holds"})
    dry_run: bool = field(default=False, metadata={"help": "load the checkpoint, list the files, write nothing"})


def export(arguments: ExportArguments) -> Path | None:
    """Write the export and push it where `hub_model_id` is given; the folder of the export.

    Raises:
        ValueError: no checkpoint, a folder that holds something else, or a Hub that refuses or is not reached.
    """
    model = load_model(arguments.model_name_or_path)
    tokenizer = load_tokenizer(arguments.model_name_or_path)
    if arguments.dry_run:
        print(f"{arguments.model_name_or_path} with", *(file.name for file in model_code()))
        return None
    target = Path(arguments.output_dir)
    if target.exists() and not arguments.overwrite_output_dir:
        raise ValueError(f"{target} exists: pass --overwrite_output_dir true to replace it")
    beside = target.with_name(f".unfinished-{target.name}")
    shutil.rmtree(beside, ignore_errors=True)
    model.save_pretrained(beside)
    tokenizer.save_pretrained(beside)
    add_code(beside)
    record = Path(arguments.model_name_or_path) / RUN_METADATA
    card = model_card(
        model,
        json.loads(record.read_text(encoding="utf-8")) if record.is_file() else None,
        arguments.hub_model_id or target.name,
    )
    (beside / "README.md").write_text(card, encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    os.replace(beside, target)
    if arguments.hub_model_id is not None:
        push(target, arguments)
    return target


def model_code() -> list[Path]:
    """The files of the model folder: all that a checkpoint needs to run on its own."""
    folder = Path(birthgpt.model.__file__).parent
    return sorted(file for file in folder.glob("*.py") if file.name != "__init__.py")


def add_code(folder: Path) -> None:
    """Copy the model's code into a checkpoint and name its classes in `auto_map`, all three."""
    for file in model_code():
        shutil.copy(file, folder / file.name)
    config_file = folder / "config.json"
    config = json.loads(config_file.read_text(encoding="utf-8"))
    config["auto_map"] = AUTO_MAP
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def push(folder: Path, arguments: ExportArguments) -> None:
    """Upload the folder as one commit."""
    api = HfApi()
    try:
        api.create_repo(arguments.hub_model_id, private=arguments.private, exist_ok=True)
        api.upload_folder(repo_id=arguments.hub_model_id, folder_path=folder, commit_message=arguments.commit_message)
    # the Hub fails in the words of half a dozen libraries
    except Exception as error:
        raise ValueError(
            f"{arguments.hub_model_id} could not be pushed ({first_line(error)}); the export lies in {folder}"
        ) from None
