"""Accuracies measured inside experiences, and the metrics that papers compute from them.

After every n-th mini-batch of an experience, the model is evaluated on the test sets of the
experiences seen so far, the current one among them. Experiences and test experiences are counted
from 0 here and from 1 in the papers.

References:
    Caccia et al. (2022), New insights on reducing abrupt representation change in online continual
    learning, arXiv:2104.05025.
    Soutif-Cormerais et al. (2023), A comprehensive empirical evaluation on online continual
    learning, arXiv:2308.10328.
    De Lange et al. (2023), Continual evaluation for lifelong learning: identifying the stability
    gap, arXiv:2205.13452.
    Chaudhry et al. (2019), Efficient lifelong learning with A-GEM, arXiv:1812.00420.

Deviations from the papers:
    1. They evaluate after each mini-batch; here evaluations follow every n-th mini-batch and the
       last one of each experience. With n = 1 the definitions are theirs. With larger n, a minimum
       misses what happens between two evaluations: `average_minimum_accuracy` and
       `worst_case_accuracy` are then upper bounds, and `stability_gap` is a lower bound.
    2. `learning_curve_area` averages over the evaluations 0, n, 2n, … up to β. It is undefined if
       an experience has fewer than n mini-batches.
    3. De Lange et al. show the stability gap in curves, and give no number for it. `stability_gap`
       is our own. Experiences without an evaluation before their end do not enter it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CURVE_METRICS = ("AAA", "WC_ACC", "min_ACC", "stability_gap", "LCA")
"""The names of the metrics in result files, in the order of `curve_summary`."""


@dataclass(frozen=True, eq=False)
class AccuracyCurves:
    """Accuracies over the mini-batches of a run, one row per evaluation, in order.

    Each experience has a row before its first mini-batch, with its own accuracy alone (the
    zero-shot accuracy), a row after every n-th mini-batch, and one after the last.

    Attributes:
        every: n, the mini-batches between two evaluations, at least 1.
        experience: The experience being learned, (N,), never decreasing.
        batch: Number of mini-batches of that experience learned so far, (N,).
        accuracy: Accuracies in [0, 1], (N, T), one column per test experience; nan where not
            measured.
        is_mixed: Whether the samples of all experiences come in random order. All test experiences
            then count as seen.

    Raises:
        ValueError: If arrays have wrong shapes, values out of range, or no row after a mini-batch.
    """

    every: int
    experience: Ints
    batch: Ints
    accuracy: Floats
    is_mixed: bool = False

    def __post_init__(self) -> None:
        n = len(self.experience)
        if self.batch.shape != (n,) or self.accuracy.ndim != 2 or len(self.accuracy) != n:
            raise ValueError(
                "experience, batch and accuracy must have one length, but have the shapes "
                f"{self.experience.shape}, {self.batch.shape} and {self.accuracy.shape}"
            )
        if self.every < 1:
            raise ValueError(f"every must be at least 1, but is {self.every}")
        if not (self.batch > 0).any():
            raise ValueError(f"batch must be at least 1 in some row, but is {self.batch.tolist()}")
        if (np.diff(self.experience) < 0).any() or not (
            (self.experience >= 0) & (self.experience < self.accuracy.shape[1])
        ).all():
            raise ValueError(
                "experience must not decrease and must be the index of a test experience, but is "
                f"{self.experience.tolist()}"
            )
        outside = (self.accuracy < 0.0) | (self.accuracy > 1.0)
        if outside.any():
            raise ValueError(
                f"accuracy must be in [0, 1] or nan, but has {self.accuracy[outside][0]}"
            )
        if np.isnan(self.accuracy[self.trained][self._seen[self.trained]]).any():
            raise ValueError("accuracy must have a value for each experience seen, but has nan")

    @property
    def n_experiences(self) -> int:
        """Number of experiences learned, including the current one."""
        return 1 + int(self.experience[-1])

    @property
    def trained(self) -> NDArray[np.bool_]:
        """Which rows come after a mini-batch of their experience, (N,)."""
        return np.asarray(self.batch > 0)

    def mean_over_seen(self) -> Floats:
        """Mean accuracy on the experiences seen so far, (N,); nan before an experience's first."""
        sums = np.where(self._seen, self.accuracy, 0.0).sum(axis=1)
        return np.where(self.trained, sums / self._seen.sum(axis=1), np.nan)

    def ends(self) -> Ints:
        """The last row of each experience that has been learned, (t,)."""
        last = [*np.flatnonzero(np.diff(self.experience)), len(self.experience) - 1]
        return np.array(last, dtype=np.int64)

    @property
    def _seen(self) -> NDArray[np.bool_]:
        n_tests = self.accuracy.shape[1]
        if self.is_mixed:
            return np.ones(self.accuracy.shape, dtype=bool)
        return np.asarray(np.arange(n_tests) <= self.experience[:, None])


def average_anytime_accuracy(curves: AccuracyCurves) -> float:
    """AAA, the mean over all evaluations of the mean accuracy on the experiences seen so far.

    (1/N) Σ_n (1/k_n) Σ_{j ≤ k_n} a_j(n), where k_n is the number of experiences seen at evaluation
    n, including the current one; Caccia et al. (2022), as stated by Soutif-Cormerais et al. (2023).
    Rows before an experience's first mini-batch do not count.

    Returns:
        The mean, in [0, 1].
    """
    return float(curves.mean_over_seen()[curves.trained].mean())


