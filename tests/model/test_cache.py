"""Caches grow by doubling, and are what concatenation gives, whatever happens to them between calls."""

import copy

import pytest
import torch
from builders import case_model, random_tokens
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from birthgpt.model.cache import GrowingBuffer, GrowingLayer

GROWING = ["softmax", "softmax-canon", "synthesizer-plus", "bigbird", "bigbird-dense"]


def decode(model, tokens: torch.Tensor, cache) -> torch.Tensor:
    """The logits of (batch, length) tokens, one call a token."""
    return torch.cat([model(token, past_key_values=cache).logits for token in tokens.split(1, dim=1)], dim=1)


def addresses(cache) -> dict[str, int]:
    """Where the buffers of keys and values are."""
    return {
        f"{index} {name}": buffer.storage.data_ptr()
        for index, layer in enumerate(cache.layers)
        for name, buffer in layer.buffers.items()
        if name.endswith(("keys", "values"))
    }


@pytest.mark.parametrize("dim", [-2, -1, 1])
def test_a_buffer_returns_what_concatenation_returns(dim):
    buffer, generator, kept, expected = GrowingBuffer(), torch.Generator().manual_seed(0), None, None
    with torch.no_grad():
        for size in (3, 1, 1, 4, 1, 17, 0, 1):
            shape = [2, 3, 4]
            shape[dim] = size
            new = torch.randn(shape, generator=generator)
            expected = new if kept is None else torch.cat((expected, new), dim=dim)
            kept = new if kept is None else buffer.append(kept, new, dim)
            assert torch.equal(kept, expected)
        wider = buffer.append(kept, torch.ones_like(kept, dtype=torch.float64), dim)
        assert torch.equal(wider, torch.cat((kept, torch.ones_like(kept, dtype=torch.float64)), dim=dim))


def test_appends_copy_as_much_as_they_append():
    buffer, kept, storages = GrowingBuffer(), torch.zeros(1, 1), set()
    with torch.no_grad():
        for _ in range(1000):
            kept = buffer.append(kept, torch.ones(1, 1), dim=1)
            storages.add(buffer.storage.data_ptr())
    assert kept.shape == (1, 1001) and buffer.storage.shape[1] < 2 * 1001 + 2
    # 5, 11, 23, … entries
    assert len(storages) <= 9


def test_what_was_returned_never_changes():
    buffer = GrowingBuffer()
    with torch.no_grad():
        first = buffer.append(torch.zeros(1, 2), torch.ones(1, 2), dim=1)
        longer = buffer.append(first, torch.full((1, 2), 2.0), dim=1)
        other = buffer.append(first, torch.full((1, 2), 3.0), dim=1)
        cropped = buffer.append(other[:, :4], torch.full((1, 2), 4.0), dim=1)
    assert longer.tolist() == [[0, 0, 1, 1, 2, 2]]
    assert other.tolist() == [[0, 0, 1, 1, 3, 3]]
    assert cropped.tolist() == [[0, 0, 1, 1, 4, 4]]


@pytest.mark.parametrize("case", GROWING)
@torch.no_grad()
def test_most_tokens_copy_no_cache(case):
    model = case_model(case)
    cache, tokens = DynamicCache(config=model.config), random_tokens(2, 40)
    model(tokens[:, :20], past_key_values=cache)
    model(tokens[:, 20:21], past_key_values=cache)
    before = addresses(cache)
    decode(model, tokens[:, 21:39], cache)
    assert before and before == addresses(cache)


