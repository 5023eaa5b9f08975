"""The blocks that the model stacks."""

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention import Mixer
from .canon import Canon
from .configuration_birthgpt import BirthGPTConfig
from .layers import MLP, build_norm, keep_rows


class Block(GradientCheckpointingLayer):
    """Base of every block.

    `forward(hidden_states, **kwargs)` takes (batch, length, hidden_size), by keyword what `Mixer.forward` takes,
    `inputs_embeds`, the embedded tokens, and `kept_rows`, those that the last block's states are wanted of, as in
    `keep_rows`; it gives the new states and the attention weights or None. An attention type that is more than a
    mixer, because its states have another length between its blocks, is a subclass with a constructor
    `(config, layer_index)`; it has the two attributes that a `Mixer` declares.
    """

    mask_type: str | None = None
    supports_branches: bool = False


class BirthGPTBlock(Block):
    """Pre-norm block: x + mixer(norm x), then x + MLP(norm x).

    With `canon_width`, a Canon layer follows each norm: those that its author calls A and C.
    """

    def __init__(self, config: BirthGPTConfig, layer_index: int, mixer_class: type[Mixer]):
        super().__init__()
        self.attention_norm = build_norm(config, config.hidden_size)
        self.attention = mixer_class(config, layer_index)
        self.mlp_norm = build_norm(config, config.hidden_size)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.attention_canon = Canon(config, layer_index, "attention") if config.canon_width else None
        self.mlp_canon = Canon(config, layer_index, "mlp") if config.canon_width else None
        self.mask_type, self.supports_branches = mixer_class.mask_type, mixer_class.supports_branches

    def forward(
        self,
        hidden_states: torch.Tensor,
        *,
        inputs_embeds: torch.Tensor | None = None,
        kept_rows: torch.LongTensor | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(batch, length, hidden_size) → the same at the rows that are kept, and the mixer's weights or None."""
        normed = self.attention_norm(hidden_states)
        if self.attention_canon is not None:
            normed = self.attention_canon(normed, **kwargs)
        mixed, weights = self.attention(normed, **kwargs)
        hidden_states = hidden_states + self.dropout(mixed)
        normed = self.mlp_norm(hidden_states)
        if self.mlp_canon is not None:
            normed = self.mlp_canon(normed, **kwargs)
        hidden_states, normed = (keep_rows(states, kept_rows) for states in (hidden_states, normed))
        return hidden_states + self.dropout(self.mlp(normed)), weights
