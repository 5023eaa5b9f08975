"""ABC: attention with bounded-memory control (Peng et al., 2110.02488), a causal form of Linformer's idea.

A head has a fixed number of slots. Slot s contains a running mean over all tokens so far:

    K̃_t[s] = Σ_{j≤t} w_sj k_j / Σ_{j≤t} w_sj,   Ṽ_t[s] with v_j;   o_t = softmax(q_t K̃_tᵀ / √d_head) Ṽ_t
    w_sj = exp(W x_j)_s (`content`) or exp(E_sj) (`position`), which is Linformer's E made causal

In the bidirectional form, the means are over all tokens: every token reads the same K̃ and Ṽ. Rotary positions rotate
queries and keys before the keys enter the slots.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import nn
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.utils.generic import maybe_autocast

from .attention import Attention, register_attention_type
from .cache import layer_state
from .configuration_base import BaseConfig
from .layers import Projections, attention_weights
from .settings import setting

CHUNK = 32
"""Tokens in a chunk of `abc_attention`, a power of two. It changes speed and memory, not the result."""

NO_WEIGHT = -1e30
"""The logarithm of a zero weight. It is finite, because −∞ minus −∞ is NaN."""

State = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class ABCConfig(BaseConfig):
    """The settings of `abc`."""

    abc_num_slots: int = setting(4, "slots a head", min=1)
    abc_weights: Literal["content", "position"] = setting("content", "what decides the slots of a token")


@register_attention_type("abc")
class ABCAttention(Attention):
    """Attention to a fixed number of slots. Under eager it returns weights, (batch, heads, length, slots)."""

    config_class = ABCConfig
    mask_type = None
    supports_bidirectional = True

    layer_config: ABCConfig

    def __init__(self, config: ABCConfig, layer_idx: int):
        super().__init__(config, layer_idx)
        self.projections = Projections(config)
        self.heads, self.slots = config.num_attention_heads, self.layer_config.abc_num_slots
        self.limit = config.max_position_embeddings
        self.by_position = self.layer_config.abc_weights == "position"
        if self.by_position:
            self.position_weights = nn.Parameter(torch.empty(self.limit, self.heads * self.slots))  # E
        else:
            # no bias: a constant that is added to all log weights of a slot cancels
            self.slot_proj = nn.Linear(config.hidden_size, self.heads * self.slots, bias=False)  # W

    def initialize_parameters(self) -> None:
        """Draw E at random: slots that start equal would stay equal."""
        if self.by_position:
            init.normal_(self.position_weights)

    def forward(
        self,
        hidden_states: torch.Tensor,
        *,
        position_ids: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None,
        token_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Self-attention; see `Attention.forward`.

        Raises:
            ValueError: with `abc_weights="position"`, a position of `max_position_embeddings` or more.
        """
        queries, keys, values = self.projections(hidden_states, position_embeddings)
        cache = layer_state(past_key_values, self.layer_idx)
        log_weights = self._log_weights(hidden_states, position_ids, token_mask)
        # half precision is too coarse for exponentials and long sums
        with maybe_autocast(device_type=keys.device.type, enabled=False):
            dtype = torch.promote_types(values.dtype, torch.float32)
            log_weights = log_weights.to(dtype)
            if token_mask is not None:
                log_weights = log_weights.masked_fill(~token_mask[:, None, :, None], NO_WEIGHT)
            inputs = (queries.to(dtype), keys.to(dtype), values.to(dtype), log_weights)
            state = empty_slots(*inputs[1:])
            if cache is not None and "log_sums" in cache.states:
                state = (cache.states["log_sums"], cache.states["slot_keys"], cache.states["slot_values"])
            dropout = self.config.attention_dropout if self.training else 0.0
            if not self.is_causal:
                mixed, weights = bidirectional_abc_attention(*inputs, dropout)
            elif torch.compiler.is_exporting() and cache is None:
                mixed, weights = dense_abc_attention(*inputs)
            else:
                mixed, weights, state = abc_attention(*inputs, state, dropout)  # (batch, heads, length, ·)
        if cache is not None:
            # copies, so that the memory of the states before can be freed
            copies = (tensor.clone() for tensor in state)
            cache.states |= dict(zip(("log_sums", "slot_keys", "slot_values"), copies, strict=True))
        mixed = self.projections.output(mixed.to(values.dtype).transpose(1, 2))
        return mixed, weights if self.config._attn_implementation == "eager" else None

    def _log_weights(self, hidden_states, position_ids, token_mask) -> torch.Tensor:
        """log w of each token for each slot, (batch, heads, length, slots)."""
        if self.by_position:
            log_weights = self._weights_of_positions(position_ids.expand(hidden_states.shape[:2]), token_mask)
        else:
            log_weights = self.slot_proj(hidden_states)
        return log_weights.unflatten(-1, (self.heads, self.slots)).transpose(1, 2)

    def _weights_of_positions(self, position_ids: torch.Tensor, token_mask: torch.Tensor | None) -> torch.Tensor:
        if token_mask is not None:
            position_ids = position_ids.masked_fill(~token_mask, 0)
        can_read = not (position_ids.is_meta or torch.compiler.is_exporting())
        last = int(position_ids.max()) if can_read else 0
        if last >= self.limit:
            raise ValueError(
                f"max_position_embeddings={self.limit}: abc_weights='position' has no weight for position {last}: "
                "give a shorter sequence"
            )
        return nn.functional.embedding(position_ids, self.position_weights)


