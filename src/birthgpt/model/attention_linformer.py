"""Linformer (Wang et al., 2006.04768) made causal: attention to a few summaries of the past in place of all of it.

    the paper's     o = softmax(Q (E K)ᵀ / √d_head) (F V),   E, F (k × n) learned: every summary holds every token
    blockwise       E, F (r × c) summarise each completed block of c tokens:  K̃_b = E K_b,  Ṽ_b = F V_b;
                    o_t = softmax(q_t [K̃_{b ≤ β − w/c}; K_near]ᵀ / √d_head) [Ṽ_{b ≤ β − w/c}; V_near],
                    near: the tokens up to t of its own block β = ⌊t/c⌋ and of the w/c − 1 blocks before
    abc             attention with bounded-memory control (Peng et al., 2110.02488): a fixed number of slots s,
                    K̃_t[s] = Σ_{j≤t} w_sj k_j / Σ_{j≤t} w_sj,   Ṽ_t[s] likewise;
                    o_t = softmax(q_t K̃_tᵀ / √d_head) Ṽ_t
                    w_sj = exp(W x_j)_s by content, or exp(E_sj) by position: the paper's E, made causal

Rotary positions turn queries and keys before the keys are summarised. A token's place, from which its block
follows, is the number of tokens before it in its row: padding is not counted, wherever it stands.
"""

import torch
from torch import nn
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.utils.generic import maybe_autocast

from .attention_softmax import SoftmaxAttention
from .cache import StateCacheLayer, layer_state
from .configuration_birthgpt import BirthGPTConfig
from .layers import pick, scatter_to_slots

CHUNK = 32
"""Tokens that `abc_attention` handles together; a power of two. It changes speed and memory, not the result."""

NOWHERE = -(2**40)
"""The slot of padding: below zero, whatever is added to it."""

NO_WEIGHT = -1e30
"""The logarithm of a weight of zero: finite, because −∞ less −∞ is no number."""


class LinformerAttention(SoftmaxAttention):
    """The projections of softmax attention around the memory that `linformer_kind` names.

    Weights are shown, as for softmax, under `attn_implementation="eager"`; `BlockMemory` and `SlotMemory` say of what.
    """

    mask_type = None
    supports_branches = False

    def __init__(self, config: BirthGPTConfig, layer_index: int):
        super().__init__(config, layer_index)
        self.memory = {"blockwise": BlockMemory, "abc": SlotMemory}[config.linformer_kind](config)

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
        """Causal self-attention; see `Mixer.forward`.

        Raises ValueError for a position that the weights of `linformer_weights="position"` do not reach.
        """
        queries, keys, values = self.queries_keys_and_values(hidden_states, position_embeddings)
        mixed, weights = self.memory(
            queries,
            keys,
            values,
            hidden_states=hidden_states,
            position_ids=position_ids,
            token_mask=token_mask,
            cache=layer_state(past_key_values, self.layer_idx),
            show_weights=self.config._attn_implementation == "eager",
        )  # (batch, heads, length, d_head)
        return self.o_proj(mixed.transpose(1, 2).flatten(-2)), weights


