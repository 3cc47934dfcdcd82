"""Several commands on one folder: they divide the cells, and both end with the whole table."""

import errno
import io
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import yaml

from avalanche_ext.results.experiment import read_results
from avalanche_ext.runner import Selection, run_experiment
from avalanche_ext.runner.worker import run_claimed
from tests.results.test_claims import HOLD
from tests.runner.cases import RESULT, SMALL, cell, experiment

TINY = {"benchmark": {**SMALL["benchmark"], "train_size": 20, "test_size": 20}}
ONLY = {**TINY, "methods": {"naive": {}}}


def test_two_commands_divide_the_cells(tmp_path):
    # So long that neither command has run all before the other begins.
    training = {**SMALL["training"], "epochs": 300}
    grid = experiment(tmp_path, seeds=3, training=training, **TINY)
    with ThreadPoolExecutor(2) as commands:
        both = [commands.submit(run_experiment, grid, tmp_path / "out", jobs=1) for _ in range(2)]
        one, other = (each.result() for each in both)
    assert one.n_completed + other.n_completed == 6, "no cell is run twice"
    assert min(one.n_completed, other.n_completed) > 0
    assert one.n_failed == other.n_failed == 0
    for each in (one, other):
        assert each.n_completed + each.n_elsewhere + each.n_done_before == 6


def test_a_cell_that_another_command_runs_is_waited_for_and_taken_over(tmp_path, capsys):
    grid, out = experiment(tmp_path, **ONLY), tmp_path / "out"
    lock = grid.cells()[0].files(out).claim
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    told = ""
    with ThreadPoolExecutor(1) as commands:
        command = commands.submit(run_experiment, grid, out, jobs=2)
        deadline = time.monotonic() + 120
        while "waiting" not in told and time.monotonic() < deadline:
            time.sleep(0.1)
            told += capsys.readouterr().err
        assert not command.done()
        assert run_claimed(grid.cells()[0], out, None)[0] == "claimed"
        holder.kill()
        outcome = command.result()
    assert f"naive seed 0 is held by process {holder.pid} on " in told
    assert "naive seed 1: ACC" in told
    assert (outcome.n_completed, outcome.n_elsewhere, outcome.n_failed) == (2, 0, 0)


def test_the_threads_of_a_run_are_those_of_its_configuration(tmp_path):
    before = torch.get_num_threads()
    training = {**SMALL["training"], "threads": 2}
    try:
        run_claimed(cell(tmp_path, **TINY, training=training), tmp_path / "two", None)
        assert torch.get_num_threads() == 2
        run_claimed(cell(tmp_path, **TINY), tmp_path / "one", None)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_a_cell_that_another_command_has_run_is_not_run_again(tmp_path):
    one, out = cell(tmp_path, **TINY), tmp_path / "out"
    assert run_claimed(one, out, None) == ("done", "")
    assert run_claimed(one, out, None) == ("found", "")
    # Another configuration of the same cell sets its result aside.
    cell(tmp_path, **TINY, optimizer={"name": "SGD", "lr": 0.01}).files(out).begin()
    assert not one.files(out).is_done()
    assert run_claimed(one, out, None) == ("found", "")
    assert one.files(out).is_done()


def test_a_failure_is_written_under_the_claim_only(tmp_path):
    one, out = cell(tmp_path, **TINY), tmp_path / "out"
    (out / "small").mkdir(parents=True)
    (out / "small" / ".claims").write_text("in the way")
    how, reason = run_claimed(one, out, None)
    assert how == "failed"
    assert "Not a directory" in reason or "File exists" in reason
    assert not one.files(out).folder.exists()


def test_a_result_that_a_network_file_system_hides_at_first_is_found(tmp_path, monkeypatch):
    """It remembers for a minute that there was no file, until the folder is listed again."""
    one, out = cell(tmp_path, **TINY), tmp_path / "out"
    one.files(out).begin()
    one.files(out).write_result(RESULT)
    hidden = {one.files(out).folder / "result.json"}
    opened, listed = io.open, os.listdir

    def open_as_remembered(path, *args, **options):
        if path in hidden:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return opened(path, *args, **options)

    def listdir(folder):
        hidden.discard(folder / "result.json")
        return listed(folder)

    monkeypatch.setattr("io.open", open_as_remembered)
    monkeypatch.setattr("os.listdir", listdir)
    assert not one.files(out).is_done()
    assert run_claimed(one, out, None) == ("found", "")


