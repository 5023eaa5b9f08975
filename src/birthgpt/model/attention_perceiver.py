"""Perceiver: the blocks between the first and the last run over a few latents (after Jaegle et al., 2103.03206).

With C the trained basis of m latents and x the embedded tokens, each followed by y + MLP(LN y):

    first    y = C + Attn(LN C; LN x)             latents ask tokens
    between  y = y + Attn(LN y; LN y)             latents ask latents
    last     x + Attn(LN x; [LN y, LN x])         tokens ask latents and the newest tokens

Latent j = 0 … m − 1 ends at position p_j = (j + 1)s − 1, s being its stretch of tokens. It sees the tokens up to
p_j and the latents up to itself; the token at position t sees the latents with p_j ≤ t. So everything is causal,
a prefix gives the same values, and decoding adds a latent when its stretch completes. The kinds differ in s and
in the last block:

`stretches`: s = ⌈max_position_embeddings / m⌉; beside the finished latents, t sees exactly the tokens that none of
them covers, and itself. So it sees all of its past, of at most m·s tokens.

`assignment`, the form of the CS224N assignment: s = 1, and the last block asks latents alone. Its blind spot: a
token at t ≥ m sees the tokens 0 … m − 1 and itself, and nothing between.
"""

import math
from typing import NamedTuple

import torch
from torch import nn
from transformers import initialization as init
from transformers.cache_utils import Cache

from .attention_softmax import SoftmaxAttention
from .block import Block
from .cache import StateCacheLayer, layer_state
from .canon import Canon
from .configuration_birthgpt import BirthGPTConfig
from .layers import MLP, RotaryEmbedding, apply_rotary, build_norm, keep_rows
from .masks import additive_mask

PADDING = -1
"""The position of what is no token."""

QUERIES_AT_ONCE = 256
"""Tokens that ask together in the last block, by sdpa: beside the latents they are shown the tokens nearby."""


