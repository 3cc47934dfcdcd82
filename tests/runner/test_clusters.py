"""Grids on the workers of real Dask and Ray clusters of two workers on this machine."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from avalanche_ext.results.claims import holder_of, is_claimed
from avalanche_ext.runner import PreflightError, run_experiment
from tests.runner import deadly
from tests.runner.cases import SMALL, experiment

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.cluster

PACKAGES = {"dask": "distributed", "ray": "ray"}
BACKENDS = [
    pytest.param(
        backend, marks=pytest.mark.skipif(not find_spec(package), reason=f"{package} is missing")
    )
    for backend, package in PACKAGES.items()
]


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    """Let workers import this package's tests by name."""
    monkeypatch.setenv("PYTHONPATH", ":".join(path for path in sys.path if path))


def results(out):
    return {path.parent: json.loads(path.read_text())["R"] for path in out.rglob("result.json")}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cluster_gives_the_same_numbers(tmp_path, backend):
    for name in ("local", backend):
        outcome = run_experiment(experiment(tmp_path), tmp_path / name, jobs=2, backend=name)
        assert (outcome.n_completed, outcome.n_failed) == (4, 0)
    one, other = (results(tmp_path / name) for name in ("local", backend))
    assert [*one.values()] == [*other.values()]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_worker_that_is_killed_in_the_middle_costs_nothing(tmp_path, monkeypatch, backend):
    monkeypatch.setattr("avalanche_ext.runner.grid.run_claimed", deadly.killed_once)
    outcome = run_experiment(experiment(tmp_path), tmp_path / "out", jobs=2, backend=backend)
    assert (outcome.n_completed, outcome.n_failed) == (4, 0)
    assert (tmp_path / "out/killed").read_text() == "ber 0\n"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cell_that_always_kills_its_worker_costs_no_other(tmp_path, monkeypatch, backend):
    monkeypatch.setattr("avalanche_ext.runner.grid.run_claimed", deadly.killed_in_ber)
    outcome = run_experiment(experiment(tmp_path), tmp_path / "out", jobs=2, backend=backend)
    assert (outcome.n_completed, outcome.n_failed) == (3, 1)
    failure = json.loads((tmp_path / "out/small/ber/seed-0/failure.json").read_text())
    assert "the worker process died" in failure["error"]


LONG = {
    "benchmark": {**SMALL["benchmark"], "train_size": None},
    "training": {"batch_size": 1, "epochs": 500, "checkpoint_minutes": 60},
    "methods": {"naive": {}},
    "seeds": 1,
}


def until(is_so, seconds: float = 120) -> bool:
    deadline = time.monotonic() + seconds
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.05)
    return is_so()


@contextmanager
def long_run(folder, *words):
    """A command with one long cell that trains; gives its process and the cell's files."""
    (cell,) = experiment(folder, **LONG).cells()
    command = [sys.executable, "-m", "avalanche_ext", "run", folder / "small.yaml"]
    process = subprocess.Popen(
        [*command, "--out", folder / "out", *words], stderr=subprocess.PIPE, text=True
    )
    files = cell.files(folder / "out")
    try:
        assert until((files.folder / "events.jsonl").exists)
        time.sleep(3)  # It evaluates the untrained model, and then trains.
        yield process, files
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def scheduler():
    """A Dask scheduler without workers."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=0, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


@contextmanager
def dask_worker(address):
    words = ["-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
    worker = subprocess.Popen([sys.executable, *words], start_new_session=True)
    try:
        yield worker
    finally:
        if worker.poll() is None:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()


def test_cells_on_a_dask_cluster_end_with_the_command(tmp_path, scheduler):
    """They write a checkpoint, and the worker is free for others."""
    where = ("--backend", "dask", "--scheduler", scheduler)
    with dask_worker(scheduler) as worker, long_run(tmp_path, *where) as (command, files):
        command.kill()
        assert until(lambda: not is_claimed(files.claim), 30)
        assert files.checkpoint.exists()
        assert worker.poll() is None


def test_sigterm_to_all_processes_of_a_dask_worker_leaves_checkpoints(tmp_path, scheduler):
    where = ("--backend", "dask", "--scheduler", scheduler)
    with dask_worker(scheduler) as worker, long_run(tmp_path, *where) as (command, files):
        os.killpg(worker.pid, signal.SIGTERM)
        assert until(lambda: not is_claimed(files.claim), 30)
        assert files.checkpoint.exists()
        worker.wait(60)
        assert command.poll() is None
        with dask_worker(scheduler):
            assert until(lambda: is_claimed(files.claim)), "another worker goes on"


@pytest.mark.skipif(not find_spec("ray"), reason="ray is missing")
def test_sigterm_to_a_ray_worker_leaves_a_checkpoint(tmp_path):
    with long_run(tmp_path, "--backend", "ray", "--jobs", "1") as (command, files):
        holder = holder_of(files.claim)
        assert holder
        os.kill(holder.pid, signal.SIGTERM)
        assert until(files.checkpoint.exists, 30)
        assert until(lambda: is_claimed(files.claim)), "another worker goes on"
        command.terminate()
        _, told = command.communicate(timeout=300)
        assert command.returncode == 143
        assert "interrupted: run the same command again to continue" in told
        assert until(lambda: not is_claimed(files.claim), 30)


@pytest.mark.skipif(not find_spec("distributed"), reason="distributed is missing")
def test_a_scheduler_that_does_not_answer_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("avalanche_ext.runner.engines.dask._SECONDS_TO_CONNECT", 2)
    address = "tcp://127.0.0.1:9"
    with pytest.raises(PreflightError, match=f"--scheduler {address}: no Dask scheduler answers"):
        run_experiment(experiment(tmp_path), tmp_path / "out", backend="dask", scheduler=address)


@pytest.mark.skipif(not find_spec("dask_jobqueue"), reason="dask_jobqueue is missing")
def test_the_script_of_the_page_runs_on_a_queue_of_this_machine(tmp_path):
    page = (ROOT / "experiments/tutorials/cluster.md").read_text("utf-8")
    (script,) = re.findall(r"```py\n(.*?)```", page, re.DOTALL)
    experiment(tmp_path)
    # A queue of processes on this machine stands in for SLURM; the rest is as on the page.
    for shown, here in {
        "from dask_jobqueue import SLURMCluster": "from dask_jobqueue.local import LocalCluster",
        "SLURMCluster(": "LocalCluster(",
        "maximum_jobs=40": "maximum_jobs=2",
        "my_table.yaml": str(tmp_path / "small.yaml"),
        "/shared/results": str(tmp_path / "out"),
        "/shared/data": str(tmp_path / "data"),
    }.items():
        assert shown in script
        script = script.replace(shown, here)
    (tmp_path / "on_slurm.py").write_text(script, "utf-8")
    done = subprocess.run(
        [sys.executable, "on_slurm.py"], cwd=tmp_path, capture_output=True, text=True, timeout=800
    )
    assert len(results(tmp_path / "out")) == 4, done.stderr
    assert done.returncode == 0
