"""Which cells a command takes, and why it would run them."""

import errno
import os
import re
from itertools import chain

import pytest

from avalanche_ext.results.claims import claimed
from avalanche_ext.results.files import LaterVersionError
from avalanche_ext.results.store import CellFiles
from avalanche_ext.runner import PreflightError, Selection, explain, run_experiment
from avalanche_ext.runner.plan import _changes, selected
from avalanche_ext.runner.worker import run_claimed
from tests.runner.cases import RESULT, SMALL, cell, experiment

SWEPT = {
    "naive": {},
    "lr": {"sweep": {"optimizer.lr": [0.1, 0.2]}},
}


def names(cells) -> list[str]:
    return [f"{each.method_name}/{each.seed}" for each in cells]


def test_by_default_all_cells_are_taken(tmp_path):
    grid = experiment(tmp_path)
    assert names(selected(grid, Selection())) == ["naive/0", "ber/0", "naive/1", "ber/1"]


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_every_cell_is_in_one_shard(tmp_path, n):
    grid = experiment(tmp_path)
    shards = [names(selected(grid, Selection(shard=(i, n)))) for i in range(1, n + 1)]
    assert sorted(chain(*shards)) == sorted(names(grid.cells()))
    sizes = [len(shard) for shard in shards]
    assert max(sizes) - min(sizes) <= 1


def test_a_shard_compares_all_methods_seed_by_seed(tmp_path):
    grid = experiment(tmp_path, seeds=4)
    assert names(selected(grid, Selection(shard=(2, 2)))) == [
        "naive/2",
        "ber/2",
        "naive/3",
        "ber/3",
    ]


def test_a_swept_method_stands_for_its_settings(tmp_path):
    grid = experiment(tmp_path, methods=SWEPT, seeds=1)
    assert names(selected(grid, Selection(methods=["lr"]))) == ["lr-0.1/0", "lr-0.2/0"]
    assert names(selected(grid, Selection(methods=["lr-0.2", "naive"]))) == ["naive/0", "lr-0.2/0"]


@pytest.mark.parametrize("option", ["methods", "rerun"])
def test_an_unknown_method_is_refused(tmp_path, option):
    with pytest.raises(PreflightError) as refused:
        explain(experiment(tmp_path), tmp_path, Selection(**{option: ["naiv"]}))
    assert str(refused.value) == f"--{option}: unknown method 'naiv' (did you mean 'naive'?)"


