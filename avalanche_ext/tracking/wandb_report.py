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
    """Send an experiment's report to wandb as a run of its own, in the place of an earlier one.

    The run's job type is "report", its group the experiment. CSV files are tables there and PNG
    files pictures, by their names; all files together are the artifact `<experiment>-report`. If
    anything goes wrong in wandb, there is one warning.

    Args:
        files: The report's files.
        experiment: Name of the experiment.
        directory: The experiment's folder; wandb's files are in `wandb` below it.
        mode: "offline" (files for `wandb sync`), "online", or "disabled" (nothing is done).
        project: The wandb project.
        entity: The wandb user or team; None for the account's default.
        tags: Tags of the run beside the experiment.
        key: What tells experiments of one name apart; empty where nothing but the folder does.

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
