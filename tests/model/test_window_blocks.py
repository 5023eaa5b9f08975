"""A sliding window in blocks sees what the mask of all pairs shows, and its cost is linear."""

import pytest
import torch
from builders import case_config, case_model, random_tokens, seeded_encoder
from contract import check_decoding, check_generation
from transformers import DynamicCache

from birthgpt.model import masks, window_blocks

WINDOWS = pytest.mark.parametrize("window", [1, 2, 3, 5, 9])


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of two or more tokens, for short rows too; a test fails where no mask is in blocks."""
    made = []

    def recorded(*args, **kwargs):
        made.append(window_blocks.window_blocks(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(window_blocks, "SMALLEST_BLOCK", 2)
    monkeypatch.setattr(masks, "window_blocks", recorded)
    yield
    assert made


def outputs_and_gradients(model, implementation: str, is_token: torch.Tensor, **inputs) -> list[torch.Tensor]:
    """The states or logits of the tokens, and the gradients of all weights."""
    model.set_attn_implementation(implementation)
    model.zero_grad()
    output = model(**inputs, use_cache=False)[0][is_token]
    (output * torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)).sum().backward()
    return [output.detach(), *(weight.grad.clone() for weight in model.parameters() if weight.grad is not None)]


def assert_blocks_equal_all_pairs(model, is_token: torch.Tensor, **inputs) -> None:
    blocks, all_pairs = (outputs_and_gradients(model, name, is_token, **inputs) for name in ("sdpa", "eager"))
    for ours, theirs in zip(blocks, all_pairs, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def padded_rows(length: int) -> torch.Tensor:
    """Masks of rows with padding on the left, on the right, on both sides, and without."""
    indices = torch.arange(length)
    return torch.stack([indices > 3, indices < length - 4, (indices > 1) & (indices < length - 5), indices >= 0])


@WINDOWS
@pytest.mark.parametrize("length", [15, 16, 37])
@pytest.mark.parametrize("padded", [False, True])
def test_values_and_gradients_equal_those_of_all_pairs(window, length, padded):
    mask = padded_rows(length) if padded else torch.ones(2, length, dtype=torch.bool)
    inputs = {"attention_mask": mask.long()} if padded else {}
    model = case_model("sliding_softmax", sliding_window=window)
    assert_blocks_equal_all_pairs(model, mask, input_ids=random_tokens(len(mask), length), **inputs)


@WINDOWS
@pytest.mark.parametrize("padded", [False, True])
def test_both_sides_equal_those_of_all_pairs(window, padded):
    mask = padded_rows(37) if padded else torch.ones(2, 37, dtype=torch.bool)
    inputs = {"attention_mask": mask.long()} if padded else {}
    encoder = seeded_encoder(case_config("sliding_softmax", sliding_window=window, is_causal=False))
    assert_blocks_equal_all_pairs(encoder, mask, input_ids=random_tokens(len(mask), 37), **inputs)


@WINDOWS
@pytest.mark.parametrize("case", ["sliding_softmax", "sliding_softmax-rotary"])
def test_branches_equal_those_of_all_pairs(window, case):
    # the second prefix is shorter than most windows; gaps between positions are positions that nobody has
    branches = torch.tensor(
        [
            [0] * 14 + [1] * 9 + [2] * 7 + [3] * 4,
            [-1] * 2 + [0] * 2 + [1] * 12 + [3] * 11 + [-1] * 7,
            [0] * 30 + [-1] * 4,
        ]
    )
    positions = torch.zeros_like(branches)
    for row, ids in enumerate(branches):
        prefix = int((ids == 0).sum())
        for branch in ids.unique():
            count = int((ids == branch).sum())
            positions[row, ids == branch] = torch.arange(count) + (prefix if branch > 0 else 0)
    positions[0, 20:23] += 2
    model = case_model(case, sliding_window=window)
    tokens = random_tokens(3, branches.shape[1])
    assert_blocks_equal_all_pairs(model, branches >= 0, input_ids=tokens, branch_ids=branches, position_ids=positions)


@WINDOWS
def test_packed_sequences_equal_those_of_all_pairs(window):
    positions = torch.cat([torch.arange(11), torch.arange(3), torch.arange(2, 16)])[None]
    model = case_model("sliding_softmax", sliding_window=window)
    tokens = random_tokens(2, positions.shape[1])
    assert_blocks_equal_all_pairs(
        model, torch.ones_like(tokens, dtype=torch.bool), input_ids=tokens, position_ids=positions
    )


@WINDOWS
@pytest.mark.parametrize("types", ["sliding_softmax", ["sliding_softmax", "softmax", "sliding_softmax"]])
def test_long_chunks_after_a_cache_equal_the_whole(window, types):
    model = case_model("sliding_softmax", attention_type=types, sliding_window=window)
    for chunks in ([40], [3, 21, 16], [20, 1, 19]):
        check_decoding(model, chunks, padding=4, atol=1e-10)
    check_generation(model)


def test_a_cache_that_records_its_past_can_take_tokens_back():
    model, tokens = case_model("sliding_softmax", sliding_window=3), random_tokens(1, 40)
    cache = DynamicCache(config=model.config)
    cache.activate_past_recording()
    model(tokens[:, :20], past_key_values=cache)
    cache.crop(-8)
    after = model(tokens[:, 12:], past_key_values=cache).logits
    torch.testing.assert_close(after, model(tokens, use_cache=False).logits[:, 12:], rtol=0, atol=1e-10)


def test_dropout_takes_weights_away_in_training():
    model = case_model("sliding_softmax", attention_dropout=0.5).train()
    tokens = random_tokens(1, 40)
    torch.manual_seed(0)
    first = model(tokens).logits
    assert not torch.equal(first, model(tokens).logits)
    torch.manual_seed(0)
    assert torch.equal(first, model(tokens).logits)


def test_branches_that_are_no_runs_have_a_mask_of_all_pairs():
    model = case_model("sliding_softmax", sliding_window=3)
    branches = torch.tensor([[0, 0] + [1, 2] * 15])
    positions = torch.tensor([[0, 1] + [place for place in range(2, 17) for _ in range(2)]])
    arguments = {"input_ids": random_tokens(1, 32), "branch_ids": branches, "position_ids": positions}
    results = []
    for implementation in ("sdpa", "eager"):
        model.set_attn_implementation(implementation)
        results.append(model(**arguments).logits)
    torch.testing.assert_close(*results, rtol=0, atol=1e-10)
    # the fixture wants a mask in blocks
    model.set_attn_implementation("sdpa")
    model(random_tokens(1, 32))


def test_scores_and_masks_grow_with_the_length_and_not_with_its_square(monkeypatch):
    attention, counts = torch.nn.functional.scaled_dot_product_attention, {}

    def counted(queries, keys, values, mask, **kwargs):
        counts[length] = counts.get(length, 0) + queries[..., 0].numel() * keys.shape[2]
        assert mask.numel() < 8 * 5 * length
        return attention(queries, keys, values, mask, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    model = case_model("sliding_softmax", max_position_embeddings=2048, sliding_window=5)
    for length in (256, 2048):
        model(random_tokens(1, length), use_cache=False)
    assert 0 < counts[2048] <= 8 * counts[256]
