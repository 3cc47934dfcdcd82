"""A run's numbers in Weights & Biases: one wandb run per method and seed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from avalanche_ext.metrics.heatmap import draw_matrix
from avalanche_ext.tracking.sinks import Run

if TYPE_CHECKING:
    import wandb

STEP = "experience"
SERIES_STEP = "iteration"

# A run reports a dozen numbers and its whole configuration, so what wandb collects itself (console,
# machine, git, packages, system load) would only cost time. The limits bound the time that a lost
# network costs; the data stay on disk.
_SETTINGS = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "finish_timeout": 60.0,
    "finish_timeout_raises": True,
    "init_timeout": 30.0,
    "save_code": False,
    "silent": True,
    "symlink": False,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}


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
        mode: Literal["offline", "online", "disabled"] = "offline",
        project: str = "avalanche-ext",
        entity: str | None = None,
    ) -> None:
        self.mode = mode
        self.project = project
        self.entity = entity
        self.offline_directory: Path | None = None
        """The folder of an offline run, for `wandb sync`; None until it has started."""
        self._run: wandb.Run | None = None
        self._series: set[str] = set()

    def start(self, run: Run) -> None:
        """Start the wandb run, whose files are in the folder `wandb` of the run's folder."""
        self.offline_directory = None
        self._series = set()
        if self.mode == "disabled":
            return
        with self._surviving():
            import wandb

            known = wandb.Settings.model_fields
            self._run = wandb.init(
                mode=self.mode,
                project=self.project,
                entity=self.entity,
                dir=str(run.directory),
                group=f"{run.experiment}/{run.method}",
                job_type="train",
                name=f"{run.method}-seed-{run.seed}",
                config=dict(run.config),
                # Several runs of one process must not finish or continue each other.
                reinit="create_new",
                # Settings that begin with x_ differ between versions of wandb.
                settings=wandb.Settings(**{k: v for k, v in _SETTINGS.items() if k in known}),
            )
            self._run.define_metric(STEP)
            self._run.define_metric("*", step_metric=STEP)
            self._run.define_metric(SERIES_STEP)
            if self.mode == "offline":
                self.offline_directory = Path(self._run.settings.sync_dir)

    def experience(
        self, index: int, accuracies: Sequence[float], metrics: Mapping[str, float | None]
    ) -> None:
        """Log the accuracies and the metrics that are defined, at step `index`."""
        if self._run is None:
            return
        with self._surviving():
            self._run.log(
                {STEP: index}
                | {f"accuracy/experience_{j}": value for j, value in enumerate(accuracies)}
                | _defined(metrics)
            )

    def series(self, index: int, start: int, series: Mapping[str, Sequence[float]]) -> None:
        """Log one row per iteration, with the numbers that are defined."""
        if self._run is None:
            return
        with self._surviving():
            # Each by its full name, because the pattern "*" matches them too.
            names = [f"series/{name}" for name in series]
            for name in names:
                if name not in self._series:
                    self._run.define_metric(name, step_metric=SERIES_STEP)
                    self._series.add(name)
            for i, values in enumerate(zip_longest(*series.values(), fillvalue=math.nan), start):
                row = {n: v for n, v in zip(names, values, strict=True) if not math.isnan(v)}
                if row:
                    self._run.log({SERIES_STEP: i} | row)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Log R, put the final metrics and seconds in the summary, and finish the wandb run."""
        if self._run is None:
            return
        with self._surviving():
            self._run.log(
                {
                    STEP: len(result["R"]) - 1,
                    "R": _table(result["R"], result["untrained"]),
                    "R_heatmap": _heatmap(result["R"]),
                }
            )
            for name, value in _defined(result["metrics"]).items():
                self._run.summary[name] = value
            for phase, seconds in result["seconds"].items():
                self._run.summary[f"seconds/{phase}"] = seconds
            self._run.finish()
            self._run = None

    def fail(self, error: str) -> None:
        """Put the error in the summary and finish the wandb run as failed."""
        if self._run is None:
            return
        with self._surviving():
            self._run.summary["error"] = error
            self._run.finish(exit_code=1)
            self._run = None

    @contextmanager
    def _surviving(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            run, self._run = self._run, None
            if run is not None:
                _abandon(run)
            warnings.warn(
                f"wandb failed ({type(error).__name__}: {error}); the run goes on without it",
                RuntimeWarning,
                # Past this generator, the context manager and the sink's method: the caller.
                stacklevel=4,
            )


def _abandon(run: wandb.Run) -> None:
    try:
        run.finish(exit_code=1)
    except Exception:
        # The service process behind the run is gone: let the next run start a fresh one.
        import wandb

        with suppress(Exception):
            wandb.teardown()


def _defined(metrics: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if value is not None}


def _table(R: Sequence[Sequence[float]], untrained: Sequence[float]) -> wandb.Table:
    import wandb

    columns: list[str | int] = ["after experience"]
    columns += [f"experience {j}" for j in range(len(untrained))]
    rows = [untrained, *R]
    return wandb.Table(columns=columns, data=[[i - 1, *row] for i, row in enumerate(rows)])


def _heatmap(R: Sequence[Sequence[float]]) -> wandb.Image:
    import wandb
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure(figsize=(5.0, 4.2))
    axes = figure.add_subplot()
    figure.colorbar(draw_matrix(axes, R), ax=axes, label="accuracy")
    png = BytesIO()
    figure.savefig(png, format="png")
    return wandb.Image(Image.open(png))
