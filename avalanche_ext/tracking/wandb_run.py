"""One run in Weights & Biases, whose errors never stop training."""

from __future__ import annotations

import csv
import hashlib
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from avalanche_ext.metrics.heatmap import draw_matrix

if TYPE_CHECKING:
    import wandb
    from matplotlib.figure import Figure

Mode = Literal["offline", "online", "disabled"]

EXPERIENCE = "experience"
ITERATION = "iteration"

# wandb records the machine and the git commit, which takes 0.05 s per run. Recording the console,
# packages and system load would only cost time. The timeouts limit the cost of a lost network; the
# data stay on disk.
_SETTINGS = {
    "console": "off",
    "disable_code": True,
    "disable_job_creation": True,
    "finish_timeout": 60.0,
    "finish_timeout_raises": True,
    "init_timeout": 30.0,
    "save_code": False,
    "silent": True,
    "symlink": False,
    "x_disable_stats": True,
    "x_save_requirements": False,
}

_RUN_FOLDER = re.compile(r"(offline-)?run-(?P<time>[0-9]{8}_[0-9]{6})-(?P<id>[0-9a-f]{16})(-.*)?")
"""wandb's folder name for a run with one of our ids."""

_LONGEST_TAG = 64
"""wandb refuses runs with longer tags."""


class WandbRun:
    """A wandb run with two step axes, `experience` and `iteration`.

    An experience counts from 1, and 0 is before the first one; an iteration counts from 0. Every
    name is on the axis `experience`, except those that `log` puts on `iteration`. If wandb fails,
    there is one warning, and all later calls do nothing.
    """

    def __init__(self) -> None:
        self.offline_directory: Path | None = None
        self._run: wandb.Run | None = None
        self._by_iteration: set[str] = set()

    @property
    def is_open(self) -> bool:
        """Whether the run has started, and has neither finished nor failed."""
        return self._run is not None

    def start(
        self,
        mode: Mode,
        project: str,
        entity: str | None,
        directory: Path,
        group: str | None,
        name: str | None,
        config: Mapping[str, Any],
        run_id: str | None = None,
        tags: Sequence[str] = (),
        job_type: str = "train",
    ) -> None:
        """Start the run, with its files in `directory`/wandb; "disabled" does nothing.

        If the project already has a run with this `run_id`, it is replaced.
        """
        self.offline_directory = None
        self._by_iteration = set()
        if mode == "disabled":
            return
        with self.surviving():
            import wandb

            directory.mkdir(parents=True, exist_ok=True)  # Where wandb looks up the git commit.
            known = wandb.Settings.model_fields
            self._run = wandb.init(
                mode=mode,
                project=project,
                entity=entity,
                dir=str(directory),
                group=group,
                job_type=job_type,
                name=name,
                id=run_id,
                tags=[tag for tag in tags if len(tag) <= _LONGEST_TAG],
                config=dict(config),
                # Several runs of one process must not finish or continue each other.
                reinit="create_new",
                # Settings that begin with x_ differ between versions of wandb.
                settings=wandb.Settings(**{k: v for k, v in _SETTINGS.items() if k in known}),
            )
            self._run.define_metric(EXPERIENCE)
            self._run.define_metric("*", step_metric=EXPERIENCE)
            self._run.define_metric(ITERATION)
            if mode == "offline":
                self.offline_directory = Path(self._run.settings.sync_dir)

    def log(self, step: Mapping[str, int], values: Mapping[str, Any]) -> None:
        """Log one row: its place on one axis or on both, by axis, and its values by name."""
        if self._run is None:
            return
        with self.surviving():
            if EXPERIENCE not in step:
                # By their full names: the pattern "*" would match them too.
                for name in values:
                    if name not in self._by_iteration:
                        self._run.define_metric(name, step_metric=ITERATION)
                        self._by_iteration.add(name)
            self._run.log({**step, **values})

    def series(self, start: int, series: Mapping[str, Sequence[float]]) -> None:
        """Log lists as `series/<name>`, a row for each iteration from `start`; nan is left out."""
        names = [f"series/{name}" for name in series]
        for i, values in enumerate(zip_longest(*series.values(), fillvalue=math.nan), start):
            row = {n: v for n, v in zip(names, values, strict=True) if not math.isnan(v)}
            if row:
                self.log({ITERATION: i}, row)

    def matrix(self, R: Sequence[Sequence[float]], untrained: Sequence[float] | None) -> None:
        """Log R, (t, T), below the untrained row, (T,), as a table and as a heatmap."""
        if self._run is None:
            return
        with self.surviving():
            values = {"R": _table(R, untrained), "R_heatmap": _image(heatmap_png(R, untrained))}
            self.log({EXPERIENCE: len(R)}, values)

    def files(self, files: Sequence[Path], name: str) -> None:
        """Log files as the artifact `name`, CSV files also as tables and PNG files as pictures."""
        if self._run is None:
            return
        with self.surviving():
            import wandb

            artifact = wandb.Artifact(name, type="report")
            for file in files:
                artifact.add_file(str(file))
            self._run.log_artifact(artifact)
            tables = {file.stem: _csv_table(file) for file in files if file.suffix == ".csv"}
            pictures = {f.stem: wandb.Image(str(f)) for f in files if f.suffix == ".png"}
            self._run.log(tables | pictures)

    def finish(self, summary: Mapping[str, float | None], error: str | None = None) -> None:
        """Put defined values and the error in the summary; finish, as failed if there is one."""
        if self._run is None:
            return
        with self.surviving():
            for name, value in defined(summary).items():
                self._run.summary[name] = value
            if error is None:
                self._run.finish()
            else:
                self._run.summary["error"] = error
                self._run.finish(exit_code=1)
            self._run = None

    @contextmanager
    def surviving(self) -> Iterator[None]:
        """Turn an error into one warning, and abandon the run."""
        try:
            yield
        except Exception as error:
            run, self._run = self._run, None
            if run is not None:
                _abandon(run)
            warnings.warn(
                f"wandb failed ({type(error).__name__}: {error}); the run continues without it",
                RuntimeWarning,
                # Skips this generator, the context manager, our method and its caller.
                stacklevel=5,
            )


