"""Linformer (Wang et al., 2006.04768): attention to keys that are projected along the sequence.

    paper     o = softmax(Q (E K)ᵀ / √d_head) (F V),   E, F (k × n) trained: every projected key contains every token
    causal    E, F (r × c) project each completed block of c tokens to r keys and values:  K̃_b = E K_b,  Ṽ_b = F V_b;
              o_t = softmax(q_t [K̃_{b ≤ β − w/c}; K_window]ᵀ / √d_head) [Ṽ_{b ≤ β − w/c}; V_window],
              window: the tokens up to t in the block β = ⌊t/c⌋ of t and in the w/c − 1 blocks before it

The bidirectional form is that of the paper. E and F have `max_position_embeddings` columns; of a shorter row, the first
columns are used. Padding counts as zeros behind the last token.

Rotary positions rotate queries and keys before the keys are projected. The index of a token is the number of tokens
before it in its row, without padding. It decides the block of the token. `attention_abc.py` is another causal form of
Linformer, with a fixed number of slots.
"""

from typing import Any, Literal

import torch
from torch import nn
from transformers import initialization as init
from transformers.cache_utils import Cache

from .attention import Attention, register_attention_type
from .cache import StateCacheLayer, layer_state
from .configuration_base import BaseConfig
from .layers import INVALID_POSITION, Projections, attention_weights, gather_from_slots, scatter_to_slots
from .settings import setting


class LinformerConfig(BaseConfig):
    """The settings of `linformer`."""

    linformer_block: int = setting(16, "tokens that are projected together", min=1)
    linformer_num_slots: int = setting(4, "projected keys a block", min=1)
    linformer_window: int = setting(32, "tokens seen exactly, a multiple of linformer_block", min=1)
    linformer_rank: int = setting(32, "in an encoder: k, the projected keys of the whole sequence", min=1)
    linformer_sharing: Literal["none", "headwise", "key_value"] = setting(
        "none", "in an encoder: headwise: one E and one F for all heads; key_value: also E = F"
    )


