"""Synthesizer attention equals the paper's equations, written as loops over heads, tokens and keys."""

import pytest
import torch
from builders import left_padded, random_tokens, tiny_config, tiny_model
from contract import check_decoding
from transformers import DynamicCache

from birthgpt import BirthGPTForCausalLM
from birthgpt.model import attention_synthesizer
from birthgpt.model.attention_synthesizer import HeadwiseLinear, SynthesizerAttention, SynthesizerConfig
from birthgpt.model.layers import RotaryEmbedding
from birthgpt.model.masks import boolean_mask
from birthgpt.model.settings import choices_of, settings_of

HEADS, WIDTH, HEAD_WIDTH, LENGTH_LIMIT, LENGTH = 2, 32, 16, 10, 7
CHOICES = {entry.name: choices_of(entry) for entry in settings_of(SynthesizerConfig)}
kinds = pytest.mark.parametrize("kind", CHOICES["synthesizer_kind"])
mixtures = pytest.mark.parametrize("mixture", CHOICES["synthesizer_mixture"])


def synthesizer(kind: str = "dense", mixture: str = "none", **settings) -> SynthesizerAttention:
    """A layer in eval mode with random weights and biases."""
    settings = {
        "synthesizer_kind": kind,
        "synthesizer_mixture": mixture,
        "synthesizer_rank": 3,
        "max_position_embeddings": LENGTH_LIMIT,
        "num_attention_heads": HEADS,
    } | settings
    torch.manual_seed(0)
    attention = SynthesizerAttention(tiny_config("assignment", **settings), 0).double().eval()
    for tensor in attention.state_dict().values():
        torch.nn.init.normal_(tensor, std=0.5)
    return attention


def random_states(batch: int = 2, length: int = LENGTH) -> torch.Tensor:
    return torch.randn(batch, length, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def apply(attention, states, positions=None, token_mask=None, **kwargs):
    """The output and the weights of the layer, called as in a model without a cache."""
    positions = torch.arange(states.shape[1])[None] if positions is None else positions
    arguments = {"position_embeddings": None, "position_ids": positions, "token_mask": token_mask}
    arguments["attention_mask"] = boolean_mask(states, token_mask)
    return attention(states, **(arguments | kwargs))


def synthesised_score(attention, head: int, state, position: int, key_position: int) -> torch.Tensor:
    """The score that a token with `state`, at `position`, gives to `key_position`; from the paper."""
    parts, kind = attention.synthesizer, attention.config.synthesizer_kind
    if kind in ("random", "fixed_random"):
        return parts.weight[head, position, key_position]
    if kind == "factorized_random":
        return sum(
            parts.row_factor[head, k, position] * parts.column_factor[head, k, key_position]
            for k in range(attention.config.synthesizer_rank)
        )
    rows = slice(head * HEAD_WIDTH, (head + 1) * HEAD_WIDTH)
    hidden = (parts.hidden_proj.weight[rows] @ state + parts.hidden_proj.bias[rows]).clamp(min=0)

    def second_layer(linear, column):
        return hidden @ linear.weight[head, :, column] + linear.bias[head, 0, column]

    if kind == "dense":
        return second_layer(parts.score_proj, key_position)
    # ten positions are three blocks of four; the last block is shorter
    block, within = divmod(key_position, 4)
    return second_layer(parts.first_proj, block) * second_layer(parts.second_proj, within)


def mixed_score(attention, synthesised, query, key) -> torch.Tensor:
    """The mixture of a synthesised score and the score of softmax attention."""
    mixture = attention.config.synthesizer_mixture
    if mixture == "none":
        return synthesised
    asked = query @ key / HEAD_WIDTH**0.5
    if mixture == "plus":
        return synthesised + asked
    weight = 1 / (1 + torch.exp(-attention.alpha_logit[0]))
    return weight * synthesised + (1 - weight) * asked


def by_loops(attention, states, positions, visible) -> torch.Tensor:
    """The output of the layer, computed from one score at a time."""
    values = attention.v_proj(states)
    queries, keys = (
        (values, values)
        if attention.config.synthesizer_mixture == "none"
        else (attention.q_proj(states), attention.k_proj(states))
    )
    mixed = torch.zeros_like(values)
    for row in range(len(states)):
        for head in range(HEADS):
            features = slice(head * HEAD_WIDTH, (head + 1) * HEAD_WIDTH)
            for t in range(states.shape[1]):
                seen = [s for s in range(states.shape[1]) if visible[row, t, s]]
                exponentials = []
                for s in seen:
                    score = synthesised_score(
                        attention, head, states[row, t], int(positions[row, t]), int(positions[row, s])
                    )
                    score = mixed_score(attention, score, queries[row, t, features], keys[row, s, features])
                    exponentials.append(score.exp())
                for s, exponential in zip(seen, exponentials, strict=True):
                    mixed[row, t, features] += exponential / sum(exponentials) * values[row, s, features]
    return attention.o_proj(mixed)


@kinds
@mixtures
def test_output_and_gradients_are_those_of_the_equations(kind, mixture):
    attention, states = synthesizer(kind, mixture), random_states().requires_grad_()
    # the first row starts with two tokens of padding, whose positions have no effect
    token_mask = torch.tensor([[False] * 2 + [True] * 5, [True] * 7])
    positions = torch.tensor([[0, 0, 0, 1, 2, 3, 4], [*range(7)]])
    anything = positions.masked_fill(~token_mask, 999)
    visible = [[[s <= t and (r, s) not in ((0, 0), (0, 1)) for s in range(7)] for t in range(7)] for r in range(2)]

    ours = apply(attention, states, anything, token_mask)[0][token_mask]
    theirs = by_loops(attention, states, positions, torch.tensor(visible))[token_mask]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)

    direction = torch.randn(ours.shape, dtype=torch.float64)
    inputs = {"states": states, **dict(attention.named_parameters())}
    our_gradients, their_gradients = (
        torch.autograd.grad((output * direction).sum(), list(inputs.values())) for output in (ours, theirs)
    )
    for name, gradient, expected in zip(inputs, our_gradients, their_gradients, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-11, msg=name)


