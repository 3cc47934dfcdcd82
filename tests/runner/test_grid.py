"""Whole grids in real worker processes."""

import json
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml

from avalanche_ext.results.claims import claimed
from avalanche_ext.runner import PreflightError, run_experiment
from avalanche_ext.runner.cell import run_cell
from avalanche_ext.runner.grid import _engine
from tests.runner import deadly
from tests.runner.cases import DIVERGING, RESULT, SMALL, cell, experiment


def results(out: Path) -> dict[str, dict]:
    paths = sorted(out.glob("small/*/seed-*/result.json"))
    return {str(p.parent.relative_to(out / "small")): json.loads(p.read_text()) for p in paths}


def counts(outcome) -> tuple[int, int, int]:
    return outcome.n_completed, outcome.n_failed, outcome.n_done_before


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The results folder of a grid that two workers have run."""
    folder = tmp_path_factory.mktemp("grid")
    assert counts(run_experiment(experiment(folder), folder / "out", jobs=2)) == (4, 0, 0)
    return folder / "out"


def test_a_grid_runs_once_and_then_only_what_was_added(tmp_path, finished):
    shutil.copytree(finished, tmp_path / "out")
    first = results(tmp_path / "out")
    assert set(first) == {"naive/seed-0", "naive/seed-1", "ber/seed-0", "ber/seed-1"}
    for result in first.values():
        assert np.shape(result["R"]) == (2, 2)
        assert len(result["untrained"]) == 2
        assert result["test_sizes"] == [226, 224]
        assert 0 <= result["metrics"]["ACC"] <= 1
        assert result["seconds"]["total"] >= result["seconds"]["training"] > 0
        assert {"avalanche-ext", "avalanche-lib", "torch", "numpy", "python"} <= set(
            result["versions"]
        )
    assert counts(run_experiment(experiment(tmp_path), tmp_path / "out", jobs=2)) == (0, 0, 4)
    assert results(tmp_path / "out") == first

    grown = experiment(tmp_path, seeds=3)
    assert counts(run_experiment(grown, tmp_path / "out", jobs=1)) == (2, 0, 4)
    changed = {**SMALL["methods"], "naive": {"optimizer": {"lr": 0.01}}}
    other = experiment(tmp_path, seeds=3, methods=changed)
    assert counts(run_experiment(other, tmp_path / "out", jobs=1)) == (3, 0, 3)
    summary = yaml.safe_load((tmp_path / "out" / "small" / "record.yaml").read_text())
    assert summary["methods"] == ["naive", "ber"]
    assert summary["seeds"] == [0, 1, 2]


def test_results_do_not_depend_on_the_number_of_workers(tmp_path, finished):
    run_experiment(experiment(tmp_path), tmp_path / "out", jobs=1)
    one, two = results(tmp_path / "out"), results(finished)
    assert {k: (r["R"], r["untrained"]) for k, r in one.items()} == {
        k: (r["R"], r["untrained"]) for k, r in two.items()
    }


def test_a_failing_cell_does_not_stop_the_others(tmp_path):
    methods = {"diverging": DIVERGING, **SMALL["methods"]}
    failing = experiment(tmp_path, methods=methods, seeds=1)
    assert counts(run_experiment(failing, tmp_path / "out", jobs=2)) == (2, 1, 0)
    failure = json.loads((tmp_path / "out/small/diverging/seed-0/failure.json").read_text())
    assert "DivergedError: the loss became" in failure["error"]
    assert "at iteration" in failure["error"]
    assert "Traceback" in failure["traceback"]
    assert set(results(tmp_path / "out")) == {f"{method}/seed-0" for method in SMALL["methods"]}
    assert counts(run_experiment(failing, tmp_path / "out", jobs=1)) == (0, 1, 2), "tried again"


def test_a_cell_leaves_its_configuration_and_its_events(tmp_path):
    one = cell(tmp_path, "ber", seed=7)
    assert run_cell(one, tmp_path / "out", None) == "completed"
    folder = one.directory(tmp_path / "out")
    assert yaml.safe_load((folder / "config.yaml").read_text()) == one.resolved()
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [e["event"] for e in events] == ["start", *["experience"] * 3, "finish"]
    result = json.loads((folder / "result.json").read_text())
    assert events[-2]["accuracies"] == result["R"][-1]
    assert events[1]["accuracies"] == result["untrained"]


def test_a_change_that_is_taken_back_costs_no_second_run(tmp_path):
    def run(lr: float):
        changed = experiment(tmp_path, optimizer={"name": "SGD", "lr": lr}, seeds=1)
        return counts(run_experiment(changed, tmp_path / "out", jobs=1))

    assert run(0.05) == (2, 0, 0)
    first = results(tmp_path / "out")
    assert run(0.01) == (2, 0, 0)
    assert results(tmp_path / "out") != first
    assert run(0.05) == (0, 0, 2)
    assert results(tmp_path / "out") == first
    config = yaml.safe_load((tmp_path / "out/small/naive/seed-0/config.yaml").read_text())
    assert config["hash"] == first["naive/seed-0"]["hash"]
    assert run(0.01) == (0, 0, 2)


def test_a_cell_that_kills_its_worker_is_tried_twice_and_costs_no_other(tmp_path, monkeypatch):
    grid, out = experiment(tmp_path, seeds=1), tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr("avalanche_ext.runner.grid.run_claimed", deadly.killed_in_ber)
        assert counts(run_experiment(grid, out, jobs=2)) == (1, 1, 0)
    assert (out / "killed").read_text() == "ber 0\n" * 2
    failure = json.loads((out / "small/ber/seed-0/failure.json").read_text())
    assert "the worker process died" in failure["error"]
    assert counts(run_experiment(grid, out, jobs=2)) == (1, 0, 1)


def test_a_cell_whose_worker_was_killed_once_is_run_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("avalanche_ext.runner.grid.run_claimed", deadly.killed_once)
    grid = experiment(tmp_path, seeds=1, methods={"ber": SMALL["methods"]["ber"], "naive": {}})
    assert counts(run_experiment(grid, tmp_path / "out", jobs=1)) == (2, 0, 0)
    assert (tmp_path / "out/killed").read_text() == "ber 0\n"
    # After all others: it may have needed all the memory.
    assert capsys.readouterr().err.splitlines()[-1].startswith("ber seed 0: ACC ")


def test_a_result_that_another_command_has_set_aside_counts_and_is_brought_back(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("avalanche_ext.runner.grid.run_claimed", deadly.done_and_set_aside)
    grid, out = experiment(tmp_path, seeds=1), tmp_path / "out"
    assert counts(run_experiment(grid, out, jobs=2)) == (2, 0, 0)
    assert all(cell.files(out).is_done() for cell in grid.cells())


def test_a_failure_is_never_written_next_to_a_result(tmp_path, monkeypatch):
    """Another command may have run the cell while this one waits for its claim."""
    monkeypatch.setattr("avalanche_ext.runner.grid.run_claimed", deadly.killed_in_ber)
    grid = experiment(tmp_path, seeds=1, methods={"ber": SMALL["methods"]["ber"]})
    files = grid.cells()[0].files(tmp_path / "out")

    @contextmanager
    def claimed_after_others(path, *patience):
        if path == files.claim:
            files.write_result(RESULT)
        with claimed(path, *patience):
            yield

    monkeypatch.setattr("avalanche_ext.runner.grid.claimed", claimed_after_others)
    assert counts(run_experiment(grid, tmp_path / "out", jobs=1)) == (1, 0, 0)
    assert not (files.folder / "failure.json").exists()


def test_a_result_that_a_network_file_system_shows_late_or_never(tmp_path, monkeypatch):
    monkeypatch.setattr("avalanche_ext.runner.grid.run_claimed", deadly.done_but_nothing_written)
    monkeypatch.setattr("avalanche_ext.runner.engines.local.LocalEngine.is_here", False)
    monkeypatch.setattr("avalanche_ext.runner.grid._SECONDS_TO_BE_SEEN", 0.5)
    grid, out = experiment(tmp_path, seeds=1), tmp_path / "out"
    late, never = (cell.files(out) for cell in grid.cells())

    def shown(folder):
        if folder == late.folder and not late.has_result():
            late.begin()
            late.write_result(RESULT)

    monkeypatch.setattr("avalanche_ext.runner.grid.look_again", shown)
    outcome = run_experiment(grid, out, jobs=2)
    assert (*counts(outcome), outcome.n_unseen) == (1, 0, 0, 1)
    assert not never.has_failed(), "it may well be done elsewhere"


def test_a_grid_without_workers_says_so_once(tmp_path, monkeypatch, capsys):
    lack = "the scheduler has none"
    monkeypatch.setattr("avalanche_ext.runner.engines.local.LocalEngine.lack", lambda _: lack)
    monkeypatch.setattr("avalanche_ext.runner.grid._SECONDS_TO_BEGIN", 0.0)
    monkeypatch.setattr("avalanche_ext.runner.grid._SECONDS_BETWEEN_LOOKS", 0.001)
    run_experiment(experiment(tmp_path, seeds=1, methods={"naive": {}}), tmp_path / "out", jobs=1)
    said = capsys.readouterr().err
    assert said.count("waiting for workers: the scheduler has none\n") == 1


def test_workers_use_the_data_of_this_commands_environment(tmp_path, monkeypatch):
    """Workers of a cluster have their own environment."""
    monkeypatch.setattr("avalanche_ext.runner.grid.run_claimed", deadly.note_data_root)
    monkeypatch.setenv("AVALANCHE_EXT_DATA", "data")
    monkeypatch.chdir(tmp_path)
    run_experiment(experiment(tmp_path, seeds=1, methods={"naive": {}}), tmp_path / "out", jobs=1)
    assert results(tmp_path / "out")["naive/seed-0"]["data_root"] == str(tmp_path / "data")


def test_cells_that_name_one_gpu_share_it_only_if_asked_to(tmp_path):
    training = {**SMALL["training"], "device": "cuda"}
    methods = {"one": {}, "other": {"training": {"device": "cuda:0"}}}
    grid = experiment(tmp_path, training=training, methods=methods)
    for jobs, n in ((None, 1), (4, 4)):
        assert _engine(grid, "local", jobs, None, ()).n_workers == n


def test_a_record_that_another_command_writes_for_ever_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("avalanche_ext.runner.grid._SECONDS_FOR_RECORD", 0.1)
    folder = tmp_path / "out" / "small"
    told = (
        rf"{folder}/experiment.yaml is being written by process \d+ on \S+ since .*; end that "
        "process or try again"
    )
    with claimed(folder / ".claims/experiment.lock"), pytest.raises(PreflightError, match=told):
        run_experiment(experiment(tmp_path), tmp_path / "out", jobs=1)


def test_a_run_whose_code_exits_has_failed_and_says_so(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import sys\n"
        "from avalanche.core import SupervisedPlugin\n"
        "class Exits(SupervisedPlugin):\n"
        "    def after_training_iteration(self, strategy, **kwargs):\n"
        "        sys.exit('no licence')\n"
    )
    exits = cell(tmp_path, "exits", methods={"exits": {"plugins": ["./mine.py:Exits"]}})
    assert run_cell(exits, tmp_path / "out", None) == "failed"
    assert exits.files(tmp_path / "out").failure() == "its code called sys.exit(no licence)"


def test_a_cell_whose_folder_cannot_be_made_is_failed_not_fatal(tmp_path):
    (tmp_path / "out" / "small").mkdir(parents=True)
    (tmp_path / "out" / "small" / "naive").write_text("in the way")
    grid = experiment(tmp_path, seeds=1)
    assert counts(run_experiment(grid, tmp_path / "out", jobs=1)) == (1, 1, 0)


def test_a_file_where_the_experiments_folder_should_be_is_named(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "small").write_text("")
    with pytest.raises(PreflightError, match=r"out/small: cannot write there"):
        run_experiment(experiment(tmp_path), tmp_path / "out", jobs=1)


def test_a_result_of_another_configuration_or_a_broken_one_is_not_done(tmp_path):
    one, out = cell(tmp_path), tmp_path / "out"
    assert not one.files(out).is_done()
    run_cell(one, out, None)
    assert one.files(out).is_done()
    assert not cell(tmp_path, optimizer={"name": "SGD", "lr": 0.01}).files(out).is_done()
    (one.directory(out) / "result.json").write_text('{"hash": ')
    assert not one.files(out).is_done()


def test_success_removes_an_earlier_failure(tmp_path):
    one, out = cell(tmp_path), tmp_path / "out"
    run_cell(cell(tmp_path, optimizer={"name": "SGD", "lr": 1e30}), out, None)
    assert (one.directory(out) / "failure.json").exists()
    run_cell(one, out, None)
    assert not (one.directory(out) / "failure.json").exists()


def test_logging_to_wandb_does_not_change_the_numbers(tmp_path):
    offline = {"mode": "offline"}
    for mode in ("disabled", "offline"):
        run_cell(cell(tmp_path, wandb={"mode": mode}), tmp_path / mode, None)
    one, other = (
        results(tmp_path / mode)["naive/seed-0"] for mode in ("disabled", offline["mode"])
    )
    assert one["R"] == other["R"]
    assert one["hash"] == other["hash"]
    assert list((tmp_path / "offline").glob("small/naive/seed-0/wandb/offline-run-*/*.wandb"))


def test_a_killed_grid_keeps_what_is_done_and_goes_on(tmp_path):
    long = {"benchmark": {**SMALL["benchmark"], "train_size": None}, "methods": {"naive": {}}}
    long |= {"training": {"batch_size": 3}, "seeds": 3}
    experiment(tmp_path, **long)
    code = (
        "from pathlib import Path\n"
        "from avalanche_ext.config import load_experiment\n"
        "from avalanche_ext.runner import run_experiment\n"
        "if __name__ == '__main__':\n"
        f"    run_experiment(load_experiment(Path({str(tmp_path / 'small.yaml')!r})),"
        f" Path({str(tmp_path / 'out')!r}), jobs=1)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 400
    while not results(tmp_path / "out") and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    before = results(tmp_path / "out")
    assert 0 < len(before) < 3
    outcome = run_experiment(experiment(tmp_path, **long), tmp_path / "out", jobs=2)
    assert outcome.n_failed == 0
    assert outcome.n_done_before >= len(before)
    after = results(tmp_path / "out")
    assert len(after) == 3
    assert all(after[name] == result for name, result in before.items())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"benchmark": {"name": "split_digits", "train_size": 10_000}},
            r"benchmark: train_size=10000, but experience 0 has \d+ samples",
        ),
        (
            {"benchmark": {"name": "image_folder", "folder": "/nowhere"}},
            r"image_folder: there is no /nowhere/train; images must be in train/<class>/<image>",
        ),
        (
            {"model": {"name": "slim_resnet18"}},
            r"methods\.\w+: model slim_resnet18 takes samples of shape \(3, H, W\).*\(1, 8, 8\)",
        ),
        ({"training": {"batch_size": 5, "device": "cuda:63"}}, r"training\.device is 'cuda:63'"),
        (
            {"analyses": {"rho_spectrum": {"layers": ["hiden.1"]}}},
            r"layers=\['hiden.1'\]: the model has no module 'hiden.1'; it has hidden",
        ),
        (
            {"methods": {"m": {"plugins": [{"drl": {"layers": ["hidden.9"]}}]}}, "baseline": "m"},
            r"methods.m: layers=\['hidden.9'\]: the model has no module 'hidden.9'",
        ),
    ],
    ids=["too few samples", "no data", "wrong model", "no GPU", "analysed layer", "layer"],
)
def test_what_cannot_run_is_refused_before_training(tmp_path, changed, message):
    with pytest.raises(PreflightError, match=message):
        run_experiment(experiment(tmp_path, **changed), tmp_path / "out", jobs=1)
    assert not results(tmp_path / "out")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PreflightError, match=rf"--out {tmp_path}/file/small: cannot write there"):
        run_experiment(experiment(tmp_path), tmp_path / "file", jobs=1)
