"""Tokenizer, model and batches from the settings of a command."""

import itertools
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import datasets
import torch
from accelerate import Accelerator
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from birthgpt.commands.data_report import StreamReport
from birthgpt.commands.loading import load_model_and_tokenizer, load_tokenizer
from birthgpt.data.batching import EpochBatches
from birthgpt.data.names import NameFinder
from birthgpt.data.objectives import ExampleSettings, Objective, ObjectiveSettings, teaches_unknown
from birthgpt.data.questions import load_questions
from birthgpt.data.streaming import StreamedBatches, StreamSettings, share_of_process
from birthgpt.data.tokenizers import (
    TokenizerSettings,
    add_unknown_answer_token,
    train_tokenizer,
    unknown_answer_id,
)
from birthgpt.data.unknown_names import UnknownNames
from birthgpt.model import (
    BirthGPTConfig,
    BirthGPTEncoderDecoderConfig,
    BirthGPTForCausalLM,
    BirthGPTForConditionalGeneration,
)
from birthgpt.settings import CollectedSettings, collect_settings, declared_settings, flatten_settings, setting
from birthgpt.training.losses import leave_out_known, teach_known_names
from birthgpt.training.manifest import check_checkpoint
from birthgpt.training.settings import TrainingSettings
from birthgpt.utils.errors import first_line

logger = logging.getLogger(__name__)

ANSWER_LENGTH = 48
TOKENIZER_SAMPLE = 200_000

MAY_DIFFER_FROM_CHECKPOINT = ("hidden_dropout", "attention_dropout", "attn_implementation", "gradient_checkpointing")


OF_ENCODER = ("num_encoder_layers", "encoder_attention_type")
"""The settings that only an encoder–decoder has."""


@collect_settings(BirthGPTEncoderDecoderConfig)
class ModelSettings(CollectedSettings):
    """The architecture of a new model: the settings of `BirthGPTConfig`, and those of an encoder."""

    architecture: Literal["decoder", "encoder_decoder"] = setting(
        "decoder", "decoder: a language model; encoder_decoder: as in T5, questions are read by an encoder"
    )
    per_layer_config: dict | None = setting(
        None, "settings of single layers, as YAML: {2: {sliding_window: 8}} for the third layer"
    )
    attn_implementation: str = setting("sdpa", "eager, sdpa, flash_attention_2 or flex_attention")
    gradient_checkpointing: bool = setting(False, "recompute activations in the backward pass to save memory")

    def validate_architecture(self):
        """Only an encoder–decoder has settings of an encoder."""
        for name in OF_ENCODER:
            if self.architecture == "decoder" and getattr(self, name):
                raise ValueError(f"{name} is for an encoder: set architecture to encoder_decoder, or leave it out")


def build_tokenizer(
    settings: TokenizerSettings,
    texts: Iterable[str],
    block_size: int,
    checkpoints: Iterable[Path] = (),
    *,
    unknown_answers: bool = False,
) -> PreTrainedTokenizerBase:
    """Load the named tokenizer, or that of a run which goes on, or train one on the first 200,000 of these texts.

    Args:
        settings: the name of the tokenizer, or what to train.
        texts: the lines of a corpus.
        block_size: longest sequence in tokens.
        checkpoints: those of the run, the newest first: the weights belong to their tokenizer.
        unknown_answers: add the unknown-answer token.

    Raises:
        ValueError: the tokenizer cannot be loaded.
    """
    tokenizer = _load_or_train_tokenizer(settings, texts, block_size, checkpoints)
    if unknown_answers:
        add_unknown_answer_token(tokenizer)
    return tokenizer


def _load_or_train_tokenizer(
    settings: TokenizerSettings, texts: Iterable[str], block_size: int, checkpoints: Iterable[Path]
) -> PreTrainedTokenizerBase:
    if settings.tokenizer_name_or_path is not None:
        return load_tokenizer(settings.tokenizer_name_or_path)
    for checkpoint in checkpoints:
        try:
            return load_tokenizer(str(checkpoint))
        except ValueError:
            # the run does not go on from a damaged checkpoint; under sound weights no tokenizer is trained
            if not _is_damaged(checkpoint):
                raise
    return train_tokenizer(settings, itertools.islice(texts, TOKENIZER_SAMPLE), block_size)


