"""What plugins record of each iteration and what they exhibit reach the files of a run."""

import contextlib
import json
import os
import shutil

import numpy as np
import pytest

from avalanche_ext.plugins import BalancedReplayPlugin
from avalanche_ext.runner.cell import run_cell
from tests.runner.cases import DIVERGING, cell

IMAGES = np.linspace(-0.5, 1.5, 2 * 3 * 4, dtype=np.float32).reshape(2, 1, 3, 4)
ARRAYS = {"slot": np.array([4, 7]), "edited": IMAGES}


@pytest.fixture
def telling(monkeypatch):
    """Balanced replay that reports which iterations of the run it has seen, and exhibits arrays."""
    tell(monkeypatch)


def tell(monkeypatch):
    before_experience = BalancedReplayPlugin.before_training_exp
    before_iteration = BalancedReplayPlugin.before_training_iteration

    def start(plugin, strategy, **kwargs):
        before_experience(plugin, strategy, **kwargs)
        plugin.seen = []

    def see(plugin, strategy, **kwargs):
        before_iteration(plugin, strategy, **kwargs)
        plugin.seen.append(float(strategy.clock.train_iterations))

    def series(plugin):
        return {"seen": plugin.seen, "nothing": []}

    monkeypatch.setattr(BalancedReplayPlugin, "before_training_exp", start)
    monkeypatch.setattr(BalancedReplayPlugin, "before_training_iteration", see)
    monkeypatch.setattr(BalancedReplayPlugin, "series", series)
    monkeypatch.setattr(BalancedReplayPlugin, "exhibits", lambda plugin: {"edits": ARRAYS})


def events(folder):
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def hashes(folder):
    """Whose the result is, and whose the exhibit says it is."""
    with np.load(folder / "edits.npz") as file:
        return json.loads((folder / "result.json").read_text())["hash"], str(file["hash"])


def exhibits(folder):
    return sorted(path.name for path in folder.glob("*.npz"))


@pytest.mark.usefixtures("telling")
def test_series_of_each_experience_follow_its_evaluation(tmp_path):
    one = cell(tmp_path, "ber", training={"batch_size": 5, "epochs": 2})
    assert run_cell(one, tmp_path, None) == "completed"
    told = events(one.directory(tmp_path))
    kinds = [event["event"] for event in told]
    assert kinds == ["start", "experience", *["experience", "series"] * 2, "finish"]
    (first, second) = (event for event in told if event["event"] == "series")
    assert (first["index"], first["start"], second["index"], second["start"]) == (0, 0, 1, 24)
    assert first["series"] == {"seen": [*range(24)], "nothing": []}
    assert second["series"] == {"seen": [*range(24, 48)], "nothing": []}


@pytest.mark.usefixtures("telling")
def test_an_exhibit_is_a_file_of_its_arrays_and_its_cell(tmp_path):
    one = cell(tmp_path, "ber")
    assert run_cell(one, tmp_path, None) == "completed"
    folder = one.directory(tmp_path)
    with np.load(folder / "edits.npz") as file:
        assert set(file) == {*ARRAYS, "hash"}
        assert str(file["hash"]) == one.hash
        for name, array in ARRAYS.items():
            assert file[name].dtype == array.dtype
            np.testing.assert_array_equal(file[name], array)
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.usefixtures("telling")
def test_a_result_is_written_only_after_all_exhibits(tmp_path, monkeypatch):
    one = cell(tmp_path, "ber")
    unwritable = {"a": ARRAYS, "missing-folder/b": ARRAYS}
    monkeypatch.setattr(BalancedReplayPlugin, "exhibits", lambda plugin: unwritable)
    assert run_cell(one, tmp_path, None) == "failed"
    folder = one.directory(tmp_path)
    assert "missing-folder" in json.loads((folder / "failure.json").read_text())["error"]
    assert exhibits(folder) == ["a.npz"]
    assert not (folder / "result.json").exists()


@pytest.mark.usefixtures("telling")
def test_an_exhibit_is_whole_or_not_there(tmp_path, monkeypatch):
    one = cell(tmp_path, "ber")

    def die(partial, path):
        if path.name == "edits.npz":
            raise OSError("killed while the exhibit takes its place")
        os.rename(partial, path)

    monkeypatch.setattr(os, "replace", die)
    assert run_cell(one, tmp_path, None) == "failed"
    assert not exhibits(one.directory(tmp_path))


