"""BigBird: softmax attention to global, near and random blocks (Zaheer et al., 2007.14062, section 2).

    o_t = Σ_{s ∈ S(t)} softmax_{s ∈ S(t)}(q_tᵀ k_s / √d_head) v_s

Positions are divided into blocks of b. i = ⌊t / b⌋ is the block of t. S(t) contains the positions s ≤ t in the blocks
    global: {0, …, g − 1}        near: {i − w + 1, …, i}        random: r of {g, …, i − w}
The model of the paper is an encoder. In this bidirectional form, S(t) contains all positions in the blocks
    global: {0, …, g − 1}        near: {i − w + 1, …, i + w − 1}        random: r of the others
and if i is global itself, all positions.
"""

import random
from collections.abc import Callable
from typing import Literal

import torch
from torch import nn
from torch.nn.attention.flex_attention import create_block_mask
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.integrations.flex_attention import flex_attention_forward

from .attention import Attention, register_attention_type
from .attention_softmax import eager_attention_forward
from .cache import StateCacheLayer, layer_state
from .configuration_base import BaseConfig
from .layers import INVALID_POSITION, Projections, gather_from_slots, scatter_to_slots
from .masks import additive_mask
from .settings import setting

NO_BLOCK = -1
"""The number of a block that does not exist."""


class BigBirdConfig(BaseConfig):
    """The settings of `bigbird`."""

    bigbird_block: int = setting(16, "tokens in a block", min=1)
    bigbird_global: int = setting(
        1, "blocks at the start that every token sees; in an encoder, their tokens see every token", min=0
    )
    bigbird_window: int = setting(2, "blocks seen up to the own block; in an encoder, on each side", min=1)
    bigbird_random: int = setting(1, "older blocks seen, drawn at random; in an encoder, from both sides", min=0)
    bigbird_seed: int = setting(0, "seed of the random blocks")
    bigbird_implementation: Literal["gathered", "dense", "flex"] = setting(
        "gathered", "gathered: sparse; dense: the same by a mask; flex: FlexAttention, CUDA only"
    )


