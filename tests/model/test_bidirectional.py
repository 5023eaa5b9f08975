"""Every attention type in its bidirectional form: what all of them share, and an independent reference of each."""

import math

import pytest
import torch
from builders import (
    CASES,
    SIZES,
    case_config,
    contributed_attention,
    is_bidirectional,
    left_padded,
    random_tokens,
    seeded_encoder,
)
from torch import nn
from transformers import AutoModel
from transformers.models.big_bird import modeling_big_bird

from birthgpt import BirthGPTConfig, BirthGPTForCausalLM, BirthGPTModel
from birthgpt.model.attention import ATTENTION_TYPES
from birthgpt.model.attention_abc import bidirectional_abc_attention
from birthgpt.model.attention_bigbird import NO_BLOCK
from birthgpt.model.attention_gated_deltanet import naive_gated_delta_rule
from birthgpt.model.attention_performer import draw_projection

ENCODERS = {case: settings for case, settings in CASES.items() if is_bidirectional(case)} | {
    "linformer-headwise": {"linformer_sharing": "headwise"},
    "linformer-key-value": {"linformer_sharing": "key_value", "linformer_rank": 5},
    "bigbird-two-global": {"bigbird_global": 2, "bigbird_random": 2, "bigbird_block": 2},
    "bigbird-two-global-dense": {
        "bigbird_global": 2, "bigbird_random": 2, "bigbird_block": 2, "bigbird_implementation": "dense",
    },
}  # fmt: skip
cases = pytest.mark.parametrize("case", ENCODERS)


def encoder(case: str, dtype: torch.dtype = torch.float64, **settings) -> BirthGPTModel:
    """A seeded encoder of a case in eval mode."""
    return seeded_encoder(case_config(case, is_causal=False, **{**ENCODERS[case], **settings}), dtype)


def states_of(model, tokens, **arguments) -> torch.Tensor:
    with torch.no_grad():
        return model(tokens, **arguments).last_hidden_state


# what every type keeps


@cases
@pytest.mark.parametrize("training", [False, True])
def test_a_later_token_changes_the_states_of_earlier_ones(case, training):
    model, tokens = encoder(case).train(training), random_tokens(2, 11)
    changed = tokens.clone()
    changed[:, 8] = 2 + (changed[:, 8] - 1) % (SIZES["vocab_size"] - 2)
    difference = (states_of(model, changed) - states_of(model, tokens)).abs().amax(dim=-1)
    # every token of the window around it; through the layers, all tokens
    assert (difference > 1e-7).all()


OTHER_VALUES = {
    "linformer_block": 2, "linformer_num_slots": 3, "linformer_window": 4, "linformer_rank": 7,
    "linformer_sharing": "key_value", "performer_chunk": 2, "perceiver_kind": "cs224n",
}  # fmt: skip


@pytest.mark.parametrize("attention_type", ATTENTION_TYPES)
def test_settings_of_the_other_form_change_nothing(attention_type):
    kind, tokens = ATTENTION_TYPES[attention_type], random_tokens(2, 40)
    for names, is_causal in ((kind.causal_settings, False), (kind.bidirectional_settings, True)):
        config = {"is_causal": is_causal}
        for name in names:
            others = [
                seeded_encoder(case_config(attention_type, **config, **changed))
                for changed in ({}, {name: OTHER_VALUES[name]})
            ]
            one, other = (states_of(model, tokens) for model in others)
            assert torch.equal(one, other), name


@cases
@pytest.mark.parametrize("length", [1, 9, 13])
def test_padding_on_either_side_changes_no_state_of_a_token(case, length):
    model, tokens = encoder(case), random_tokens(1, length)
    alone = states_of(model, tokens)
    for left, right in ((5, 0), (0, 5), (3, 4), (60, 0), (0, 70)):
        padded = nn.functional.pad(tokens, (left, right))
        mask = nn.functional.pad(torch.ones_like(tokens), (left, right))
        states = states_of(model, padded, attention_mask=mask)
        torch.testing.assert_close(states[:, left : left + length], alone, rtol=0, atol=1e-10)
        assert states.isfinite().all()


@cases
def test_padding_between_tokens_changes_no_state_of_a_token(case):
    model, tokens = encoder(case), random_tokens(2, 14)
    mask = torch.tensor([[0, 1, 1, 0, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0], [1] * 14])
    states = states_of(model, tokens, attention_mask=mask)
    for row, its_mask, its_states in zip(tokens, mask.bool(), states, strict=True):
        torch.testing.assert_close(its_states[its_mask], states_of(model, row[its_mask][None])[0], rtol=0, atol=1e-10)


