"""Where what is kept for each parameter lies once a model has grown."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from avalanche_ext.functional.model.gradients import FlatLayout


def leading_part(old: torch.Size, new: torch.Size) -> tuple[slice, ...] | None:
    """Return which part of a parameter was there before it grew; None if it is another one.

    Models grow at the end of each dimension, as classifiers do by rows for new classes.
    """
    if len(old) != len(new) or any(n < m for m, n in zip(old, new, strict=True)):
        return None
    return tuple(slice(size) for size in old)


def places_of(old: Mapping[str, torch.Size], layout: FlatLayout) -> Tensor:
    """Return where each coordinate of an earlier layout lies in a new one.

    Args:
        old: The shapes of the earlier parameters, with P coordinates, by name and in their order.
        layout: The new layout.

    Returns:
        Places, (P,), int64; -1 for coordinates that are gone.
    """
    total = sum(layout.numels)
    indices = torch.arange(total, device=layout.parameters[0].device)
    now = dict(zip(layout.names, layout.pieces(indices), strict=True))
    places = []
    for name, shape in old.items():
        part = leading_part(shape, now[name].shape) if name in now else None
        if part is None:
            places.append(indices.new_full((shape.numel(),), -1))
        else:
            places.append(now[name][part].reshape(-1))
    return torch.cat(places)


def carried(values: Tensor, places: Tensor, initial: Tensor) -> Tensor:
    """Return values, (P,), at their new places, and those of `initial`, (P',), at all others."""
    stay = places >= 0
    grown = initial.clone()
    grown[places[stay]] = values[stay]
    return grown
