"""Softmax attention equals torch.nn.MultiheadAttention on the same weights."""

import pytest
import torch
from builders import left_padded, random_tokens, tiny_config
from torch import nn
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from birthgpt.model.attention_softmax import SoftmaxAttention
from birthgpt.model.cross_attention import CrossAttention

BATCH, LENGTH, KEYS = 3, 7, 11


def attention_and_reference(implementation: str) -> tuple[SoftmaxAttention, nn.MultiheadAttention]:
    config = tiny_config("assignment")
    config._attn_implementation = implementation
    attention = SoftmaxAttention(config, 0).double().eval()
    reference = nn.MultiheadAttention(config.hidden_size, config.num_attention_heads, batch_first=True).double().eval()
    with torch.no_grad():
        projections = (attention.projections.q_proj, attention.projections.k_proj, attention.projections.v_proj)
        reference.in_proj_weight.copy_(torch.cat([projection.weight for projection in projections]))
        reference.in_proj_bias.copy_(torch.cat([projection.bias for projection in projections]))
        reference.out_proj.weight.copy_(attention.projections.o_proj.weight)
        reference.out_proj.bias.copy_(attention.projections.o_proj.bias)
    return attention, reference


def as_mask(allowed: torch.Tensor, implementation: str) -> torch.Tensor:
    """A boolean mask for sdpa, an additive mask for eager."""
    if implementation == "sdpa":
        return allowed
    return torch.zeros(allowed.shape, dtype=torch.float64).masked_fill(~allowed, -torch.inf)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("padded", [0, 2])
def test_causal_self_attention_with_padding(implementation, padded):
    attention, reference = attention_and_reference(implementation)
    states = torch.randn(BATCH, LENGTH, 32, dtype=torch.float64)
    blocked = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
    is_padding = torch.zeros(BATCH, LENGTH, dtype=torch.bool)
    is_padding[1, LENGTH - padded :] = padded > 0
    allowed = ~(blocked[None, None] | is_padding[:, None, None])

    ours, _ = attention(
        states,
        attention_mask=as_mask(allowed, implementation),
        position_ids=torch.arange(LENGTH)[None],
        position_embeddings=None,
    )
    # in torch, True is blocked
    theirs, _ = reference(states, states, states, attn_mask=blocked, key_padding_mask=is_padding)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("padded", [0, 4])
def test_cross_attention_with_padded_context(implementation, padded):
    attention, reference = attention_and_reference(implementation)
    states = torch.randn(BATCH, LENGTH, 32, dtype=torch.float64)
    context = torch.randn(BATCH, KEYS, 32, dtype=torch.float64)
    is_padding = torch.zeros(BATCH, KEYS, dtype=torch.bool)
    is_padding[2, KEYS - padded :] = padded > 0
    mask = as_mask((~is_padding)[:, None, None].expand(-1, 1, LENGTH, -1), implementation) if padded else None

    cross = CrossAttention(attention.config, 0).double().eval()
    cross.projections = attention.projections
    ours, normed = cross(states, context, mask), cross.norm(states)
    theirs, _ = reference(normed, context, context, key_padding_mask=is_padding)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_eager_weights_are_those_of_torch():
    attention, reference = attention_and_reference("eager")
    states, context = torch.randn(2, 4, 32, dtype=torch.float64), torch.randn(2, 5, 32, dtype=torch.float64)
    cross, shown = CrossAttention(attention.config, 0).double().eval(), []
    cross.projections = attention.projections
    cross.shown_weights.register_forward_hook(lambda module, inputs, output: shown.append(output))
    cross(states, context)
    (ours,) = shown
    _, theirs = reference(cross.norm(states), context, context, average_attn_weights=False)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_the_models_of_transformers_take_no_mask_for_a_mask_of_ones_too():
    """After a padded prompt they see the padding; ours does the same, see the contract of all types."""
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=24, **sizes)).double().eval()
    tokens, mask = left_padded([random_tokens(1, 4)[0], random_tokens(1, 6, seed=2)[0]], 6)
    found = []
    for attention_mask in (None, torch.ones(2, 7), torch.cat((mask, torch.ones(2, 1)), dim=1)):
        cache = DynamicCache(config=model.config)
        with torch.no_grad():
            model(tokens, attention_mask=mask, past_key_values=cache)
            found.append(model(tokens[:, :1], attention_mask=attention_mask, past_key_values=cache).logits)
    without, ones, padded = found
    torch.testing.assert_close(without, ones, rtol=0, atol=1e-12)
    assert (without[0] - padded[0]).abs().max() > 1e-6
