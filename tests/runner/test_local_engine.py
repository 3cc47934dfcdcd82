"""Processes of the local engine: their start, their devices, their end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from avalanche_ext.runner import PreflightError
from avalanche_ext.runner.engines import engine
from avalanche_ext.runner.engines.local import LocalEngine, WorkerDied
from tests.runner import deadly


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def gone_within(pids, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(is_alive, pids))


def noted(folder: Path, n: int) -> list[int]:
    """The processes that `deadly.sleep` has noted in a folder, once there are `n`."""
    deadline = time.monotonic() + 120
    while len([*folder.glob("worker.*")]) < n and time.monotonic() < deadline:
        time.sleep(0.05)
    return [int(path.suffix[1:]) for path in folder.glob("worker.*")]


def test_each_call_has_a_process_of_its_own_that_has_torch_already():
    with LocalEngine(2) as workers:
        told = [workers.submit(deadly.whoami) for _ in range(6)]
        told = [future.result() for future in told]
    assert len({each["pid"] for each in told}) == 6
    assert os.getpid() not in {each["pid"] for each in told}
    if sys.platform == "linux":
        assert all(each["torch"] for each in told)
    assert all(each["collects"] for each in told)
    # One thread runs the call, one waits for the end of the parent.
    assert {each["threads"] for each in told} == {2}


IMPORTS = """
import sys
from pathlib import Path
from avalanche_ext.runner.engines.local import LocalEngine
from tests.runner import deadly
from tests.runner.cases import cell

folder = Path(sys.argv[1])
logged = cell(folder, wandb={"mode": "offline"})
with LocalEngine(1) as workers:
    new, n_frozen, n_collections = workers.submit(deadly.imports, logged, folder / "out").result()
