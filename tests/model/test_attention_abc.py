"""ABC: the equation, chunks against tokens, huge weights, and a cache of fixed size."""

import math

import pytest
import torch
from attention_math import BATCH, HEADS, SIZE, assert_equal_with_gradients, mix, random, random_inputs
from builders import case_model, random_tokens
from contract import check_shown_weights
from transformers import DynamicCache

from birthgpt.model.attention_abc import NO_WEIGHT, abc_attention, empty_slots, naive_abc_attention


def continued(queries, keys, values, log_weights, sizes: list[int], chunk: int) -> torch.Tensor:
    """`abc_attention`, called for one part of the tokens after the other."""
    state, outputs = empty_slots(keys, values, log_weights), []
    for part in zip(*(states.split(sizes, dim=2) for states in (queries, keys, values, log_weights)), strict=True):
        mixed, _, state = abc_attention(*part, state, chunk=chunk)
        outputs.append(mixed)
    return torch.cat(outputs, dim=2)


@pytest.mark.parametrize("attend", ["token by token", "in chunks"])
def test_abc_equals_the_equation_written_out(attend):
    length, slots = 7, 3
    queries, keys, values = random_inputs(length)
    log_weights = random(BATCH, HEADS, length, slots, seed=4)
    if attend == "in chunks":
        ours = continued(queries, keys, values, log_weights, [length], chunk=4)
    else:
        ours = naive_abc_attention(queries, keys, values, log_weights)
    for b, h, t in [(t % BATCH, t % HEADS, t) for t in range(length)]:
        slot_keys, slot_values = [], []
        for s in range(slots):
            weights = [log_weights[b, h, j, s].exp() for j in range(t + 1)]
            slot_keys.append(sum(w * keys[b, h, j] for j, w in enumerate(weights)) / sum(weights))
            slot_values.append(sum(w * values[b, h, j] for j, w in enumerate(weights)) / sum(weights))
        expected = mix([queries[b, h, t] @ key / math.sqrt(SIZE) for key in slot_keys], slot_values)
        torch.testing.assert_close(ours[b, h, t], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("sizes", "chunk"), [([1], 64), ([21], 64), ([21], 8), ([16], 4), ([9, 1, 1, 10], 4)])
def test_abc_in_chunks_equals_token_by_token(sizes, chunk):
    inputs = [*random_inputs(sum(sizes)), random(BATCH, HEADS, sum(sizes), 5, seed=4)]
    assert_equal_with_gradients(lambda *x: continued(*x, sizes, chunk), naive_abc_attention, inputs)


def test_abc_with_one_slot_and_equal_weights_is_the_mean_so_far():
    queries, keys, values = random_inputs(11)
    ours = continued(queries, keys, values, torch.zeros(BATCH, HEADS, 11, 1).double(), [11], chunk=4)
    means = values.cumsum(dim=2) / torch.arange(1, 12)[:, None]
    torch.testing.assert_close(ours, means, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_huge_weight_neither_overflows_nor_tells_of_itself_beforehand(dtype):
    length = 12
    inputs = [states.to(dtype) for states in (*random_inputs(length), random(BATCH, HEADS, length, 2, seed=4))]
    # within one chunk, the differences are too large for an exponential
    steep = inputs[3] + 3000 * torch.arange(length)[:, None] * torch.tensor([1, -1])
    larger = steep.clone()
    larger[:, :, 7] += 1e6
    inputs[3] = steep.to(dtype)
    steep, late = (continued(*inputs[:3], log_weights.to(dtype), [length], 64) for log_weights in (steep, larger))
    assert torch.equal(steep[:, :, :7], late[:, :, :7])
    assert (steep[:, :, 7:] - late[:, :, 7:]).abs().max() > 0.1
    torch.testing.assert_close(steep, naive_abc_attention(*inputs), rtol=0, atol=1e-5)
    # each slot contains one token: the newest and the first
    expected = [mix([q @ k[t] / 2, q @ k[0] / 2], [v[t], v[0]]) for q, k, v, t in rows_of(*inputs[:3])]
    torch.testing.assert_close(torch.stack(expected), steep.flatten(0, 2), rtol=0, atol=1e-5)


def rows_of(queries, keys, values):
    """Each query, with all keys and values of its batch row and head, and its time."""
    for b in range(BATCH):
        for h in range(HEADS):
            for t in range(queries.shape[2]):
                yield queries[b, h, t], keys[b, h], values[b, h], t


def test_abc_gives_finite_gradients_under_huge_weights_and_padding():
    inputs = [states.requires_grad_() for states in (*random_inputs(9), random(BATCH, HEADS, 9, 2, seed=4) * 1e4)]
    padding = torch.tensor([True] * 3 + [False] * 4 + [True] * 2)[:, None]
    log_weights = inputs[3].masked_fill(padding, NO_WEIGHT)
    continued(*inputs[:3], log_weights, [5, 4], 4).square().sum().backward()
    assert all(states.grad.isfinite().all() for states in inputs)


def test_positions_beyond_their_weights_are_an_error():
    model = case_model("abc-position", max_position_embeddings=10)
    model(random_tokens(1, 10))
    with pytest.raises(ValueError, match="max_position_embeddings=10.*position 10"):
        model(random_tokens(1, 11))
    mask = torch.ones(1, 13, dtype=torch.long)
    mask[:, :3] = 0
    # positions of padding have no effect
    positions = torch.tensor([[99] * 3 + list(range(10))])
    logits = model(random_tokens(1, 13), attention_mask=mask, position_ids=positions).logits
    torch.testing.assert_close(logits, model(random_tokens(1, 13), attention_mask=mask).logits, rtol=0, atol=1e-12)


def test_the_cache_of_abc_does_not_grow():
    model = case_model("abc")
    cache, shapes = DynamicCache(config=model.config), []
    for length in (9, 1, 30):
        model(random_tokens(2, length), past_key_values=cache)
        shapes.append({name: tuple(state.shape) for name, state in cache.layers[0].states.items()})
    assert shapes[0] == {"log_sums": (2, 2, 2), "slot_keys": (2, 2, 2, 8), "slot_values": (2, 2, 2, 8)}
    assert shapes[0] == shapes[1] == shapes[2]


def test_eager_shows_weights_that_sum_to_one():
    check_shown_weights(case_model("abc"), keys=2)
