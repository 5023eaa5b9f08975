"""The contract of an attention type: what it declares, takes and returns, and how it gets its name."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn
from transformers.cache_utils import Cache

from .cache import STATE_LAYER
from .configuration_base import BaseConfig


class AttentionType:
    """What every attention type declares, be it an `Attention` inside the ordinary block or a `Block` of its own."""

    config_class: type[BaseConfig] = BaseConfig
    """The dataclass with the settings of this type."""

    mask_type: str | None = "causal"
    """The mask that the model builds for it, one of `masks.build_mask`; None for none."""

    cache_type: str = STATE_LAYER
    """The cache of its layer, by the name in `config.layer_types`."""

    supports_branches: bool = False
    """Whether it keeps the branches of a line from seeing one another (`branch_ids`)."""

    @classmethod
    def check_config(cls, config: BaseConfig) -> None:
        """Raise ValueError where settings do not fit together; `config` is that of one layer."""


class Attention(AttentionType, nn.Module):
    """Base of every attention type: each token reads from the tokens before it.

    An attention type is strictly causal, respects padding on either side, and returns the same with and without a
    cache. It finds tokens by `position_ids`, never by tensor index: otherwise left padding would change the output.
    The map that writes into the residual stream is an `OutputProjection`. What it keeps between calls is in the cache
    of its layer (`cache.layer_state`). `initialize_parameters` fills its own parameters and buffers with the functions
    of `transformers.initialization`, which skip what was loaded. Its buffers are persistent.

    Args:
        config: the configuration of the model. `self.layer_config` is the same with the settings of this layer.
        layer_idx: the number of this layer, from 0.
    """

    def __init__(self, config: BaseConfig, layer_idx: int):
        super().__init__()
        self.config = config
        self.layer_config = config.per_layer_config[layer_idx]
        self.layer_idx = layer_idx

    def between_updates(self, step: int, generator: torch.Generator) -> None:
        """Called in training after `step` > 0 updates: the place for what changes between updates, not in `forward`."""

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
            position_embeddings: cosines and sines, (batch, length, d_head) each, or None.
            branch_ids: (batch, length), 0 for the shared prefix, k > 0 for branch k, −1 for padding; or None.
            token_mask: (batch, length), True for a token, False for padding; None where all are tokens.
            past_key_values: the cache to read and extend at `layer_idx`, or None.

        Returns:
            The mixed states, (batch, length, hidden_size), and the attention weights, (batch, heads, length, keys),
            or None where the type has no weights to show.
        """
        raise NotImplementedError


ATTENTION_TYPES: dict[str, type[AttentionType]] = {}
"""The class of each attention type, by its name in `attention_type`."""

Registered = TypeVar("Registered", bound=type[AttentionType])


def register_attention_type(name: str) -> Callable[[Registered], Registered]:
    """Class decorator: `attention_type=name` builds this class.

    A type outside this package is registered for as long as the Python process runs. Its settings are keywords of
    `BirthGPTConfig` without a declaration: the class reads them with a default.

    Raises:
        ValueError: another class has this name.
    """

    def register(attention_class: Registered) -> Registered:
        registered = ATTENTION_TYPES.get(name)
        # a cell of a notebook that runs again defines the same class anew
        if registered is not None and registered.__qualname__ != attention_class.__qualname__:
            raise ValueError(f"attention_type {name!r} is registered already, for {registered.__qualname__}")
        ATTENTION_TYPES[name] = attention_class
        return attention_class

    return register
