"""Performer attention, FAVOR+ (Choromanski et al., 2009.14794): softmax attention, estimated in linear time.

    exp(q_t·k_j / √d_head) ≈ φ(q_t)·φ(k_j)
    o_t = φ(q_t)·S_t / φ(q_t)·z_t    with    S_t = Σ_{j≤t} φ(k_j) v_jᵀ    and    z_t = Σ_{j≤t} φ(k_j)

The features of x = q / d_head^¼ or k / d_head^¼ use m random directions, the rows of W (m × d_head):

    positive         φ(x) = exp(Wx − ‖x‖²/2) / √m
    trigonometric    φ(x) = exp(‖x‖²/2) [cos Wx; sin Wx] / √m
    relu             φ(x) = (relu(Wx) + ε) / √m, another kernel, not an estimate of softmax

Exponentials overflow, so φ(x) is stored as exp(s)·f, with features f of at most 1/√m and a scale s. The scale of a
query cancels. The scale of a key enters o_t as exp(s_j − c_t) ≤ 1, where c_t = max_{j≤t} s_j is the largest scale so
far. The usual maximum over the whole sequence is not causal: it depends on later keys.

In the bidirectional form, all sums and c are over all tokens: S and z are the same for every t.
"""

from typing import Any, Literal

import torch
from torch import nn
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.utils.generic import maybe_autocast

from .attention import Attention, register_attention_type
from .cache import StateCacheLayer, layer_state
from .configuration_base import BaseConfig
from .layers import Projections
from .masks import boolean_mask
from .settings import setting

QUADRATIC_LENGTH = 256
"""Up to this length the quadratic form is used; on a CPU both forms take the same time at about 128 tokens."""

RELU_EPSILON = 1e-3
"""Added to the features of `relu`, as in the authors' code: a query without any feature would divide by zero."""

SMALLEST_SUM = {"positive": 1e-20, "trigonometric": 1e-6, "relu": 1e-20}
"""The smallest absolute divisor, relative to the largest scale.

Trigonometric estimates of small weights are negative about as often as positive, and their sum may be close to zero.
The output is then large and wrong, but finite. The other sums are positive. They are smaller than this only if the
products of query features and key features underflow.
"""


class PerformerConfig(BaseConfig):
    """The settings of `performer`."""

    performer_kind: Literal["positive", "trigonometric", "relu"] = setting("positive", "feature map")
    performer_features: int = setting(64, "number m of random features a head", min=1)
    performer_orthogonal: bool = setting(True, "orthogonal rows of the random projection")
    performer_redraw_steps: int = setting(0, "training draws new features after so many updates; 0 for never", min=0)
    performer_chunk: int = setting(64, "tokens handled together in the linear form", min=1)


