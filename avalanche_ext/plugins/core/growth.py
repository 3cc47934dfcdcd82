"""Moving values kept for each parameter to their new places when a model has grown."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from avalanche_ext.functional.model.gradients import FlatLayout


def leading_part(old: torch.Size, new: torch.Size) -> tuple[slice, ...] | None:
    """Return the part of a grown parameter that existed before; None if it has not merely grown.

    Models grow at the end of each dimension; a classifier gets rows for new classes, for example.
    """
    if len(old) != len(new) or any(n < m for m, n in zip(old, new, strict=True)):
        return None
    return tuple(slice(size) for size in old)


def places_of(old: Mapping[str, torch.Size], layout: FlatLayout) -> Tensor:
    """Return the index in a new layout of each coordinate of an earlier one.

    Args:
        old: Shapes of the earlier parameters by name, in their order, with P coordinates in all.
        layout: The new layout.

    Returns:
        Indices, (P,), int64; -1 for coordinates that are gone.
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
    """Return `initial`, (P',), with `values`, (P,), written to their new places."""
    stay = places >= 0
    grown = initial.clone()
    grown[places[stay]] = values[stay]
    return grown
