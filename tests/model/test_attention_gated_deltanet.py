"""Gated DeltaNet against the equation, transformers' implementation, and what an associative memory must do."""

import pytest
import torch
from builders import case_config, case_model, random_tokens
from torch import nn
from transformers import DynamicCache, Qwen3NextConfig
from transformers.models.qwen3_next.modeling_qwen3_next import (
    Qwen3NextGatedDeltaNet,
    torch_chunk_gated_delta_rule,
    torch_recurrent_gated_delta_rule,
)

from birthgpt.model.attention_gated_deltanet import (
    GatedDeltaNet,
    gated_delta_rule,
    l2_normalize,
    naive_gated_delta_rule,
)

BATCH, HEADS, KEY_SIZE, VALUE_SIZE = 2, 3, 4, 5


def by_the_equation(queries, keys, values, log_alpha, beta, state):
    """The matrices of the paper, for one memory and one token at a time (as in fla: ops/gated_delta_rule/naive.py)."""
    outputs, last = torch.empty_like(values), torch.empty_like(state)
    for b in range(values.shape[0]):
        for h in range(values.shape[1]):
            memory = state[b, h]
            for t in range(values.shape[2]):
                q, k, v = queries[b, h, t], keys[b, h, t], values[b, h, t]
                forget = log_alpha[b, h, t].exp() * (torch.eye(len(k), dtype=k.dtype) - beta[b, h, t] * k.outer(k))
                memory = memory @ forget + beta[b, h, t] * v.outer(k)
                outputs[b, h, t] = memory @ q / len(k) ** 0.5
            last[b, h] = memory
    return outputs, last


def random_inputs(length: int, dtype=torch.float64, strongest_decay: float = 3.0, seed: int = 0) -> list[torch.Tensor]:
    """Queries, keys, values, log α, β and a state."""
    torch.manual_seed(seed)
    queries, keys = (l2_normalize(torch.randn(BATCH, HEADS, length, KEY_SIZE, dtype=dtype)) for _ in range(2))
    values = torch.randn(BATCH, HEADS, length, VALUE_SIZE, dtype=dtype)
    log_alpha = -strongest_decay * torch.rand(BATCH, HEADS, length, dtype=dtype)
    beta = torch.rand(BATCH, HEADS, length, dtype=dtype)
    state = torch.randn(BATCH, HEADS, VALUE_SIZE, KEY_SIZE, dtype=dtype)
    return [queries, keys, values, log_alpha, beta, state]


def assert_close(actual, expected, atol):
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs.to(ours.dtype), rtol=0, atol=atol)


def test_the_recurrence_is_the_equation():
    inputs = random_inputs(length=9)
    assert_close(naive_gated_delta_rule(*inputs), by_the_equation(*inputs), atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 3, 4, 13, 64])
def test_chunks_equal_the_recurrence_forward_and_backward(chunk):
    inputs = [tensor.requires_grad_() for tensor in random_inputs(length=13)]
    results, gradients = [], []
    for function in (naive_gated_delta_rule, lambda *tensors: gated_delta_rule(*tensors, chunk=chunk)):
        outputs, state = function(*inputs)
        results.append((outputs, state))
        # a sum with a different weight for every entry
        torch.manual_seed(1)
        loss = (outputs * torch.randn_like(outputs)).sum() + (state * torch.randn_like(state)).sum()
        gradients.append(torch.autograd.grad(loss, inputs))
    assert_close(results[1], results[0], atol=1e-10)
    assert_close(gradients[1], gradients[0], atol=1e-10)


@pytest.mark.parametrize("reference", [torch_recurrent_gated_delta_rule, torch_chunk_gated_delta_rule])
@pytest.mark.parametrize("starts_empty", [True, False])
def test_the_rule_equals_that_of_transformers(reference, starts_empty):
    queries, keys, values, log_alpha, beta, state = random_inputs(length=70, dtype=torch.float32)
    state = None if starts_empty else state
    expected, last = reference(
        *(tensor.transpose(1, 2) for tensor in (queries, keys, values)),
        g=log_alpha.transpose(1, 2),
        beta=beta.transpose(1, 2),
        initial_state=None if state is None else state.mT,
        output_final_state=True,
    )
    actual = gated_delta_rule(queries, keys, values, log_alpha, beta, state, chunk=16)
    assert_close(actual, (expected.transpose(1, 2), last.mT), atol=1e-5)


