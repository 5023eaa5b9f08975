"""Masks of branches are the same for every attention implementation."""

import pytest
import torch
from builders import case_config
from torch.nn.attention.flex_attention import create_mask

from birthgpt.model import masks


@pytest.mark.parametrize("kind", ["full", "sliding"])
def test_flex_attention_is_told_of_branches_what_sdpa_sees(kind, monkeypatch):
    branch_ids = torch.tensor([[0] * 6 + [1] * 5 + [2] * 4, [0] * 3 + [1] * 2 + [2] * 7 + [-1] * 3])
    positions = torch.tensor([[*range(11), *range(6, 10)], [*range(5), *range(3, 10), 0, 0, 0]])
    arguments = {
        "config": case_config("sliding_softmax"),
        "inputs_embeds": torch.zeros(2, 15, 16),
        "attention_mask": None,
        "position_ids": positions,
        "past_key_values": None,
        "branch_ids": branch_ids,
    }
    arguments["config"]._attn_implementation = "sdpa"
    expected = masks.build_mask(kind, **arguments)
    arguments["config"]._attn_implementation = "flex_attention"
    told = {}
    monkeypatch.setattr(masks, "create_causal_mask", lambda **settings: told.update(settings))
    masks.build_mask(kind, **arguments)
    # transformers would take positions that restart for packed sequences
    assert told["position_ids"] is None
    causal = torch.ones(15, 15, dtype=torch.bool).tril()
    seen = create_mask(told["and_mask_function"], 2, 1, 15, 15, device="cpu") & causal
    is_token = branch_ids >= 0
    assert torch.equal(seen[:, 0][is_token], expected[:, 0][is_token])
