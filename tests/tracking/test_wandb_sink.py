"""The wandb sink, with the real wandb offline: what lies on disk, and what a dead wandb costs."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import wandb

from avalanche_ext.tracking import JsonLinesSink, Sinks, WandbSink
from tests.tracking.cases import (
    RESULT,
    UNTRAINED,
    R,
    report_experiences,
    report_series,
    run_in,
)
from tests.tracking.wandb_files import StoredRun, read_stored_run


@pytest.fixture(autouse=True)
def wandb_away_from_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
            patch.setenv(variable, str(tmp_path_factory.mktemp("wandb")))
        yield


def finished_run(directory: Path) -> tuple[Path, StoredRun]:
    sink = WandbSink("offline", project="a-project")
    sink.start(run_in(directory))
    report_experiences(sink)
    sink.finish(RESULT)
    assert sink.offline_directory is not None
    return sink.offline_directory, read_stored_run(sink.offline_directory)


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
    assert stored.run.display_name == "drl-seed-3"
    assert stored.exit_code == 0


def test_whole_configuration_is_stored(tmp_path: Path) -> None:
    _, stored = finished_run(tmp_path)
    stored.config.pop("_wandb")
    assert stored.config == run_in(tmp_path).config


def test_accuracies_and_defined_metrics_lie_on_the_axis_of_experiences(tmp_path: Path) -> None:
    _, stored = finished_run(tmp_path)
    assert stored.metrics == {"experience": "", "*": "experience", "iteration": ""}
    assert numbers_of(stored) == [
        {"experience": -1, "accuracy/experience_0": 0.2, "accuracy/experience_1": 0.3},
        {"experience": 0, "accuracy/experience_0": 0.9, "accuracy/experience_1": 0.1, "ACC": 0.9},
        {
            "experience": 1,
            "accuracy/experience_0": 0.6,
            "accuracy/experience_1": 0.8,
            "ACC": 0.7,
            "BWT": -0.3,
        },
        {"experience": 1},
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


def test_final_values_stand_in_the_summary(tmp_path: Path) -> None:
    _, stored = finished_run(tmp_path)
    expected = RESULT["metrics"] | {f"seconds/{k}": v for k, v in RESULT["seconds"].items()}
    assert {name: stored.summary[name] for name in expected} == expected


def test_transfer_matrix_is_stored_as_table_and_picture(tmp_path: Path) -> None:
    directory, stored = finished_run(tmp_path)
    last = stored.history[-1]
    table = json.loads((directory / "files" / last["R/path"]).read_text(encoding="utf-8"))
    assert table["columns"] == ["after experience", "experience 0", "experience 1"]
    assert table["data"] == [[-1, *UNTRAINED], [0, *R[0]], [1, *R[1]]]
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
        assert stored.run.display_name == f"drl-seed-{seed}"
        assert [row["accuracy/experience_0"] for row in stored.history] == [seed / 10]


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


# ---- a wandb that cannot start, or dies ---------------------------------------------------------


def assert_the_run_survives(
    directory: Path, sabotage: Callable[[], None], message: str
) -> WandbSink:
    """Report a whole run with the sabotage after its first evaluation: one warning, no loss."""
    sink = WandbSink()
    sinks = Sinks([sink, JsonLinesSink()])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sinks.start(run_in(directory))
        sinks.experience(-1, UNTRAINED, {})
        sabotage()
        report_experiences(sinks)
        report_series(sinks)
        sinks.finish(RESULT)
    texts = [str(warning.message) for warning in caught if warning.category is RuntimeWarning]
    assert len(texts) == 1
    assert message in texts[0]
    assert "goes on without it" in texts[0]
    events = (directory / "seed-3" / "events.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["event"] for line in events] == [
        "start",
        *["experience"] * 4,
        *["series"] * 2,
        "finish",
    ]
    return sink


def test_a_folder_wandb_cannot_use_costs_one_warning(tmp_path: Path) -> None:
    (tmp_path / "seed-3").mkdir()
    (tmp_path / "seed-3" / "wandb").write_text("a file where wandb wants its folder")
    sink = assert_the_run_survives(tmp_path, lambda: None, "NotADirectoryError")
    assert sink.offline_directory is None


def test_a_project_wandb_refuses_costs_one_warning(tmp_path: Path) -> None:
    sink = WandbSink(project="no/such:name")
    with pytest.warns(RuntimeWarning, match="Invalid project name 'no/such:name'") as caught:
        sink.start(run_in(tmp_path))
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report_experiences(sink)
        sink.finish(RESULT)


def test_an_online_run_without_a_key_costs_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setattr(sys, "stdin", io.StringIO())  # nobody there to be asked for a key
    sink = WandbSink("online")
    with pytest.warns(RuntimeWarning, match="No API key"):
        sink.start(run_in(tmp_path))
    sink.fail("nothing left to tell")


def test_a_closed_service_costs_one_warning_and_the_next_run_starts(tmp_path: Path) -> None:
    assert_the_run_survives(tmp_path / "first", wandb.teardown, "teardown")
    finished_run(tmp_path / "second")


def test_a_killed_service_costs_one_warning_and_the_next_run_starts(tmp_path: Path) -> None:
    def kill() -> None:
        services = [
            child for child in psutil.Process().children() if child.name().startswith("wandb-core")
        ]
        assert services, "wandb's service process was not found"
        for service in services:
            service.kill()
        psutil.wait_procs(services, timeout=10)

    assert_the_run_survives(tmp_path / "first", kill, "Connection")
    finished_run(tmp_path / "second")


def test_a_full_disc_at_the_end_costs_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    sabotage = lambda: monkeypatch.setattr(wandb, "Table", refuse)  # noqa: E731
    sink = assert_the_run_survives(tmp_path, sabotage, "No space left on device")
    assert sink.offline_directory is not None
    assert read_stored_run(sink.offline_directory).exit_code == 1