@pytest.fixture
def small_slices(monkeypatch):
    """Slices of one or a few queries, for short rows too."""
    monkeypatch.setattr(attention_synthesizer, "WHOLE_SCORES", 0)
    monkeypatch.setattr(attention_synthesizer, "SLICE_SCORES", 2 * HEADS * LENGTH * 3)


@kinds
@mixtures
@pytest.mark.parametrize("is_causal", [True, False])
def test_slices_of_queries_equal_all_at_once(kind, mixture, is_causal, small_slices):
    attention, states = synthesizer(kind, mixture, is_causal=is_causal), random_states().requires_grad_()
    visible = boolean_mask(states, torch.tensor([[False] * 2 + [True] * 5, [True] * 7]), is_causal=is_causal)
    inputs, results = [states, *attention.parameters()], []
    for in_slices in (True, False):
        output, weights = apply(attention, states, attention_mask=visible, output_attentions=not in_slices)
        assert (weights is None) == in_slices
        results.append([output, *torch.autograd.grad((output * random_states().flip(1)).sum(), inputs)])
        with torch.no_grad():
            assert torch.equal(apply(attention, states, attention_mask=visible)[0], results[0][0])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


@kinds
def test_the_backward_pass_of_slices_has_the_dropout_of_the_forward_pass(kind, small_slices):
    attention, states = synthesizer(kind, "plus", attention_dropout=0.5).train(), random_states()

    def output(step: float) -> torch.Tensor:
        torch.manual_seed(3)
        return (apply(attention, states + step * states.flip(0))[0] * states).sum()

    step = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(output(step), step)
    measured = (output(1e-6) - output(-1e-6)) / 2e-6
    torch.testing.assert_close(gradient, measured.detach(), rtol=1e-6, atol=1e-6)
    assert not torch.equal(output(0.0), apply(attention, states)[0])


