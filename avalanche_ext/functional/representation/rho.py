"""The ρ-spectrum: how evenly representations use their directions."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Directions(NamedTuple):
    """What the singular values of a matrix of representations tell.

    Attributes:
        rho: The ρ-spectrum over all directions.
        alive_rho: The same over those alone whose singular value lies above the floor.
        n_alive: How many these are, the numerical rank.
        n: D, the number of all directions.
    """

    rho: float
    alive_rho: float
    n_alive: int
    n: int


def rho_spectrum(representations: Tensor) -> float:
    """Return the ρ-spectrum of Roth et al. (2020), KL(uniform ‖ normalised singular values).

    ρ = Σ_i (1/D) log((1/D) / s_i), s_i = σ_i / Σ_j σ_j, over the D = min(N, H) singular values σ
    of the representations, which are not centred. It is 0 where all directions are used alike, and
    the larger the fewer they are. (arXiv:2002.08473.)

    A direction that no sample uses, as that of a unit which is 0 for all, would make it infinite.
    Published code takes the spectrum in single precision, where rounding decides how small such a
    σ is. Here σ_i is at least ε σ_1, ε the machine precision of the data's type (1.2e-7 for
    float32), about what rounding of the data would make of it. That choice weighs: each direction
    at the floor adds at least (1/D) log(1 / (D ε)), and ten times the floor takes 2.3 n/D off ρ,
    n the number of them. `rho_directions` tells how many are not, and what ρ is over these alone.

    Args:
        representations: (N, H) of floating point, N and H at least 1.

    Returns:
        ρ ≥ 0, computed in float64. 0 for a single sample or unit; nan for representations that are
        all 0, and where any is not finite.

    Raises:
        ValueError: If they have another shape or type.
    """
    return rho_directions(representations).rho


@torch.no_grad()
def rho_directions(representations: Tensor) -> Directions:
    """Return the ρ-spectrum with and without the directions that no sample uses.

    Args:
        representations: As for `rho_spectrum`.

    Raises:
        ValueError: If they have another shape or type.
    """
    if representations.ndim != 2 or not representations.numel():
        raise ValueError(
            "representations must be (N, H) with N and H at least 1, but have shape "
            f"{tuple(representations.shape)}"
        )
    if not representations.is_floating_point():
        raise ValueError(
            f"representations must be of floating point, but are {representations.dtype}"
        )
    n = min(representations.shape)
    if not representations.isfinite().all():
        return Directions(math.nan, math.nan, 0, n)
    largest_entry = representations.double().abs().max()
    if largest_entry == 0:
        return Directions(math.nan, math.nan, 0, n)
    # The values' scale does not matter; without it, extreme ones would leave float64's range.
    values = torch.linalg.svdvals(representations.double() / largest_entry)
    floor = torch.finfo(representations.dtype).eps * values[0]
    alive = values[values > floor]
    return Directions(_divergence(values.clamp(min=floor)), _divergence(alive), len(alive), n)


def _divergence(values: Tensor) -> float:
    """KL(uniform ‖ values / their sum) of positive values, (D,)."""
    shares = values / values.sum()
    # Rounding alone could take it below 0.
    return max(-float((len(shares) * shares).log().mean()), 0.0)
