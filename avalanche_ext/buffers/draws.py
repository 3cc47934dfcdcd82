"""Which slots to replay, as functions of the slots of each class or task.

Every function takes `slots_of`, a mapping from each class or task to its slots, as returned by
`SlotBuffer.groups`, and a numpy generator. Draws are with replacement by default. Groups are taken
in ascending order, so a draw does not depend on the mapping's order.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np

from avalanche_ext.buffers.slots import Slots

SlotsOf = Mapping[int, Sequence[int]]


def uniform(slots_of: SlotsOf, n: int, rng: np.random.Generator, replacement: bool = True) -> Slots:
    """Draw n slots uniformly from all groups together; at least one slot must exist.

    Without replacement, if there are at most n slots, all are returned in order.
    """
    members = _ascending(slots_of)
    if replacement:
        return np.array(_uniform(members, n, rng), dtype=np.int64)
    total = sum(map(len, members))
    if total <= n:
        return np.array([slot for slots in members for slot in slots], dtype=np.int64)
    positions = rng.choice(total, n, replace=False)
    return np.array(_at(members, positions.tolist()), dtype=np.int64)


def half_current(slots_of: SlotsOf, n: int, current: int, rng: np.random.Generator) -> Slots:
    """Draw ⌈n/2⌉ slots of the current task and the rest from all earlier tasks together.

    The DRL paper's ER builds its batches this way. While the memory has slots for only one half,
    all n come from it.

    Args:
        slots_of: Slots of each task; at least one slot must exist.
        n: Number of slots to draw.
        current: The current task.
        rng: Generator of the draw.

    Returns:
        Slots (n,), those of the current task first.
    """
    now = [slots_of[current]] if current in slots_of else []
    earlier = _ascending({task: slots for task, slots in slots_of.items() if task != current})
    n_now = 0 if not now else n if not earlier else (n + 1) // 2
    slots = _uniform(now, n_now, rng) + _uniform(earlier, n - n_now, rng)
    return np.array(slots, dtype=np.int64)


def balanced(
    slots_of: SlotsOf,
    n: int,
    arriving: Sequence[int],
    rng: np.random.Generator,
    positive_pairs: bool = True,
) -> Slots:
    """Draw a batch balanced over groups: Algorithms 2–3 of the DRL paper (BER).

    Each of the G groups contributes ⌊n/G⌋ slots, and n mod G random groups one more, if this gives
    every group at least two slots (with `positive_pairs`) or at least one (without). Otherwise, not
    all groups fit:

    - With `positive_pairs`, each of the A arriving groups contributes two slots, and so do ⌊n/2⌋ −
      A other groups, drawn without replacement. If n is odd, one of these groups, chosen at random,
      contributes another slot.
    - Without, n groups contribute one slot each, the arriving groups first.

    Args:
        slots_of: Slots of each group; at least one group.
        n: Number of slots to draw.
        arriving: Distinct groups of the samples that arrived with this batch.
        rng: Generator of the draw. A slot may be drawn twice, so both samples of a positive pair
            may be the same.
        positive_pairs: Whether the batch must contain positive pairs (two samples of one group)
            even if there are more than n / 2 groups.

    Returns:
        Slots (n,).
    """
    groups = sorted(slots_of)
    per_group, rest = divmod(n, len(groups))
    wanted = 2 if positive_pairs else 1
    if per_group >= wanted:
        extra = {groups[i] for i in rng.permutation(len(groups))[:rest]} if rest else set()
        counts = [(group, per_group + (group in extra)) for group in groups]
    else:
        counts = _few_groups(groups, n, wanted, [g for g in arriving if g in slots_of], rng)
    uniform = iter(rng.random(n).tolist())
    return np.array(
        [
            slots_of[group][int(next(uniform) * len(slots_of[group]))]
            for group, count in counts
            for _ in range(count)
        ],
        dtype=np.int64,
    )


def _few_groups(
    groups: Sequence[int], n: int, wanted: int, arriving: Sequence[int], rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Choose groups and their counts for a batch too small for `wanted` samples of every group."""
    n_chosen = max(1, n // wanted)
    forced = arriving[:n_chosen]
    others = [group for group in groups if group not in forced]
    picked = rng.permutation(len(others))[: n_chosen - len(forced)]
    chosen = [*forced, *(others[i] for i in picked)]
    counts = [min(wanted, n)] * len(chosen)
    if n > sum(counts):
        counts[int(rng.integers(len(chosen)))] += n - sum(counts)
    return list(zip(chosen, counts, strict=True))


def _ascending(slots_of: SlotsOf) -> list[Sequence[int]]:
    return [slots_of[group] for group in sorted(slots_of)]


def _uniform(members: Sequence[Sequence[int]], n: int, rng: np.random.Generator) -> list[int]:
    """Draw n slots uniformly, with replacement, from all `members` together."""
    if n == 0:
        return []
    total = sum(map(len, members))
    return _at(members, rng.integers(0, total, size=n).tolist())


def _at(members: Sequence[Sequence[int]], positions: Sequence[int]) -> list[int]:
    """Return the slots at `positions` in the concatenation of `members`, without building it."""
    ends = [*accumulate(map(len, members))]
    slots = []
    for position in positions:
        owner = bisect_right(ends, position)
        slots.append(members[owner][position - ends[owner]])
    return slots