def special_token_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that are not text: padding, mask, end and the unknown answer."""
    special = {tokenizer.pad_token_id, tokenizer.mask_token_id, tokenizer.eos_token_id, unknown_answer_id(tokenizer)}
    return sorted(special - {None})


def build_unknown_names(
    settings: ObjectiveSettings | ExampleSettings, names: Iterable[str], excluded: Iterable[str] = ()
) -> UnknownNames | None:
    """The invented names of a training; None if the settings ask for none.

    Args:
        settings: how many, how they are made, and files of questions whose names are never invented.
        names: the names of the corpus.
        excluded: further names that are never invented.

    Raises:
        ValueError: a file cannot be read or its questions have no names, or the names cannot be imitated.
    """
    if not teaches_unknown(settings):
        return None
    names = list(names)
    of_files: list[str] = []
    for file in settings.unknown_name_excluded or ():
        found = list(filter(None, load_questions(file, require_answers=False, names=NameFinder(names))["name"]))
        if not found:
            raise ValueError(
                f"unknown_name_excluded: no question of {file} has a known name: give its questions a column 'name'"
            )
        of_files += found
    new_parts = settings.unknown_name_new_parts
    return UnknownNames(names, part="training", new_parts=new_parts, excluded=[*excluded, *of_files])


def add_unknown_answer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Give the tokenizer of a model the unknown-answer token, and the model a new row of embeddings for it."""
    if unknown_answer_id(tokenizer) is not None:
        return
    add_unknown_answer_token(tokenizer)
    embeddings: Any = model.get_input_embeddings()
    if len(tokenizer) > len(embeddings.weight):
        # the mean of all rows plus noise would need a covariance matrix
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    # encoder and decoder have configurations of their own
    configs = {id(part.config): part.config for part in model.modules() if isinstance(part, PreTrainedModel)}
    for config in configs.values():
        special = getattr(config, "ngram_special_token_ids", None)
        if special is not None:
            # in place: the embeddings of n-grams hold the same list
            special.append(unknown_answer_id(tokenizer))


def build_model(
    settings: ModelSettings,
    tokenizer: PreTrainedTokenizerBase,
    block_size: int,
    *,
    known_names: bool = False,
    known: float = 1.0,
) -> PreTrainedModel:
    """A new model for this tokenizer.

    Args:
        settings: the architecture.
        tokenizer: the model gets its vocabulary size and its special tokens. For an encoder–decoder, it pads on the
            right from now on: others pad labels with it, and the first label follows the token that starts an output.
        block_size: longest sequence in tokens.
        known_names: train it with the loss of questions about names of the corpus (`training.losses`).
        known: targets with a higher probability have no loss.
    """
    values = flatten_settings(settings)
    attn_implementation, checkpointing = values.pop("attn_implementation"), values.pop("gradient_checkpointing")
    has_encoder = values.pop("architecture") == "encoder_decoder"
    if not has_encoder:
        values = {name: value for name, value in values.items() if name not in OF_ENCODER}
    values |= {name: single(value) for name, value in values.items() if name.endswith("attention_type")}
    if has_encoder:
        tokenizer.padding_side = "right"
    config_class: Any = BirthGPTEncoderDecoderConfig if has_encoder else BirthGPTConfig
    config = config_class(
        **values,
        **({"decoder_start_token_id": tokenizer.mask_token_id} if has_encoder else {}),
        vocab_size=len(tokenizer),
        max_position_embeddings=block_size,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        ngram_special_token_ids=special_token_ids(tokenizer),
    )
    _check_attn_implementation(attn_implementation, config)
    config._attn_implementation = attn_implementation
    try:
        model: Any = (BirthGPTForConditionalGeneration if has_encoder else BirthGPTForCausalLM)(config)
    except ImportError as error:
        raise ValueError(f"attn_implementation={attn_implementation}: {first_line(error)}") from None
    # such as sizes for which there is no memory
    except (RuntimeError, MemoryError, OverflowError) as error:
        sizes = {name: values[name] for name in ("hidden_size", "num_hidden_layers")} | {"block_size": block_size}
        given = ", ".join(f"{name}={value}" for name, value in sizes.items())
        raise ValueError(f"the model cannot be built with {given}: {first_line(error)}") from None
    # without these values, a pipeline would sample tokens and continue beyond the block
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        decoder_start_token_id=tokenizer.mask_token_id if has_encoder else None,
        max_new_tokens=min(ANSWER_LENGTH, block_size // 4),
        do_sample=False,
    )
    if known_names:
        teach_known_names(model, tokenizer)
    leave_out_known(model, known)
    return _with_checkpointing(model, checkpointing)


