"""Canon against torch's own depthwise convolution, along branches and with a cache."""

import pytest
import torch
from builders import case_config
from torch import nn
from transformers import DynamicCache

from birthgpt.model.cache import count_tokens
from birthgpt.model.canon import Canon
from birthgpt.model.predecessors import previous_in_branch, previous_token

WIDTHS = [1, 2, 4]


def seeded_canon(width: int = 4) -> Canon:
    canon = Canon(canon_config(width), 0, "attention").double()
    torch.manual_seed(0)
    nn.init.normal_(canon.weight)
    return canon


def canon_config(width: int = 4):
    return case_config("softmax", canon_width=width)


def random_states(batch: int, length: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, 16, dtype=torch.float64, generator=generator)


def assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("length", [1, 3, 11])
def test_canon_is_a_causal_depthwise_convolution_with_a_residual(width, length):
    canon, states = seeded_canon(width), random_states(2, length)
    # conv1d computes a correlation: its last weight belongs to the token itself
    kernel = canon.weight.flip(0).T[:, None]  # (hidden_size, 1, width)
    padded = nn.functional.pad(states.transpose(1, 2), (width - 1, 0))
    convolved = nn.functional.conv1d(padded, kernel, groups=16).transpose(1, 2)
    assert_close(canon(states), states + convolved)


def test_untrained_taps_of_zero_change_nothing():
    canon, states = seeded_canon(), random_states(2, 5)
    nn.init.zeros_(canon.weight)
    assert torch.equal(canon(states), states)


def test_the_taps_start_as_those_of_a_depthwise_convolution_of_torch():
    canon = seeded_canon()
    canon.initialize_parameters()
    convolution = nn.Conv1d(16, 16, kernel_size=4, groups=16)
    assert canon.weight.abs().max() <= 0.5 and convolution.weight.abs().max() <= 0.5
    assert canon.weight.std().item() == pytest.approx(convolution.weight.std().item(), rel=0.4)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("chunks", [[1] * 9, [4, 1, 1, 3], [2, 7], [9]], ids=str)
def test_chunk_by_chunk_with_a_cache_gives_the_same(width, chunks):
    canon, states = seeded_canon(width), random_states(2, 9)
    cache = DynamicCache(config=canon_config(width))
    outputs = []
    for chunk in states.split(chunks, dim=1):
        outputs.append(canon(chunk, past_key_values=cache))
        count_tokens(cache, chunk, None)
        assert cache.layers[0].states["canon_attention"].shape == (2, width - 1, 16)
    assert_close(torch.cat(outputs, dim=1), canon(states))


def test_two_layers_of_a_block_keep_their_pasts_apart():
    cache, states = DynamicCache(config=canon_config()), random_states(1, 4)
    canons = [Canon(canon_config(), 0, name).double() for name in ("attention", "mlp")]
    for factor, canon in enumerate(canons, start=1):
        nn.init.ones_(canon.weight)
        canon(factor * states, past_key_values=cache)
    assert_close(cache.layers[0].states["canon_attention"], states[:, 1:])
    assert_close(cache.layers[0].states["canon_mlp"], 2 * states[:, 1:])


@pytest.mark.parametrize("in_chunks", [False, True])
def test_padding_on_the_left_counts_as_the_nothing_before_a_start(in_chunks):
    canon, states = seeded_canon(), random_states(1, 9)
    mask = torch.tensor([[False, False, *[True] * 7]])
    expected = canon(states[:, 2:])
    if in_chunks:
        cache = DynamicCache(config=canon_config())
        sizes = [3, 1, 5]
        parts = zip(states.split(sizes, dim=1), mask.split(sizes, dim=1), strict=True)
        outputs = [canon(part, token_mask=part_mask, past_key_values=cache) for part, part_mask in parts]
        actual = torch.cat(outputs, dim=1)
    else:
        actual = canon(states, token_mask=mask)
    assert_close(actual[:, 2:], expected)


