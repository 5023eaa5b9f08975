"""Cross-attention: the tokens of a decoder attend to the states of an encoder (Vaswani et al., 1706.03762, 3.2.3).

Y + softmax(Q(LN Y) K(X)ᵀ/√d_head + M)V(X), where Y are the states of the decoder, X those of the encoder, and M hides
padding in X. Positions do not rotate queries and keys: the places of two sequences have no distance.
"""

from typing import Any

import torch
from torch import nn
from transformers.cache_utils import EncoderDecoderCache

from .attention_softmax import attend
from .configuration_base import BaseConfig
from .layers import Projections, build_norm


class ShownCrossWeights(nn.Module):
    """Returns the weights of a cross-attention unchanged, so that `cross_attentions` has one entry for each layer."""

    def forward(self, weights: torch.Tensor | None) -> torch.Tensor | None:
        return weights


class CrossAttention(nn.Module):
    """Pre-norm softmax attention to encoder states, whose keys and values are computed once a sequence."""

    def __init__(self, config: BaseConfig, layer_idx: int):
        super().__init__()
        self.config, self.layer_idx, self.is_causal = config, layer_idx, False
        self.norm = build_norm(config, config.hidden_size)
        self.projections = Projections(config)
        self.shown_weights = ShownCrossWeights()

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None,
        encoder_mask: Any = None,
        cross_cache: EncoderDecoderCache | None = None,
    ) -> torch.Tensor:
        """What is added to the states: (batch, length, hidden_size) → the same shape.

        Args:
            hidden_states: (batch, length, hidden_size), those of the decoder.
            encoder_hidden_states: (batch, keys, hidden_size), those of the encoder after its last norm; they may be
                None if the cache has their keys and values.
            encoder_mask: the mask of the padding in them, from `masks.cross_mask`.
            cross_cache: keeps keys and values between calls; the encoder states are read in the first call only.
        """
        queries = self.projections.queries(self.norm(hidden_states))
        if cross_cache is not None and cross_cache.is_updated.get(self.layer_idx):
            kept: Any = cross_cache.cross_attention_cache.layers[self.layer_idx]
            keys, values = kept.keys, kept.values
        else:
            assert encoder_hidden_states is not None
            keys, values = self.projections.keys_and_values(encoder_hidden_states)
            if cross_cache is not None:
                keys, values = cross_cache.cross_attention_cache.update(keys, values, self.layer_idx)
                cross_cache.is_updated[self.layer_idx] = True
        mixed, weights = attend(self, self.config, queries, keys, values, encoder_mask, is_causal=False)
        self.shown_weights(weights)
        return self.projections.output(mixed)
