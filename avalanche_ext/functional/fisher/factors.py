"""One layer's block of a Fisher information matrix as a Kronecker product, and its eigenvectors."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from avalanche_ext.functional.fisher.curvature import shrinkage


@dataclass(frozen=True)
class Factors:
    """The block of one layer, F ≈ A ⊗ G, over the matrix [W b] of its weight and bias.

    For a linear layer with inputs a, extended by a 1 for the bias, and gradients e at its outputs,
    the gradient of [W b] is e aᵀ. The block replaces E[(e aᵀ) ⊗ (e aᵀ)] by E[a aᵀ] ⊗ E[e eᵀ], as if
    a and e were independent (Martens, Grosse 2015, arXiv:1503.05671, equation 1). So the penalty of
    a change Δ of [W b] is ⟨Δ, G Δ A⟩.

    Attributes:
        weight: The name of the weight, (O, ...), whose rows are flattened; None if it is fixed.
        bias: The name of the bias, (O,); None if there is none or it is fixed.
        inputs: A, (I, I), the mean over samples of a aᵀ; the bias's row is the last.
        outputs: G, (O, O), the sum over tasks of means over samples of Σ_r e_r e_rᵀ.
        mass: Weight of A in a mean with other tasks' A: 1 for a task whose samples all ran through
            the layer, 0 if none did.
    """

    weight: str | None
    bias: str | None
    inputs: Tensor
    outputs: Tensor
    mass: float = 1.0

    @property
    def names(self) -> list[str]:
        """The names of its parameters."""
        return [name for name in (self.weight, self.bias) if name is not None]

    @property
    def trace(self) -> float:
        """The sum of the eigenvalues of A ⊗ G."""
        return float(self.inputs.double().trace() * self.outputs.double().trace())

    def product(self, delta: Tensor) -> Tensor:
        """Return G Δ A, (O, I), of a matrix Δ, (O, I)."""
        return self.outputs @ delta @ self.inputs

    def diagonal(self) -> Tensor:
        """Return the diagonal of A ⊗ G, as (O, I)."""
        return torch.outer(self.outputs.diagonal(), self.inputs.diagonal())

    def joined(self, pieces: Mapping[str, Tensor]) -> Tensor:
        """Join the parts for the weight and the bias, if present, into a matrix (O, I)."""
        return torch.cat([pieces[name].reshape(len(self.outputs), -1) for name in self.names], 1)

    def parted(self, matrix: Tensor) -> dict[str, Tensor]:
        """Split a matrix (O, I) into the parts of its parameters, by name, (O, ·) each."""
        n = len(self.inputs) - (self.bias is not None)
        parts = matrix[:, :n], matrix[:, n:]
        pairs = zip((self.weight, self.bias), parts, strict=True)
        return {name: part for name, part in pairs if name is not None}

    def damped(self, damping: float) -> Factors:
        """Return (A + π √d I) ⊗ (G + √d / π I), with π² the ratio of their mean eigenvalues.

        Martens, Grosse 2015, section 6.3. A zero block stays zero.
        """
        a, g = (float(m.double().trace()) / len(m) for m in (self.inputs, self.outputs))
        if not damping or not a or not g:
            return self
        pi, root = (a / g) ** 0.5, damping**0.5
        ones = (torch.eye(len(m)).to(m) for m in (self.inputs, self.outputs))
        of_inputs, of_outputs = ones
        return replace(
            self,
            inputs=self.inputs + pi * root * of_inputs,
            outputs=self.outputs + root / pi * of_outputs,
        )

    def widened(self, other: Factors) -> Factors:
        """Return the block extended to all parameters of another block of the layer, with zeros."""
        if self.names == other.names:
            return self
        columns = torch.arange(len(other.inputs), device=self.inputs.device)[None]
        places = [part[0] for n, part in other.parted(columns).items() if n in self.names]
        inputs = _spread(self.inputs, torch.cat(places), len(other.inputs))
        return replace(self, weight=other.weight, bias=other.bias, inputs=inputs)

    def summed(self, new: Factors, decay: float) -> Factors:
        """Return the mean of both A, weighted by their masses, combined with γ G + G′.

        So F = (Σ γᵗ A / Σ γᵗ) ⊗ Σ γᵗ G.
        """
        mass = decay * self.mass + new.mass
        if not mass:
            return replace(new, mass=0.0)
        return replace(
            new,
            inputs=(decay * self.mass / mass) * self.inputs + (new.mass / mass) * new.inputs,
            outputs=decay * self.outputs + new.outputs,
            mass=mass,
        )

    def faded(self, decay: float) -> Factors:
        """Return γ A ⊗ G, the block after a task that did not use the layer."""
        return replace(self, outputs=decay * self.outputs, mass=decay * self.mass)

    def nearest(self, new: Factors, decay: float) -> Factors:
        """Return the Kronecker product that is nearest to γ A ⊗ G + A′ ⊗ G′ in Frobenius norm.

        It lies in the span of the factors: in an orthonormal basis of (A, A′) and one of (G, G′),
        the sum is a 2 × 2 matrix, whose best rank-1 approximation is its largest singular triplet
        (Van Loan, Pitsianis 1993).
        """
        a, ra = _orthonormal(self.inputs, new.inputs)
        g, rg = _orthonormal(self.outputs, new.outputs)
        weights = torch.tensor([decay, 1.0], dtype=ra.dtype, device=ra.device)
        u, s, vh = torch.linalg.svd((ra * weights) @ rg.T)
        inputs, outputs = _combined(a, u[:, 0]), s[0] * _combined(g, vh[0])
        # Both factors are positive semi-definite up to a shared sign.
        sign = -1.0 if float(inputs.trace()) < 0 else 1.0
        size = float(torch.linalg.matrix_norm(new.inputs if new.mass else self.inputs)) or 1.0
        return replace(
            new,
            inputs=(sign * size * inputs).to(new.inputs),
            outputs=(sign / size * outputs).to(new.outputs),
            mass=decay * self.mass + new.mass,
        )

    def restricted(self, names: Collection[str]) -> Factors:
        """Return the block of some of its parameters, at least one."""
        if {*names} == {*self.names}:
            return self
        numbers = torch.arange(len(self.inputs), device=self.inputs.device)[None]
        stay = torch.cat([part[0] for n, part in self.parted(numbers).items() if n in names])
        return replace(
            self,
            weight=self.weight if self.weight in names else None,
            bias=self.bias if self.bias in names else None,
            inputs=self.inputs[stay][:, stay],
        )

    def placed(
        self, places: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]
    ) -> Factors | None:
        """Return the block over parameters that have grown; None if all of them are gone.

        Args:
            places: For each parameter that still exists, the index in its new shape of each
                coordinate, in its old shape.
            shapes: The new shapes of the parameters.
        """
        names = [name for name in self.names if name in places]
        if not names:
            return None
        stay, columns, n_columns = self.restricted(names), [], 0
        for name in names:
            width = shapes[name][1:].numel()
            own = places[name].reshape(len(self.outputs), -1)
            rows = own[:, 0] // width
            columns.append(own[0] % width + n_columns)
            n_columns += width
        return replace(
            stay,
            inputs=_spread(stay.inputs, torch.cat(columns), n_columns),
            outputs=_spread(stay.outputs, rows, shapes[names[0]][0]),
        )

    def basis(self, rank: int | None) -> Basis:
        """Return at most the top `rank` eigenpairs of A and of G; None returns all."""
        return Basis(_eigen(self.inputs, rank), _eigen(self.outputs, rank))


@dataclass(frozen=True)
class Eigen:
    """The top eigenpairs of a matrix, and the mean of its other eigenvalues.

    Attributes:
        values: s, (k,), descending, above 0.
        vectors: U, (n, k), with orthonormal columns.
        rest: σ for each coordinate where the matrix is not zero, and 0 for the others, (n,); one
            number, (1,), if there are no others.
    """

    values: Tensor
    vectors: Tensor
    rest: Tensor

    @cached_property
    def has_rest(self) -> bool:
        """Whether σ is above 0."""
        return bool(self.rest.any())


@dataclass(frozen=True)
class Basis:
    """Ã ⊗ G̃, an approximation of A ⊗ G with which a step takes only a few products.

    Ã has the top eigenpairs of A, and replaces each other eigenvalue by their mean σ: Ã = U S Uᵀ +
    σ (I − U Uᵀ). So it has the same trace, and equals A if all eigenpairs are kept. The same holds
    for G̃. The identity I has zeros at coordinates where a factor is zero, such as those of outputs
    that did not exist yet.

    Attributes:
        inputs: Of A.
        outputs: Of G.
    """

    inputs: Eigen
    outputs: Eigen

    @property
    def largest(self) -> float:
        """The largest eigenvalue of A ⊗ G."""
        if not len(self.inputs.values) or not len(self.outputs.values):
            return 0.0
        return float(self.inputs.values[0] * self.outputs.values[0])

    @property
    def n_bytes(self) -> int:
        """The memory of the eigenpairs."""
        both = (self.inputs, self.outputs)
        return sum(e.values.nbytes + e.vectors.nbytes + e.rest.nbytes for e in both)

    def removal(self, firmness: Tensor) -> Removal:
        """Return the map from Δ to the part of it that a step removes.

        Along an eigenvector the share s / (1 + s) is removed, where s is λη times its eigenvalue.

        Args:
            firmness: λη, a scalar.
        """
        a, g = self.inputs, self.outputs
        of_both = shrinkage(firmness * torch.outer(g.values, a.values))
        of_g = shrinkage(firmness * torch.outer(g.values, a.rest))
        of_a = shrinkage(firmness * torch.outer(g.rest, a.values))
        of_none = shrinkage(firmness * torch.outer(g.rest, a.rest))
        of_both += of_none.amax() - of_g.amax(1)[:, None] - of_a.amax(0)
        return Removal(
            a, g, of_both, of_g - of_none.amax(0), of_a - of_none.amax(1)[:, None], of_none
        )


@dataclass(frozen=True)
class Removal:
    """The linear map from Δ, (O, I), to the part of it that a step removes.

    Attributes:
        inputs: Of A, k eigenvectors.
        outputs: Of G, m eigenvectors.
        of_both: The share removed along eigenvectors of both, (m, k), minus the other three.
        of_g: Along those of G alone, (m, I) or (m, 1), minus the last.
        of_a: Along those of A alone, (O, k) or (1, k), minus the last.
        of_none: The share removed everywhere, (O, I), with size 1 in a dimension along which it is
            constant.
    """

    inputs: Eigen
    outputs: Eigen
    of_both: Tensor
    of_g: Tensor
    of_a: Tensor
    of_none: Tensor

    def __call__(self, delta: Tensor) -> Tensor:
        """Return the part of Δ that is removed."""
        u, v = self.inputs.vectors, self.outputs.vectors
        rows = v.T @ delta
        if not self.outputs.has_rest:
            return v @ torch.addmm(self.of_g * rows, self.of_both * (rows @ u), u.T)
        columns = delta @ u
        core = torch.addmm(self.of_a * columns, v, self.of_both * (v.T @ columns))
        if not self.inputs.has_rest:
            return core @ u.T
        rest = torch.addmm(self.of_none * delta, v, self.of_g * rows)
        return torch.addmm(rest, core, u.T)


def _eigen(matrix: Tensor, rank: int | None) -> Eigen:
    """Return the top eigenpairs of a symmetric matrix, (n, n), and the mean of the others."""
    ascending, vectors = torch.linalg.eigh(matrix.double())
    values = ascending.flip(0).clamp(min=0)
    # Smaller ones are rounding errors, and their vectors are arbitrary.
    rounding = len(values) ** 0.5 * torch.finfo(matrix.dtype).eps * values[0]
    n_certain = int((values > rounding).sum())
    k = n_certain if rank is None else min(rank, n_certain)
    held = matrix.diagonal().ne(0)
    n_held = int(held.sum())
    mean = float(values[k:].sum()) / (n_held - k) if k < n_certain else 0.0
    rest = (held[:1] if n_held == len(held) else held).to(matrix) * mean
    return Eigen(values[:k].to(matrix), vectors.flip(1)[:, :k].contiguous().to(matrix), rest)


def _orthonormal(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return Q, (m, k, k), orthonormal matrices, and R, (m, 2): the two are Σ_i R_ij Q_i."""
    columns = torch.stack([first.double().reshape(-1), second.double().reshape(-1)], 1)
    q, r = torch.linalg.qr(columns)
    return q.T.reshape(-1, *first.shape), r


def _combined(matrices: Tensor, weights: Tensor) -> Tensor:
    return torch.einsum("k,kij->ij", weights, matrices)


def _spread(matrix: Tensor, places: Tensor, size: int) -> Tensor:
    """Return zeros, (size, size), with a matrix, (n, n), written at these rows and columns."""
    grown = matrix.new_zeros(size, size)
    grown[places[:, None], places] = matrix
    return grown