@register_attention_type("linformer")
class LinformerAttention(Attention):
    """Attention to the projected keys of old blocks and to the keys of the tokens in the window.

    In the bidirectional form, attention to the projected keys of the whole sequence.

    Under `attn_implementation="eager"` it returns weights, (batch, heads, length, projected keys + w): first those of
    the projected keys, the oldest block first, then those of the tokens from the start of the window's first block to
    the end of the token's own block. Without a cache, a sequence with fewer blocks than a window has a shorter window.
    The weights of the bidirectional form are (batch, heads, length, k).
    """

    config_class = LinformerConfig
    mask_type = None
    supports_bidirectional = True
    causal_settings = ("linformer_block", "linformer_num_slots", "linformer_window")
    bidirectional_settings = ("linformer_rank", "linformer_sharing")

    layer_config: LinformerConfig
    value_weights: nn.Parameter

    @classmethod
    def check_config(cls, config: BaseConfig) -> None:
        """Raise ValueError unless the window consists of whole blocks."""
        assert isinstance(config, LinformerConfig)
        if config.linformer_window % config.linformer_block:
            raise ValueError(
                f"linformer_window={config.linformer_window} is not a multiple of "
                f"linformer_block={config.linformer_block}"
            )

    def __init__(self, config: LinformerConfig, layer_idx: int):
        super().__init__(config, layer_idx)
        settings = self.layer_config
        self.projections = Projections(config)
        self.block, self.window = settings.linformer_block, settings.linformer_window // settings.linformer_block
        self.scaling = config.head_dim**-0.5
        shape = (config.num_attention_heads, settings.linformer_num_slots, settings.linformer_block)
        shares_key_weights = False
        if not self.is_causal:
            heads = config.num_attention_heads if settings.linformer_sharing == "none" else 1
            shape = (heads, settings.linformer_rank, config.max_position_embeddings)
            shares_key_weights = settings.linformer_sharing == "key_value"
        self.key_weights = nn.Parameter(torch.empty(shape))  # E, (heads, r, c)
        # F, (heads, r, c); None if it is E
        self.register_parameter("value_weights", None if shares_key_weights else nn.Parameter(torch.empty(shape)))

    def initialize_parameters(self) -> None:
        """Draw E and F with standard deviation 1/√c: a projection of independent keys has about the length of a key."""
        for weights in (self.key_weights, self.value_weights):
            if weights is not None:
                init.normal_(weights, std=weights.shape[-1] ** -0.5)

    def forward(
        self,
        hidden_states: torch.Tensor,
        *,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None,
        token_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Self-attention; see `Attention.forward`.

        Raises:
            ValueError: in the bidirectional form, more than `max_position_embeddings` tokens.
        """
        queries, keys, values = self.projections(hidden_states, position_embeddings)
        cache = layer_state(past_key_values, self.layer_idx)
        # (batch, heads, length, d_head)
        if not self.is_causal:
            mixed, weights = self.attend_to_all(queries, keys, values, token_mask)
        elif torch.compiler.is_exporting() and cache is None:
            mixed, weights = self._attend_densely(queries, keys, values, token_mask), None
        else:
            mixed, weights = self.attend_blockwise(queries, keys, values, token_mask, cache)
        return self.projections.output(mixed.transpose(1, 2)), weights

    def attend_to_all(self, queries, keys, values, token_mask) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The bidirectional form: the mixed values, and the weights or None; see `linformer_attention`."""
        limit, length = self.key_weights.shape[-1], keys.shape[2]
        can_read = not (torch.compiler.is_exporting() or keys.is_meta)
        if can_read and length > limit:
            count = length if token_mask is None else int(token_mask.sum(dim=1).max())
            if count > limit:
                raise ValueError(
                    f"a sequence of {count} tokens does not fit max_position_embeddings={limit}, the columns of the "
                    "projection of attention_type='linformer': give a shorter one"
                )
        slots: torch.Tensor | int = 0
        if token_mask is not None:
            slots = (token_mask.cumsum(dim=1) - 1).masked_fill(~token_mask, INVALID_POSITION)
        # a graph of any length uses all columns
        size = limit if torch.compiler.is_exporting() else min(length, limit)
        keys, values = (scatter_to_slots(states, slots, size) for states in (keys, values))
        key_weights = self.key_weights[..., :size]
        value_weights = key_weights if self.value_weights is None else self.value_weights[..., :size]
        dropout = self.config.attention_dropout if self.training else 0.0
        mixed, weights = linformer_attention(queries, keys, values, key_weights, value_weights, dropout)
        return mixed, weights if self.config._attn_implementation == "eager" else None

    def attend_blockwise(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        token_mask: torch.Tensor | None,
        cache: StateCacheLayer | None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The mixed values, (batch, heads, length, d_head) as the inputs, and the weights or None.

        With padding, tokens at the same tensor index may be in different blocks. So each row is ordered by token index:
        first the other blocks of its window, then `num_blocks` blocks from `first_block` (batch,), where it continues.
        """
        c, (batch, _, length, _) = self.block, queries.shape
        past_mask = cache.token_mask if cache is not None else None
        continues = past_mask is not None
        state: dict[str, torch.Tensor] = cache.states if cache is not None and continues else {}
        count = keys.new_zeros(batch, dtype=torch.long) if past_mask is None else past_mask.sum(dim=1)
        first_block = count // c
        # the block of a row that continues may already contain c − 1 tokens
        num_blocks = count_blocks(length + c - 1 if continues else length, c)
        window_blocks_before = self.window - 1 if cache is not None else min(self.window, num_blocks) - 1
        indices: Any
        new_tokens: Any
        if token_mask is None and length > 1 and not continues:
            indices, new_tokens = 0, length
        else:
            token_mask = torch.ones_like(keys[:, 0, :, 0], dtype=torch.bool) if token_mask is None else token_mask
            indices = (count % c)[:, None] + token_mask.cumsum(dim=1) - 1  # (batch, length), from `first_block` on
            indices, new_tokens = indices.masked_fill(~token_mask, INVALID_POSITION), token_mask.sum(dim=1)
        # with a cache, the block that leaves the window at the next token is kept now
        last_index = length - 1 if cache is None else length + cache.seen
        max_blocks_before_window = max(last_index // c - window_blocks_before, 0)
        # the first block in the window of each block, (batch, num_blocks): negative before the start of the row
        window_starts = (
            first_block[:, None] - window_blocks_before + torch.arange(num_blocks, device=first_block.device)
        )

        size = (window_blocks_before + num_blocks) * c
        # (batch, heads, size, d_head)
        keys = scatter_to_slots(keys, indices + window_blocks_before * c, size, state.get("keys"))
        values = scatter_to_slots(values, indices + window_blocks_before * c, size, state.get("values"))
        # incomplete blocks are projected too: they are masked now, and overwritten when they are complete
        # (batch, heads, num_blocks, r, d_head) → (batch, heads, max_blocks_before_window, r, d_head)
        projected_keys = project_blocks(keys[:, :, : num_blocks * c], self.key_weights)
        projected_keys = scatter_to_slots(
            projected_keys, window_starts, max_blocks_before_window, state.get("old_keys")
        )
        projected_values = project_blocks(values[:, :, : num_blocks * c], self.value_weights)
        projected_values = scatter_to_slots(
            projected_values, window_starts, max_blocks_before_window, state.get("old_values")
        )

        if length > 1:
            per_block, index_in_block = c, torch.arange(c, device=keys.device)[None]
        else:
            # a single token does not need a whole block of queries
            per_block, index_in_block, indices = 1, indices.clamp(min=0), indices.clamp(max=0)
        queries = scatter_to_slots(queries, indices, num_blocks * per_block).unflatten(2, (num_blocks, per_block))
        visible = self._visible(window_starts, index_in_block, window_blocks_before + 1, max_blocks_before_window)
        weights, shown = self._weights(queries, keys, projected_keys, visible), None
        if self.config._attn_implementation == "eager":
            # the output is computed from the weights that are shown, so they have a gradient
            shown = gather_from_slots(weights.flatten(2, 3), indices, length)
            weights = scatter_to_slots(shown, indices, num_blocks * per_block).unflatten(2, (num_blocks, per_block))
        mixed = self._mix(weights, values, projected_values)

        if cache is not None:
            count = count + new_tokens
            kept = (count // c - first_block)[:, None] * c + torch.arange(self.window * c, device=first_block.device)
            # an index beyond `size` is in an incomplete block: it is written before a token sees it
            keys, values = (gather_from_slots(states, kept, kept.shape[1]) for states in (keys, values))
            cache.states |= {"keys": keys, "values": values}
            cache.states |= {"old_keys": projected_keys, "old_values": projected_values}
        return gather_from_slots(mixed.flatten(2, 3), indices, length), shown

    def _attend_densely(self, queries, keys, values, token_mask) -> torch.Tensor:
        """The definition, with padding, as one masked softmax: a graph of any length cannot cut a row into windows.

        It has no dropout.
        """
        length, (r, c), device = queries.shape[2], self.key_weights.shape[1:], queries.device
        indices: torch.Tensor | int = 0
        if token_mask is not None:
            indices = (token_mask.cumsum(dim=1) - 1).masked_fill(~token_mask, INVALID_POSITION)
            queries, keys, values = (scatter_to_slots(states, indices, length) for states in (queries, keys, values))
        # more projected keys than are seen: a graph of any length needs at least two
        tokens, projected = torch.arange(length, device=device), torch.arange((length // c + 2) * r, device=device)
        in_block = tokens // c == (projected // r)[:, None]
        # E and F, zero for the tokens of other blocks, (heads, projected keys, length)
        key_weights, value_weights = (
            weights[:, (projected % r)[:, None], tokens % c] * in_block
            for weights in (self.key_weights, self.value_weights)
        )
        window_starts = (tokens // c - self.window + 1)[:, None]
        sees_token = (tokens // c >= window_starts) & (tokens <= tokens[:, None])
        visible = torch.cat((projected // r < window_starts, sees_token), dim=1)  # (length, projected keys + length)
        scores = queries @ torch.cat((key_weights @ keys, keys), dim=2).transpose(-1, -2) * self.scaling
        weights = attention_weights(scores.masked_fill(~visible, -torch.inf), dropout=0.0)
        return gather_from_slots(weights @ torch.cat((value_weights @ values, values), dim=2), indices, length)

    def _visible(
        self, window_starts: torch.Tensor, index_in_block: torch.Tensor, window: int, projected_blocks: int
    ) -> torch.Tensor:
        """The boolean mask, (batch, 1, blocks, queries of a block, projected keys + w): each past token counts once.

        Args:
            window_starts: (batch, blocks), the first block in the window of each block.
            index_in_block: (batch or 1, queries of a block), the index of each token in its block.
            window: number of blocks in a window.
            projected_blocks: number of projected blocks.
        """
        window, device = window * self.block, window_starts.device
        projected = torch.arange(projected_blocks, device=device).repeat_interleave(self.key_weights.shape[1])
        projected = (projected < window_starts[..., None])[:, :, None]  # (batch, blocks, 1, projected keys)
        window_indices = torch.arange(window, device=device)
        exists = (window_indices >= -self.block * window_starts[..., None])[:, :, None]  # (batch, blocks, 1, w)
        # (batch or 1, 1, queries, w)
        past = (window_indices <= index_in_block[..., None] + window - self.block)[:, None]
        projected = projected.expand(-1, -1, index_in_block.shape[-1], -1)
        return torch.cat((projected, exists & past), dim=-1)[:, None]

    def _weights(self, queries, keys, projected_keys, visible) -> torch.Tensor:
        """The weights of each block of queries, (batch, heads, blocks, queries of a block, projected keys + w)."""
        window = keys.shape[2] - (queries.shape[2] - 1) * self.block
        queries = queries * self.scaling
        projected_scores = queries.flatten(2, 3) @ projected_keys.flatten(2, 3).transpose(-1, -2)
        scores = torch.cat(
            (projected_scores.unflatten(2, queries.shape[2:4]), queries @ keys.unfold(2, window, self.block)), dim=-1
        )
        # in place: the scores are the largest tensor here, and only the softmax reads them
        dropout = self.config.attention_dropout if self.training else 0.0
        return attention_weights(scores.masked_fill_(~visible, -torch.inf), dropout)

    def _mix(self, weights, values, projected_values) -> torch.Tensor:
        """The mixed values of each block of queries, (batch, heads, blocks, queries of a block, d_head)."""
        projected_values = projected_values.flatten(2, 3)
        projected_weights, window_weights = weights.tensor_split((projected_values.shape[2],), dim=-1)
        window_values = values.unfold(2, window_weights.shape[-1], self.block)
        mixed = (projected_weights.flatten(2, 3) @ projected_values).unflatten(2, weights.shape[2:4])
        return mixed + window_weights @ window_values.transpose(-1, -2)


def project_blocks(states: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """E K_b of each block b: (batch, heads, blocks · c, d_head), (heads, r, c) → (batch, heads, blocks, r, d_head)."""
    return weights[:, None] @ states.unflatten(2, (-1, weights.shape[-1]))


def count_blocks(length: int, block: int) -> int:
    """The number of blocks that contain `length` tokens."""
    return -(-length // block)


def naive_blockwise_attention(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    key_weights: torch.Tensor,
    value_weights: torch.Tensor,
    window: int,
) -> torch.Tensor:
    """The definition, as one masked softmax over all projected keys and all tokens; for rows without padding.

    Args:
        queries, keys, values: (batch, heads, length, d_head).
        key_weights, value_weights: E and F, (heads, r, c).
        window: w, the tokens in a window, a multiple of c.

    Returns:
        (batch, heads, length, d_head).
    """
    length, (_, r, c) = queries.shape[2], key_weights.shape
    complete = length // c * c
    all_keys = torch.cat((project_blocks(keys[:, :, :complete], key_weights).flatten(2, 3), keys), dim=2)
    all_values = torch.cat((project_blocks(values[:, :, :complete], value_weights).flatten(2, 3), values), dim=2)

    tokens = torch.arange(length, device=queries.device)
    window_starts = (tokens // c - window // c + 1)[:, None]
    sees_projected = torch.arange(length // c, device=queries.device).repeat_interleave(r) < window_starts
    sees_token = (tokens // c >= window_starts) & (tokens <= tokens[:, None])
    visible = torch.cat((sees_projected, sees_token), dim=1)  # (length, projected keys + length)
    scores = queries @ all_keys.transpose(-1, -2) * queries.shape[-1] ** -0.5
    return scores.masked_fill(~visible, -torch.inf).softmax(dim=-1) @ all_values


def linformer_attention(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    key_weights: torch.Tensor,
    value_weights: torch.Tensor,
    dropout: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The attention of the paper (2006.04768, equation 7), softmax(Q (E K)ᵀ / √d_head) (F V): for encoders only.

    A mask over the (length, k) scores cannot make it causal. A mask decides which projected keys a token reads. But
    each projected key is a sum over all tokens, including later ones. To hide the future from token t, a mask would
    have to hide all k projected keys. The sums must end earlier: at the end of a block, as in `LinformerAttention`, or
    at t, as in `attention_abc.py`.

    Args:
        queries, keys, values: (batch, heads, length, d_head).
        key_weights, value_weights: E and F, (k, length), or one for each head, (heads, k, length).
        dropout: the dropout rate of the weights.

    Returns:
        The mixed values, (batch, heads, length, d_head), and the weights, (batch, heads, length, k).
    """
    scores = queries @ (key_weights @ keys).transpose(-1, -2) * queries.shape[-1] ** -0.5  # (batch, heads, length, k)
    weights = attention_weights(scores, dropout)
    return weights @ (value_weights @ values), weights
