"""Load a saved model and its tokenizer, complete and as they were saved: every command loads them here.

transformers fills a missing weight with random numbers, and reads past a setting that it does not know. Here both are
errors. A folder that this package wrote has a manifest of hashes, which is compared with the files first.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from logging import getLogger
from pathlib import Path
from typing import Any

import transformers
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from birthgpt.model import BirthGPTConfig
from birthgpt.model.attention_types import config_classes
from birthgpt.settings import did_you_mean
from birthgpt.training.manifest import check_files, manifest_of
from birthgpt.utils.errors import first_line

logger = getLogger(__name__)

KEYS_OF_TRANSFORMERS = (
    *("model_type", "auto_map", "per_layer_config", "output_attentions", "quantization_config", "torch_dtype"),
    *("_name_or_path", "_commit_hash"),
)
"""What a `config.json` may contain beside the fields of its class."""


def load_model_and_tokenizer(name_or_path: str, **overrides: Any) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and the tokenizer of a folder, or of a repository of the Hub.

    Args:
        name_or_path: the folder, or the name of the repository.
        overrides: settings of the model that are not those of its `config.json`.

    Raises:
        ValueError: a file is missing or damaged, or differs from the manifest; a weight is missing, unexpected or of
            another shape; `config.json` has an unknown setting; the tokenizer does not fit. A model that was saved
            without output head gets a new one, with a warning.
    """
    check_folder(name_or_path)
    model, tokenizer = _read_model(name_or_path, **overrides), _read_tokenizer(name_or_path)
    embeddings: Any = model.get_input_embeddings()
    size = len(embeddings.weight)
    if len(tokenizer) > size:
        raise ValueError(f"the tokenizer of {name_or_path} has {len(tokenizer)} tokens, but its model has {size}")
    return model, tokenizer


def load_model(name_or_path: str) -> PreTrainedModel:
    """The model alone, with the errors of `load_model_and_tokenizer`."""
    check_folder(name_or_path)
    return _read_model(name_or_path)


def load_tokenizer(name_or_path: str) -> PreTrainedTokenizerBase:
    """The tokenizer alone, with the errors of `load_model_and_tokenizer`."""
    check_folder(name_or_path)
    return _read_tokenizer(name_or_path)


def check_folder(name_or_path: str) -> None:
    """Raise ValueError if a folder differs from its manifest; other packages save without a manifest."""
    folder = Path(name_or_path)
    if not manifest_of(folder).is_file():
        return
    try:
        check_files(folder)
    except ValueError as error:
        manifest = manifest_of(folder).relative_to(folder)
        raise ValueError(f"{error}: take another copy of it, or remove {manifest} if you changed it yourself") from None


def _read_model(name_or_path: str, **overrides: Any) -> PreTrainedModel:
    try:
        with _quiet():
            settings, _ = PreTrainedConfig.get_config_dict(name_or_path)
            _check_settings(settings)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                name_or_path,
                output_loading_info=True,
                # they are refused below, by name
                ignore_mismatched_sizes=True,
                trust_remote_code=False,
                **overrides,
            )
    # also for an incomplete file of weights
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{name_or_path} has no model that can be loaded ({first_line(error)})") from None
    model, report = loaded
    _check_weights(model, report, name_or_path)
    return model


def _read_tokenizer(name_or_path: str) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"{name_or_path} has no tokenizer ({first_line(error)})") from None
    for token in ("mask_token", "eos_token", "pad_token"):
        if getattr(tokenizer, token) is None:
            raise ValueError(f"the tokenizer of {name_or_path} has no {token}")
    if tokenizer.num_special_tokens_to_add():
        raise ValueError(
            f"the tokenizer of {name_or_path} appends tokens: convert a checkpoint of birthgpt 0.1 by "
            f"`birthgpt convert {name_or_path}`"
        )
    return tokenizer


def _check_settings(settings: Mapping[str, Any]) -> None:
    """A ValueError for a setting of this package's models that nothing reads; its default would be taken instead."""
    if settings.get("model_type") != BirthGPTConfig.model_type:
        return
    classes: list[Any] = [BirthGPTConfig, *config_classes()]
    known = {field.name for cls in classes for field in dataclasses.fields(cls)} | set(KEYS_OF_TRANSFORMERS)
    for name in settings:
        if name not in known:
            hint = did_you_mean(name, known)
            raise ValueError(f"config.json: {name!r} is not a setting of the model{f'; {hint}' if hint else ''}")


def _check_weights(model: PreTrainedModel, report: dict[str, Any], where: str) -> None:
    """A ValueError for weights that do not fit; a warning for the new head of a model that was saved without one."""
    missing = set(report["missing_keys"])
    saved_without_head = model.config.architectures == [type(model.base_model).__name__]
    if missing and saved_without_head and missing <= _weights_of_head(model):
        logger.warning("%s was saved without an output head: its head is new and untrained", where)
        missing = set()
    faults = {
        "is missing": missing,
        "is not a weight of this model": report["unexpected_keys"],
        "has another shape": {name for name, *_ in report["mismatched_keys"]},
    }
    for fault, names in faults.items():
        if names:
            others = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise ValueError(f"the weights of {where} do not fit its config.json: {min(names)} {fault}{others}")
    if report["error_msgs"]:
        raise ValueError(f"the weights of {where} cannot be read: {' '.join(str(report['error_msgs'][0]).split())}")


def _weights_of_head(model: PreTrainedModel) -> set[str]:
    """The names of the weights of the output head."""
    head = model.get_output_embeddings()
    named = [(name, module) for name, module in model.named_modules() if module is head]
    return {f"{name}.{weight}" for name, module in named for weight, _ in module.named_parameters()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Context without the warnings of transformers: its tables of weights are errors here."""
    verbosity = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.utils.logging.set_verbosity(verbosity)
