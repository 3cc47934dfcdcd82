"""The plugin that fills the transfer matrix, and an evaluator that does nothing."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from avalanche.core import SupervisedPlugin
from torch import Tensor

from avalanche_ext.data import Strategy, origin_index
from avalanche_ext.data.experiences import note_strategy
from avalanche_ext.metrics.matrix import summary
from avalanche_ext.validation import validated

UNTRAINED = -1


class TransferMatrix(SupervisedPlugin):  # type: ignore[misc]
    """Record R from every evaluation of a stream: R[i, j] is the accuracy on j after training on i.

    A row belongs to the experience of the original stream that was trained on last, so rows are
    also correct on online streams, whose experiences are mini-batches. If an experience is
    evaluated several times, the last evaluation counts. An evaluation before any training gives the
    untrained model's row, which forward transfer needs.

    R is defined for one pass over the experiences in their order. The current experience may be
    trained on again, but not one before it.

    After an evaluation, the global random generators of Python, NumPy and torch are restored to
    their state before it, so that evaluating does not change training. (Multi-head models are an
    exception: Avalanche creates the heads of unseen tasks when it evaluates them.) List the plugin
    first, and give each strategy its own.

    Args:
        stream: Name of the evaluated stream to record; other streams are ignored.

    Attributes:
        only_observes: True: evaluations inside experiences skip this plugin, see
            `ContinualEvaluationPlugin`.

    Raises:
        ValueError: In training, if an experience comes after a later one.
        FloatingPointError: In an evaluation, if an output of the model is nan.
    """

    supports_distributed = False
    only_observes = True

    @validated
    def __init__(self, stream: str = "test") -> None:
        super().__init__()
        self.stream = stream
        self._rows: dict[int, dict[int, float]] = {}
        self._sizes: dict[int, int] = {}
        self._trained = UNTRAINED
        self._n_right: Tensor | int = 0
        self._n_nan: Tensor | int = 0
        self._n_seen = 0
        self._random_states: Any = None

    @property
    def n_rows(self) -> int:
        """Number of experiences that have a row of R."""
        return len(self._rows) - (UNTRAINED in self._rows)

    @property
    def R(self) -> npt.NDArray[np.float64]:
        """Accuracies in [0, 1], (experiences trained on, experiences of the stream).

        Raises:
            ValueError: If the stream was not evaluated after each training experience, or not as a
                whole each time.
        """
        rows = {trained: row for trained, row in self._rows.items() if trained != UNTRAINED}
        if not self.n_rows:
            has_trained = self._trained != UNTRAINED
            lacking = "evaluate" if has_trained else "train a strategy that has it, and evaluate"
            raise ValueError(
                f"R has no rows yet: {lacking} the {self.stream} stream after training on each "
                "experience"
            )
        for wanted, trained in enumerate(sorted(rows)):
            if trained != wanted:
                raise ValueError(
                    f"R has no row for experience {wanted}: evaluate the {self.stream} stream "
                    "after training on each experience"
                )
        columns = {tuple(sorted(row)) for row in self._rows.values()}
        if len(columns) > 1:
            raise ValueError(
                f"the rows of R differ in their experiences: evaluate the whole {self.stream} "
                "stream each time"
            )
        return np.array([[row[j] for j in sorted(row)] for _, row in sorted(rows.items())])

    @property
    def untrained(self) -> npt.NDArray[np.float64] | None:
        """Accuracies of the untrained model, (experiences of the stream,), None if not measured."""
        row = self._rows.get(UNTRAINED)
        return None if row is None else np.array([row[j] for j in sorted(row)])

    @property
    def test_sizes(self) -> npt.NDArray[np.int64]:
        """Numbers of samples, as last evaluated, (experiences of the stream,)."""
        return np.array([self._sizes[j] for j in sorted(self._sizes)], dtype=np.int64)

    def summary(self) -> dict[str, float | None]:
        """Return what `metrics.summary` computes from R as it stands now.

        Raises:
            ValueError: If R has no rows, or gaps.
        """
        return summary(self.R, self.untrained, self.test_sizes)

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Note which row comes next."""
        note_strategy(self, strategy)
        index = origin_index(strategy.experience)
        if index < self._trained:
            raise ValueError(
                f"TransferMatrix needs experiences in their order, but {index} comes after "
                f"{self._trained}: for another pass, give the strategy a new TransferMatrix"
            )
        self._trained = index

    def before_eval(self, strategy: Strategy, **kwargs: Any) -> None:
        """Remember the state of the global random generators."""
        note_strategy(self, strategy)
        cuda = torch.cuda.get_rng_state_all() if strategy.device.type == "cuda" else []
        self._random_states = random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda

    def before_eval_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Start counting."""
        self._n_right, self._n_nan, self._n_seen = 0, 0, 0

    def after_eval_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Count a mini-batch, without waiting for the device."""
        self._n_right = self._n_right + (strategy.mb_output.argmax(1) == strategy.mb_y).sum()
        self._n_nan = self._n_nan + strategy.mb_output.isnan().any(1).sum()
        self._n_seen += len(strategy.mb_y)

    def after_eval_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Fill one entry of the matrix."""
        experience = strategy.experience.logging()
        if experience.origin_stream.name == self.stream and self._n_seen:
            if self._n_nan:
                raise FloatingPointError(
                    f"the model's outputs are nan for {int(self._n_nan)} of {self._n_seen} samples "
                    f"of experience {experience.current_experience} of the {self.stream} stream: "
                    "training has diverged; try a smaller learning rate"
                )
            row = self._rows.setdefault(self._trained, {})
            row[experience.current_experience] = float(self._n_right) / self._n_seen
            self._sizes[experience.current_experience] = self._n_seen

    def after_eval(self, strategy: Strategy, **kwargs: Any) -> None:
        """Restore the global random generators."""
        python, numpy, cpu, cuda = self._random_states
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)


class NoEvaluation(SupervisedPlugin):  # type: ignore[misc]
    """An evaluator that does nothing, for strategies whose accuracies a `TransferMatrix` records.

    Avalanche's EvaluationPlugin copies the experience at each callback, even with no metrics, which
    is noticeable in online learning with small models (experiments/benchmarks/online.py).
    """

    supports_distributed = True

    def get_last_metrics(self) -> dict[str, Any]:
        """Return an empty dictionary, which `train` and `eval` then return."""
        return {}