@register_attention_type("performer")
class PerformerAttention(Attention):
    """Attention by random features: quadratic for short inputs, else in chunks with a state of fixed size.

    Both forms compute the same. The quadratic form is used for branches, and for up to `QUADRATIC_LENGTH` tokens
    without a cache. `attention_dropout` acts on the weights, which only the quadratic form has.
    """

    config_class = PerformerConfig
    mask_type = None
    supports_branches = True
    supports_bidirectional = True
    causal_settings = ("performer_chunk",)

    layer_config: PerformerConfig
    projection: torch.Tensor

    def __init__(self, config: PerformerConfig, layer_idx: int):
        super().__init__(config, layer_idx)
        settings = self.layer_config
        self.projections = Projections(config)
        self.kind, self.chunk = settings.performer_kind, settings.performer_chunk
        # (heads, m, d_head), the rows of W
        shape = (config.num_attention_heads, settings.performer_features, config.head_dim)
        self.register_buffer("projection", torch.empty(shape))

    def initialize_parameters(self) -> None:
        """Draw the random directions, which are saved with the weights."""
        init.copy_(self.projection, self._draw())

    def between_updates(self, step: int, generator: torch.Generator) -> None:
        """Draw new features every `performer_redraw_steps` updates; `forward` never draws."""
        every = self.layer_config.performer_redraw_steps
        if every and step % every == 0:
            self.redraw_features(generator)

    @torch.no_grad()
    def redraw_features(self, generator: torch.Generator | None = None) -> None:
        """Draw new random directions."""
        self.projection.copy_(self._draw(generator))

    def _draw(self, generator: torch.Generator | None = None) -> torch.Tensor:
        heads, rows, head_dim = self.projection.shape
        return draw_projection(heads, rows, head_dim, self.layer_config.performer_orthogonal, generator)

    def forward(
        self,
        hidden_states: torch.Tensor,
        *,
        attention_mask: torch.Tensor | None,
        position_ids: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None,
        branch_ids: torch.Tensor | None = None,
        token_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Self-attention; see `Attention.forward`. Only the quadratic form returns weights."""
        queries, keys, values = self.projections(hidden_states, position_embeddings)

        cache, weights = layer_state(past_key_values, self.layer_idx), None
        # half precision is too coarse for exponentials and long sums
        with maybe_autocast(device_type=hidden_states.device.type, enabled=False):
            dtype = torch.promote_types(values.dtype, torch.float32)
            projection = self.projection.to(dtype)
            queries, _ = random_features(queries.to(dtype), projection, self.kind)
            keys, scales = random_features(keys.to(dtype), projection, self.kind)
            # a graph cannot repeat a step as often as the length says
            is_short = torch.compiler.is_exporting() or hidden_states.shape[1] <= QUADRATIC_LENGTH
            if branch_ids is not None or (cache is None and is_short):
                visible = boolean_mask(hidden_states, token_mask, 0, branch_ids, self.is_causal)
                weights = quadratic_weights(queries, keys, scales, visible, SMALLEST_SUM[self.kind])
                weights = nn.functional.dropout(weights, self.config.attention_dropout, self.training)
                mixed = weights @ values.to(dtype)
            else:
                if token_mask is not None:
                    scales = scales.masked_fill(~token_mask[:, None], -torch.inf)
                mixed = self._attend_by_sums(queries, keys, scales, values.to(dtype), cache)
        return self.projections.output(mixed.to(values.dtype).transpose(1, 2)), weights

    def _attend_by_sums(self, queries, keys, scales, values, cache: StateCacheLayer | None) -> torch.Tensor:
        """φ(q_t)·S_t / φ(q_t)·z_t, (batch, heads, length, d_head)."""
        # one more value, which is always 1: its sum is z
        values = nn.functional.pad(values, (0, 1), value=1.0)
        mixed = (
            self._attend_by_chunks(queries, keys, scales, values, cache)
            if self.is_causal
            else queries @ sum_over_all(keys, scales, values)
        )
        return mixed[..., :-1] / clamp_abs_min(mixed[..., -1:], SMALLEST_SUM[self.kind])

    def _attend_by_chunks(self, queries, keys, scales, values, cache: StateCacheLayer | None) -> torch.Tensor:
        """φ(q_t)·S_t: each chunk attends to itself and to the sums over all earlier chunks."""
        if cache is not None and "sums" in cache.states:
            sums, largest = cache.states["sums"], cache.states["largest"]
        else:
            sums, largest = empty_sums(keys, values)
        outputs = []
        # split, not slices: the gradient of each slice would be as long as the sequence
        chunks = [states.split(self.chunk, dim=2) for states in (queries, keys, scales, values)]
        for chunk_queries, chunk_keys, chunk_scales, chunk_values in zip(*chunks, strict=True):
            output, (sums, largest) = chunk_sums(chunk_queries, chunk_keys, chunk_scales, chunk_values, sums, largest)
            outputs.append(output)
        if cache is not None:
            # a copy, so that the memory of the other scales can be freed
            cache.states["sums"], cache.states["largest"] = sums, largest.clone()
        return torch.cat(outputs, dim=2)


def random_features(states: torch.Tensor, projection: torch.Tensor, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The features and scales of queries or keys: φ(x) = exp(scale) · feature.

    Args:
        states: (batch, heads, length, d_head).
        projection: (heads, m, d_head).
        kind: `positive`, `trigonometric` or `relu`.

    Returns:
        The features, (batch, heads, length, m; 2m for trigonometric), and the scales, (batch, heads, length).
    """
    states = states * states.shape[-1] ** -0.25
    projected = states @ projection.transpose(-1, -2)  # (batch, heads, length, m)
    half_norms = states.square().sum(dim=-1) / 2
    if kind == "positive":
        exponents = projected - half_norms[..., None]
        # no gradient is needed: the scale is subtracted here and added elsewhere
        scales = exponents.detach().amax(dim=-1)
        features = (exponents - scales[..., None]).exp()
    elif kind == "trigonometric":
        scales = half_norms
        features = torch.cat((projected.cos(), projected.sin()), dim=-1)
    else:
        scales = torch.zeros_like(half_norms)
        features = projected.relu() + RELU_EPSILON
    return features * projection.shape[-2] ** -0.5, scales


def quadratic_weights(
    queries: torch.Tensor, keys: torch.Tensor, scales: torch.Tensor, visible: torch.Tensor, smallest: float
) -> torch.Tensor:
    """The weights φ(q_t)·φ(k_j) / Σ_j φ(q_t)·φ(k_j), in time and memory quadratic in the length.

    Args:
        queries: features, (batch, heads, length, features).
        keys: features, (batch, heads, keys, features).
        scales: the scales of the keys, (batch, heads, keys).
        visible: a boolean mask, (batch or 1, 1, length, keys), with at least one visible key for each query.
        smallest: see `SMALLEST_SUM`.

    Returns:
        (batch, heads, length, keys).
    """
    scales = scales[..., None, :].masked_fill(~visible, -torch.inf)  # (batch, heads, length, keys)
    # only over the visible keys: no other branch, padding or later key has an effect
    largest = scales.detach().amax(dim=-1, keepdim=True)
    weights = (queries @ keys.transpose(-1, -2)) * (scales - largest).exp()
    return weights / clamp_abs_min(weights.sum(dim=-1, keepdim=True), smallest)


def sum_over_all(keys: torch.Tensor, scales: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """S over all tokens, divided by exp(largest scale): (batch, heads, features, size).

    It takes the keys, scales and values of `chunk_sums`.
    """
    # not −∞: a row may be all padding
    largest = scales.detach().amax(dim=-1, keepdim=True).clamp(min=torch.finfo(scales.dtype).min)
    return (keys * (scales - largest).exp()[..., None]).transpose(-1, -2) @ values


def chunk_sums(
    queries: torch.Tensor,
    keys: torch.Tensor,
    scales: torch.Tensor,
    values: torch.Tensor,
    sums: torch.Tensor,
    largest: torch.Tensor,
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """φ(q_t)·S_t for the tokens of one chunk, and the state after it; both are divided by exp(largest scale so far).

    Args:
        queries, keys: features, (batch, heads, chunk, features).
        scales: the scales of the keys, (batch, heads, chunk); −∞ for padding.
        values: (batch, heads, chunk, size).
        sums: S before the chunk, (batch, heads, features, size).
        largest: the largest scale before the chunk, (batch, heads, 1).

    Returns:
        (batch, heads, chunk, size), and the new `sums` and `largest`.
    """
    running = torch.cat((largest, scales.detach()), dim=-1).cummax(dim=-1).values[..., 1:]  # c_t, (…, chunk)
    later = torch.ones(scales.shape[-1], scales.shape[-1], dtype=torch.bool, device=scales.device).triu(1)
    pair_scales = (scales[..., None, :] - running[..., :, None]).masked_fill(later, -torch.inf)
    from_chunk = ((queries @ keys.transpose(-1, -2)) * pair_scales.exp()) @ values
    from_past = (queries @ sums) * (largest - running).exp()[..., None]

    last = running[..., -1:]
    weighted_keys = keys * (scales - last).exp()[..., None]
    sums = sums * (largest - last).exp()[..., None] + weighted_keys.transpose(-1, -2) @ values
    return from_chunk + from_past, (sums, last)


def empty_sums(keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The state before the first token, for key features (…, length, features) and values (…, length, size)."""
    sums = keys.new_zeros(*keys.shape[:2], keys.shape[-1], values.shape[-1])
    # not −∞: a row that begins with padding would compute −∞ minus −∞
    return sums, keys.new_full((*keys.shape[:2], 1), torch.finfo(keys.dtype).min)


def clamp_abs_min(sums: torch.Tensor, smallest: float) -> torch.Tensor:
    """`sums`, with ±`smallest` instead of values that are closer to zero."""
    # not copysign, which ONNX has not
    signed = smallest * torch.where(sums < 0, -torch.ones_like(sums), torch.ones_like(sums))
    return torch.where(sums.abs() < smallest, signed, sums)


def draw_projection(
    heads: int, rows: int, head_dim: int, orthogonal: bool, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Random directions, (heads, rows, d_head); each single row has a Gaussian distribution.

    Orthogonal rows are orthogonal in blocks of d_head. Each block is a uniformly random rotation, and each row has the
    norm of an independent Gaussian row.
    """
    # `from_config(dtype=…)` makes half precision the default, in which there is no QR decomposition
    where: dict[str, Any] = {
        "device": generator.device if generator is not None else "cpu",
        "dtype": torch.promote_types(torch.get_default_dtype(), torch.float32),
    }
    gaussian = torch.randn((heads, rows, head_dim), generator=generator, **where)
    if not orthogonal:
        return gaussian
    blocks = -(-rows // head_dim)
    squares = torch.randn(heads, blocks, head_dim, head_dim, generator=generator, **where)
    q, r = torch.linalg.qr(squares)
    # without these signs the rotations are not uniform: the first entry of the first column is never positive
    q = q * r.diagonal(dim1=-2, dim2=-1).sign()[..., None, :]
    directions = q.transpose(-1, -2).reshape(heads, blocks * head_dim, head_dim)[:, :rows]
    return directions * gaussian.norm(dim=-1, keepdim=True)