def test_seeds_of_one_table_may_come_from_different_commands(tmp_path):
    out = tmp_path / "out"

    def seeds_after(seeds, **changed):
        run_experiment(experiment(tmp_path, seeds=seeds, **{**ONLY, **changed}), out, jobs=2)
        results = read_results(out / "small")
        assert [*results.methods[0].cells] == [*results.seeds]
        return [*results.seeds]

    assert seeds_after([0, 1]) == [0, 1]
    assert seeds_after([5, 3]) == [5, 3, 0, 1]
    assert seeds_after([1]) == [1, 0, 3, 5]
    changed = {"optimizer": {"name": "SGD", "lr": 0.01}}
    assert seeds_after([7], **changed) == [7], "results of another configuration stay out"


def test_seeds_that_were_never_begun_do_not_stay_in_the_table(tmp_path):
    out = tmp_path / "out"
    run_experiment(experiment(tmp_path, **ONLY), out, jobs=2)
    record = out / "small" / "record.yaml"
    many = experiment(tmp_path, **{**ONLY, "seeds": 50})
    record.write_text(yaml.safe_dump(many.summary()), "utf-8")
    run_experiment(experiment(tmp_path, **ONLY), out, jobs=2)
    assert read_results(out / "small").seeds == (0, 1)


def test_shards_run_their_own_cells_and_show_the_whole_table(tmp_path):
    grid, out = experiment(tmp_path, **TINY), tmp_path / "out"
    one = run_experiment(grid, out, selection=Selection(shard=(1, 2)), jobs=2)
    assert (one.n_completed, one.n_done_before) == (2, 0)
    results = read_results(out / "small")
    assert sum(len(method.cells) for method in results.methods) == 2
    assert sum(len(method.missing) for method in results.methods) == 2
    other = run_experiment(grid, out, selection=Selection(shard=(2, 2)), jobs=2)
    assert (other.n_completed, other.n_done_before) == (2, 0)
    assert not any(method.missing for method in read_results(out / "small").methods)


def test_methods_are_rerun_and_their_results_set_aside(tmp_path):
    grid, out = experiment(tmp_path, **TINY), tmp_path / "out"
    run_experiment(grid, out, jobs=2)
    first = (out / "small/ber/seed-0/result.json").read_bytes()
    only = Selection(methods=["naive"], rerun=["ber"])
    assert run_experiment(grid, out, selection=only, jobs=2).n_done_before == 2
    assert run_experiment(grid, out, selection=Selection(rerun=["ber"]), jobs=2).n_completed == 2
    (aside,) = (out / "small/ber/seed-0").glob("result-*-1.json")
    assert aside.read_bytes() == first
    assert (out / "small/ber/seed-0/result.json").read_bytes() != first, "seconds differ"


COMMAND = [sys.executable, "-m", "avalanche_ext", "run"]


@pytest.mark.cluster
def test_four_commands_at_once_one_of_them_killed(tmp_path):
    experiment(tmp_path, seeds=10)
    words = [*COMMAND, str(tmp_path / "small.yaml"), "--out", str(tmp_path / "out"), "--jobs", "1"]
    four = [
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    deadline = time.monotonic() + 900
    while not [*tmp_path.rglob("result.json")] and time.monotonic() < deadline:
        time.sleep(0.05)
    four[0].kill()
    n_run = 0
    for each in four[1:]:
        told, _ = each.communicate(timeout=1200)
        assert each.returncode == 0
        assert "small: 2 methods x 10 seeds, 20 of 20 runs finished" in told
        n_run += int(told.split()[0])
    _, told = four[0].communicate()
    n_killed_before = told.count(": ACC ")
    n_results = len([*tmp_path.rglob("result.json")])
    assert n_results == 20
    # The killed command may have finished one more cell than it had time to say.
    assert n_run + n_killed_before in (19, 20)
    assert not [*tmp_path.rglob("result-*")], "nothing was run twice"
