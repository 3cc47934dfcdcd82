"""GPUs by slot, with stand-ins: what workers see, and what is refused."""

import json

import pytest

from avalanche_ext.config import load_experiment
from avalanche_ext.config.tune import tuning_stage
from avalanche_ext.runner import PreflightError, run_experiment
from avalanche_ext.runner.devices import on_devices, visible
from tests.runner import deadly
from tests.runner.cases import SMALL, experiment


def test_devices_are_entries_of_what_this_process_may_use(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, MIG-0a/1,GPU-7")
    assert visible(["cuda:1", "cuda:0"]) == ["MIG-0a/1", "3"]
    assert visible([]) == []
    with pytest.raises(PreflightError) as refused:
        visible(["cuda:3"])
    assert str(refused.value) == (
        "--devices cuda:3: this machine has 3 usable CUDA devices in "
        "CUDA_VISIBLE_DEVICES=3, MIG-0a/1,GPU-7"
    )


def test_without_that_variable_devices_are_those_of_the_machine(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("avalanche_ext.runner.devices.n_cuda_devices", lambda: 2)
    assert visible(["cuda:1"]) == ["1"]
    with pytest.raises(PreflightError, match=r"--devices cuda:2: this machine has 2 usable CUDA"):
        visible(["cuda:2"])


def test_a_machine_without_gpus_is_recognised_by_its_variable(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(PreflightError, match="has 0 usable CUDA devices in CUDA_VISIBLE_DEVICES="):
        visible(["cuda:0"])


def test_all_methods_run_on_the_devices_and_their_index_is_not_in_the_hash(tmp_path):
    methods = {"naive": {}, "cpu": {"training": {"device": "cpu", "epochs": 2}}}
    grid = experiment(tmp_path, methods=methods)
    assert on_devices(grid, ()) is grid
    placed = on_devices(grid, ["cuda:0", "cuda:1"])
    assert {cell.training.device for cell in placed.cells()} == {"cuda"}
    (tmp_path / "kept.yaml").write_text(placed.yaml(), "utf-8")
    kept = load_experiment(tmp_path / "kept.yaml")
    assert [cell.hash for cell in kept.cells()] == [cell.hash for cell in placed.cells()]
    named = experiment(tmp_path, training={**SMALL["training"], "device": "cuda:1"})
    assert placed.cells()[0].hash == named.cells()[0].hash != grid.cells()[0].hash


def test_each_worker_has_its_device_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,MIG-6")
    monkeypatch.setattr("avalanche_ext.runner.grid.check_builds_by", lambda *_: None)
    monkeypatch.setattr("avalanche_ext.runner.grid.run_claimed", deadly.note_device)
    grid, out = experiment(tmp_path, seeds=4), tmp_path / "out"
    outcome = run_experiment(grid, out, jobs=4, devices=["cuda:0", "cuda:2"])
    assert (outcome.n_completed, outcome.n_failed) == (8, 0)
    results = [json.loads(path.read_text()) for path in out.rglob("result.json")]
    assert {result["visible"] for result in results} == {"4", "MIG-6"}
    assert {result["device"] for result in results} == {"cuda"}


def test_the_settings_of_a_search_run_on_the_devices_too(tmp_path):
    search = {"ber": {"optimizer.lr": [0.01, 0.1]}}
    tune = {"experiences": 1, "validation_per_experience": 10, "seeds": 1, "search": search}
    placed = on_devices(experiment(tmp_path, tune=tune), ["cuda:0"])
    stage = tuning_stage(placed, {"ber": [*placed.tuning.searches["ber"].settings]})
    assert {cell.training.device for cell in stage.cells()} == {"cuda"}
    assert on_devices(placed, ["cuda:0"]) == placed
