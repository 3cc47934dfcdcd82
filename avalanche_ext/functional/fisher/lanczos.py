"""The largest eigenpairs of a symmetric operator, given only its products with vectors."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from math import ceil

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]
"""Given vectors, (b, n), returns the operator's product with each, (b, n)."""

# In units of the largest eigenvalue's rounding error: residuals below the first value are rounding;
# if eigenvalues rise by more than the second after a restart, some had been missed.
_CONVERGED, _RISEN = 10, 100
# In the same units, an eigenvalue below this counts as zero.
_ROUNDING = 64
_LEAST_EXTRA = 24
# A row counts as orthogonal to Q if it keeps this share of its length after projecting Q out.
_STEADY, _MOST_REPEATS = 0.9, 5
_MOST_CYCLES = 300


def largest_eigenpairs(
    product: Product, like: Tensor, rank: int, block_size: int = 4
) -> tuple[Tensor, Tensor]:
    """Solve max tr(V A Vᵀ) subject to V Vᵀ = I, over V (rank, n), for A ⪰ 0 of size (n, n).

    Block Lanczos with full orthogonalisation and thick restarts (Wu and Simon 2000, "Thick-restart
    Lanczos method for large symmetric eigenvalue problems"). A Krylov space of b start vectors
    holds at most b eigenvectors of a repeated eigenvalue. So once the pairs have converged, the
    search continues from new random vectors orthogonal to them, until these no longer raise any
    eigenvalue. If the operator is so small that the basis would span the whole space, its matrix is
    formed and decomposed.

    Its advantage over libraries is that it finds repeated eigenvalues. `scipy.sparse.linalg.eigsh`,
    reproducible by `v0` and `rng` since scipy 1.17, can return (5, 5, 4) as the three largest of
    (5, 5, 5, 5, 4, 3, 2, 1, ...). With a second run to find missed ones, it would be about as slow
    as this function, which takes 2.4 times as long as one run (experiments/benchmarks). Its
    residuals at repeated eigenvalues reach 1e-9; here they stay below 1e-13.
    `scipy.sparse.linalg.lobpcg` failed on three of fourteen spectra, and `torch.lobpcg` accepts
    only matrices. For the top 20 pairs of a matrix of 4,096 rows this takes 0.3 s, and
    `scipy.linalg.eigh` with `subset_by_index` 6.4 s.

    Args:
        product: A, from vectors (b, n) to (b, n), deterministic, and scaled so that the square of
            its largest eigenvalue is well within the range of the precision.
        like: A tensor (n,) that sets the precision and device.
        rank: Number of eigenpairs, at least 1; at most n are returned.
        block_size: Number of vectors multiplied at a time, b.

    Returns:
        Eigenvalues, (k,), descending, in double precision on the CPU, with residuals of the size of
        the largest one's rounding; eigenvectors as orthonormal rows, (k, n). The basis has up to
        2k + 8b rows.
    """
    n, rank = len(like), min(rank, len(like))
    kept = _multiple(block_size, rank)
    half = _multiple(block_size, max(rank, _LEAST_EXTRA) / 2)
    size = kept + 2 * half
    if n <= size:
        return _dense(product, like, rank)
    basis = _Basis(product, like, size, block_size)
    eps = torch.finfo(like.dtype).eps
    before: Tensor | None = None
    for _ in range(_MOST_CYCLES):
        basis.fill()
        values, vectors, residuals = basis.ritz()
        values = values[:rank]
        if residuals[:rank].max() > _CONVERGED * eps * values[0]:
            basis.restart(vectors[: kept + half])
            continue
        if before is not None and (values - before).max() <= _RISEN * eps * values[0]:
            break
        before = values
        basis.restart(vectors[:kept], afresh=True)
    else:
        warnings.warn(
            f"the {rank} largest eigenpairs have not converged after {_MOST_CYCLES} restarts: "
            f"residuals are up to {residuals[:rank].max() / values[0]:.1e} of the first eigenvalue",
            stacklevel=2,
        )
    return values, basis.combined(vectors[:rank])


def without_rounding(values: Tensor, precision: torch.dtype) -> Tensor:
    """Return the eigenvalues, (k,), descending, that are not zero up to rounding."""
    eps = torch.finfo(precision).eps
    return values[values > _ROUNDING * eps * values[0]]