@register_attention_type("bigbird")
class BigBirdAttention(Attention):
    """Softmax attention to a sparse pattern of blocks, computed by `bigbird_implementation`."""

    config_class = BigBirdConfig
    mask_type = None
    cache_can_crop = True
    supports_bidirectional = True

    layer_config: BigBirdConfig
    random_blocks: torch.Tensor

    def __init__(self, config: BigBirdConfig, layer_idx: int):
        super().__init__(config, layer_idx)
        settings = self.layer_config
        self.projections = Projections(config)
        self.block = settings.bigbird_block
        self.global_blocks, self.window = settings.bigbird_global, settings.bigbird_window
        self.scaling = config.head_dim**-0.5
        shape = (config.num_attention_heads, count_blocks(settings), settings.bigbird_random)
        self.register_buffer("random_blocks", torch.empty(shape, dtype=torch.long))

    def initialize_parameters(self) -> None:
        """Draw the random blocks, which are saved with the weights."""
        init.copy_(self.random_blocks, draw_random_blocks(self.layer_config, self.layer_idx))

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
        """Sparse self-attention; see `Attention.forward`. Only `dense` returns weights.

        Raises:
            ValueError: a position of `max_position_embeddings` or more, or positions that do not increase in a row.
        """
        queries, keys, values = self.projections(hidden_states, position_embeddings)
        positions = position_ids.expand(hidden_states.shape[:2])
        if token_mask is not None:
            positions = positions.masked_fill(~token_mask, INVALID_POSITION)
        check_positions(positions, self.config.max_position_embeddings)
        implementations = {"gathered": self._gathered, "dense": self._dense, "flex": self._flex}
        mixed, weights = implementations[self.layer_config.bigbird_implementation](
            queries, keys, values, positions, layer_state(past_key_values, self.layer_idx)
        )  # (batch, length, heads, d_head)
        return self.projections.output(mixed), weights

    def _dense(self, queries, keys, values, positions, cache: StateCacheLayer | None):
        """Attend to all keys under a mask of the pattern: the readable reference."""
        keys, values, key_positions = append_to_cache(keys, values, positions, cache)
        (batch, heads, length, _), device = queries.shape, queries.device
        indices = [torch.arange(size, device=device) for size in (batch, heads, length, keys.shape[2])]
        sees = self.mask_function(positions, key_positions)(*torch.meshgrid(*indices, indexing="ij"))
        dropout = self.config.attention_dropout if self.training else 0.0
        mask = additive_mask(sees, queries.dtype)
        return eager_attention_forward(self, queries, keys, values, mask, self.scaling, dropout)

    def _flex(self, queries, keys, values, positions, cache: StateCacheLayer | None):
        """Attend under a mask function that FlexAttention compiles (Dong et al., 2412.05496)."""
        if queries.device.type != "cuda":
            raise ValueError("bigbird_implementation='flex' needs a CUDA device: choose gathered or dense")
        if self.training and self.config.attention_dropout:
            raise ValueError("bigbird_implementation='flex' has no dropout: set attention_dropout to 0")
        keys, values, key_positions = append_to_cache(keys, values, positions, cache)
        sees = self.mask_function(positions, key_positions)
        batch, heads, length, _ = queries.shape
        mask = create_block_mask(sees, batch, heads, length, keys.shape[2], device=queries.device)
        return flex_attention_forward(self, queries, keys, values, mask, scaling=self.scaling)[0], None

    def mask_function(self, positions: torch.Tensor, key_positions: torch.Tensor) -> Callable:
        """The function f(batch, head, query, key) of tensor indices: whether the query sees the key."""
        blocks = torch.arange(self.random_blocks.shape[1], device=positions.device)
        is_global, is_near = blocks < self.global_blocks, blocks > blocks[:, None] - self.window
        if not self.is_causal:
            is_near = is_near & (blocks < blocks[:, None] + self.window) | is_global[:, None]
        is_drawn = (self.random_blocks[..., None] == blocks).any(dim=2)
        in_pattern = is_global | is_near | is_drawn  # (heads, query blocks, key blocks)

        def sees(batch, head, query, key):
            query_at, key_at = positions[batch, query], key_positions[batch, key]
            is_chosen = in_pattern[head, query_at.clamp(min=0) // self.block, key_at.clamp(min=0) // self.block]
            may_see = key_at <= query_at if self.is_causal else True
            return is_chosen & may_see & (key_at != INVALID_POSITION)

        return sees

    def _gathered(self, queries, keys, values, positions, cache: StateCacheLayer | None):
        """Attend from each block of queries to the (g + w + r)·b keys that it may see: sparse in time and memory.

        States are ordered by position: block i is in the slots i·b, …, i·b + b − 1, independent of padding. The slots
        of the queries start, in each row, at the block of the first query.
        """
        slots: torch.Tensor | int
        length, is_exporting = positions.shape[1], torch.compiler.is_exporting()
        is_ordered = False
        if (cache is None or "keys" not in cache.states) and not is_exporting:
            in_order = positions == torch.arange(length, device=positions.device)
            is_ordered = positions.is_meta or bool(in_order.all())
        keys, values, exists = self._lay_out_keys(keys, values, positions, is_ordered, cache)
        if length == 1 and self.is_causal and not is_exporting:
            # a single query needs no other slots of its block
            at, slots = positions.clamp(0, self.config.max_position_embeddings - 1), 0
            blocks, queries, query_at = at // self.block, queries[:, :, None], at[:, None, None, None]
        else:
            first, slots = self._slots_of_queries(positions)
            blocks = first[:, None] + torch.arange(self._blocks_up_to(slots), device=first.device)
            if is_ordered:
                slots = 0
            # the blocks of a short row may exceed the limit: their output is not read
            blocks = blocks.clamp(max=self.random_blocks.shape[1] - 1)  # (batch, blocks)
            queries = scatter_to_slots(queries, slots, blocks.shape[1] * self.block).unflatten(2, (-1, self.block))
            query_at = self._positions_in(blocks)[:, None, ..., None]  # (batch, 1, blocks, b or 1, 1)

        seen = self._seen_blocks(blocks, keys.shape[2])  # (batch, heads, blocks, g + w + r)
        from_global = None if self.is_causal else self._attend_from_global_blocks(queries, keys, values, exists)
        keys, values, exists = (gather_blocks(states, seen) for states in (keys, values, exists))
        key_at = self._positions_in(seen).flatten(-2).unsqueeze(-2)  # (batch, heads, blocks, 1, (g + w + r)·b)
        # a slot without a token sees itself, so that its weights sum to one
        may_see = (key_at < query_at) & (key_at >= 0) if self.is_causal else key_at >= 0
        visible = (key_at == query_at) | may_see & exists.transpose(-1, -2)
        mixed = nn.functional.scaled_dot_product_attention(
            queries.flatten(0, 1),
            keys.flatten(0, 1),
            values.flatten(0, 1),
            visible.flatten(0, 1),
            dropout_p=self.config.attention_dropout if self.training else 0.0,
            scale=self.scaling,
        )  # (batch · heads, blocks, b, d_head)
        mixed = mixed.flatten(1, 2).unflatten(0, queries.shape[:2])  # (batch, heads, blocks · b, d_head)
        if from_global is not None:
            mixed = torch.cat((from_global, mixed[:, :, from_global.shape[2] :]), dim=2)
        return gather_from_slots(mixed, slots, length).transpose(1, 2), None

    def _attend_from_global_blocks(self, queries, keys, values, exists) -> torch.Tensor:
        """The mixed values of the queries in global blocks, which see every token: (batch, heads, g · b, d_head)."""
        queries = queries[:, :, : self.global_blocks].flatten(2, 3)
        keys, values, exists = (states.flatten(2, 3) for states in (keys, values, exists))
        own = torch.ones(queries.shape[2], keys.shape[2], dtype=torch.bool, device=keys.device).tril().triu()
        dropout = self.config.attention_dropout if self.training else 0.0
        return nn.functional.scaled_dot_product_attention(
            queries, keys, values, exists.transpose(-1, -2) | own, dropout_p=dropout, scale=self.scaling
        )

    def _lay_out_keys(self, keys, values, positions, is_ordered: bool, cache):
        """Keys, values and whether they exist, (batch, heads or 1, blocks, b, d_head or 1), ordered by position."""
        size = self._blocks_up_to(positions) * self.block
        if cache is not None and "keys" in cache.states:
            # a call that contains only padding ends earlier
            size = max(size, cache.states["keys"].shape[2])
        is_token = positions.new_ones(positions.shape[0], 1, positions.shape[1], 1, dtype=torch.bool)
        # tensors that are already ordered by position begin at slot 0
        slots = 0 if is_ordered else positions
        if cache is None:
            laid_out = [scatter_to_slots(new, slots, size) for new in (keys, values, is_token)]
        else:
            laid_out = [cache.write_by_position("keys", keys, slots, size)]
            laid_out += [cache.write_by_position("values", values, slots, size)]
            positions = cache.append("positions", positions, dim=-1)
            if "exists" not in cache.states and not is_ordered:
                # also the tokens before, after a crop
                is_token, slots = torch.ones_like(positions, dtype=torch.bool)[:, None, :, None], positions
            laid_out += [cache.write_by_position("exists", is_token, slots, size, is_derived=True)]
        return (states.unflatten(2, (-1, self.block)) for states in laid_out)

    def _blocks_up_to(self, slots: torch.Tensor) -> int:
        """The number of blocks up to the largest of (batch, length) slots; at least one."""
        if torch.compiler.is_exporting():
            # a graph cannot depend on values: it has all blocks
            return self.random_blocks.shape[1]
        return max(largest(slots), 0) // self.block + 1

    def _slots_of_queries(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The block of each row's first query, (batch,), and the slot of each query from the start of this block."""
        is_padding = positions == INVALID_POSITION
        first = positions.masked_fill(is_padding, torch.iinfo(positions.dtype).max).amin(dim=1)
        first = first.clamp(max=self.config.max_position_embeddings - 1) // self.block
        if not self.is_causal:
            # without a cache, keys and queries have the same slots
            first = torch.zeros_like(first)
        slots = positions - first[:, None] * self.block
        return first, slots.masked_fill(is_padding, INVALID_POSITION)

    def _seen_blocks(self, blocks: torch.Tensor, count: int) -> torch.Tensor:
        """(batch, blocks) → (batch, heads, blocks, g + w + r): the blocks that each block may see, each at most once.

        `count` is the number of all blocks. A block that does not exist or is in another group is `NO_BLOCK`.
        """
        own, device = blocks[:, None, :, None], blocks.device  # (batch, 1, blocks, 1)
        # a group cannot have more members than there are blocks
        window = min(self.window, count)
        num_drawn = min(self.random_blocks.shape[2], max(count - self.global_blocks - self.window, 0))
        global_indices = torch.arange(min(self.global_blocks, count), device=device)
        near = own - torch.arange(0 if self.is_causal else 1 - window, window, device=device)
        near = near.masked_fill((near < self.global_blocks) | (near >= count), NO_BLOCK)
        drawn = self.random_blocks[:, blocks, :num_drawn].transpose(0, 1)
        # the pattern may have been saved with another window or number of global blocks
        is_near = drawn > own - self.window
        if not self.is_causal:
            is_near = is_near & (drawn < own + self.window) | (drawn >= count)
        drawn = drawn.masked_fill((drawn < self.global_blocks) | is_near, NO_BLOCK)
        shape = drawn.shape[:-1]
        return torch.cat([part.expand(*shape, part.shape[-1]) for part in (global_indices, near, drawn)], dim=-1)

    def _positions_in(self, blocks: torch.Tensor) -> torch.Tensor:
        """The positions in each block, (..., blocks) → (..., blocks, b); negative for `NO_BLOCK`."""
        return blocks[..., None] * self.block + torch.arange(self.block, device=blocks.device)


def count_blocks(config: BigBirdConfig) -> int:
    """The number of blocks in `max_position_embeddings` positions; the last block may be shorter."""
    return -(-config.max_position_embeddings // config.bigbird_block)


def draw_random_blocks(config: BigBirdConfig, layer_idx: int) -> torch.Tensor:
    """The random blocks of each block, in order, then `NO_BLOCK`: (heads, blocks, bigbird_random).

    The draw for a block depends only on (bigbird_seed, layer, head, block), never on the length of an input. In the
    bidirectional form, it also depends on `max_position_embeddings`, and a drawn block may be after the last token.
    """
    pattern = [
        [draw_for_block(config, layer_idx, head, block) for block in range(count_blocks(config))]
        for head in range(config.num_attention_heads)
    ]
    # on the CPU, even if the model is constructed on the meta device
    return torch.tensor(pattern, dtype=torch.long, device="cpu")


def draw_for_block(config: BigBirdConfig, layer_idx: int, head: int, block: int) -> list[int]:
    """Up to `bigbird_random` blocks that are neither global nor near, each at most once."""
    others = list(range(config.bigbird_global, block - config.bigbird_window + 1))
    if not config.is_causal:
        others += range(max(config.bigbird_global, block + config.bigbird_window), count_blocks(config))
    generator = random.Random(f"{config.bigbird_seed} {layer_idx} {head} {block}")
    drawn = sorted(generator.sample(others, min(config.bigbird_random, len(others))))
    return drawn + [NO_BLOCK] * (config.bigbird_random - len(drawn))


def check_positions(positions: torch.Tensor, limit: int) -> None:
    """Raise ValueError unless (batch, length) positions are below `limit` and increase; padding is ignored."""
    if positions.is_meta or torch.compiler.is_exporting():
        return
    if positions.shape[1] == 1:
        last, repeats = int(positions.amax()), False
    else:
        before = positions.cummax(dim=1).values[:, :-1]
        repeated = ((positions[:, 1:] <= before) & (positions[:, 1:] != INVALID_POSITION)).any()
        last, repeats = torch.stack((positions.amax(), repeated)).tolist()
    if last >= limit:
        raise ValueError(
            f"max_position_embeddings={limit}: position {last} is not in the pattern of bigbird: shorten the sequence"
        )
    if repeats:
        raise ValueError("bigbird finds a token by its position: give position_ids that increase along each sequence")


def append_to_cache(
    keys: torch.Tensor, values: torch.Tensor, positions: torch.Tensor, cache: StateCacheLayer | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """All keys, values and positions so far, in the order of the calls."""
    if cache is None:
        return keys, values, positions
    if "positions" in cache.states:
        # a token replaces an earlier one at its position, as where states are laid out by position
        kept = cache.states["positions"]
        is_replaced = (kept[..., None] == positions[:, None]).any(dim=-1)
        cache.states["positions"] = kept.masked_fill(is_replaced, INVALID_POSITION)
    return cache.append("keys", keys), cache.append("values", values), cache.append("positions", positions, dim=-1)


def largest(slots: torch.Tensor) -> int:
    """The largest of (batch, length) slots; meta tensors have no values, so there it is that of a row from 0."""
    return slots.shape[1] - 1 if slots.is_meta else int(slots.amax())


def gather_blocks(states: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """(batch, heads or 1, blocks, b, d) and (batch, heads, queries, slots) → (batch, heads, queries, slots · b, d)."""
    batch, heads = (torch.arange(size, device=chosen.device) for size in chosen.shape[:2])
    heads = heads.clamp(max=states.shape[1] - 1)
    # a block that does not exist is masked later
    chosen = chosen.clamp(0, states.shape[2] - 1)
    return states[batch[:, None, None, None], heads[:, None, None], chosen].flatten(3, 4)