def average_minimum_accuracy(curves: AccuracyCurves) -> float:
    """min-ACC, the mean over earlier experiences of their lowest accuracy after they were learned.

    (1/(k-1)) Σ_{i < k} min_n A(E_i, f_n), over all evaluations n after the end of experience i up
    to the last one, in experience k; De Lange et al. (2023), section 3.

    Returns:
        The mean, in [0, 1]; nan with a single experience, since no earlier one was learned.
    """
    lowest = [
        curves.accuracy[curves.trained & (curves.experience > i), i].min()
        for i in range(curves.n_experiences - 1)
    ]
    return float(np.mean(lowest)) if lowest else float("nan")


def worst_case_accuracy(curves: AccuracyCurves) -> float:
    """WC-ACC, the current accuracy on the current experience and the lowest on earlier ones.

    (1/k) A(E_k, f_t) + (1 - 1/k) min-ACC; De Lange et al. (2023), section 3.

    Returns:
        The mean, in [0, 1].
    """
    k = curves.n_experiences
    now = float(curves.accuracy[-1, k - 1])
    return now / k + (1 - 1 / k) * average_minimum_accuracy(curves) if k > 1 else now


def stability_gap(curves: AccuracyCurves) -> float:
    """How far accuracies on earlier experiences fall inside an experience and recover by its end.

    The mean over all pairs i < k of min(a_i(k's start), a_i(k's end)) - min_n a_i(n), where n are
    the evaluations in experience k and its start is the end of experience k - 1. Experiences k
    without an evaluation before their end do not count. Permanent losses do not count either: they
    are forgetting. The number is our own; De Lange et al. (2023) describe the phenomenon.

    Returns:
        The mean, in [0, 1]; 0 if accuracies never fall below both ends; nan with a single
        experience, or if experiences are evaluated only at their ends.
    """
    ends = curves.ends()
    gaps = []
    for k in range(1, len(ends)):
        inside = curves.accuracy[curves.trained & (curves.experience == k), :k]
        if len(inside) == 1:
            continue
        start, end = curves.accuracy[ends[k - 1], :k], curves.accuracy[ends[k], :k]
        lower = np.minimum(start, end)
        gaps.append(lower - np.minimum(lower, inside.min(axis=0)))
    return float(np.concatenate(gaps).mean()) if gaps else float("nan")


def learning_curve_area(curves: AccuracyCurves, beta: int | None = None) -> float:
    """LCA, how fast an experience is learned: the area under the curve of its first mini-batches.

    LCA_β = (1/(β+1)) Σ_{b=0}^{β} Z_b, where Z_b is the mean over the experiences k of the accuracy
    on k after its first b mini-batches; Chaudhry et al. (2019), equations 4 and 5. Here the mean
    is over b = 0, n, 2n, … up to β.

    Args:
        curves: The accuracies.
        beta: β, a number of mini-batches, at least 0; Chaudhry et al. use 10. None uses the
            evaluations that all experiences have.

    Returns:
        The area, in [0, 1]; nan if n exceeds the number of mini-batches of the shortest experience.

    Raises:
        ValueError: If β is negative, no multiple of n, or exceeds the number of mini-batches of the
            shortest experience.
    """
    shortest = _shortest(curves)
    if beta is not None and not 0 <= beta <= shortest:
        raise ValueError(
            f"beta must be from 0 to {shortest}, the mini-batches of the shortest experience, but "
            f"is {beta}"
        )
    if beta is not None and beta % curves.every:
        raise ValueError(
            f"beta must be a multiple of {curves.every}, the mini-batches between two evaluations, "
            f"but is {beta}"
        )
    if shortest < curves.every:
        return float("nan")
    asked = range(0, (shortest if beta is None else beta) + 1, curves.every)
    counts = np.isin(curves.batch, asked)
    own = curves.accuracy[np.arange(len(curves.experience)), curves.experience]
    of_each = [own[counts & (curves.experience == k)].mean() for k in np.unique(curves.experience)]
    return float(np.mean(of_each))


def _shortest(curves: AccuracyCurves) -> int:
    """Return the number of mini-batches of the shortest experience."""
    return min(int(curves.batch[end]) for end in curves.ends())


def curve_summary(curves: AccuracyCurves, beta: int | None = None) -> Mapping[str, float | None]:
    """Return CURVE_METRICS by the names used in result files; None where undefined.

    If the samples come in random order, only AAA is defined.

    Args:
        curves: The accuracies.
        beta: The β of `learning_curve_area`, which is undefined if an experience has fewer
            mini-batches; None for the evaluations that all experiences have.
    """
    numbers = {"AAA": average_anytime_accuracy(curves)}
    shortest = _shortest(curves)
    if not curves.is_mixed:
        numbers |= {
            "WC_ACC": worst_case_accuracy(curves),
            "min_ACC": average_minimum_accuracy(curves),
            "stability_gap": stability_gap(curves),
            "LCA": learning_curve_area(curves, beta) if (beta or 0) <= shortest else np.nan,
        }
    return {
        name: None if np.isnan(number := numbers.get(name, np.nan)) else number
        for name in CURVE_METRICS
    }
