"""The cache of a layer that keeps named tensors between calls."""

from collections.abc import Callable
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

STATE_LAYER = "birthgpt_state"
"""The name of `StateCacheLayer` in `config.layer_types`."""


class StateCacheLayer(DynamicLayer):
    """Named tensors, batch first, in addition to the keys and values of `DynamicLayer`.

    `states` contains what an attention type needs to continue: running sums, projected keys, the last few tokens. When
    sequences are repeated, selected or reordered by beam search, every tensor in `states` changes with them. `seen` is
    the number of tokens so far, including padding; `counts`, (batch,), is the number of tokens of each row, without
    padding. The model updates both at the end of a forward pass, so a layer reads the numbers before this pass.
    """

    _layer_type = STATE_LAYER
    is_croppable = False
    supports_early_init = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__()
        self.states: dict[str, torch.Tensor] = {}
        self.seen = 0
        self.counts: torch.Tensor | None = None

    def append(self, name: str, new: torch.Tensor, dim: int = -2) -> torch.Tensor:
        """Append `new` to the tensor of this name along `dim`, keep the result and return it."""
        kept = self.states.get(name)
        self.states[name] = new if kept is None else torch.cat((kept, new), dim=dim)
        return self.states[name]

    def get_seq_length(self) -> int:
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        # the mask of a softmax layer in the same model covers all tokens
        return self.seen + query_length, 0

    def reset(self) -> None:
        self.keys = self.values = None
        self.is_initialized = False
        self.states = {}
        self.seen = 0
        self.counts = None

    def crop(self, tokens_to_remove: int) -> None:
        if tokens_to_remove:
            raise ValueError(
                "this cache contains sums over past tokens, which cannot be removed: start with a new cache"
            )

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        self.batch_select_indices(beam_idx)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self._change(lambda state: state.index_select(0, indices.to(state.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        self._change(lambda state: state.repeat_interleave(repeats, dim=0))

    def _change(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.states = {name: function(state) for name, state in self.states.items()}
        if self.counts is not None:
            self.counts = function(self.counts)
        if self.keys is not None and self.values is not None:
            self.keys, self.values = function(self.keys), function(self.values)


def layer_state(past_key_values: Cache | None, layer_idx: int) -> StateCacheLayer | None:
    """The cache of one layer, or None without a cache.

    Raises:
        ValueError: the cache was not built for this model.
    """
    if past_key_values is None:
        return None
    layers = past_key_values.layers
    layer: Any = layers[layer_idx] if layer_idx < len(layers) else None
    # no isinstance: code from the Hub has its own copy of the class
    if not hasattr(layer, "states"):
        raise ValueError(
            f"past_key_values has no state for layer {layer_idx}: create it by DynamicCache(config=model.config)"
        )
    return layer


def count_tokens(past_key_values: Cache | None, states: torch.Tensor, token_mask: torch.Tensor | None) -> None:
    """Add the tokens of a call to `seen` and `counts` of every `StateCacheLayer`.

    Args:
        states: (batch, length, hidden_size).
        token_mask: (batch, length), False for padding; None without padding.
    """
    batch, length, _ = states.shape
    layers: list[Any] = past_key_values.layers if past_key_values is not None else []
    for layer in layers:
        if hasattr(layer, "seen"):
            counts = torch.full((batch,), length, device=states.device) if token_mask is None else token_mask.sum(dim=1)
            layer.counts = counts if layer.counts is None else layer.counts + counts
            layer.seen += length
