"""Which tokens come before a token: along its branch and then the stem, past padding, and through the cache."""

import torch
from torch import nn


def previous_indices(
    token_mask: torch.Tensor | None, branch_ids: torch.Tensor | None, reach: int
) -> torch.Tensor | None:
    """Where the token before each place stands, as `previous_in_branch` and `previous_token` give it.

    None where tokens simply follow one another.
    """
    if branch_ids is not None:
        return previous_in_branch(branch_ids, reach)
    return None if token_mask is None else previous_token(token_mask, reach)


def previous_token(token_mask: torch.Tensor, reach: int) -> torch.Tensor:
    """Where the last token before each place stands: (batch, length) → (batch, reach + length + 1).

    `reach` tokens are put before the first; the last place is that of a token to come.
    """
    is_token = nn.functional.pad(token_mask, (reach, 0), value=True)
    indices = torch.arange(is_token.shape[1], device=token_mask.device).expand_as(is_token)
    last = torch.where(is_token, indices, -1).cummax(dim=1).values
    return nn.functional.pad(last, (1, 0), value=0).clamp(min=0)


def previous_in_branch(branch_ids: torch.Tensor, reach: int) -> torch.Tensor:
    """The same along stem and branch; `branch_ids` is 0 for the stem, k > 0 for the k-th branch, −1 for padding.

    The stem comes first, each branch is one run, and padding stands at the end.
    """
    indices = torch.arange(branch_ids.shape[1] + 1, device=branch_ids.device).expand(len(branch_ids), -1) + reach
    left = nn.functional.pad(branch_ids, (1, 0), value=0)
    here = nn.functional.pad(branch_ids, (0, 1), value=-1)
    stem_end = (branch_ids == 0).sum(dim=1, keepdim=True) - 1 + reach
    previous = torch.where((left != here) & (here > 0), stem_end, indices - 1)
    before = torch.arange(-1, reach - 1, device=branch_ids.device).clamp(min=0)
    return torch.cat((before.expand(len(branch_ids), -1), previous), dim=1)


def shifted(states: torch.Tensor, previous: torch.Tensor | None, distance: int, reach: int) -> torch.Tensor:
    """What lies `distance` tokens before each: (batch, reach + length, ·) → (batch, length, ·)."""
    if previous is None:
        return states[:, reach - distance : states.shape[1] - distance]
    places = walk_back(previous, distance)[:, reach:-1]
    return torch.take_along_dim(states, places[..., None], dim=1)


def newest(states: torch.Tensor, previous: torch.Tensor | None, reach: int) -> torch.Tensor:
    """The last `reach` tokens, in order: (batch, reach + length, ·) → (batch, reach, ·)."""
    if previous is None:
        # a copy, so that the rest can be let go
        return states[:, states.shape[1] - reach :].clone()
    places = [walk_back(previous, distance)[:, -1] for distance in range(reach, 0, -1)]
    return torch.take_along_dim(states, torch.stack(places, dim=1)[..., None], dim=1) if places else states[:, :0]


def walk_back(previous: torch.Tensor, distance: int) -> torch.Tensor:
    """Follow `previous` so many times, (batch, places) → the same."""
    places = previous
    for _ in range(distance - 1):
        places = torch.take_along_dim(previous, places, dim=1)
    return places
