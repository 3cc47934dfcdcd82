"""The commands of the page on clusters, as far as they run on one machine."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.runner.cases import experiment

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs a shell"),
]

ONE_METHOD = {"methods": {"naive": {}}, "seeds": 10}


def block_with(text: str, replaced: dict[str, str]) -> str:
    """The page's block of shell commands that has a text, with some words replaced."""
    page = (ROOT / "experiments/tutorials/cluster.md").read_text("utf-8")
    (block,) = (each for each in re.findall(r"```bash\n(.*?)```", page, re.DOTALL) if text in each)
    for shown, here in replaced.items():
        assert shown in block
        block = block.replace(shown, here)
    return block


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Variables of a machine with `srun`, and the commands of this Python's packages."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, command in {
        "srun": '"$@"',
        "avalanche-ext": f'{sys.executable} -m avalanche_ext "$@"',
    }.items():
        (commands / name).write_text(f"#!/bin/sh\nexec {command}\n")
        (commands / name).chmod(0o755)
    paths = [str(commands), str(Path(sys.executable).parent), os.environ["PATH"]]
    return {**os.environ, "PATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


def results(out: Path) -> list[str]:
    return sorted(path.parent.name for path in out.rglob("result.json"))


def test_each_job_of_the_array_runs_its_part(tmp_path: Path, environment: dict[str, str]) -> None:
    experiment(tmp_path, **ONE_METHOD)
    script = block_with(
        "#SBATCH --array",
        {
            "my_table.yaml": str(tmp_path / "small.yaml"),
            "/shared/results": str(tmp_path / "out"),
            "/shared/data": str(tmp_path),
        },
    )
    (tmp_path / "job.sh").write_text(script)
    for task, seeds in {"3": ["seed-2"], "10": ["seed-2", "seed-9"]}.items():
        variables = {"SLURM_ARRAY_TASK_ID": task, "SLURM_CPUS_PER_TASK": "1"}
        done = subprocess.run(
            ["bash", tmp_path / "job.sh"], env=environment | variables, capture_output=True
        )
        assert done.returncode == 0, done.stderr
        assert results(tmp_path / "out") == seeds


@contextmanager
def going_on(command: str, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run a command until the block ends, and end it then with all that it has started."""
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command}"],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def line_with(pattern: str, process: subprocess.Popen[str]) -> str:
    """Wait for a line of a process."""
    assert process.stdout
    before = []
    for line in process.stdout:
        before.append(line)
        if found := re.search(pattern, line):
            return found[1]
    raise AssertionError("".join(before))


def test_workers_that_are_started_by_hand_run_a_grid_by_dask(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    pytest.importorskip("distributed")
    experiment(tmp_path, **ONE_METHOD | {"seeds": 2})
    replaced = {
        "experiments/quickstart.yaml": str(tmp_path / "small.yaml"),
        "/shared/results": str(tmp_path / "out"),
        "--nworkers 8": "--nworkers 1",
    }
    lines = block_with("dask scheduler", replaced).splitlines()
    scheduler, worker, command = (line.partition(" #")[0].strip() for line in lines)
    with going_on(f"{scheduler} --port 0 --no-dashboard", environment) as one:
        address = line_with(r"Scheduler at: +(tcp://\S+)", one)
        with going_on(worker.replace("tcp://HOST:8786", address), environment):
            told = subprocess.run(
                command.replace("tcp://HOST:8786", address).split(),
                env=environment,
                capture_output=True,
            )
    assert told.returncode == 0, told.stderr
    assert results(tmp_path / "out") == ["seed-0", "seed-1"]


def test_a_cluster_that_is_started_by_hand_runs_a_grid_by_ray(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    pytest.importorskip("ray")
    experiment(tmp_path, **ONE_METHOD | {"seeds": 2})
    replaced = {
        "experiments/quickstart.yaml": str(tmp_path / "small.yaml"),
        "/shared/results": str(tmp_path / "out"),
        "--num-cpus 8": "--num-cpus 1",
    }
    lines = block_with("ray start --head", replaced).splitlines()
    _, head, _, command = (line.partition(" #")[0].strip() for line in lines)
    with going_on(f"{head} --block --include-dashboard false", environment) as one:
        line_with(r"(ray start --address)", one)
        time.sleep(2)
        told = subprocess.run(command.split(), env=environment, capture_output=True)
    assert told.returncode == 0, told.stderr
    assert results(tmp_path / "out") == ["seed-0", "seed-1"]
