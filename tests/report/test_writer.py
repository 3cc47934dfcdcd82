"""The report as a whole: its files, and what it needs to be made."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avalanche_ext.cli import main
from avalanche_ext.report import write_report
from tests.results.trees import (
    Matrix,
    two_by_two,
    write_edits,
    write_experiment,
    write_failure,
    write_result,
)

PICTURES = ("accuracy.png", "learning.png", "matrices.png")
BESIDE_A_BASELINE = ("accuracy.png", "differences.png", "learning.png", "matrices.png")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "exp"
    write_experiment(directory, ["ber", "drl"], [0, 1], baseline="ber")
    for seed in (0, 1):
        write_result(directory, "ber", seed, two_by_two(0.5 + seed / 10))
        write_result(directory, "drl", seed, two_by_two(0.7 + seed / 5))
    return directory


def test_report_is_returned_and_written_next_to_the_results(directory: Path) -> None:
    text = write_report(directory)
    stored = (directory / "report.txt").read_text(encoding="utf-8")
    assert text == (
        f"{stored}\nreport.txt, summary.csv, {', '.join(BESIDE_A_BASELINE)} are in {directory}\n"
    )
    assert stored.startswith("exp: 2 methods x 2 seeds, 4 of 4 runs finished\n")
    assert (directory / "summary.csv").read_text(encoding="utf-8").startswith("experiment,")
    for name in BESIDE_A_BASELINE:
        with Image.open(directory / name) as picture:
            assert picture.format == "PNG"
            assert len(picture.convert("RGB").getcolors(maxcolors=2**24)) > 10


@pytest.mark.parametrize("swept", [False, True])
def test_a_second_report_of_the_same_results_is_the_same(directory: Path, swept: bool) -> None:
    if swept:
        write_swept(directory, ["ber", "drl-0", "drl-1"], two_by_two(0.5))
    first = write_report(directory)
    stored = {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}
    assert write_report(directory) == first
    assert {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()} == (
        stored
    )


def test_pictures_are_redrawn_only_where_what_they_show_has_changed(directory: Path) -> None:
    def written() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in directory.glob("*.png")}

    write_report(directory)
    first = written()
    assert write_report(directory).endswith(f"{BESIDE_A_BASELINE[-1]} are in {directory}\n")
    assert written() == first
    moved = directory.rename(directory.with_name("moved"))
    write_report(moved)
    moved.rename(directory)
    assert written() == first
    write_result(directory, "drl", 0, two_by_two(0.3))
    write_report(directory)
    second = written()
    assert {*second} == {*first}
    assert all(second[name] > first[name] for name in first)
    (directory / "accuracy.png").unlink()
    write_report(directory)
    assert {*written()} == {*first}
    (directory / "accuracy.png").write_bytes(b"")
    write_report(directory)
    assert (directory / "accuracy.png").stat().st_size
    write_report(directory, "svg")
    assert not written()


def test_results_are_only_read(directory: Path) -> None:
    before = {path: path.read_bytes() for path in directory.rglob("seed-*/*")}
    write_report(directory)
    assert {path: path.read_bytes() for path in directory.rglob("seed-*/*")} == before


def test_without_a_finished_run_no_stale_picture_stays(directory: Path) -> None:
    write_report(directory)
    for method in ("ber", "drl"):
        for seed in (0, 1):
            write_failure(directory, method, seed, "out of memory")
    text = write_report(directory)
    assert "4 runs failed" in text
    assert f"report.txt, summary.csv are in {directory}" in text
    assert not any((directory / name).exists() for name in BESIDE_A_BASELINE)


def write_swept(directory: Path, finished: Sequence[str], R: Matrix) -> None:
    sweep = {"drl": ("lam", {"drl-0": 0, "drl-1": 1})}
    write_experiment(directory, ["ber", "drl-0", "drl-1"], [0], sweeps=sweep)
    for name in finished:
        write_result(directory, name, 0, R)


@pytest.mark.parametrize(
    ("finished", "R", "more"),
    [
        (["ber", "drl-1"], two_by_two(0.5), ["tradeoff.png", "sweep.png"]),
        (["drl-0"], two_by_two(0.5), ["tradeoff.png", "sweep.png"]),
        (["drl-0"], [[0.5]], ["sweep.png"]),
        (["ber"], two_by_two(0.5), []),
    ],
)
def test_sweeps_have_pictures_where_there_is_something_to_show(
    finished: list[str], R: Matrix, more: list[str], tmp_path: Path
) -> None:
    write_swept(tmp_path, finished, R)
    pictures = [*PICTURES, *more]
    assert f"summary.csv, {', '.join(pictures)} are in" in write_report(tmp_path)
    assert {path.name for path in tmp_path.glob("*.png")} == {*pictures}


def test_pictures_of_a_sweep_that_is_no_more_do_not_stay(tmp_path: Path) -> None:
    write_swept(tmp_path, ["ber", "drl-0"], two_by_two(0.5))
    write_report(tmp_path)
    assert (tmp_path / "tradeoff.png").is_file()
    write_experiment(tmp_path, ["ber"], [0])
    write_report(tmp_path)
    assert {path.name for path in tmp_path.glob("*.png")} == {*PICTURES}


def test_edited_examples_have_a_picture_as_long_as_there_are_some(directory: Path) -> None:
    black, white = np.zeros((1, 1, 4, 4)), np.ones((1, 1, 4, 4))
    exhibit = write_edits(directory, "drl", 0, [3], [7], black, white)
    pictures = [*BESIDE_A_BASELINE, "edits.png"]
    assert f"summary.csv, {', '.join(pictures)} are in" in write_report(directory)
    assert {path.name for path in directory.glob("*.png")} == {*pictures}
    exhibit.unlink()
    assert "edits" not in write_report(directory)
    assert {path.name for path in directory.glob("*.png")} == {*BESIDE_A_BASELINE}


def test_of_a_swept_method_the_edits_of_the_best_setting_are_drawn(tmp_path: Path) -> None:
    write_swept(tmp_path, ["ber", "drl-0"], two_by_two(0.5))
    write_result(tmp_path, "drl-1", 0, two_by_two(0.6))
    black, white = np.zeros((1, 1, 4, 4)), np.ones((1, 1, 4, 4))
    write_edits(tmp_path, "drl-0", 0, [3], [7], black, white)
    assert "edits.png" not in write_report(tmp_path)
    write_edits(tmp_path, "drl-1", 0, [3], [7], black, white)
    assert "edits.png" in write_report(tmp_path)


def test_identical_values_and_undefined_numbers_raise_no_warning(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["ber", "same", "broken"], list(range(6)), baseline="ber")
    for seed in range(6):
        write_result(tmp_path, "ber", seed, [[0.5]])
        write_result(tmp_path, "same", seed, [[0.5]])
        write_failure(tmp_path, "broken", seed, "out of memory")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = write_report(tmp_path)
    row = next(line.split() for line in text.splitlines() if line.startswith("same    +0.000"))
    assert " ".join(row) == "same +0.000 ± 0.000 [+0.000, +0.000] 3/6 1.000 1.000 1.000 1.000"


def test_a_folder_that_cannot_be_written_to_is_named(directory: Path) -> None:
    (directory / "report.txt").mkdir()
    text = write_report(directory)
    assert "paired by seed" in text
    assert text.endswith(f"This report could not be written to {directory}: Is a directory\n")


def test_a_report_needs_neither_torch_nor_avalanche_nor_wandb_nor_a_display(
    directory: Path,
) -> None:
    code = (
        "import sys; from pathlib import Path; from avalanche_ext.report import write_report;"
        "print([m for m in ('scipy', 'matplotlib') if m in sys.modules]);"
        "write_report(Path(sys.argv[1]));"
        "print([m for m in ('torch', 'avalanche', 'wandb', 'matplotlib.pyplot')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(directory)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.splitlines() == ["[]", "[]"]


@pytest.mark.parametrize("form", ["pdf", "svg"])
def test_figures_come_in_the_format_that_is_asked_for_and_in_no_other(
    directory: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_report(directory)
    names = [f"{Path(name).stem}.{form}" for name in BESIDE_A_BASELINE]
    pictures = []
    for _ in range(2):
        assert main(["report", str(directory), "--figures", form]) == 0
        assert f"report.txt, summary.csv, {', '.join(names)} are in" in capsys.readouterr().out
        pictures.append({path.name: path.read_bytes() for path in directory.glob(f"*.{form}")})
    assert pictures[0] == pictures[1]
    assert {*pictures[0]} == {*names}
    start = {"pdf": b"%PDF", "svg": b"<?xml"}[form]
    assert all(picture.startswith(start) for picture in pictures[0].values())
    assert not [*directory.glob("*.png")]
    write_report(directory)
    assert not [*directory.glob(f"*.{form}")]
    assert len([*directory.glob("*.png")]) == len(BESIDE_A_BASELINE)


@pytest.mark.parametrize("more", [["--format", "html"], ["other", "--format", "latex"]])
def test_figures_in_a_format_are_asked_for_only_where_they_are_written(
    directory: Path, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["report", str(directory), *more, "--figures", "pdf"])
    assert "--figures pdf works only with --format text" in capsys.readouterr().err
    assert not [*directory.glob("*.pdf")]
