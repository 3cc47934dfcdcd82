"""A cell's files: their names and contents, and what becomes of another configuration's."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from avalanche_ext.metrics.curves import CURVE_METRICS
from avalanche_ext.results.cell import CellResult, read_cell, read_events
from avalanche_ext.results.copies import contents_of, copies_folder, write_copies
from avalanche_ext.results.experiment import read_results
from avalanche_ext.results.files import replacing
from avalanche_ext.results.record import ResultsError
from avalanche_ext.results.store import CellFiles, write_experiment
from tests.runner.cases import RESULT

OLD, NEW = "0123456789abcdef", "fedcba9876543210"


def files(out: Path, run_hash: str = OLD) -> CellFiles:
    config: dict[str, Any] = {"experiment": "exp", "method": "er", "seed": 3, "hash": run_hash}
    return CellFiles(out, {**config, "more": [1, "ä"]})


def names(one: CellFiles) -> set[str]:
    return {path.name for path in one.folder.iterdir()}


KEPT = [
    ("config", ".yaml"),
    ("edits", ".npz"),
    ("events", ".jsonl"),
    ("result", ".json"),
    ("wandb", ""),
]


def log(one: CellFiles, text: str) -> None:
    """Leave what the sinks of a run leave."""
    (one.folder / "events.jsonl").write_text(text, "utf-8")
    (one.folder / "wandb" / "offline-run-1").mkdir(parents=True)
    (one.folder / "wandb" / "offline-run-1" / "run.wandb").write_text(text, "utf-8")


def contents(one: CellFiles) -> dict[str, bytes]:
    """The contents of all files, by their paths."""
    files = [path for path in one.folder.rglob("*") if path.is_file()]
    return {path.relative_to(one.folder).as_posix(): path.read_bytes() for path in files}


def finish(one: CellFiles) -> None:
    one.begin()
    one.write_exhibit("edits", {"label": np.array([1, 2])})
    one.write_result(RESULT)


def test_a_finished_cell_has_its_files_and_can_be_read(tmp_path: Path) -> None:
    one = files(tmp_path)
    assert not one.is_done()
    assert one.begin() == one.folder == tmp_path / "exp" / "er" / "seed-3"
    assert one.has_begun()
    assert yaml.safe_load((one.folder / "config.yaml").read_text("utf-8")) == one.config
    finish(one)
    assert names(one) == {"config.yaml", "edits.npz", "result.json"}
    assert one.is_done()
    assert not one.has_failed()
    content = json.loads((one.folder / "result.json").read_text("utf-8"))
    assert (content["format"], content["hash"], content["exhibits"]) == (1, OLD, ["edits"])
    assert {key: content[key] for key in RESULT} == RESULT
    with np.load(one.folder / "edits.npz") as file:
        assert (str(file["hash"]), file["label"].tolist()) == (OLD, [1, 2])
    read = read_cell(one.folder, OLD)
    assert isinstance(read, CellResult)
    assert read.R.tolist() == RESULT["R"]
    assert read.metrics == dict.fromkeys(CURVE_METRICS) | RESULT["metrics"]
    assert (read.hash, read.exhibits, read.is_iid) == (OLD, ["edits"], False)


def test_only_the_last_row_of_an_iid_run_has_metrics(tmp_path: Path) -> None:
    one = files(tmp_path)
    one.begin()
    one.write_result({**RESULT, "iid": True})
    read = read_cell(one.folder, OLD)
    assert isinstance(read, CellResult)
    assert {name for name, x in read.metrics.items() if x is not None} == {
        "ACC",
        "instance_accuracy",
    }


def test_a_failure_is_of_its_configuration_and_goes_with_the_attempt(tmp_path: Path) -> None:
    one = files(tmp_path)
    one.write_failure("out of memory", "Traceback")
    assert one.has_failed()
    assert not files(tmp_path, NEW).has_failed()
    assert read_cell(one.folder, OLD) == "out of memory"
    assert read_cell(one.folder, NEW) is None
    one.begin()
    assert names(one) == {"config.yaml"}


def test_another_configuration_is_set_aside_whole_and_brought_back(tmp_path: Path) -> None:
    old, new = files(tmp_path), files(tmp_path, NEW)
    finish(old)
    log(old, "old")
    before = contents(old)
    new.begin()
    aside = {f"{name}-{OLD}{suffix}" for name, suffix in KEPT}
    assert names(new) == {"config.yaml", *aside}
    assert (old.is_done(), old.has_result()) == (False, True)
    assert not new.has_result()
    log(new, "new")
    new.write_failure("out of memory")
    new.write_exhibit("spectrum", {})
    old.bring_back()
    assert old.is_done()
    # wandb's files of the attempt that failed may not have been sent yet.
    left = {name for name in names(old) if NEW in name}
    assert left == {f"wandb-{NEW}-1"}
    assert {name: text for name, text in contents(old).items() if NEW not in name} == before


def test_what_is_superseded_does_not_go_on_from_its_checkpoint(tmp_path: Path) -> None:
    one = files(tmp_path)
    one.begin()
    one.checkpoint.write_bytes(b"state")
    one.supersede()
    assert not one.checkpoint.exists()
    assert b"state" in contents(one).values(), "it is kept"


def test_a_run_next_to_its_own_result_goes_on_with_its_own_events(tmp_path: Path) -> None:
    one = files(tmp_path)
    finish(one)
    log(one, "first")
    one.begin()
    one.checkpoint.write_bytes(b"state")
    (one.folder / "events.jsonl").write_text("second", "utf-8")
    for begun in (one, files(tmp_path, NEW), one):
        begun.begin()
    assert one.checkpoint.read_bytes() == b"state"
    assert (one.folder / "events.jsonl").read_text("utf-8") == "second"
    assert b"first" in contents(one).values(), "it is kept"


def test_a_result_that_is_superseded_is_kept_but_never_brought_back(tmp_path: Path) -> None:
    one = files(tmp_path)
    one.supersede()
    for text in ("first", "second"):
        finish(one)
        log(one, text)
        one.supersede()
        one.bring_back()
        assert not one.is_done()
    aside = {f"{name}-{OLD}-{n}{suffix}" for name, suffix in KEPT for n in (1, 2)}
    assert names(one) == {"config.yaml", *aside}
    for n, text in enumerate(("first", "second"), 1):
        assert (one.folder / f"events-{OLD}-{n}.jsonl").read_text("utf-8") == text
        assert (one.folder / f"wandb-{OLD}-{n}/offline-run-1/run.wandb").read_text("utf-8") == text


def test_logs_of_attempts_without_a_result_are_all_kept(tmp_path: Path) -> None:
    one = files(tmp_path)
    for text in ("first", "second"):
        one.begin()
        log(one, text)
    finish(one)
    kept = [*one.folder.glob("wandb*/*/run.wandb")]
    assert sorted(path.read_text("utf-8") for path in kept) == ["first", "second"]
    assert not (one.folder / "wandb").exists()


def test_partial_files_of_a_killed_run_are_removed_and_no_others(tmp_path: Path) -> None:
    one = files(tmp_path)
    one.begin()
    partials = {f".{name}.12.partial" for name in ("result.json", "edits.npz", "checkpoint.pt")}
    kept = {".mine", ".my.partial", "notes.txt"}
    for name in partials | kept:
        (one.folder / name).write_text("", "utf-8")
    one.begin()
    assert names(one) == {"config.yaml"} | kept


def test_a_users_arrays_stay(tmp_path: Path) -> None:
    one = files(tmp_path)
    finish(one)
    np.savez(one.folder / "mine.npz", x=np.arange(3))
    (one.folder / "other.npz").write_text("not arrays", "utf-8")
    files(tmp_path, NEW).begin()
    assert {"mine.npz", "other.npz"} <= {*names(one)}
    assert "edits.npz" not in names(one)


def test_partial_files_of_a_killed_command_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".experiment.yaml.123.partial").write_text("na", "utf-8")
    (tmp_path / ".record.yaml.123.partial").write_text("na", "utf-8")
    (tmp_path / ".report.txt.123.partial").write_text("of a command that goes on", "utf-8")
    write_experiment(tmp_path, "name: exp\n", {"name": "exp"})
    assert {path.name for path in tmp_path.iterdir()} == {
        "experiment.yaml",
        "record.yaml",
        ".report.txt.123.partial",
    }


def test_processes_of_two_machines_write_apart(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    with replacing(path) as one, replacing(path) as other:
        assert one != other
        other.write_text("other", "utf-8")
        one.write_text("one", "utf-8")
    assert [each.name for each in tmp_path.iterdir()] == ["result.json"]


def test_old_partial_files_go_when_the_file_is_written_again(tmp_path: Path) -> None:
    old, new = (tmp_path / f".report.txt.{n:016x}.partial" for n in (1, 2))
    for path in (old, new):
        path.write_text("", "utf-8")
    os.utime(old, (0, 0))
    with replacing(tmp_path / "report.txt") as partial:
        partial.write_text("whole", "utf-8")
    assert {path.name for path in tmp_path.iterdir()} == {"report.txt", new.name}


def test_partial_copies_of_the_users_files_are_removed(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("x = 1\n", "utf-8")
    digests = {"mine.py": hashlib.sha256(b"x = 1\n").hexdigest()}
    run = tmp_path / "run"
    copies = run / copies_folder(digests)
    copies.mkdir(parents=True)
    (copies / ".mine.py.123.partial").write_text("x", "utf-8")
    write_copies(contents_of(tmp_path, digests), digests, run)
    assert [path.name for path in copies.iterdir()] == ["mine.py"]


def test_links_among_the_files_of_wandb_are_moved_as_links(tmp_path: Path) -> None:
    old, new = files(tmp_path), files(tmp_path, NEW)
    finish(old)
    log(old, "old")
    # As if moving it had ended in the middle.
    begun = old.folder / f"wandb-{OLD}"
    (begun / "offline-run-1").mkdir(parents=True)
    for folder in (old.folder / "wandb", begun):
        (folder / "latest-run").symlink_to("offline-run-1")
    new.begin()
    assert not (old.folder / "wandb").exists()
    assert (begun / "latest-run").is_symlink()
    assert (begun / "offline-run-1" / "run.wandb").read_text("utf-8") == "old"


def test_what_cannot_be_written_leaves_no_partial_file(tmp_path: Path) -> None:
    one = files(tmp_path)
    finish(one)
    with pytest.raises(ValueError, match="JSON compliant"):
        one.write_result({**RESULT, "seconds": {"total": float("nan")}})
    assert names(one) == {"config.yaml", "edits.npz", "result.json"}


def test_the_reason_of_a_failure_is_told(tmp_path: Path) -> None:
    one = files(tmp_path)
    assert one.failed_at() is None
    one.write_failure("out of memory")
    first = one.failed_at()
    assert first is not None
    assert one.failure() == "out of memory"
    assert files(tmp_path, NEW).failed_at() is None
    one.write_failure("again")
    assert one.failed_at() != first


def test_nothing_that_was_not_set_aside_is_brought_back(tmp_path: Path) -> None:
    one = files(tmp_path)
    one.begin()
    one.bring_back()
    assert names(one) == {"config.yaml"}
    (one.folder / f"result-{OLD}.json").write_text(json.dumps({"hash": NEW}), "utf-8")
    one.bring_back()
    assert not one.is_done()


@pytest.mark.parametrize("text", ["{", "[]", '{"hash": "other"}'])
def test_a_broken_or_foreign_result_is_none(tmp_path: Path, text: str) -> None:
    one = files(tmp_path)
    one.begin()
    (one.folder / "result.json").write_text(text, "utf-8")
    assert not one.is_done()


@pytest.mark.parametrize("text", ["a: [", "[]", "hash: other"])
def test_a_broken_or_foreign_configuration_has_not_begun(tmp_path: Path, text: str) -> None:
    one = files(tmp_path)
    assert not one.has_begun()
    one.begin()
    (one.folder / "config.yaml").write_text(text, "utf-8")
    assert not one.has_begun()


def test_a_number_that_is_not_finite_leaves_the_old_file(tmp_path: Path) -> None:
    one = files(tmp_path)
    finish(one)
    with pytest.raises(ValueError, match="JSON compliant"):
        one.write_result({**RESULT, "seconds": {"total": float("nan")}})
    assert one.is_done()
    assert read_cell(one.folder, OLD)


def test_events_are_read_while_they_are_written(tmp_path: Path) -> None:
    assert read_events(tmp_path, 0.0) == []
    lines = [json.dumps({"time": time, "event": "experience"}) for time in (1.0, 2.0, 3.0)]
    (tmp_path / "events.jsonl").write_text("\n".join([*lines, '{"time": 4.0, "ev']), "utf-8")
    assert [event["time"] for event in read_events(tmp_path, 2.0)] == [2.0, 3.0]


def test_an_experiment_is_read_as_it_was_written(tmp_path: Path) -> None:
    finish(files(tmp_path))
    record: dict[str, Any] = {
        "name": "exp",
        "baseline": "er",
        "claims": [{"higher": "er", "lower": "never", "metric": "BWT"}],
        "methods": ["er", "never"],
        "sweeps": {"s": {"parameter": "lr", "values": {"er": 0.5}}},
        "seeds": [3],
        "hashes": {"er": {3: OLD}, "never": {3: OLD}},
        "published": None,
    }
    write_experiment(tmp_path / "exp", "name: exp\n", record)
    results = read_results(tmp_path / "exp")
    assert (results.folder, results.name, results.baseline) == (tmp_path / "exp", "exp", "er")
    assert [[*method.cells] for method in results.methods] == [[3], []]
    assert results.claims[0].metric == "BWT"
    assert results.sweeps["s"].values == {"er": 0.5}
    record["hashes"]["er"][3] = NEW
    write_experiment(tmp_path / "exp", "name: exp\n", record)
    assert read_results(tmp_path / "exp").methods[0].missing == [3]
    del record["claims"][0]["lower"]
    write_experiment(tmp_path / "exp", "name: exp\n", record)
    with pytest.raises(ResultsError, match=r"record\.yaml: no entry 'lower'"):
        read_results(tmp_path / "exp")