def at_experience(accuracies: Sequence[float]) -> dict[str, float]:
    """Name accuracies on the test experiences, (T,), as wandb shows them."""
    return {f"accuracy/experience_{j}": value for j, value in enumerate(accuracies, 1)}


def run_id(*parts: object) -> str:
    """Return an id for a wandb run, the same for the same parts."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:16]


def earlier_id(folders: Iterable[Path]) -> str | None:
    """Return the id of the last wandb run with files in one of these folders; None without any.

    Args:
        folders: Folders `wandb`, perhaps under other names.
    """
    names = (run.name for folder in folders for run in folder.glob("*run-*"))
    found = [*filter(None, map(_RUN_FOLDER.fullmatch, names))]
    return max(found, key=lambda match: match["time"])["id"] if found else None


def defined(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Return the metrics that are not None."""
    return {name: value for name, value in metrics.items() if value is not None}


def picture(figure: Figure) -> wandb.Image:
    """Return a matplotlib figure as a PNG image for wandb."""
    return _image(_png(figure))


def heatmap_png(R: Sequence[Sequence[float]], untrained: Sequence[float] | None) -> BytesIO:
    """Draw R, (t, T), below the untrained row, (T,), as a PNG file in memory."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 4.2))
    axes = figure.add_subplot()
    figure.colorbar(draw_matrix(axes, R, untrained), ax=axes, label="accuracy")
    return _png(figure)


def _abandon(run: wandb.Run) -> None:
    try:
        run.finish(exit_code=1)
    except Exception:
        # The service process behind the run is gone: let the next run start a fresh one.
        import wandb

        with suppress(Exception):
            wandb.teardown()


def _table(R: Sequence[Sequence[float]], untrained: Sequence[float] | None) -> wandb.Table:
    import wandb

    columns: list[str | int] = ["after experience"]
    columns += [f"experience {j + 1}" for j in range(len(R[0]))]
    rows: list[Iterable[Any]] = [[i, *row] for i, row in enumerate(R, 1)]
    if untrained is not None:
        rows.insert(0, [0, *untrained])
    return wandb.Table(columns=columns, data=rows)


def _png(figure: Figure) -> BytesIO:
    png = BytesIO()
    figure.savefig(png, format="png")
    return png


def _image(png: BytesIO) -> wandb.Image:
    import wandb
    from PIL import Image

    return wandb.Image(Image.open(png))


def _csv_table(file: Path) -> wandb.Table:
    """Return a CSV file as a table; numbers are numbers, and empty cells are missing."""
    import wandb

    with file.open(encoding="utf-8", newline="") as lines:
        columns, *rows = csv.reader(lines)
    return wandb.Table(columns=[*columns], data=[[*map(_cell, row)] for row in rows])


def _cell(text: str) -> float | str | None:
    try:
        return float(text)
    except ValueError:
        return text or None
