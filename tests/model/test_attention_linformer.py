"""Linformer's attention: the paper's form, why no mask makes it causal, and the two forms that are causal."""

import math

import pytest
import torch
from attention_cases import case_config, case_model, random_tokens
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import DynamicCache

from birthgpt import BirthGPTConfig
from birthgpt.model.attention_linformer import (
    NO_WEIGHT,
    LinformerAttention,
    abc_attention,
    empty_slots,
    linformer_noncausal,
    naive_abc_attention,
    naive_blockwise_attention,
)
from birthgpt.model.attention_softmax import SoftmaxAttention

BATCH, HEADS, SIZE = 2, 3, 4


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def random_inputs(length: int) -> list[torch.Tensor]:
    """Queries, keys and values, (batch, heads, length, d_head) each."""
    return [random(BATCH, HEADS, length, SIZE, seed=seed) for seed in (1, 2, 3)]


def mix(scores: list[torch.Tensor], values: list[torch.Tensor]) -> torch.Tensor:
    """Σ_i softmax(scores)_i values_i, for a single query."""
    return torch.stack(scores).softmax(dim=0) @ torch.stack(values)


def softmax_attention(queries, keys, values):
    return nn.functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)


def assert_equal_with_gradients(function, reference, inputs: list[torch.Tensor]) -> None:
    """Both give the same, and the same gradients, for the same inputs."""
    results = []
    for one in (function, reference):
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        output = one(*leaves)
        output.backward(random(*output.shape, seed=9))
        results.append([output, *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


# the paper's form


def test_noncausal_equals_the_published_package():
    package = pytest.importorskip("linformer")
    torch.manual_seed(0)
    reference = package.LinformerSelfAttention(HEADS * SIZE, seq_len=10, k=5, heads=HEADS).double()
    states = random(BATCH, 10, HEADS * SIZE)

    def split_heads(projection):
        return projection(states).view(BATCH, 10, HEADS, SIZE).transpose(1, 2)

    mixed = linformer_noncausal(
        *map(split_heads, (reference.to_q, reference.to_k, reference.to_v)), reference.proj_k.T, reference.proj_v.T
    )
    ours = reference.to_out(mixed.transpose(1, 2).flatten(-2))
    torch.testing.assert_close(ours, reference(states), rtol=0, atol=1e-12)


def test_noncausal_equals_the_equation_written_out():
    queries, keys, values = random_inputs(6)
    key_weights, value_weights = random(HEADS, 3, 6, seed=4), random(HEADS, 3, 6, seed=5)
    ours = linformer_noncausal(queries, keys, values, key_weights, value_weights)
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
    # every token that may read anything reads of the last one, in the mask's diagonal or not
    reads = visible.any(dim=-1)[:-1]
    assert (change[reads] > 0.1).all()
    # the causal forms do not
    for attend in (
        lambda k, v: naive_blockwise_attention(queries, k, v, *(random(HEADS, 2, 3, seed=s) for s in (4, 5)), 6),
        lambda k, v: naive_abc_attention(queries, k, v, random(BATCH, HEADS, length, summaries, seed=6)),
    ):
        assert torch.equal(attend(later_keys, later_values)[:, :, :-1], attend(keys, values)[:, :, :-1])


def test_the_papers_form_is_refused_as_a_language_model():
    with pytest.raises(StrictDataclassError, match="linformer_kind='original'.*read the answer"):
        BirthGPTConfig(attention_type="linformer", linformer_kind="original")


# blockwise


def block_attention(block: int, summaries: int, window: int, **settings) -> LinformerAttention:
    settings = {"hidden_size": HEADS * SIZE, "num_attention_heads": HEADS} | settings
    settings |= {"linformer_block": block, "linformer_summaries": summaries, "linformer_window": window}
    attention = LinformerAttention(case_config("linformer", **settings), 0).double().eval()
    nn.init.normal_(attention.memory.key_weights, generator=torch.Generator().manual_seed(6))
    nn.init.normal_(attention.memory.value_weights, generator=torch.Generator().manual_seed(7))
    return attention


def everything(length: int, masked: bool) -> dict:
    """What a memory is told where there is neither padding nor a cache, by a mask or by none."""
    return {"token_mask": torch.ones(BATCH, length, dtype=torch.bool) if masked else None, "cache": None}


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
    memory = block_attention(block, summaries, window).memory

    def in_blocks(queries, keys, values, key_weights, value_weights):
        parameters = {"key_weights": key_weights, "value_weights": value_weights}
        return torch.func.functional_call(memory, parameters, (queries, keys, values), everything(length, masked))[0]

    def definition(queries, keys, values, key_weights, value_weights):
        return naive_blockwise_attention(queries, keys, values, key_weights, value_weights, window)

    inputs = [*random_inputs(length), memory.key_weights.detach(), memory.value_weights.detach()]
    if length <= window:
        # no summary has been read: no gradient, where the definition has a zero
        assert_equal_with_gradients(lambda *x: in_blocks(*x) + 0 * (x[3].sum() + x[4].sum()), definition, inputs)
    else:
        assert_equal_with_gradients(in_blocks, definition, inputs)


@pytest.mark.parametrize("window", [4, 8])
@pytest.mark.parametrize("masked", [True, False])
def test_with_summaries_that_are_the_tokens_blockwise_is_softmax(window, masked):
    # only if each past token is seen exactly once, as itself or in its summary
    memory = block_attention(4, 4, window).memory
    with torch.no_grad():
        memory.key_weights.copy_(torch.eye(4))
        memory.value_weights.copy_(torch.eye(4))
    inputs = random_inputs(27)
    ours, _ = memory(*inputs, **everything(27, masked))
    torch.testing.assert_close(ours, softmax_attention(*inputs), rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", [9, 12])
def test_with_a_window_over_the_whole_length_blockwise_is_softmax(length):
    ours, softmax = case_model("linformer", linformer_window=12), case_model("softmax")
    missing, unexpected = softmax.load_state_dict(ours.state_dict(), strict=False)
    assert not missing and all(".memory." in name for name in unexpected)
    tokens = random_tokens(2, length)
    mask = torch.ones_like(tokens)
    mask[0, :5] = 0
    with torch.no_grad():
        logits, expected = (model(tokens, attention_mask=mask).logits for model in (ours, softmax))
        torch.testing.assert_close(logits[mask == 1], expected[mask == 1], rtol=0, atol=1e-12)
        longer = random_tokens(2, 17)
        assert (ours(longer).logits - softmax(longer).logits)[:, 12:].abs().min() > 1e-6


# attention with bounded-memory control


def continued(queries, keys, values, log_weights, sizes: list[int], chunk: int) -> torch.Tensor:
    """`abc_attention` called for one stretch of tokens after the other."""
    state, outputs = empty_slots(keys, values, log_weights), []
    for stretch in zip(*(states.split(sizes, dim=2) for states in (queries, keys, values, log_weights)), strict=True):
        mixed, _, state = abc_attention(*stretch, state, chunk=chunk)
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
    # within one chunk, further apart than any exponential reaches
    steep = inputs[3] + 3000 * torch.arange(length)[:, None] * torch.tensor([1, -1])
    larger = steep.clone()
    larger[:, :, 7] += 1e6
    inputs[3] = steep.to(dtype)
    steep, late = (continued(*inputs[:3], log_weights.to(dtype), [length], 64) for log_weights in (steep, larger))
    assert torch.equal(steep[:, :, :7], late[:, :, :7])
    assert (steep[:, :, 7:] - late[:, :, 7:]).abs().max() > 0.1
    torch.testing.assert_close(steep, naive_abc_attention(*inputs), rtol=0, atol=1e-5)
    # each slot holds one token: the newest, and the first
    expected = [mix([q @ k[t] / 2, q @ k[0] / 2], [v[t], v[0]]) for q, k, v, t in rows_of(*inputs[:3])]
    torch.testing.assert_close(torch.stack(expected), steep.flatten(0, 2), rtol=0, atol=1e-5)


def rows_of(queries, keys, values):
    """Each query beside all keys and values of its batch row and head, and its time."""
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
    model = case_model("linformer-abc-position", max_position_embeddings=10)
    model(random_tokens(1, 10))
    with pytest.raises(ValueError, match="max_position_embeddings=10.*position 10"):
        model(random_tokens(1, 11))
    mask = torch.ones(1, 13, dtype=torch.long)
    mask[:, :3] = 0
    # padding has no position, whatever it is given
    positions = torch.tensor([[99] * 3 + list(range(10))])
    logits = model(random_tokens(1, 13), attention_mask=mask, position_ids=positions).logits
    torch.testing.assert_close(logits, model(random_tokens(1, 13), attention_mask=mask).logits, rtol=0, atol=1e-12)


# both


def test_the_cache_holds_summaries_and_the_window_only():
    model = case_model("linformer")
    cache, heads, size = DynamicCache(config=model.config), 2, 8
    for length in (9, *[1] * 16):
        model(random_tokens(2, length), past_key_values=cache)
    states = {name: tuple(state.shape[1:]) for name, state in cache.layers[0].states.items()}
    # 25 tokens are 6 blocks of 4 and one more: the window is the last of them and the open one
    assert states == {
        "count": (),
        "keys": (heads, 8, size),
        "values": (heads, 8, size),
        "summary_keys": (heads, 5, 2, size),
        "summary_values": (heads, 5, 2, size),
    }


def test_the_cache_of_abc_does_not_grow():
    model = case_model("linformer-abc")
    cache, shapes = DynamicCache(config=model.config), []
    for length in (9, 1, 30):
        model(random_tokens(2, length), past_key_values=cache)
        shapes.append({name: tuple(state.shape) for name, state in cache.layers[0].states.items()})
    assert shapes[0] == {"log_sums": (2, 2, 2), "slot_keys": (2, 2, 2, 8), "slot_values": (2, 2, 2, 8)}
    assert shapes[0] == shapes[1] == shapes[2]


@pytest.mark.parametrize(("case", "keys"), [("linformer", 3 * 2 + 8), ("linformer-abc", 2)])
def test_eager_shows_weights_that_sum_to_one(case, keys):
    model = case_model(case)
    assert model(random_tokens(2, 19), output_attentions=True).attentions[0] is None
    model.set_attn_implementation("eager")
    weights = model(random_tokens(2, 19), output_attentions=True).attentions[0]
    assert weights.shape == (2, 2, 19, keys)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 2, 19).double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", ["linformer", "linformer-abc", "linformer-abc-position"])
def test_half_precision_stays_close(case):
    model, tokens = case_model(case, torch.float32, initializer_range=0.1), random_tokens(2, 19)
    with torch.no_grad():
        expected = model(tokens).logits
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(model(tokens).logits.float(), expected, rtol=0, atol=0.1)
        half = model.bfloat16()(tokens).logits
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, rtol=0, atol=0.1)


def test_other_projections_are_those_of_softmax():
    shared = {name for name, _ in SoftmaxAttention(case_config("linformer"), 0).named_parameters()}
    kinds = {
        "linformer": {"memory.key_weights", "memory.value_weights"},
        "linformer-abc": {"memory.slot_proj.weight"},
        "linformer-abc-position": {"memory.position_weights", "q_norm.weight", "k_norm.weight"},
    }
    for case, own in kinds.items():
        names = {name for name, _ in LinformerAttention(case_config(case), 0).named_parameters()}
        assert names - shared == own - ({"q_norm.bias"} if "position" in case else set()), case