class _Basis:
    """Orthonormal rows Q, (size, n), that grow by blocks, and Q A Qᵀ."""

    def __init__(self, product: Product, like: Tensor, size: int, block_size: int) -> None:
        self.product = product
        self.rows = like.new_empty(size, len(like))
        self.projected = torch.zeros(size, size, dtype=torch.float64)
        self.filled = 0
        self.block_size = block_size
        self._rng = torch.Generator().manual_seed(0)
        self._eps = torch.finfo(like.dtype).eps
        self._next = self._random(block_size)
        self._coupling = torch.zeros(block_size, block_size, dtype=torch.float64)

    def fill(self) -> None:
        """Add A's products with the last block, made orthonormal, until the basis is full."""
        while self.filled < len(self.rows):
            block = slice(self.filled, self.filled + self.block_size)
            self.rows[block] = self._next
            self.filled = block.stop
            image = self.product(self.rows[block])
            coefficients = self._project_out(image)
            self.projected[: block.stop, block] = coefficients
            self.projected[block, : block.stop] = coefficients.T
            self._next, self._coupling = self._orthonormal(image)

    def ritz(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return Ritz values, (size,), descending, vectors as rows over Q, and residuals' lengths.

        All images except those of the last block lie in the span of Q. So the residual of a Ritz
        vector is its part in the last block times the part of that block's images outside Q.
        """
        projected = (self.projected + self.projected.T) / 2
        values, vectors = torch.linalg.eigh(projected)
        values, vectors = values.flip(0), vectors.T.flip(0)
        rests = vectors[:, -self.block_size :] @ self._coupling.T
        return values, vectors, torch.linalg.vector_norm(rests, dim=1)

    def combined(self, vectors: Tensor) -> Tensor:
        """Return vectors over Q, (k, size), as vectors of the space, (k, n)."""
        return vectors.to(self.rows) @ self.rows

    def restart(self, vectors: Tensor, afresh: bool = False) -> None:
        """Keep only these Ritz vectors, (k, size), and go on from the last block or a new one."""
        kept = len(vectors)
        values = torch.einsum("ki,ij,kj->k", vectors, self.projected, vectors)
        self.rows[:kept] = self.combined(vectors)
        self.projected.zero_()
        self.projected[:kept, :kept] = torch.diag(values)
        self.filled = kept
        if afresh:
            self._next = self._random(self.block_size)

    def _orthonormal(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return orthonormal rows that span the part of an image outside Q, and its coordinates.

        That part may be mere rounding, with components inside Q's span. So Q's span is removed
        again before the directions are used, and random ones replace directions that vanish.
        """
        self._project_out(image)
        q, coordinates = torch.linalg.qr(image.T)
        scale = self.projected.diagonal().abs().max().item()
        gone = coordinates.diagonal().abs() <= _CONVERGED * self._eps * scale
        q.T[gone] = self._random(int(gone.sum()))
        coordinates[gone] = 0
        for _ in range(_MOST_REPEATS):
            rows = q.T.contiguous()
            self._project_out(rows)
            q, turn = torch.linalg.qr(rows.T)
            coordinates = turn @ coordinates
            if turn.diagonal().abs().min() > _STEADY:
                break
        # In single precision, qr is too inaccurate for long vectors.
        lengths = torch.linalg.vector_norm(q, dim=0, dtype=torch.float64).to(q)
        return (q / lengths).T, (lengths[:, None] * coordinates).double().cpu()

    def _random(self, n: int) -> Tensor:
        """Return n random orthonormal rows that are orthogonal to Q."""
        shape = (n, self.rows.shape[1])
        rows = torch.randn(shape, generator=self._rng, dtype=torch.float64).to(self.rows)
        for _ in range(2):
            self._project_out(rows)
            rows = torch.linalg.qr(rows.T).Q.T
        return rows

    def _project_out(self, rows: Tensor) -> Tensor:
        """Remove Q's span from rows, (b, n), in place, and return what is removed, (filled, b)."""
        basis = self.rows[: self.filled]
        coefficients = basis @ rows.T
        rows.addmm_(coefficients.T, basis, alpha=-1)
        return coefficients.double().cpu()


def _multiple(of: int, least: float) -> int:
    return of * ceil(least / of)


def _dense(product: Product, like: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    matrix = product(torch.eye(len(like), dtype=like.dtype, device=like.device)).double()
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    return values.flip(0)[:rank].cpu(), vectors.T.flip(0)[:rank].to(like)
