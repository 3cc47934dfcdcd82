"""Which arrivals a buffer holds, by plain lists."""

from __future__ import annotations

from collections.abc import Sequence


def ring_by_lists(groups: Sequence[int], max_size: int) -> list[int]:
    """Arrival numbers held by DRL's Algorithm 1: insert, then the oldest of the largest leaves."""
    held: list[int] = []
    for arrival, _ in enumerate(groups):
        held.append(arrival)
        if len(held) > max_size:
            sizes = {g: sum(groups[a] == g for a in held) for g in {groups[a] for a in held}}
            largest = max(sizes.values())
            # `held` is in order of arrival: the first member of any largest group leaves.
            held.remove(next(a for a in held if sizes[groups[a]] == largest))
    return held


def last_of_each_group(groups: Sequence[int], size: int) -> list[int]:
    """Arrival numbers held by GEM's memory: the last `size` of each group."""
    return [
        arrival
        for arrival, group in enumerate(groups)
        if sum(later == group for later in groups[arrival + 1 :]) < size
    ]