def test_a_dry_run_says_why_each_cell_would_run_and_writes_nothing(tmp_path):
    out = tmp_path / "out"
    assert explain(experiment(tmp_path), out, Selection()).splitlines() == [
        "small: 4 of 4 cells would run",
        "  naive  seeds 0, 1: not run yet",
        "  ber    seeds 0, 1: not run yet",
    ]
    assert not out.exists()

    done, begun, failed = (cell(tmp_path, *of) for of in (("naive",), ("naive", 1), ("ber", 1)))
    for one in (done, begun, failed):
        one.files(out).begin()
    done.files(out).write_result(RESULT)
    failed.files(out).write_failure("DivergedError: the loss became nan")
    cell(tmp_path, "ber", optimizer={"name": "SGD", "lr": 0.01}).files(out).begin()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert explain(experiment(tmp_path), out, Selection()).splitlines() == [
        "small: 3 of 4 cells would run",
        "  ber    seed 0: configuration changed (optimizer.lr: 0.01 → 0.05)",
        "  naive  seed 1: started but not finished",
        "  ber    seed 1: failed (DivergedError: the loss became nan)",
    ]
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before

    with claimed(begun.files(out).claim):
        told = explain(experiment(tmp_path), out, Selection(methods=["naive"], rerun=["naive"]))
    first, rerun, held = told.splitlines()
    assert first == "small: 1 of 2 cells would run, 1 is running elsewhere"
    assert rerun == "  naive  seed 0: requested by --rerun"
    assert re.fullmatch(
        r"  naive  seed 1: being run by process \d+ on \S+ since [-\d]+ [:\d]+", held
    )


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be both")
def test_a_dry_run_on_the_folder_of_another_user_says_so_or_what_it_can_see(tmp_path):
    grid, out = experiment(tmp_path, seeds=1), tmp_path / "out"
    held = grid.cells()[0].files(out).claim
    with claimed(held):
        for folder in (tmp_path, *tmp_path.parents):
            if folder.name.startswith(("test_", "popen-", "pytest-")):
                folder.chmod(0o755)
        os.seteuid(65534)
        try:
            seen = explain(grid, out, Selection()).splitlines()
            os.seteuid(0)
            out.chmod(0o700)
            os.seteuid(65534)
            with pytest.raises(PreflightError) as refused:
                explain(grid, out, Selection())
        finally:
            os.seteuid(0)
    assert "naive  seed 0: being run by process " in seen[1]
    assert seen[2] == "  ber    seed 0: not run yet"
    assert str(refused.value) == f"--out {out / 'small'}: cannot be read (Permission denied)"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ESTALE, "Stale file handle", "x/result.json"), "cannot be read (Stale file"),
        (LaterVersionError("x/result.json: it was written by"), "it was written by"),
    ],
)
def test_a_result_that_cannot_be_read_at_present_is_named(tmp_path, monkeypatch, error, told):
    """Whether it is right cannot be known: it is neither run again nor given a failure."""

    def unreadable(_):
        raise error

    grid, out = experiment(tmp_path, seeds=1), tmp_path / "out"
    monkeypatch.setattr(CellFiles, "is_done", unreadable)
    for command in (lambda: explain(grid, out, Selection()), lambda: run_experiment(grid, out)):
        with pytest.raises(PreflightError, match=re.escape(f"x/result.json: {told}")):
            command()
    monkeypatch.setattr(CellFiles, "bring_back", unreadable)
    assert run_claimed(grid.cells()[0], out, None)[0] == "failed"
    assert not [*out.rglob("failure.json")]


def test_what_a_damaged_configuration_says_cannot_steer_the_terminal(tmp_path):
    one, out = cell(tmp_path), tmp_path / "out"
    path = one.files(out).begin() / "config.yaml"
    path.write_text('"\\e[2J": [1, 2]\nseed: "\\e[2Jx"\nmodel: &it [*it]\n', "utf-8")
    told = explain(experiment(tmp_path, seeds=1), out, Selection(methods=["naive"]))
    assert told.replace("\n", "").isprintable()
    assert r"\x1b[2J: [1, 2] → none, seed: \x1b[2Jx → 0" in told
    assert "model: [[[[[[…]]]]]] → mlp" in told


def test_arguments_of_a_dataset_keep_their_key():
    before, after = (
        {"benchmark": {"name": "split", "args": {"args": {"split": split}, "n": 2}}}
        for split in ("letters", "digits")
    )
    assert [*_changes(before, after)] == ["benchmark.args.split: letters → digits"]


def test_changes_are_named_by_their_paths_in_the_yaml(tmp_path):
    out = tmp_path / "out"
    for one in experiment(tmp_path, seeds=1).cells():
        one.files(out).begin()
    methods = {"naive": {}, "ber": {"plugins": [{"balanced_replay": {"mem_size": 30}}]}}
    changed = experiment(
        tmp_path,
        seeds=1,
        methods=methods,
        training={"batch_size": 4, "epochs": 2},
        model={"name": "mlp", "hidden_sizes": [8, 8]},
        benchmark={**SMALL["benchmark"], "train_size": 50},
    )
    told = explain(changed, out, Selection(methods=["ber"])).splitlines()[1]
    assert "benchmark.train_size: 60 → 50, model.hidden_sizes: [16] → [8, 8]" in told
    assert told.endswith(", and 2 more)")