@cases
def test_rows_of_unequal_length_are_what_they_are_alone(case):
    model, rows = encoder(case), [random_tokens(1, size, seed=size)[0] for size in (4, 19, 30)]
    tokens, mask = left_padded(rows, 30)
    for row, states in zip(rows, states_of(model, tokens, attention_mask=mask), strict=True):
        torch.testing.assert_close(states[-len(row) :], states_of(model, row[None])[0], rtol=0, atol=1e-10)


@cases
def test_every_weight_is_trained_and_saved(case, tmp_path):
    model, tokens = encoder(case, torch.float32), random_tokens(2, 64)
    model(tokens).last_hidden_state.square().sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert not loaded.config.is_causal
    assert torch.equal(states_of(loaded, tokens), states_of(model, tokens))


@cases
def test_the_forms_with_other_lengths_and_devices_agree(case):
    # the meta device has no values, and half precision has few digits
    model, tokens = encoder(case, torch.float32, initializer_range=0.05), random_tokens(2, 18)
    states = states_of(model, tokens)
    halves = states_of(model.bfloat16(), tokens)
    assert (halves.float() - states).abs().max() < 0.1 * states.abs().max()
    with torch.device("meta"):
        assert BirthGPTModel(model.config)(tokens.to("meta")).last_hidden_state.shape == states.shape


@cases
def test_weights_of_a_row_sum_to_one_and_ignore_padding(case):
    model = encoder(case, attn_implementation="eager")
    tokens, mask = left_padded([random_tokens(1, 9)[0], random_tokens(1, 6, seed=3)[0]], 9)
    with torch.no_grad():
        outputs = model(tokens, attention_mask=mask, output_attentions=True)
    for weights in outputs.attentions:
        if weights is not None:
            torch.testing.assert_close(weights.sum(dim=-1), torch.ones_like(weights[..., 0]), rtol=0, atol=1e-8)


@cases
@pytest.mark.parametrize("name", ["hidden_dropout", "attention_dropout"])
def test_dropout_acts_in_training_alone(case, name):
    model, tokens = encoder(case, **{name: 0.5}), random_tokens(2, 9)
    assert torch.equal(states_of(model, tokens), states_of(model, tokens))
    has_weights = set(model.config.attention_types) != {"gated_deltanet"}
    differs = not torch.equal(states_of(model.train(), tokens), states_of(model, tokens))
    assert differs == (name == "hidden_dropout" or has_weights)


# what is refused


def test_a_language_model_must_be_causal():
    with pytest.raises(ValueError, match="is_causal=False: a language model must be causal"):
        BirthGPTForCausalLM(case_config("softmax", is_causal=False))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"use_cache": True}, "has no cache"),
        ({"branch_ids": torch.zeros(2, 8, dtype=torch.long)}, "cannot separate branches"),
        ({"position_ids": torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3]])}, "cannot separate sequences in one row"),
    ],
)
def test_what_only_a_causal_model_has_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        encoder("softmax")(random_tokens(2, 8), **arguments)
    assert encoder("softmax")(random_tokens(2, 8)).past_key_values is None


def test_a_type_without_a_bidirectional_form_is_refused():
    with contributed_attention(), pytest.raises(ValueError, match="'mean' has no bidirectional form"):
        case_config("mean", is_causal=False)


def test_linformer_refuses_a_text_longer_than_its_projection():
    model = encoder("linformer-rotary")
    with pytest.raises(ValueError, match="a sequence of 65 tokens does not fit max_position_embeddings=64"):
        model(random_tokens(2, 65))


# references


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_softmax_equals_the_encoder_of_torch(implementation):
    model = encoder("softmax", attn_implementation=implementation)
    layer = nn.TransformerEncoderLayer(16, 2, 64, 0.0, "gelu", batch_first=True, norm_first=True, dtype=torch.float64)
    reference = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).eval()
    for theirs, ours in zip(reference.layers, model.layers, strict=True):
        copy_softmax(theirs.self_attn, ours.attention.projections)
        pairs = [(theirs.norm1, ours.attention_norm), (theirs.norm2, ours.mlp_norm)]
        pairs += [(theirs.linear1, ours.mlp.up_proj), (theirs.linear2, ours.mlp.down_proj)]
        for target, source in pairs:
            target.load_state_dict(source.state_dict())
    tokens, mask = left_padded([random_tokens(1, 12)[0], random_tokens(1, 7, seed=4)[0]], 12)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    with torch.no_grad():
        embedded = model.embed_tokens(tokens) + model.embed_positions(positions)
        expected = model.norm(reference(embedded, src_key_padding_mask=mask == 0))
    ours = states_of(model, tokens, attention_mask=mask)
    torch.testing.assert_close(ours[mask == 1], expected[mask == 1], rtol=0, atol=1e-10)


