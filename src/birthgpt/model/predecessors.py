"""The predecessors of a token: the tokens of its branch, then of the prefix, then of the cache, without padding.

`history` tokens from the cache, or zeros, are before the tokens of a call. Index 0 is the first of them.
"""

import torch
from torch import nn

from .cache import StateCacheLayer
from .layers import INVALID_POSITION


def with_past(
    new: torch.Tensor,
    first: float,
    history: int,
    *,
    token_mask: torch.Tensor | None,
    branch_ids: torch.Tensor | None,
    cache: StateCacheLayer | None,
    name: str,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The states before and in this call, and `previous_indices` of them.

    Args:
        new: (batch, length, ·), the states of this call.
        first: the number that fills the states before the first token.
        cache: keeps what the next call needs, under `name`: the last `history` states, or all if it records them.

    Returns:
        (batch, history + recorded + length, ·), and the indices or None.
    """
    past = cache.states.get(name) if cache is not None else None
    if past is None:
        past = new.new_full((new.shape[0], history, new.shape[-1]), first)
    states = torch.cat((past, new), dim=1)
    if cache is not None and cache.record_past:
        is_token = torch.ones_like(new[..., 0], dtype=torch.bool) if token_mask is None else token_mask
        cache.states[name], cache.token_dims[name] = states, 1
        return states, previous_token(cache.append(f"{name}_mask", is_token, dim=1), history)
    previous = previous_indices(token_mask, branch_ids, history)
    if cache is not None:
        cache.states[name] = last_tokens(states, previous, history)
    return states, previous


def previous_indices(
    token_mask: torch.Tensor | None, branch_ids: torch.Tensor | None, history: int
) -> torch.Tensor | None:
    """The index of the token before each token, (batch, history + length + 1).

    The last entry is for the first token of the next call. None if each token directly follows its predecessor.
    """
    if branch_ids is not None:
        return previous_in_branch(branch_ids, history)
    return None if token_mask is None else previous_token(token_mask, history)


def previous_token(token_mask: torch.Tensor, history: int) -> torch.Tensor:
    """`previous_indices` for a (batch, length) mask that is False for padding."""
    is_token = nn.functional.pad(token_mask, (history, 0), value=True)
    indices = torch.arange(is_token.shape[1], device=token_mask.device).expand_as(is_token)
    last = torch.where(is_token, indices, -1).cummax(dim=1).values
    return nn.functional.pad(last, (1, 0), value=0).clamp(min=0)


def previous_in_branch(branch_ids: torch.Tensor, history: int) -> torch.Tensor:
    """`previous_indices` for (batch, length) branches: 0 for the shared prefix, k > 0 for branch k, −1 for padding.

    The prefix, which may be empty, is before the branches, and a branch ends where the next one begins.
    """
    previous = previous_token(branch_ids >= 0, history)
    branch = nn.functional.pad(branch_ids, (history, 1), value=0)
    indices = torch.arange(branch.shape[1] - 1, device=branch_ids.device)
    prefix_end = torch.where(branch[:, :-1] == 0, indices, 0).amax(dim=1, keepdim=True)
    is_first = (branch > 0) & (branch.gather(1, previous) != branch)
    return torch.where(is_first, prefix_end, previous)


def number_sequences(position_ids: torch.Tensor, token_mask: torch.Tensor | None) -> torch.Tensor:
    """The sequence of each token in a packed row, (batch, length) from 1; −1 for padding.

    A sequence starts where a position is not greater than that of the token before. Gaps do not start a sequence.
    """
    positions = position_ids.long() if token_mask is None else position_ids.long().expand(token_mask.shape)
    previous = None if token_mask is None else previous_token(token_mask, history=1)
    padded = nn.functional.pad(positions, (1, 0), value=INVALID_POSITION)[..., None]
    starts = positions <= shift_back(padded, previous, distance=1, history=1).squeeze(-1)
    if token_mask is None:
        return starts.cumsum(dim=1) + 1
    return ((starts & token_mask).cumsum(dim=1) + 1).masked_fill(~token_mask, -1)


def shift_back(states: torch.Tensor, previous: torch.Tensor | None, distance: int, history: int) -> torch.Tensor:
    """The state `distance` tokens before each token: (batch, history + length, ·) → (batch, length, ·)."""
    if previous is None:
        return states[:, history - distance : states.shape[1] - distance]
    indices = walk_back(previous, distance)[:, history:-1]
    return states_at(states, indices)


def last_tokens(states: torch.Tensor, previous: torch.Tensor | None, history: int) -> torch.Tensor:
    """The states of the last `history` tokens, in order: (batch, history + length, ·) → (batch, history, ·)."""
    if previous is None:
        # a copy, so that the memory of the other states can be freed
        return states[:, states.shape[1] - history :].clone()
    indices = [walk_back(previous, distance)[:, -1] for distance in range(history, 0, -1)]
    return states_at(states, torch.stack(indices, dim=1)) if indices else states[:, :0]


def states_at(states: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """The states at (batch, length) indices: (batch, ·, size) → (batch, length, size)."""
    # not `take_along_dim`, which fixes the shapes of an exported graph
    return states.gather(1, indices[..., None].expand(-1, -1, states.shape[-1]))


def walk_back(previous: torch.Tensor, distance: int) -> torch.Tensor:
    """The index `distance` tokens before each token: (batch, indices) → the same shape."""
    indices = previous
    for _ in range(distance - 1):
        indices = previous.gather(1, indices)
    return indices
