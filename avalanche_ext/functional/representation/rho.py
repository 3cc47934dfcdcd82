"""The ρ-spectrum: how evenly representations use their directions."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Directions(NamedTuple):
    """The ρ-spectrum of representations, with and without unused directions.

    Attributes:
        rho: The ρ-spectrum over all directions.
        alive_rho: The ρ-spectrum over the directions whose singular value lies above the floor.
        n_alive: Their number, the numerical rank.
        n: D, the number of all directions.
    """

    rho: float
    alive_rho: float
    n_alive: int
    n: int


def rho_spectrum(representations: Tensor) -> float:
    """Return the ρ-spectrum of Roth et al. (2020), KL(uniform ‖ normalised singular values).

    ρ = Σ_i (1/D) log((1/D) / s_i), s_i = σ_i / Σ_j σ_j, over the D = min(N, H) singular values σ
    of the representations, which are not centred. It is 0 if all directions are used equally, and
    grows as fewer are used. (arXiv:2002.08473.)

    A direction that no sample uses, such as that of a unit that is always 0, would make ρ infinite.
    Published code computes the spectrum in single precision, where rounding determines how small
    such a σ is. Here σ_i is at least ε σ_1, where ε is the machine precision of the data's type
    (1.2e-7 for float32), which is about the size it has from rounding of the data. This choice
    matters: each direction at the floor adds at least (1/D) log(1 / (D ε)), and a floor ten times
    as high lowers ρ by 2.3 n/D, where n is the number of such directions. `rho_directions` returns
    how many directions lie above the floor, and ρ over these alone.

    Args:
        representations: (N, H) of floating point, N and H at least 1.

    Returns:
        ρ ≥ 0, computed in float64. It is 0 for a single sample or unit, and nan if all
        representations are 0 or any of them is not finite.

    Raises:
        ValueError: If the representations have another shape or type.
    """
    return rho_directions(representations).rho


@torch.no_grad()
def rho_directions(representations: Tensor) -> Directions:
    """Return the ρ-spectrum with and without the directions that no sample uses.

    Args:
        representations: As for `rho_spectrum`.

    Raises:
        ValueError: If the representations have another shape or type.
    """
    if representations.ndim != 2 or not representations.numel():
        raise ValueError(
            "representations must be (N, H) with N and H at least 1, but have shape "
            f"{tuple(representations.shape)}"
        )
    if not representations.is_floating_point():
        raise ValueError(f"representations must be floating-point, but are {representations.dtype}")
    n = min(representations.shape)
    if not representations.isfinite().all():
        return Directions(math.nan, math.nan, 0, n)
    largest_entry = representations.double().abs().max()
    if largest_entry == 0:
        return Directions(math.nan, math.nan, 0, n)
    # The scale does not matter, and division keeps extreme values in float64's range.
    values = torch.linalg.svdvals(representations.double() / largest_entry)
    floor = torch.finfo(representations.dtype).eps * values[0]
    alive = values[values > floor]
    return Directions(_divergence(values.clamp(min=floor)), _divergence(alive), len(alive), n)


def _divergence(values: Tensor) -> float:
    """Return KL(uniform ‖ values / their sum) of positive values, (D,)."""
    shares = values / values.sum()
    # Rounding could make it negative.
    return max(-float((len(shares) * shares).log().mean()), 0.0)