assert logged.files(folder / "out").is_done()
print(n_frozen, n_collections, *new)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs the server that forks workers")
def test_a_cell_imports_nothing_large_that_the_server_has_not(tmp_path):
    """In a separate process whose server preloads everything."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    n_frozen, n_collections, *new = done.stdout.split()
    large = ("avalanche", "opentelemetry.sdk", "wandb.apis", "wandb.sdk.launch")
    large += ("sklearn.metrics", "matplotlib.figure")
    assert not [name for name in new if name.startswith(large)]
    assert int(n_frozen) > 100_000
    assert int(n_collections) < 500


def test_workers_do_not_import_the_main_module_and_have_todays_environment(monkeypatch):
    with LocalEngine(1) as workers:
        workers.submit(deadly.whoami).result()  # The server has started, without the mark.
        monkeypatch.setenv("AVALANCHE_EXT_TEST", "set later")
        told = workers.submit(deadly.whoami).result()
    assert told["mark"] == "set later"
    assert "pytest" not in str(told["main"])


def test_a_script_needs_no_guard_against_being_imported(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import operator\n"
        "from avalanche_ext.runner.engines import local\n"
        "local._PRELOADED = ()\n"  # Otherwise it takes seconds.
        "print('once')\n"
        "with local.LocalEngine(1) as workers:\n"
        "    print(workers.submit(operator.add, 1, 2).result())\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("once\n3\n", "")


def test_devices_are_dealt_to_slots():
    with LocalEngine(4, ["2", "MIG-7"]) as workers:
        told = [workers.submit(deadly.whoami) for _ in range(12)]
        devices = [future.result()["devices"] for future in told]
    assert {*devices} == {"2", "MIG-7"}
    assert 4 <= devices.count("2") <= 8


def test_a_worker_that_dies_or_fails_takes_no_other_with_it():
    with LocalEngine(2) as workers:
        killed, failed = workers.submit(deadly.die), workers.submit(deadly.fail)
        sums = [workers.submit(deadly.add, i, i) for i in range(4)]
        assert [future.result() for future in sums] == [0, 2, 4, 6]
        for future in (killed, failed):
            with pytest.raises(WorkerDied):
                future.result()


def test_a_worker_that_hangs_at_its_end_gives_its_answer_and_its_slot(monkeypatch):
    monkeypatch.setattr("avalanche_ext.runner.engines.local._SECONDS_TO_END", 0.3)
    with LocalEngine(1) as workers:
        hanging = workers.submit(deadly.hang_at_exit)
        assert workers.submit(deadly.add, 1, 2).result(timeout=60) == 3
        assert hanging.result() == "done"


def test_workers_are_ended_when_the_block_ends_with_an_error(tmp_path):
    workers = LocalEngine(2)
    for _ in range(4):
        workers.submit(deadly.sleep, tmp_path / "worker")
    pids = noted(tmp_path, 2)
    with pytest.raises(KeyboardInterrupt), workers:
        raise KeyboardInterrupt
    assert gone_within(pids, 60)
    assert len([*tmp_path.iterdir()]) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="needs the server that forks workers")
def test_sigterm_to_the_server_leaves_its_workers_alone(tmp_path):
    """As when it is sent to all processes of a command: workers decide when they end."""
    with LocalEngine(2) as workers:
        future = workers.submit(deadly.sleep, tmp_path / "worker")
        (pid,) = noted(tmp_path, 1)
        server = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(server, signal.SIGTERM)
        assert not gone_within([pid], 0.5)
        assert workers.submit(deadly.add, 1, 2).result() == 3
        os.kill(pid, signal.SIGTERM)
        with pytest.raises(WorkerDied):
            future.result(timeout=60)
        assert is_alive(server)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("killed", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_when_the_process_they_work_for_is_gone(tmp_path, killed):
    code = (
        "from pathlib import Path\n"
        "from avalanche_ext.runner.engines import local\n"
        "from tests.runner import deadly\n"
        "local._PRELOADED = ()\n"
        "with local.LocalEngine(2) as workers:\n"
        f"    futures = [workers.submit(deadly.sleep, Path({str(tmp_path / 'worker')!r}))"
        " for _ in range(2)]\n"
        "    futures[0].result()\n"
    )
    root = Path(__file__).parents[2]
    main = subprocess.Popen([sys.executable, "-c", code], cwd=root)
    pids = noted(tmp_path, 2)
    assert len(pids) == 2
    assert all(map(is_alive, pids))
    main.send_signal(killed)
    main.wait()
    assert gone_within(pids, 60)


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize(
    ("signals", "has_time"),
    [
        ([signal.SIGTERM, signal.SIGTERM], True),
        ([signal.SIGINT, signal.SIGTERM], True),
        ([signal.SIGINT, signal.SIGINT], False),
    ],
)
def test_only_a_second_interrupt_cuts_short_what_workers_still_write(tmp_path, signals, has_time):
    code = (
        "import signal\n"
        # A shell that runs the tests in the background has them ignore SIGINT.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from pathlib import Path\n"
        "from avalanche_ext.cli import _terminable\n"
        "from avalanche_ext.runner.engines import local\n"
        "from tests.runner import deadly\n"
        "local._PRELOADED = ()\n"
        "with _terminable(), local.LocalEngine(1) as workers:\n"
        f"    note = Path({str(tmp_path / 'worker')!r})\n"
        "    workers.submit(deadly.write_when_ended, note).result()\n"
    )
    root = Path(__file__).parents[2]
    words = [sys.executable, "-c", code]
    main = subprocess.Popen(words, cwd=root, stderr=subprocess.DEVNULL)
    pids = noted(tmp_path, 1)
    for each in signals:
        main.send_signal(each)
        time.sleep(0.3)
    main.wait(300)
    assert gone_within(pids, 60)
    assert (tmp_path / "ended").exists() == has_time


def test_an_interrupt_while_workers_are_ending_leaves_none(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    workers = LocalEngine(1)
    workers.submit(deadly.sleep, tmp_path / "worker")
    pids = noted(tmp_path, 1)
    monkeypatch.setattr("multiprocessing.process.BaseProcess.terminate", interrupted)
    with pytest.raises(KeyboardInterrupt), workers:
        pass
    assert gone_within(pids, 60)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheduler": "tcp://host:1"}, "--scheduler tcp://host:1: name the cluster's kind"),
        ({"backend": "dask", "scheduler": "tcp://h:1", "jobs": 2}, "--jobs 2: with --scheduler"),
        ({"backend": "ray", "devices": ["0"]}, "--devices works with --backend local"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(PreflightError, match=message):
        engine(**options)


@pytest.mark.parametrize(("backend", "package"), [("dask", "distributed"), ("ray", "ray")])
def test_a_backend_without_its_package_says_what_to_install(monkeypatch, backend, package):
    monkeypatch.delitem(sys.modules, f"avalanche_ext.runner.engines.{backend}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    needed = rf"--backend {backend} needs extra packages \(.*{package}.*\): pip install "
    with pytest.raises(PreflightError, match=needed + rf'"avalanche-ext\[{backend}\]"$'):
        engine(backend)


@pytest.mark.parametrize(
    ("options", "n"),
    [
        ({}, 8),
        ({"jobs": 3}, 3),
        ({"threads": 3}, 2),
        ({"threads": 16}, 1),
        ({"devices": ["0", "1"]}, 2),
        ({"devices": ["0", "1"], "jobs": 4}, 4),
        ({"n_gpus": 1}, 1),
        ({"n_gpus": 16}, 8),
        ({"n_gpus": 1, "jobs": 4}, 4),
    ],
)
def test_cores_and_devices_decide_how_many_workers_there_are(monkeypatch, options, n):
    monkeypatch.setattr("avalanche_ext.runner.engines.base.n_cores", lambda: 8)
    with engine(**options) as workers:
        assert workers.n_workers == n
