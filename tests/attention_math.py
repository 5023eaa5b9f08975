"""Random inputs, and softmax as an equation, for the tests of single attention types."""

import torch
from torch import nn

BATCH, HEADS, SIZE = 2, 3, 4


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def random_inputs(length: int) -> list[torch.Tensor]:
    """Queries, keys and values, (batch, heads, length, d_head) each."""
    return [random(BATCH, HEADS, length, SIZE, seed=seed) for seed in (1, 2, 3)]


def mix(scores: list[torch.Tensor], values: list[torch.Tensor]) -> torch.Tensor:
    """Σ_i softmax(scores)_i values_i, for a single query."""
    return torch.stack(scores).softmax(dim=0) @ torch.stack(values)


def softmax_attention(queries, keys, values):
    return nn.functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)


def assert_equal_with_gradients(function, reference, inputs: list[torch.Tensor]) -> None:
    """Both functions have the same output and the same gradients for the same inputs."""
    results = []
    for one in (function, reference):
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        output = one(*leaves)
        output.backward(random(*output.shape, seed=9))
        results.append([output, *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)
