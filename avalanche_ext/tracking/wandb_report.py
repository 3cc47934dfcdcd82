"""An experiment's report in Weights & Biases."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from avalanche_ext.tracking.wandb_run import Mode, WandbRun, earlier_id, run_id


def log_report(
    files: Sequence[Path],
    experiment: str,
    directory: Path,
    mode: Mode = "offline",
    project: str = "avalanche-ext",
    entity: str | None = None,
    tags: Sequence[str] = (),
    key: str = "",
) -> Path | None:
    """Send an experiment's report to wandb as a separate run, replacing an earlier one.

    The run's job type is "report" and its group the experiment. CSV files become tables and PNG
    files pictures, under their names; all files together form the artifact `<experiment>-report`.
    If wandb fails, there is one warning.

    Args:
        files: The report's files.
        experiment: Name of the experiment.
        directory: The experiment's folder; wandb's files are in `wandb` below it.
        mode: "offline" (files for `wandb sync`), "online", or "disabled" (does nothing).
        project: The wandb project.
        entity: The wandb user or team; None for the account's default.
        tags: Tags of the run in addition to the experiment.
        key: A key that distinguishes experiments of the same name; empty if only the folder does.

    Returns:
        The folder of an offline run, for `wandb sync`; otherwise None.
    """
    run = WandbRun()
    run.start(
        mode,
        project,
        entity,
        directory,
        group=experiment,
        name=f"{experiment}/report",
        config={"experiment": experiment},
        run_id=earlier_id([directory / "wandb"])
        or run_id(experiment, key or directory.resolve(), "report"),
        tags=[experiment, *tags],
        job_type="report",
    )
    run.files(files, f"{re.sub(r'[^A-Za-z0-9_.-]', '_', experiment)}-report")
    run.finish({})
    return run.offline_directory
