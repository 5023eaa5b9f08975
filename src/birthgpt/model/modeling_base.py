"""The base class of the models: initialisation, loading and saving, and what every forward pass does around itself."""

import inspect
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import logging

from .attention_types import get_attention_type
from .block import Block, ShownWeights
from .cache import STATE_LAYER
from .configuration_birthgpt import BirthGPTConfig
from .layers import OutputProjection

logger = logging.get_logger(__name__)


class LearnedPositions(nn.Embedding):
    """One trained vector for each position; it starts at zero, as in the assignment."""


class BirthGPTPreTrainedModel(PreTrainedModel):
    """Initialisation, loading, saving, and the features of transformers that the model supports."""

    config: BirthGPTConfig
    config_class = BirthGPTConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _skip_keys_device_placement = ["past_key_values"]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {"hidden_states": Block, "attentions": ShownWeights}

    def __init__(self, config: BirthGPTConfig):
        config.check_settings()
        uses_interface = [get_attention_type(name).uses_attention_interface for name in config.attention_types]
        has_states = STATE_LAYER in config.layer_types
        # the class has the features of softmax attention; transformers reads those of the model, some already in super
        self._supports_flash_attn = self._supports_flex_attn = any(uses_interface)
        self._supports_attention_backend = all(uses_interface) and not has_states
        self._can_compile_fullgraph = not has_states
        super().__init__(config)

    def gradient_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """Recompute activations in the backward pass, to save memory; see `PreTrainedModel`."""
        with warnings.catch_warnings():
            # newer versions of transformers have another name, activation_checkpointing_enable, and call this one
            warnings.simplefilter("ignore", FutureWarning)
            super().gradient_checkpointing_enable(*args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, LearnedPositions):
            init.zeros_(module.weight)
        initialize = getattr(module, "initialize_parameters", None)
        if initialize is not None:
            initialize()
        # by class: in custom models, transformers skips modules that contain others but have no parameter
        if self.config.zero_init_residual and isinstance(module, OutputProjection):
            init.zeros_(module.weight)


def as_int64(ids: torch.Tensor | None) -> torch.Tensor | None:
    """Integers of any type as int64, in which no sum or product of ids overflows; anything else unchanged."""
    return ids if ids is None or ids.is_floating_point() else ids.long()


def without_missing_attentions(forward: Callable) -> Callable:
    """Decorator of `forward`: `attentions` is empty, with a warning, if no layer returned weights."""

    @wraps(forward)
    def wrapper(self: BirthGPTPreTrainedModel, *args, **kwargs) -> BaseModelOutputWithPast:
        outputs = forward(self, *args, **kwargs, return_dict=True)
        if outputs.attentions and all(weights is None for weights in outputs.attentions):
            logger.warning_once(
                f"output_attentions: no layer of attention_type={self.config.attention_type!r} returned weights with "
                f"attn_implementation={self.config._attn_implementation!r}: types that have weights return them with "
                "attn_implementation='eager'"
            )
            outputs.attentions = ()
        return outputs

    return wrapper


def without_needless_cache(forward: Callable) -> Callable:
    """Decorator of `forward`: the default of `use_cache` is False if no token follows: in training, in an encoder."""
    index = list(inspect.signature(forward).parameters).index("use_cache") - 1

    @wraps(forward)
    def wrapper(self: BirthGPTPreTrainedModel, *args, **kwargs) -> BaseModelOutputWithPast:
        no_token_follows = self.training or not self.config.is_causal
        if no_token_follows and len(args) <= index and kwargs.get("use_cache") is None:
            kwargs["use_cache"] = False
        return forward(self, *args, **kwargs)

    return wrapper