class BlockMemory(nn.Module):
    """`blockwise`: summaries of the old blocks, and the keys and values of the newest as they are.

    Weights are (batch, heads, length, summaries + window): the summaries, oldest first, then the window's slots,
    from the start of its first block to the end of the token's own. Without a cache, a sequence of fewer blocks than
    a window has makes the window that much shorter.
    """

    def __init__(self, config: BirthGPTConfig):
        super().__init__()
        self.block, self.window = config.linformer_block, config.linformer_window // config.linformer_block
        self.scaling, self.dropout = config.head_dim**-0.5, config.attention_dropout
        shape = (config.num_attention_heads, config.linformer_summaries, config.linformer_block)
        self.key_weights = nn.Parameter(torch.empty(shape))  # E, (heads, r, c)
        self.value_weights = nn.Parameter(torch.empty(shape))  # F, (heads, r, c)

    def initialize_parameters(self) -> None:
        # a summary of independent keys is then as long as one of them
        init.normal_(self.key_weights, std=self.block**-0.5)
        init.normal_(self.value_weights, std=self.block**-0.5)

    def forward(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        *,
        token_mask: torch.Tensor | None,
        cache: StateCacheLayer | None,
        show_weights: bool = False,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(batch, heads, length, d_head) each → the mixed values, the same, and the weights.

        Rows that began with padding are in different blocks at the same index. So each is laid out by place, in
        `blocks` blocks from the one in which it goes on, number `first` (batch,), behind the rest of its window.
        """
        c, (batch, _, length, _) = self.block, queries.shape
        goes_on = cache is not None and "count" in cache.states
        state = cache.states if goes_on else {}
        count = state["count"] if goes_on else torch.zeros(batch, dtype=torch.long, device=keys.device)
        first = count // c
        # a row that goes on may be c − 1 tokens into its block
        blocks = count_blocks(length + c - 1 if goes_on else length, c)
        near = self.window - 1 if cache is not None else min(self.window, blocks) - 1
        if token_mask is None and length > 1 and not goes_on:
            slots, new_tokens = 0, length
        else:
            token_mask = torch.ones_like(keys[:, 0, :, 0], dtype=torch.bool) if token_mask is None else token_mask
            slots = (count % c)[:, None] + token_mask.cumsum(dim=1) - 1  # (batch, length), from `first` on
            slots, new_tokens = slots.masked_fill(~token_mask, NOWHERE), token_mask.sum(dim=1)
        # the most blocks that a row may by now have behind its window
        behind = length - 1 if cache is None else length + cache.seen
        old = max(behind // c - near, 0)
        # of the first block in each block's window, (batch, blocks): below zero before the start of the row
        numbers = first[:, None] - near + torch.arange(blocks, device=first.device)

        size = (near + blocks) * c
        keys = scatter_to_slots(keys, slots + near * c, size, state.get("keys"))  # (batch, heads, size, d_head)
        values = scatter_to_slots(values, slots + near * c, size, state.get("values"))
        # of blocks that have not ended too: nobody sees those, and a later call puts the right ones in their place
        summary_keys = summarise(keys[:, :, : blocks * c], self.key_weights)
        summary_keys = scatter_to_slots(
            summary_keys, numbers, old, state.get("summary_keys")
        )  # (batch, heads, old, r, d_head)
        summary_values = summarise(values[:, :, : blocks * c], self.value_weights)
        summary_values = scatter_to_slots(summary_values, numbers, old, state.get("summary_values"))

        if length > 1:
            per_block, within = c, torch.arange(c, device=keys.device)[None]
        else:
            # a token alone needs no block of queries around it
            per_block, within, slots = 1, slots.clamp(min=0), slots.clamp(max=0)
        queries = scatter_to_slots(queries, slots, blocks * per_block).unflatten(2, (blocks, per_block))
        visible = self._visible(numbers, within, near + 1, old)
        mixed, weights = self._attend(queries, keys, values, summary_keys, summary_values, visible)

        if cache is not None:
            count = count + new_tokens
            newest = (count // c - first)[:, None] * c + torch.arange(self.window * c, device=first.device)
            # a slot beyond the layout, which `pick` does not leave, is of an open block: it is filled before it is seen
            keys, values = (pick(states, newest, newest.shape[1]) for states in (keys, values))
            cache.states |= {"count": count, "keys": keys, "values": values}
            cache.states |= {"summary_keys": summary_keys, "summary_values": summary_values}
        shown = pick(weights.flatten(2, 3), slots, length) if show_weights else None
        return pick(mixed.flatten(2, 3), slots, length), shown

    def _visible(self, numbers: torch.Tensor, within: torch.Tensor, window: int, old: int) -> torch.Tensor:
        """(batch, 1, blocks, queries of a block, old · r + w), True for what a token sees: all of its past, once.

        Args:
            numbers: (batch, blocks), of the first block in each block's window.
            within: (batch or 1, queries of a block), each token's slot in its block.
            window: number of blocks in a window.
            old: number of summarised blocks.
        """
        window, device = window * self.block, numbers.device
        summarised = torch.arange(old, device=device).repeat_interleave(self.key_weights.shape[1])
        summarised = (summarised < numbers[..., None])[:, :, None]  # (batch, blocks, 1, old · r)
        slots = torch.arange(window, device=device)
        there = (slots >= -self.block * numbers[..., None])[:, :, None]  # (batch, blocks, 1, w)
        past = (slots <= within[..., None] + window - self.block)[:, None]  # (batch or 1, 1, queries, w)
        summarised = summarised.expand(-1, -1, within.shape[-1], -1)
        return torch.cat((summarised, there & past), dim=-1)[:, None]

    def _attend(self, queries, keys, values, summary_keys, summary_values, visible):
        """(batch, heads, blocks, queries of a block, ·): the values that each block of queries mixes, and how."""
        window = keys.shape[2] - (queries.shape[2] - 1) * self.block
        near_keys, near_values = keys.unfold(2, window, self.block), values.unfold(2, window, self.block)
        queries = queries * self.scaling
        scores_old = queries.flatten(2, 3) @ summary_keys.flatten(2, 3).transpose(-1, -2)
        scores = torch.cat((scores_old.unflatten(2, queries.shape[2:4]), queries @ near_keys), dim=-1)
        # in place: the longest tensor here, and nobody's input but the softmax's
        weights = attention_weights(scores.masked_fill_(~visible, -torch.inf), self.dropout if self.training else 0.0)
        weights_old, weights_near = weights.tensor_split((scores_old.shape[-1],), dim=-1)
        mixed_old = weights_old.flatten(2, 3) @ summary_values.flatten(2, 3)
        return mixed_old.unflatten(2, queries.shape[2:4]) + weights_near @ near_values.transpose(-1, -2), weights


def summarise(states: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """E K_b of each block b: (batch, heads, blocks · c, d_head) by (heads, r, c) → (…, blocks, r, d_head)."""
    return weights[:, None] @ states.unflatten(2, (-1, weights.shape[-1]))


def count_blocks(length: int, block: int) -> int:
    """How many blocks hold `length` tokens."""
    return -(-length // block)


def attention_weights(scores: torch.Tensor, dropout: float) -> torch.Tensor:
    """Softmax over the last dimension, in single precision at least, with dropout."""
    weights = scores.softmax(dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32))
    return nn.functional.dropout(weights.to(scores.dtype), p=dropout, training=dropout > 0)


def naive_blockwise_attention(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    key_weights: torch.Tensor,
    value_weights: torch.Tensor,
    window: int,
) -> torch.Tensor:
    """The definition of `blockwise`, as one masked softmax over all summaries and all tokens; rows without padding.

    Args:
        queries, keys, values: (batch, heads, length, d_head).
        key_weights, value_weights: E and F, (heads, r, c).
        window: tokens, a multiple of c.

    Returns:
        (batch, heads, length, d_head).
    """
    length, (_, r, c) = queries.shape[2], key_weights.shape
    complete = length // c * c
    all_keys = torch.cat((summarise(keys[:, :, :complete], key_weights).flatten(2, 3), keys), dim=2)
    all_values = torch.cat((summarise(values[:, :, :complete], value_weights).flatten(2, 3), values), dim=2)

    tokens = torch.arange(length, device=queries.device)
    oldest_near = (tokens // c - window // c + 1)[:, None]
    sees_summary = torch.arange(length // c, device=queries.device).repeat_interleave(r) < oldest_near
    sees_token = (tokens // c >= oldest_near) & (tokens <= tokens[:, None])
    visible = torch.cat((sees_summary, sees_token), dim=1)  # (length, summaries + length)
    scores = queries @ all_keys.transpose(-1, -2) * queries.shape[-1] ** -0.5
    return scores.masked_fill(~visible, -torch.inf).softmax(dim=-1) @ all_values


class SlotMemory(nn.Module):
    """`abc`: a fixed number of slots, each a running mean of all tokens, by weights of its own.

    Weights are (batch, heads, length, slots).
    """

    def __init__(self, config: BirthGPTConfig):
        super().__init__()
        self.heads, self.slots = config.num_attention_heads, config.linformer_summaries
        self.limit, self.dropout = config.max_position_embeddings, config.attention_dropout
        self.by_position = config.linformer_weights == "position"
        if self.by_position:
            self.position_weights = nn.Parameter(torch.empty(self.limit, self.heads * self.slots))  # E
        else:
            # no bias: whatever is added to all weights of a slot cancels
            self.slot_proj = nn.Linear(config.hidden_size, self.heads * self.slots, bias=False)  # W

    def initialize_parameters(self) -> None:
        if self.by_position:
            # slots that start alike would stay alike
            init.normal_(self.position_weights)

    def forward(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        *,
        hidden_states: torch.Tensor,
        position_ids: torch.Tensor,
        token_mask: torch.Tensor | None,
        cache: StateCacheLayer | None,
        show_weights: bool = False,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(batch, heads, length, d_head) each → the mixed values, the same, and the weights."""
        if self.by_position:
            log_weights = self._weights_of_positions(position_ids.expand(hidden_states.shape[:2]), token_mask)
        else:
            log_weights = self.slot_proj(hidden_states)
        log_weights = log_weights.unflatten(-1, (self.heads, self.slots)).transpose(1, 2)
        # exponentials and long sums are beyond half precision
        with maybe_autocast(device_type=keys.device.type, enabled=False):
            dtype = torch.promote_types(values.dtype, torch.float32)
            log_weights = log_weights.to(dtype)
            if token_mask is not None:
                log_weights = log_weights.masked_fill(~token_mask[:, None, :, None], NO_WEIGHT)
            inputs = (queries.to(dtype), keys.to(dtype), values.to(dtype), log_weights)
            state = empty_slots(*inputs[1:])
            if cache is not None and "log_sums" in cache.states:
                state = tuple(cache.states[name] for name in ("log_sums", "slot_keys", "slot_values"))
            mixed, weights, state = abc_attention(*inputs, state, self.dropout if self.training else 0.0)
        if cache is not None:
            cache.states |= dict(zip(("log_sums", "slot_keys", "slot_values"), state, strict=True))
        return mixed.to(values.dtype), weights.to(values.dtype) if show_weights else None

    def _weights_of_positions(self, position_ids: torch.Tensor, token_mask: torch.Tensor | None) -> torch.Tensor:
        if token_mask is not None:
            position_ids = position_ids.masked_fill(~token_mask, 0)
        last = int(position_ids.max())
        if last >= self.limit:
            raise ValueError(
                f"linformer_weights='position' has weights for max_position_embeddings={self.limit} positions: "
                f"position {last} is beyond them"
            )
        return nn.functional.embedding(position_ids, self.position_weights)


def empty_slots(
    keys: torch.Tensor, values: torch.Tensor, log_weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The state before the first token: the log of each slot's summed weights (batch, heads, slots), and K̃ and Ṽ."""
    log_sums = torch.full_like(log_weights[:, :, 0], NO_WEIGHT)
    return log_sums, *(torch.zeros_like(log_sums[..., None] * states[:, :, :1]) for states in (keys, values))


def naive_abc_attention(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, log_weights: torch.Tensor
) -> torch.Tensor:
    """The definition of `abc`, token by token: K̃_t = K̃_{t−1} + (w_t / Σ_{j≤t} w_j) (k_t − K̃_{t−1}), Ṽ_t likewise.

    Arguments and first result as for `abc_attention`.
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


def abc_attention(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    log_weights: torch.Tensor,
    state: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    dropout: float = 0.0,
    chunk: int = CHUNK,
) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """`abc` without K̃_t of every t: by matrix products within chunks, with the slots carried from chunk to chunk.

    What token j adds to slot s at time t is exp(log w_sj − ℓ_ts), ℓ_t = log Σ_{j≤t} w_j: at most one. To be a
    product it is parted at a time e, j ≤ e < t, into exp(log w_sj − ℓ_es) exp(ℓ_es − ℓ_ts), both at most one. So
    the tokens of a chunk are met in spans, each ending where its readers begin: the chunks before, the left half
    of each pair of neighbouring halves of 1, 2, 4, … tokens, and the token itself. Nothing overflows, and no
    token's result knows how large the weights after it are, as it would by the maximum over a sequence or chunk.

    Args:
        queries, keys, values: (batch, heads, length, d_head).
        log_weights: (batch, heads, length, slots), log w; `NO_WEIGHT` for padding.
        state: what this function returned for the tokens before, or `empty_slots`.
        dropout: on the weights of the slots.
        chunk: tokens a chunk, a power of two.

    Returns:
        The mixed values, (batch, heads, length, d_head); the weights, (batch, heads, length, slots); the state:
        ℓ (batch, heads, slots), K̃ and Ṽ (batch, heads, slots, d_head).
    """
    length = queries.shape[2]
    chunk = min(chunk, 1 << (length - 1).bit_length())
    filling = (0, 0, 0, -length % chunk)
    queries, keys, values = (nn.functional.pad(states, filling) for states in (queries, keys, values))
    log_weights = nn.functional.pad(log_weights, filling, value=NO_WEIGHT)
    log_sums = torch.cat((state[0][:, :, None], log_weights), dim=2).logcumsumexp(dim=2)  # ℓ, one entry longer

    own = (log_weights - log_sums[:, :, 1:]).exp()
    halves = list(weigh_halves(log_weights, log_sums[:, :, 1:], chunk))
    slot_keys, slot_values, left_over = carry_slots(keys, values, log_weights, log_sums, state, chunk)

    scores = own * (queries * keys).sum(dim=-1, keepdim=True)  # q_t · K̃_t, (batch, heads, length, slots)
    scores = scores + (left_over * (fold(queries, chunk) @ slot_keys[:, :, :-1].transpose(-1, -2))).flatten(2, 3)
    for half, shares, decay in halves:
        products = right(queries, half) @ left(keys, half).transpose(-1, -2)  # (batch, heads, pairs, half, half)
        scores = scores + behind_zeros(decay * (products @ shares))

    weights = attention_weights(scores * queries.shape[-1] ** -0.5, dropout)
    mixed = (weights * own).sum(dim=-1, keepdim=True) * values  # Σ_s weights_s Ṽ_t[s], (batch, heads, length, d_head)
    mixed = mixed + ((left_over * fold(weights, chunk)) @ slot_values[:, :, :-1]).flatten(2, 3)
    for half, shares, decay in halves:
        products = (decay * right(weights, half)) @ shares.transpose(-1, -2)
        mixed = mixed + behind_zeros(products @ left(values, half))
    state = log_sums[:, :, -1], slot_keys[:, :, -1], slot_values[:, :, -1]
    return mixed[:, :, :length], weights[:, :, :length], state


def carry_slots(keys, values, log_weights, log_sums, state, chunk: int):
    """K̃ and Ṽ before each chunk and behind the last, and what is left of them at each of its tokens.

    `log_sums` begins with the state's. Returns twice (batch, heads, chunks + 1, slots, d_head), and
    (batch, heads, chunks, chunk, slots).
    """
    bounds = log_sums[:, :, ::chunk]  # (batch, heads, chunks + 1, slots)
    starts, ends = bounds[:, :, :-1], bounds[:, :, 1:]
    shares = (fold(log_weights, chunk) - ends[..., None, :]).exp()
    added = shares.transpose(-1, -2) @ fold(torch.cat((keys, values), dim=-1), chunk)
    kept = (starts - ends).exp()[..., None]
    slots = [torch.cat(state[1:], dim=-1)]
    # not by indices: the gradient of each would be as long as the sequence
    for share, new in zip(kept.unbind(dim=2), added.unbind(dim=2), strict=True):
        slots.append(share * slots[-1] + new)
    slot_keys, slot_values = torch.stack(slots, dim=2).split((keys.shape[-1], values.shape[-1]), dim=-1)
    return slot_keys, slot_values, (starts[..., None, :] - fold(log_sums[:, :, 1:], chunk)).exp()


def weigh_halves(log_weights: torch.Tensor, log_sums: torch.Tensor, chunk: int):
    """For half = 1, 2, 4, … below `chunk`: each left half's shares in the slots at its end, and what is left of them.

    Yields half, and twice (batch, heads, pairs, half, slots): of the tokens on the left, at those on the right.
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
    """(batch, heads, length, ·) → (batch, heads, pairs, half, ·): of each pair of halves the first."""
    return fold(states, 2 * half)[..., :half, :]


def right(states: torch.Tensor, half: int) -> torch.Tensor:
    """(batch, heads, length, ·) → (batch, heads, pairs, half, ·): of each pair of halves the second."""
    return fold(states, 2 * half)[..., half:, :]


def behind_zeros(states: torch.Tensor) -> torch.Tensor:
    """(batch, heads, pairs, half, ·) → (batch, heads, length, ·): as the second halves, with zeros as the first."""
    return nn.functional.pad(states, (0, 0, states.shape[-2], 0)).flatten(2, 3)


def linformer_noncausal(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    key_weights: torch.Tensor,
    value_weights: torch.Tensor,
) -> torch.Tensor:
    """The paper's attention (2006.04768, equation 7), softmax(Q (E K)ᵀ / √d_head) (F V): for encoders only.

    No mask over the (length, k) scores makes it causal: a mask decides which summaries a token reads, but each
    summary, as a sum over all j, already holds every token, those to come included. To hide the future from token
    t, one would have to hide all k of them. The sums themselves have to end in time: at the end of a block
    (`blockwise`) or at t (`abc`).

    Args:
        queries, keys, values: (batch, heads, length, d_head).
        key_weights, value_weights: E and F, (k, length), or one a head, (heads, k, length).

    Returns:
        (batch, heads, length, d_head).
    """
    scores = queries @ (key_weights @ keys).transpose(-1, -2) * queries.shape[-1] ** -0.5  # (batch, heads, length, k)
    return scores.softmax(dim=-1) @ (value_weights @ values)
