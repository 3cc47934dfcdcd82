"""The transfer matrix R and the metrics that papers compute from it.

R[i, j] is the accuracy on test experience j after training on experience i, in [0, 1]; indices
start at 0 here and at 1 in the papers. R may be unfinished: t rows, one for each experience
trained on so far, and T >= t columns, one for each test experience. The last row is then "now",
and every average runs over the t experiences seen so far, which is the papers' definition at
t = T. Columns of experiences not yet seen count only where zero-shot accuracy is meant
(`forward_transfer`).

References:
    Lopez-Paz and Ranzato (2017), Gradient episodic memory for continual learning, equations 2-4.
    Chaudhry et al. (2018), Riemannian walk for incremental learning: understanding forgetting and
    intransigence.
    Rebuffi et al. (2017), iCaRL: incremental classifier and representation learning.
    Riemer et al. (2019), Learning to learn without forgetting by maximizing transfer and
    minimizing interference.
    Chen et al. (2020), Discriminative representation loss: a more efficient approach than
    gradient re-projection in continual learning.
    Jin et al. (2021), Gradient-based editing of memory examples for online task-free continual
    learning.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def average_accuracy(R: ArrayLike) -> float:
    """ACC, the mean accuracy now on the experiences seen so far.

    (1/t) sum_{j < t} R[t-1, j]; Lopez-Paz and Ranzato (2017), equation 2.

    Args:
        R: Accuracies in [0, 1], (t, T) with 1 <= t <= T.

    Returns:
        The mean, in [0, 1].

    Raises:
        ValueError: If R has another shape, or an entry that is not a number in [0, 1].
    """
    R = _matrix(R)
    return float(R[-1, : len(R)].mean())


def instance_accuracy(R: ArrayLike, sizes: ArrayLike) -> float:
    """Accuracy now over all test samples of the experiences seen so far; Jin et al. (2021).

    sum_{j < t} sizes[j] R[t-1, j] / sum_{j < t} sizes[j]: ACC if all test sets have one size.

    Args:
        R: Accuracies in [0, 1], (t, T) with 1 <= t <= T.
        sizes: Numbers of samples of every test experience, greater than 0, (T,).

    Returns:
        The accuracy, in [0, 1].

    Raises:
        ValueError: If R or sizes has another shape, or an entry out of its range.
    """
    R = _matrix(R)
    sizes = _sizes(sizes, R.shape[1])[: len(R)]
    return float(np.average(R[-1, : len(R)], weights=sizes))


def backward_transfer(R: ArrayLike) -> float:
    """BWT, how accuracies have changed since each experience was learned; below 0: forgotten.

    (1/(t-1)) sum_{j < t-1} R[t-1, j] - R[j, j]; Lopez-Paz and Ranzato (2017), equation 3. Only
    the last row counts; some libraries average over all rows i > j.

    Args:
        R: Accuracies in [0, 1], (t, T) with 1 <= t <= T.

    Returns:
        The mean, in [-1, 1]; nan for one row, where nothing could be forgotten yet.

    Raises:
        ValueError: If R has another shape, or an entry that is not a number in [0, 1].
    """
    R = _matrix(R)
    before_now = len(R) - 1
    return _mean(R[-1, :before_now] - np.diagonal(R)[:before_now])


def forward_transfer(R: ArrayLike, b: ArrayLike) -> float:
    """FWT, how much learning earlier experiences raises the accuracy on the next, unseen one.

    (1/(t-1)) sum_{1 <= j < t} R[j-1, j] - b[j]; Lopez-Paz and Ranzato (2017), equation 4.

    Args:
        R: Accuracies in [0, 1], (t, T) with 1 <= t <= T.
        b: Accuracies of the untrained model on every test experience, in [0, 1], (T,).

    Returns:
        The mean, in [-1, 1]; nan for one row, before which nothing was learned.

    Raises:
        ValueError: If R or b has another shape, or an entry that is not a number in [0, 1].
    """
    R = _matrix(R)
    b = _row(b, R.shape[1], "b")
    return _mean(np.diagonal(R, offset=1)[: len(R) - 1] - b[1 : len(R)])


def average_forgetting(R: ArrayLike) -> float:
    """Forgetting, how far accuracies lie below the best they have been; above 0: forgotten.

    (1/(t-1)) sum_{i < t-1} (max_{i <= j < t-1} R[j, i]) - R[t-1, i]; Chaudhry et al. (2018) as
    Chen et al. (2020) state it, with the maximum over the rows since experience i was learned.

    Args:
        R: Accuracies in [0, 1], (t, T) with 1 <= t <= T.

    Returns:
        The mean, in [-1, 1]; nan for one row, where nothing could be forgotten yet.

    Raises:
        ValueError: If R has another shape, or an entry that is not a number in [0, 1].
    """
    R = _matrix(R)
    before_now = len(R) - 1
    # After tril, rows before i are zero and never the maximum, as accuracies are not negative.
    best = np.tril(R[:before_now, :before_now]).max(axis=0, initial=0.0)
    return _mean(best - R[-1, :before_now])


def average_intransigence(R: ArrayLike, best: ArrayLike) -> float:
    """Intransigence, how far accuracies just after learning lie below a reference; 0: none.

    (1/t) sum_{i < t} best[i] - R[i, i]; Chaudhry et al. (2018). The reference is theirs (a model
    trained on all data so far) or, as Chen et al. (2020) take it, the best of the methods compared.

    Args:
        R: Accuracies in [0, 1], (t, T) with 1 <= t <= T.
        best: Reference accuracies on every test experience, in [0, 1], (T,).

    Returns:
        The mean, in [-1, 1]; negative where R does better than the reference.

    Raises:
        ValueError: If R or best has another shape, or an entry that is not a number in [0, 1].
    """
    R = _matrix(R)
    best = _row(best, R.shape[1], "best")
    return float((best[: len(R)] - np.diagonal(R)).mean())


def average_incremental_accuracy(R: ArrayLike) -> float:
    """The mean over the experiences of ACC after each, on the experiences seen by then.

    (1/t) sum_{i < t} (1/(i+1)) sum_{j <= i} R[i, j]; Rebuffi et al. (2017), who use accuracies over
    all test samples seen, which is the same if all test sets have one size.

    Args:
        R: Accuracies in [0, 1], (t, T) with 1 <= t <= T.

    Returns:
        The mean, in [0, 1].

    Raises:
        ValueError: If R has another shape, or an entry that is not a number in [0, 1].
    """
    R = _matrix(R)
    seen = np.arange(1, len(R) + 1)
    return float((np.tril(R[:, : len(R)]).sum(axis=1) / seen).mean())


def learning_accuracy(R: ArrayLike) -> float:
    """Mean accuracy on each experience just after training on it.

    (1/t) sum_{i < t} R[i, i]; Riemer et al. (2019).

    Args:
        R: Accuracies in [0, 1], (t, T) with 1 <= t <= T.

    Returns:
        The mean, in [0, 1].

    Raises:
        ValueError: If R has another shape, or an entry that is not a number in [0, 1].
    """
    return float(np.diagonal(_matrix(R)).mean())


def summary(
    R: ArrayLike, untrained: ArrayLike | None, test_sizes: ArrayLike | None = None
) -> dict[str, float | None]:
    """Return all metrics of a single run, by the names used in result files.

    Args:
        R: Accuracies in [0, 1], (t, T) with 1 <= t <= T.
        untrained: Accuracies of the untrained model on every test experience, in [0, 1], (T,).
            None, if they were not measured, leaves FWT undefined.
        test_sizes: Numbers of samples of every test experience, greater than 0, (T,). None, if
            they are not known, leaves instance_accuracy undefined.

    Returns:
        ACC, average_incremental_accuracy, instance_accuracy, BWT, FWT, forgetting and
        learning_accuracy; None where undefined.

    Raises:
        ValueError: If any has another shape, or an entry out of its range.

    >>> summary([[0.9, 0.2], [0.6, 0.8]], untrained=[0.1, 0.1])["ACC"]
    0.7
    """
    numbers = {
        "ACC": average_accuracy(R),
        "average_incremental_accuracy": average_incremental_accuracy(R),
        "instance_accuracy": (
            float("nan") if test_sizes is None else instance_accuracy(R, test_sizes)
        ),
        "BWT": backward_transfer(R),
        "FWT": float("nan") if untrained is None else forward_transfer(R, untrained),
        "forgetting": average_forgetting(R),
        "learning_accuracy": learning_accuracy(R),
    }
    return {name: None if np.isnan(number) else number for name, number in numbers.items()}


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else float("nan")


def _matrix(R: ArrayLike) -> Floats:
    matrix = _numbers(R, "R")
    if matrix.ndim != 2 or not 1 <= len(matrix) <= matrix.shape[1]:
        raise ValueError(
            "R must have one row per experience trained on and one column per test experience, "
            f"(t, T) with 1 <= t <= T, but has shape {matrix.shape}"
        )
    return _accuracies(matrix, "R")


def _row(values: ArrayLike, length: int, name: str) -> Floats:
    return _accuracies(_one_per_column(values, length, name), name)


def _sizes(values: ArrayLike, length: int) -> Floats:
    sizes = _one_per_column(values, length, "sizes")
    wrong = ~(np.isfinite(sizes) & (sizes > 0.0))
    if wrong.any():
        where = int(np.argmax(wrong))
        raise ValueError(
            f"sizes must hold numbers of samples greater than 0, but sizes[{where}] is "
            f"{sizes[where]}"
        )
    return sizes


def _one_per_column(values: ArrayLike, length: int, name: str) -> Floats:
    row = _numbers(values, name)
    if row.shape != (length,):
        raise ValueError(
            f"{name} must have one entry per column of R, ({length},), but has shape {row.shape}"
        )
    return row


def _numbers(values: ArrayLike, name: str) -> Floats:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must hold only numbers, equally many in each row") from None


def _accuracies(values: Floats, name: str) -> Floats:
    # NaN fails both comparisons, so negating the range test catches it too.
    outside = ~((values >= 0.0) & (values <= 1.0))
    if outside.any():
        where = ", ".join(str(int(index)) for index in np.argwhere(outside)[0])
        first = values[outside][0]
        hint = " (write percentages as fractions)" if 1.0 < first <= 100.0 else ""
        raise ValueError(
            f"{name} must hold accuracies in [0, 1], but {name}[{where}] is {first}{hint}"
        )
    return values