def empty_slots(keys: torch.Tensor, values: torch.Tensor, log_weights: torch.Tensor) -> State:
    """The state before the first token: the log of the summed weights of each slot (batch, heads, slots), K̃ and Ṽ."""
    log_sums = torch.full_like(log_weights[:, :, 0], NO_WEIGHT)
    slot_keys, slot_values = (torch.zeros_like(log_sums[..., None] * states[:, :, :1]) for states in (keys, values))
    return log_sums, slot_keys, slot_values


def naive_abc_attention(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, log_weights: torch.Tensor
) -> torch.Tensor:
    """The definition, token by token: K̃_t = K̃_{t−1} + (w_t / Σ_{j≤t} w_j) (k_t − K̃_{t−1}), Ṽ_t with v_t.

    It takes the first four arguments of `abc_attention` and returns its first result.
    """
    log_sums, slot_keys, slot_values = empty_slots(keys, values, log_weights)
    mixed = []
    for t in range(queries.shape[2]):
        log_sums = torch.logaddexp(log_sums, log_weights[:, :, t])
        share = (log_weights[:, :, t] - log_sums).exp()[..., None]  # (batch, heads, slots, 1)
        slot_keys = slot_keys + share * (keys[:, :, t, None] - slot_keys)
        slot_values = slot_values + share * (values[:, :, t, None] - slot_values)
        scores = slot_keys @ queries[:, :, t, :, None] * queries.shape[-1] ** -0.5  # (batch, heads, slots, 1)
        mixed.append((scores.softmax(dim=-2) * slot_values).sum(dim=-2))
    return torch.stack(mixed, dim=2)