def single(types: str | list[str] | None) -> str | list[str] | None:
    """The attention type for all layers if the list has only one."""
    return types[0] if isinstance(types, list) and len(types) == 1 else types


def load_to_train(name_or_path: str, settings: ModelSettings) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A saved model and its tokenizer; the settings may change what is in `MAY_DIFFER_FROM_CHECKPOINT`.

    Raises:
        ValueError: the folder cannot be loaded, or the settings describe another architecture.
    """
    overrides = {name: getattr(settings, name) for name in MAY_DIFFER_FROM_CHECKPOINT}
    checkpointing = overrides.pop("gradient_checkpointing")
    model, tokenizer = load_model_and_tokenizer(name_or_path, **overrides)
    _check_attn_implementation(settings.attn_implementation, model.config)
    _check_same_architecture(settings, model.config, name_or_path)
    return _with_checkpointing(model, checkpointing), tokenizer


def build_batches(
    source: datasets.Dataset | datasets.IterableDataset,
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    settings: TrainingSettings,
    accelerator: Accelerator,
    *,
    name: str = "the corpus",
    stream: StreamSettings | None = None,
) -> EpochBatches | StreamedBatches:
    """The batches of a run, planned for its processes and accumulation steps.

    Args:
        name: what the log calls a stream.
        stream: how a stream is read; as by default if not given.
    """
    num_micro_batches = accelerator.num_processes * settings.compute.gradient_accumulation_steps
    seed, pad_token_id = settings.run.seed_of_data, tokenizer.pad_token_id
    if isinstance(source, datasets.IterableDataset):
        if settings.budget.num_train_epochs is not None:
            raise ValueError(
                "a stream has no known length: give max_train_steps or max_train_flops, not num_train_epochs"
            )
        processes = accelerator.num_processes
        return StreamedBatches(
            share_of_process(source, accelerator.process_index, processes, name),
            objective,
            pad_token_id,
            settings.batches,
            seed=seed,
            num_micro_batches=num_micro_batches,
            num_processes=processes,
            buffer_size=(stream or StreamSettings()).stream_buffer_size,
            watch=StreamReport(name, objective, tokenizer, counts=accelerator.is_main_process),
        )
    batches = EpochBatches(
        source, objective, pad_token_id, settings.batches, seed=seed, num_micro_batches=num_micro_batches
    )
    if not len(batches.examples):
        raise ValueError(
            f"no line has an example for this objective ({type(objective).__name__}): no line has a name and then "
            "words that are not in the name"
        )
    if not len(batches):
        raise ValueError(
            f"{len(batches.examples)} examples cannot be divided among {num_micro_batches} processes × "
            "gradient_accumulation_steps"
        )
    return batches


def _is_damaged(checkpoint: Path) -> bool:
    try:
        check_checkpoint(checkpoint)
    except ValueError:
        return True
    return False


def _check_attn_implementation(name: str, config: PreTrainedConfig) -> None:
    """A ValueError for settings that would fail only in the first update or later."""
    if name == "flex_attention" and not torch.cuda.is_available():
        raise ValueError("attn_implementation=flex_attention has no backward pass on CPU: choose sdpa or eager")
    if name == "flex_attention" and config.attention_dropout > 0:
        raise ValueError("attn_implementation=flex_attention has no dropout: set attention_dropout to 0")


def _with_checkpointing(model: PreTrainedModel, gradient_checkpointing: bool) -> PreTrainedModel:
    if gradient_checkpointing:
        model.gradient_checkpointing_enable()
    return model


def _check_same_architecture(settings: ModelSettings, config: PreTrainedConfig, where: str) -> None:
    """A ValueError for a given setting that differs from the setting of the checkpoint."""
    for name, entry in declared_settings(ModelSettings).items():
        value = getattr(settings, name)
        if name in MAY_DIFFER_FROM_CHECKPOINT or value in (entry.default, None):
            continue
        if name == "architecture":
            loaded: Any = "encoder_decoder" if config.is_encoder_decoder else "decoder"
        else:
            loaded = config.attention_types if name == "attention_type" else getattr(config, name, None)
        if name == "attention_type":
            value, loaded = (value, loaded) if len(value) > 1 else (value[:1], loaded[:1])
        if name == "encoder_attention_type":
            value = single(value)
        if value != loaded:
            raise ValueError(f"{name}={value} does not fit {where}, which was trained with {loaded}")
