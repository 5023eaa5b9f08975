"""The parts that blocks and mixers share: norms, rotary positions, the MLP."""

import torch
from torch import nn
from transformers.activations import ACT2FN

from .configuration_birthgpt import BirthGPTConfig


def build_norm(config: BirthGPTConfig, size: int) -> nn.Module:
    """LayerNorm (Ba et al., 1607.06450) or RMSNorm (Zhang & Sennrich, 1910.07467) over the last dimension."""
    norm_class = nn.RMSNorm if config.norm_type == "rmsnorm" else nn.LayerNorm
    return norm_class(size, eps=config.layer_norm_eps)


class RotaryEmbedding(nn.Module):
    """Rotary positions (Su et al., 2104.09864): position p turns feature pair i by the angle p · θ^(−2i/d_head).

    The angles are computed from the configuration at every call: a buffer of frequencies would come back
    as garbage from a construction on the meta device.
    """

    def __init__(self, config: BirthGPTConfig):
        super().__init__()
        self.head_dim = config.head_dim
        self.theta = config.rope_parameters["rope_theta"]

    @torch.no_grad()
    def forward(self, position_ids: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines of (batch, length) positions, (batch, length, d_head) each."""
        # Apple's devices have no double precision
        precise = torch.float32 if position_ids.device.type == "mps" else torch.float64
        exponents = torch.arange(0, self.head_dim, 2, device=position_ids.device) / self.head_dim
        angles = position_ids[..., None].to(precise) * self.theta ** -exponents.to(precise)
        angles = torch.cat((angles, angles), dim=-1)  # (batch, length, d_head)
        return angles.cos().to(dtype), angles.sin().to(dtype)


def apply_rotary(states: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """Turn (batch, heads, length, d_head) states by angles given as (batch, length, d_head)."""
    first, second = states.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return states * cosines.unsqueeze(1) + turned * sines.unsqueeze(1)


def split_heads(states: torch.Tensor, heads: int) -> torch.Tensor:
    """(batch, length, hidden_size) → (batch, heads, length, d_head)."""
    return states.unflatten(-1, (heads, -1)).transpose(1, 2)


def scatter_to_slots(
    new: torch.Tensor, slots: torch.Tensor | int, size: int, kept: torch.Tensor | None = None
) -> torch.Tensor:
    """(batch, heads, size, …): what was `kept`, then zeros, and over them `new` (batch, heads, length, …) at `slots`.

    `slots` is (batch, length), the same for all heads; what it puts outside of 0 … size − 1 is dropped. An int, with
    nothing kept, is that of the first: the others follow one by one, which is faster.
    """
    if isinstance(slots, int):
        assert kept is None
        return nn.functional.pad(new, (0, 0) * (new.ndim - 3) + (slots, size - slots - new.shape[2]))
    kept = new[:, :, :0] if kept is None else kept
    # what is dropped falls into one slot more
    ground = torch.cat((kept, new.new_zeros(*new.shape[:2], size + 1 - kept.shape[2], *new.shape[3:])), dim=2)
    slots = torch.where((slots >= 0) & (slots < size), slots, size)
    index = slots.view(slots.shape[0], 1, slots.shape[1], *[1] * (new.ndim - 3))
    return ground.scatter(2, index.expand_as(new), new)[:, :, :size]


def pick(states: torch.Tensor, slots: torch.Tensor | int, length: int) -> torch.Tensor:
    """(batch, heads, size, ·) at `slots` as of `scatter_to_slots` → (batch, heads, length, ·); anything, if nowhere."""
    if isinstance(slots, int):
        return states[:, :, slots : slots + length]
    index = slots.clamp(0, states.shape[2] - 1)[:, None, :, None]
    return states.gather(2, index.expand(-1, states.shape[1], -1, states.shape[3]))


def rows_to_keep(
    logits_to_keep: int | torch.Tensor, batch: int, length: int, device: torch.device
) -> torch.LongTensor | None:
    """Where the positions that a head is wanted for stand among batch · length rows; None for all.

    Args:
        logits_to_keep: the last k positions (0: all), or positions, (count,) or (batch, count), which give
            (batch, k or count) rows; or a boolean (batch, length), which gives (positions,). It may lie elsewhere:
            a mask is counted where it is, and counting one on a GPU waits for it.
    """
    if isinstance(logits_to_keep, int):
        if not 0 < logits_to_keep < length:
            return None
        logits_to_keep = torch.arange(length - logits_to_keep, length, device=device)
    if logits_to_keep.dtype == torch.bool:
        return logits_to_keep.flatten().nonzero().squeeze(1).to(device, non_blocking=True)
    return torch.arange(batch, device=device)[:, None] * length + logits_to_keep.to(device) % length


def keep_rows(states: torch.Tensor, rows: torch.LongTensor | None) -> torch.Tensor:
    """(batch, length, hidden_size) → (*rows, hidden_size), or all of them where `rows` is None."""
    return states if rows is None else states.flatten(0, 1)[rows]


class OutputProjection(nn.Linear):
    """The linear map that writes into the residual stream; zero at first under `zero_init_residual`."""


class MLP(nn.Module):
    """W₂ act(W₁ x): the position-wise half of a block."""

    def __init__(self, config: BirthGPTConfig):
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.act_fn = ACT2FN[config.hidden_act]
        self.down_proj = OutputProjection(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.act_fn(self.up_proj(hidden_states)))
