"""Random curvatures and the dense matrices they represent."""

from dataclasses import replace

import torch

from avalanche_ext.functional.fisher.low_rank import LowRankCurvature

P = 9


def orthonormal_rows(k, generator, size=P):
    square = torch.randn(size, size, dtype=torch.float64, generator=generator)
    return torch.linalg.qr(square).Q[:, :k].T.contiguous()


def curvature(k, seed=0, diagonal=True, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    eigenvalues = torch.rand(k, dtype=torch.float64, generator=generator).sort(descending=True)[0]
    vectors = orthonormal_rows(k, generator)
    rest = torch.rand(P, dtype=torch.float64, generator=generator) if diagonal else None
    rest = rest if rest is None else rest.to(dtype)
    return LowRankCurvature(rest, (eigenvalues + 0.1).to(dtype), vectors.to(dtype))


def dense(part):
    """The matrix itself, (P, P), element by element."""
    n = part.eigenvectors.shape[1]
    matrix = torch.zeros(n, n, dtype=part.eigenvectors.dtype)
    for i in range(n):
        if part.diagonal is not None:
            matrix[i, i] += part.diagonal[i]
        for j in range(n):
            for value, vector in zip(part.eigenvalues, part.eigenvectors, strict=True):
                matrix[i, j] += value * vector[i] * vector[j]
    return matrix


def dense_spectral(part):
    return dense(LowRankCurvature(None, part.eigenvalues, part.eigenvectors))


def merged_of(old, new, decay, rank):
    """γ F + F′ with so many eigenpairs at most."""
    return replace(old, rank=rank).merged(new, decay)
