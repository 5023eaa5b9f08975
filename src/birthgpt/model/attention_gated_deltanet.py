"""Gated DeltaNet: S_t = α_t S_{t−1}(I − β_t k_t k_tᵀ) + β_t v_t k_tᵀ, o_t = S_t q_t/√d_head (Yang et al., 2412.06464).

The state S of a head is an associative memory, d_head × d_head. A token multiplies S by its α. It then writes its value
under its key: with β = 1, the new value replaces the old value of this key. It then reads the value of its query. Each
head computes α and β from the token.

The bidirectional form reads the sequence twice with the same weights, forwards and backwards, each time from an empty
memory. Its output is the mean of the two.
"""

import math

import torch
from torch import nn
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.utils.generic import maybe_autocast

from .attention import Attention, register_attention_type
from .cache import layer_state
from .configuration_base import BaseConfig
from .layers import OutputProjection, split_heads, upcast_to_float32
from .settings import setting

LARGEST_DECAY_RATE = 16.0
STEP_RANGE = (1e-3, 1e-1)


class GatedDeltaNetConfig(BaseConfig):
    """The settings of `gated_deltanet`."""

    deltanet_chunk: int = setting(32, "tokens that gated_deltanet handles together", min=1)


@register_attention_type("gated_deltanet")
class GatedDeltaNet(Attention):
    """The gated delta rule in chunks; the output of each head is RMS-normalised and gated by SiLU(W_g x).

    SiLU is applied to q, k and v. Then q and k are normalised to length one, so `qk_norm` has no effect.
    α = exp(−A softplus(W_a x + b)), β = sigmoid(W_b x). Rotary positions are not applied, because the recurrence
    depends on the order of the tokens. There are no attention weights to return or to drop.

    The short convolution of q, k and v in the paper is not part of this type. Use `canon_width: 4` instead, a
    convolution for every type.
    """

    config_class = GatedDeltaNetConfig
    mask_type = None
    supports_bidirectional = True

    layer_config: GatedDeltaNetConfig

    @classmethod
    def applies_rotary(cls, config: BaseConfig) -> bool:
        """Never: the recurrence depends on the order of the tokens."""
        return False

    def __init__(self, config: GatedDeltaNetConfig, layer_idx: int):
        super().__init__(config, layer_idx)
        self.num_heads = config.num_attention_heads
        self.head_dim = config.head_dim
        self.chunk = self.layer_config.deltanet_chunk
        width, bias = config.hidden_size, config.attention_bias
        self.q_proj = nn.Linear(width, width, bias=bias)
        self.k_proj = nn.Linear(width, width, bias=bias)
        self.v_proj = nn.Linear(width, width, bias=bias)
        self.g_proj = nn.Linear(width, width, bias=bias)
        self.o_proj = OutputProjection(width, width, bias=bias)
        self.b_proj = nn.Linear(width, self.num_heads, bias=bias)
        # the bias of this map is dt_bias, which has its own initialisation
        self.a_proj = nn.Linear(width, self.num_heads, bias=False)
        self.dt_bias = nn.Parameter(torch.empty(self.num_heads))
        self.A_log = nn.Parameter(torch.empty(self.num_heads))
        self.o_norm = nn.RMSNorm(self.head_dim, eps=config.layer_norm_eps)

    def initialize_parameters(self) -> None:
        """Draw as in the paper's code: A uniform up to 16, softplus(b) log-uniform between 0.001 and 0.1."""
        # half precision, the default of `from_config(dtype=…)`, is too coarse
        dtype = torch.promote_types(torch.get_default_dtype(), torch.float32)
        # rand is below 1, so 1 − rand has a logarithm
        init.copy_(self.A_log, (LARGEST_DECAY_RATE * (1 - torch.rand(self.num_heads, dtype=dtype))).log())
        low, high = (math.log(step) for step in STEP_RANGE)
        steps = (low + (high - low) * torch.rand(self.num_heads, dtype=dtype)).exp()
        init.copy_(self.dt_bias, steps.expm1().log())

    def queries_keys_and_values(self, hidden_states: torch.Tensor) -> list[torch.Tensor]:
        """(batch, length, hidden_size) → three times (batch, heads, length, d_head), in float32 at least."""
        projections = (self.q_proj, self.k_proj, self.v_proj)
        queries, keys, values = (
            nn.functional.silu(upcast_to_float32(split_heads(projection(hidden_states), self.num_heads)))
            for projection in projections
        )
        return [l2_normalize(queries), l2_normalize(keys), values]

    def decay_and_beta(
        self, hidden_states: torch.Tensor, token_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """log α and β, (batch, heads, length) each. Both are 0 for padding, so the state does not change."""
        steps = nn.functional.softplus(upcast_to_float32(self.a_proj(hidden_states)) + self.dt_bias)
        log_alpha = -upcast_to_float32(self.A_log).exp() * steps
        beta = upcast_to_float32(self.b_proj(hidden_states)).sigmoid()
        if token_mask is not None:
            log_alpha, beta = (gate.masked_fill(~token_mask[..., None], 0) for gate in (log_alpha, beta))
        return log_alpha.transpose(1, 2), beta.transpose(1, 2)

    def forward(
        self,
        hidden_states: torch.Tensor,
        *,
        token_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, None]:
        """Read and write the memory; see `Attention.forward`. The cache contains the state after the last token."""
        queries, keys, values = self.queries_keys_and_values(hidden_states)
        log_alpha, beta = self.decay_and_beta(hidden_states, token_mask)
        cache = layer_state(past_key_values, self.layer_idx)
        state = cache.states.get("memory") if cache is not None else None
        # autocast would round the sums to half precision
        with maybe_autocast(device_type=queries.device.type, enabled=False):
            inputs = (queries, keys, values, log_alpha, beta)
            mixed, state = gated_delta_rule(*inputs, state, chunk=self.chunk)
            if not self.is_causal:
                # padding changes no memory, wherever it is
                queries, keys, values, log_alpha, beta = (states.flip(2) for states in inputs)
                backwards, _ = gated_delta_rule(queries, keys, values, log_alpha, beta, chunk=self.chunk)
                mixed = (mixed + backwards.flip(2)) / 2
        if cache is not None:
            cache.states["memory"] = state
        mixed = self.o_norm(mixed.to(hidden_states.dtype))
        gates = nn.functional.silu(split_heads(self.g_proj(hidden_states), self.num_heads))
        return self.o_proj((mixed * gates).transpose(1, 2).flatten(-2)), None


def naive_gated_delta_rule(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    log_alpha: torch.Tensor,
    beta: torch.Tensor,
    state: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The recurrence, token by token: the reference for `gated_delta_rule`."""
    state = empty_memory(keys, values) if state is None else state
    outputs = []
    for t in range(keys.shape[2]):
        query, key, value = (states[:, :, t, :, None] for states in (queries, keys, values))
        decayed = log_alpha[:, :, t, None, None].exp() * state
        state = decayed + beta[:, :, t, None, None] * (value - decayed @ key) @ key.mT
        outputs.append(state @ query * query.shape[-2] ** -0.5)
    return torch.stack(outputs, dim=2).squeeze(-1), state


def gated_delta_rule(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    log_alpha: torch.Tensor,
    beta: torch.Tensor,
    state: torch.Tensor | None = None,
    chunk: int = 64,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Read and write the memory for `chunk` tokens at once.

    Token i writes u_i = β_i(v_i − α_i S_{i−1} k_i). At token i, a share Γ_ij = α_{j+1} ⋯ α_i of the write of token j
    remains. If S_0 is the state before the chunk, S_i = Γ_i0 S_0 + Σ_{j≤i} Γ_ij u_j k_jᵀ, and therefore

        u_i + Σ_{j<i} β_i Γ_ij (k_i·k_j) u_j = β_i v_i − β_i Γ_i0 S_0 k_i.

    This is one triangular system for each chunk. It is solved for both terms on the right before S_0 is known (the WY
    representation). Only the step from chunk to chunk is sequential.

    Args:
        queries, keys, values: (batch, heads, length, d_head); queries are divided by √d_head here.
        log_alpha, beta: (batch, heads, length), log α at most 0 and β between 0 and 1.
        state: (batch, heads, d_head of values, d_head of keys), the memory before the first token; None: zeros.
        chunk: tokens in a chunk.

    Returns:
        (batch, heads, length, d_head), and the memory after the last token.
    """
    state = empty_memory(keys, values) if state is None else state
    length, key_size, value_size = keys.shape[2], keys.shape[3], values.shape[3]
    # a graph of any length has one chunk, because a graph cannot repeat a step as often as the length says
    chunk = length if torch.compiler.is_exporting() else min(chunk, length)
    # (batch, heads, chunks, chunk, d_head); the gates have no d_head
    queries, keys, values = (split_chunks(states, chunk) for states in (queries * key_size**-0.5, keys, values))
    log_alpha, beta = (split_chunks(gate[..., None], chunk).squeeze(-1) for gate in (log_alpha, beta))

    decay = decay_between_tokens(log_alpha)  # Γ, (batch, heads, chunks, chunk, chunk)
    decay_from_start = log_alpha.cumsum(dim=-1).exp()[..., None]
    decay_to_end = decay[..., -1, :, None]
    scores = queries @ keys.mT * decay
    system = keys @ keys.mT * decay * beta[..., None]
    terms = torch.cat((values, keys * decay_from_start), dim=-1) * beta[..., None]
    # only the strictly lower triangle is read; the diagonal counts as one
    solved = torch.linalg.solve_triangular(system, terms, upper=False, unitriangular=True)

    outputs = []
    steps = (solved, scores, queries * decay_from_start, keys * decay_to_end, decay_from_start[..., -1:, :])
    for solution, weights, query, key, chunk_decay in zip(*(step.unbind(dim=2) for step in steps), strict=True):
        from_values, from_keys = solution.split((value_size, key_size), dim=-1)
        writes = from_values - from_keys @ state.mT  # u, (batch, heads, chunk, d_head)
        outputs.append(query @ state.mT + weights @ writes)
        state = chunk_decay * state + writes.mT @ key
    return torch.cat(outputs, dim=2)[:, :, :length], state


def decay_between_tokens(log_alpha: torch.Tensor) -> torch.Tensor:
    """Γ_ij = α_{j+1} ⋯ α_i for j ≤ i, else 0: (…, chunk) logarithms → (…, chunk, chunk).

    Each sum is computed from its own terms. After a token with a very large decay, a difference of running sums would
    lose the small decay between later tokens.
    """
    up_to = log_alpha.new_ones(log_alpha.shape[-1], log_alpha.shape[-1]).tril()
    sums = up_to @ (log_alpha[..., None] * up_to.tril(-1))  # (…, chunk, chunk)
    return sums.exp().tril()


def split_chunks(states: torch.Tensor, chunk: int) -> torch.Tensor:
    """(batch, heads, length, size) → (batch, heads, chunks, chunk, size), zeros after the last token."""
    missing = -states.shape[2] % chunk
    return nn.functional.pad(states, (0, 0, 0, missing)).unflatten(2, (-1, chunk))


def empty_memory(keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """A memory of zeros, (batch, heads, d_head of values, d_head of keys)."""
    return values.new_zeros(*values.shape[:2], values.shape[-1], keys.shape[-1])


def l2_normalize(states: torch.Tensor) -> torch.Tensor:
    """x / √(‖x‖² + 10⁻⁶) over the last dimension; the constant keeps gradients finite."""
    return states * (states.square().sum(dim=-1, keepdim=True) + 1e-6).rsqrt()
