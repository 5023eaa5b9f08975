"""Convert checkpoints of earlier versions: weights, settings and metadata get the names of this version.

A checkpoint in shards becomes a folder with all weights in one file.
"""

import json
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from birthgpt.commands.command import Command
from birthgpt.commands.loading import (
    TOKENIZER_CONFIG,
    TOKENIZER_FILE,
    check_folder,
    load_model,
    load_tokenizer,
)
from birthgpt.commands.run_metadata import RUN_METADATA
from birthgpt.data.tokenizers import CHAT_TEMPLATE, bpe_decoder
from birthgpt.settings import checked, setting
from birthgpt.training.distributed_checkpoints import has_shards, model_of_shards
from birthgpt.training.manifest import UNFINISHED, check_checkpoint, write_manifest
from birthgpt.utils.errors import naming_damage
from birthgpt.utils.files import read_json, save_json
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
    """Convert a checkpoint of an earlier version, or one in shards, to a model of this one, which computes the same."""

    model_name_or_path: str = setting(help="folder of the checkpoint")
    output_dir: str | None = setting(None, "folder of the converted checkpoint; the same folder if not given")


def convert(settings: ConvertSettings) -> Path:
    """Write the converted checkpoint, load it once to check that it is complete, and return its folder.

    It is written beside the folder and moved there, so that nothing is changed if it is not complete.

    Unfinished runs (`training_state/`, `checkpoint-N/`) are not converted: finish them with the earlier version.

    Raises:
        ValueError: the folder is neither a checkpoint of an earlier version nor one in shards, or is damaged; the
            output folder exists.
    """
    source = Path(settings.model_name_or_path)
    target = source if settings.output_dir is None else Path(settings.output_dir)
    if not (source / "config.json").is_file():
        raise ValueError(f"{source} has no config.json: it is not a checkpoint")
    check_folder(str(source))
    if has_shards(source):
        return convert_shards(source, target)
    config = read_json(source / "config.json")
    if not (has_earlier_config(config) or has_earlier_tokenizer(source)):
        raise ValueError(f"{source} is not a checkpoint of an earlier version: there is nothing to convert")
    if target != source and os.path.lexists(target):
        raise ValueError(f"{target} exists: give another output_dir")
    # everything is converted before anything is written
    converted = convert_model(source, config) if has_earlier_config(config) else None
    tokenizer = convert_tokenizer(source) if has_earlier_tokenizer(source) else None
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=source if target == source else target.parent) as scratch:
        temporary = Path(scratch, "converted")
        copy_files(source, temporary)
        if tokenizer is not None:
            tokenizer.save_pretrained(temporary)
        if converted is not None:
            save_converted(converted, temporary)
        write_manifest(temporary, {file for pattern in MODEL_FILES for file in temporary.glob(pattern)})
        try:
            load_model(str(temporary))
            if any((temporary / file).exists() for file in (TOKENIZER_FILE, TOKENIZER_CONFIG)):
                load_tokenizer(str(temporary))
        except ValueError as error:
            raise ValueError(str(error).replace(str(temporary), str(source))) from None
        target.mkdir(exist_ok=True)
        # until the configuration is there, the folder is recognised as an earlier version
        for file in sorted(temporary.iterdir(), key=lambda file: file.name == "config.json"):
            os.replace(file, target / file.name)
    return target


def convert_shards(checkpoint: Path, target: Path) -> Path:
    """Write the model of a checkpoint in shards, with its tokenizer, as the folder of a finished model."""
    check_checkpoint(checkpoint)
    if os.path.lexists(target):
        raise ValueError(f"{target} exists: give another output_dir, because the checkpoint stays as it is")
    model = model_of_shards(checkpoint)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=target.parent) as scratch:
        temporary = Path(scratch, "converted")
        copy_files(checkpoint, temporary)
        model.save_pretrained(temporary)
        write_manifest(temporary)
        os.replace(temporary, target)
    return target


def copy_files(source: Path, target: Path) -> None:
    """Copy the files of a checkpoint to a new folder, but none of its folders, which may contain the new one."""
    target.mkdir(parents=True)
    for file in source.iterdir():
        if file.is_file() and file.name != RECORD:
            shutil.copy(file, target / file.name)


class ConvertedModel(NamedTuple):
    """Settings, weights and the record of the run with the names of this version."""

    config: dict[str, Any]
    weights: dict[str, torch.Tensor]
    weights_metadata: dict[str, str] | None
    run: dict[str, Any] | None


def convert_model(source: Path, config: dict[str, Any]) -> ConvertedModel:
    """Read a model of birthgpt 0.1; a ValueError names a file that is damaged."""
    with naming_damage(source / "config.json"):
        converted = convert_config(config)
        types = config["attention_type"]
        types = types if isinstance(types, list) else [types] * config["num_hidden_layers"]
    with naming_damage(source / "model.safetensors"):
        tensors, weights_metadata = read_weights(source / "model.safetensors")
        weights = {rename_weight(name, types): tensor for name, tensor in tensors.items()}
    run = None
    if (source / RUN_METADATA).is_file():
        with naming_damage(source / RUN_METADATA):
            run = convert_metadata(read_json(source / RUN_METADATA))
    return ConvertedModel(converted, weights, weights_metadata, run)


def save_converted(model: ConvertedModel, folder: Path) -> None:
    """Write weights, metadata and configuration."""
    save_weights(model.weights, model.weights_metadata, folder)
    if model.run is not None:
        save_json(folder / RUN_METADATA, model.run)
    save_json(folder / "config.json", model.config)


def has_earlier_config(config: dict[str, Any]) -> bool:
    """Whether a `config.json` was written by birthgpt 0.1."""
    return "linformer_summaries" in config


def has_earlier_tokenizer(folder: Path) -> bool:
    """Whether the tokenizer of a checkpoint appends ⁇, as in earlier versions."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        return False
    with naming_damage(file):
        return Tokenizer.from_file(str(file)).num_special_tokens_to_add(False) > 0


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


def convert_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """A tokenizer that appends nothing and decodes without the first space; ⁇ stays the end of an answer."""
    with naming_damage(folder / "tokenizer_config.json"):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    with naming_damage(folder / "tokenizer.json"):
        content = json.loads(tokenizer.backend_tokenizer.to_str())
        content["post_processor"] = None
        if content["decoder"]["type"] == "ByteLevel":
            content["decoder"] = json.loads(bpe_decoder().__getstate__())
        tokenizer._tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


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
