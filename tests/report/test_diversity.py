"""Gradients of pairs that runs have kept: the report's table, and its picture read back."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from avalanche_ext.report import write_report
from avalanche_ext.report.diversity import Diversities, diversities_figure, diversities_text
from avalanche_ext.results.exhibits import GradientDiversity
from avalanche_ext.results.experiment import read_exhibits, read_results
from tests.results.trees import HASH, two_by_two, write_experiment, write_failure, write_result

NUMBERS = {
    "negative/gradient_mean": [-0.5, -0.25],
    "negative/gradient_std": [0.5, 0.125],
    "negative/conflicting": [1.0, 0.75],
    "negative/conflict_mean": [-0.5, -0.375],
    "negative/representation_mean": [0.5, 0.25],
    "negative/correlation": [-0.5, -0.625],
    "positive/gradient_mean": [0.5, 0.25],
    "positive/gradient_std": [0.5, 0.0625],
    "positive/conflicting": [0.0, 0.0],
    "positive/conflict_mean": [np.nan, np.nan],
    "positive/representation_mean": [0.875, 0.75],
    "positive/correlation": [0.5, 0.875],
}
"""After two experiences."""

ARRAYS = {
    "experience": np.array([0, 1]),
    "name": np.array([*NUMBERS]),
    "numbers": np.array([*NUMBERS.values()]).T,
    "negative": np.array([[-0.5, -0.25, 0.125, -0.5], [0.5, 0.25, 0.25, 0.0]], dtype=np.float32),
    "positive": np.array([[0.75, 0.5], [0.875, 0.625]], dtype=np.float32),
}


def write_diversity(
    directory: Path, method: str, seed: int, run_hash: str = HASH, **changes: ArrayLike | None
) -> Path:
    """Write `ARRAYS` with some arrays replaced, and without those that are None."""
    path = directory / method / f"seed-{seed}" / "gradient_diversity.npz"
    arrays = {name: array for name, array in {**ARRAYS, **changes}.items() if array is not None}
    np.savez_compressed(path, hash=np.array(run_hash), **arrays)  # type: ignore[arg-type]
    return path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """`ber` and `drl` with two runs each, none with pairs yet."""
    write_experiment(tmp_path, ["ber", "drl"], [0, 1])
    for method in ("ber", "drl"):
        for seed in (0, 1):
            write_result(tmp_path, method, seed, two_by_two(0.5))
    return tmp_path


def diversities_of(directory: Path) -> Diversities:
    return read_exhibits(read_results(directory), GradientDiversity)


def figure_of(directory: Path) -> Figure:
    figure = diversities_figure(diversities_of(directory), read_results(directory))
    assert figure is not None
    return figure


def panels_of(figure: Figure) -> tuple[list[Any], list[Any]]:
    """The panels of densities, row by row, and those of distributions."""
    above, below = figure.subfigs
    return [axes for axes in above.axes if axes.get_label() != "<colorbar>"], [*below.axes]


def rows_of(text: str, method: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith(f"{method} ")]
    return [[cell.strip() for cell in line.split("  ") if cell] for line in lines]


def test_without_pairs_there_is_neither_table_nor_picture(directory: Path) -> None:
    diversities = diversities_of(directory)
    assert diversities_text(diversities) == ""
    assert diversities_figure(diversities, read_results(directory)) is None
    assert "gradient_diversity" not in write_report(directory)


def test_the_table_tells_of_both_kinds_of_pairs_after_the_last_experience(
    directory: Path,
) -> None:
    write_diversity(directory, "ber", 0)
    negative = ["-0.250", "0.125", "0.750", "-0.375", "0.250", "-0.625"]
    positive = ["0.250", "0.062", "0.000", "–", "0.750", "0.875"]
    assert rows_of(diversities_text(diversities_of(directory)), "ber") == [
        ["ber", "1", kind, *(cell if cell == "–" else f"{cell}" for cell in cells)]
        for kind, cells in (("negative", negative), ("positive", positive))
    ]


def test_numbers_are_means_and_standard_deviations_over_the_seeds_that_have_them(
    directory: Path,
) -> None:
    numbers = ARRAYS["numbers"].copy()
    numbers[1, 2], numbers[1, 5], numbers[1, 9] = 0.25, np.nan, -0.125
    write_diversity(directory, "drl", 0)
    write_diversity(directory, "drl", 1, numbers=numbers)
    negative, positive = rows_of(diversities_text(diversities_of(directory)), "drl")
    assert negative[5] == "0.500 ± 0.354"
    assert negative[8] == "-0.625"
    assert positive[6] == "-0.125"


def test_methods_without_pairs_and_failed_runs_are_left_out(directory: Path) -> None:
    write_diversity(directory, "ber", 0)
    write_diversity(directory, "ber", 1)
    write_failure(directory, "ber", 0, "out of memory")
    methods = diversities_of(directory).methods
    assert {name: [*runs] for name, runs in methods.items()} == {"ber": [1]}


def test_pairs_of_another_configuration_than_the_result_are_not_shown(directory: Path) -> None:
    write_diversity(directory, "ber", 0, run_hash="of a run since taken back")
    diversities = diversities_of(directory)
    assert diversities.methods == {}
    assert [*diversities.unreadable] == ["ber/seed-0/gradient_diversity.npz"]


def many_pairs(n: int = 600) -> dict[str, ArrayLike]:
    """Negative pairs whose gradients' cosine is minus the square of the representations'."""
    h = np.linspace(0.0, 1.0, n, dtype=np.float32)
    return {"negative": np.stack([-(h**2), h])}


def test_densities_are_shares_of_the_pairs_of_all_runs(directory: Path) -> None:
    write_diversity(directory, "ber", 0)
    write_diversity(directory, "ber", 1)
    write_diversity(directory, "drl", 0, **many_pairs())
    densities, _ = panels_of(figure_of(directory))
    assert [axes.get_title() for axes in densities] == ["ber", "drl", "", ""]
    for axes in densities:
        assert axes.collections[0].get_array().sum() == pytest.approx(1.0)
    of_ber, of_drl = (axes.collections[0].get_array().compressed() for axes in densities[:2])
    assert sorted(of_ber) == [0.25] * 4
    assert len(of_drl) > 60


def test_the_line_is_the_mean_along_the_representations(directory: Path) -> None:
    write_diversity(directory, "drl", 0, **many_pairs(6000))
    (axes, _), _ = panels_of(figure_of(directory))
    (line,) = [line for line in axes.get_lines() if line.get_label() == "mean"]
    x, y = (np.asarray(data) for data in line.get_data())
    inner = (x > 0.1) & (x < 0.9)
    assert inner.sum() > 10
    np.testing.assert_allclose(y[inner], -(x[inner] ** 2), atol=0.005)


def test_few_pairs_have_no_mean(directory: Path) -> None:
    write_diversity(directory, "drl", 0)
    (axes, _), _ = panels_of(figure_of(directory))
    (line,) = [line for line in axes.get_lines() if line.get_label() == "mean"]
    assert np.isnan(line.get_ydata()).all()


def test_panels_tell_the_numbers_of_the_table(directory: Path) -> None:
    numbers = ARRAYS["numbers"].copy()
    numbers[1, 2] = 0.25
    write_diversity(directory, "ber", 0)
    write_diversity(directory, "ber", 1, numbers=numbers)
    densities, _ = panels_of(figure_of(directory))
    assert [axes.texts[0].get_text() for axes in densities] == [
        "below 0: 0.50\nr = -0.62",
        "below 0: 0.00\nr = 0.88",
    ]


def test_distributions_are_shares_with_a_line_and_the_usual_colour_for_each_method(
    directory: Path,
) -> None:
    write_diversity(directory, "drl", 0)
    only_drl = panels_of(figure_of(directory))[1][0].patches[0].get_edgecolor()
    write_diversity(directory, "ber", 0, **many_pairs())
    figure = figure_of(directory)
    for axes in panels_of(figure)[1]:
        assert [patch.get_label() for patch in axes.patches] == ["ber", "drl"]
        for patch in axes.patches:
            assert patch.get_data().values.sum() == pytest.approx(1.0)
        assert axes.patches[1].get_edgecolor() == only_drl
        assert axes.patches[0].get_edgecolor() != only_drl
    assert [text.get_text() for text in figure.subfigs[1].legends[0].get_texts()] == ["ber", "drl"]


def test_runs_without_any_pair_can_be_shown(directory: Path) -> None:
    nothing: dict[str, ArrayLike] = {
        "negative": np.empty((2, 0), dtype=np.float32),
        "positive": np.empty((2, 0), dtype=np.float32),
        "numbers": np.full_like(ARRAYS["numbers"], np.nan),
    }
    write_diversity(directory, "ber", 0, **nothing)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = write_report(directory)
    assert ["ber", "1", "negative", *["–"] * 6] in rows_of(text, "ber")


def test_the_report_has_the_table_and_the_picture_as_long_as_there_are_pairs(
    directory: Path,
) -> None:
    exhibit = write_diversity(directory, "ber", 0)
    text = write_report(directory)
    stored = (directory / "report.txt").read_text(encoding="utf-8")
    assert diversities_text(diversities_of(directory)) in stored
    assert "gradient_diversity.png are in" in text
    assert max(map(len, stored.splitlines())) <= 116
    assert (directory / "gradient_diversity.png").is_file()
    exhibit.unlink()
    assert "gradient_diversity" not in write_report(directory)
    assert not (directory / "gradient_diversity.png").exists()


@pytest.mark.parametrize(
    "changed",
    [
        {"negative": None},
        {"numbers": None},
        {"negative": np.zeros((3, 4))},
        {"negative": np.zeros(2)},
        {"positive": np.array([[1, 0], [0, 1]])},
        {"positive": np.array([[2.0, 0.0], [0.0, 1.0]])},
        {"positive": np.array([[np.nan, 0.0], [0.0, 1.0]])},
        {"numbers": ARRAYS["numbers"][:1]},
        {"numbers": np.zeros((2, 12), dtype=int)},
        {"name": ARRAYS["name"][1:], "numbers": ARRAYS["numbers"][:, 1:]},
        {"name": np.arange(12)},
        {"experience": np.array([0.0, 1.0])},
        {"experience": np.array([], dtype=int), "numbers": ARRAYS["numbers"][:0]},
    ],
)
def test_files_whose_arrays_make_no_sense_are_left_out_and_named(
    directory: Path, changed: dict[str, Any]
) -> None:
    write_diversity(directory, "drl", 0)
    write_diversity(directory, "ber", 0, **changed)
    diversities = diversities_of(directory)
    assert [*diversities.methods] == ["drl"]
    assert [*diversities.unreadable] == ["ber/seed-0/gradient_diversity.npz"]
    text = write_report(directory)
    assert "Left out: 1 unusable file (repeat its method's runs" in text
