"""What layers keep between calls: keys and values, or named tensors, in buffers that grow by doubling."""

from collections.abc import Callable
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer
from transformers.utils import is_tracing

from .layers import scatter_to_slots

STATE_LAYER = "birthgpt_state"
"""The name of `StateCacheLayer` in `config.layer_types`."""


class GrowingBuffer:
    """Room behind a tensor that grows along one dimension: n appends copy O(n) entries in total, not O(n²).

    The room is used only if the tensor is the one that was returned last. So a tensor that was cropped, selected or
    changed elsewhere is copied once, and appending to it changes no other tensor.
    """

    def __init__(self) -> None:
        self.storage: torch.Tensor | None = None
        self.latest: torch.Tensor | None = None

    def append(self, kept: torch.Tensor, new: torch.Tensor, dim: int) -> torch.Tensor:
        """What `torch.cat((kept, new), dim)` returns."""
        if not can_write(new):
            return torch.cat((kept, new), dim=dim)
        size, dtype = kept.shape[dim], torch.promote_types(kept.dtype, new.dtype)
        extended = self.extend(kept, size + new.shape[dim], dim, dtype)
        extended.narrow(dim, size, new.shape[dim]).copy_(new)
        return extended

    def extend(self, kept: torch.Tensor, size: int, dim: int, dtype: torch.dtype) -> torch.Tensor:
        """A view of the buffer with `size` entries along `dim`: those of `kept`, then free ones, which are finite.

        The buffer has one more entry than the view, at least.
        """
        storage = self.storage
        is_usable = storage is not None and kept is self.latest and storage.dtype == dtype
        # a tensor of inference mode cannot be changed outside it
        is_usable = is_usable and (torch.is_inference_mode_enabled() or not storage.is_inference())  # type: ignore[union-attr]
        if not is_usable or storage.shape[dim] <= size:  # type: ignore[union-attr]
            shape = list(kept.shape)
            shape[dim] = 2 * size + 1
            storage = kept.new_zeros(shape, dtype=dtype)
            storage.narrow(dim, 0, kept.shape[dim]).copy_(kept)
        assert storage is not None
        self.storage, self.latest = storage, storage.narrow(dim, 0, size)
        return self.latest


def can_write(new: torch.Tensor) -> bool:
    """Whether tensors may be changed in place: not if a gradient may need them, and not in a graph."""
    return not torch.is_grad_enabled() and not is_tracing(new)


