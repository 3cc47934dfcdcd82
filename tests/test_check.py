"""`check`: what it knows without data and without torch, and what `--build` adds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from avalanche_ext.cli import main
from avalanche_ext.runner import preflight
from tests.config.cases import experiment_with, written

COUNT = "experiment.yaml: 1 method x 3 seeds = 3 cells, no problems"


def small(plugins: Any = (), **sections: Any) -> dict[str, Any]:
    return experiment_with(methods={"m": {"plugins": [*plugins]}}, **sections)


def test_a_gpu_that_this_machine_lacks_is_noted_since_another_may_run_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(preflight, "_has_cuda_driver", lambda: False)
    document = small(training={"batch_size": 10, "device": "cuda:1"})
    assert main(["check", str(written(document, tmp_path))]) == 0
    said = capsys.readouterr()
    assert said.out == f"{COUNT}\n"
    assert said.err == ("note: training.device: is 'cuda:1', but this machine has no CUDA driver\n")


@pytest.mark.parametrize(
    ("benchmark", "path"),
    [
        ({"name": "image_folder", "folder": "birds"}, "benchmark.folder"),
        (
            {"name": "split", "dataset": "image_folder", "args": {"folder": "birds"}},
            "benchmark.args.folder",
        ),
        (
            {
                "name": "domains",
                "datasets": ["digits", {"name": "image_folder", "args": {"folder": "birds"}}],
            },
            "benchmark.datasets[1].args.folder",
        ),
    ],
)
def test_a_folder_of_images_that_is_not_there_is_noted(
    benchmark: dict[str, Any], path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["check", str(written(small(benchmark=benchmark), tmp_path))]
    assert main([*words, "--data-root", str(tmp_path)]) == 0
    note = f"note: {path}: there is no folder {tmp_path / 'birds'} on this machine\n"
    assert capsys.readouterr().err == note
    (tmp_path / "birds").mkdir()
    assert main([*words, "--data-root", str(tmp_path)]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("options", [[], ["--build"]])
def test_a_data_root_that_is_not_there_is_refused(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["check", str(written(small(), tmp_path)), *options]
    assert main([*words, "--data-root", str(tmp_path / "dta")]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"--data-root {tmp_path / 'dta'}: no such folder\n")


def test_building_names_all_methods_that_cannot_be_built(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {"drl": {"layers": ["hidden.9"]}}
    methods = {"a": {}, "b": {"plugins": ["balanced_replay", wrong]}, "c": {"plugins": [wrong]}}
    path = str(written(experiment_with(methods=methods), tmp_path))
    assert main(["check", path]) == 0
    assert "no problems\n" in capsys.readouterr().out
    assert main(["check", path, "--build"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert [line.partition(":")[0] for line in said.err.splitlines()] == ["methods.b, methods.c"]
    assert "the model has no module 'hidden.9'" in said.err


def test_building_loads_the_data_and_counts_a_gpus_absence_as_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(preflight, "_has_cuda_driver", lambda: False)
    path = str(written(small(), tmp_path))
    assert main(["check", path, "--build"]) == 0
    assert capsys.readouterr().out == f"{COUNT}; benchmark and methods can be built\n"
    assert main(["check", path, "training.device=cuda", "--build"]) == 2
    assert capsys.readouterr().err.startswith("training.device is 'cuda', but this machine has 0")
    benchmark = "benchmark={name: image_folder, folder: birds}"
    assert main(["check", path, benchmark, "--build", "--data-root", str(tmp_path)]) == 2
    assert str(tmp_path / "birds") in capsys.readouterr().err


def test_only_building_runs_a_users_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(
        "from avalanche.core import SupervisedPlugin\n"
        "from pathlib import Path\n\n"
        "Path(__file__).with_name('was_run').touch()\n\n\n"
        "class Mine(SupervisedPlugin):\n"
        "    def __init__(self, size: int = 1):\n"
        "        if size > 3:\n"
        "            raise ValueError(f'size is {size}, but must be at most 3')\n"
    )
    path = str(written(small([{"./mine.py:Mine": {"size": 4}}]), tmp_path))
    assert main(["check", path]) == 0
    assert not (tmp_path / "was_run").exists()
    assert main(["check", path, "--build"]) == 2
    assert (tmp_path / "was_run").exists()
    assert "size is 4, but must be at most 3" in capsys.readouterr().err