@pytest.mark.usefixtures("telling")
def test_exhibits_of_an_attempt_without_a_result_go(tmp_path, monkeypatch):
    one = cell(tmp_path, "ber")
    folder = one.directory(tmp_path)
    unwritable = {"a": ARRAYS, "missing-folder/b": ARRAYS}
    with monkeypatch.context() as patched:
        patched.setattr(BalancedReplayPlugin, "exhibits", lambda plugin: unwritable)
        assert run_cell(one, tmp_path, None) == "failed"
    assert exhibits(folder) == ["a.npz"]
    assert run_cell(one, tmp_path, None) == "completed"
    assert exhibits(folder) == ["edits.npz"]


@pytest.mark.usefixtures("telling")
def test_exhibits_are_set_aside_with_their_result(tmp_path):
    one = cell(tmp_path, "ber")
    folder = one.directory(tmp_path)
    assert run_cell(one, tmp_path, None) == "completed"
    diverging = cell(tmp_path, "ber", optimizer={"name": "SGD", **DIVERGING["optimizer"]})
    for _ in range(2):
        assert run_cell(diverging, tmp_path, None) == "failed"
        assert exhibits(folder) == [f"edits-{one.hash}.npz"]
        assert not (folder / "result.json").exists()


def two_configurations(folder):
    return cell(folder, "ber"), cell(folder, "ber", optimizer={"name": "SGD", "lr": 0.01})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The results folder of two configurations of one cell, one run after the other."""
    out = tmp_path_factory.mktemp("both")
    with pytest.MonkeyPatch.context() as patched:
        tell(patched)
        for each in two_configurations(out):
            assert run_cell(each, out, None) == "completed"
    return out


def test_exhibits_come_back_with_their_result(tmp_path, finished):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    one, other = two_configurations(tmp_path)
    folder = one.directory(tmp_path)
    for wanted, unwanted in ((one, other), (other, one), (other, one)):
        wanted.files(tmp_path).bring_back()
        assert hashes(folder) == (wanted.hash, wanted.hash)
        assert exhibits(folder) == [f"edits-{unwanted.hash}.npz", "edits.npz"]
        assert (folder / f"result-{unwanted.hash}.json").is_file()


@pytest.mark.usefixtures("telling")
def test_a_result_brought_back_takes_no_exhibits_of_a_failed_attempt(tmp_path, monkeypatch):
    one = cell(tmp_path, "ber")
    other = cell(tmp_path, "ber", optimizer={"name": "SGD", "lr": 0.01})
    folder = one.directory(tmp_path)
    assert run_cell(one, tmp_path, None) == "completed"
    unwritable = {"a": ARRAYS, "missing-folder/b": ARRAYS}
    monkeypatch.setattr(BalancedReplayPlugin, "exhibits", lambda plugin: unwritable)
    assert run_cell(other, tmp_path, None) == "failed"
    assert exhibits(folder) == ["a.npz", f"edits-{one.hash}.npz"]
    one.files(tmp_path).bring_back()
    assert exhibits(folder) == ["edits.npz"]
    assert hashes(folder) == (one.hash, one.hash)


@pytest.mark.parametrize("n_moves", range(6))
def test_no_exhibit_is_lost_when_the_end_comes_between_two_moves(
    tmp_path, monkeypatch, finished, n_moves
):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    one, other = two_configurations(tmp_path)
    left = [n_moves]

    def move(source, target, replace=os.replace):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", move)
        with contextlib.suppress(KeyboardInterrupt):
            one.files(tmp_path).bring_back()
    for wanted in (one, other, one):
        wanted.files(tmp_path).bring_back()
        assert hashes(one.directory(tmp_path)) == (wanted.hash, wanted.hash)


def test_a_run_with_nothing_to_report_or_show_has_no_such_lines_and_files(tmp_path):
    one = cell(tmp_path, "ber")
    assert run_cell(one, tmp_path, None) == "completed"
    folder = one.directory(tmp_path)
    assert "series" not in {event["event"] for event in events(folder)}
    assert not exhibits(folder)
