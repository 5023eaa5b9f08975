"""Linformer: the form of the paper, why a mask cannot make it causal, and the causal form in blocks."""

import math

import pytest
import torch
from attention_math import (
    BATCH,
    HEADS,
    SIZE,
    assert_equal_with_gradients,
    mix,
    random,
    random_inputs,
    softmax_attention,
)
from builders import case_config, case_model, random_tokens
from contract import check_shown_weights
from torch import nn
from transformers import DynamicCache

from birthgpt.model.attention_abc import naive_abc_attention
from birthgpt.model.attention_linformer import LinformerAttention, linformer_attention, naive_blockwise_attention

# the paper's form


def test_noncausal_equals_the_published_package():
    package = pytest.importorskip("linformer")
    torch.manual_seed(0)
    reference = package.LinformerSelfAttention(HEADS * SIZE, seq_len=10, k=5, heads=HEADS).double()
    states = random(BATCH, 10, HEADS * SIZE)

    def split_heads(projection):
        return projection(states).view(BATCH, 10, HEADS, SIZE).transpose(1, 2)

    mixed, _ = linformer_attention(
        *map(split_heads, (reference.to_q, reference.to_k, reference.to_v)), reference.proj_k.T, reference.proj_v.T
    )
    ours = reference.to_out(mixed.transpose(1, 2).flatten(-2))
    torch.testing.assert_close(ours, reference(states), rtol=0, atol=1e-12)


