"""What the engines of clusters refuse, say and leave behind, without workers of their own."""

from types import SimpleNamespace

import pytest

from avalanche_ext.runner import PreflightError
from avalanche_ext.runner.engines import engine
from tests.runner import deadly


@pytest.fixture
def dask():
    """The module of Dask's engine."""
    pytest.importorskip("distributed")
    from avalanche_ext.runner.engines import dask

    return dask


@pytest.fixture
def ray():
    """Ray, which is not started."""
    return pytest.importorskip("ray")


def fail(error):
    def failing(*_, **__):
        raise error

    return failing


@pytest.fixture
def scheduler(dask):
    """A Dask cluster with one worker in this process."""
    with dask.LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster:
        yield cluster.scheduler


def ours(scheduler):
    """The plugins that our commands have given the workers."""
    return [name for name in scheduler.worker_plugins if name.startswith("avalanche_ext")]


def test_a_users_dask_cluster_is_left_as_it_was(dask, scheduler):
    with engine("dask", scheduler=scheduler.address) as one:
        with engine("dask", scheduler=scheduler.address):
            assert len(ours(scheduler)) == 2
        assert len(ours(scheduler)) == 1, "each command takes its own away"
        assert one.lack() == ""
    assert not ours(scheduler)
    assert not {*scheduler.clients} - {"fire-and-forget"}


def test_workers_that_cannot_use_the_package_are_named_and_nothing_stays(
    dask, scheduler, monkeypatch
):
    missing = fail(ModuleNotFoundError("No module named 'avalanche_ext'"))
    monkeypatch.setattr(dask.Client, "register_plugin", missing)
    message = (
        f"--scheduler {scheduler.address}: its workers cannot use avalanche-ext "
        r"\(ModuleNotFoundError: No module named 'avalanche_ext'\)"
    )
    with pytest.raises(PreflightError, match=message):
        engine("dask", scheduler=scheduler.address).__enter__()
    assert not {*scheduler.clients} - {"fire-and-forget"}


def test_a_dask_scheduler_without_workers_lacks_them(dask):
    with (
        dask.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
        engine("dask", scheduler=cluster.scheduler_address) as workers,
    ):
        assert workers.lack() == "the Dask scheduler has none"


def test_a_dask_worker_that_closes_gives_its_call_back(dask, monkeypatch, tmp_path):
    """An answer of nothing would count as a failure of the cell."""
    tasks = {"key": SimpleNamespace(state="executing")}
    worker = SimpleNamespace(
        status=dask.Status.closing_gracefully,
        state=SimpleNamespace(tasks=tasks),
        get_current_task=lambda: "key",
    )
    monkeypatch.setattr(dask, "get_worker", lambda: worker)
    with pytest.raises(dask.Reschedule):
        dask._alone(deadly.sleep, (tmp_path / "worker",))
    worker.status = dask.Status.running
    tasks.clear()
    assert dask._alone(deadly.sleep, (tmp_path / "worker",)) is None


def test_a_dask_cluster_that_cannot_be_started_is_named(dask, monkeypatch):
    monkeypatch.setattr(dask, "LocalCluster", fail(RuntimeError("Nanny failed to start.")))
    message = r"--backend dask: no cluster can be started on this machine \(Nanny failed to start"
    with pytest.raises(PreflightError, match=message):
        engine("dask").__enter__()


def test_a_ray_cluster_that_cannot_be_started_is_named(ray, monkeypatch):
    monkeypatch.setattr(ray, "init", fail(RuntimeError("no ports")))
    message = r"--backend ray: no Ray cluster can be started on this machine \(no ports\)"
    with pytest.raises(PreflightError, match=message):
        engine("ray").__enter__()


def test_a_ray_cluster_without_what_a_cell_needs_says_what(ray, monkeypatch):
    """Ray itself would wait for ever without a word."""
    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0}},
        {"Alive": False, "Resources": {"CPU": 8.0, "GPU": 1.0}},
    ]
    monkeypatch.setattr(ray, "init", lambda **_: None)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    lack = "a cell needs 4 CPUs and 1 GPU, and no node of the Ray cluster has that many"
    with engine("ray", scheduler="auto", threads=4, n_gpus=1) as workers:
        assert workers.lack() == lack
        nodes[1]["Alive"] = True
        assert workers.lack() == ""
    nodes.pop()
    with pytest.raises(PreflightError, match=f"--backend ray: {lack}"):
        engine("ray", threads=4, n_gpus=1).__enter__()
