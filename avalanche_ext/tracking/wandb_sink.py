"""A run's numbers in Weights & Biases: one wandb run per method and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avalanche_ext.results.configuration import by_column, short_name
from avalanche_ext.tracking.sinks import Run
from avalanche_ext.tracking.wandb_run import (
    EXPERIENCE,
    Mode,
    WandbRun,
    at_experience,
    defined,
    earlier_id,
    run_id,
)


class WandbSink:
    """Log each run to wandb, grouped by experiment and method; errors in wandb never fail a run.

    Accuracies (`accuracy/experience_<j>`, from 1) and metrics have their own step axis,
    `experience`: the number of experiences learned, 0 for the untrained model. Series
    (`series/<name>`) have the axis `iteration`, counted from 0 over the whole run. At the end, the
    final metrics and seconds are in the run's summary, and R is logged as a table and a heatmap. If
    wandb fails, there is one warning, and the run continues without it.

    A run's id is computed from its names, its configuration's hash and the key of its experiment,
    or otherwise its folder. So a run that is resumed or repeated, even after its folder was moved,
    replaces its earlier wandb run and reports all its numbers again. Arguments of plugins are
    columns: `config.plugins.<name>.<argument>`. The run's tags are its experiment, method and
    benchmark, `validation` if accuracies are those of held-out training samples, and `tags`; wandb
    does not accept tags of more than 64 characters.

    Args:
        mode: "offline" (files under the run's folder, for `wandb sync`), "online", or "disabled"
            (does nothing, and wandb is not imported).
        project: The wandb project.
        entity: The wandb user or team; None for the account's default.
        tags: Further tags of the run.
    """

    def __init__(
        self,
        mode: Mode = "offline",
        project: str = "avalanche-ext",
        entity: str | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        self.mode: Mode = mode
        self.project = project
        self.entity = entity
        self.tags = tags
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
            name=f"{run.experiment}/{run.method}/seed-{run.seed}",
            config=_with_columns(run.config),
            run_id=_id(run),
            tags=[
                *(run.experiment, run.method, short_name(run.config["benchmark"]["name"])),
                *([run.config["split"]] if "split" in run.config else ()),
                *self.tags,
            ],
        )

    def experience(
        self, index: int, accuracies: Sequence[float], metrics: Mapping[str, float | None]
    ) -> None:
        """Log the accuracies and the metrics that are defined, at step `index` + 1."""
        self._run.log({EXPERIENCE: index + 1}, at_experience(accuracies) | defined(metrics))

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


def _id(run: Run) -> str:
    """Return the id of an earlier wandb run of this configuration, otherwise a new one."""
    place = run.key or run.directory.resolve()
    return earlier_id(run.directory.glob(f"wandb-{run.config['hash']}*")) or run_id(
        run.experiment, run.method, run.seed, place, run.config["hash"]
    )


def _with_columns(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration with its plugins by name, because wandb cannot compare lists."""
    columns = {
        name: {"name": plugin["name"], **plugin["args"]}
        for name, plugin in by_column(config["plugins"])
    }
    return {**config, "plugins": columns}
