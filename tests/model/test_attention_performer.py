"""Performer: features that estimate the softmax kernel, and forms of attention that are all equal."""

import pytest
import torch
from builders import case_config, case_model, random_tokens
from transformers import DynamicCache

from birthgpt.model import attention_performer
from birthgpt.model.attention_performer import (
    RELU_EPSILON,
    PerformerAttention,
    clamp_abs_min,
    draw_projection,
    quadratic_weights,
    random_features,
)
from birthgpt.model.attention_softmax import SoftmaxAttention

KINDS = ("positive", "trigonometric", "relu")
kinds = pytest.mark.parametrize("kind", KINDS)
ROWS, HEAD_DIM, DRAWS = 16, 8, 20_000
# pairs of vectors for which the kernel exp(x·y) is estimated: x is on the first axis, y in the plane of the first two
PAIRS = {"aligned": (0.5, 0.3), "equal": (0.4, 0.0), "apart": (0.1, 0.8), "opposite": (-0.6, 0.2)}
pairs = pytest.mark.parametrize("pair", PAIRS)


def vectors(pair: str) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = torch.zeros(2, HEAD_DIM, dtype=torch.float64)
    x[0] = 0.4
    y[0], y[1] = PAIRS[pair]
    return x, y


def estimates(kind: str, x: torch.Tensor, y: torch.Tensor, projections: torch.Tensor) -> torch.Tensor:
    """φ(x)·φ(y) for each of (draws, m, d_head) projections: (draws,)."""
    projections = projections.to(x)
    states = (torch.stack((x, y)) * len(x) ** 0.25)[None, None].expand(1, len(projections), -1, -1)
    features, scales = random_features(states, projections, kind)
    first, second = features.unbind(dim=2)
    return ((first * second).sum(dim=-1) * scales.sum(dim=-1).exp())[0]


def squared_errors(kind, pair, rows=ROWS, draws=DRAWS, orthogonal=False) -> torch.Tensor:
    x, y = vectors(pair)
    projections = draw_projection(draws, rows, HEAD_DIM, orthogonal, torch.Generator().manual_seed(0))
    return (estimates(kind, x, y, projections) - (x @ y).exp()) ** 2


def standard_error(samples: torch.Tensor) -> torch.Tensor:
    return samples.std(dim=0) / len(samples) ** 0.5


# the estimate


@pairs
@pytest.mark.parametrize("kind", ["positive", "trigonometric"])
@pytest.mark.parametrize("orthogonal", [False, True])
def test_the_kernel_is_estimated_without_bias(kind, pair, orthogonal):
    x, y = vectors(pair)
    projections = draw_projection(DRAWS, ROWS, HEAD_DIM, orthogonal, torch.Generator().manual_seed(0))
    errors = estimates(kind, x, y, projections) - (x @ y).exp()
    # for two equal vectors, trigonometric features compute the exact kernel
    assert errors.mean().abs() < 4 * standard_error(errors) + 1e-15


@pairs
def test_the_error_of_positive_features_is_the_papers(pair):
    x, y = vectors(pair)
    kernel, total = (x @ y).exp(), (x + y).square().sum()
    expected = total.exp() * kernel**2 * (1 - (-total).exp()) / ROWS  # lemma 2 of 2009.14794
    errors = squared_errors("positive", pair)
    assert (errors.mean() - expected).abs() < 4 * standard_error(errors) < 0.2 * expected


@pairs
def test_the_error_of_trigonometric_features_is_the_papers(pair):
    x, y = vectors(pair)
    kernel, total, distance = (x @ y).exp(), (x + y).square().sum(), (x - y).square().sum()
    expected = total.exp() * kernel**-2 * (1 - (-distance).exp()) ** 2 / (2 * ROWS)  # lemma 2 of 2009.14794
    errors = squared_errors("trigonometric", pair)
    # for two equal vectors the estimate is exact
    assert (errors.mean() - expected).abs() <= 4 * standard_error(errors) + 1e-20
    assert pair == "equal" or 4 * standard_error(errors) < 0.2 * expected