def copy_softmax(theirs: nn.MultiheadAttention, ours: nn.Module) -> None:
    """Give an attention of torch the weights of ours."""
    parts = (ours.q_proj, ours.k_proj, ours.v_proj)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    theirs.out_proj.load_state_dict(ours.o_proj.state_dict())


def attention_of(case: str, **settings) -> nn.Module:
    """The attention of the first layer."""
    return encoder(case, **settings).layers[0].attention


def run_attention(attention: nn.Module, states: torch.Tensor, token_mask: torch.Tensor | None = None) -> torch.Tensor:
    """The mixed states of a type that takes no mask."""
    positions = torch.arange(states.shape[1])[None]
    with torch.no_grad():
        return attention(
            states, attention_mask=None, position_ids=positions, position_embeddings=None, token_mask=token_mask
        )[0]


def dense_softmax(queries, keys, values, visible) -> torch.Tensor:
    """softmax(QKᵀ/√d_head + M)V, written out."""
    scores = queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])
    return scores.masked_fill(~visible, -torch.inf).softmax(dim=-1) @ values


@pytest.mark.parametrize("window", [1, 3, 5, 100])
def test_a_sliding_window_extends_to_both_sides(window):
    model, tokens = encoder("sliding_softmax", sliding_window=window, num_hidden_layers=1), random_tokens(2, 13)
    layer, steps = model.layers[0], torch.arange(13)
    visible = (steps - steps[:, None]).abs() < window
    with torch.no_grad():
        states = model.embed_tokens(tokens) + model.embed_positions(steps)
        queries, keys, values = layer.attention.projections(layer.attention_norm(states), None)
        mixed = dense_softmax(queries, keys, values, visible).transpose(1, 2)
        states = states + layer.attention.projections.output(mixed)
        expected = model.norm(states + layer.mlp(layer.mlp_norm(states)))
    torch.testing.assert_close(states_of(model, tokens), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", ["synthesizer-random", "synthesizer-factorized-random", "synthesizer-fixed-random"])
def test_random_synthesizer_is_a_matrix_of_weights(case):
    attention, states = attention_of(case), torch.randn(2, 9, 16, dtype=torch.float64)
    scores = attention.synthesizer
    matrix = scores.weight if hasattr(scores, "weight") else scores.row_factor.mT @ scores.column_factor
    values = attention.v_proj(states).view(2, 9, 2, 8)
    mixed = torch.einsum("hts,bshd->bthd", matrix[:, :9, :9].softmax(dim=-1), values)
    everything = torch.ones(1, 1, 9, 9, dtype=torch.bool)
    ours, _ = attention(states, attention_mask=everything, position_ids=torch.arange(9)[None], position_embeddings=None)
    torch.testing.assert_close(ours, attention.o_proj(mixed.flatten(-2)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", [5, 64])
@pytest.mark.parametrize("shares", [False, True])
def test_linformer_equals_the_published_package(length, shares):
    package = pytest.importorskip("linformer")
    sharing = "key_value" if shares else "headwise"
    attention = (
        attention_of("linformer-headwise", linformer_rank=7, attention_bias=False)
        if not shares
        else (attention_of("linformer-key-value", attention_bias=False))
    )
    assert attention.layer_config.linformer_sharing == sharing
    rank = attention.key_weights.shape[1]
    reference = package.LinformerSelfAttention(16, seq_len=64, k=rank, heads=2).double()
    value_weights = attention.key_weights if shares else attention.value_weights
    with torch.no_grad():
        reference.proj_k.copy_(attention.key_weights[0].T)
        reference.proj_v.copy_(value_weights[0].T)
        reference.to_out.bias.zero_()
        for name in "qkv":
            source = getattr(attention.projections, f"{name}_proj")
            getattr(reference, f"to_{name}").load_state_dict(source.state_dict())
        reference.to_out.weight.copy_(attention.projections.o_proj.weight)
        states = torch.randn(2, length, 16, dtype=torch.float64)
        torch.testing.assert_close(run_attention(attention, states), reference(states), rtol=0, atol=1e-10)


def test_each_head_of_linformer_has_its_own_projection_unless_they_are_shared():
    shapes = {case: tuple(attention_of(case).key_weights.shape) for case in ("linformer", "linformer-headwise")}
    assert shapes == {"linformer": (2, 32, 64), "linformer-headwise": (1, 32, 64)}
    assert attention_of("linformer-key-value").value_weights is None


@pytest.mark.parametrize("kind", ["positive", "relu", "trigonometric"])
@pytest.mark.parametrize("length", [12, 300])
def test_performer_equals_the_formula_without_prefix_sums(kind, length):
    settings = {"performer_kind": kind, "max_position_embeddings": 320, "initializer_range": 0.1}
    attention, states = attention_of("performer", **settings), torch.randn(2, length, 16, dtype=torch.float64)
    queries, keys, values = attention.projections(states, None)
    projection = attention.projection

    def features(x):
        x = x * 8**-0.25
        projected = x @ projection.mT
        if kind == "positive":
            return (projected - x.square().sum(dim=-1, keepdim=True) / 2).exp()
        if kind == "relu":
            return projected.relu() + 1e-3
        return (x.square().sum(dim=-1, keepdim=True) / 2).exp() * torch.cat((projected.cos(), projected.sin()), dim=-1)

    phi_q, phi_k = features(queries), features(keys)
    mixed = phi_q @ (phi_k.mT @ values) / (phi_q @ phi_k.sum(dim=2)[..., None])
    expected = attention.projections.output(mixed.transpose(1, 2))
    torch.testing.assert_close(run_attention(attention, states), expected, rtol=0, atol=1e-10)


def test_performer_equals_the_published_package():
    package = pytest.importorskip("performer_pytorch.performer_pytorch")
    attention, states = attention_of("performer", performer_features=24), torch.randn(2, 12, 16, dtype=torch.float64)
    with torch.no_grad():
        attention.projection.copy_(draw_projection(1, 24, 8, orthogonal=True).double())
        queries, keys, values = attention.projections(states, None)

        def features(x, is_query):
            return package.softmax_kernel(x, projection_matrix=attention.projection[0], is_query=is_query, eps=0.0)

        mixed = package.linear_attention(features(queries, True), features(keys, False), values)
        expected = attention.projections.output(mixed.transpose(1, 2))
    # the package adds 1e-6 to nothing but the features
    torch.testing.assert_close(run_attention(attention, states), expected, rtol=0, atol=1e-8)


def test_abc_slots_are_means_over_all_tokens():
    shapes = [(2, 3, 7, 4)] * 3 + [(2, 3, 7, 5)]
    queries, keys, values, log_weights = (torch.randn(shape, dtype=torch.float64) for shape in shapes)
    shares = log_weights.exp() / log_weights.exp().sum(dim=2, keepdim=True)
    slot_keys, slot_values = (torch.einsum("bhjs,bhjd->bhsd", shares, states) for states in (keys, values))
    expected = dense_softmax(queries, slot_keys, slot_values, torch.tensor(True))
    mixed, _ = bidirectional_abc_attention(queries, keys, values, log_weights)
    torch.testing.assert_close(mixed, expected, rtol=0, atol=1e-12)


def test_gated_deltanet_is_the_mean_of_both_directions():
    attention, states = attention_of("gated_deltanet"), torch.randn(2, 11, 16, dtype=torch.float64)
    with torch.no_grad():
        inputs = [*attention.queries_keys_and_values(states), *attention.decay_and_beta(states, None)]
        forwards, _ = naive_gated_delta_rule(*inputs)
        backwards, _ = naive_gated_delta_rule(*(each.flip(2) for each in inputs))
        mixed = attention.o_norm((forwards + backwards.flip(2)) / 2)
        gates = nn.functional.silu(attention.g_proj(states).view(2, 11, 2, 8).transpose(1, 2))
        expected = attention.o_proj((mixed * gates).transpose(1, 2).flatten(-2))
    torch.testing.assert_close(run_attention(attention, states), expected, rtol=0, atol=1e-12)


def test_perceiver_equals_cross_and_self_attention_of_torch():
    model, tokens = encoder("perceiver"), random_tokens(2, 10)

    def attend(attention, queries, context):
        reference = nn.MultiheadAttention(16, 2, batch_first=True, dtype=torch.float64)
        copy_softmax(reference, attention.projections)
        return reference(queries, context, context, need_weights=False)[0]

    first, middle, last = model.layers
    with torch.no_grad():
        x = model.embed_tokens(tokens) + model.embed_positions(torch.arange(10))
        y = first.attention.basis.weight.expand(2, -1, -1)
        y = y + attend(first.attention, first.attention.attention_norm(y), first.attention.context_norm(x))
        y = y + first.mlp(first.mlp_norm(y))
        y = y + attend(middle.attention, middle.attention.attention_norm(y), middle.attention.attention_norm(y))
        y = y + middle.mlp(middle.mlp_norm(y))
        x = x + attend(last.attention, last.attention.attention_norm(x), last.attention.context_norm(y))
        expected = model.norm(x + last.mlp(last.mlp_norm(x)))
    assert y.shape[1] == 16
    torch.testing.assert_close(states_of(model, tokens), expected, rtol=0, atol=1e-10)


# BigBird


def pattern_of(attention: nn.Module, blocks: int) -> torch.Tensor:
    """Which block sees which, (heads, blocks, blocks), block by block from the definition."""
    first, window = attention.global_blocks, attention.window
    sees = torch.zeros(len(attention.random_blocks), blocks, blocks, dtype=torch.bool)
    for head, drawn_of_head in enumerate(attention.random_blocks.tolist()):
        for block in range(blocks):
            for other in range(blocks):
                is_global, is_near = min(block, other) < first, abs(block - other) < window
                sees[head, block, other] = is_global or is_near or other in drawn_of_head[block]
    return sees


@pytest.mark.parametrize("length", [3, 16, 27, 64])
@pytest.mark.parametrize("implementation", ["gathered", "dense"])
def test_bigbird_is_softmax_under_its_pattern(length, implementation):
    attention = attention_of("bigbird", bigbird_random=2, bigbird_implementation=implementation)
    states = torch.randn(2, length, 16, dtype=torch.float64)
    blocks = -(-length // 4)
    visible = pattern_of(attention, blocks).repeat_interleave(4, 1).repeat_interleave(4, 2)[:, :length, :length]
    queries, keys, values = attention.projections(states, None)
    expected = attention.projections.output(dense_softmax(queries, keys, values, visible).transpose(1, 2))
    torch.testing.assert_close(run_attention(attention, states), expected, rtol=0, atol=1e-12)


def test_bigbird_draws_blocks_on_both_sides_that_it_would_not_see_otherwise():
    drawn = attention_of("bigbird", bigbird_random=3).random_blocks
    older, newer = (drawn - torch.arange(16)[:, None]).masked_fill(drawn == NO_BLOCK, 0).aminmax()
    assert older < -1 and newer > 1
    for blocks in drawn:
        for block, others in enumerate(blocks.tolist()):
            assert len(set(others)) == 3 and all(0 < other < 16 and abs(other - block) > 1 for other in others)


def test_bigbird_equals_the_block_sparse_attention_of_transformers():
    # in transformers, the first and the last block are global: here the last is one of the random blocks of each block
    length, block, blocks = 64, 4, 16
    config = modeling_big_bird.BigBirdConfig(
        hidden_size=16, num_attention_heads=2, num_random_blocks=2, block_size=block, max_position_embeddings=64,
        attention_type="block_sparse",
    )  # fmt: skip
    # it draws random blocks in training only; in evaluation it counts the first block several times
    theirs = modeling_big_bird.BigBirdBlockSparseAttention(config, seed=3).double().train()
    attention = attention_of("bigbird", bigbird_block=block, bigbird_random=blocks)
    with torch.no_grad():
        for name, ours in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
            getattr(theirs, name).load_state_dict(getattr(attention.projections, ours).state_dict())
    states, mask = torch.randn(2, length, 16, dtype=torch.float64), torch.ones(2, length, dtype=torch.float64)
    blocked_mask, *masks = modeling_big_bird.BigBirdModel.create_masks_for_block_sparse_attn(mask, block)
    with torch.no_grad():
        mixed, weights = theirs(states, *masks, blocked_mask, blocked_mask)
    # what each block sees, read from its weights
    sees = weights[0].unflatten(1, (blocks, block)).unflatten(3, (blocks, block)).abs().amax(dim=(2, 4)) > 0
    attention.random_blocks.fill_(NO_BLOCK)
    for head in range(2):
        for row in range(blocks):
            others = [other for other in range(1, blocks) if sees[head, row, other] and abs(other - row) > 1]
            attention.random_blocks[head, row, : len(others)] = torch.tensor(others, dtype=torch.long)
    assert sees[:, 2:-2].sum(dim=-1).eq(7).all() and sees[:, -1].all()
    expected = attention.projections.o_proj(mixed)
    torch.testing.assert_close(run_attention(attention, states), expected, rtol=0, atol=1e-10)


def test_the_settings_of_both_forms_are_in_one_configuration():
    config = BirthGPTConfig(is_causal=False)
    assert not BirthGPTConfig.from_dict(config.to_dict()).is_causal and BirthGPTConfig().is_causal
