"""What Perceiver counts and gathers: finished latents, and the keys and values of tokens and latents."""

from typing import NamedTuple

import torch


class KeysAndValues(NamedTuple):
    """The keys and values, (batch, heads, keys, d_head) each, that queries attend to."""

    keys: torch.Tensor
    values: torch.Tensor
    ends: torch.Tensor
    """(batch or 1, keys), the place of a token or the last place of a latent."""

    def take(self, indices: torch.Tensor) -> "KeysAndValues":
        """The keys and values at (batch, indices)."""
        keys, values = (gather_keys(states, indices) for states in (self.keys, self.values))
        return KeysAndValues(keys, values, self.ends.gather(1, indices))


class LatentProgress(NamedTuple):
    """The tokens of a call, and the number of finished latents of each row before and after it."""

    positions: torch.Tensor
    """(batch, length), the rotary positions of the tokens."""
    places: torch.Tensor
    """(batch, length), the places of the tokens; `INVALID_POSITION` for padding."""
    newest: torch.Tensor
    """(batch, length), the place of the newest token up to each index; −1 if there is none."""
    before: torch.Tensor
    """(batch, 1), the number of latents that earlier calls finished."""
    finished: torch.Tensor
    """(batch, 1), the number of latents that are finished after the call."""
    most: int
    """An upper bound of `finished`, computed from lengths; at least one."""

    def numbers(self, new: int) -> torch.Tensor:
        """(batch, new): the indices of the next latents of each row."""
        return self.before + torch.arange(new, device=self.before.device)

    def positions_at(self, places: torch.Tensor) -> torch.Tensor:
        """The rotary positions of the tokens at (batch, new) places; undefined for a place that is not in the call."""
        indices = torch.searchsorted(self.newest, places).clamp(max=self.newest.shape[1] - 1)
        return self.positions.gather(1, indices)


def gather_keys(states: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """The keys or values, (batch, heads, keys, d_head), at (batch or 1, indices)."""
    # not `take_along_dim`, which fixes the shapes of an exported graph
    return states.gather(2, indices[:, None, :, None].expand(states.shape[0], states.shape[1], -1, states.shape[3]))


def in_range(ends: torch.Tensor, first: torch.Tensor | int, last: torch.Tensor) -> torch.Tensor:
    """The boolean mask first ≤ end ≤ last, (batch, 1, queries, keys), from (batch, keys) and (batch, queries)."""
    ends = ends[:, None]
    first = first[..., None] if isinstance(first, torch.Tensor) else first
    return ((first <= ends) & (ends <= last[..., None]))[:, None]