class PerceiverBlock(Block):
    """The first, a middle or the last block of a Perceiver, as its layer index says.

    Between the first and the last block the states are latents, (batch, new latents, hidden_size): those that a
    call may have finished, in some row. So are the `hidden_states` that a model gives out there.

    Canon follows the norms of tokens, in the first and the last block; there is none along the latents.
    """

    mask_type = None
    supports_branches = False

    def __init__(self, config: BirthGPTConfig, layer_index: int):
        super().__init__()
        is_last = layer_index == config.num_hidden_layers - 1
        attention_class = DownProjection if layer_index == 0 else UpProjection if is_last else LatentAttention
        self.attention = attention_class(config, layer_index)
        self.mlp_norm = build_norm(config, config.hidden_size)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.mlp_canon = Canon(config, layer_index, "mlp") if config.canon_width and is_last else None

    def forward(
        self,
        hidden_states: torch.Tensor,
        *,
        inputs_embeds: torch.Tensor,
        kept_rows: torch.LongTensor | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The first block makes latents of tokens, the last one tokens of latents.

        Args:
            hidden_states: (batch, new latents, hidden_size); in the first block, the tokens.
            inputs_embeds: (batch, length, hidden_size), the embedded tokens.
            kept_rows: those that the last block's states are wanted of, as in `keep_rows`.

        Returns:
            (batch, new latents, hidden_size), from the last block those of tokens that are kept, and the weights,
            (batch, heads, new latents or length, keys), where the attention implementation shows them.

        Raises:
            ValueError: a sequence longer than the stretches; an implementation that takes no masks of ours.
        """
        hidden_states, mixed, weights = self.attention(hidden_states, inputs_embeds, **kwargs)
        hidden_states = hidden_states + self.dropout(mixed)
        normed = self.mlp_norm(hidden_states)
        if self.mlp_canon is not None:
            normed = self.mlp_canon(normed, **kwargs)
        hidden_states, normed = (keep_rows(states, kept_rows) for states in (hidden_states, normed))
        return hidden_states + self.dropout(self.mlp(normed)), weights


class LatentBasis(nn.Embedding):
    """C: one trained vector a latent, (latents, hidden_size), drawn by Xavier's rule."""

    def initialize_parameters(self) -> None:
        init.xavier_uniform_(self.weight)


class Memory(NamedTuple):
    """What can be asked."""

    keys: torch.Tensor
    """(batch, heads, keys, d_head)."""
    values: torch.Tensor
    """(batch, heads, keys, d_head)."""
    ends: torch.Tensor
    """(batch or 1, keys), the last position that each tells of."""


class Progress(NamedTuple):
    """How far one call brings the latents of each row."""

    positions: torch.Tensor
    """(batch, length), of the call's tokens; PADDING for what is none."""
    before: torch.Tensor
    """(batch, 1), the number of latents that earlier calls finished."""
    finished: torch.Tensor
    """(batch, 1), the number that is finished now."""
    most: int
    """A bound on that number, by the lengths alone; at least one."""

    def numbers(self, new: int) -> torch.Tensor:
        """(batch, new): which latents come next in each row."""
        return self.before + torch.arange(new, device=self.before.device)


class PerceiverAttention(SoftmaxAttention):
    """What the three kinds of blocks share: where latents end, how far they got, who sees whom.

    `forward` takes the states of the block before, the tokens and what `Mixer.forward` takes; it gives the states
    that asked, what they got, and the weights. The cache of a layer keeps `finished`, (batch, 1), and the keys
    and values of what can be asked: in the first block of all tokens, with their `positions`; in the others of
    the finished latents, latent j in slot j of its row; in the last of the open tokens besides.
    """

    mask_type = None
    supports_branches = False

    def __init__(self, config: BirthGPTConfig, layer_index: int):
        super().__init__(config, layer_index)
        self.num_latents = config.perceiver_bottleneck
        self.in_stretches = config.perceiver_kind == "stretches"
        self.stretch = math.ceil(config.max_position_embeddings / self.num_latents) if self.in_stretches else 1
        self.attention_norm = build_norm(config, config.hidden_size)
        self.rotary_embedding = RotaryEmbedding(config) if config.position_embedding_type == "rotary" else None

    def progress(self, position_ids, token_mask, batch: int, cache: StateCacheLayer | None) -> Progress:
        """Count the latents that a call's tokens finish, and note the number in the cache."""
        positions = position_ids.expand(batch, -1)
        if token_mask is not None:
            positions = positions.masked_fill(~token_mask, PADDING)
        before, length = positions.new_zeros(batch, 1), positions.shape[1]
        if cache is not None:
            before, length = cache.states.get("finished", before), cache.seen + length
        finished = (positions.amax(dim=1, keepdim=True) + 1) // self.stretch
        finished = finished.clamp(max=self.num_latents).maximum(before)
        if cache is not None:
            cache.states["finished"] = finished
        return Progress(positions, before, finished, max(1, min(self.num_latents, length // self.stretch)))

    def latent_ends(self, latents: torch.Tensor) -> torch.Tensor:
        """p_j of each latent j."""
        return (latents + 1) * self.stretch - 1

    def queries_at(self, positions: torch.Tensor, normed: torch.Tensor) -> torch.Tensor:
        """(batch, length, hidden_size) → (batch, heads, length, d_head), turned where positions are rotary."""
        return self._turn(self.queries(normed), positions)

    def memory_at(self, positions: torch.Tensor, normed: torch.Tensor) -> Memory:
        """Keys and values of (batch, length, hidden_size), turned where positions are rotary."""
        keys, values = self.keys_and_values(normed)
        return Memory(self._turn(keys, positions), values, positions)

    def _turn(self, states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        if self.rotary_embedding is None:
            return states
        return apply_rotary(states, *self.rotary_embedding(positions, states.dtype))

    def latent_memory(self, normed: torch.Tensor, progress: Progress, cache: StateCacheLayer | None) -> Memory:
        """All latents of each row by number: those kept, behind them (batch, new latents, hidden_size)."""
        keys, values, _ = self.memory_at(self.latent_ends(progress.numbers(normed.shape[1])), normed)
        slots = torch.arange(progress.most, device=normed.device)
        if cache is not None:
            if "keys" in cache.states:
                kept = cache.states["keys"]
                # rows differ in what they kept; a slot of what is not finished is seen by none and filled later
                source = torch.where(slots < progress.before, slots, slots - progress.before + kept.shape[2])
                source = source.clamp(max=kept.shape[2] + normed.shape[1] - 1)  # (batch, slots)
                keys = take(torch.cat((kept, keys), dim=2), source)
                values = take(torch.cat((cache.states["values"], values), dim=2), source)
            cache.states |= {"keys": keys, "values": values}
        return Memory(keys, values, self.latent_ends(slots)[None])

    def attend_visible(self, queries, keys, values, visible: torch.Tensor):
        """Attend with a boolean mask (batch, 1, queries, keys), True for a key that is seen."""
        # nothing is seen beside padding alone, where any finite answer will do
        visible = visible | ~visible.any(dim=-1, keepdim=True)
        return self.attend(queries, keys, values, self._as_mask(visible, queries.dtype), is_causal=False)

    def _as_mask(self, visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        implementation = self.config._attn_implementation
        if implementation == "sdpa":
            return visible
        if implementation == "eager":
            return additive_mask(visible, dtype)
        raise ValueError(
            f"attention_type='perceiver' has masks of its own, which {implementation} does not take: "
            "set attn_implementation to sdpa or eager"
        )


class DownProjection(PerceiverAttention):
    """C + Attn(LN C; LN x)."""

    def __init__(self, config: BirthGPTConfig, layer_index: int):
        super().__init__(config, layer_index)
        self.basis = LatentBasis(self.num_latents, config.hidden_size)
        self.context_norm = build_norm(config, config.hidden_size)
        self.canon = Canon(config, layer_index, "attention") if config.canon_width else None

    def forward(
        self, hidden_states, inputs_embeds, *, position_ids, token_mask=None, past_key_values: Cache | None = None, **_
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Tokens (batch, length, hidden_size) → new latents (batch, new latents, hidden_size)."""
        batch, length, _ = inputs_embeds.shape
        cache = layer_state(past_key_values, self.layer_idx)
        self._check_length(position_ids, token_mask, cache)
        progress = self.progress(position_ids, token_mask, batch, cache)
        normed = self.context_norm(inputs_embeds)
        if self.canon is not None:
            normed = self.canon(normed, token_mask=token_mask, past_key_values=past_key_values)
        memory = self.memory_at(progress.positions, normed)
        if cache is not None:
            memory = Memory(
                cache.append("keys", memory.keys),
                cache.append("values", memory.values),
                cache.append("positions", memory.ends, dim=-1),
            )
            if cache.seen and not (progress.finished > progress.before).any():
                return inputs_embeds[:, :0], inputs_embeds[:, :0], None
        # from any row's phase, so many tokens can finish so many latents
        new = min(math.ceil(length / self.stretch), progress.most)
        numbers = progress.numbers(new)
        latents, ends = self.basis(numbers.clamp(max=self.num_latents - 1)), self.latent_ends(numbers)
        queries = self.queries_at(ends, self.attention_norm(latents))
        mixed, weights = self.attend_visible(queries, memory.keys, memory.values, between(memory.ends, 0, ends))
        return latents, mixed, weights

    def _check_length(self, position_ids, token_mask, cache: StateCacheLayer | None) -> None:
        limit = self.num_latents * self.stretch
        # positions are looked at only where padding may make up for the length
        if not self.in_stretches or position_ids.shape[-1] + (cache.seen if cache is not None else 0) <= limit:
            return
        if token_mask is not None:
            position_ids = position_ids.masked_fill(~token_mask, PADDING)
        length = int(position_ids.max()) + 1
        if length > limit:
            raise ValueError(
                f"a sequence of {length} tokens does not fit the {self.num_latents} stretches of {self.stretch} tokens "
                f"of attention_type='perceiver': raise max_position_embeddings={self.config.max_position_embeddings}"
            )


class LatentAttention(PerceiverAttention):
    """y + Attn(LN y; LN y)."""

    def forward(
        self, hidden_states, inputs_embeds, *, position_ids, token_mask=None, past_key_values: Cache | None = None, **_
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """New latents (batch, new latents, hidden_size) → the same."""
        if not hidden_states.shape[1]:
            return hidden_states, hidden_states, None
        cache = layer_state(past_key_values, self.layer_idx)
        progress = self.progress(position_ids, token_mask, len(inputs_embeds), cache)
        normed = self.attention_norm(hidden_states)
        memory = self.latent_memory(normed, progress, cache)
        ends = self.latent_ends(progress.numbers(normed.shape[1]))
        queries, visible = self.queries_at(ends, normed), between(memory.ends, 0, ends)
        mixed, weights = self.attend_visible(queries, memory.keys, memory.values, visible)
        return hidden_states, mixed, weights


class UpProjection(PerceiverAttention):
    """x + Attn(LN x; LN y), for `stretches` x + Attn(LN x; [LN y, LN x])."""

    def __init__(self, config: BirthGPTConfig, layer_index: int):
        super().__init__(config, layer_index)
        self.context_norm = build_norm(config, config.hidden_size)
        self.canon = Canon(config, layer_index, "attention") if config.canon_width else None

    def forward(
        self, hidden_states, inputs_embeds, *, position_ids, token_mask=None, past_key_values: Cache | None = None, **_
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """New latents (batch, new latents, hidden_size) → tokens (batch, length, hidden_size)."""
        cache = layer_state(past_key_values, self.layer_idx)
        progress = self.progress(position_ids, token_mask, len(inputs_embeds), cache)
        latents = self.latent_memory(self.context_norm(hidden_states), progress, cache)
        normed, positions = self.attention_norm(inputs_embeds), progress.positions
        if self.canon is not None:
            normed = self.canon(normed, token_mask=token_mask, past_key_values=past_key_values)
        queries = self.queries_at(positions, normed)
        if not self.in_stretches:
            visible = between(latents.ends, 0, positions)
            return inputs_embeds, *self.attend_visible(queries, latents.keys, latents.values, visible)
        tokens = self._with_open_tokens(self.memory_at(positions, normed), cache)
        if self.config._attn_implementation == "sdpa" and positions.shape[1] > QUERIES_AT_ONCE:
            return inputs_embeds, self._ask_in_parts(queries, positions, latents, tokens), None
        return inputs_embeds, *self._ask(queries, positions, latents, tokens)

    def _ask(self, queries, positions, latents: Memory, tokens: Memory):
        """Ask the latents that are finished at each position, and the tokens that none of them covers."""
        first_open = (positions + 1) // self.stretch * self.stretch
        sees_latents = between(latents.ends, 0, positions)
        # the token that completes a stretch is covered, and sees itself still
        sees_tokens = between(tokens.ends, torch.minimum(first_open, positions), positions)
        return self.attend_visible(
            queries,
            torch.cat((latents.keys, tokens.keys), dim=2),
            torch.cat((latents.values, tokens.values), dim=2),
            torch.cat((sees_latents, sees_tokens), dim=-1),
        )

    def _ask_in_parts(self, queries, positions, latents: Memory, tokens: Memory) -> torch.Tensor:
        """The same for a part of the queries at a time, which is shown only the tokens that may be open to it."""
        # padding first, then the tokens in order: what is near by position is then near by index
        order = positions.argsort(dim=1, stable=True)
        queries, positions = take(queries, order), positions.take_along_dim(order, dim=1)
        ordered = tokens.ends.argsort(dim=1, stable=True)
        tokens = Memory(
            take(tokens.keys, ordered), take(tokens.values, ordered), tokens.ends.take_along_dim(ordered, dim=1)
        )
        earlier = tokens.ends.shape[1] - positions.shape[1]
        mixed = []
        for start in range(0, positions.shape[1], QUERIES_AT_ONCE):
            stop = start + QUERIES_AT_ONCE
            near = slice(max(0, earlier + start - self.stretch + 1), earlier + stop)
            tokens_near = Memory(tokens.keys[:, :, near], tokens.values[:, :, near], tokens.ends[:, near])
            mixed.append(self._ask(queries[:, :, start:stop], positions[:, start:stop], latents, tokens_near)[0])
        return torch.cat(mixed, dim=1).take_along_dim(order.argsort(dim=1)[..., None], dim=1)

    def _with_open_tokens(self, tokens: Memory, cache: StateCacheLayer | None) -> Memory:
        """The tokens of earlier calls that no latent covers, then this call's; the newest s − 1 are kept."""
        if cache is None:
            return tokens
        names = ("open_keys", "open_values", "open_positions")
        if names[0] in cache.states:
            keys, values, positions = (cache.states[name] for name in names)
            tokens = Memory(
                torch.cat((keys, tokens.keys), dim=2),
                torch.cat((values, tokens.values), dim=2),
                torch.cat((positions, tokens.ends), dim=1),
            )
        # by position, for padding may stand between them
        newest = tokens.ends.topk(min(self.stretch - 1, tokens.ends.shape[1]), dim=1).indices
        kept = (take(tokens.keys, newest), take(tokens.values, newest), tokens.ends.take_along_dim(newest, dim=1))
        cache.states |= dict(zip(names, kept, strict=True))
        return tokens


def take(states: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Of (batch, heads, keys, d_head), those at (batch or 1, indices)."""
    return states.take_along_dim(indices[:, None, :, None], dim=2)


def between(ends: torch.Tensor, first: torch.Tensor | int, last: torch.Tensor) -> torch.Tensor:
    """(batch, 1, queries, keys): whether first ≤ end ≤ last, of (batch, keys) ends and (batch, queries) bounds."""
    ends = ends[:, None]
    if isinstance(first, torch.Tensor):
        first = first[..., None]
    return ((first <= ends) & (ends <= last[..., None]))[:, None]
