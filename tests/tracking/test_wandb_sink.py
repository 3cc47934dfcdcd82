"""The wandb sink, with the real wandb offline: files on disk, and failures of wandb."""

from __future__ import annotations

import json
import platform
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avalanche_ext.tracking import Run, WandbSink
from tests.tracking.cases import (
    RESULT,
    UNTRAINED,
    R,
    report_series,
    run_in,
)
from tests.tracking.wandb_files import StoredRun, finished_run, read_stored_run


def numbers_of(stored: StoredRun) -> list[dict[str, float]]:
    """What was logged, row by row, without R and what wandb adds."""
    return [
        {k: v for k, v in row.items() if not k.startswith(("_", "R"))} for row in stored.history
    ]


def test_run_lies_in_its_own_folder_under_its_names(tmp_path: Path) -> None:
    directory, stored = finished_run(tmp_path)
    assert directory.parent == tmp_path / "seed-3" / "wandb"
    assert stored.run.project == "a-project"
    assert stored.run.run_group == "quickstart/drl"
    assert stored.run.job_type == "train"
    assert stored.run.display_name == "quickstart/drl/seed-3"
    assert stored.exit_code == 0


def test_whole_configuration_is_stored_with_arguments_of_plugins_as_columns(tmp_path: Path) -> None:
    _, stored = finished_run(tmp_path)
    stored.config.pop("_wandb")
    assert stored.config == {
        **run_in(tmp_path).config,
        "plugins": {
            "balanced_replay": {"name": "balanced_replay", "mem_size": 50},
            "Mine": {"name": "./mine.py:Mine", "strength": 0.5},
            "Mine-2": {"name": "./other.py:Mine", "strength": 2.0},
        },
    }


def test_tags_are_experiment_method_benchmark_and_the_users(tmp_path: Path) -> None:
    sink = WandbSink(tags=["paper", "x" * 65])
    sink.start(run_in(tmp_path))
    sink.finish(RESULT)
    assert sink.offline_directory is not None
    stored = read_stored_run(sink.offline_directory)
    assert [*stored.run.tags] == ["quickstart", "drl", "split_digits", "paper"]


def test_accuracies_on_validation_samples_are_tagged(tmp_path: Path) -> None:
    sink, run = WandbSink(), run_in(tmp_path)
    sink.start(replace(run, config={**run.config, "split": "validation"}))
    sink.finish(RESULT)
    assert sink.offline_directory is not None
    stored = read_stored_run(sink.offline_directory)
    assert [*stored.run.tags] == ["quickstart", "drl", "split_digits", "validation"]
    assert stored.config["split"] == "validation"


def test_a_repeated_run_has_the_same_id_and_others_do_not(tmp_path: Path) -> None:
    def id_of(run: Run) -> str:
        sink = WandbSink()
        sink.start(run)
        sink.finish(RESULT)
        assert sink.offline_directory is not None
        return str(read_stored_run(sink.offline_directory).run.run_id)

    runs = [run_in(tmp_path), run_in(tmp_path), run_in(tmp_path, seed=4)]
    runs += [run_in(tmp_path, hash="4567"), run_in(tmp_path / "elsewhere")]
    first, again, *others = map(id_of, runs)
    assert first == again
    assert len({first, *others}) == 4


def test_a_run_keeps_its_id_where_its_folder_is_moved(tmp_path: Path) -> None:
    def id_in(folder: Path, key: str) -> str:
        sink = WandbSink()
        sink.start(replace(run_in(folder), key=key))
        sink.finish(RESULT)
        assert sink.offline_directory is not None
        return str(read_stored_run(sink.offline_directory).run.run_id)

    assert id_in(tmp_path / "here", "a key") == id_in(tmp_path / "moved", "a key")
    assert id_in(tmp_path / "there", "another") != id_in(tmp_path / "moved", "a key")
    # A run from before there were keys, of the same configuration: its files have been set aside.
    before = id_in(tmp_path / "old", "")
    cell = tmp_path / "old" / "seed-3"
    (cell / "wandb").rename(cell / "wandb-0123abcd-1")
    (tmp_path / "old").rename(tmp_path / "new")
    assert id_in(tmp_path / "new", "a key") == before


def test_the_machine_and_the_commit_are_kept(tmp_path: Path) -> None:
    _, stored = finished_run(tmp_path)
    assert stored.environment.python.endswith(platform.python_version())
    assert stored.environment.os
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    assert stored.environment.git.commit == head.stdout.strip()


