"""Tokenizer, model and batches from the settings of a run."""

import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterable

import datasets
import torch
from accelerate import Accelerator
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from birthgpt.data.batching import EpochBatches, StreamedBatches
from birthgpt.data.tokenizers import train_tokenizer
from birthgpt.model import BirthGPTConfig, BirthGPTForCausalLM
from birthgpt.training.arguments import ModelArguments, OptimizationArguments, TokenizerArguments
from birthgpt.utils.errors import first_line

logger = logging.getLogger(__name__)

ANSWER_LENGTH = 48
TOKENIZER_SAMPLE = 200_000

# settings that may differ from those a checkpoint was trained with
FREE_SETTINGS = ("hidden_dropout", "attention_dropout", "attn_implementation", "gradient_checkpointing")


def build_tokenizer(arguments: TokenizerArguments, texts: Iterable[str], block_size: int) -> PreTrainedTokenizerBase:
    """Load the named tokenizer, or train one on (the first 200,000 of) these texts."""
    if arguments.tokenizer_name_or_path is not None:
        return load_tokenizer(arguments.tokenizer_name_or_path)
    texts = itertools.islice(texts, TOKENIZER_SAMPLE)
    return train_tokenizer(arguments.tokenizer_type, texts, arguments.vocab_size, block_size)


def load_tokenizer(name_or_path: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint; ValueError where there is none or it lacks ⁇ or □."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(name_or_path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{name_or_path} holds no tokenizer ({first_line(error)})") from None
    if tokenizer.mask_token_id is None or tokenizer.pad_token_id is None:
        raise ValueError(f"the tokenizer of {name_or_path} has no mask token ⁇ or no pad token □")
    return tokenizer


def build_model(arguments: ModelArguments, tokenizer: PreTrainedTokenizerBase, block_size: int) -> PreTrainedModel:
    """A new model for this tokenizer."""
    settings = dataclasses.asdict(arguments)
    types = settings.pop("attention_type")
    attn_implementation = settings.pop("attn_implementation")
    gradient_checkpointing = settings.pop("gradient_checkpointing")
    try:
        config = BirthGPTConfig(
            **{key: value for key, value in settings.items() if key != "rope_theta"},
            attention_type=types[0] if len(types) == 1 else types,
            rope_parameters={"rope_theta": arguments.rope_theta},
            vocab_size=len(tokenizer),
            max_position_embeddings=block_size,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    except StrictDataclassError as error:
        raise ValueError(first_line(error.__cause__ or error)) from None
    _check_attn_implementation(attn_implementation, config)
    config._attn_implementation = attn_implementation
    try:
        model = BirthGPTForCausalLM(config)
    except ImportError as error:
        raise ValueError(f"attn_implementation={attn_implementation}: {first_line(error)}") from None
    # a pipeline would sample where this is silent, and go on past the block
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        max_new_tokens=min(ANSWER_LENGTH, block_size // 4),
        do_sample=False,
    )
    return _with_checkpointing(model, gradient_checkpointing)


def load_model(name_or_path: str, arguments: ModelArguments | None = None) -> PreTrainedModel:
    """The model of a checkpoint; with `arguments`, under their dropout, attention implementation and so on.

    Raises:
        ValueError: no checkpoint there, or settings of another architecture than the checkpoint's.
    """
    overrides = {} if arguments is None else {name: getattr(arguments, name) for name in FREE_SETTINGS}
    gradient_checkpointing = overrides.pop("gradient_checkpointing", False)
    try:
        model = AutoModelForCausalLM.from_pretrained(name_or_path, **overrides)
    # half a file of weights, or weights of another shape
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{name_or_path} holds no model that loads here ({first_line(error)})") from None
    if arguments is not None:
        _check_attn_implementation(arguments.attn_implementation, model.config)
        _check_same_architecture(arguments, model.config, name_or_path)
    return _with_checkpointing(model, gradient_checkpointing)


def build_batches(
    source: datasets.Dataset | datasets.IterableDataset,
    objective: Callable,
    tokenizer: PreTrainedTokenizerBase,
    optimization: OptimizationArguments,
    accelerator: Accelerator,
    seed: int,
) -> EpochBatches | StreamedBatches:
    """The batches of a run, planned for its processes and accumulation steps."""
    streamed = isinstance(source, datasets.IterableDataset)
    if streamed and optimization.num_train_epochs is not None:
        raise ValueError("a stream has no known length: give max_train_steps or max_train_flops, not num_train_epochs")
    parts = accelerator.num_processes * optimization.gradient_accumulation_steps
    batches = (StreamedBatches if streamed else EpochBatches)(
        source,
        objective,
        tokenizer.pad_token_id,
        seed=seed,
        tokens_per_batch=optimization.tokens_per_batch,
        batch_size=optimization.per_device_train_batch_size,
        shuffle=optimization.shuffle,
        parts=parts,
    )
    if not streamed and not len(batches):
        raise ValueError(
            f"{len(batches.examples)} examples cannot be spread over {parts} processes × gradient_accumulation_steps"
        )
    return batches


def split_questions(
    questions: datasets.Dataset, validation_size: int, seed: int
) -> tuple[datasets.Dataset, datasets.Dataset | None]:
    """The questions to train on, and those held out (None where none are).

    Of a question that occurs more than once, nothing is trained on where one is held out.

    Raises ValueError where nothing would be left to train on.
    """
    if not 0 <= validation_size < len(questions):
        raise ValueError(
            f"validation_size={validation_size} of {len(questions)} train questions leaves none to train on"
        )
    if validation_size == 0:
        return questions, None
    parts = questions.train_test_split(test_size=validation_size, seed=seed)
    held_out = set(parts["test"]["question"])
    rows = [index for index, question in enumerate(parts["train"]["question"]) if question not in held_out]
    if not rows:
        raise ValueError(f"validation_size={validation_size}: every train question is held out, so none is left")
    return parts["train"].select(rows), parts["test"]


def _check_attn_implementation(name: str, config: BirthGPTConfig) -> None:
    """ValueError for what would fail in the first update, or much later."""
    if name == "flex_attention" and not torch.cuda.is_available():
        raise ValueError("attn_implementation=flex_attention has no backward pass on CPU: choose sdpa or eager")
    if name == "flex_attention" and config.attention_dropout > 0:
        raise ValueError("attn_implementation=flex_attention knows no dropout: set attention_dropout to 0")


def _with_checkpointing(model: PreTrainedModel, gradient_checkpointing: bool) -> PreTrainedModel:
    if gradient_checkpointing:
        model.gradient_checkpointing_enable()
    return model


def _check_same_architecture(arguments: ModelArguments, config: BirthGPTConfig, where: str) -> None:
    for field in dataclasses.fields(arguments):
        value, default = getattr(arguments, field.name), getattr(ModelArguments(), field.name)
        if field.name in FREE_SETTINGS or value == default:
            continue
        if field.name == "rope_theta":
            loaded = config.rope_parameters["rope_theta"]
        elif field.name == "attention_type":
            loaded = config.attention_types if len(value) > 1 else config.attention_types[:1]
        else:
            loaded = getattr(config, field.name)
        if value != loaded:
            raise ValueError(f"{field.name}={value} does not fit {where}, which was trained with {loaded}")
