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


def leaving_by_distance(
    held: Sequence[tuple[float, int]], arriving_group: int, farthest: bool
) -> set[float]:
    """Which of the held (value, group), oldest first, may leave a full ring; several if they tie.

    The arriving sample is counted to its group, but neither enters the mean nor leaves.
    """
    loser = _loser(held, arriving_group)
    values = [value for value, group in held if group == loser]
    mean = sum(values) / len(values)
    distances = [abs(value - mean) for value in values]
    extreme = max(distances) if farthest else min(distances)
    return {v for v, d in zip(values, distances, strict=True) if abs(d - extreme) < 1e-9}


def leaving_old_and_near(
    held: Sequence[tuple[float, int]], arrived: Sequence[tuple[float, int]]
) -> float:
    """Which of the held (value, group), oldest first, leaves when the last of `arrived` arrives."""
    loser = _loser(held, arrived[-1][1])
    values = [value for value, group in held if group == loser]
    seen = [value for value, group in arrived if group == loser]
    distances = [abs(value - sum(seen) / len(seen)) for value in values]
    places = [sorted(distances).index(distance) for distance in distances]
    scores = [10 * age + place for age, place in enumerate(places)]
    return values[scores.index(min(scores))]


def _loser(held: Sequence[tuple[float, int]], arriving_group: int) -> int:
    sizes: dict[int, int] = {group: 0 for _, group in held}
    for group in [*(group for _, group in held), arriving_group]:
        if group in sizes:
            sizes[group] += 1
    return next(group for _, group in held if sizes[group] == max(sizes.values()))


def last_of_each_group(groups: Sequence[int], size: int) -> list[int]:
    """Arrival numbers held by GEM's memory: the last `size` of each group."""
    return [
        arrival
        for arrival, group in enumerate(groups)
        if sum(later == group for later in groups[arrival + 1 :]) < size
    ]


def gem_ring_by_loops(n_tasks: int, n_batches: int, batch_size: int, size: int) -> list[int]:
    """Arrival numbers held by the rings of GEM's official code, which share one write position."""
    rings: list[dict[int, int]] = []
    arrival = position = 0
    for _ in range(n_tasks):
        rings.append({})
        for _ in range(n_batches):
            for row in range(batch_size):
                if position + row < size:
                    rings[-1][position + row] = arrival + row
            position = min(position + batch_size, size) % size
            arrival += batch_size
    return sorted(held for ring in rings for held in ring.values())