@pytest.mark.parametrize("kind", ["positive", "trigonometric"])
@pytest.mark.parametrize("orthogonal", [False, True])
def test_the_error_falls_with_the_root_of_the_number_of_features(kind, orthogonal):
    few, many = (squared_errors(kind, "apart", rows, 4000, orthogonal).mean().sqrt() for rows in (8, 128))
    assert few / many == pytest.approx((128 / 8) ** 0.5, rel=0.1)


@pytest.mark.parametrize("pair", ["aligned", "equal", "apart"])
def test_orthogonal_rows_err_less_than_independent_ones(pair):
    independent = squared_errors("positive", pair, rows=HEAD_DIM)
    orthogonal = squared_errors("positive", pair, rows=HEAD_DIM, orthogonal=True)
    sampling = (standard_error(independent) ** 2 + standard_error(orthogonal) ** 2).sqrt()
    assert independent.mean() - orthogonal.mean() > 4 * sampling


def test_trigonometric_features_fail_where_the_kernel_is_small_and_positive_ones_do_not():
    x = torch.full((HEAD_DIM,), 0.5, dtype=torch.float64)  # exp(x·−x) = e⁻²
    projections = draw_projection(2000, ROWS, HEAD_DIM, False)
    relative = {kind: estimates(kind, x, -x, projections) * (x @ x).exp() - 1 for kind in KINDS[:2]}
    assert relative["positive"].abs().max() < 1e-12
    assert relative["trigonometric"].square().mean().sqrt() > 5
    # the estimate of a weight is negative
    assert relative["trigonometric"].min() < -1


# the directions


def test_orthogonal_rows_are_orthogonal_within_blocks_and_as_long_as_gaussian_ones():
    rows = 20  # two and a half blocks
    projection = draw_projection(5000, rows, HEAD_DIM, True, torch.Generator().manual_seed(0)).double()
    for block in projection.split(HEAD_DIM, dim=1):
        products = block @ block.transpose(-1, -2)
        products.diagonal(dim1=-2, dim2=-1).zero_()
        assert products.abs().max() < 1e-4
    # χ²(d) has mean d and variance 2d; rows of equal norm √d would have variance 0
    squared = projection.square().sum(dim=-1)
    assert squared.mean().item() == pytest.approx(HEAD_DIM, rel=0.01)
    assert squared.var().item() == pytest.approx(2 * HEAD_DIM, rel=0.05)
    lengths = squared.sqrt()
    assert (lengths - lengths.mean(dim=0)).T.corrcoef().fill_diagonal_(0).abs().max() < 0.08


def test_orthogonal_rows_point_everywhere_alike():
    # QR alone never gives the first row a positive first entry
    projection = draw_projection(5000, HEAD_DIM, HEAD_DIM, True, torch.Generator().manual_seed(0))
    assert (projection.mean(dim=0) / standard_error(projection)).abs().max() < 4.5


# attention


def build_attention(kind: str = "positive", **settings) -> PerformerAttention:
    """A single attention layer in double precision, with random weights."""
    attention = PerformerAttention(case_config("performer", performer_kind=kind, **settings), 0).double().eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    attention.redraw_features(generator)
    return attention


def mix(attention: PerformerAttention, states: torch.Tensor, chunks: bool = False, token_mask=None) -> torch.Tensor:
    cache = DynamicCache(config=attention.config) if chunks else None
    arguments = {"attention_mask": None, "position_ids": None, "position_embeddings": None}
    return attention(states, token_mask=token_mask, past_key_values=cache, **arguments)[0]


def token_by_token(attention: PerformerAttention, states: torch.Tensor, token_mask=None) -> torch.Tensor:
    """The equation, one head and one token at a time, without protection against overflow."""

    def feature_map(x, directions):
        x, rows = x / len(x) ** 0.25, len(directions)
        if attention.kind == "positive":
            return (directions @ x - x @ x / 2).exp() / rows**0.5
        if attention.kind == "trigonometric":
            angles = directions @ x
            return (x @ x / 2).exp() * torch.cat((angles.cos(), angles.sin())) / rows**0.5
        return ((directions @ x).clamp(min=0) + RELU_EPSILON) / rows**0.5

    batches = []
    for b, sequence in enumerate(states):
        heads = []
        for head, directions in enumerate(attention.projection):
            size = slice(head * attention.config.head_dim, (head + 1) * attention.config.head_dim)
            s, z, outputs = 0.0, 0.0, []
            for t, state in enumerate(sequence):
                query, key, value = (
                    linear(state)[size]
                    for linear in (
                        attention.projections.q_proj,
                        attention.projections.k_proj,
                        attention.projections.v_proj,
                    )
                )
                if token_mask is not None and not token_mask[b, t]:
                    outputs.append(torch.zeros_like(value))
                    continue
                s = s + torch.outer(feature_map(key, directions), value)
                z = z + feature_map(key, directions)
                query = feature_map(query, directions)
                outputs.append(query @ s / (query @ z))
            heads.append(torch.stack(outputs))
        batches.append(attention.projections.o_proj(torch.cat(heads, dim=-1)))
    return torch.stack(batches)


