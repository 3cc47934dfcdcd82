"""Fisher information matrices with one Kronecker product for each layer (K-FAC)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from avalanche_ext.functional.fisher.curvature import HARD, Curvature, Step, firmness, shrinkage
from avalanche_ext.functional.fisher.diagonal import FisherKind, check_labels, fisher_rows
from avalanche_ext.functional.fisher.factors import Basis, Factors, Removal
from avalanche_ext.functional.model.gradients import FlatLayout
from avalanche_ext.functional.model.wrapped import plain_name
from avalanche_ext.functional.per_sample.factors import Sharing, summed_factors

Merge = Literal["sum", "nearest"]


@dataclass(frozen=True)
class KroneckerCurvature(Curvature):
    """F with one block A ⊗ G for each linear layer and convolution, diagonal for all others.

    Parameters of different layers do not interact. The memory is that of the factors, Σ (I² + O²),
    and of their eigenvectors.

    Attributes:
        shapes: The shapes of the P parameters, by name, in their order.
        layers: The blocks, by the layers' names.
        diagonal: The diagonal for all other parameters, by name, in their shapes.
        merge: How sums with other matrices are approximated in this form: "sum" or "nearest"; see
            `Factors.summed` and `Factors.nearest`.
        rank: Maximum number of eigenvectors of each factor that a step uses, see `Basis`; None uses
            all, which makes the step exact.
    """

    shapes: Mapping[str, torch.Size]
    layers: Mapping[str, Factors]
    diagonal: Mapping[str, Tensor]
    merge: Merge = "sum"
    rank: int | None = None

    @cached_property
    def bases(self) -> dict[str, Basis]:
        """The eigenvectors of the factors, by layer; computing them is slow."""
        return {name: factors.basis(self.rank) for name, factors in self.layers.items()}

    @cached_property
    def _bases_in_part(self) -> dict[tuple[str, ...], Basis]:
        """The eigenvectors of blocks restricted to some of a layer's parameters, by their names."""
        return {}

    def basis(self, name: str, moving: Factors) -> Basis:
        """Return the eigenvectors for a layer in which only some parameters may move.

        Args:
            name: The layer's.
            moving: Its block over these parameters.
        """
        if moving is self.layers[name]:
            return self.bases[name]
        found, key = self._bases_in_part, (*moving.names,)
        if key not in found:
            found[key] = moving.basis(self.rank)
        return found[key]

    def product(self, delta: Tensor) -> Tensor:
        """Return F δ, (P,), of a vector δ, (P,)."""
        product = torch.zeros_like(delta)
        given, made = self.pieces(delta), self.pieces(product)
        for name, d in self.diagonal.items():
            torch.mul(d, given[name], out=made[name])
        for factors in self.layers.values():
            of_layer = factors.product(factors.joined(given))
            for name, part in factors.parted(of_layer).items():
                made[name].view_as(part).copy_(part)
        return product

    def pieces(self, vector: Tensor) -> dict[str, Tensor]:
        """Return the views of a vector, (P,), for each parameter, in its shape."""
        parts = torch.split(vector, [shape.numel() for shape in self.shapes.values()])
        pairs = zip(self.shapes.items(), parts, strict=True)
        return {name: part.view(shape) for (name, shape), part in pairs}

    @property
    def trace(self) -> float:
        """The sum of all eigenvalues of F."""
        of_layers = sum(factors.trace for factors in self.layers.values())
        return of_layers + sum(float(d.double().sum()) for d in self.diagonal.values())

    @property
    def largest(self) -> float:
        """The largest eigenvalue of F."""
        of_layers = [basis.largest for basis in self.bases.values()]
        return max([*of_layers, *(float(d.max()) for d in self.diagonal.values())], default=0.0)

    @property
    def known_eigenvalues(self) -> Tensor | None:
        """All products of the factors' eigenvalues, and the diagonal; None if `rank` is set."""
        if self.rank is not None:
            return None
        products = [torch.outer(b.inputs.values, b.outputs.values) for b in self.bases.values()]
        return torch.cat([part.flatten() for part in (*products, *self.diagonal.values())])

    @property
    def size(self) -> int:
        """The number of parameters, P."""
        return sum(shape.numel() for shape in self.shapes.values())

    @property
    def n_bytes(self) -> int:
        """The memory of the factors, their eigenvectors, and the diagonal."""
        factors = sum(f.inputs.nbytes + f.outputs.nbytes for f in self.layers.values())
        bases = sum(basis.n_bytes for basis in self.bases.values())
        return factors + bases + sum(d.nbytes for d in self.diagonal.values())

    def held(self) -> Tensor:
        """Return which parameters F holds at all, (P,), bool."""
        some = [*self.diagonal.values(), *(f.inputs for f in self.layers.values())]
        held = torch.zeros(self.size, dtype=torch.bool, device=some[0].device if some else None)
        pieces = self.pieces(held)
        for name, d in self._as_diagonal(self.layers).items():
            pieces[name].copy_(d != 0)
        return held

    def scaled(self, factor: float) -> KroneckerCurvature:
        """Return F times a factor, at least 0."""
        layers = {n: replace(f, outputs=factor * f.outputs) for n, f in self.layers.items()}
        return replace(
            self,
            layers=layers,
            diagonal={name: factor * d for name, d in self.diagonal.items()},
        )

    def damped(self, damping: float) -> KroneckerCurvature:
        """Return F with damped factors, see `Factors.damped`, and damping added to diagonals."""
        return replace(
            self,
            layers={name: factors.damped(damping) for name, factors in self.layers.items()},
            diagonal={name: d + damping for name, d in self.diagonal.items()},
        )

    def placed(self, places: Tensor, shapes: Mapping[str, torch.Size]) -> KroneckerCurvature:
        """Return F over other parameters; see `Curvature.placed`."""
        numels = torch.tensor([0, *(shape.numel() for shape in shapes.values())])
        starts = dict(zip(shapes, numels.cumsum(0).tolist(), strict=False))
        within = {
            name: piece - starts[name]
            for name, piece in self.pieces(places).items()
            if bool((piece >= 0).all())
        }
        layers = {name: f.placed(within, shapes) for name, f in self.layers.items()}
        diagonal = {
            name: d.new_zeros(shapes[name]) for name, d in self.diagonal.items() if name in within
        }
        for name, grown in diagonal.items():
            grown.view(-1)[within[name].reshape(-1)] = self.diagonal[name].reshape(-1)
        return replace(
            self,
            shapes={**shapes},
            layers={name: factors for name, factors in layers.items() if factors is not None},
            diagonal=diagonal,
        )

    def merged(self, new: KroneckerCurvature, decay: float) -> KroneckerCurvature:
        """Return γ F + F′ in this form; see `merge`.

        A parameter that F′ has and F lacks, because it was frozen until then, is added to its
        layer's block. Layers that have a block on one side and a diagonal on the other get a
        diagonal.
        """
        layers = {}
        apart: list[dict[str, Factors]] = [{}, {}]
        for name, factors in self.layers.items():
            now = new.layers.get(name)
            if now is not None and {*factors.names} <= {*now.names}:
                wide = factors.widened(now)
                merge = wide.summed if self.merge == "sum" else wide.nearest
                layers[name] = merge(now, decay)
            elif new.has_any(factors.names):
                apart[0][name] = factors
            else:
                layers[name] = factors.faded(decay)
        for name, factors in new.layers.items():
            if name not in layers and self.has_any(factors.names):
                apart[1][name] = factors
            elif name not in layers:
                layers[name] = factors
        diagonal = {n: decay * d for n, d in self._as_diagonal(apart[0]).items()}
        for name, d in new._as_diagonal(apart[1]).items():
            diagonal[name] = diagonal[name] + d if name in diagonal else d
        return replace(self, shapes=new.shapes, layers=layers, diagonal=diagonal)

    def has_any(self, names: Collection[str]) -> bool:
        """Return whether any of these parameters has a block or a diagonal."""
        own = {*self.diagonal, *(name for f in self.layers.values() for name in f.names)}
        return not own.isdisjoint(names)

    @property
    def is_cheap(self) -> bool:
        """True: the eigenvectors do not depend on rates, and are kept."""
        return True

    def step(
        self, layout: FlatLayout, anchor: Tensor, strength: float, rates: float | Tensor
    ) -> Step:
        """Return a step that pulls parameters towards an anchor; see `Curvature.step`.

        The step is exact in `Basis` if each layer has one rate. If the weights of a layer have
        different rates, all get the harmonic mean weighted by the diagonal of F, which keeps
        tr(diag(η)⁻¹ F). Under Adam, a weight whose gradients have vanished has a huge η, and an
        arithmetic mean would freeze the whole layer.
        """
        return KroneckerStep(layout, anchor, self, firmness(strength, rates, anchor))

    def _as_diagonal(self, layers: Mapping[str, Factors]) -> dict[str, Tensor]:
        """Return the diagonal together with the diagonals of some layers."""
        diagonal = {**self.diagonal}
        for factors in layers.values():
            for name, part in factors.parted(factors.diagonal()).items():
                diagonal[name] = part.reshape(self.shapes[name])
        return diagonal


