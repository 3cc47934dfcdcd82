"""A run's numbers in Weights & Biases: one wandb run per method and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avalanche_ext.tracking.sinks import Run
from avalanche_ext.tracking.wandb_run import EXPERIENCE, Mode, WandbRun, at_experience, defined


class WandbSink:
    """Log each run to wandb, grouped by experiment and method; an error in wandb fails no run.

    Accuracies (`accuracy/experience_<j>`) and metrics have their own step axis, `experience`: -1
    for the untrained model, then the index of the experience just trained on. Series
    (`series/<name>`) have the axis `iteration`, counted from 0 over the whole run. At the end, the
    final metrics and seconds are in the run's summary, and R is logged as a table and a heatmap. If
    anything goes wrong in wandb, there is one warning, and the run goes on without it.

    Args:
        mode: "offline" (files under the run's folder, for `wandb sync`), "online", or "disabled"
            (nothing is done, and wandb is not imported).
        project: The wandb project.
        entity: The wandb user or team; None for the account's default.
    """

    def __init__(
        self,
        mode: Mode = "offline",
        project: str = "avalanche-ext",
        entity: str | None = None,
    ) -> None:
        self.mode: Mode = mode
        self.project = project
        self.entity = entity
        self._run = WandbRun()

    @property
    def offline_directory(self) -> Path | None:
        """The folder of an offline run, for `wandb sync`; None until it has started."""
        return self._run.offline_directory

    def start(self, run: Run) -> None:
        """Start the wandb run, whose files are in the folder `wandb` of the run's folder."""
        self._run.start(
            self.mode,
            self.project,
            self.entity,
            directory=run.directory,
            group=f"{run.experiment}/{run.method}",
            name=f"{run.method}-seed-{run.seed}",
            config=run.config,
        )

    def experience(
        self, index: int, accuracies: Sequence[float], metrics: Mapping[str, float | None]
    ) -> None:
        """Log the accuracies and the metrics that are defined, at step `index`."""
        self._run.log({EXPERIENCE: index}, at_experience(accuracies) | defined(metrics))

    def series(self, index: int, start: int, series: Mapping[str, Sequence[float]]) -> None:
        """Log one row per iteration, with the numbers that are defined."""
        self._run.series(start, series)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Log R, put the final metrics and seconds in the summary, and finish the wandb run."""
        self._run.matrix(result["R"], result["untrained"])
        seconds = {f"seconds/{phase}": value for phase, value in result["seconds"].items()}
        self._run.finish(result["metrics"] | seconds)

    def fail(self, error: str) -> None:
        """Put the error in the summary and finish the wandb run as failed."""
        self._run.finish({}, error)
