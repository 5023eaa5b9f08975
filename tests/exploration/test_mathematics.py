"""The experiments on one head agree with closed forms, and their formulas with independent computations."""

import math

import pytest
import torch

from birthgpt.model.attention_performer import draw_projection
from exploration import (
    average,
    copying,
    head,
    key_norm,
    one_head,
    random_features,
    several_heads,
    subspaces,
    with_maps,
    without_maps,
)


@pytest.mark.parametrize("width", [8, 32])
def test_orthonormal_vectors_are_orthonormal(width):
    vectors = head.orthonormal_vectors(8, width, head.seeded(0))
    assert torch.allclose(vectors @ vectors.T, torch.eye(8, dtype=torch.float64), atol=1e-12)


def test_a_head_is_attention_of_torch_without_the_scale():
    query, keys, values = (torch.randn(shape, dtype=torch.float64) for shape in ((2, 5), (2, 7, 5), (2, 7, 5)))
    mixed, weights = head.attend(query, keys, values)
    expected = torch.nn.functional.scaled_dot_product_attention(query[:, None], keys, values, scale=1.0)[:, 0]
    assert torch.allclose(mixed, expected) and torch.allclose(weights.sum(-1), torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("n", [4, 100])
@pytest.mark.parametrize("error", [0.1, 0.001])
def test_the_margin_of_copying_is_that_at_which_the_others_weigh_epsilon(n, error):
    margin = copying.margin_by_formula(n, error)
    scores = torch.tensor([margin] + [0.0] * (n - 1), dtype=torch.float64)
    assert float(1 - scores.softmax(0)[0]) == pytest.approx(error)
    # orthonormal values: the error is that weight times √(1 + 1/(n − 1))
    found = copying.smallest_margin(
        lambda delta: (
            copying.error_of(delta, torch.zeros(n - 1, dtype=torch.float64), torch.eye(n).double())
            <= error * math.sqrt(1 + 1 / (n - 1))
        )
    )
    assert found == pytest.approx(margin, abs=1e-5)


@pytest.mark.parametrize("n", [4, 20])
@pytest.mark.parametrize("beta", [0.0, 3.0])
def test_the_error_of_an_average_is_the_weight_of_the_others(n, beta):
    keys = head.orthonormal_vectors(n, n, head.seeded(0))
    _, weights = head.attend(beta * (keys[0] + keys[1]), keys, keys)
    assert float(weights[2:].sum()) == pytest.approx(average.weight_of_others(beta, n))
    # orthonormal values: the others are a vector of norm w/√(n − 2), a and b miss w/2 each
    others = average.weight_of_others(beta, n)
    expected = others * math.sqrt(1 / (n - 2) + 1 / 2)
    assert average.error_of(beta, keys, keys) == pytest.approx(expected)


@pytest.mark.parametrize("degrees", [90, 40, 5])
def test_the_projection_keeps_the_cosine_of_the_other_value(degrees):
    generator = head.seeded(1)
    a, b = subspaces.bases_at(degrees, 3, 20, generator)
    assert torch.allclose(b.T @ b, torch.eye(3, dtype=torch.float64), atol=1e-12)
    v_a, v_b = (subspaces.unit_values(basis, 5, generator) for basis in (a, b))
    cosine = math.cos(math.radians(degrees))
    assert subspaces.mean_error(a @ a.T, v_a + v_b, v_a) == pytest.approx(cosine, abs=1e-12)
    oblique = subspaces.oblique_projection(a, b)
    assert subspaces.mean_error(oblique, v_a + v_b, v_a) == pytest.approx(0, abs=1e-10)
    # it amplifies noise by at most 1/sin θ
    assert float(torch.linalg.matrix_norm(oblique, 2)) == pytest.approx(1 / math.sin(math.radians(degrees)))


def test_the_keys_have_their_covariance():
    means = head.orthonormal_vectors(3, 4, head.seeded(0))
    alpha = 0.01
    keys = one_head.draw_keys(means, alpha, 50_000, head.seeded(1))
    for index in range(3):
        expected = alpha * torch.eye(4, dtype=torch.float64)
        expected += 0.5 * torch.outer(means[0], means[0]) if index == 0 else 0
        assert torch.allclose(torch.cov(keys[:, index].T), expected, atol=0.01)


@pytest.mark.parametrize("name", ["one_head", "several_heads"])
def test_shares_of_samples_are_those_of_the_normal_distribution(name):
    module = {"one_head": one_head, "several_heads": several_heads}[name]
    curves = module.measure({**module.EXPERIMENT.sizes, "samples": 4000})
    if module is one_head:
        for found in zip(*curves["shares"].values(), strict=True):
            assert found[0] + found[1] == pytest.approx(found[2], abs=0.03)
    else:
        # at the largest β nothing but the sign of γ matters
        assert curves["shares"][several_heads.DIFFERENT][-1] == pytest.approx(0.9214, abs=0.02)
        assert curves["spreads"][several_heads.SAME] == pytest.approx([curves["spreads"][several_heads.SAME][0]] * 5)


def test_a_longer_key_has_the_weight_of_the_logistic_function_if_others_do_not_matter():
    curves = key_norm.measure({**key_norm.EXPERIMENT.sizes, "beta": [30.0], "n": 3})
    assert curves["weights"][30.0].tolist() == pytest.approx(curves["formula"][30.0], abs=1e-6)


def test_without_maps_the_output_is_a_mean_of_the_tokens():
    s, t = torch.tensor(0.5), torch.tensor(-1.0)
    mixed = without_maps.second_output(1.5, s, t)
    x = without_maps.tokens(1.0, s, t)
    weights = torch.linalg.lstsq(x.T, mixed[:, None]).solution[:, 0]
    assert weights.min() > 0 and float(weights.sum()) == pytest.approx(1)
    assert torch.allclose(weights, ((1.5**2) * (x @ x[1])).softmax(0))


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_the_construction_with_maps_has_the_error_of_its_weights(beta):
    directions = head.orthonormal_vectors(4, 16, head.seeded(0))
    second, _ = with_maps.relative_errors(beta, with_maps.GIVEN, directions)
    assert second == pytest.approx(with_maps.error_by_formula(beta))
    # without its scale, V makes β²u_b
    unscaled, _ = with_maps.relative_errors(4.0, with_maps.NO_VALUE_SCALE, directions)
    assert unscaled == pytest.approx(4.0**2 - 1, rel=1e-3)


@pytest.mark.parametrize("kind", ["positive", "trigonometric"])
@pytest.mark.parametrize("degrees", [60, 120])
def test_errors_of_random_features_are_those_of_the_lemma_and_vanish_at_its_zeros(kind, degrees):
    x, y = random_features.pair_at(degrees, 0.6, 8)
    projections = draw_projection(4000, 8, 8, False, head.seeded(0)).double()
    estimates = random_features.estimates(kind, x, y, projections)
    assert float(estimates.mean()) == pytest.approx(float((x @ y).exp()), rel=0.05)
    expected = random_features.relative_error_by_formula(kind, x, y, 8)
    assert random_features.relative_error(kind, x, y, projections) == pytest.approx(expected, rel=0.1)
    zero = (x, -x) if kind == "positive" else (x, x)
    assert random_features.relative_error_by_formula(kind, *zero, 8) == pytest.approx(0)
    assert random_features.relative_error(kind, *zero, projections) == pytest.approx(0, abs=1e-12)