@pytest.mark.parametrize("width", WIDTHS)
# four weights are more than the tokens of the short prefixes and branches
@pytest.mark.parametrize("prefix_length", [0, 1, 2, 5])
@pytest.mark.parametrize("branch_lengths", [[1], [4, 3], [1, 2, 6]], ids=str)
def test_along_branches_each_gives_what_prefix_and_branch_alone_give(width, prefix_length, branch_lengths):
    canon, lengths = seeded_canon(width), [prefix_length, *branch_lengths]
    prefix, *branches = random_states(2, sum(lengths)).split(lengths, dim=1)
    branch_ids = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).expand(2, -1)
    along_prefix, *along_branches = canon(torch.cat((prefix, *branches), dim=1), branch_ids=branch_ids).split(
        lengths, dim=1
    )
    assert_close(along_prefix, canon(prefix))
    for branch, outputs in zip(branches, along_branches, strict=True):
        assert_close(outputs, canon(torch.cat((prefix, branch), dim=1))[:, prefix_length:])


def test_lines_of_different_branches_and_padding_share_a_batch():
    canon, states = seeded_canon(), random_states(2, 7)
    branch_ids = torch.tensor([[0, 0, 0, 1, 1, 2, 2], [0, 1, 2, 2, 2, -1, -1]])
    outputs = canon(states, branch_ids=branch_ids, token_mask=branch_ids >= 0)
    for row, length in ((0, 7), (1, 5)):
        alone = canon(states[row : row + 1, :length], branch_ids=branch_ids[row : row + 1, :length])
        assert_close(outputs[row : row + 1, :length], alone)


def test_the_token_before_runs_along_branch_then_prefix():
    branch_ids = torch.tensor(
        [
            [0, 0, 0, 1, 1, 2, 2, -1],  # two branches after a prefix of three
            [1, 1, 2, 3, 3, 3, -1, -1],  # no prefix
            [0, 0, 0, 0, 0, 0, 0, 0],  # no branch
        ]
    )
    # two zeros, at the indices 0 and 1, are before the first token
    before = previous_in_branch(branch_ids, history=2)[:, 2:]
    assert before[0, :7].tolist() == [1, 2, 3, 4, 5, 4, 7]
    assert before[1, :6].tolist() == [1, 2, 1, 1, 5, 6]
    assert before[2].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_the_token_before_passes_over_padding():
    token_mask = torch.tensor([[0, 0, 1, 1, 0, 1]]).bool()
    # the last index is for the first token of the next call
    assert previous_token(token_mask, history=2)[0, 2:].tolist() == [1, 1, 1, 4, 5, 5, 7]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("chunks", [[8], [3, 5], [1] * 8, [6, 1, 1]], ids=str)
def test_padding_anywhere_is_passed_over(width, chunks):
    canon = seeded_canon(width)
    token_mask = torch.tensor([[0, 1, 1, 0, 0, 1, 1, 0], [1, 1, 1, 1, 1, 1, 1, 1]]).bool()
    states = random_states(2, 8)
    cache, outputs, end = DynamicCache(config=canon_config(width)), [], 0
    for size in chunks:
        rows, end = slice(end, end + size), end + size
        outputs.append(canon(states[:, rows], token_mask=token_mask[:, rows], past_key_values=cache))
        count_tokens(cache, states[:, rows], token_mask[:, rows])
    for row, outputs_of_row in zip(range(2), torch.cat(outputs, dim=1), strict=True):
        tokens = token_mask[row]
        assert_close(outputs_of_row[tokens], canon(states[row : row + 1, tokens])[0])


def test_gradients_reach_taps_and_states_alike_with_and_without_branches():
    canon, states = seeded_canon(), random_states(2, 6).requires_grad_()
    weights = random_states(2, 6, seed=2)
    plain, along = (
        torch.autograd.grad((canon(states, **settings) * weights).sum(), (states, canon.weight))
        for settings in ({}, {"branch_ids": torch.zeros(2, 6, dtype=torch.long)})
    )
    for ours, theirs in zip(plain, along, strict=True):
        assert theirs.abs().min() > 0
        assert_close(ours, theirs)