def test_the_layer_equals_that_of_qwen3_next_without_its_convolution():
    config = case_config("gated_deltanet", attention_bias=False)
    width, heads, head_dim = config.hidden_size, config.num_attention_heads, config.head_dim
    theirs = Qwen3NextGatedDeltaNet(
        Qwen3NextConfig(
            hidden_size=width,
            num_hidden_layers=1,
            linear_num_value_heads=heads,
            linear_num_key_heads=heads,
            linear_key_head_dim=head_dim,
            linear_value_head_dim=head_dim,
            linear_conv_kernel_dim=2,
            rms_norm_eps=config.layer_norm_eps,
            layer_types=["linear_attention"],
        ),
        layer_idx=0,
    )
    torch.manual_seed(0)
    ours = GatedDeltaNet(config, 0)
    ours.initialize_parameters()
    with torch.no_grad():
        for name in ("q_proj", "k_proj", "v_proj", "g_proj", "o_proj", "a_proj", "b_proj"):
            nn.init.normal_(getattr(ours, name).weight, std=0.3)
        nn.init.uniform_(ours.o_norm.weight, 0.5, 2)
        # their matrix contains the maps head by head
        for maps, target in ((("q", "k", "v", "g"), theirs.in_proj_qkvz), (("b", "a"), theirs.in_proj_ba)):
            weights = [getattr(ours, f"{name}_proj").weight.unflatten(0, (heads, -1)) for name in maps]
            target.weight.copy_(torch.cat(weights, dim=1).flatten(0, 1))
        theirs.conv1d.weight.copy_(torch.tensor([0.0, 1.0]))  # no mixing of tokens
        for name in ("A_log", "dt_bias"):
            getattr(theirs, name).copy_(getattr(ours, name))
        theirs.norm.weight.copy_(ours.o_norm.weight)
        theirs.out_proj.weight.copy_(ours.o_proj.weight)
        hidden_states = torch.randn(2, 11, width)
        torch.testing.assert_close(ours(hidden_states)[0], theirs(hidden_states), rtol=0, atol=1e-5)


@pytest.mark.parametrize("chunk", [4, 64])
def test_strong_forgetting_neither_overflows_nor_blurs_what_follows(chunk):
    inputs = random_inputs(length=64, dtype=torch.float32, strongest_decay=0.1)
    # some tokens forget everything: e^−20,000 is zero, and the sum of their exponents has too many digits for float32
    inputs[3][..., ::5] = -2e4
    inputs = [tensor.requires_grad_() for tensor in inputs]
    outputs, state = gated_delta_rule(*inputs, chunk=chunk)
    exact = by_the_equation(*(tensor.detach().double() for tensor in inputs))
    assert_close((outputs, state), exact, atol=2e-6)
    for gradient in torch.autograd.grad(outputs.sum() + state.sum(), inputs):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("chunk", [1, 4, 64])
def test_orthonormal_keys_give_back_their_values(chunk):
    size = 8
    torch.manual_seed(0)
    keys = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64)).Q
    values = torch.randn(size, size, dtype=torch.float64)
    order = torch.randperm(size)
    # all values are written first, then read in another order without a second write
    all_keys, all_values = torch.cat((keys, keys[order])), torch.cat((values, torch.zeros_like(values)))
    strength = torch.tensor([1.0] * size + [0.0] * size, dtype=torch.float64)
    outputs, state = gated_delta_rule(
        all_keys[None, None] * size**0.5,
        all_keys[None, None],
        all_values[None, None],
        torch.zeros(1, 1, 2 * size, dtype=torch.float64),
        strength[None, None],
        chunk=chunk,
    )
    torch.testing.assert_close(outputs[0, 0, size:], values[order], rtol=0, atol=1e-12)
    torch.testing.assert_close(state[0, 0], values.mT @ keys, rtol=0, atol=1e-12)


def test_a_second_value_replaces_the_first_under_the_same_key():
    torch.manual_seed(0)
    key = nn.functional.normalize(torch.randn(4, dtype=torch.float64), dim=0)
    values = torch.randn(1, 1, 3, 4, dtype=torch.float64)
    keys = key.expand(1, 1, 3, 4)
    ones = torch.ones(1, 1, 3, dtype=torch.float64)
    outputs, _ = gated_delta_rule(keys * 2, keys, values, 0 * ones, ones, chunk=2)
    torch.testing.assert_close(outputs, values, rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 4, 64])