def gradients(attention, states, outputs, kept) -> list[torch.Tensor]:
    weights = torch.randn(outputs.shape, dtype=outputs.dtype, generator=torch.Generator().manual_seed(3))
    return torch.autograd.grad((outputs * weights)[kept].sum(), [states, *attention.parameters()])


@kinds
@pytest.mark.parametrize("padding", [0, 3])
def test_every_form_is_the_loop_over_tokens_forward_and_backward(kind, padding):
    attention = build_attention(kind)
    states = torch.randn(2, 11, 16, dtype=torch.float64, requires_grad=True)
    kept = torch.ones(2, 11, dtype=torch.bool)
    # on both sides, and in the middle as in a continued conversation
    kept[0, :padding] = kept[1, 11 - padding :] = kept[1, 4 : 4 + padding // 2] = False
    token_mask = kept if padding else None
    expected = token_by_token(attention, states, token_mask)
    expected_gradients = gradients(attention, states, expected, kept)

    quadratic = mix(attention, states, token_mask=token_mask)
    by_chunks = []
    for attention.config.performer_chunk in (1, 4, 64):
        by_chunks.append(mix(attention, states, chunks=True, token_mask=token_mask))
    for outputs in (quadratic, *by_chunks):
        torch.testing.assert_close(outputs[kept], expected[kept], rtol=0, atol=1e-10)
        for ours, theirs in zip(gradients(attention, states, outputs, kept), expected_gradients, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("kind", ["positive", "trigonometric"])
def test_attention_tends_to_softmax_attention_as_features_grow(kind):
    states = torch.randn(2, 12, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    errors = []
    for features in (64, 1024, 16384):
        attention = build_attention(kind, performer_features=features)
        with torch.no_grad():
            # short queries and keys: the error grows exponentially with their length
            for parameter in [*attention.projections.q_proj.parameters(), *attention.projections.k_proj.parameters()]:
                parameter *= 0.25
        softmax = SoftmaxAttention(attention.config, 0).double().eval()
        softmax.load_state_dict(attention.state_dict(), strict=False)
        causal = torch.full((12, 12), -torch.inf, dtype=torch.float64).triu(1)
        softmax.config._attn_implementation = "eager"
        exact, _ = softmax(states, attention_mask=causal, position_ids=None, position_embeddings=None)
        errors.append(((mix(attention, states) - exact).square().mean() / exact.square().mean()).sqrt())
    # four times smaller at each step, up to chance
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.01


def test_the_form_changes_with_the_length_and_the_output_does_not():
    attention = build_attention()
    states = torch.randn(1, attention_performer.QUADRATIC_LENGTH + 1, 16, dtype=torch.float64)
    torch.testing.assert_close(mix(attention, states)[:, :-1], mix(attention, states[:, :-1]), rtol=0, atol=1e-10)


def test_weights_are_shown_where_they_are_computed():
    model = case_model("performer")
    tokens = random_tokens(1, 5)
    (weights, *_) = model(tokens, use_cache=False, output_attentions=True).attentions
    assert weights.shape == (1, 2, 5, 5) and not weights.triu(1).any()
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(1, 2, 5, dtype=torch.float64))
    assert model(tokens, use_cache=True, output_attentions=True).attentions == ()


def test_the_state_does_not_grow():
    model, cache = case_model("performer"), DynamicCache(config=case_config("performer"))
    shapes = set()
    with torch.no_grad():
        for length in (1, 5, 30):
            model(random_tokens(2, length), past_key_values=cache)
            shapes.add(tuple(tuple(state.shape) for state in cache.layers[0].states.values()))
    assert shapes == {((2, 2, 16, 9), (2, 2, 1))}


# large numbers, and divisors near zero


@pytest.mark.parametrize(("kind", "factor"), [("positive", 0.0), ("trigonometric", 1000.0)])
@pytest.mark.parametrize("chunks", [False, True])
def test_a_key_of_another_size_changes_nothing_before_it(kind, factor, chunks):
    attention = build_attention(kind).float()
    with torch.no_grad():
        attention.projections.k_proj.weight *= 20
        attention.projections.k_proj.bias.zero_()
    states = torch.randn(1, 12, 16)
    changed = states.clone()
    # relative to exp(s) of this key, exp(s) of all other keys underflows
    changed[:, 9] *= factor
    before, after = mix(attention, states, chunks), mix(attention, changed, chunks)
    assert torch.equal(before[:, :9], after[:, :9])
    values = attention.projections.o_proj(attention.projections.v_proj(states))
    torch.testing.assert_close(before[:, 0], values[:, 0])
    assert after.isfinite().all() and not torch.equal(before[:, 9:], after[:, 9:])


@kinds
@pytest.mark.parametrize("chunks", [False, True])
def test_large_scores_give_finite_outputs_and_gradients(kind, chunks):
    attention = build_attention(kind).float()
    states = (torch.randn(2, 12, 16) * 100).requires_grad_()
    outputs = mix(attention, states, chunks)
    outputs.square().sum().backward()
    assert outputs.isfinite().all() and states.grad.isfinite().all()


def test_another_branch_has_no_say_in_the_scale():
    queries = keys = torch.rand(1, 1, 3, 4)
    visible = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 0, 1]], dtype=torch.bool)[None, None]
    scales = torch.tensor([[[0.0, 500.0, 1.0]]])
    weights = quadratic_weights(queries, keys, scales, visible, 1e-20)
    alone = quadratic_weights(queries, keys, torch.tensor([[[0.0, 0.0, 1.0]]]), visible, 1e-20)
    assert torch.equal(weights[..., 2, :], alone[..., 2, :]) and weights[..., 2, 0] > 0.1