def test_noncausal_equals_the_equation_written_out():
    queries, keys, values = random_inputs(6)
    key_weights, value_weights = random(HEADS, 3, 6, seed=4), random(HEADS, 3, 6, seed=5)
    ours, _ = linformer_attention(queries, keys, values, key_weights, value_weights)
    for b, h, t in ((0, 0, 0), (1, 2, 3), (0, 1, 5)):
        summaries = [sum(key_weights[h, s, j] * keys[b, h, j] for j in range(6)) for s in range(3)]
        contents = [sum(value_weights[h, s, j] * values[b, h, j] for j in range(6)) for s in range(3)]
        expected = mix([queries[b, h, t] @ summary / math.sqrt(SIZE) for summary in summaries], contents)
        torch.testing.assert_close(ours[b, h, t], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", ["summary s from token s on", "summary s from its share of the length on"])
def test_no_mask_over_the_summaries_hides_the_future(rule):
    length, summaries = 12, 4
    queries, keys, values = random_inputs(length)
    key_weights, value_weights = random(summaries, length, seed=4), random(summaries, length, seed=5)
    token, summary = torch.arange(length)[:, None], torch.arange(summaries)
    first = summary if rule == "summary s from token s on" else (summary + 1) * (length // summaries) - 1
    visible = token >= first

    def masked(keys, values):
        scores = queries @ (key_weights @ keys).transpose(-1, -2) / math.sqrt(SIZE)
        return scores.masked_fill(~visible, -torch.inf).softmax(dim=-1) @ (value_weights @ values)

    later_keys, later_values = keys.clone(), values.clone()
    later_keys[:, :, -1] += 1
    later_values[:, :, -1] += 1
    change = (masked(later_keys, later_values) - masked(keys, values)).abs()[:, :, :-1].amax(dim=(0, 1, 3))
    # every token that sees a projected key reads from the last token, for both masks
    reads = visible.any(dim=-1)[:-1]
    assert (change[reads] > 0.1).all()
    # the causal forms do not
    for attend in (
        lambda k, v: naive_blockwise_attention(queries, k, v, *(random(HEADS, 2, 3, seed=s) for s in (4, 5)), 6),
        lambda k, v: naive_abc_attention(queries, k, v, random(BATCH, HEADS, length, summaries, seed=6)),
    ):
        assert torch.equal(attend(later_keys, later_values)[:, :, :-1], attend(keys, values)[:, :, :-1])


# blockwise


def block_attention(block: int, summaries: int, window: int, **settings) -> LinformerAttention:
    settings = {"hidden_size": HEADS * SIZE, "num_attention_heads": HEADS} | settings
    settings |= {"linformer_block": block, "linformer_num_slots": summaries, "linformer_window": window}
    attention = LinformerAttention(case_config("linformer", **settings), 0).double().eval()
    nn.init.normal_(attention.key_weights, generator=torch.Generator().manual_seed(6))
    nn.init.normal_(attention.value_weights, generator=torch.Generator().manual_seed(7))
    return attention


class InBlocks(nn.Module):
    """The fast form for given queries, keys and values, without padding or cache, with or without a mask."""

    def __init__(self, attention: LinformerAttention, masked: bool):
        super().__init__()
        self.attention, self.masked = attention, masked

    def forward(self, queries, keys, values):
        token_mask = torch.ones(keys.shape[0], keys.shape[2], dtype=torch.bool) if self.masked else None
        return self.attention.attend_blockwise(queries, keys, values, token_mask, None)[0]


@pytest.mark.parametrize("window", [3, 6])
def test_blockwise_equals_the_equation_written_out(window):
    block, summaries, length = 3, 2, 14
    queries, keys, values = random_inputs(length)
    key_weights, value_weights = random(HEADS, summaries, block, seed=4), random(HEADS, summaries, block, seed=5)
    ours = naive_blockwise_attention(queries, keys, values, key_weights, value_weights, window)
    for b, h, t in [(t % BATCH, t % HEADS, t) for t in range(length)]:
        oldest_near = max(t // block - window // block + 1, 0)
        seen_keys, seen_values = [], []
        for old in range(oldest_near):
            for s in range(summaries):
                places = [(i, old * block + i) for i in range(block)]
                seen_keys.append(sum(key_weights[h, s, i] * keys[b, h, j] for i, j in places))
                seen_values.append(sum(value_weights[h, s, i] * values[b, h, j] for i, j in places))
        seen_keys += [keys[b, h, j] for j in range(oldest_near * block, t + 1)]
        seen_values += [values[b, h, j] for j in range(oldest_near * block, t + 1)]
        expected = mix([queries[b, h, t] @ key / math.sqrt(SIZE) for key in seen_keys], seen_values)
        torch.testing.assert_close(ours[b, h, t], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("block", "summaries", "window"), [(4, 2, 8), (3, 1, 3), (1, 1, 2), (5, 7, 15)])
@pytest.mark.parametrize("length", [1, 8, 23])
@pytest.mark.parametrize("masked", [True, False])
def test_blockwise_in_blocks_equals_the_definition(block, summaries, window, length, masked):
    attention = block_attention(block, summaries, window)

    def in_blocks(queries, keys, values, key_weights, value_weights):
        parameters = {"attention.key_weights": key_weights, "attention.value_weights": value_weights}
        return torch.func.functional_call(InBlocks(attention, masked), parameters, (queries, keys, values))

    def definition(queries, keys, values, key_weights, value_weights):
        return naive_blockwise_attention(queries, keys, values, key_weights, value_weights, window)

    inputs = [*random_inputs(length), attention.key_weights.detach(), attention.value_weights.detach()]
    if length <= window:
        # no projected key was read: we have no gradient, the definition has zero
        assert_equal_with_gradients(lambda *x: in_blocks(*x) + 0 * (x[3].sum() + x[4].sum()), definition, inputs)
    else:
        assert_equal_with_gradients(in_blocks, definition, inputs)


@pytest.mark.parametrize("window", [4, 8])
@pytest.mark.parametrize("masked", [True, False])
def test_with_summaries_that_are_the_tokens_blockwise_is_softmax(window, masked):
    # true only if each past token is seen exactly once, as a token or as a projected key
    attention = block_attention(4, 4, window)
    with torch.no_grad():
        attention.key_weights.copy_(torch.eye(4))
        attention.value_weights.copy_(torch.eye(4))
    inputs = random_inputs(27)
    ours = InBlocks(attention, masked)(*inputs)
    torch.testing.assert_close(ours, softmax_attention(*inputs), rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", [9, 12])
def test_with_a_window_over_the_whole_length_blockwise_is_softmax(length):
    ours, softmax = case_model("linformer", linformer_window=12), case_model("softmax")
    missing, unexpected = softmax.load_state_dict(ours.state_dict(), strict=False)
    assert not missing and all(name.endswith(("key_weights", "value_weights")) for name in unexpected)
    tokens = random_tokens(2, length)
    mask = torch.ones_like(tokens)
    mask[0, :5] = 0
    with torch.no_grad():
        logits, expected = (model(tokens, attention_mask=mask).logits for model in (ours, softmax))
        torch.testing.assert_close(logits[mask == 1], expected[mask == 1], rtol=0, atol=1e-12)
        longer = random_tokens(2, 17)
        assert (ours(longer).logits - softmax(longer).logits)[:, 12:].abs().min() > 1e-6


def test_the_cache_contains_projected_keys_and_the_window_only():
    model = case_model("linformer")
    cache, heads, size = DynamicCache(config=model.config), 2, 8
    for length in (9, *[1] * 16):
        model(random_tokens(2, length), past_key_values=cache)
    states = {name: tuple(state.shape[1:]) for name, state in cache.layers[0].states.items()}
    # 25 tokens are 6 blocks of 4 and one token: the window is the sixth and the open seventh block
    assert states == {
        "keys": (heads, 8, size),
        "values": (heads, 8, size),
        "old_keys": (heads, 5, 2, size),
        "old_values": (heads, 5, 2, size),
    }


def test_eager_shows_weights_that_sum_to_one():
    check_shown_weights(case_model("linformer"), keys=3 * 2 + 8)
