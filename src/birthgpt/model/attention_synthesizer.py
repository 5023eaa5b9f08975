"""Synthesizer: attention whose scores do not depend on the keys (Tay et al., 2005.00743).

    Y_i = softmax(S_i)(X V_i)        S_i[t, p]: the score of token t, in head i, for position p ≤ t
                                 (for every p in the bidirectional form, as published)

    dense              S_i[t] = ReLU(x_t A_i + b₁)B_i + b₂               A_i: d × d_head, B_i: d_head × ℓ
    random             S_i = R_i, trained; fixed_random: not trained     R_i: ℓ × ℓ
    factorized_dense   S_i[t, p] = F_i(x_t)[⌊p/b⌋] · G_i(x_t)[p mod b]   F_i, G_i: like dense, to a and b = ⌈ℓ/a⌉ scores
    factorized_random  S_i = R₁R₂ᵀ                                       R₁, R₂: ℓ × k

ℓ is `max_position_embeddings`; a and k are `synthesizer_rank`. A mixture adds the scores of softmax attention: `plus`
is S + QKᵀ/√d_head, `alpha` is αS + (1 − α)QKᵀ/√d_head with one trained α for each layer.

The scores of a long row are computed for some queries at a time and, in training, once more in the backward pass
(Chen et al., 1604.06174), so their memory is linear in the length of the row.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.utils import is_tracing

from .attention import Attention, register_attention_type
from .cache import StateCacheLayer, layer_state
from .configuration_base import BaseConfig
from .layers import OutputProjection, apply_rotary, build_norm, split_heads
from .settings import setting

WHOLE_SCORES = 2**20
"""Up to so many pairs of tokens in a row, all scores are computed at once."""

SLICE_SCORES = 2**21
"""The number of scores of a slice of queries, in all rows and heads: 8 MB in float32."""


class SynthesizerConfig(BaseConfig):
    """The settings of `synthesizer`."""

    synthesizer_kind: Literal["dense", "random", "fixed_random", "factorized_dense", "factorized_random"] = setting(
        "dense", "how scores are made"
    )
    synthesizer_rank: int = setting(
        8, "k of factorized_random; for factorized_dense, the length of the shorter factor", min=1
    )
    synthesizer_mixture: Literal["none", "plus", "alpha"] = setting(
        "none", "plus: add the scores of softmax; alpha: a trained weighted mean of the two"
    )


@register_attention_type("synthesizer")
class SynthesizerAttention(Attention):
    """Multi-head attention with synthesised scores, alone or mixed with the scores of softmax attention."""

    config_class = SynthesizerConfig
    mask_type = "boolean"
    cache_can_crop = True
    supports_branches = True
    supports_bidirectional = True

    layer_config: SynthesizerConfig
    synthesizer: "Scores"

    @classmethod
    def applies_rotary(cls, config: BaseConfig) -> bool:
        """Only a mixture has queries and keys."""
        assert isinstance(config, SynthesizerConfig)
        return config.synthesizer_mixture != "none"

    def __init__(self, config: SynthesizerConfig, layer_idx: int):
        super().__init__(config, layer_idx)
        self.num_heads = config.num_attention_heads
        self.mixture = self.layer_config.synthesizer_mixture
        width, bias = config.hidden_size, config.attention_bias
        self.synthesizer = SCORES[self.layer_config.synthesizer_kind](self.layer_config)
        self.v_proj = nn.Linear(width, width, bias=bias)
        self.o_proj = OutputProjection(width, width, bias=bias)
        if self.mixture != "none":
            self.q_proj = nn.Linear(width, width, bias=bias)
            self.k_proj = nn.Linear(width, width, bias=bias)
            self.q_norm = build_norm(config, config.head_dim) if config.qk_norm else nn.Identity()
            self.k_norm = build_norm(config, config.head_dim) if config.qk_norm else nn.Identity()
        if self.mixture == "alpha":
            self.alpha_logit = nn.Parameter(torch.empty(1))

    def initialize_parameters(self) -> None:
        """Start a mixture as the mean of both scores."""
        if self.mixture == "alpha":
            init.zeros_(self.alpha_logit)

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
        """Self-attention; see `Attention.forward`.

        Raises:
            ValueError: a token at a position that has no scores.
        """
        positions = positions_of_tokens(position_ids, token_mask, self.config.max_position_embeddings)
        cache = layer_state(past_key_values, self.layer_idx)
        values, key_positions = split_heads(self.v_proj(hidden_states), self.num_heads), positions
        if cache is not None:
            values = cache.append("values", values)
            key_positions = cache.append("positions", positions.expand(values.shape[0], -1), dim=-1)
        queries, keys = None, None
        if self.mixture != "none":
            queries, keys = self.queries_and_keys(hidden_states, position_embeddings, cache)
        assert attention_mask is not None
        columns = self.synthesizer(None, key_positions)
        inputs = (hidden_states, positions, queries, columns, keys, values, attention_mask)
        if self.scores_at_once(values.shape[2] * positions.shape[1], **kwargs):
            mixed, weights = self.attend(*inputs)
        else:
            mixed, weights = self.attend_in_slices(*inputs), None
        return self.o_proj(mixed.transpose(1, 2).flatten(-2)), weights

    def scores_at_once(self, pairs: int, output_attentions: bool | None = None, **kwargs) -> bool:
        """Whether all scores are computed at once, because they are few, or an output."""
        if torch.compiler.is_exporting() or self.config._attn_implementation == "eager":
            # a graph has one form for all lengths
            return True
        wanted = self.config.output_attentions if output_attentions is None else output_attentions
        return bool(wanted) or pairs <= WHOLE_SCORES

    def attend_in_slices(self, hidden_states, positions, queries, columns, keys, values, attention_mask):
        """The mixed values of `attend`, for some queries at a time; the backward pass computes their scores again."""
        length, num_keys = hidden_states.shape[1], values.shape[2]
        size = max(1, SLICE_SCORES // (values.shape[0] * self.num_heads * num_keys))
        parts = []
        for start in range(0, length, size):
            end = min(start + size, length)
            # the keys after the last query are hidden from all
            last = num_keys - length + end if self.is_causal else num_keys
            inputs = (
                hidden_states[:, start:end],
                positions[:, start:end],
                None if queries is None else queries[:, :, start:end],
                [column[..., :last] for column in columns],
                None if keys is None else keys[:, :, :last],
                values[:, :, :last],
                attention_mask[:, :, start:end, :last],
            )
            if torch.is_grad_enabled():
                # with the same dropout in both passes
                parts.append(checkpoint(self._mixed_values, *inputs, use_reentrant=False))
            else:
                parts.append(self._mixed_values(*inputs))
        return torch.cat(parts, dim=2)

    def _mixed_values(self, *inputs) -> torch.Tensor:
        return self.attend(*inputs)[0]

    def attend(self, hidden_states, positions, queries, columns, keys, values, attention_mask):
        """The mixed values, (batch, heads, length, d_head), and the weights, of some queries or all.

        Args:
            hidden_states: (batch, length, d), of the queries.
            positions: (batch or 1, length).
            queries, keys: (batch, heads, length or keys, d_head); None without a mixture.
            columns: those of the keys, from `Scores.columns`.
            values: (batch, heads, keys, d_head).
            attention_mask: (batch or 1, 1, length, keys), True for what is visible.
        """
        scores = self.synthesizer(hidden_states, positions, *columns)
        if self.mixture != "none":
            scores = self.mix(scores, queries @ keys.transpose(-1, -2) * self.config.head_dim**-0.5)
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
        weights = weigh(scores, values, self.config.attention_dropout if self.training else 0.0)
        return weights @ values, weights

    def queries_and_keys(self, hidden_states, position_embeddings, cache: StateCacheLayer | None):
        """Queries and all keys so far, (batch, heads, length or keys, d_head)."""
        queries = self.q_norm(split_heads(self.q_proj(hidden_states), self.num_heads))
        keys = self.k_norm(split_heads(self.k_proj(hidden_states), self.num_heads))
        if position_embeddings is not None:
            queries = apply_rotary(queries, *position_embeddings)
            keys = apply_rotary(keys, *position_embeddings)
        return queries, keys if cache is None else cache.append("keys", keys)

    def mix(self, synthesised: torch.Tensor, softmax: torch.Tensor) -> torch.Tensor:
        """The sum of both scores, or their weighted mean."""
        if self.mixture == "plus":
            return synthesised + softmax
        alpha = self.alpha_logit.sigmoid()
        return alpha * synthesised + (1 - alpha) * softmax


def weigh(scores: torch.Tensor, values: torch.Tensor, dropout: float) -> torch.Tensor:
    """Masked scores, (batch or 1, heads, length, keys) → weights for (batch, heads, keys, d_head) values."""
    # half precision is too coarse for the sum over keys
    weights = scores.softmax(dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(values.dtype)
    # each row of the batch has its own dropout
    weights = weights.expand(values.shape[0], -1, -1, -1)
    return nn.functional.dropout(weights, p=dropout, training=dropout > 0)


class Scores(nn.Module):
    """Base class of the modules that make scores."""

    def forward(self, hidden_states: torch.Tensor | None, positions: torch.Tensor, *columns: torch.Tensor):
        """`scores`, or, without states, the `columns` of keys at these positions.

        Both are calls of the module, because weights that are kept on the disk are there only during a call.
        """
        return self.columns(positions) if hidden_states is None else self.scores(hidden_states, positions, *columns)

    def columns(self, key_positions: torch.Tensor) -> list[torch.Tensor]:
        """What `scores` reads of keys at (batch or 1, keys) positions; the last dimension is that of keys."""
        return [key_positions]

    def scores(self, hidden_states: torch.Tensor, positions: torch.Tensor, *columns: torch.Tensor) -> torch.Tensor:
        """(batch, length, d), (batch or 1, length) and `columns` → (batch or 1, heads, length, keys)."""
        raise NotImplementedError


class DenseScores(Scores):
    """ReLU(XA_i + b₁)B_i + b₂; the scores of a key are in the column of its position."""

    def __init__(self, config: SynthesizerConfig):
        super().__init__()
        self.config = config
        self.hidden_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=config.attention_bias)
        self.score_proj = HeadwiseLinear(config, config.max_position_embeddings)

    def columns(self, key_positions: torch.Tensor) -> list[torch.Tensor]:
        """See `Scores.columns`."""
        return self.score_proj(None, key_positions)

    def scores(self, hidden_states: torch.Tensor, positions: torch.Tensor, *columns: torch.Tensor) -> torch.Tensor:
        """See `Scores.scores`."""
        hidden = split_heads(self.hidden_proj(hidden_states).relu(), self.config.num_attention_heads)
        return self.score_proj(hidden, None, *columns)


class FactorizedDenseScores(Scores):
    """F(x)[⌊p/b⌋] · G(x)[p mod b]: the score of each position is a different product of one value of F and one of G.

    The paper repeats both factors along the positions and does not specify the order. Here F changes slowly and G
    quickly. If both had the same order, distant positions would have the same score. F and G share their first layer.
    """

    def __init__(self, config: SynthesizerConfig):
        super().__init__()
        self.config = config
        first = config.synthesizer_rank
        self.second = -(-config.max_position_embeddings // first)
        self.hidden_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=config.attention_bias)
        self.first_proj = HeadwiseLinear(config, first)
        self.second_proj = HeadwiseLinear(config, self.second)

    def scores(self, hidden_states: torch.Tensor, positions: torch.Tensor, *columns: torch.Tensor) -> torch.Tensor:
        """See `Scores.scores`."""
        hidden = split_heads(self.hidden_proj(hidden_states).relu(), self.config.num_attention_heads)
        (key_positions,) = columns
        indices = key_positions[:, None, None].expand(*hidden.shape[:3], -1)  # (batch, heads, length, keys)
        first = self.first_proj(hidden).gather(-1, indices // self.second)
        second = self.second_proj(hidden).gather(-1, indices % self.second)
        return first * second


class RandomScores(Scores):
    """R_i[t, p]: one score for each pair of positions, independent of the tokens; trained or fixed."""

    def __init__(self, config: SynthesizerConfig, trained: bool = True):
        super().__init__()
        # fixed scores cannot grow: they must distinguish positions from the start
        self.std = config.initializer_range if trained else 1.0
        length = config.max_position_embeddings
        weight = torch.empty(config.num_attention_heads, length, length)
        if trained:
            self.weight = nn.Parameter(weight)
        else:
            self.register_buffer("weight", weight)

    def initialize_parameters(self) -> None:
        init.normal_(self.weight, std=self.std)

    def scores(self, hidden_states: torch.Tensor, positions: torch.Tensor, *columns: torch.Tensor) -> torch.Tensor:
        """See `Scores.scores`; the result is (1, …) if all rows have the same positions."""
        (key_positions,) = columns
        scores = self.weight[:, positions[..., None], key_positions[:, None]]  # (heads, batch or 1, length, keys)
        return scores.transpose(0, 1)


class FactorizedRandomScores(Scores):
    """R₁R₂ᵀ: a trained query and a trained key of width k for each position."""

    def __init__(self, config: SynthesizerConfig):
        super().__init__()
        self.std = config.initializer_range
        shape = (config.num_attention_heads, config.synthesizer_rank, config.max_position_embeddings)
        self.row_factor = nn.Parameter(torch.empty(shape))
        self.column_factor = nn.Parameter(torch.empty(shape))

    def initialize_parameters(self) -> None:
        # so that a sum of k products has the standard deviation of R
        std = (self.std / self.row_factor.shape[1] ** 0.5) ** 0.5
        init.normal_(self.row_factor, std=std)
        init.normal_(self.column_factor, std=std)

    def columns(self, key_positions: torch.Tensor) -> list[torch.Tensor]:
        """See `Scores.columns`."""
        return [columns_of(self.column_factor, key_positions)]

    def scores(self, hidden_states: torch.Tensor, positions: torch.Tensor, *columns: torch.Tensor) -> torch.Tensor:
        """See `Scores.scores`."""
        (key_factor,) = columns
        return columns_of(self.row_factor, positions).transpose(-1, -2) @ key_factor


SCORES: dict[str, Callable[[SynthesizerConfig], Scores]] = {
    "dense": DenseScores,
    "random": RandomScores,
    "fixed_random": partial(RandomScores, trained=False),
    "factorized_dense": FactorizedDenseScores,
    "factorized_random": FactorizedRandomScores,
}
"""The module that makes the scores, for each `synthesizer_kind`."""


class HeadwiseLinear(nn.Module):
    """xB_i + b: a linear map for each head, computed for all columns or for some."""

    def __init__(self, config: SynthesizerConfig, size: int):
        super().__init__()
        self.std = config.initializer_range
        self.weight = nn.Parameter(torch.empty(config.num_attention_heads, config.head_dim, size))
        self.bias = nn.Parameter(torch.empty(config.num_attention_heads, 1, size)) if config.attention_bias else None

    def initialize_parameters(self) -> None:
        init.normal_(self.weight, std=self.std)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, states: torch.Tensor | None, positions: torch.Tensor | None = None, *columns: torch.Tensor):
        """(batch, heads, length, d_head) → (batch, heads, length, size), or for some `columns` only.

        Without states, the columns of weight and bias at (batch or 1, keys) positions.
        """
        tensors = [self.weight] if self.bias is None else [self.weight, self.bias]
        if states is None:
            assert positions is not None
            return [columns_of(tensor, positions) for tensor in tensors]
        weight, *bias = columns or tensors
        return states @ weight + bias[0] if bias else states @ weight


def columns_of(weights: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """(heads, rows, ℓ) and (batch or 1, keys) → (batch or 1, heads, rows, keys)."""
    if are_in_order(positions):
        # a view: to gather the columns of 16,384 keys takes three times as long as to read them
        return weights[None, ..., : positions.shape[1]]
    return weights[..., positions].movedim(-2, 0)


def are_in_order(positions: torch.Tensor) -> bool:
    """Whether (batch or 1, keys) positions are 0, 1, 2, … in each row; a graph, which cannot read them, says no."""
    if is_tracing(positions) or positions.is_meta:
        return False
    return bool((positions == torch.arange(positions.shape[1], device=positions.device)).all())


def positions_of_tokens(position_ids: torch.Tensor, token_mask: torch.Tensor | None, limit: int) -> torch.Tensor:
    """The positions, (batch or 1, length), 0 for padding; raises ValueError outside 0 … limit − 1."""
    positions = position_ids if token_mask is None else torch.where(token_mask, position_ids, 0)
    # a compiled model cannot stop here, and meta tensors have no values
    if not torch.compiler.is_compiling() and not positions.is_meta:
        first, last = (bound.item() for bound in positions.aminmax())
        if first < 0 or last >= limit:
            raise ValueError(
                f"attention_type='synthesizer' has scores for positions 0 to {limit - 1} (max_position_embeddings="
                f"{limit}), but a token is at position {first if first < 0 else last}: give a shorter sequence"
            )
    return positions
