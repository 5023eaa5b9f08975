"""Linformer (Wang et al., 2006.04768) made causal by blocks: attention to projected keys of the past, not all of it.

    the paper     o = softmax(Q (E K)ᵀ / √d_head) (F V),   E, F (k × n) learned: every projected key mixes every token
    here          E, F (r × c) project each completed block of c tokens to r slots:  K̃_b = E K_b,  Ṽ_b = F V_b;
                  o_t = softmax(q_t [K̃_{b ≤ β − w/c}; K_near]ᵀ / √d_head) [Ṽ_{b ≤ β − w/c}; V_near],
                  near: the tokens up to t in its own block β = ⌊t/c⌋ and in the w/c − 1 blocks before

Rotary positions turn queries and keys before the keys are projected. The slot of a token, which decides its block, is
the number of tokens before it in its row: padding is not counted, wherever it is. The other causal form of the idea,
with a fixed number of slots in all, is `attention_abc.py`.
"""

from typing import Any

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


@register_attention_type("linformer")
class LinformerAttention(Attention):
    """Attention to the projected keys of old blocks, and to the keys of the newest blocks as they are.

    Weights are shown under `attn_implementation="eager"`: (batch, heads, length, slots + window), the slots of old
    blocks first, the oldest at the head, then the tokens from the start of the window's first block to the end of the
    token's own block. Without a cache, a sequence of fewer blocks than a window has makes the window shorter.
    """

    config_class = LinformerConfig
    mask_type = None

    layer_config: LinformerConfig

    @classmethod
    def check_config(cls, config: BaseConfig) -> None:
        """A window consists of whole blocks."""
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
        self.key_weights = nn.Parameter(torch.empty(shape))  # E, (heads, r, c)
        self.value_weights = nn.Parameter(torch.empty(shape))  # F, (heads, r, c)

    def initialize_parameters(self) -> None:
        """A projection of independent keys is then as long as one of them."""
        init.normal_(self.key_weights, std=self.block**-0.5)
        init.normal_(self.value_weights, std=self.block**-0.5)

    def forward(
        self,
        hidden_states: torch.Tensor,
        *,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None,
        token_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Causal self-attention; see `Attention.forward`."""
        queries, keys, values = self.projections(hidden_states, position_embeddings)
        cache = layer_state(past_key_values, self.layer_idx)
        # (batch, heads, length, d_head)
        mixed, weights = self.attend_blockwise(queries, keys, values, token_mask, cache)
        return self.projections.output(mixed.transpose(1, 2)), weights

    def attend_blockwise(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        token_mask: torch.Tensor | None,
        cache: StateCacheLayer | None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(batch, heads, length, d_head) each → the mixed values, the same shape, and the weights if they are shown.

        Rows that begin with padding are in different blocks at the same index. So each row is laid out by slot, in
        `blocks` blocks from the block in which it continues, number `first` (batch,), behind the rest of its window.
        """
        c, (batch, _, length, _) = self.block, queries.shape
        continues = cache is not None and "count" in cache.states
        state: dict[str, torch.Tensor] = cache.states if cache is not None and continues else {}
        count = state["count"] if continues else torch.zeros(batch, dtype=torch.long, device=keys.device)
        first = count // c
        # a row that continues may be c − 1 tokens into its block
        blocks = count_blocks(length + c - 1 if continues else length, c)
        near = self.window - 1 if cache is not None else min(self.window, blocks) - 1
        slots: Any
        new_tokens: Any
        if token_mask is None and length > 1 and not continues:
            slots, new_tokens = 0, length
        else:
            token_mask = torch.ones_like(keys[:, 0, :, 0], dtype=torch.bool) if token_mask is None else token_mask
            slots = (count % c)[:, None] + token_mask.cumsum(dim=1) - 1  # (batch, length), from `first` on
            slots, new_tokens = slots.masked_fill(~token_mask, INVALID_POSITION), token_mask.sum(dim=1)
        # the most blocks that a row can have behind its window by now
        behind = length - 1 if cache is None else length + cache.seen
        old = max(behind // c - near, 0)
        # the first block in the window of each block, (batch, blocks): below zero before the start of the row
        numbers = first[:, None] - near + torch.arange(blocks, device=first.device)

        size = (near + blocks) * c
        keys = scatter_to_slots(keys, slots + near * c, size, state.get("keys"))  # (batch, heads, size, d_head)
        values = scatter_to_slots(values, slots + near * c, size, state.get("values"))
        # also computed for incomplete blocks: they are hidden now, and overwritten when the block is complete
        old_keys = project_blocks(keys[:, :, : blocks * c], self.key_weights)  # (batch, heads, blocks, r, d_head)
        old_keys = scatter_to_slots(old_keys, numbers, old, state.get("old_keys"))  # (batch, heads, old, r, d_head)
        old_values = project_blocks(values[:, :, : blocks * c], self.value_weights)
        old_values = scatter_to_slots(old_values, numbers, old, state.get("old_values"))

        if length > 1:
            per_block, within = c, torch.arange(c, device=keys.device)[None]
        else:
            # a single token needs no block of queries around it
            per_block, within, slots = 1, slots.clamp(min=0), slots.clamp(max=0)
        queries = scatter_to_slots(queries, slots, blocks * per_block).unflatten(2, (blocks, per_block))
        visible = self._visible(numbers, within, near + 1, old)
        mixed, weights = self._attend(queries, keys, values, old_keys, old_values, visible)

        if cache is not None:
            count = count + new_tokens
            newest = (count // c - first)[:, None] * c + torch.arange(self.window * c, device=first.device)
            # a slot beyond the layout belongs to an open block: it is filled before it is seen
            keys, values = (gather_from_slots(states, newest, newest.shape[1]) for states in (keys, values))
            cache.states |= {"count": count, "keys": keys, "values": values}
            cache.states |= {"old_keys": old_keys, "old_values": old_values}
        shows_weights = self.config._attn_implementation == "eager"
        shown = gather_from_slots(weights.flatten(2, 3), slots, length) if shows_weights else None
        return gather_from_slots(mixed.flatten(2, 3), slots, length), shown

    def _visible(self, numbers: torch.Tensor, within: torch.Tensor, window: int, old: int) -> torch.Tensor:
        """(batch, 1, blocks, queries of a block, old · r + w), True for what a token sees: all of its past, once.

        Args:
            numbers: (batch, blocks), the first block in the window of each block.
            within: (batch or 1, queries of a block), the place of each token in its block.
            window: number of blocks in a window.
            old: number of projected blocks.
        """
        window, device = window * self.block, numbers.device
        projected = torch.arange(old, device=device).repeat_interleave(self.key_weights.shape[1])
        projected = (projected < numbers[..., None])[:, :, None]  # (batch, blocks, 1, old · r)
        slots = torch.arange(window, device=device)
        exists = (slots >= -self.block * numbers[..., None])[:, :, None]  # (batch, blocks, 1, w)
        past = (slots <= within[..., None] + window - self.block)[:, None]  # (batch or 1, 1, queries, w)
        projected = projected.expand(-1, -1, within.shape[-1], -1)
        return torch.cat((projected, exists & past), dim=-1)[:, None]

    def _attend(self, queries, keys, values, old_keys, old_values, visible) -> tuple[torch.Tensor, torch.Tensor]:
        """(batch, heads, blocks, queries of a block, ·): the mixed values of each block of queries, and the weights."""
        window = keys.shape[2] - (queries.shape[2] - 1) * self.block
        near_keys, near_values = keys.unfold(2, window, self.block), values.unfold(2, window, self.block)
        queries = queries * self.scaling
        old_scores = queries.flatten(2, 3) @ old_keys.flatten(2, 3).transpose(-1, -2)
        scores = torch.cat((old_scores.unflatten(2, queries.shape[2:4]), queries @ near_keys), dim=-1)
        # in place: it is the largest tensor here, and only the softmax reads it
        dropout = self.config.attention_dropout if self.training else 0.0
        weights = attention_weights(scores.masked_fill_(~visible, -torch.inf), dropout)
        old_weights, near_weights = weights.tensor_split((old_scores.shape[-1],), dim=-1)
        old_mixed = old_weights.flatten(2, 3) @ old_values.flatten(2, 3)
        return old_mixed.unflatten(2, queries.shape[2:4]) + near_weights @ near_values.transpose(-1, -2), weights


def project_blocks(states: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """E K_b of each block b: (batch, heads, blocks · c, d_head) by (heads, r, c) → (…, blocks, r, d_head)."""
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
        window: tokens, a multiple of c.

    Returns:
        (batch, heads, length, d_head).
    """
    length, (_, r, c) = queries.shape[2], key_weights.shape
    complete = length // c * c
    all_keys = torch.cat((project_blocks(keys[:, :, :complete], key_weights).flatten(2, 3), keys), dim=2)
    all_values = torch.cat((project_blocks(values[:, :, :complete], value_weights).flatten(2, 3), values), dim=2)

    tokens = torch.arange(length, device=queries.device)
    oldest_near = (tokens // c - window // c + 1)[:, None]
    sees_slot = torch.arange(length // c, device=queries.device).repeat_interleave(r) < oldest_near
    sees_token = (tokens // c >= oldest_near) & (tokens <= tokens[:, None])
    visible = torch.cat((sees_slot, sees_token), dim=1)  # (length, slots + length)
    scores = queries @ all_keys.transpose(-1, -2) * queries.shape[-1] ** -0.5
    return scores.masked_fill(~visible, -torch.inf).softmax(dim=-1) @ all_values


def linformer_noncausal(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    key_weights: torch.Tensor,
    value_weights: torch.Tensor,
) -> torch.Tensor:
    """The attention of the paper (2006.04768, equation 7), softmax(Q (E K)ᵀ / √d_head) (F V): for encoders only.

    No mask over the (length, k) scores makes it causal: a mask decides which projected keys a token reads, but each
    projected key, as a sum over all j, already contains every token, also the later ones. To hide the future from
    token t, a mask would have to hide all k of them. The sums themselves must end in time: at the end of a block, as
    here, or at t, as in `attention_abc.py`.

    Args:
        queries, keys, values: (batch, heads, length, d_head).
        key_weights, value_weights: E and F, (k, length), or one for each head, (heads, k, length).

    Returns:
        (batch, heads, length, d_head).
    """
    scores = queries @ (key_weights @ keys).transpose(-1, -2) * queries.shape[-1] ** -0.5  # (batch, heads, length, k)
    return scores.softmax(dim=-1) @ (value_weights @ values)