class KroneckerStep:
    """The step of `Curvature.step` for `KroneckerCurvature`, layer by layer.

    Args:
        layout: The parameters that are moved.
        anchor: θ*, (P,).
        curvature: F, over the same parameters.
        firmness: λη, one number or (P,).
    """

    def __init__(
        self, layout: FlatLayout, anchor: Tensor, curvature: KroneckerCurvature, firmness: Tensor
    ) -> None:
        parameters: dict[str, Tensor] = dict(zip(layout.names, layout.parameters, strict=True))
        anchors = curvature.pieces(anchor)
        firm = curvature.pieces(firmness) if firmness.dim() else None
        self._layers: list[_LayerStep] = []
        for name, factors in curvature.layers.items():
            mean = firmness
            if firm is not None:
                moving = [n for n in factors.names if bool(firm[n].any())]
                if not moving:
                    continue
                factors = factors.restricted(moving)
                mean = _harmonic_mean(factors.joined(firm), factors.diagonal())
            removal = curvature.basis(name, factors).removal(mean)
            own = {n: anchors[n] for n in factors.names}
            self._layers.append(_LayerStep(factors, parameters, own, removal))
        self._parameters = [parameters[name] for name in curvature.diagonal]
        self._anchors = [anchors[name] for name in curvature.diagonal]
        self._weights = [
            shrinkage((firmness if firm is None else firm[name]) * d)
            for name, d in curvature.diagonal.items()
        ]

    @torch.no_grad()
    def __call__(self) -> None:
        """Move the parameters in place."""
        for layer in self._layers:
            layer()
        if self._parameters:
            torch._foreach_lerp_(self._parameters, self._anchors, self._weights)