@pytest.mark.parametrize("case", GROWING)
@pytest.mark.parametrize(
    "change",
    [
        lambda cache: cache.reorder_cache(torch.tensor([1, 1, 0])),
        lambda cache: cache.batch_select_indices(torch.tensor([2, 0])),
        lambda cache: cache.batch_repeat_interleave(2),
    ],
    ids=["beams", "selected", "repeated"],
)
@torch.no_grad()
def test_sequences_that_are_reordered_continue_as_themselves(case, change):
    model, rows = case_model(case), torch.arange(3)
    cache, tokens = DynamicCache(config=model.config), random_tokens(3, 24)
    model(tokens[:, :10], past_key_values=cache)
    decode(model, tokens[:, 10:14], cache)
    change(cache)
    kept = DynamicCache()
    kept.update(rows[:, None, None, None].double(), rows[:, None, None, None].double(), 0)
    change(kept)
    chosen = tokens[kept.layers[0].keys.flatten().long()]
    logits = decode(model, chosen[:, 14:], cache)
    torch.testing.assert_close(logits, model(chosen, use_cache=False).logits[:, 14:], rtol=0, atol=1e-10)


@pytest.mark.parametrize("case", GROWING)
@torch.no_grad()
def test_a_copy_and_its_original_continue_apart(case):
    if case.endswith("canon"):
        pytest.skip("a window of the last tokens cannot be cropped")
    model, tokens = case_model(case), random_tokens(1, 30)
    cache = DynamicCache(config=model.config)
    model(tokens[:, :12], past_key_values=cache)
    decode(model, tokens[:, 12:16], cache)
    branches = {"copy": copy.deepcopy(cache), "original": cache}
    # the original forgets tokens that the copy keeps, and both continue
    cache.crop(-3)
    texts = {"copy": tokens, "original": torch.cat((tokens[:, :13], random_tokens(1, 17, seed=5)), dim=1)}
    for name, start in (("original", 13), ("copy", 16)):
        logits = decode(model, texts[name][:, start:], branches[name])
        whole = model(texts[name], use_cache=False).logits[:, start:]
        torch.testing.assert_close(logits, whole, rtol=0, atol=1e-10)


@pytest.mark.parametrize("case", GROWING)
def test_gradients_pass_through_a_cache(case):
    model, tokens = case_model(case), random_tokens(1, 12)
    cache, results = DynamicCache(config=model.config), []
    for logits in (decode(model, tokens, cache), model(tokens, use_cache=False).logits):
        model.zero_grad()
        logits.square().sum().backward()
        results.append([weight.grad.clone() for weight in model.parameters() if weight.grad is not None])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("case", GROWING)
def test_a_cache_of_inference_mode_continues_outside_it(case):
    model, tokens = case_model(case), random_tokens(1, 20)
    cache = DynamicCache(config=model.config)
    with torch.inference_mode():
        decode(model, tokens[:, :8], cache)
    with torch.no_grad():
        logits = decode(model, tokens[:, 8:], cache)
    torch.testing.assert_close(logits, model(tokens, use_cache=False).logits[:, 8:].detach(), rtol=0, atol=1e-10)


@torch.no_grad()
def test_caches_that_users_make_grow_too():
    model, tokens = case_model("softmax"), random_tokens(1, 20)
    filled = model(tokens[:, :8], use_cache=True).past_key_values
    given = DynamicCache([(layer.keys, layer.values) for layer in filled.layers])
    assert type(given.layers[0]) is DynamicLayer
    without_config = DynamicCache()
    model(tokens[:, :8], past_key_values=without_config)
    whole = model(tokens, use_cache=False).logits[:, 8:]
    for cache in (filled, given, without_config):
        torch.testing.assert_close(decode(model, tokens[:, 8:], cache), whole, rtol=0, atol=1e-10)
        assert all(type(layer) is GrowingLayer for layer in cache.layers)


@torch.no_grad()
def test_bigbird_reads_its_blocks_alone(monkeypatch):
    model, tokens, read = case_model("bigbird"), random_tokens(1, 60), []
    cache = DynamicCache(config=model.config)
    decode(model, tokens[:, :59], cache)
    attention = torch.nn.functional.scaled_dot_product_attention

    def counted(queries, keys, *args, **kwargs):
        read.append(keys.shape[2])
        return attention(queries, keys, *args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    decode(model, tokens[:, 59:], cache)
    # one global, two near and one random block of four tokens
    assert read and max(read) <= 16