def test_a_long_row_keeps_no_scores_for_the_backward_pass(small_slices):
    attention, states, kept = synthesizer("dense", "plus"), random_states(length=10).requires_grad_(), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape) or tensor, lambda x: x):
        apply(attention, states)[0].sum().backward()
    # scores are the tensors of (rows, heads, queries, keys); the recomputed ones are of a slice
    assert all(shape[-2:] != (10, 10) for shape in kept)


@mixtures
def test_a_cache_can_be_filled_in_slices(mixture, small_slices):
    model = tiny_model(attention_type="synthesizer", synthesizer_mixture=mixture)
    for chunks in ([20], [3, 14, 3]):
        check_decoding(model, chunks, padding=4, atol=1e-10)


def test_dense_has_the_shapes_of_the_equation():
    shapes = {name: tuple(tensor.shape) for name, tensor in synthesizer().named_parameters()}
    assert shapes == {
        "synthesizer.hidden_proj.weight": (WIDTH, WIDTH),
        "synthesizer.hidden_proj.bias": (WIDTH,),
        "synthesizer.score_proj.weight": (HEADS, HEAD_WIDTH, LENGTH_LIMIT),
        "synthesizer.score_proj.bias": (HEADS, 1, LENGTH_LIMIT),
        "v_proj.weight": (WIDTH, WIDTH),
        "v_proj.bias": (WIDTH,),
        "o_proj.weight": (WIDTH, WIDTH),
        "o_proj.bias": (WIDTH,),
    }


@pytest.mark.parametrize("kind", ["dense", "factorized_dense"])
def test_without_biases_there_are_none(kind):
    attention = synthesizer(kind, attention_bias=False)
    assert not [name for name, _ in attention.named_parameters() if "bias" in name]
    assert apply(attention, random_states())[0].isfinite().all()


@pytest.mark.parametrize("rows", [1, 3])
def test_chosen_columns_are_those_of_the_whole_map(rows):
    torch.manual_seed(0)
    linear = HeadwiseLinear(tiny_config(attention_bias=True, num_attention_heads=HEADS), LENGTH_LIMIT).double()
    torch.nn.init.normal_(linear.weight), torch.nn.init.normal_(linear.bias)
    states = torch.randn(3, HEADS, LENGTH, HEAD_WIDTH, dtype=torch.float64, requires_grad=True)
    columns = torch.randint(0, LENGTH_LIMIT, (rows, 6))
    chosen = linear(states, None, *linear(None, columns))
    expected = torch.stack([linear(states)[row, :, :, columns[row % rows]] for row in range(3)])
    torch.testing.assert_close(chosen, expected, rtol=0, atol=1e-12)
    direction, inputs = torch.randn_like(chosen), [states, linear.weight, linear.bias]
    for ours, theirs in zip(*(torch.autograd.grad(y, inputs, direction) for y in (chosen, expected)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("positions", "is_view"),
    [
        ([[0, 1, 2, 3]], True),
        ([[0, 1, 2, 3]] * 2, True),
        ([[1, 2, 3]], False),
        ([[0, 1, 2], [0, 0, 1]], False),
        ([[0, 1, 1, 2]], False),
    ],
)
def test_columns_in_order_are_read_where_they_are(positions, is_view):
    weights, positions = torch.randn(2, 3, 6), torch.tensor(positions)
    columns = attention_synthesizer.columns_of(weights, positions)
    assert (columns.data_ptr() == weights.data_ptr()) is is_view
    for row, row_positions in enumerate(positions):
        expected = torch.stack([weights[:, :, at] for at in row_positions], dim=-1)
        assert torch.equal(columns[min(row, len(columns) - 1)], expected)


@kinds
def test_a_tokens_weights_do_not_depend_on_other_tokens(kind):
    attention, states = synthesizer(kind), random_states()
    others = random_states().flip(0)
    others[:, 4] = states[:, 4]
    weights, changed = (apply(attention, tokens)[1] for tokens in (states, others))
    assert torch.equal(weights[:, :, 4], changed[:, :, 4])
    assert torch.equal(weights[:, :, 3], changed[:, :, 3]) == ("random" in kind)


@kinds
@mixtures
def test_weights_are_shown_and_sum_to_one_over_the_past(kind, mixture):
    weights = apply(synthesizer(kind, mixture), random_states())[1]
    assert weights.shape == (2, HEADS, LENGTH, LENGTH)
    assert weights.triu(1).abs().max() == 0
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))


