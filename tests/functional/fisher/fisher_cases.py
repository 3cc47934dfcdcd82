"""Models of every kind with samples, and what is compared of their diagonal Fishers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from avalanche_ext.functional.fisher.diagonal import FisherKind
from tests.functional.per_sample.fisher_models import (
    N_CLASSES,
    N_TOKENS,
    Bare,
    Folded,
    Late,
    Mixing,
    Recurrent,
    Repeating,
    Routed,
    Tied,
    Tokens,
    convolutional,
    frozen,
    half_routed,
    mlp,
    parametrised,
    plain_convolutional,
    volumetric,
)
from tests.oracles.arrays import Array

KINDS: tuple[FisherKind, ...] = ("true", "sampled", "empirical")


@dataclass(frozen=True)
class Case:
    """A model, and what its samples look like."""

    make: Callable[[], nn.Module]
    shape: Sequence[int] = (6,)
    has_tokens: bool = False
    n_classes: int = N_CLASSES

    def model(self, dtype: torch.dtype = torch.float64) -> nn.Module:
        """The model, whose numbers are always the same and none of them at a special value."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = self.make().double()
            with torch.no_grad():
                for p in model.parameters():
                    p.mul_(1.5).add_(0.3 * torch.randn_like(p))
                for name, buffer in model.named_buffers():
                    if "running" in name:
                        buffer.add_(torch.rand_like(buffer))
        return model.to(dtype)

    def samples(self, n: int = 7) -> tuple[Tensor, Tensor]:
        """Samples, (n, ...), and labels, (n,)."""
        rng = torch.Generator().manual_seed(1)
        y = torch.randint(self.n_classes, (n,), generator=rng)
        if self.has_tokens:
            return torch.randint(N_TOKENS, (n, *self.shape), generator=rng), y
        return torch.randn(n, *self.shape, generator=rng, dtype=torch.float64), y


RULED = {
    "an mlp": Case(mlp),
    "frozen parts": Case(frozen),
    "convolutions": Case(convolutional, (2, 7, 5)),
    "plain convolutions": Case(plain_convolutional, (2, 6, 5)),
    "volumes": Case(volumetric, (1, 4, 3, 4)),
    "tokens": Case(Tokens, (5,), has_tokens=True),
    "layers that repeat": Case(Repeating, (3,), has_tokens=True),
    "rows as samples": Case(Folded),
}
"""Models all of whose parameters have rules."""

UNRULED = {
    "a recurrent layer": Case(Recurrent),
    "a bare parameter": Case(Bare),
    "shared weights": Case(Tied),
    "a parametrised weight": Case(parametrised),
    "routed samples": Case(lambda: Routed(0, 0.0)),
    "routed samples, the first ones together": Case(lambda: Routed(1, 1.0)),
    "routed samples, some to a frozen layer": Case(half_routed),
    "layers that run late": Case(Late),
    "mixed samples": Case(Mixing),
}

EVERY = RULED | UNRULED


def weights_of(kind: FisherKind, outputs: Tensor, y: Tensor, seed: int) -> Tensor:
    """The weights of the classes of each sample in its Fisher, (N, C)."""
    p = outputs.softmax(1)
    if kind == "true":
        return p
    return one_hot(drawn_labels(p, seed) if kind == "sampled" else y, p.shape[1])


def drawn_labels(p: Tensor, seed: int) -> Tensor:
    """For each sample the first label at which the sum of probabilities is above its number."""
    rng = torch.Generator().manual_seed(seed)
    uniform = torch.rand(len(p), dtype=torch.float64, generator=rng).tolist()
    sums = np.cumsum(p.double().numpy(), 1)
    pairs = zip(uniform, sums, strict=True)
    return torch.tensor([int(np.argmax(row > u * row[-1])) for u, row in pairs])


def assert_equal(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor | Array], rtol: float = 1e-9
) -> None:
    """Assert that what is found for each parameter is as expected."""
    assert [*found] == [*expected]
    atol = 1e-3 * rtol * max(float(abs(value).max()) for value in expected.values())
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=rtol, atol=atol, err_msg=name)


@contextmanager
def double_by_default() -> Iterator[None]:
    """Avalanche's heads and nngeometry make tensors of the default precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
