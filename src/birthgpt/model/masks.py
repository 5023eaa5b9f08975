"""Masks: which keys a query sees, for each `mask_type` of the layers."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache
from transformers.masking_utils import (
    create_bidirectional_mask,
    create_causal_mask,
    create_sliding_window_causal_mask,
)
from transformers.utils import is_tracing

from .block import Block
from .window_blocks import WindowBlocks, can_divide_branches, pays, window_blocks

LAYER_TYPE_OF_MASK = {"full": "full_attention", "sliding": "sliding_attention"}
"""The key of each mask in the dictionary that `generate` makes for a static cache."""


def build_masks(layers: Iterable[Block], config, **arguments) -> list[Any]:
    """The mask of each layer, by `build_mask`; layers with the same type and window share a mask."""
    made: dict[tuple, Any] = {}
    masks = []
    for layer in layers:
        window = layer.layer_config.sliding_window if layer.mask_type == "sliding" else None
        if (layer.mask_type, window) not in made:
            made[layer.mask_type, window] = build_mask(layer.mask_type, config, window=window, **arguments)
        masks.append(made[layer.mask_type, window])
    return masks


def build_mask(
    mask_type: str | None,
    config,
    *,
    inputs_embeds: torch.Tensor,
    attention_mask: torch.Tensor | dict | None = None,
    position_ids: torch.Tensor | None = None,
    past_key_values: Cache | None = None,
    branch_ids: torch.Tensor | None = None,
    window: int | None = None,
) -> Any:
    """The mask of one `mask_type`.

    Args:
        mask_type: `full` or `sliding`: built by transformers in the form that the attention implementation expects;
            for `sliding` under `sdpa`, `WindowBlocks` where a row is long;
            `boolean`: a boolean mask, (batch or 1, 1, length, keys), for attention types that compute their own scores;
            None: no mask.
        config: the configuration of the model; with `is_causal=False`, a token sees the tokens on both sides.
        window: the number of tokens that a `sliding` mask shows; padding is not counted.
    """
    if mask_type is None:
        return None
    if isinstance(attention_mask, dict):
        return attention_mask[LAYER_TYPE_OF_MASK[mask_type]]
    if mask_type == "boolean":
        seen = past_key_values.get_seq_length() if past_key_values is not None else 0
        return boolean_mask(inputs_embeds, attention_mask, seen, branch_ids, config.is_causal)
    if window is not None:
        blocks = _window_blocks(
            config, inputs_embeds, attention_mask, position_ids, past_key_values, branch_ids, window
        )
        if blocks is not None:
            return blocks
    if not config.is_causal:
        return _bidirectional_mask(config, inputs_embeds, attention_mask, window)
    if branch_ids is not None:
        if position_ids is None:
            position_ids = positions_from_mask(attention_mask, inputs_embeds, seen=0)
        return _branch_mask(config, inputs_embeds, attention_mask, position_ids, branch_ids, window)
    arguments: dict[str, Any] = {
        "inputs_embeds": inputs_embeds,
        "attention_mask": attention_mask,
        "past_key_values": past_key_values,
        # transformers would take gaps between positions for the start of a sequence
        "position_ids": None,
    }
    if mask_type == "full":
        return create_causal_mask(config=config, **arguments)
    assert window is not None
    if attention_mask is not None and _may_have_padding_between_tokens(attention_mask, past_key_values, window):
        return _window_over_padding(config, inputs_embeds, attention_mask, past_key_values, window)
    return create_sliding_window_causal_mask(config=_with_window(config, window), **arguments)


def positions_from_mask(
    attention_mask: torch.Tensor | dict | None, inputs_embeds: torch.Tensor, seen: int
) -> torch.Tensor:
    """The position of each token, (batch, length), padding not counted; (1, length) without a mask of padding."""
    length = inputs_embeds.shape[1]
    if isinstance(attention_mask, torch.Tensor) and attention_mask.ndim == 2:
        return (attention_mask.long().cumsum(dim=-1) - 1).clamp(min=0)[:, -length:]
    return (torch.arange(length, device=inputs_embeds.device) + seen).unsqueeze(0)


def token_mask_of(attention_mask: torch.Tensor | dict | None, length: int) -> torch.Tensor | None:
    """(batch, length), True for a new token, False for padding; None without a mask of padding."""
    if not isinstance(attention_mask, torch.Tensor) or attention_mask.ndim == 4:
        return None
    return attention_mask[:, -length:].bool()


def boolean_mask(
    states: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    seen: int = 0,
    branch_ids: torch.Tensor | None = None,
    is_causal: bool = True,
) -> torch.Tensor:
    """The boolean mask, True for a visible key; padding sees itself, so that its weights sum to one.

    Args:
        states: (batch, length, hidden_size).
        attention_mask: (batch, seen + length), False for padding; or a 4-D mask of the caller, boolean or additive.
        seen: the number of tokens in the cache.
        branch_ids: (batch, length), see `BirthGPTModel.forward`.
        is_causal: whether a token sees only the tokens before it.

    Returns:
        (batch or 1, 1, length, seen + length).
    """
    length, device = states.shape[1], states.device
    if attention_mask is not None and attention_mask.ndim == 4:
        return attention_mask if attention_mask.dtype == torch.bool else attention_mask == 0
    queries = torch.arange(seen, seen + length, device=device)
    keys = torch.arange(seen + length, device=device)
    visible = keys <= queries[:, None] if is_causal else torch.ones_like(keys <= queries[:, None])
    visible = visible[None]  # (1, length, keys)
    if attention_mask is not None:
        visible = visible & attention_mask[:, None].bool()
    if branch_ids is not None:
        visible = visible & ((branch_ids == 0)[:, None] | (branch_ids[:, None] == branch_ids[:, :, None]))
    return (visible | (keys == queries[:, None]))[:, None]


def additive_mask(visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The mask that eager attention adds to the scores: 0 for a visible key, else the lowest finite number.

    With −∞, padding that sees no key would become NaN.
    """
    return torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)