class GrowingLayer(DynamicLayer):
    """The keys and values of `DynamicLayer`, in buffers that grow by doubling."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.buffers: dict[str, GrowingBuffer] = {}

    def buffer(self, name: str) -> GrowingBuffer:
        """The buffer of the tensor of this name."""
        return self.buffers.setdefault(name, GrowingBuffer())

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized or not self.keys.numel():  # type: ignore[union-attr]
            return super().update(key_states, value_states, *args, **kwargs)
        self.keys = self.buffer("keys").append(self.keys, key_states, dim=-2)  # type: ignore[arg-type]
        self.values = self.buffer("values").append(self.values, value_states, dim=-2)  # type: ignore[arg-type]
        return self.keys, self.values

    def reset(self) -> None:
        super().reset()
        self.buffers = {}


def grow_by_doubling(cache: Cache | None) -> None:
    """Replace the layers of a dynamic cache that copy all keys and values at every token."""
    if cache is None or is_tracing():
        return
    for index, layer in enumerate(cache.layers):
        # no subclass: what else it does is unknown
        if type(layer) is DynamicLayer:
            growing = GrowingLayer()
            growing.__dict__ |= layer.__dict__
            cache.layers[index] = growing
    if getattr(cache, "layer_class_to_replicate", None) is DynamicLayer:
        cache.layer_class_to_replicate = GrowingLayer


class StateCacheLayer(GrowingLayer):
    """Named tensors, batch first, in addition to the keys and values of `DynamicLayer`.

    `states` contains what an attention type needs to continue: running sums, projected keys, the last few tokens. When
    sequences are repeated, selected or reordered by beam search, every tensor in `states` changes with them. `seen` is
    the number of tokens so far, including padding; `token_mask`, (batch, seen), is False for padding. The model updates
    both at the end of a forward pass, so a layer reads what was before this pass.
    """

    _layer_type = STATE_LAYER
    supports_early_init = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__()
        self.states: dict[str, torch.Tensor] = {}
        self.token_dims: dict[str, int] = {}
        self.by_position: set[str] = set()
        self.derived: set[str] = set()
        self.record_past = False
        self.seen = 0
        self.token_mask: torch.Tensor | None = None

    def append(self, name: str, new: torch.Tensor, dim: int = -2) -> torch.Tensor:
        """Append `new` to the tensor of this name along `dim`, the dimension of tokens; keep and return the result."""
        kept = self.states.get(name)
        self.states[name] = new if kept is None else self.buffer(f"states.{name}").append(kept, new, dim)
        self.token_dims[name] = dim
        return self.states[name]

    def write_by_position(
        self, name: str, new: torch.Tensor, slots: torch.Tensor | int, size: int, is_derived: bool = False
    ) -> torch.Tensor:
        """`scatter_to_slots` into the tensor of this name; keep and return the result.

        Its entries at the positions of removed tokens are neither read nor in the way. If they would be, the tensor
        `is_derived` from others: it is forgotten when tokens are removed.
        """
        kept = self.states.get(name)
        if kept is None or isinstance(slots, int) or not can_write(new):
            state = scatter_to_slots(new, slots, size, kept)
        else:
            buffer, dtype = self.buffer(f"states.{name}"), torch.promote_types(kept.dtype, new.dtype)
            state = buffer.extend(kept, size, 2, dtype)
            storage = buffer.storage
            assert storage is not None
            # the last entry, which no view contains, receives the ignored tokens
            slots = torch.where((slots >= 0) & (slots < size), slots, storage.shape[2] - 1)
            storage.scatter_(2, slots[:, None, :, None].expand_as(new), new.to(dtype))
        self.states[name] = state
        (self.derived if is_derived else self.by_position).add(name)
        return state

    def activate_past_recording(self) -> None:
        """From now on, keep each token that a window of the last tokens leaves, so that `crop` can restore it."""
        self.record_past = True

    @property
    def is_croppable(self) -> bool:  # type: ignore[override]
        """Whether every tensor has the tokens one by one."""
        return self.states.keys() <= self.token_dims.keys() | self.by_position | self.derived

    def get_seq_length(self) -> int:
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        # the mask of a softmax layer in the same model covers all tokens
        return self.seen + query_length, 0

    def reset(self) -> None:
        super().reset()
        self.states, self.token_dims, self.by_position, self.derived = {}, {}, set(), set()
        self.seen = 0
        self.token_mask = None

    def crop(self, tokens_to_remove: int) -> None:
        """Remove the last −`tokens_to_remove` tokens.

        Raises:
            ValueError: a positive number, a tensor that is a sum over tokens, or tokens that were not recorded.
        """
        if not tokens_to_remove:
            return
        sizes = [self.seen, *(self.states[name].shape[dim] for name, dim in self.token_dims.items())]
        if tokens_to_remove < 0 and (not self.is_croppable or min(sizes) + tokens_to_remove < 0):
            raise ValueError(
                "this cache contains sums over past tokens, or a window of the last ones, from which tokens cannot be "
                "removed: start with a new cache; for a window, call activate_past_recording() on it"
            )
        super().crop(tokens_to_remove)
        for name, dim in self.token_dims.items():
            state = self.states[name]
            self.states[name] = state.narrow(dim, 0, state.shape[dim] + tokens_to_remove)
        for name in self.by_position:
            # later tokens replace the removed ones in a copy
            self.buffers.pop(f"states.{name}", None)
        for name in self.derived:
            self.states.pop(name, None)
        self.seen += tokens_to_remove
        if self.token_mask is not None:
            self.token_mask = self.token_mask[:, : self.seen]

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        self.batch_select_indices(beam_idx)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self._change(lambda state: state.index_select(0, indices.to(state.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        self._change(lambda state: state.repeat_interleave(repeats, dim=0))

    def _change(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.states = {name: function(state) for name, state in self.states.items()}
        if self.token_mask is not None:
            self.token_mask = function(self.token_mask)
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
    """Add the tokens of a call to `seen` and `token_mask` of every `StateCacheLayer`.

    Args:
        states: (batch, length, hidden_size).
        token_mask: (batch, length), False for padding; None without padding.
    """
    layers: list[Any] = past_key_values.layers if past_key_values is not None else []
    if token_mask is None:
        token_mask = torch.ones_like(states[..., 0], dtype=torch.bool)
    for layer in layers:
        if hasattr(layer, "seen"):
            masks = [token_mask] if layer.token_mask is None else [layer.token_mask, token_mask]
            layer.token_mask = torch.cat(masks, dim=1)
            layer.seen += token_mask.shape[1]
