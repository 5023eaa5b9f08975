"""Perceiver: the blocks between the first and the last process m latents, not tokens (Jaegle et al., 2103.03206).

C is the trained basis of the latents and x the embedded tokens. In each block, y + MLP(LN y) follows, behind the
cross-attention if there is an encoder:

    first    y = C + Attn(LN C; LN x)             latents attend to tokens
    between  y = y + Attn(LN y; LN y)             latents attend to latents
    last     x + Attn(LN x; [LN y, LN x])         tokens attend to latents and to the newest tokens

The place of a token is the number of tokens before it in its row, without padding. Latent j = 0 … m − 1 ends at place
p_j = (j + 1)s − 1, where s is the length of a segment of tokens. It sees the tokens up to p_j and the latents up to j.
The token at place t sees the latents with p_j ≤ t. So everything is causal, for any `position_ids`, and decoding adds a
latent when its segment is complete. Rotary positions are `position_ids`; a latent has that of the token at p_j.
`perceiver_kind` decides s and the last block:

`segments`: s = ⌈max_position_embeddings / m⌉. Token t also sees itself and the tokens that no finished latent covers.
So it sees its whole past, up to m·s tokens.

`cs224n`: the form of the CS224N assignment. s = 1, and the last block attends only to latents. It has a blind spot: a
token at place t ≥ m sees the tokens 0 … m − 1 and itself, and nothing between them.

In the bidirectional form, as published, every latent sees all tokens and all latents. Every token sees all m latents
and nothing else, because no token is open. Both kinds are then the same, but for the rotary position p_j of a latent.
"""

import math
from typing import Any, Literal

import torch
from torch import nn
from transformers import initialization as init
from transformers.cache_utils import Cache, EncoderDecoderCache

from .attention import register_attention_type
from .attention_softmax import attend
from .block import Block
from .cache import StateCacheLayer, layer_state
from .canon import Canon, CanonConfig
from .configuration_base import BaseConfig
from .layers import INVALID_POSITION, MLP, Projections, RotaryEmbedding, apply_rotary, build_norm, select_positions
from .masks import additive_mask
from .perceiver_latents import KeysAndValues, LatentProgress, gather_keys, in_range
from .settings import setting

QUERIES_AT_ONCE = 256
"""Tokens that the last block computes together under sdpa, with only the latents and the keys of nearby tokens."""


class PerceiverConfig(CanonConfig):
    """The settings of `perceiver`."""

    perceiver_kind: Literal["segments", "cs224n"] = setting(
        "segments", "segments: every token sees all of its past; cs224n: the assignment's form, blind to most of it"
    )
    perceiver_bottleneck: int = setting(32, "number of latents", min=1)


