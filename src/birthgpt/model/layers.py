"""The parts that blocks and attention types share: norms, rotary positions, projections, MLP, slots."""

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from .configuration_base import BaseConfig

INVALID_POSITION = -(2**40)
"""The position or slot of padding and of missing tokens. It stays negative if other positions are added to it."""


def build_norm(config: BaseConfig, size: int) -> nn.Module:
    """LayerNorm (Ba et al., 1607.06450) or RMSNorm (Zhang & Sennrich, 1910.07467) over the last dimension."""
    norm_class = nn.RMSNorm if config.norm_type == "rmsnorm" else nn.LayerNorm
    return norm_class(size, eps=config.layer_norm_eps)


YARN = "factor original_max_position_embeddings attention_factor beta_fast beta_slow mscale mscale_all_dim truncate"
LLAMA3 = "factor original_max_position_embeddings low_freq_factor high_freq_factor"
ROPE_TYPES: dict[str, set[str]] = {
    "default": set(),
    "linear": {"factor"},
    "llama3": set(LLAMA3.split()),
    "proportional": {"factor"},
    "yarn": set(YARN.split()),
}
"""The values of `rope_type` whose angles do not depend on the length of a sequence, and the parameters of each."""


class RotaryEmbedding(nn.Module):
    """Rotary positions (Su et al., 2104.09864): position p rotates feature pair i by p · f_i with f_i = θ^(−2i/r).

    r is d_head, or a share of it with `partial_rotary_factor`: the other features are not rotated. With a `rope_type`,
    transformers computes the frequencies f_i and a factor of cosines and sines.

    Every call computes the angles from numbers: after a construction on the meta device, a buffer of frequencies would
    be undefined.
    """

    def __init__(self, config: BaseConfig):
        super().__init__()
        assert config.rope_parameters is not None, "the configuration checks rope_parameters"
        self.rotated = rotated_features(config)
        self.theta = config.rope_parameters["rope_theta"]
        self.frequencies, self.scaling = None, 1.0
        rope_type = config.rope_parameters["rope_type"]
        if rope_type != "default":
            with torch.device("cpu"):
                frequencies, self.scaling = ROPE_INIT_FUNCTIONS[rope_type](config)
            self.frequencies = frequencies.tolist()

    @torch.no_grad()
    def forward(self, position_ids: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines of (batch, length) positions, (batch, length, r) each."""
        # mps devices do not support float64
        precise = torch.float32 if position_ids.device.type == "mps" else torch.float64
        if self.frequencies is None:
            exponents = torch.arange(0, self.rotated, 2, device=position_ids.device) / self.rotated
            frequencies = self.theta ** -exponents.to(precise)
        else:
            frequencies = torch.tensor(self.frequencies, dtype=precise, device=position_ids.device)
        angles = position_ids[..., None].to(precise) * frequencies  # (batch, length, r / 2)
        cosines, sines = ((values * self.scaling).to(dtype) for values in (angles.cos(), angles.sin()))
        return torch.cat((cosines, cosines), dim=-1), torch.cat((sines, sines), dim=-1)


def rotated_features(config: BaseConfig) -> int:
    """The number r of features of a head that rotary positions rotate."""
    parameters = config.rope_parameters or {}
    # proportional positions rotate the other pairs by zero
    if parameters.get("rope_type") == "proportional":
        return config.head_dim
    return int(config.head_dim * parameters.get("partial_rotary_factor", 1.0))


def apply_rotary(states: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """Rotate the first r features of (batch, heads, length, d_head) states, by (batch, length, r) cosines and sines."""
    size = cosines.shape[-1]
    if size < states.shape[-1]:
        return torch.cat((apply_rotary(states[..., :size], cosines, sines), states[..., size:]), dim=-1)
    first, second = states.chunk(2, dim=-1)
    rotated = torch.cat((-second, first), dim=-1)
    return states * cosines.unsqueeze(1) + rotated * sines.unsqueeze(1)


def split_heads(states: torch.Tensor, heads: int) -> torch.Tensor:
    """(batch, length, hidden_size) → (batch, heads, length, d_head)."""
    return states.unflatten(-1, (heads, -1)).transpose(1, 2)


class OutputProjection(nn.Linear):
    """The linear map that writes into the residual stream; it starts at zero with `zero_init_residual`."""


class Projections(nn.Module):
    """The linear maps of an attention: to queries, keys and values, with norms if `qk_norm`, and to the output."""

    def __init__(self, config: BaseConfig):
        super().__init__()
        self.head_dim = config.head_dim
        width, bias = config.hidden_size, config.attention_bias
        self.q_proj = nn.Linear(width, width, bias=bias)
        self.k_proj = nn.Linear(width, width, bias=bias)
        self.v_proj = nn.Linear(width, width, bias=bias)
        self.o_proj = OutputProjection(width, width, bias=bias)
        self.q_norm = build_norm(config, config.head_dim) if config.qk_norm else nn.Identity()
        self.k_norm = build_norm(config, config.head_dim) if config.qk_norm else nn.Identity()

    def forward(
        self, hidden_states: torch.Tensor, position_embeddings: tuple[torch.Tensor, torch.Tensor] | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries, keys and values: (batch, length, hidden_size) → three times (batch, heads, length, d_head).

        Rotary positions, given as cosines and sines, rotate queries and keys.
        """
        queries = self.queries(hidden_states)
        keys, values = self.keys_and_values(hidden_states)
        if position_embeddings is not None:
            queries = apply_rotary(queries, *position_embeddings)
            keys = apply_rotary(keys, *position_embeddings)
        return queries, keys, values

    def queries(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(batch, length, hidden_size) → (batch, heads, length, d_head)."""
        return self.q_norm(self._split_heads(self.q_proj(hidden_states)))

    def keys_and_values(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(batch, length, hidden_size) → two times (batch, heads, length, d_head)."""
        keys = self.k_norm(self._split_heads(self.k_proj(hidden_states)))
        return keys, self._split_heads(self.v_proj(hidden_states))

    def _split_heads(self, states: torch.Tensor) -> torch.Tensor:
        # by the width of a head: with tensor parallelism, a process has a part of the heads
        return states.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def output(self, mixed: torch.Tensor) -> torch.Tensor:
        """Mixed values, (batch, length, heads, d_head) → (batch, length, hidden_size)."""
        return self.o_proj(mixed.flatten(-2))


class HiddenDropout(nn.Module):
    """Dropout at the rate `config.hidden_dropout`, which is read at every call: a change of it acts at once."""

    def __init__(self, config: BaseConfig):
        super().__init__()
        self.config = config

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(states, self.config.hidden_dropout, self.training)


class MLP(nn.Module):
    """W₂ act(W₁ x): the position-wise part of a block."""

    def __init__(self, config: BaseConfig):
        super().__init__()
        assert config.intermediate_size is not None, "the configuration fills in intermediate_size"
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.act_fn = ACT2FN[config.hidden_act]
        self.down_proj = OutputProjection(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.act_fn(self.up_proj(hidden_states)))


def attention_weights(scores: torch.Tensor, dropout: float) -> torch.Tensor:
    """Softmax over the last dimension, in float32 at least, then dropout."""
    # half precision is too coarse for the sum over keys
    weights = scores.softmax(dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32))
    return nn.functional.dropout(weights.to(scores.dtype), p=dropout, training=dropout > 0)


def upcast_to_float32(states: torch.Tensor) -> torch.Tensor:
    """`states` in float32, or in float64 if they are float64."""
    return states.to(torch.promote_types(states.dtype, torch.float32))


def flat_positions(
    logits_to_keep: int | torch.Tensor, batch: int, length: int, device: torch.device
) -> torch.Tensor | None:
    """The positions to keep, as indices of a flattened batch with batch · length positions; None for all.

    Args:
        logits_to_keep: an int for the last k positions (0: all), which returns (batch, k); positions, (count,) or
            (batch, count), which return (batch, count); or a boolean mask, (batch, length), which returns (positions,).
            The mask may be on the CPU: counting its True positions on a GPU would wait for the GPU.
    """
    if isinstance(logits_to_keep, int):
        if not 0 < logits_to_keep < length:
            return None
        logits_to_keep = torch.arange(length - logits_to_keep, length, device=device)
    if logits_to_keep.dtype == torch.bool:
        return logits_to_keep.flatten().nonzero().squeeze(1).to(device, non_blocking=True)
    return torch.arange(batch, device=device)[:, None] * length + logits_to_keep.to(device) % length


def select_positions(states: torch.Tensor, positions: torch.Tensor | None) -> torch.Tensor:
    """(batch, length, hidden_size) → (*positions, hidden_size) at `flat_positions`; unchanged for None."""
    return states if positions is None else states.flatten(0, 1)[positions]


def select_targets(
    targets: torch.Tensor, positions: torch.Tensor | None, logits_to_keep: int | torch.Tensor
) -> torch.Tensor:
    """(batch, length) targets, or (positions,) where a boolean mask chose the `flat_positions`."""
    if isinstance(logits_to_keep, torch.Tensor) and logits_to_keep.dtype == torch.bool:
        targets = targets.flatten()[positions]
    return targets.contiguous()


def scatter_to_slots(
    new: torch.Tensor, slots: torch.Tensor | int, size: int, kept: torch.Tensor | None = None
) -> torch.Tensor:
    """A buffer of `size` slots: `kept` and then zeros, where the states at `slots` are replaced by `new`.

    Args:
        new: (batch, heads, length, …).
        slots: (batch, length), the slot of each token, the same for all heads. Tokens with a slot outside 0 … size − 1
            are ignored. An int is the slot of the first token, and the others follow it: faster, only without `kept`.
        size: number of slots.
        kept: (batch, heads, at most size, …), or None.

    Returns:
        (batch, heads, size, …).
    """
    if isinstance(slots, int):
        assert kept is None
        return nn.functional.pad(new, (0, 0) * (new.ndim - 3) + (slots, size - slots - new.shape[2]))
    kept = new[:, :, :0] if kept is None else kept
    # an extra slot receives the ignored tokens
    base = torch.cat((kept, new.new_zeros(*new.shape[:2], size + 1 - kept.shape[2], *new.shape[3:])), dim=2)
    slots = torch.where((slots >= 0) & (slots < size), slots, size)
    index = slots.view(slots.shape[0], 1, slots.shape[1], *[1] * (new.ndim - 3))
    # under autocast, new states have another type than those of an earlier call without it
    return base.scatter(2, index.expand_as(new), new.to(base.dtype))[:, :, :size]


def gather_from_slots(states: torch.Tensor, slots: torch.Tensor | int, length: int) -> torch.Tensor:
    """The states at `slots` of `scatter_to_slots`: (batch, heads, size, ·) → (batch, heads, length, ·).

    The value is undefined for tokens without a slot.
    """
    if isinstance(slots, int):
        return states[:, :, slots : slots + length]
    index = slots.clamp(0, states.shape[2] - 1)[:, None, :, None]
    return states.gather(2, index.expand(-1, states.shape[1], -1, states.shape[3]))
