"""Convert checkpoints of earlier versions: weights, settings and metadata get the names of this version."""

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from birthgpt.commands.command import Command
from birthgpt.commands.loading import load_model
from birthgpt.commands.run_metadata import RUN_METADATA
from birthgpt.data.tokenizers import CHAT_TEMPLATE, bpe_decoder
from birthgpt.settings import checked, setting
from birthgpt.training.manifest import write_manifest
from birthgpt.utils.files import save_json
from birthgpt.utils.folders import RECORD

PROJECTED = re.compile(r"(layers\.\d+\.attention)\.((?:q|k|v|o)_proj|(?:q|k)_norm)\.")
MEMORY = re.compile(r"(layers\.\d+\.attention)\.memory\.")
MODEL_FILES = ("*config.json", "*.safetensors", "tokenizer.json", "chat_template.jinja", RUN_METADATA)
WITH_OWN_PROJECTIONS = ("synthesizer", "gated_deltanet")

RENAMED_VALUES = {"perceiver_kind": {"stretches": "segments", "assignment": "cs224n"}}
RENAMED_SETTINGS = {
    "longest_run": "max_span_words",
    "cue_share": "cue_probability",
    "cue_behind_share": "cue_after_probability",
    "question_share": "question_ratio",
    "linformer_summaries": "linformer_num_slots",
    "linformer_weights": "abc_weights",
}


@checked
@dataclass(kw_only=True)
class ConvertSettings:
    """Convert a checkpoint of an earlier version to this one; the model computes the same."""

    model_name_or_path: str = setting(help="folder of the checkpoint")
    output_dir: str | None = setting(None, "folder of the converted checkpoint; the same folder if not given")


def convert(settings: ConvertSettings) -> Path:
    """Write the converted checkpoint, load it once to check that it is complete, and return its folder.

    Unfinished runs (`training_state/`, `checkpoint-N/`) are not converted: finish them with the earlier version.

    Raises:
        ValueError: the folder is not a checkpoint of an earlier version, or the output folder exists.
    """
    source = Path(settings.model_name_or_path)
    target = source if settings.output_dir is None else Path(settings.output_dir)
    config = read_json(source / "config.json")
    if not (has_earlier_config(config) or has_earlier_tokenizer(source)):
        raise ValueError(f"{source} is not a checkpoint of an earlier version: there is nothing to convert")
    if target != source:
        if os.path.lexists(target):
            raise ValueError(f"{target} exists: give another output_dir")
        copy_files(source, target)
    if has_earlier_tokenizer(source):
        convert_tokenizer(target)
    if has_earlier_config(config):
        types = config["attention_type"]
        types = types if isinstance(types, list) else [types] * config["num_hidden_layers"]
        weights, metadata = read_weights(source / "model.safetensors")
        save_weights({rename_weight(name, types): tensor for name, tensor in weights.items()}, metadata, target)
        if (source / RUN_METADATA).is_file():
            save_json(target / RUN_METADATA, convert_metadata(read_json(source / RUN_METADATA)))
        # the configuration is written last: until then, the folder is recognised as an earlier version
        save_json(target / "config.json", convert_config(config))
    write_manifest(target, {file for pattern in MODEL_FILES for file in target.glob(pattern)})
    load_model(str(target))
    return target


def copy_files(source: Path, target: Path) -> None:
    """Copy the files of a checkpoint to a new folder, but none of its folders, which may contain the new one."""
    target.mkdir(parents=True)
    for file in source.iterdir():
        if file.is_file() and file.name != RECORD:
            shutil.copy(file, target / file.name)


def has_earlier_config(config: dict[str, Any]) -> bool:
    """Whether a `config.json` was written by birthgpt 0.1."""
    return "linformer_summaries" in config


def has_earlier_tokenizer(folder: Path) -> bool:
    """Whether the tokenizer of a checkpoint appends ⁇, as in earlier versions."""
    file = folder / "tokenizer.json"
    return file.is_file() and Tokenizer.from_file(str(file)).num_special_tokens_to_add(False) > 0


def convert_config(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of a model with the names of this version."""
    config = dict(config)
    kind, slots = config.pop("linformer_kind"), config.pop("linformer_summaries")
    config["linformer_num_slots"] = config["abc_num_slots"] = slots
    config["abc_weights"] = config.pop("linformer_weights")
    config["perceiver_kind"] = RENAMED_VALUES["perceiver_kind"][config["perceiver_kind"]]
    if kind == "abc":
        types = config["attention_type"]
        renamed = ["abc" if name == "linformer" else name for name in (types if isinstance(types, list) else [types])]
        config["attention_type"] = renamed if isinstance(types, list) else renamed[0]
    special = [config[f"{name}_token_id"] for name in ("pad", "bos", "eos")]
    config["ngram_special_token_ids"] = [token for token in special if token is not None]
    return config


def convert_tokenizer(folder: Path) -> None:
    """Let the tokenizer append nothing and decode without the first space; ⁇ stays the end of an answer."""
    file = folder / "tokenizer.json"
    content = read_json(file)
    content["post_processor"] = None
    if content["decoder"]["type"] == "ByteLevel":
        content["decoder"] = json.loads(bpe_decoder().__getstate__())
    save_json(file, content)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)


def convert_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """The content of `run.json` with flat settings, with the names of this version."""
    flat = {name: value for group in metadata["settings"].values() for name, value in group.items()}
    settings = {RENAMED_SETTINGS.get(name, name): value for name, value in flat.items()}
    metadata = dict(metadata) | {"settings": settings}
    metadata["target_ratio"] = metadata.pop("target_share")
    return metadata


def rename_weight(name: str, attention_types: list[str]) -> str:
    """The name of a weight in this version."""
    layer = re.search(r"layers\.(\d+)\.", name)
    name = MEMORY.sub(r"\1.", name)
    if layer is not None and attention_types[int(layer[1])] in WITH_OWN_PROJECTIONS:
        return name
    return PROJECTED.sub(r"\1.projections.\2.", name)


def read_json(file: Path) -> dict[str, Any]:
    """The content of a JSON file; a ValueError if it cannot be read."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        raise ValueError(f"{file} cannot be read: {file.parent} is not a checkpoint") from None


def read_weights(file: Path) -> tuple[dict[str, torch.Tensor], dict[str, str] | None]:
    """All tensors of a file, and its metadata."""
    with safe_open(file, "pt") as content:
        return {name: content.get_tensor(name) for name in content.keys()}, content.metadata()  # noqa: SIM118


def save_weights(weights: dict[str, torch.Tensor], metadata: dict[str, str] | None, folder: Path) -> None:
    """Write the tensors under a temporary name, then rename the file."""
    temporary = folder / ".unfinished-model.safetensors"
    save_file(weights, temporary, metadata)
    temporary.replace(folder / "model.safetensors")


def show_folder(folder: Path) -> None:
    """Print the folder of the checkpoint."""
    print(f"converted: {folder}")


COMMAND = Command(ConvertSettings, convert, show_folder, positional=("model_name_or_path",), several_processes=False)
