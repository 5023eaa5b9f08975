"""The blocks of the model."""

from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache, EncoderDecoderCache
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention import Attention, AttentionType
from .canon import Canon, CanonConfig
from .configuration_base import BaseConfig
from .cross_attention import CrossAttention
from .layers import MLP, HiddenDropout, build_norm, select_positions


class ShownWeights(nn.Module):
    """Returns the attention weights of a block unchanged, so that `output_attentions` has one entry for each layer.

    transformers drops a None that a layer returns among other values. It keeps a None that this module returns.
    """

    def forward(self, weights: torch.Tensor | None) -> torch.Tensor | None:
        return weights


class Block(AttentionType, GradientCheckpointingLayer):
    """Base class of every block.

    An attention type is a subclass of `Block`, not of `Attention`, if the states between its blocks have another
    length. Its constructor takes (config, layer_idx).
    """

    def __init__(self, config: BaseConfig, layer_idx: int):
        super().__init__()
        self.layer_config = config.per_layer_config[layer_idx]
        self.shown_weights = ShownWeights()
        self.dropout = HiddenDropout(config)
        self.cross_attention = CrossAttention(config, layer_idx) if config.add_cross_attention else None

    def attend_to_encoder(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None,
        encoder_mask: Any,
        cross_cache: EncoderDecoderCache | None,
    ) -> torch.Tensor:
        """The states after the cross-attention, if this is a block of a decoder that has an encoder."""
        # a call that finishes no latent of a Perceiver has no states here
        if self.cross_attention is None or not hidden_states.shape[1]:
            return hidden_states
        mixed = self.cross_attention(hidden_states, encoder_hidden_states, encoder_mask, cross_cache)
        return hidden_states + self.dropout(mixed)

    def forward(
        self,
        hidden_states: torch.Tensor,
        inputs_embeds: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        *,
        positions_to_keep: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        encoder_mask: Any = None,
        cross_cache: EncoderDecoderCache | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """The states after this block.

        Args:
            hidden_states: (batch, length, hidden_size).
            inputs_embeds: (batch, length, hidden_size), the embedded tokens, which every block receives.
            encoder_hidden_states: (batch, keys, hidden_size), for cross-attention. The three are positional: reentrant
                gradient checkpointing separates only positional tensors from their graph.
            positions_to_keep: the positions whose output is needed, from `layers.flat_positions`; only for the last
                block.
            encoder_mask, cross_cache: see `CrossAttention.forward`.
            past_key_values, kwargs: the arguments of `Attention.forward`.

        Returns:
            (batch, length, hidden_size), or (*positions, hidden_size).
        """
        raise NotImplementedError


class BirthGPTBlock(Block):
    """Pre-norm block: x + attention(norm x), in a decoder x + cross-attention(norm x), then x + MLP(norm x).

    With `canon_width`, a Canon layer follows each norm: Canon-A and Canon-C in the paper.
    """

    def __init__(self, config: CanonConfig, layer_idx: int, attention_class: type[Attention]):
        super().__init__(config, layer_idx)
        self.attention_norm = build_norm(config, config.hidden_size)
        self.attention = attention_class(config, layer_idx)
        self.mlp_norm = build_norm(config, config.hidden_size)
        self.mlp = MLP(config)
        self.attention_canon = Canon(config, layer_idx, "attention") if config.canon_width else None
        self.mlp_canon = Canon(config, layer_idx, "mlp") if config.canon_width else None
        self.mask_type, self.supports_branches = attention_class.mask_type, attention_class.supports_branches
        self.cache_can_crop = attention_class.cache_can_crop

    def forward(
        self,
        hidden_states: torch.Tensor,
        inputs_embeds: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        *,
        positions_to_keep: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        encoder_mask: Any = None,
        cross_cache: EncoderDecoderCache | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """See `Block.forward`."""
        kwargs["past_key_values"] = past_key_values
        normed = self.attention_norm(hidden_states)
        if self.attention_canon is not None:
            normed = self.attention_canon(normed, **kwargs)
        mixed, weights = self.attention(normed, **kwargs)
        self.shown_weights(weights)
        hidden_states = hidden_states + self.dropout(mixed)
        hidden_states = self.attend_to_encoder(hidden_states, encoder_hidden_states, encoder_mask, cross_cache)
        normed = self.mlp_norm(hidden_states)
        if self.mlp_canon is not None:
            normed = self.mlp_canon(normed, **kwargs)
        # every step after the last attention is position-wise
        hidden_states, normed = (select_positions(states, positions_to_keep) for states in (hidden_states, normed))
        return hidden_states + self.dropout(self.mlp(normed))
