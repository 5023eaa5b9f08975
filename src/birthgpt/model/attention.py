"""The contract of a mixer: what an attention type takes, declares and gives."""

import torch
from torch import nn
from transformers.cache_utils import Cache

from .configuration_birthgpt import BirthGPTConfig


class Mixer(nn.Module):
    """Base of every attention type: lets each token read from the tokens before it.

    A mixer is strictly causal, honours padding on either side, works with and without a cache and gives
    the same answer either way. Whatever it indexes, it indexes by `position_ids`, never by tensor index:
    otherwise left padding would change answers. The map that writes into the residual stream is an
    `OutputProjection`. What it keeps between calls lies in the cache of its layer (`cache.layer_state`).
    Parameters and buffers of its own are filled by `initialize_parameters`, with the functions of
    `transformers.initialization`, which leave alone what was loaded; its buffers are persistent.
    """

    mask_type: str | None = "causal"
    """The mask that the model builds for it, a kind of `masks.build_mask`; None for none."""

    supports_branches: bool = False
    """Whether it keeps the branches of a line from seeing one another (`branch_ids`)."""

    def __init__(self, config: BirthGPTConfig, layer_index: int):
        super().__init__()
        self.config = config
        self.layer_idx = layer_index

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
            position_ids: (batch, length), each token's place in its sequence, padding not counted.
            position_embeddings: cosines and sines, (batch, length, d_head) each, or None.
            branch_ids: (batch, length), 0 for the stem, −1 for padding, or None.
            token_mask: (batch, length), True for a token, False for padding; None where all are tokens.
            past_key_values: the cache to read and extend at `layer_idx`, or None.

        Returns:
            The mixed states, (batch, length, hidden_size), and the attention weights,
            (batch, heads, length, keys), or None where the type has none to show.
        """
        raise NotImplementedError