@kinds
@pytest.mark.parametrize("chunks", [False, True])
def test_a_row_of_padding_alone_gives_finite_outputs_and_gradients(kind, chunks):
    attention = build_attention(kind).float()
    states = torch.randn(2, 9, 16, requires_grad=True)
    token_mask = torch.ones(2, 9, dtype=torch.bool)
    token_mask[0] = token_mask[1, :5] = False
    outputs = mix(attention, states, chunks, token_mask)
    outputs.square().sum().backward()
    assert outputs.isfinite().all() and states.grad.isfinite().all()


def test_a_sum_near_zero_keeps_its_sign():
    sums = torch.tensor([0.0, 1e-9, -1e-9, 0.5, -0.5])
    assert clamp_abs_min(sums, 1e-6).tolist() == pytest.approx([1e-6, 1e-6, -1e-6, 0.5, -0.5])


def test_features_are_computed_in_single_precision_under_autocast():
    attention, states = build_attention().float(), torch.randn(1, 6, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, weights = attention(states, attention_mask=None, position_ids=None, position_embeddings=None)
        queries, keys = attention.projections.q_proj(states), attention.projections.k_proj(states)
    queries, keys = (states.float().view(1, 6, 2, 8).transpose(1, 2) for states in (queries, keys))
    queries, _ = random_features(queries, attention.projection, "positive")
    keys, scales = random_features(keys, attention.projection, "positive")
    visible = torch.ones(1, 1, 6, 6, dtype=torch.bool).tril()
    torch.testing.assert_close(weights, quadratic_weights(queries, keys, scales, visible, 1e-20))


def test_half_precision_comes_back_as_it_went_in():
    outputs = mix(build_attention().bfloat16(), torch.randn(1, 6, 16).bfloat16(), chunks=True)
    assert outputs.dtype == torch.bfloat16 and outputs.isfinite().all()


def test_dropout_falls_on_the_weights():
    attention = build_attention(attention_dropout=0.5).train()
    states = torch.randn(1, 40, 16, dtype=torch.float64)
    _, weights = attention(states, attention_mask=None, position_ids=None, position_embeddings=None)
    seen = weights[torch.ones(40, 40, dtype=torch.bool).tril().expand_as(weights)]
    assert (seen == 0).double().mean().item() == pytest.approx(0.5, abs=0.08)


# redrawing


def test_features_are_redrawn_in_place_by_the_generator_alone():
    model = case_model("performer")
    mixers = [module for module in model.modules() if hasattr(module, "redraw_features")]
    assert len(mixers) == model.config.num_hidden_layers
    buffer, before = mixers[0].projection, mixers[0].projection.clone()
    for seed in (5, 5, 6):
        mixers[0].redraw_features(torch.Generator().manual_seed(seed))
        assert mixers[0].projection is buffer and not torch.equal(buffer, before)
        expected = draw_projection(2, 16, 8, True, torch.Generator().manual_seed(seed))
        assert torch.equal(buffer, expected.to(buffer.dtype))


@pytest.mark.parametrize("training", [False, True])
def test_the_forward_pass_never_redraws(training):
    model, tokens = case_model("performer", performer_redraw_steps=1).train(training), random_tokens(2, 9)
    before = [buffer.clone() for buffer in model.buffers()]
    model(tokens, labels=tokens).loss.backward()
    assert before and all(torch.equal(old, new) for old, new in zip(before, model.buffers(), strict=True))


def test_layers_and_heads_have_features_of_their_own():
    projections = [layer.attention.projection for layer in case_model("performer").model.layers]
    rows = torch.cat(projections).flatten(1)
    assert len(rows.unique(dim=0)) == 6


# performer-pytorch (Phil Wang), whose code follows that of the authors


@pytest.fixture
def reference():
    return pytest.importorskip("performer_pytorch.performer_pytorch")


def reference_inputs() -> tuple[torch.Tensor, ...]:
    queries, keys, values = torch.randn(3, 2, 3, 10, 8, dtype=torch.float64)
    return queries, keys, values, draw_projection(1, 12, 8, True)[0].double()


def test_features_are_those_of_performer_pytorch(reference):
    queries, keys, _, projection = reference_inputs()
    theirs = reference.softmax_kernel(queries, projection_matrix=projection, is_query=True, eps=0.0)
    ours, _ = random_features(queries, projection.expand(3, -1, -1), "positive")
    # their features are divided by another power of e for each query
    ratios = theirs / ours
    torch.testing.assert_close(ratios, ratios[..., :1].expand_as(ratios), rtol=1e-10, atol=0)

    theirs = reference.softmax_kernel(keys, projection_matrix=projection, is_query=False, eps=0.0)
    ours, scales = random_features(keys, projection.expand(3, -1, -1), "positive")
    # and by another one for all keys of a head
    ratios = theirs / (ours * scales[..., None].exp())
    torch.testing.assert_close(ratios, ratios[..., :1, :1].expand_as(ratios), rtol=1e-10, atol=0)

    theirs = reference.generalized_kernel(keys, projection_matrix=projection)
    ours, scales = random_features(keys, projection.expand(3, -1, -1), "relu")
    torch.testing.assert_close(ours * len(projection) ** 0.5, theirs, rtol=1e-10, atol=0)
    assert not scales.any()


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_that_of_performer_pytorch(reference, causal):
    queries, keys, values, projection = reference_inputs()
    theirs = [
        reference.softmax_kernel(states, projection_matrix=projection, is_query=is_query, eps=0.0)
        for states, is_query in ((queries, True), (keys, False))
    ]
    if causal:
        expected = reference.causal_linear_attention_noncuda(*theirs, values, chunk_size=4, eps=0.0)
    else:
        expected = reference.linear_attention(*theirs, values)
    visible = torch.ones(1, 1, 10, 10, dtype=torch.bool)
    queries, _ = random_features(queries, projection.expand(3, -1, -1), "positive")
    keys, scales = random_features(keys, projection.expand(3, -1, -1), "positive")
    weights = quadratic_weights(queries, keys, scales, visible.tril() if causal else visible, 1e-20)
    torch.testing.assert_close(weights @ values, expected, rtol=0, atol=1e-10)
