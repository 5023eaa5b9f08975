"""Softmax attention: softmax(QKᵀ/√d_head + M)V (Vaswani et al., 1706.03762, equation 1)."""

import torch
from torch import nn
from transformers.cache_utils import Cache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .attention import Attention, register_attention_type
from .configuration_base import BaseConfig
from .layers import Projections, upcast_to_float32
from .window_blocks import WindowBlocks, attend_in_blocks


@register_attention_type("softmax")
class SoftmaxAttention(Attention):
    """Multi-head softmax attention, computed by `attn_implementation`."""

    cache_type = "full_attention"
    uses_attention_interface = True
    tensor_parallel_plan = {
        "projections.q_proj": "colwise",
        "projections.k_proj": "colwise",
        "projections.v_proj": "colwise",
        "projections.o_proj": "rowwise",
    }
    cache_can_crop = True
    supports_branches = True
    supports_bidirectional = True

    def __init__(self, config: BaseConfig, layer_idx: int):
        super().__init__(config, layer_idx)
        self.projections = Projections(config)

    def forward(
        self,
        hidden_states: torch.Tensor,
        *,
        attention_mask: torch.Tensor | None,
        position_ids: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None,
        past_key_values: Cache | None = None,
        branch_ids: torch.Tensor | None = None,
        token_mask: torch.Tensor | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Self-attention; see `Attention.forward`."""
        queries, keys, values = self.projections(hidden_states, position_embeddings)
        if past_key_values is not None:
            keys, values = past_key_values.update(keys, values, self.layer_idx)
        kwargs["position_ids"] = position_ids
        mixed, weights = attend(self, self.config, queries, keys, values, attention_mask, **kwargs)
        return self.projections.output(mixed), weights


def attend(
    module: nn.Module,
    config: BaseConfig,
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Softmax attention by the implementation in `config`, with dropout if `module` is in training mode.

    Args:
        queries: (batch, heads, length, d_head).
        keys, values: (batch, heads, keys, d_head).
        attention_mask: in the form that the implementation expects, or `WindowBlocks`.

    Returns:
        The mixed values, (batch, length, heads, d_head), and the weights, or None if the implementation has none.
    """
    dropout, scaling = config.attention_dropout if module.training else 0.0, config.head_dim**-0.5
    if isinstance(attention_mask, WindowBlocks):
        return attend_in_blocks(queries, keys, values, attention_mask, dropout, scaling), None
    attention_function = ALL_ATTENTION_FUNCTIONS.get_interface(config._attn_implementation, eager_attention_forward)
    return attention_function(module, queries, keys, values, attention_mask, dropout=dropout, scaling=scaling, **kwargs)


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
    """The equation, with an additive mask: the reference for the other implementations."""
    # half precision is too coarse for the sum over keys, and its lowest number plus a score may be −∞
    scores = upcast_to_float32(queries @ keys.transpose(-1, -2) * scaling)  # (batch, heads, length, keys)
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(dim=-1)
    weights = nn.functional.dropout(weights.to(queries.dtype), p=dropout, training=module.training)
    return (weights @ values).transpose(1, 2).contiguous(), weights
