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
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import GENERATION_CONFIG_NAME

from birthgpt.model import BirthGPTConfig, BirthGPTEncoderDecoderConfig
from birthgpt.model.attention_types import config_classes
from birthgpt.settings import did_you_mean
from birthgpt.training.distributed_checkpoints import has_shards
from birthgpt.training.manifest import check_files, manifest_of
from birthgpt.utils.errors import first_line, naming_damage
from birthgpt.utils.files import check_input_file, read_json

logger = getLogger(__name__)

TOKENIZER_FILE, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
JSON_FILES = ("config.json", GENERATION_CONFIG_NAME, "model.safetensors.index.json", TOKENIZER_FILE, TOKENIZER_CONFIG)

KEYS_OF_TRANSFORMERS = (
    *("model_type", "auto_map", "per_layer_config", "output_attentions", "quantization_config", "torch_dtype"),
    *("_name_or_path", "_commit_hash", "code_version"),
)
"""What a `config.json` may contain beside the fields of its class."""


def load_model_and_tokenizer(name_or_path: str, **overrides: Any) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and the tokenizer of a folder, or of a repository of the Hub.

    Args:
        name_or_path: the folder, or the name of the repository.
        overrides: settings of the model that are not those of its `config.json`.

    Raises:
        ValueError: a file is missing or damaged, or differs from the manifest; a weight is missing, unexpected or of
            another shape, or not finite; `config.json` has an unknown setting; the tokenizer does not fit. A model
            that was saved without output head gets a new one, with a warning.
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
    """Raise ValueError if a folder differs from its manifest, has an adapter, or a JSON file that cannot be read.

    Other packages save a model without a manifest. With PEFT, transformers would load an adapter, whatever is missing
    in it; without, it would pass over it.
    """
    folder = Path(name_or_path)
    check_input_file(folder)
    for path in folder.glob("*"):
        check_input_file(path)
    manifest = manifest_of(folder)
    if manifest.is_file():
        try:
            check_files(folder)
        except ValueError as error:
            advice = f"take another copy of it, or remove {manifest.relative_to(folder)} if you changed it yourself"
            raise ValueError(f"{error}: {advice}") from None
    for name in ADAPTER_FILES:
        if (folder / name).exists():
            raise ValueError(
                f"{folder} has an adapter, {name}: merge it into its model (merge_and_unload of PEFT), and save that"
            )
    for name in JSON_FILES:
        if (folder / name).exists():
            read_json(folder / name)


def _read_model(name_or_path: str, **overrides: Any) -> PreTrainedModel:
    if has_shards(Path(name_or_path)):
        raise ValueError(
            f"{name_or_path} is a checkpoint in shards, which only a run can read: "
            f"`birthgpt convert {name_or_path} --output_dir FOLDER` writes its model"
        )
    try:
        with _quiet():
            settings, _ = PreTrainedConfig.get_config_dict(name_or_path)
            with naming_damage(f"{name_or_path}/config.json"):
                _check_settings(settings)
                AutoConfig.from_pretrained(name_or_path, trust_remote_code=False)
            if (Path(name_or_path) / GENERATION_CONFIG_NAME).exists():
                with naming_damage(f"{name_or_path}/{GENERATION_CONFIG_NAME}"):
                    GenerationConfig.from_pretrained(name_or_path)
            has_encoder = settings.get("model_type") == BirthGPTEncoderDecoderConfig.model_type
            auto_class = AutoModelForSeq2SeqLM if has_encoder else AutoModelForCausalLM
            loaded: Any = auto_class.from_pretrained(
                name_or_path,
                output_loading_info=True,
                # they are refused below, by name
                ignore_mismatched_sizes=True,
                trust_remote_code=False,
                **overrides,
            )
    except SafetensorError as error:
        raise ValueError(f"{name_or_path}: its *.safetensors cannot be read ({first_line(error)})") from None
    except ValueError as error:
        raise error if name_or_path in str(error) else ValueError(f"{name_or_path}: {first_line(error)}") from None
    # what else is in a folder is read by other libraries
    except Exception as error:
        raise ValueError(f"{name_or_path} has no model that can be loaded ({first_line(error)})") from None
    model, report = loaded
    _check_types(model, name_or_path)
    _check_weights(model, report, name_or_path)
    return model


def _read_tokenizer(name_or_path: str) -> PreTrainedTokenizerBase:
    folder = Path(name_or_path)
    if folder.is_dir() and not (folder / TOKENIZER_CONFIG).exists():
        raise ValueError(f"{name_or_path} has no tokenizer: {TOKENIZER_CONFIG} is missing")
    has_file = (folder / TOKENIZER_FILE).exists()
    if has_file:
        with naming_damage(folder / TOKENIZER_FILE):
            Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    with naming_damage(f"{name_or_path}/{TOKENIZER_CONFIG if has_file or not folder.is_dir() else TOKENIZER_FILE}"):
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False)
        # some values are read only in use
        tokenizer.decode(tokenizer("Where was A born?")["input_ids"])
    for token in ("mask_token", "eos_token", "pad_token"):
        if getattr(tokenizer, token) is None:
            raise ValueError(f"the tokenizer of {name_or_path} has no {token}: {TOKENIZER_CONFIG} names none")
    if tokenizer.num_special_tokens_to_add():
        raise ValueError(
            f"the tokenizer of {name_or_path} appends tokens: convert a checkpoint of an earlier version by "
            f"`birthgpt convert {name_or_path}`"
        )
    return tokenizer


def _check_settings(settings: Mapping[str, Any]) -> None:
    """A ValueError for a setting of this package's models that nothing reads; its default would be taken instead."""
    configs = {each.model_type: each for each in (BirthGPTConfig, BirthGPTEncoderDecoderConfig)}
    config_class = configs.get(settings.get("model_type", ""))
    if config_class is None:
        return
    classes: list[Any] = [config_class, *config_classes()]
    known = {field.name for cls in classes for field in dataclasses.fields(cls)} | set(KEYS_OF_TRANSFORMERS)
    for name in settings:
        if name not in known:
            hint = did_you_mean(name, known)
            raise ValueError(f"{name!r} is not a setting of the model{f'; {hint}' if hint else ''}")


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
    for name, weight in model.state_dict().items():
        if not weight.isfinite().all():
            raise ValueError(f"{name} of {where} is not finite: its file is damaged, or its training diverged")
    if report["error_msgs"]:
        raise ValueError(f"the weights of {where} cannot be read: {' '.join(str(report['error_msgs'][0]).split())}")


def _check_types(model: PreTrainedModel, name_or_path: str) -> None:
    """A ValueError for weights that are whole numbers or booleans, which loading would convert."""
    tables = {name.rpartition(".")[2] for name, buffer in model.named_buffers() if not buffer.is_floating_point()}
    files = list(Path(name_or_path).glob("model.safetensors")) or sorted(Path(name_or_path).glob("model-*.safetensors"))
    for file in files:
        with naming_damage(file), safe_open(file, "pt") as content:
            kinds = {name: content.get_slice(name).get_dtype() for name in content.keys()}  # noqa: SIM118
        for name, kind in kinds.items():
            if not kind.startswith(("F", "BF")) and name.rpartition(".")[2] not in tables:
                raise ValueError(f"the weights of {name_or_path} are damaged: {name} has the type {kind}")


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
