"""Softmax attention: softmax(QKᵀ/√d_head + M)V (Vaswani et al., 1706.03762, equation 1)."""

import torch
from torch import nn
from transformers.cache_utils import Cache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .attention import Mixer
from .configuration_birthgpt import BirthGPTConfig
from .layers import OutputProjection, apply_rotary, build_norm, split_heads


class SoftmaxAttention(Mixer):
    """Multi-head softmax attention, by the implementation that `attn_implementation` names."""

    supports_branches = True

    def __init__(self, config: BirthGPTConfig, layer_index: int):
        super().__init__(config, layer_index)
        self.num_heads = config.num_attention_heads
        self.head_dim = config.head_dim
        self.scaling = self.head_dim**-0.5
        self.is_causal = True
        width, bias = config.hidden_size, config.attention_bias
        self.q_proj = nn.Linear(width, width, bias=bias)
        self.k_proj = nn.Linear(width, width, bias=bias)
        self.v_proj = nn.Linear(width, width, bias=bias)
        self.o_proj = OutputProjection(width, width, bias=bias)
        self.q_norm = build_norm(config, self.head_dim) if config.qk_norm else nn.Identity()
        self.k_norm = build_norm(config, self.head_dim) if config.qk_norm else nn.Identity()

    def queries(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(batch, length, hidden_size) → (batch, heads, length, d_head)."""
        return self.q_norm(split_heads(self.q_proj(hidden_states), self.num_heads))

    def keys_and_values(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(batch, length, hidden_size) → twice (batch, heads, length, d_head)."""
        keys = self.k_norm(split_heads(self.k_proj(hidden_states), self.num_heads))
        return keys, split_heads(self.v_proj(hidden_states), self.num_heads)

    def queries_keys_and_values(
        self, hidden_states: torch.Tensor, position_embeddings: tuple[torch.Tensor, torch.Tensor] | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(batch, length, hidden_size) → thrice (batch, heads, length, d_head), turned by rotary positions."""
        queries = self.queries(hidden_states)
        keys, values = self.keys_and_values(hidden_states)
        if position_embeddings is not None:
            queries = apply_rotary(queries, *position_embeddings)
            keys = apply_rotary(keys, *position_embeddings)
        return queries, keys, values

    def attend(self, queries, keys, values, attention_mask, **kwargs):
        """Weigh (batch, heads, keys, d_head) values for each query and project the result."""
        attention_function = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        mixed, weights = attention_function(
            self,
            queries,
            keys,
            values,
            attention_mask,
            dropout=self.config.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )  # (batch, length, heads, d_head)
        return self.o_proj(mixed.flatten(-2)), weights

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
        """Causal self-attention; see `Mixer.forward`."""
        queries, keys, values = self.queries_keys_and_values(hidden_states, position_embeddings)
        if past_key_values is not None:
            keys, values = past_key_values.update(keys, values, self.layer_idx)
        return self.attend(queries, keys, values, attention_mask, position_ids=position_ids, **kwargs)


class SlidingSoftmaxAttention(SoftmaxAttention):
    """Softmax over the last `sliding_window` tokens, the own one included (Beltagy et al., 2004.05150)."""

    mask_type = "sliding"

    def attend(self, queries, keys, values, attention_mask, **kwargs):
        """As for softmax; flash attention, which takes no mask, is told the window."""
        kwargs["sliding_window"] = self.config.sliding_window
        return super().attend(queries, keys, values, attention_mask, **kwargs)


def cross_attention(
    attention: SoftmaxAttention,
    hidden_states: torch.Tensor,
    context_states: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Let `hidden_states` ask and `context_states` answer, with the weights of `attention`.

    Args:
        hidden_states: (batch, length, hidden_size), the queries' side.
        context_states: (batch, keys, hidden_size), the keys' and values' side.
        attention_mask: as the attention implementation wants it, (batch, 1 or heads, length, keys): boolean,
            True = may be seen, for sdpa; to be added to the scores for eager. None: everything may be seen.

    Returns:
        (batch, length, hidden_size), and the weights where the implementation shows them.
    """
    keys, values = attention.keys_and_values(context_states)
    return attention.attend(attention.queries(hidden_states), keys, values, attention_mask, is_causal=False)


def eager_attention_forward(
    module: nn.Module,
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The equation itself, with an additive mask: the reference for the other implementations."""
    scores = queries @ keys.transpose(-1, -2) * scaling  # (batch, heads, length, keys)
    if attention_mask is not None:
        scores = scores + attention_mask
    # half precision is too coarse for the sum over keys
    weights = scores.softmax(dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32))
    weights = nn.functional.dropout(weights.to(queries.dtype), p=dropout, training=module.training)
    return (weights @ values).transpose(1, 2).contiguous(), weights