def test_accuracies_and_defined_metrics_lie_on_the_axis_of_experiences(tmp_path: Path) -> None:
    _, stored = finished_run(tmp_path)
    assert stored.metrics == {"experience": "", "*": "experience", "iteration": ""}
    assert numbers_of(stored) == [
        {"experience": 0, "accuracy/experience_1": 0.2, "accuracy/experience_2": 0.3},
        {"experience": 1, "accuracy/experience_1": 0.9, "accuracy/experience_2": 0.1, "ACC": 0.9},
        {
            "experience": 2,
            "accuracy/experience_1": 0.6,
            "accuracy/experience_2": 0.8,
            "ACC": 0.7,
            "BWT": -0.3,
        },
        {"experience": 2},
    ]


def test_series_lie_on_the_axis_of_iterations(tmp_path: Path) -> None:
    sink = WandbSink()
    sink.start(run_in(tmp_path))
    sink.experience(0, R[0], {"norm": 0.375})
    report_series(sink)
    sink.finish(RESULT)
    assert sink.offline_directory is not None
    stored = read_stored_run(sink.offline_directory)
    assert stored.metrics == {
        "experience": "",
        "*": "experience",
        "iteration": "",
        "series/norm": "iteration",
        "series/loss": "iteration",
    }
    assert numbers_of(stored)[1:-1] == [
        {"iteration": 4, "series/loss": 2.0},
        {"iteration": 5, "series/norm": 0.5, "series/loss": 1.0},
        {"iteration": 6, "series/norm": 0.25},
        {"iteration": 7, "series/norm": 0.125},
        {"iteration": 8, "series/norm": 0.75},
    ]


def test_a_sink_used_again_defines_its_axes_again(tmp_path: Path) -> None:
    sink = WandbSink()
    for seed in (0, 1):
        sink.start(run_in(tmp_path, seed=seed))
        report_series(sink)
        sink.finish(RESULT)
        assert sink.offline_directory is not None
        assert read_stored_run(sink.offline_directory).metrics["series/norm"] == "iteration"


def test_final_values_are_in_the_summary(tmp_path: Path) -> None:
    _, stored = finished_run(tmp_path)
    expected = RESULT["metrics"] | {f"seconds/{k}": v for k, v in RESULT["seconds"].items()}
    assert {name: stored.summary[name] for name in expected} == expected


def test_transfer_matrix_is_stored_as_table_and_picture(tmp_path: Path) -> None:
    directory, stored = finished_run(tmp_path)
    last = stored.history[-1]
    table = json.loads((directory / "files" / last["R/path"]).read_text(encoding="utf-8"))
    assert table["columns"] == ["after experience", "experience 1", "experience 2"]
    assert table["data"] == [[0, *UNTRAINED], [1, *R[0]], [2, *R[1]]]
    picture = directory / "files" / last["R_heatmap/path"]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_nothing_is_collected_besides(tmp_path: Path) -> None:
    directory, _ = finished_run(tmp_path)
    names = {path.name for path in (directory / "files").rglob("*") if path.is_file()}
    assert all(name.startswith("R_") for name in names), names


def test_a_failed_run_is_marked_with_its_error(tmp_path: Path) -> None:
    sink = WandbSink()
    sink.start(run_in(tmp_path))
    sink.experience(-1, UNTRAINED, {})
    sink.fail("loss became NaN at iteration 312")
    assert sink.offline_directory is not None
    stored = read_stored_run(sink.offline_directory)
    assert stored.exit_code == 1
    assert stored.summary["error"] == "loss became NaN at iteration 312"


def test_runs_of_one_process_do_not_mix(tmp_path: Path) -> None:
    sinks = [WandbSink(), WandbSink()]
    for seed, sink in enumerate(sinks):
        sink.start(run_in(tmp_path, seed=seed))
    for seed, sink in enumerate(sinks):
        sink.experience(0, [seed / 10, 0.5], {})
    for seed, sink in enumerate(sinks):
        sink.fail("stopped")
        assert sink.offline_directory is not None
        stored = read_stored_run(sink.offline_directory)
        assert stored.run.display_name == f"quickstart/drl/seed-{seed}"
        assert [row["accuracy/experience_1"] for row in stored.history] == [seed / 10]


def test_logging_is_silent_and_leaves_the_random_generators_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def states() -> tuple[object, str]:
        return random.getstate(), str(np.random.get_state())  # noqa: NPY002 - the global one

    before = states()
    finished_run(tmp_path)
    assert states() == before
    assert capfd.readouterr() == ("", "")


def test_disabled_does_nothing_and_imports_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path;"
        "from avalanche_ext.tracking import WandbSink;"
        "from tests.tracking.cases import RESULT, report_experiences, report_series, run_in;"
        "sink = WandbSink('disabled'); sink.start(run_in(Path(sys.argv[1])));"
        "report_experiences(sink); report_series(sink); sink.finish(RESULT);"
        "print('wandb' in sys.modules, sink.offline_directory)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.split() == ["False", "None"]
    assert not list(tmp_path.iterdir())