def mask_of(config, visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A boolean mask in the form that `sdpa` or `eager` attention expects."""
    return visible if config._attn_implementation == "sdpa" else additive_mask(visible, dtype)


def same_branch_or_prefix(branch_ids: torch.Tensor) -> Callable:
    """A mask function: a token sees the prefix and its own branch."""

    def mask_function(batch: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return (branch_ids[batch, key] == 0) | (branch_ids[batch, key] == branch_ids[batch, query])

    return mask_function


def within_window(branch_ids: torch.Tensor, position_ids: torch.Tensor, window: int) -> Callable:
    """A mask function: a token sees the last `window` positions of the prefix and its own branch."""
    same_branch = same_branch_or_prefix(branch_ids)
    position_ids = position_ids.expand_as(branch_ids)

    def mask_function(batch: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        near = position_ids[batch, query] - position_ids[batch, key] < window
        return near & same_branch(batch, head, query, key)

    return mask_function


def cross_mask(
    config, inputs_embeds: torch.Tensor, encoder_hidden_states: torch.Tensor | None, attention_mask: torch.Tensor | None
) -> Any:
    """The mask of a cross-attention, which hides padding in the encoder states, for any number of queries.

    Args:
        config: the configuration of the decoder.
        inputs_embeds: (batch, length, hidden_size), the embedded tokens of the decoder.
        encoder_hidden_states: (batch, keys, hidden_size); None if the cache has their keys and values.
        attention_mask: (batch, keys), 0 for padding; None without padding.
    """
    if attention_mask is not None and config._attn_implementation in ("sdpa", "eager"):
        return mask_of(config, attention_mask.bool()[:, None, None], inputs_embeds.dtype)
    return create_bidirectional_mask(config, inputs_embeds, attention_mask, encoder_hidden_states=encoder_hidden_states)


def _window_blocks(
    config, inputs_embeds, attention_mask, position_ids, past_key_values, branch_ids, window: int
) -> WindowBlocks | None:
    """The mask of a window in blocks; None where a mask of all pairs is needed or faster."""
    length = inputs_embeds.shape[1]
    # a graph has one form for all lengths
    is_graph = torch.compiler.is_exporting() or torch.jit.is_tracing()
    if config._attn_implementation != "sdpa" or is_graph or not pays(length, window):
        return None
    if attention_mask is not None and (
        attention_mask.ndim != 2 or _may_have_padding_between_tokens(attention_mask, past_key_values, window)
    ):
        return None
    if past_key_values is not None and past_key_values.is_compileable:
        return None
    if branch_ids is not None and (is_tracing(branch_ids) or not can_divide_branches(branch_ids, position_ids)):
        return None
    return window_blocks(
        inputs_embeds,
        window,
        attention_mask=attention_mask,
        seen=past_key_values.get_seq_length() if past_key_values is not None else 0,
        branch_ids=branch_ids,
        position_ids=position_ids if branch_ids is not None else None,
        is_causal=config.is_causal,
    )


def _bidirectional_mask(
    config, inputs_embeds: torch.Tensor, attention_mask: torch.Tensor | None, window: int | None
) -> Any:
    """Every token sees every token, or those within a window that counts tokens and not the padding between them."""
    # flash attention receives the window itself
    if window is None or "flash" in config._attn_implementation:
        return create_bidirectional_mask(config, inputs_embeds, attention_mask)
    if _is_built_directly(config):
        return _window_mask(config, inputs_embeds, attention_mask, window)
    indices = positions_from_mask(attention_mask, inputs_embeds, seen=0).expand(inputs_embeds.shape[:2])

    def within_tokens(batch: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return (indices[batch, query] - indices[batch, key]).abs() < window

    return create_bidirectional_mask(config, inputs_embeds, attention_mask, and_mask_function=within_tokens)


def _is_built_directly(config) -> bool:
    """Whether a graph is made: one with the mask functions of transformers could not be saved."""
    return torch.compiler.is_exporting() and config._attn_implementation in ("sdpa", "eager")


def _window_mask(config, inputs_embeds: torch.Tensor, attention_mask: torch.Tensor | None, window: int) -> torch.Tensor:
    """The mask of a window that counts tokens, without a cache."""
    indices = positions_from_mask(attention_mask, inputs_embeds, seen=0)
    near = (indices[:, None, :, None] - indices[:, None, None]).abs() < window
    visible = boolean_mask(inputs_embeds, attention_mask, is_causal=config.is_causal)
    return mask_of(config, visible & near, inputs_embeds.dtype)


def _branch_mask(config, inputs_embeds, attention_mask, position_ids, branch_ids, window: int | None) -> Any:
    if config._attn_implementation in ("sdpa", "eager"):
        # transformers would call a mask function for every pair of tokens, which takes a sixth of a training step
        visible = boolean_mask(inputs_embeds, attention_mask, 0, branch_ids)
        if window is not None:
            visible = visible & (position_ids[:, None, :, None] - position_ids[:, None, None] < window)
        return mask_of(config, visible, inputs_embeds.dtype)
    # a window of tensor indices would contain other branches: this one counts positions
    may_see = same_branch_or_prefix(branch_ids) if window is None else within_window(branch_ids, position_ids, window)
    return create_causal_mask(
        config=config,
        inputs_embeds=inputs_embeds,
        attention_mask=attention_mask,
        past_key_values=None,
        # transformers would take positions that restart for packed sequences, and hide the prefix
        position_ids=None,
        and_mask_function=may_see,
    )


def _may_have_padding_between_tokens(attention_mask: torch.Tensor, past_key_values: Cache | None, window: int) -> bool:
    """Whether padding may be inside a window, so that a window of tensor indices would have too few tokens."""
    if attention_mask.ndim != 2:
        return False
    if is_tracing(attention_mask) or attention_mask.is_meta:
        # a graph cannot depend on values or lengths; a mask for a static cache is made before the graph
        return past_key_values is None
    if attention_mask.shape[1] <= window:
        return False
    is_token = attention_mask.bool()
    starts = (is_token[:, 1:] & ~is_token[:, :-1]).sum(dim=1) + is_token[:, 0]
    return bool((starts > 1).any())


def _window_over_padding(
    config, inputs_embeds: torch.Tensor, attention_mask: torch.Tensor, past_key_values: Cache | None, window: int
) -> Any:
    """The mask of a window that counts tokens, and not the padding between them."""
    if past_key_values is None and _is_built_directly(config):
        return _window_mask(config, inputs_embeds, attention_mask, window)
    seen, layer_idx, num_keys = 0, None, attention_mask.shape[1]
    if past_key_values is not None:
        seen = int(past_key_values.get_seq_length())
        layer_idx = past_key_values.is_sliding.index(True) if True in past_key_values.is_sliding else 0
        num_kept, first_key = past_key_values.get_mask_sizes(inputs_embeds.shape[1], layer_idx)
        _check_kept_tokens(attention_mask[:, :seen], first_key, window)
        # a static cache has room for later tokens
        num_keys = max(num_keys, first_key + num_kept)
    counts = attention_mask.long().cumsum(dim=1)
    counts = nn.functional.pad(counts, (0, num_keys - counts.shape[1]))

    def within_tokens(batch: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return counts[batch, query] - counts[batch, key] < window

    # flash attention removes the padding before it counts
    is_flash = "flash" in config._attn_implementation
    return create_causal_mask(
        config,
        inputs_embeds,
        attention_mask,
        past_key_values,
        layer_idx=layer_idx,
        and_mask_function=None if is_flash else within_tokens,
    )


def _check_kept_tokens(past_mask: torch.Tensor, first_key: int, window: int) -> None:
    """Raise ValueError if a window reaches tokens before `first_key`, which the cache has dropped."""
    kept, past = past_mask[:, first_key:].sum(dim=1), past_mask.sum(dim=1)
    if bool((kept < past.clamp(max=window - 1)).any()):
        raise ValueError(
            f"the cache of sliding_softmax keeps the last {window - 1} entries of a row, and with padding among them, "
            "tokens are missing: start with a new cache, and give all tokens"
        )


def _with_window(config, window: int | None) -> Any:
    """The configuration, or that of a layer with this window if layers have different windows."""
    if not config.is_heterogeneous:
        return config
    return next(layer for layer in config.per_layer_config if getattr(layer, "sliding_window", None) == window)
