"""One attention head without maps, and the vectors of the written questions about it."""

import torch


def attend(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """c = Σᵢ αᵢ vᵢ with α = softmax(k₁·q, …, k_n·q), as in the question: the scores are not divided by √d.

    Args:
        query: (..., d).
        keys, values: (..., n, d).

    Returns:
        c, (..., d), and α, (..., n).
    """
    weights = (keys @ query[..., None]).squeeze(-1).softmax(dim=-1)
    return (weights[..., None, :] @ values).squeeze(-2), weights


def unit_vectors(count: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """(count, width) random directions of norm 1, in double precision."""
    vectors = torch.randn(count, width, generator=generator, dtype=torch.float64)
    return vectors / vectors.norm(dim=-1, keepdim=True)


def orthonormal_vectors(count: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """(count, width) random directions of norm 1 that are orthogonal to each other, in double precision."""
    assert count <= width
    gaussian = torch.randn(width, count, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(gaussian).Q.T


def seeded(seed: int) -> torch.Generator:
    """A random generator with this seed."""
    return torch.Generator().manual_seed(seed)
