"""The logger for your own scripts: metrics of an Avalanche strategy in Weights & Biases."""

from __future__ import annotations

import atexit
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from avalanche.core import SupervisedPlugin
from avalanche.evaluation.metric_results import AlternativeValues, TensorImage
from avalanche.logging import BaseLogger
from matplotlib.figure import Figure
from PIL.Image import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from avalanche_ext.data import Strategy, origin_index
from avalanche_ext.metrics.recorder import UNTRAINED, TransferMatrix
from avalanche_ext.plugins import diagnostics, series
from avalanche_ext.tracking.wandb_run import (
    EXPERIENCE,
    ITERATION,
    Mode,
    WandbRun,
    at_experience,
    defined,
    picture,
)


class WandbLogger(BaseLogger, SupervisedPlugin):  # type: ignore[misc]
    """Log a strategy's metrics to wandb, as a logger of Avalanche's evaluator or as a plugin.

    With `EvaluationPlugin(..., loggers=[logger])` it sends every metric of the evaluator under
    Avalanche's name. Without an evaluator, list it last among the strategy's `plugins`. Either way
    it also sends

    - R, if a `TransferMatrix` is among the plugins: accuracies (`accuracy/experience_<j>`, from 1),
      ACC, BWT, FWT and the other metrics of `TransferMatrix.summary` after each evaluation of its
      stream; at the end, R as a table and a heatmap, and the last metrics in the run's summary.
      FWT needs an evaluation of the untrained model.
    - numbers that this package's plugins report: for experiences by name, and for iterations as
      `series/<name>`.

    Metrics have two step axes. Metrics of iterations and epochs are plotted over `iteration`,
    counted from 0 over the whole run; an epoch is placed at its last iteration. Metrics of
    evaluations and whole experiences are plotted over `experience`, the last experience of the
    original stream that was trained on, counted from 1, and 0 before training; these rows also hold
    `iteration`, for evaluations inside an experience. All values of one step form one row.

    The wandb run starts when the logger is created. It ends with `finish`, with a `with` block or
    with the program; if an error ends the block or the program, the run is marked as failed. Each
    logger has its own wandb run, even if several are open at once; create one for each strategy.
    Numbers, figures, images, tensors (as histograms) and text are sent; other values are left out.
    If wandb fails, there is one warning, and training continues without it. The logger draws no
    random numbers and does not change the strategy.

    Args:
        mode: "offline" (files only, for `wandb sync`), "online", or "disabled" (does nothing).
        project: The wandb project.
        entity: The wandb user or team; None for the account's default.
        name: Name of the run; None lets wandb choose one.
        group: Name under which wandb groups runs, for example the seeds of one method.
        config: Hyper-parameters to keep with the run.
        directory: The folder in which the folder `wandb` with the run's files is created.

    >>> with WandbLogger(mode="disabled") as logger:
    ...     logger.offline_directory is None
    True
    """

    def __init__(
        self,
        *,
        mode: Mode = "offline",
        project: str = "avalanche-ext",
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        config: Mapping[str, Any] | None = None,
        directory: str | Path = ".",
    ) -> None:
        super().__init__()
        self._new: dict[str, Any] = {}
        """Metrics that do not have a place on an axis yet."""
        self._at_iteration: dict[str, Any] = {}
        self._at_experience: dict[str, Any] = {}
        self._iteration = UNTRAINED
        self._experience = UNTRAINED
        self._series_start = 0
        self._is_training = False
        self._matrix: TransferMatrix | None = None
        self._warned_of_gaps = False
        self._run = WandbRun()
        self._run.start(mode, project, entity, Path(directory), group, name, config or {})
        # After the start: exit functions run in reverse order, and wandb registers its own.
        atexit.register(self._finish_at_exit)

    @property
    def offline_directory(self) -> Path | None:
        """The folder of an offline run, for `wandb sync`; None in other modes."""
        return self._run.offline_directory

    def finish(self, error: str | None = None) -> None:
        """Send remaining values, R and last metrics, and end the wandb run; later calls do nothing.

        Args:
            error: Why the run failed, which marks it as failed in wandb; None if it did not.
        """
        atexit.unregister(self._finish_at_exit)
        (self._at_iteration if self._is_training else self._at_experience).update(self._take_new())
        self._send_iteration()
        self._send_experience()
        R, metrics = self._result()
        if self._matrix is not None and len(R):
            untrained = self._matrix.untrained
            self._run.matrix(R, None if untrained is None else untrained.tolist())
        self._run.finish(metrics, error)

    def __enter__(self) -> WandbLogger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.finish(_described(error))

    def log_single_metric(self, name: str, value: Any, x_plot: int) -> None:
        """Take one metric; it is sent with the others of its iteration or evaluation."""
        self._new[name] = value

    def before_training_exp(self, strategy: Strategy, *args: Any, **kwargs: Any) -> None:
        """Note the experience; send the remaining values of the previous one."""
        index = origin_index(strategy.experience)
        if index != self._experience:
            self._send_experience()
        self._experience = index
        self._series_start = strategy.clock.train_iterations
        self._is_training = True

    def after_training_iteration(self, strategy: Strategy, *args: Any, **kwargs: Any) -> None:
        """Begin the iteration's row, and send the previous one."""
        self._send_iteration()
        self._iteration = strategy.clock.train_iterations
        self._at_iteration = self._take_new()

    def after_training_epoch(self, strategy: Strategy, *args: Any, **kwargs: Any) -> None:
        """Add the epoch's metrics to the row of its last iteration."""
        self._at_iteration |= self._take_new()

    def after_training_exp(self, strategy: Strategy, *args: Any, **kwargs: Any) -> None:
        """Keep the experience's metrics for its row, and send plugins' numbers by iteration."""
        self._at_experience |= self._take_new()
        self._run.series(self._series_start, series(strategy.plugins))

    def after_training(self, strategy: Strategy, *args: Any, **kwargs: Any) -> None:
        """Keep metrics measured after training for the experience's row."""
        # Repeats what our plugins report to the evaluator, since there may be none.
        self._at_experience |= self._take_new() | diagnostics(strategy.plugins)
        self._is_training = False

    def after_eval(self, strategy: Strategy, *args: Any, **kwargs: Any) -> None:
        """Send the evaluation's metrics, and the matrix's if its stream was evaluated."""
        self._at_experience |= self._take_new()
        if self._experience != UNTRAINED and not self._is_training:
            self._at_experience |= diagnostics(strategy.plugins)
        matrices = (plugin for plugin in strategy.plugins if isinstance(plugin, TransferMatrix))
        matrix = next(matrices, None)
        if matrix is not None and _evaluated_stream(strategy) == matrix.stream:
            self._matrix = matrix
            R, metrics = self._result()
            row = {UNTRAINED: matrix.untrained, **dict(enumerate(R))}.get(self._experience)
            if row is not None:
                self._at_experience |= at_experience([*row]) | defined(metrics)
        self._send_experience()

    def _finish_at_exit(self) -> None:
        # In an interactive session, the last error has not ended the program.
        self.finish(None if hasattr(sys, "ps1") else _described(getattr(sys, "last_value", None)))

    def _result(self) -> tuple[list[list[float]], dict[str, float | None]]:
        """Return R and its metrics; both are empty before training, and as long as R has gaps."""
        if self._matrix is None or not self._matrix.n_rows:
            return [], {}
        try:
            return self._matrix.R.tolist(), self._matrix.summary()
        except ValueError as error:
            if not self._warned_of_gaps:
                warnings.warn(f"R is not sent to wandb: {error}", RuntimeWarning, stacklevel=2)
                self._warned_of_gaps = True
            return [], {}

    def _take_new(self) -> dict[str, Any]:
        new, self._new = self._new, {}
        return new

    def _send_iteration(self) -> None:
        self._send({ITERATION: self._iteration}, self._at_iteration)
        self._at_iteration = {}

    def _send_experience(self) -> None:
        step = {EXPERIENCE: self._experience + 1, ITERATION: self._iteration}
        self._send(step, self._at_experience)
        self._at_experience = {}

    def _send(self, step: Mapping[str, int], values: Mapping[str, Any]) -> None:
        if not self._run.is_open:
            return
        with self._run.surviving():
            row = {name: _loggable(value) for name, value in values.items()}
            row = {name: value for name, value in row.items() if value is not None}
            if row:
                self._run.log(step, row)


def _evaluated_stream(strategy: Strategy) -> str | None:
    experience = strategy.experience  # None where the first stream evaluated was empty
    return None if experience is None else str(experience.logging().origin_stream.name)


def _described(error: BaseException | None) -> str | None:
    return None if error is None else f"{type(error).__name__}: {error}"


def _loggable(value: Any) -> Any:
    """Convert a value for wandb; None if wandb does not accept it."""
    import wandb

    if isinstance(value, AlternativeValues):
        value = value.best_supported_value(Image, Figure, TensorImage, Tensor, float, int, str)
    if isinstance(value, TensorImage):
        value = to_pil_image(value.image)
    if isinstance(value, Image):
        return wandb.Image(value)
    if isinstance(value, Figure):
        return picture(value)
    if isinstance(value, Tensor) and value.numel() != 1:
        numbers = value.detach().float().cpu().numpy()
        return wandb.Histogram(np_histogram=np.histogram(numbers[np.isfinite(numbers)]))
    if isinstance(value, (np.generic, Tensor)):
        return value.item()
    return value if isinstance(value, (float, int, str)) else None