def test_without_writing_the_state_only_fades(chunk):
    queries, keys, values, log_alpha, beta, state = random_inputs(length=10)
    outputs, last = gated_delta_rule(queries, keys, values, log_alpha, 0 * beta, state, chunk)
    left = log_alpha.cumsum(dim=-1).exp()[..., None]
    torch.testing.assert_close(last, left[..., -1:, :] * state, rtol=0, atol=1e-12)
    torch.testing.assert_close(outputs, left * (queries @ state.mT) / KEY_SIZE**0.5, rtol=0, atol=1e-12)
    outputs, last = gated_delta_rule(queries, keys, values, log_alpha, 0 * beta, None, chunk)
    assert not outputs.any() and not last.any()


def seeded_mixer(dtype=torch.float64, **settings) -> GatedDeltaNet:
    return case_model("gated_deltanet", dtype, **settings).model.layers[0].attention


def test_padding_leaves_the_state_untouched_whatever_it_holds():
    mixer, config = seeded_mixer(), case_config("gated_deltanet")
    hidden_states = torch.randn(2, 9, config.hidden_size, dtype=torch.float64)
    token_mask = torch.tensor([[False, False, True, True, True, True, True, False, False]]).expand(2, -1)
    caches = [DynamicCache(config=config) for _ in range(2)]
    padded = mixer(
        hidden_states * torch.where(token_mask, 1, 1e6)[..., None], token_mask=token_mask, past_key_values=caches[0]
    )[0]
    alone = mixer(hidden_states[:, 2:7], past_key_values=caches[1])[0]
    torch.testing.assert_close(padded[:, 2:7], alone, rtol=0, atol=1e-12)
    states = [cache.layers[0].states["memory"] for cache in caches]
    torch.testing.assert_close(*states, rtol=0, atol=1e-12)
    # only padding: no bit changes
    mixer(hidden_states, token_mask=torch.zeros_like(token_mask), past_key_values=caches[0])
    assert torch.equal(caches[0].layers[0].states["memory"], states[0])


def test_the_cache_is_one_state_of_constant_size_in_single_precision():
    model = case_model("gated_deltanet", torch.bfloat16)
    config, cache = model.config, DynamicCache(config=model.config)
    for length in (1, 7, 1, 20):
        model(random_tokens(2, length), past_key_values=cache)
        for layer in cache.layers:
            (memory,) = layer.states.values()
            assert memory.shape == (2, config.num_attention_heads, config.head_dim, config.head_dim)
            assert memory.dtype == torch.float32


def test_autocast_rounds_the_projections_but_not_the_memory():
    mixer, config = seeded_mixer(torch.float32), case_config("gated_deltanet")
    hidden_states, cache = torch.randn(2, 12, config.hidden_size), DynamicCache(config=config)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert mixer.q_proj(hidden_states).dtype == torch.bfloat16
        mixer(hidden_states, past_key_values=cache)
        inputs = *mixer.queries_keys_and_values(hidden_states), *mixer.decay_and_beta(hidden_states, None)
    _, memory = naive_gated_delta_rule(*inputs)
    torch.testing.assert_close(cache.layers[0].states["memory"], memory, rtol=0, atol=1e-6)


def test_queries_and_keys_have_length_one():
    mixer = seeded_mixer()
    queries, keys, values = mixer.queries_keys_and_values(torch.randn(2, 6, 16, dtype=torch.float64))
    for states in (queries, keys):
        torch.testing.assert_close(states.norm(dim=-1), torch.ones(2, 2, 6, dtype=torch.float64), rtol=0, atol=1e-3)
    assert values.norm(dim=-1).std() > 0.1


def test_decay_starts_as_in_the_paper():
    torch.manual_seed(0)
    mixer = GatedDeltaNet(case_config("gated_deltanet", hidden_size=2000, num_attention_heads=2000), 0)
    mixer.initialize_parameters()
    rates, steps = mixer.A_log.detach().exp(), nn.functional.softplus(mixer.dt_bias.detach())
    assert 0 < rates.min() < 0.1 and 15.9 < rates.max() < 16.01
    assert rates.mean() == pytest.approx(8, abs=0.4)
    assert 0.999e-3 < steps.min() < 1.1e-3 and 0.9e-1 < steps.max() < 1.001e-1
    assert steps.log10().mean() == pytest.approx(-2, abs=0.05)