@register_attention_type("perceiver")
class PerceiverBlock(Block):
    """The first, a middle or the last block of a Perceiver, depending on its layer index.

    Between the first and the last block the states are latents, (batch, new latents, hidden_size): the latents that a
    call can finish in some row. The `hidden_states` that a model returns there are latents too. Canon follows the norms
    of tokens, in the first and the last block. Latents have no Canon layer.
    """

    config_class = PerceiverConfig
    mask_type = None
    supports_bidirectional = True
    causal_settings = ("perceiver_kind",)

    @classmethod
    def check_config(cls, config: BaseConfig) -> None:
        """Raise ValueError unless all layers, at least two, have this type."""
        if config.num_hidden_layers < 2:
            raise ValueError(
                "attention_type='perceiver' has a first and a last block: set num_hidden_layers to at least 2"
            )
        if not isinstance(config.attention_type, str):
            raise ValueError("attention_type='perceiver' spans all layers and cannot be in a list: give one name")

    def __init__(self, config: PerceiverConfig, layer_idx: int):
        super().__init__(config, layer_idx)
        is_last = layer_idx == config.num_hidden_layers - 1
        attention_class = DownProjection if layer_idx == 0 else UpProjection if is_last else LatentAttention
        self.attention = attention_class(config, layer_idx)
        self.mlp_norm = build_norm(config, config.hidden_size)
        self.mlp = MLP(config)
        self.mlp_canon = Canon(config, layer_idx, "mlp") if config.canon_width and is_last else None

    def forward(
        self,
        hidden_states: torch.Tensor,
        inputs_embeds: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        *,
        positions_to_keep: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        encoder_mask: Any = None,
        cross_cache: EncoderDecoderCache | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """The states after this block: latents, or tokens after the last block; see `Block.forward`.

        Raises:
            ValueError: a sequence longer than all segments; an `attn_implementation` other than sdpa and eager.
        """
        kwargs["past_key_values"] = past_key_values
        hidden_states, mixed, weights = self.attention(hidden_states, inputs_embeds, **kwargs)
        self.shown_weights(weights)
        hidden_states = hidden_states + self.dropout(mixed)
        hidden_states = self.attend_to_encoder(hidden_states, encoder_hidden_states, encoder_mask, cross_cache)
        normed = self.mlp_norm(hidden_states)
        if self.mlp_canon is not None:
            normed = self.mlp_canon(normed, **kwargs)
        hidden_states, normed = (select_positions(states, positions_to_keep) for states in (hidden_states, normed))
        return hidden_states + self.dropout(self.mlp(normed))


class LatentBasis(nn.Embedding):
    """C: one trained vector for each latent, (latents, hidden_size)."""

    def initialize_parameters(self) -> None:
        """Draw by Xavier's rule, as in the assignment."""
        init.xavier_uniform_(self.weight)


class PerceiverAttention(nn.Module):
    """Base class for the attention of the three kinds of blocks: counts finished latents, builds masks, attends.

    `forward` takes the states of the previous block, the embedded tokens, and the arguments of `Attention.forward`. It
    returns the residual states, the mixed states, and the weights. The cache of a layer contains keys and values: in
    the first block those of all tokens, with their `places`; in the other blocks those of the finished latents, latent
    j at index j; in the last block also those of the open tokens, which no finished latent covers.
    """

    def __init__(self, config: PerceiverConfig, layer_idx: int):
        super().__init__()
        self.config, self.layer_idx, self.is_causal = config, layer_idx, config.is_causal
        self.projections = Projections(config)
        self.num_latents = config.perceiver_bottleneck
        self.has_segments = config.perceiver_kind == "segments"
        self.segment_length = math.ceil(config.max_position_embeddings / self.num_latents) if self.has_segments else 1
        self.attention_norm = build_norm(config, config.hidden_size)
        self.rotary_embedding = RotaryEmbedding(config) if config.position_embedding_type == "rotary" else None

    def progress(self, position_ids, token_mask, batch: int, cache: StateCacheLayer | None) -> LatentProgress:
        """The places of the tokens of a call, and the number of latents that they finish."""
        positions = position_ids.expand(batch, -1)
        is_token = torch.ones_like(positions, dtype=torch.bool) if token_mask is None else token_mask
        newest, length = is_token.cumsum(dim=1) - 1, positions.shape[1]
        if cache is not None and cache.token_mask is not None:
            newest, length = newest + cache.token_mask.sum(dim=1, keepdim=True), length + cache.seen
        # not slices, whose width of one a graph cannot know
        first, last = newest[:, 0, None] - is_token[:, 0, None].long(), newest[:, -1, None]
        counts = torch.stack((first, last)) + 1  # before and after the call
        before, finished = (counts // self.segment_length).clamp(max=self.num_latents)
        if not self.is_causal:
            before, finished = torch.zeros_like(before), torch.full_like(finished, self.num_latents)
        bound = self.num_latents if self.has_all_latents() else length // self.segment_length
        most = max(1, min(self.num_latents, bound))
        return LatentProgress(
            positions, newest.masked_fill(~is_token, INVALID_POSITION), newest, before, finished, most
        )

    def has_all_latents(self) -> bool:
        """Whether all m latents are computed, whatever the length: also in a graph, which is for any length."""
        return not self.is_causal or torch.compiler.is_exporting()

    def latent_ends(self, latents: torch.Tensor) -> torch.Tensor:
        """p_j, the last place of each latent j."""
        return (latents + 1) * self.segment_length - 1

    def latent_positions(self, progress: LatentProgress, ends: torch.Tensor) -> torch.Tensor:
        """The rotary positions of latents that end at (batch, new) places."""
        # without causality, a latent may end after the last token
        return progress.positions_at(ends) if self.is_causal else ends

    def visible(self, ends: torch.Tensor, first: torch.Tensor | int, last: torch.Tensor) -> torch.Tensor:
        """The mask `in_range`; in the bidirectional form, everything that is not padding is visible."""
        if self.is_causal:
            return in_range(ends, first, last)
        return in_range(ends, 0, torch.full_like(last, torch.iinfo(last.dtype).max))

    def queries_at(self, positions: torch.Tensor, normed: torch.Tensor) -> torch.Tensor:
        """(batch, length, hidden_size) → (batch, heads, length, d_head), rotated if positions are rotary."""
        return self._rotate(self.projections.queries(normed), positions)

    def keys_at(self, positions: torch.Tensor, normed: torch.Tensor, ends: torch.Tensor) -> KeysAndValues:
        """Keys and values of (batch, length, hidden_size) states; keys are rotated if positions are rotary."""
        keys, values = self.projections.keys_and_values(normed)
        return KeysAndValues(self._rotate(keys, positions), values, ends)

    def _rotate(self, states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        rotate = self.rotary_embedding
        return states if rotate is None else apply_rotary(states, *rotate(positions, states.dtype))

    def latent_keys(
        self, normed: torch.Tensor, progress: LatentProgress, cache: StateCacheLayer | None
    ) -> KeysAndValues:
        """Keys and values of all latents: the cached ones, then those of (batch, new latents, hidden_size)."""
        ends = self.latent_ends(progress.numbers(normed.shape[1]))
        keys, values, _ = self.keys_at(self.latent_positions(progress, ends), normed, ends)
        indices = torch.arange(progress.most, device=normed.device)
        if cache is not None:
            if "keys" in cache.states:
                kept = cache.states["keys"]
                # rows differ in their number of cached latents; an unfinished latent is masked, and written later
                source = torch.where(indices < progress.before, indices, indices - progress.before + kept.shape[2])
                source = source.clamp(max=kept.shape[2] + normed.shape[1] - 1)  # (batch, latents)
                keys = gather_keys(torch.cat((kept, keys), dim=2), source)
                values = gather_keys(torch.cat((cache.states["values"], values), dim=2), source)
            cache.states |= {"keys": keys, "values": values}
        return KeysAndValues(keys, values, self.latent_ends(indices)[None])

    def attend_visible(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, visible: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend under a boolean mask (batch, 1, queries, keys), True for a visible key."""
        # padding may see no key: its output must be finite, and is not used
        visible = visible | ~visible.any(dim=-1, keepdim=True)
        implementation = self.config._attn_implementation
        if implementation not in ("sdpa", "eager"):
            raise ValueError(
                f"attn_implementation={implementation} does not support the masks of attention_type='perceiver': "
                "choose sdpa or eager"
            )
        mask = visible if implementation == "sdpa" else additive_mask(visible, queries.dtype)
        mixed, weights = attend(self, self.config, queries, keys, values, mask, is_causal=False)
        return self.projections.output(mixed), weights


class DownProjection(PerceiverAttention):
    """The first block: C + Attn(LN C; LN x)."""

    def __init__(self, config: PerceiverConfig, layer_idx: int):
        super().__init__(config, layer_idx)
        self.basis = LatentBasis(self.num_latents, config.hidden_size)
        self.context_norm = build_norm(config, config.hidden_size)
        self.canon = Canon(config, layer_idx, "attention") if config.canon_width else None

    def forward(
        self, hidden_states, inputs_embeds, *, position_ids, token_mask=None, past_key_values: Cache | None = None, **_
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Tokens (batch, length, hidden_size) → new latents (batch, new latents, hidden_size)."""
        batch, length, _ = inputs_embeds.shape
        cache = layer_state(past_key_values, self.layer_idx)
        progress = self.progress(position_ids, token_mask, batch, cache)
        self._check_length(progress, cache)
        normed = self.context_norm(inputs_embeds)
        if self.canon is not None:
            normed = self.canon(normed, token_mask=token_mask, past_key_values=past_key_values)
        tokens = self.keys_at(progress.positions, normed, progress.places)
        if cache is not None:
            keys, values = cache.append("keys", tokens.keys), cache.append("values", tokens.values)
            tokens = KeysAndValues(keys, values, cache.append("places", tokens.ends, dim=-1))
            # meta tensors have no values
            if cache.seen and not tokens.ends.is_meta and not (progress.finished > progress.before).any():
                return inputs_embeds[:, :0], inputs_embeds[:, :0], None
        # the most latents that `length` tokens can finish
        bound = progress.most if self.has_all_latents() else math.ceil(length / self.segment_length)
        new = min(bound, progress.most)
        numbers = progress.numbers(new)
        latents, ends = self.basis(numbers.clamp(max=self.num_latents - 1)), self.latent_ends(numbers)
        queries = self.queries_at(self.latent_positions(progress, ends), self.attention_norm(latents))
        mixed, weights = self.attend_visible(queries, tokens.keys, tokens.values, self.visible(tokens.ends, 0, ends))
        return latents, mixed, weights

    def _check_length(self, progress: LatentProgress, cache: StateCacheLayer | None) -> None:
        limit, newest = self.num_latents * self.segment_length, progress.newest
        # places are read only beyond the limit, where padding may explain the length
        reads = self.has_segments and not self.has_all_latents()
        if not reads or newest.shape[1] + (cache.seen if cache is not None else 0) <= limit:
            return
        length = newest.shape[1] if newest.is_meta else int(newest.max()) + 1
        if length > limit:
            raise ValueError(
                f"a sequence of {length} tokens does not fit the {self.num_latents} segments of "
                f"{self.segment_length} tokens of attention_type='perceiver': raise "
                f"max_position_embeddings={self.config.max_position_embeddings}"
            )


class LatentAttention(PerceiverAttention):
    """A middle block: y + Attn(LN y; LN y)."""

    def forward(
        self, hidden_states, inputs_embeds, *, position_ids, token_mask=None, past_key_values: Cache | None = None, **_
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """New latents (batch, new latents, hidden_size) → the same shape."""
        if not hidden_states.shape[1]:
            return hidden_states, hidden_states, None
        cache = layer_state(past_key_values, self.layer_idx)
        progress = self.progress(position_ids, token_mask, inputs_embeds.shape[0], cache)
        normed = self.attention_norm(hidden_states)
        latents = self.latent_keys(normed, progress, cache)
        ends = self.latent_ends(progress.numbers(normed.shape[1]))
        queries = self.queries_at(self.latent_positions(progress, ends), normed)
        visible = self.visible(latents.ends, 0, ends)
        mixed, weights = self.attend_visible(queries, latents.keys, latents.values, visible)
        return hidden_states, mixed, weights


class UpProjection(PerceiverAttention):
    """The last block: x + Attn(LN x; [LN y, LN x]) for `segments`, x + Attn(LN x; LN y) for `cs224n`."""

    def __init__(self, config: PerceiverConfig, layer_idx: int):
        super().__init__(config, layer_idx)
        self.context_norm = build_norm(config, config.hidden_size)
        self.canon = Canon(config, layer_idx, "attention") if config.canon_width else None

    def forward(
        self, hidden_states, inputs_embeds, *, position_ids, token_mask=None, past_key_values: Cache | None = None, **_
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """New latents (batch, new latents, hidden_size) → tokens (batch, length, hidden_size)."""
        cache = layer_state(past_key_values, self.layer_idx)
        progress = self.progress(position_ids, token_mask, inputs_embeds.shape[0], cache)
        latents = self.latent_keys(self.context_norm(hidden_states), progress, cache)
        normed, places = self.attention_norm(inputs_embeds), progress.places
        if self.canon is not None:
            normed = self.canon(normed, token_mask=token_mask, past_key_values=past_key_values)
        queries = self.queries_at(progress.positions, normed)
        if not self.has_segments or not self.is_causal:
            visible = self.visible(latents.ends, 0, places)
            return inputs_embeds, *self.attend_visible(queries, latents.keys, latents.values, visible)
        tokens = self._with_open_tokens(self.keys_at(progress.positions, normed, places), cache)
        in_parts = self.config._attn_implementation == "sdpa" and not torch.compiler.is_exporting()
        if in_parts and places.shape[1] > QUERIES_AT_ONCE:
            return inputs_embeds, self._attend_in_parts(queries, places, latents, tokens), None
        return inputs_embeds, *self._attend(queries, places, latents, tokens)

    def _attend(self, queries, places, latents: KeysAndValues, tokens: KeysAndValues):
        """Attend to the latents that are finished at each place, and to the open tokens."""
        first_open = (places + 1) // self.segment_length * self.segment_length
        sees_latents = in_range(latents.ends, 0, places)
        # the token that completes a segment is covered, and still sees itself
        sees_tokens = in_range(tokens.ends, torch.minimum(first_open, places), places)
        return self.attend_visible(
            queries,
            torch.cat((latents.keys, tokens.keys), dim=2),
            torch.cat((latents.values, tokens.values), dim=2),
            torch.cat((sees_latents, sees_tokens), dim=-1),
        )

    def _attend_in_parts(self, queries, places, latents: KeysAndValues, tokens: KeysAndValues) -> torch.Tensor:
        """Compute `_attend` for parts of the queries, each with only the tokens that may be open for it."""
        # sorted by place, padding first: tokens that are near by place are then near by index
        query_order = places.argsort(dim=1, stable=True)
        queries, places = gather_keys(queries, query_order), places.gather(1, query_order)
        token_order = tokens.ends.argsort(dim=1, stable=True)
        tokens = tokens.take(token_order)
        earlier = tokens.ends.shape[1] - places.shape[1]
        mixed = []
        for start in range(0, places.shape[1], QUERIES_AT_ONCE):
            stop = start + QUERIES_AT_ONCE
            near = slice(max(0, earlier + start - self.segment_length + 1), earlier + stop)
            near_tokens = KeysAndValues(tokens.keys[:, :, near], tokens.values[:, :, near], tokens.ends[:, near])
            mixed.append(self._attend(queries[:, :, start:stop], places[:, start:stop], latents, near_tokens)[0])
        return torch.cat(mixed, dim=1).take_along_dim(query_order.argsort(dim=1)[..., None], dim=1)

    def _with_open_tokens(self, tokens: KeysAndValues, cache: StateCacheLayer | None) -> KeysAndValues:
        """The open tokens of earlier calls, then the tokens of this call; the cache keeps the newest s − 1."""
        if cache is None:
            return tokens
        names = ("open_keys", "open_values", "open_places")
        if names[0] in cache.states:
            pairs = zip((cache.states[name] for name in names), tokens, (2, 2, 1), strict=True)
            tokens = KeysAndValues(*(torch.cat((kept, new), dim=dim) for kept, new, dim in pairs))
        # by place, because padding may be between the tokens
        newest = tokens.ends.topk(min(self.segment_length - 1, tokens.ends.shape[1]), dim=1).indices
        cache.states |= dict(zip(names, tokens.take(newest), strict=True))
        return tokens
