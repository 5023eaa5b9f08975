"""The contract of an attention type: what it declares, takes and returns, and how it is registered."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn
from transformers.cache_utils import Cache

from .cache import STATE_LAYER
from .configuration_base import BaseConfig


class AttentionType:
    """What every attention type declares. It is an `Attention` inside the standard block, or its own `Block`."""

    config_class: type[BaseConfig] = BaseConfig
    """The dataclass with the settings of this type."""

    mask_type: str | None = "full"
    """The type of its mask, as in `masks.build_mask`; None: no mask."""

    cache_type: str = STATE_LAYER
    """The name of its cache in `config.layer_types`."""

    uses_attention_interface: bool = False
    """Whether `attn_implementation` may be any attention function of transformers, such as flash or flex attention."""

    cache_can_crop: bool = False
    """Whether tokens can be removed from its cache, which assisted generation needs: it contains no sum over tokens."""

    tensor_parallel_plan: dict[str, str] = {}
    """How transformers may shard each of its linear maps over processes, head by head; empty: each process has all."""

    supports_branches: bool = False
    """Whether it supports `branch_ids`: a branch does not see other branches."""

    supports_bidirectional: bool = False
    """Whether it has a bidirectional form, for `is_causal=False`: each token sees the tokens on both sides."""

    causal_settings: tuple[str, ...] = ()
    """The names of its settings that only the causal form reads."""

    bidirectional_settings: tuple[str, ...] = ()
    """The names of its settings that only the bidirectional form reads."""

    @classmethod
    def check_config(cls, config: BaseConfig) -> None:
        """Raise ValueError for settings that cannot be combined; `config` is the configuration of one layer."""

    @classmethod
    def applies_rotary(cls, config: BaseConfig) -> bool:
        """Whether a layer with this configuration rotates queries and keys, if positions are rotary."""
        return True


class Attention(AttentionType, nn.Module):
    """Base class of attention types: each token reads itself and the tokens before it.

    With `is_causal=False` in the configuration, it also reads the tokens after it, as in an encoder. Both forms have
    the same equation, and differ in what a token may see. The bidirectional form has no cache and no branches.

    An attention type is strictly causal, supports padding on both sides, and returns the same with and without a cache.
    It finds tokens by `position_ids`, or by the number of tokens before them in their row, never by tensor index:
    otherwise left padding would change the output. Positions may start anywhere and have gaps. The linear map that
    writes into the residual stream is an `OutputProjection`. The cache of the layer (`cache.layer_state`) contains what
    is kept between calls. `initialize_parameters` fills the parameters and buffers of the type with the functions of
    `transformers.initialization`, which skip loaded tensors. Buffers are persistent.

    Args:
        config: the configuration of the model. `self.layer_config` is the configuration of this layer.
        layer_idx: the index of this layer, from 0.
    """

    def __init__(self, config: BaseConfig, layer_idx: int):
        super().__init__()
        self.config = config
        self.layer_config = config.per_layer_config[layer_idx]
        self.layer_idx = layer_idx
        self.is_causal = config.is_causal

    def between_updates(self, step: int, generator: torch.Generator) -> None:
        """Change what is not trained, such as random features. The trainer calls it after `step` > 0 updates."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        *,
        attention_mask: torch.Tensor | None,
        position_ids: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None,
        branch_ids: torch.Tensor | None = None,
        token_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Mix the tokens of each sequence.

        Args:
            hidden_states: (batch, length, hidden_size), normalised.
            attention_mask: the mask of `mask_type`.
            position_ids: (batch, length), the position of each token in its sequence; padding is not counted.
            position_embeddings: cosines and sines of `RotaryEmbedding`, (batch, length, r) each, or None.
            branch_ids: (batch, length), 0 for the shared prefix, k > 0 for branch k, −1 for padding; or None.
            token_mask: (batch, length), True for a token, False for padding; None without padding.
            past_key_values: the cache to read and extend at `layer_idx`, or None.

        Returns:
            The mixed states, (batch, length, hidden_size), and the attention weights, (batch, heads, length, keys),
            or None if the type does not return weights.
        """
        raise NotImplementedError


ATTENTION_TYPES: dict[str, type[AttentionType]] = {}
"""The class of each attention type, by name."""

Registered = TypeVar("Registered", bound=type[AttentionType])


def register_attention_type(name: str) -> Callable[[Registered], Registered]:
    """Class decorator: `attention_type=name` builds this class.

    A type from outside this package is registered until the Python process ends. `BirthGPTConfig` does not declare its
    settings, but takes them as keywords: the class reads them with a default.

    Raises:
        ValueError: another class has this name.
    """

    def register(attention_class: Registered) -> Registered:
        registered = ATTENTION_TYPES.get(name)
        # a notebook cell that runs again defines the same class again
        if registered is not None and registered.__qualname__ != attention_class.__qualname__:
            raise ValueError(
                f"attention_type={name!r} is already registered for {registered.__qualname__}: choose another name"
            )
        ATTENTION_TYPES[name] = attention_class
        return attention_class

    return register
