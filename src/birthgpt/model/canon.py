"""The Canon layer: each token adds a weighted sum of its nearest predecessors (Allen-Zhu, 2512.17351)."""

import torch
from torch import nn
from transformers import initialization as init
from transformers.cache_utils import Cache

from .cache import layer_state
from .configuration_base import BaseConfig
from .predecessors import shift_back, with_past
from .settings import setting


class CanonConfig(BaseConfig):
    """The settings of the Canon layer."""

    canon_width: int = setting(
        0, "width of the causal convolution before attention and MLP (2512.17351); 0 for none", min=0
    )


class Canon(nn.Module):
    """y_t = x_t + Σ_{i<width} w_i ⊙ x_{t−i}: a causal depthwise convolution with a residual.

    The predecessors of a token are the earlier tokens of its branch, then the last tokens of the prefix. Padding is
    skipped. Zeros are before the first token.
    """

    def __init__(self, config: CanonConfig, layer_idx: int, name: str):
        super().__init__()
        self.layer_idx = layer_idx
        self.name = f"canon_{name}"
        self.weight = nn.Parameter(torch.empty(config.canon_width, config.hidden_size))

    def initialize_parameters(self) -> None:
        """Draw uniformly, as a depthwise nn.Conv1d does."""
        bound = len(self.weight) ** -0.5
        init.uniform_(self.weight, -bound, bound)

    def forward(
        self,
        hidden_states: torch.Tensor,
        *,
        token_mask: torch.Tensor | None = None,
        branch_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """(batch, length, hidden_size) → the same shape."""
        history = len(self.weight) - 1
        cache = layer_state(past_key_values, self.layer_idx)
        states, previous = with_past(
            hidden_states, 0.0, history, token_mask=token_mask, branch_ids=branch_ids, cache=cache, name=self.name
        )
        length = hidden_states.shape[1]
        mixed = self.weight[0] * hidden_states
        for distance, weight in enumerate(self.weight[1:], start=1):
            mixed = mixed + weight * shift_back(states, previous, distance, history)[:, -length:]
        return hidden_states + mixed
