"""Accuracies inside experiences, measured without changing what is trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from avalanche_ext.data import Strategy, origin_index
from avalanche_ext.data.loaders import ends_batch
from avalanche_ext.metrics.curves import AccuracyCurves, curve_summary
from avalanche_ext.plugins.core.composition import ReportingPlugin
from avalanche_ext.plugins.core.evaluating import accuracies_on, drawn_part
from avalanche_ext.plugins.core.experiences import Endings
from avalanche_ext.results.exhibits import ContinualEvaluation
from avalanche_ext.traits import traits_of
from avalanche_ext.validation import validated


class ContinualEvaluationPlugin(ReportingPlugin):
    """Evaluate after every n-th mini-batch of the stream, without changing training.

    De Lange et al. (2023, arXiv:2205.13452) call this continual evaluation. Each evaluation covers
    the test experiences of all experiences seen so far, including the current one. Before the first
    mini-batch of an experience, only that experience is evaluated. After its last mini-batch, once
    all plugins have ended the experience, all experiences seen so far are evaluated again. `curves`
    holds the accuracies, and `avalanche_ext.metrics.curve_summary` computes the papers' metrics
    from them.

    An evaluation runs through the strategy's own `eval`, so it sees what the method would predict
    at that moment: iCaRL and SCR build their classifiers at the end of an experience, so until then
    they do not know its classes. Afterwards the weights, all buffers, the modes of layers, the
    global random generators and the strategy's attributes are restored. The model is not adapted to
    the evaluated experiences. Plugins that only observe evaluations are skipped: evaluators,
    loggers, schedulers, clocks, this package's analyses, and any other class with `only_observes =
    True`. All other plugins take part, since they may change predictions; if they record anything
    during an evaluation, they record these evaluations too.

    List the plugin last, and give each strategy its own.

    Args:
        stream: The test stream, with one experience for each experience of the training stream.
        every: n, the number of mini-batches between two evaluations. Several steps on one
            mini-batch count once.
        test_size: Number of samples to evaluate from each test experience, or all if it has fewer;
            drawn once, without replacement. None takes all.
        beta: Number of mini-batches of each experience that LCA averages over, a multiple of
            `every`; None takes as many as every experience has. The A-GEM paper uses 10.
        is_mixed: Whether the samples of all experiences are mixed at random or trained on together.
            Each evaluation then covers all test experiences.
        seed: Seed of the draw.

    Attributes:
        timed: Creates the context in which each evaluation runs.

    Raises:
        ValueError: If an argument has a wrong type or is out of range; in training, if an
            experience has no test experience, comes after a later one, or ends without a call of
            `after_training_iteration`.
    """

    supports_distributed = False
    timed: Callable[[], AbstractContextManager[None]] = staticmethod(nullcontext)
    stream: Any = None
    _tests: list[Any] | None = None

    @validated
    def __init__(
        self,
        stream: Any,
        every: PositiveInt,
        *,
        test_size: PositiveInt | None = None,
        beta: PositiveInt | None = None,
        is_mixed: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if beta and beta % every:
            raise ValueError(f"beta must be a multiple of every, which is {every}, but is {beta}")
        self.beta = beta
        self.stream = stream
        self.every = every
        self.test_size = test_size
        self.is_mixed = is_mixed
        self.seed = seed
        self._endings = Endings()
        self._is_last_part = True
        self._current = -1
        self._n_batches = 0
        self._rows: list[tuple[int, int, list[float]]] = []
        """Experience, mini-batches of it and the accuracies of each evaluation."""
        self._first = 0
        self._series: dict[int, list[float]] = {}
        """The accuracies by iteration, from the first one of this call of `train`."""

    def __getstate__(self) -> dict[str, Any]:
        # The data belong to the benchmark, and the timer to this process.
        not_stored = ("stream", "_tests", "timed")
        return {key: value for key, value in vars(self).items() if key not in not_stored}

    @property
    def curves(self) -> AccuracyCurves:
        """The accuracies so far.

        Raises:
            ValueError: If nothing has been trained yet.
        """
        if not any(n_batches for _, n_batches, _ in self._rows):
            raise ValueError("there are no accuracies yet: train a strategy that has this plugin")
        experiences, batches, accuracies = zip(*self._rows, strict=True)
        return AccuracyCurves(
            self.every,
            np.array(experiences, dtype=np.int64),
            np.array(batches, dtype=np.int64),
            np.array(accuracies, dtype=np.float64),
            self.is_mixed,
        )

    def check(self, strategy: Strategy) -> None:
        """Raise ValueError if the plugin cannot act in this strategy."""
        super().check(strategy)
        if traits_of(strategy).packs_weights:
            raise ValueError(
                f"{type(strategy).__name__} cannot be evaluated inside experiences, because it "
                "cannot go back to earlier tasks before a task has ended: leave "
                "ContinualEvaluationPlugin out"
            )

    def before_training(self, strategy: Strategy, **kwargs: Any) -> None:
        """Begin new series; raise what `check` raises."""
        super().before_training(strategy, **kwargs)
        self._first, self._series = strategy.clock.train_iterations, {}

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Evaluate the experience before its first mini-batch."""
        index = origin_index(strategy.experience)
        self._endings.ends(strategy.experience)
        self._is_last_part = self._endings.is_over
        if index == self._current:
            return
        if index < self._current:
            raise ValueError(
                f"ContinualEvaluationPlugin needs experiences in their order, but {index} comes "
                f"after {self._current}"
            )
        if index >= len(self._test_experiences()):
            raise ValueError(
                f"ContinualEvaluationPlugin needs a test experience for each experience, but there "
                f"are {len(self._test_experiences())}, and experience {index} is trained on"
            )
        self._current, self._n_batches = index, 0
        if not self.is_mixed:
            self._note(strategy, [index])

    def after_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Evaluate if n mini-batches have passed."""
        if not ends_batch(strategy):
            return
        self._n_batches += 1
        if self._n_batches % self.every == 0:
            # The clock counts this iteration after this plugin.
            self._note(strategy, self._seen(), iteration=strategy.clock.train_iterations)

    def after_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Evaluate at the end of the experience."""
        if not self._is_last_part:
            return
        if not self._n_batches:
            raise ValueError(
                f"{type(strategy).__name__} has a training loop of its own that calls no "
                "after_training_iteration, so accuracies inside experiences cannot be measured"
            )
        if self._rows[-1][:2] == (self._current, self._n_batches):
            # Includes what plugins did at the end of the experience.
            del self._rows[-1]
        self._note(strategy, self._seen(), iteration=strategy.clock.train_iterations - 1)

    def diagnostics(self) -> dict[str, float]:
        """Return the papers' metrics of the accuracies so far, where they are defined."""
        if not any(n_batches for _, n_batches, _ in self._rows):
            return {}
        numbers = curve_summary(self.curves, self.beta)
        return {name: value for name, value in numbers.items() if value is not None}

    def series(self) -> dict[str, list[float]]:
        """Return the accuracies of this call of `train`, one list for each test experience seen.

        They are `anytime_accuracy/experience_<j>`, counted from 1, and their mean
        `anytime_accuracy/seen`; nan in iterations without an evaluation.
        """
        if not self._series:
            return {}
        length = 1 + max(self._series) - self._first
        lists = {f"anytime_accuracy/experience_{j + 1}": [math.nan] * length for j in self._seen()}
        lists["anytime_accuracy/seen"] = [math.nan] * length
        for iteration, accuracies in self._series.items():
            measured = [accuracies[j] for j in self._seen()]
            for values, value in zip(
                lists.values(), [*measured, float(np.mean(measured))], strict=True
            ):
                values[iteration - self._first] = value
        return lists

    def exhibits(self) -> dict[str, dict[str, NDArray[Any]]]:
        """Return the accuracies of all evaluations."""
        if not any(n_batches for _, n_batches, _ in self._rows):
            return {}
        return {ContinualEvaluation.NAME: ContinualEvaluation.of(self.curves).to_arrays()}

    def _seen(self) -> Sequence[int]:
        n_tests = len(self._test_experiences())
        return range(n_tests if self.is_mixed else self._current + 1)

    def _test_experiences(self) -> list[Any]:
        """Return the test experiences in order, each cut to `test_size` samples if given."""
        if self._tests is None:
            if self.stream is None:
                raise ValueError(
                    "this copy of a ContinualEvaluationPlugin has no stream: set its attribute "
                    "`stream` to the test stream"
                )
            ordered = sorted(self.stream, key=origin_index)
            self._tests = [
                drawn_part(test, self.test_size, self.seed) if self.test_size else test
                for test in ordered
            ]
        return self._tests

    def _note(
        self, strategy: Strategy, indices: Sequence[int], iteration: int | None = None
    ) -> None:
        """Evaluate some of the test experiences, and record their accuracies."""
        tests = self._test_experiences()
        accuracies = [math.nan] * len(tests)
        with self.timed():
            measured = accuracies_on(strategy, [tests[index] for index in indices])
        for index, accuracy in zip(indices, measured, strict=True):
            accuracies[index] = accuracy
        self._rows.append((self._current, self._n_batches, accuracies))
        if iteration is not None:
            self._series[iteration] = accuracies
