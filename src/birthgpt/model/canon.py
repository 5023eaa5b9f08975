"""The Canon layer: each token takes up its nearest predecessors (Allen-Zhu, 2512.17351)."""

import torch
from torch import nn
from transformers import initialization as init
from transformers.cache_utils import Cache

from .cache import layer_state
from .configuration_birthgpt import BirthGPTConfig
from .predecessors import newest, previous_indices, shifted


class Canon(nn.Module):
    """y_t = x_t + Σ_{i<width} w_i ⊙ x_{t−i}: a causal depthwise convolution with a residual.

    The predecessors of a branch's token are those of its branch, then the stem's tail. Padding is passed over, and
    before the first token lie zeros.
    """

    def __init__(self, config: BirthGPTConfig, layer_index: int, name: str):
        super().__init__()
        self.layer_idx = layer_index
        self.name = f"canon_{name}"
        self.weight = nn.Parameter(torch.empty(config.canon_width, config.hidden_size))

    def initialize_parameters(self) -> None:
        # as a depthwise nn.Conv1d begins
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
        """(batch, length, hidden_size) → the same."""
        reach = len(self.weight) - 1
        cache = layer_state(past_key_values, self.layer_idx)
        past = cache.states.get(self.name) if cache is not None else None
        if past is None:
            past = hidden_states.new_zeros(len(hidden_states), reach, hidden_states.shape[-1])
        states = torch.cat((past, hidden_states), dim=1)  # (batch, width − 1 + length, hidden_size)
        previous = previous_indices(token_mask, branch_ids, reach)
        if cache is not None:
            cache.states[self.name] = newest(states, previous, reach)
        mixed = self.weight[0] * hidden_states
        for distance, weight in enumerate(self.weight[1:], start=1):
            mixed = mixed + weight * shifted(states, previous, distance, reach)
        return hidden_states + mixed