@dataclass(frozen=True)
class _LayerStep:
    factors: Factors
    parameters: Mapping[str, Tensor]
    anchors: Mapping[str, Tensor]
    removal: Removal

    def __call__(self) -> None:
        delta = self.factors.joined(self.parameters)
        for name, part in self.factors.parted(delta).items():
            part.sub_(self.anchors[name].view(part.shape))
        for name, part in self.factors.parted(self.removal(delta)).items():
            parameter = self.parameters[name]
            parameter.sub_(part.reshape(parameter.shape))


def kronecker_fisher(
    model: nn.Module,
    x: Tensor,
    y: Tensor | None,
    kind: FisherKind = "true",
    *,
    t: Tensor | None = None,
    sharing: Sharing = "expand",
    seed: int = 0,
    chunk_size: int | None = None,
) -> KroneckerCurvature:
    """Return the Fisher information of a classifier with one Kronecker product for each layer.

    The block of a linear layer or convolution is A ⊗ G (`Factors`), with means over samples,

        A = (1/N) Σ_n a_n a_nᵀ,    G = (1/N) Σ_n Σ_r e_rn e_rnᵀ,    e_rn = J_nᵀ s_rn,

    where J_n is the Jacobian of the outputs of sample n with respect to those of the layer, and s
    the rows that define the kind of Fisher (`diagonal.fisher_rows`). It is the block of the Fisher
    itself if a and e are independent, or for N = 1.

    If a layer sees L positions of a sample, as a convolution does (Grosse, Martens 2016,
    arXiv:1602.01407), or an MLP on patches (Eschenhagen et al. 2023, arXiv:2311.00636)::

        "expand":    A = (1/NL) Σ_nl a_nl a_nlᵀ,    G = (1/N) Σ_nlr e_rnl e_rnlᵀ
        "reduce":    A = (1/N) Σ_n ā_n ā_nᵀ,        G = (1/N) Σ_nr ê_rn ê_rnᵀ,
                     ā_n = (1/L) Σ_l a_nl,          ê_rn = Σ_l e_rnl.

    Each run of a layer that runs several times for a sample, as in a recurrent network, is a
    position. If a layer runs only for some of the samples, as a task's head does, A is the mean
    over these. Embeddings, normalisation, grouped convolutions, layers that share weights and
    layers of unknown types get the diagonal of the Fisher.

    Args:
        model: Runs in eval mode, and does not change; returns logits (n, C).
        x: Samples, (N, ...).
        y: Labels, (N,); only `kind="empirical"` needs them.
        kind: "true", "sampled" or "empirical", see `diagonal.fisher_rows`.
        t: Task labels, (N,), of multi-head models.
        sharing: "expand" or "reduce", for layers that see several positions.
        seed: Seed of the labels drawn for `kind="sampled"`.
        chunk_size: Number of samples per pass; None: as many as fit into memory.

    Raises:
        ValueError: If there are no samples, sizes differ, or a label is not in [0, C).
    """
    if sharing not in get_args(Sharing):
        raise ValueError(f'sharing={sharing!r}: must be "expand" or "reduce"')
    check_labels(x, y)
    layout, rows = FlatLayout(model.named_parameters()), fisher_rows(kind, y, seed=seed)
    sums, squares = summed_factors(
        model, layout, x, rows, t=t, sharing=sharing, chunk_size=chunk_size
    )
    names = {id(p): name for name, p in zip(layout.names, layout.parameters, strict=True)}
    layers = {}
    for name, layer in model.named_modules():
        if layer not in sums:
            continue
        own = sums[layer]
        weight, bias = (names.get(id(getattr(layer, part))) for part in ("weight", "bias"))
        inputs, outputs = own.inputs / max(1, own.n_samples), own.outputs / len(x)
        mass = own.n_samples / len(x)
        layers[plain_name(name)] = Factors(weight, bias, inputs, outputs, mass)
    apart = {name for factors in layers.values() for name in factors.names}
    pairs = zip(layout.names, layout.pieces(squares / len(x)), strict=True)
    return KroneckerCurvature(
        shapes={n: p.shape for n, p in zip(layout.names, layout.parameters, strict=True)},
        layers=layers,
        diagonal={name: piece.clone() for name, piece in pairs if name not in apart},
    )


def _harmonic_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Return Σ w / Σ (w / v) over the values above 0; 0 if there is no weight."""
    some = values > 0
    v, w = values[some].double(), weights[some].double()
    mean = w.sum() / (w / v).sum()
    return mean.nan_to_num(nan=0.0).clamp(max=HARD).to(values)
