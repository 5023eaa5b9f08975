"""Which tokens may see which: one mask for each kind that mixers ask for."""

from collections.abc import Callable

import torch
from transformers.cache_utils import Cache
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask

LAYER_TYPE_OF_MASK = {"causal": "full_attention", "sliding": "sliding_attention"}
"""Under what name `generate` hands over a mask that it made beforehand, for a static cache."""


def build_mask(
    kind: str | None,
    *,
    config,
    inputs_embeds: torch.Tensor,
    attention_mask: torch.Tensor | dict | None,
    position_ids: torch.Tensor | None,
    past_key_values: Cache | None,
    branch_ids: torch.Tensor | None,
) -> object:
    """The mask of a kind.

    `causal` and `sliding` are as the attention implementation wants them, built by transformers; `visible` is
    boolean, (batch or 1, 1, length, keys), for types that compute their scores themselves; None is no mask.
    """
    if kind is None:
        return None
    if isinstance(attention_mask, dict):
        return attention_mask[LAYER_TYPE_OF_MASK[kind]]
    if kind == "visible":
        seen = past_key_values.get_seq_length() if past_key_values is not None else 0
        return boolean_mask(inputs_embeds, attention_mask, seen, branch_ids)
    if branch_ids is not None and config._attn_implementation in ("sdpa", "eager"):
        # a mask function, called for every pair of tokens, takes a sixth of a training step
        visible = boolean_mask(inputs_embeds, attention_mask, 0, branch_ids)
        if kind == "sliding":
            visible = visible & (position_ids[:, None, :, None] - position_ids[:, None, None] < config.sliding_window)
        return visible if config._attn_implementation == "sdpa" else additive_mask(visible, inputs_embeds.dtype)
    create = {"causal": create_causal_mask, "sliding": create_sliding_window_causal_mask}[kind]
    arguments = {
        "config": config,
        "inputs_embeds": inputs_embeds,
        "attention_mask": attention_mask,
        "past_key_values": past_key_values,
        "position_ids": position_ids,
    }
    if branch_ids is not None:
        # positions that restart would be taken for packed sequences, and the stem hidden
        arguments |= {"position_ids": None, "and_mask_function": same_branch_or_stem(branch_ids)}
        if kind == "sliding":
            # a window by index would run through the other branches: this one runs by position
            create = create_causal_mask
            arguments["and_mask_function"] = within_window(branch_ids, position_ids, config.sliding_window)
    return create(**arguments)


def same_branch_or_stem(branch_ids: torch.Tensor) -> Callable:
    """A mask function that lets a token see the stem and its own branch."""

    def mask_function(batch: int, head: int, query: int, key: int) -> bool:
        return (branch_ids[batch, key] == 0) | (branch_ids[batch, key] == branch_ids[batch, query])

    return mask_function


def within_window(branch_ids: torch.Tensor, position_ids: torch.Tensor, window: int) -> Callable:
    """A mask function for branches that lets a token see the `window` positions up to its own."""
    may_see = same_branch_or_stem(branch_ids)
    position_ids = position_ids.expand_as(branch_ids)

    def mask_function(batch: int, head: int, query: int, key: int) -> bool:
        near = position_ids[batch, query] - position_ids[batch, key] < window
        return near & may_see(batch, head, query, key)

    return mask_function


def additive_mask(visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A boolean mask as eager attention wants it: 0 where a key is seen, the lowest number elsewhere.

    Finite, so that padding that sees nothing does not turn into NaN.
    """
    return torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)


def boolean_mask(
    states: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    seen: int = 0,
    branch_ids: torch.Tensor | None = None,
) -> torch.Tensor:
    """(batch or 1, 1, length, seen + length), True where a key may be seen; padding sees itself, for a sum of one.

    `states` are (batch, length, hidden_size); `attention_mask` is (batch, seen + length), False for padding, or a
    4-D mask of the caller's own, boolean or to be added.
    """
    length, device = states.shape[1], states.device
    if attention_mask is not None and attention_mask.ndim == 4:
        return attention_mask if attention_mask.dtype == torch.bool else attention_mask == 0
    queries = torch.arange(seen, seen + length, device=device)
    keys = torch.arange(seen + length, device=device)
    visible = (keys <= queries[:, None])[None]  # (1, length, keys)
    if attention_mask is not None:
        visible = visible & attention_mask[:, None].bool()
    if branch_ids is not None:
        visible = visible & ((branch_ids == 0)[:, None] | (branch_ids[:, None] == branch_ids[:, :, None]))
    return (visible | (keys == queries[:, None]))[:, None]
