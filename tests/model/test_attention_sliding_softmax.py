"""The sliding window counts tokens, with every cache, for windows of any length."""

import pytest
import torch
from builders import case_model, random_tokens
from contract import check_decoding, check_generation
from transformers import DynamicCache, StaticCache

CHUNKS = [[16], [1] * 16, [5, 1, 1, 9], [15, 1]]


@pytest.mark.parametrize("window", [1, 2, 3, 15, 40])
@pytest.mark.parametrize("types", ["sliding_softmax", ["sliding_softmax", "softmax", "sliding_softmax"]])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_decoding_equals_the_full_forward_for_every_window(window, types, implementation):
    model = case_model("sliding_softmax", attention_type=types, sliding_window=window)
    model.set_attn_implementation(implementation)
    for chunks in CHUNKS:
        check_decoding(model, chunks, padding=3, atol=1e-10)
    check_generation(model)


def by_definition(model, tokens: torch.Tensor, window: int) -> torch.Tensor:
    """The logits of the last token of a row in a model of one layer: it sees the last `window` tokens."""
    block = model.model.layers[0]
    embedded = model.model.embed_tokens(tokens) + model.model.embed_positions(torch.arange(len(tokens)))
    normed, heads = block.attention_norm(embedded), model.config.num_attention_heads
    projections = block.attention.projections
    query = projections.q_proj(normed[-1]).unflatten(-1, (heads, -1))
    keys, values = (
        projection(normed[-window:]).unflatten(-1, (heads, -1))
        for projection in (projections.k_proj, projections.v_proj)
    )
    weights = (torch.einsum("hd,khd->hk", query, keys) / model.config.head_dim**0.5).softmax(dim=-1)
    state = embedded[-1] + projections.o_proj(torch.einsum("hk,khd->hd", weights, values).flatten())
    return model.lm_head(model.model.norm(state + block.mlp(block.mlp_norm(state))))


@pytest.mark.parametrize("window", [1, 2, 4])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_padding_inside_a_row_does_not_count(window, implementation):
    model = case_model("sliding_softmax", num_hidden_layers=1, sliding_window=window)
    model.set_attn_implementation(implementation)
    tokens, mask = random_tokens(1, 12), torch.tensor([[0, 1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 1]])
    with torch.no_grad():
        logits = model(tokens, attention_mask=mask).logits[0, -1]
        torch.testing.assert_close(logits, by_definition(model, tokens[mask.bool()], window), rtol=0, atol=1e-10)


@pytest.mark.parametrize("window", [1, 2, 40, 130])
def test_the_last_token_of_a_long_row_sees_the_window(window):
    model = case_model("sliding_softmax", num_hidden_layers=1, sliding_window=window, max_position_embeddings=300)
    tokens = random_tokens(1, 300)
    with torch.no_grad():
        logits = model(tokens).logits[0, -1]
        torch.testing.assert_close(logits, by_definition(model, tokens[0], window), rtol=0, atol=1e-10)


@pytest.mark.parametrize("cache_class", [DynamicCache, StaticCache])
def test_a_cache_that_drops_keys_counts_tokens_or_refuses(cache_class):
    model = case_model("sliding_softmax", torch.float32)
    tokens, settings = random_tokens(2, 9), {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None}

    def generate(mask, **arguments):
        return model.generate(tokens, attention_mask=torch.tensor([mask, [1] * 9]), **settings, **arguments)

    def cache():
        return cache_class(config=model.config, **{"max_cache_len": 16} if cache_class is StaticCache else {})

    # the last four entries are tokens
    far = [0, 1, 1, 1, 0, 1, 1, 1, 1]
    assert torch.equal(generate(far, past_key_values=cache()), generate(far, use_cache=False))
    with pytest.raises(ValueError, match="keeps the last 4 entries.*start with a new cache"):
        generate([0, 1, 1, 1, 1, 1, 0, 1, 1], past_key_values=cache())