def bidirectional_abc_attention(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, log_weights: torch.Tensor, dropout: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention to slots with the mean of all tokens; it returns the first two results of `abc_attention`."""
    shares = log_weights.softmax(dim=2).transpose(-1, -2)  # (batch, heads, slots, length)
    scores = queries @ (shares @ keys).transpose(-1, -2) * queries.shape[-1] ** -0.5
    weights = attention_weights(scores, dropout)
    return weights @ (shares @ values), weights


def dense_abc_attention(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, log_weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`naive_abc_attention` for all tokens at once, in memory quadratic in the length: for graphs of any length.

    It returns the first two results of `abc_attention`, without dropout.
    """
    past = torch.ones(queries.shape[2], queries.shape[2], dtype=torch.bool, device=queries.device).tril()
    # the share of token j in slot s at time t, (batch, heads, t, s, j); other programs have no stable logcumsumexp
    shares = torch.where(past[:, None], log_weights.transpose(-1, -2)[:, :, None], -torch.inf).softmax(dim=-1)
    scores = (shares @ (queries @ keys.transpose(-1, -2))[..., None]).squeeze(-1) * queries.shape[-1] ** -0.5
    weights = attention_weights(scores, dropout=0.0)
    return (weights[..., None, :] @ shares).squeeze(-2) @ values, weights


def abc_attention(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    log_weights: torch.Tensor,
    state: State,
    dropout: float = 0.0,
    chunk: int = CHUNK,
) -> tuple[torch.Tensor, torch.Tensor, State]:
    """`naive_abc_attention` in chunks: matrix products within a chunk, and slots that go from chunk to chunk.

    The share of token j in slot s at time t is exp(log w_sj − ℓ_ts) ≤ 1, with ℓ_t = log Σ_{j≤t} w_j. A matrix product
    needs one factor for j and one for t. So the share is split at a time e with j ≤ e < t, into exp(log w_sj − ℓ_es)
    and exp(ℓ_es − ℓ_ts). Both factors are at most 1. Token t reads three groups of tokens: the earlier chunks; within
    its chunk, for halves of 1, 2, 4, … tokens, the left half if t is in the right half; and itself. In each group, e is
    the last token. Nothing overflows. The output of a token does not depend on later weights; with a maximum over the
    sequence or the chunk it would.

    Args:
        queries, keys, values: (batch, heads, length, d_head).
        log_weights: (batch, heads, length, slots), log w; `NO_WEIGHT` for padding.
        state: what this function returned for the earlier tokens, or `empty_slots`.
        dropout: the dropout rate of the weights.
        chunk: tokens in a chunk, a power of two.

    Returns:
        The mixed values, (batch, heads, length, d_head); the weights, (batch, heads, length, slots); the state:
        ℓ (batch, heads, slots), K̃ and Ṽ (batch, heads, slots, d_head).
    """
    length = queries.shape[2]
    chunk = min(chunk, 1 << (length - 1).bit_length())
    pad_sizes = (0, 0, 0, -length % chunk)
    queries, keys, values = (nn.functional.pad(states, pad_sizes) for states in (queries, keys, values))
    log_weights = nn.functional.pad(log_weights, pad_sizes, value=NO_WEIGHT)
    log_sums = torch.cat((state[0][:, :, None], log_weights), dim=2).logcumsumexp(dim=2)  # ℓ, after that of `state`

    own = (log_weights - log_sums[:, :, 1:]).exp()
    halves = list(weigh_halves(log_weights, log_sums[:, :, 1:], chunk))
    slot_keys, slot_values, remaining = carry_slots(keys, values, log_weights, log_sums, state, chunk)

    scores = own * (queries * keys).sum(dim=-1, keepdim=True)  # q_t · K̃_t, (batch, heads, length, slots)
    scores = scores + (remaining * (fold(queries, chunk) @ slot_keys[:, :, :-1].transpose(-1, -2))).flatten(2, 3)
    for half, shares, decay in halves:
        products = right(queries, half) @ left(keys, half).transpose(-1, -2)  # (batch, heads, pairs, half, half)
        scores = scores + after_zeros(decay * (products @ shares))

    shown = weights = attention_weights(scores * queries.shape[-1] ** -0.5, dropout)
    if length % chunk:
        # the output is computed from the weights that are returned, so they have a gradient
        shown = weights[:, :, :length]
        weights = nn.functional.pad(shown, pad_sizes)
    mixed = (weights * own).sum(dim=-1, keepdim=True) * values  # Σ_s weights_s Ṽ_t[s], (batch, heads, length, d_head)
    mixed = mixed + ((remaining * fold(weights, chunk)) @ slot_values[:, :, :-1]).flatten(2, 3)
    for half, shares, decay in halves:
        products = (decay * right(weights, half)) @ shares.transpose(-1, -2)
        mixed = mixed + after_zeros(products @ left(values, half))
    state = log_sums[:, :, -1], slot_keys[:, :, -1], slot_values[:, :, -1]
    return mixed[:, :, :length], shown, state


def carry_slots(
    keys, values, log_weights, log_sums, state: State, chunk: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """K̃ and Ṽ before each chunk and after the last one, and the share of them that remains at each token.

    Args:
        keys, values, log_weights, state, chunk: as for `abc_attention`.
        log_sums: ℓ, (batch, heads, 1 + length, slots); the first entry is that of `state`.

    Returns:
        Two times (batch, heads, chunks + 1, slots, d_head), and (batch, heads, chunks, chunk, slots).
    """
    bounds = log_sums[:, :, ::chunk]  # (batch, heads, chunks + 1, slots)
    starts, ends = bounds[:, :, :-1], bounds[:, :, 1:]
    shares = (fold(log_weights, chunk) - ends[..., None, :]).exp()
    added = shares.transpose(-1, -2) @ fold(torch.cat((keys, values), dim=-1), chunk)
    kept = (starts - ends).exp()[..., None]
    slots = [torch.cat(state[1:], dim=-1)]
    # unbind, not indexing: the gradient of each index would be as long as the sequence
    for share, new in zip(kept.unbind(dim=2), added.unbind(dim=2), strict=True):
        slots.append(share * slots[-1] + new)
    slot_keys, slot_values = torch.stack(slots, dim=2).split((keys.shape[-1], values.shape[-1]), dim=-1)
    return slot_keys, slot_values, (starts[..., None, :] - fold(log_sums[:, :, 1:], chunk)).exp()


def weigh_halves(
    log_weights: torch.Tensor, log_sums: torch.Tensor, chunk: int
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """Yield the shares of the tokens in each left half, and how much of them remains in the right half.

    For half = 1, 2, 4, … below `chunk`, yields half and two tensors, (batch, heads, pairs, half, slots): the shares of
    the left tokens in the slots at the end of the left half; the share of these slots that remains at each right token.
    """
    half = 1
    while half < chunk:
        ends = left(log_sums, half)[..., -1:, :]
        yield half, (left(log_weights, half) - ends).exp(), (ends - right(log_sums, half)).exp()
        half *= 2


def fold(states: torch.Tensor, chunk: int) -> torch.Tensor:
    """(batch, heads, length, ·) → (batch, heads, chunks, chunk, ·)."""
    return states.unflatten(2, (-1, chunk))


def left(states: torch.Tensor, half: int) -> torch.Tensor:
    """(batch, heads, length, ·) → (batch, heads, pairs, half, ·): the first half of each pair."""
    return fold(states, 2 * half)[..., :half, :]


def right(states: torch.Tensor, half: int) -> torch.Tensor:
    """(batch, heads, length, ·) → (batch, heads, pairs, half, ·): the second half of each pair."""
    return fold(states, 2 * half)[..., half:, :]


def after_zeros(states: torch.Tensor) -> torch.Tensor:
    """(batch, heads, pairs, half, ·) → (batch, heads, length, ·): the second halves, with zeros before each."""
    return nn.functional.pad(states, (0, 0, states.shape[-2], 0)).flatten(2, 3)