@pytest.mark.parametrize("kind", ["dense", "random"])
def test_dropout_takes_weights_away_for_each_row_of_its_own(kind):
    attention = synthesizer(kind, attention_dropout=0.5).train()
    states = random_states()[:1].repeat(2, 1, 1)
    weights = apply(attention, states)[1]
    assert 0.2 < (weights.tril()[weights.new_ones(weights.shape).tril() > 0] == 0).double().mean() < 0.8
    assert not torch.equal(weights[0], weights[1])


@pytest.mark.parametrize("variant", ["assignment", "modern"])
@pytest.mark.parametrize(
    ("mixture", "alpha_logit"), [("plus", None), ("alpha", -100.0)], ids=["plus nothing", "alpha of 0"]
)
def test_a_mixture_with_nothing_synthesised_is_softmax_attention(variant, mixture, alpha_logit):
    softmax = tiny_model(variant)
    mixed = tiny_model(variant, attention_type="synthesizer", synthesizer_kind="random", synthesizer_mixture=mixture)
    weights = {name.replace("projections.", ""): weight for name, weight in softmax.state_dict().items()}
    report = mixed.load_state_dict(weights, strict=False)
    assert not report.unexpected_keys
    for name in report.missing_keys:
        parameter = mixed.get_parameter(name)
        torch.nn.init.constant_(parameter, alpha_logit if "alpha" in name else 0 if mixture == "plus" else 5)
    tokens, mask = left_padded([torch.arange(2, 11), torch.arange(20, 26)], 12)
    ours, theirs = (model(tokens, attention_mask=mask).logits[mask.bool()] for model in (mixed, softmax))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_alpha_of_one_is_the_synthesizer_alone():
    alone, mixed = synthesizer("dense"), synthesizer("dense", "alpha")
    mixed.load_state_dict(alone.state_dict() | {"alpha_logit": torch.tensor([100.0])}, strict=False)
    torch.testing.assert_close(apply(mixed, random_states())[0], apply(alone, random_states())[0])


@mixtures
def test_rotary_positions_turn_queries_and_keys_and_nothing_else(mixture):
    attention, states = synthesizer("dense", mixture), random_states()
    rotary = RotaryEmbedding(tiny_config(num_attention_heads=HEADS))(torch.arange(LENGTH)[None], states.dtype)
    turned, plain = apply(attention, states, position_embeddings=rotary)[0], apply(attention, states)[0]
    assert torch.equal(turned, plain) == (mixture == "none")


@pytest.mark.parametrize(
    ("mixture", "kept"), [("none", {"values", "positions"}), ("plus", {"values", "positions", "keys"})]
)
def test_the_cache_keeps_values_and_positions_and_keys_for_a_mixture_alone(mixture, kept):
    model = tiny_model("assignment", attention_type="synthesizer", synthesizer_mixture=mixture)
    cache = DynamicCache(config=model.config)
    model(random_tokens(2, 5), past_key_values=cache)
    assert {name for layer in cache.layers for name in layer.states} == kept
    assert all(len(state) == 2 for layer in cache.layers for state in layer.states.values())


LIMITED = {"attention_type": "synthesizer", "max_position_embeddings": 8}


