"""Sliding windows in blocks: exact attention within a window w, in time and memory proportional to n·w instead of n².

Queries are divided into blocks of b. Block i attends to the keys of the blocks i − m, …, i with m = ⌈(w − 1)/b⌉, which
contain every window of its queries; in the bidirectional form, to those of i − m, …, i + m (Beltagy et al., 2004.05150,
section 3.1). A mask hides the keys outside each window. The keys before the first query come from the cache.

A branch also sees the last w − 1 tokens of the prefix, which may be far from it in the row: they are added to the keys.
"""

from typing import NamedTuple

import torch
from torch import nn

SMALLEST_BLOCK = 64
"""The smallest b: smaller products are slower."""


class WindowBlocks(NamedTuple):
    """The mask of a window in blocks, for all layers with this window."""

    bias: torch.Tensor
    """(batch or 1, blocks, b, keys), 0 for a visible key, else −∞; each query sees itself."""

    before: int
    """m, the number of blocks of keys before the own block."""

    after: int
    """The number of blocks of keys after it."""

    prefix: torch.Tensor | None
    """(batch, w − 1), the indices of the last tokens of the prefix, which are the last keys of each block; or None."""


def block_size(window: int) -> int:
    """b = w/2: smaller blocks copy the keys more often, and larger blocks compute more scores outside the window."""
    return max(SMALLEST_BLOCK, -(-window // 2))


def pays(length: int, window: int) -> bool:
    """Whether a block of queries has fewer keys than a row of `length` tokens."""
    return length > window + block_size(window)


def window_blocks(
    states: torch.Tensor,
    window: int,
    *,
    attention_mask: torch.Tensor | None = None,
    seen: int = 0,
    branch_ids: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
    is_causal: bool = True,
) -> WindowBlocks:
    """The mask of a window of tensor indices: there is no padding between the tokens of a row.

    Args:
        states: (batch, length, hidden_size).
        attention_mask: (batch, seen + length), False for padding.
        seen: the number of tokens in the cache.
        branch_ids: (batch, length); sequences in one row if there are no `position_ids`. See `can_divide_branches`.
        position_ids: (batch or 1, length), the positions of branches, which the window counts.
    """
    length, device, block = states.shape[1], states.device, block_size(window)
    before = -(-(window - 1) // block)
    after = 0 if is_causal else before
    count = -(-length // block)

    def keys_of_blocks(entries: torch.Tensor, filler: int) -> torch.Tensor:
        # (batch or 1, seen + length) → (batch or 1, blocks, keys)
        first, last = before * block - seen, (count + after) * block - length
        entries = nn.functional.pad(entries, (first, last), value=filler)
        return entries.unfold(1, (before + 1 + after) * block, block)

    own = torch.arange(block, device=device)[:, None]
    distance = own - torch.arange(-before * block, (1 + after) * block, device=device)  # (b, keys)
    in_window = (distance.abs() < window) & ((distance >= 0) | (not is_causal))
    if attention_mask is None:
        attention_mask = torch.ones(1, seen + length, dtype=torch.bool, device=device)
    visible = in_window & keys_of_blocks(attention_mask.bool(), False)[:, :, None]  # (batch or 1, blocks, b, keys)
    prefix = None
    if branch_ids is not None:
        branches = split_queries(branch_ids, count, block, -1)[..., None]  # (batch, blocks, b, 1)
        visible = visible & (branches == keys_of_blocks(branch_ids, -1)[:, :, None])
        if position_ids is not None:
            position_ids = position_ids.expand_as(branch_ids)
            at = split_queries(position_ids, count, block, 0)[..., None]
            visible = visible & (at - keys_of_blocks(position_ids, 0)[:, :, None] < window)
    visible = visible | (distance == 0)
    if branch_ids is not None and position_ids is not None:
        prefix, is_token = last_of_prefix(branch_ids, attention_mask, window - 1)
        near = at - position_ids.gather(1, prefix)[:, None, None] < window
        visible = torch.cat((visible, near & is_token[:, None, None] & (branches > 0)), dim=-1)
    bias = torch.zeros_like(visible, dtype=states.dtype).masked_fill(~visible, -torch.inf)
    return WindowBlocks(bias, before, after, prefix)


def can_divide_branches(branch_ids: torch.Tensor, position_ids: torch.Tensor | None) -> bool:
    """Whether what a token sees is in the windows of `window_blocks`; it reads values.

    That is so if the prefix is before the branches, each branch is one run, and the positions in a branch increase.
    """
    following, previous = branch_ids[:, 1:], branch_ids[:, :-1]
    in_order = (following >= previous) | (following < 0)
    if position_ids is not None:
        position_ids = position_ids.expand_as(branch_ids)
        in_order &= (following != previous) | (following < 0) | (position_ids[:, 1:] > position_ids[:, :-1])
    is_token = branch_ids >= 0
    starts = (is_token[:, 1:] & ~is_token[:, :-1]).sum(dim=1) + is_token[:, 0]
    return bool(in_order.all() & (starts <= 1).all())


def last_of_prefix(
    branch_ids: torch.Tensor, attention_mask: torch.Tensor, size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The indices of the last `size` tokens of the prefix, (batch, size), and whether there are so many."""
    in_prefix = (branch_ids == 0) & attention_mask.bool()
    indices = torch.arange(branch_ids.shape[1], device=branch_ids.device)
    end = torch.where(in_prefix, indices + 1, 0).amax(dim=1, keepdim=True)
    chosen = end - torch.arange(size, 0, -1, device=branch_ids.device)
    clamped = chosen.clamp(min=0)
    return clamped, (chosen >= 0) & in_prefix.gather(1, clamped)


def split_queries(states: torch.Tensor, count: int, block: int, filler: int = 0) -> torch.Tensor:
    """(batch, length, …) → (batch, blocks, b, …), filled at the end."""
    missing = count * block - states.shape[1]
    if missing:
        states = nn.functional.pad(states, (0, 0) * (states.ndim - 2) + (0, missing), value=filler)
    return states.unflatten(1, (count, block))


def attend_in_blocks(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    blocks: WindowBlocks,
    dropout: float,
    scaling: float,
) -> torch.Tensor:
    """Softmax attention within the windows of `blocks`.

    Args:
        queries: (batch, heads, length, d_head).
        keys, values: (batch, heads, kept + length, d_head), after those that the cache keeps.

    Returns:
        The mixed values, (batch, length, heads, d_head).
    """
    batch, _, length, _ = queries.shape
    count, block = blocks.bias.shape[1:3]

    def windows(states: torch.Tensor) -> torch.Tensor:
        # (batch, heads, kept + length, d_head) → (batch · blocks, heads, keys, d_head)
        states = states.transpose(1, 2)
        # a negative number removes keys that no window reaches
        first = blocks.before * block - (states.shape[1] - length)
        last = (count + blocks.after) * block - length
        padded = nn.functional.pad(states, (0, 0, 0, 0, first, last)).unflatten(1, (-1, block))
        parts = [padded[:, start : start + count] for start in range(blocks.before + 1 + blocks.after)]
        if blocks.prefix is not None:
            index = blocks.prefix[..., None, None].expand(-1, -1, *states.shape[2:])
            parts.append(states.gather(1, index)[:, None].expand(-1, count, -1, -1, -1))
        return torch.cat(parts, dim=2).transpose(2, 3).flatten(0, 1)

    mixed = nn.functional.scaled_dot_product_attention(
        split_queries(queries.transpose(1, 2), count, block).transpose(2, 3).flatten(0, 1),
        windows(keys),
        windows(values),
        blocks.bias.expand(batch, -1, -1, -1).flatten(0, 1).unsqueeze(1),
        dropout_p=dropout,
        scale=scaling,
    )  # (batch · blocks, heads, b, d_head)
    return mixed.unflatten(0, (batch, count)).transpose(2, 3).flatten(1, 2)[:, :length]