@kinds
def test_a_token_beyond_the_limit_is_an_error(kind):
    model = tiny_model("modern", synthesizer_kind=kind, **LIMITED)
    model(random_tokens(1, 8))
    with pytest.raises(ValueError, match=r"max_position_embeddings=8.* position 8:"):
        model(random_tokens(1, 9))
    cache = DynamicCache(config=model.config)
    model(random_tokens(1, 8), past_key_values=cache)
    with pytest.raises(ValueError, match=r"max_position_embeddings=8.* position 8:"):
        model(random_tokens(1, 1), past_key_values=cache)
    with pytest.raises(ValueError, match="position -1:"):
        model(random_tokens(1, 2), position_ids=torch.tensor([[0, -1]]))


def test_padding_does_not_count_towards_the_limit():
    model, row = tiny_model("modern", **LIMITED), torch.arange(2, 10)
    tokens, mask = left_padded([row], 13)
    padded = model(tokens, attention_mask=mask).logits[:, 5:]
    torch.testing.assert_close(padded, model(row[None]).logits, rtol=0, atol=1e-12)


def test_a_fixed_pattern_is_saved_but_not_trained():
    torch.manual_seed(0)
    model = BirthGPTForCausalLM(
        tiny_config("assignment", attention_type="synthesizer", synthesizer_kind="fixed_random")
    )
    patterns = [layer.attention.synthesizer.weight for layer in model.model.layers]
    assert not any(name.endswith("synthesizer.weight") for name, _ in model.named_parameters())
    assert "model.layers.0.attention.synthesizer.weight" in model.state_dict()
    # different from an average of all tokens, and different in each layer
    assert all(abs(pattern.std().item() - 1) < 0.05 for pattern in patterns)
    assert not torch.equal(patterns[0], patterns[1])


def test_the_initial_scores_of_a_factorised_matrix_are_as_spread_as_those_of_a_whole_one():
    for kind in ("random", "factorized_random"):
        torch.manual_seed(0)
        model = BirthGPTForCausalLM(
            tiny_config("assignment", attention_type="synthesizer", synthesizer_kind=kind, initializer_range=0.02)
        )
        positions = torch.arange(64)[None]
        synthesizer = model.model.layers[0].attention.synthesizer
        scores = synthesizer.scores(None, positions, *synthesizer(None, positions))
        assert scores.shape == (1, 4, 64, 64)
        assert 0.016 < scores.std() < 0.024, kind


def test_a_mixture_starts_in_the_middle():
    model = BirthGPTForCausalLM(tiny_config("assignment", attention_type="synthesizer", synthesizer_mixture="alpha"))
    assert model.model.layers[1].attention.alpha_logit.sigmoid().item() == 0.5


@kinds
@mixtures
def test_bfloat16_runs_and_keeps_its_type(kind, mixture):
    model = tiny_model(attention_type="synthesizer", synthesizer_kind=kind, synthesizer_mixture=mixture)
    logits = model.to(torch.bfloat16)(random_tokens(1, 5)).logits
    assert logits.dtype == torch.bfloat16 and logits.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["factorized_dense", "random"])
def test_compiled_model_equals_eager_mode(kind, nothing_compiled):
    model = tiny_model(attention_type="synthesizer", synthesizer_kind=kind, synthesizer_mixture="alpha")
    compiled, tokens = torch.compile(model, fullgraph=True, backend="aot_eager"), random_tokens(2, 8)
    torch.testing.assert_close(compiled(tokens, use_cache=False).logits, model(tokens).logits, rtol=0, atol=1e-10)


@pytest.mark.slow
def test_compiled_slices_equal_eager_mode(small_slices, nothing_compiled):
    model = tiny_model(attention_type="synthesizer", synthesizer_mixture="alpha")
    compiled, tokens, results = torch.compile(model, fullgraph=True, backend="aot_eager"), random_tokens(2, 8), []
    for forward in (compiled, model):
        model.zero_grad()
        logits = forward(tokens, use_cache=False).logits
        logits.square().sum().backward()
        results.append([logits, *(weight.grad for weight in model.parameters() if weight.grad is not None)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)
