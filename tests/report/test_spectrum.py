"""Spectra that runs have kept: the report's tables, and its picture read back from the axes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from avalanche_ext.report import write_report
from avalanche_ext.report.spectrum import Spectra, spectra_text
from avalanche_ext.report.spectrum_picture import spectra_figure
from avalanche_ext.results.exhibits import FisherSpectra
from avalanche_ext.results.experiment import read_exhibits, read_results
from tests.results.trees import (
    SPECTRUM,
    two_by_two,
    write_experiment,
    write_failure,
    write_result,
    write_spectrum,
)

NUMBERS = SPECTRUM["numbers"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """`ewc` and `other` with two runs each, none with a spectrum yet."""
    write_experiment(tmp_path, ["ewc", "other"], [0, 1])
    for method in ("ewc", "other"):
        for seed in (0, 1):
            write_result(tmp_path, method, seed, two_by_two(0.5))
    return tmp_path


def spectra_of(directory: Path) -> Spectra:
    return read_exhibits(read_results(directory), FisherSpectra)


def figure_of(directory: Path) -> Figure:
    figure = spectra_figure(spectra_of(directory))
    assert figure is not None
    return figure


def panels_of(figure: Figure, part: int = 0) -> list[Any]:
    return [*figure.subfigs[part].axes]


def rows_of(text: str, method: str) -> list[list[str]]:
    """The cells of a method's rows, in both tables in turn."""
    lines = [line for line in text.splitlines() if line.startswith(f"{method} ")]
    return [[cell.strip() for cell in line.split("  ") if cell] for line in lines]


def test_without_spectra_there_is_neither_table_nor_picture(directory: Path) -> None:
    assert spectra_text(spectra_of(directory)) == ""
    assert spectra_figure(spectra_of(directory)) is None
    assert "spectrum" not in write_report(directory)


def test_the_tables_tell_of_the_first_and_the_last_experience(directory: Path) -> None:
    write_spectrum(directory, "ewc", 0)
    shares = [["0.750", "0.500", "1.000"], ["0.875", "0.500", "1.000"]]
    masses = [
        "second 0.75 (0.25), first 0.25 (0.75)",
        "second 0.88 (0.25), first 0.12 (0.75)",
    ]
    assert rows_of(spectra_text(spectra_of(directory)), "ewc") == [
        ["ewc", "first", "2", "1.00", "0.500", *shares[0], "2.8"],
        ["ewc", "last", "3", "4.00", "1.00", *shares[1], "3.4"],
        ["ewc", "first", "–", "–", masses[0]],
        ["ewc", "last", "-0.6931", "1.000", masses[1]],
    ]


def test_numbers_are_means_and_standard_deviations_over_seeds(directory: Path) -> None:
    write_spectrum(directory, "ewc", 0)
    numbers = NUMBERS.copy()
    numbers[1, 1] -= 0.25
    mass = np.array([[0.25, 0.75], [0.625, 0.375]])
    eigenvalues = 2 * SPECTRUM["eigenvalues"]
    write_spectrum(directory, "ewc", 1, numbers=numbers, mass=mass, eigenvalues=eigenvalues)
    _, last, _, decay = rows_of(spectra_text(spectra_of(directory)), "ewc")
    assert last[3:6] == ["6.00 ± 2.83", "1.50 ± 0.71", "0.750 ± 0.177"]
    assert decay[-1] == "second 0.62 (0.25), first 0.38 (0.75)"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((11.0, 25.6), "18.3 ± 10.3"),
        ((1310.0, 1450.0), "1380 ± 99"),
        ((0.0012, 0.0014), "0.00130 ± 0.00014"),
        ((98765.0, 98765.0), "98765 ± 0"),
        ((2e5, 3e5), "(2.50 ± 0.71)e+05"),
        ((1.0e-7, 1.2e-7), "(1.10 ± 0.14)e-07"),
        ((0.0, 0.0), "0.00 ± 0.00"),
    ],
)
def test_deviations_of_eigenvalues_have_the_decimals_of_their_means(
    directory: Path, values: tuple[float, float], text: str
) -> None:
    for seed, value in enumerate(values):
        write_spectrum(directory, "ewc", seed, eigenvalues=np.full((2, 1), value))
    assert rows_of(spectra_text(spectra_of(directory)), "ewc")[0][3] == text


def test_an_unknown_share_is_a_dash_and_its_column_is_gone_where_none_is_known(
    directory: Path,
) -> None:
    unknown = NUMBERS.copy()
    unknown[:, SPECTRUM["name"].tolist().index("share_5_percent_of_parameters")] = np.nan
    write_spectrum(directory, "ewc", 0, numbers=unknown)
    text = spectra_text(spectra_of(directory))
    assert rows_of(text, "ewc")[0][5:] == ["0.750", "0.500", "2.8"]
    assert "of weights:" not in text
    write_spectrum(directory, "other", 0)
    text = spectra_text(spectra_of(directory))
    assert rows_of(text, "ewc")[0][5:] == ["0.750", "0.500", "–", "2.8"]
    assert rows_of(text, "other")[0][7] == "1.000"
    assert "5 % of weights: the same for the largest 5 %" in " ".join(text.split())


def test_notes_say_that_the_analysis_is_in_the_seconds_of_training(directory: Path) -> None:
    write_spectrum(directory, "ewc", 0)
    notes = " ".join(spectra_text(spectra_of(directory)).split())
    assert "training time includes this analysis." in notes


def test_parameters_of_the_model_itself_have_a_layer_with_a_name(directory: Path) -> None:
    write_spectrum(directory, "ewc", 0, layer=np.array(["", "second"]))
    last = rows_of(spectra_text(spectra_of(directory)), "ewc")[-1]
    assert last[-1] == "second 0.88 (0.25), (model) 0.12 (0.75)"
    axes = panels_of(figure_of(directory))[2]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["(model)", "second"]


def test_methods_without_a_spectrum_and_failed_runs_are_left_out(directory: Path) -> None:
    write_spectrum(directory, "ewc", 0, trace=np.array([3.0, 3.0]))
    write_spectrum(directory, "ewc", 1)
    write_failure(directory, "ewc", 0, "out of memory")
    methods = spectra_of(directory).methods
    assert {name: [*runs] for name, runs in methods.items()} == {"ewc": [1]}


def test_spectra_of_another_configuration_than_the_result_are_not_shown(directory: Path) -> None:
    write_spectrum(directory, "ewc", 0, run_hash="of a run since taken back")
    assert spectra_of(directory).methods == {}
    assert [*spectra_of(directory).unreadable] == ["ewc/seed-0/spectrum.npz"]
    write_spectrum(directory, "ewc", 0)
    assert [*spectra_of(directory).methods] == ["ewc"]


def test_eigenvalues_fall_in_a_line_for_each_experience(directory: Path) -> None:
    write_spectrum(directory, "ewc", 0)
    axes = panels_of(figure_of(directory))[0]
    first, last = axes.get_lines()
    np.testing.assert_array_equal(first.get_xdata(), [1, 2])
    np.testing.assert_array_equal(first.get_ydata(), [1.0, 0.5])
    np.testing.assert_array_equal(last.get_ydata(), [4.0, 2.0, 1.0])
    assert axes.get_yscale() == "log"
    assert [line.get_label() for line in (first, last)] == ["1", "2"]


def test_shares_are_of_the_trace_and_of_all_eigenvalues_that_are_known(directory: Path) -> None:
    write_spectrum(directory, "ewc", 0)
    first, last, mark = panels_of(figure_of(directory))[1].get_lines()
    np.testing.assert_allclose(first.get_ydata(), [0.5, 0.75, 1.0])
    np.testing.assert_allclose(last.get_ydata(), [0.5, 0.75, 0.875, 1.0])
    assert mark.get_xdata()[0] == pytest.approx(4 / 20)


def test_without_all_eigenvalues_the_largest_have_shares_and_nothing_is_marked(
    directory: Path,
) -> None:
    write_spectrum(directory, "ewc", 0, all_eigenvalues=np.empty((2, 0)))
    first, last = panels_of(figure_of(directory))[1].get_lines()
    np.testing.assert_allclose(first.get_ydata(), [0.5, 0.75])
    np.testing.assert_allclose(last.get_ydata(), [0.5, 0.75, 0.875])


def test_mass_is_drawn_in_bars_layer_by_layer_for_the_last_experience(directory: Path) -> None:
    write_spectrum(directory, "ewc", 0)
    axes = panels_of(figure_of(directory))[2]
    weighted, unweighted, of_weights = axes.containers
    assert [bar.get_width() for bar in weighted] == [0.125, 0.875]
    assert [bar.get_width() for bar in unweighted] == [0.75, 0.25]
    assert [bar.get_width() for bar in of_weights] == [0.75, 0.25]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["first", "second"]


def test_of_many_layers_those_with_most_mass_are_drawn_in_their_order(directory: Path) -> None:
    mass = np.random.default_rng(0).permutation(30)[None].repeat(2, axis=0) / 435.0
    layers = np.array([f"layer{i}" for i in range(30)])
    write_spectrum(directory, "ewc", 0, layer=layers, mass=mass, unweighted_mass=mass, size=mass)
    axes = panels_of(figure_of(directory))[2]
    expected = [name for name, share in zip(layers, mass[-1], strict=True) if share * 435 >= 10]
    assert [label.get_text() for label in axes.get_yticklabels()] == expected
    assert "20 of 30 layers" in axes.get_xlabel()


def test_each_method_has_a_row_of_its_runs_with_a_spectrum(directory: Path) -> None:
    write_spectrum(directory, "ewc", 1)
    write_spectrum(directory, "other", 0)
    write_spectrum(directory, "other", 1)
    figure = figure_of(directory)
    figure.draw_without_rendering()
    titles = [part.get_suptitle() for part in figure.subfigs]
    assert titles == [
        "ewc: Fisher spectrum, seed 1",
        "other: Fisher spectrum, mean and range of 2 seeds",
    ]


def many_experiences(n: int) -> dict[str, ArrayLike]:
    shown = {name: array[-1:] for name, array in SPECTRUM.items() if name not in ("layer", "name")}
    repeated = {name: array.repeat(n, axis=0) for name, array in shown.items()}
    return {**repeated, "experience": np.arange(n)}


def test_of_many_experiences_some_are_in_the_legend_the_last_among_them(directory: Path) -> None:
    write_spectrum(directory, "ewc", 0, **many_experiences(25))
    figure = figure_of(directory)
    assert len(panels_of(figure)[0].get_lines()) == 25
    (legend,) = figure.subfigs[0].legends
    assert [text.get_text() for text in legend.get_texts()] == [
        *map(str, range(1, 26, 3)),
    ]


def test_a_fisher_without_eigenvalues_can_be_shown(directory: Path) -> None:
    nothing: dict[str, ArrayLike] = {
        "trace": np.zeros(2),
        "eigenvalues": np.empty((2, 0)),
        "all_eigenvalues": np.zeros((2, 3)),
        "mass": np.zeros((2, 2)),
        "unweighted_mass": np.zeros((2, 2)),
        "size": np.zeros((2, 2)),
        "numbers": np.full_like(NUMBERS, np.nan),
    }
    write_spectrum(directory, "ewc", 0, **nothing)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = write_report(directory)
    assert ["ewc", "last", "0", *["–"] * 5] in rows_of(text, "ewc")
    assert ["ewc", "last", *["–"] * 3] in rows_of(text, "ewc")


def test_the_report_has_the_tables_and_the_picture_as_long_as_there_are_spectra(
    directory: Path,
) -> None:
    exhibit = write_spectrum(directory, "ewc", 0)
    text = write_report(directory)
    stored = (directory / "report.txt").read_text(encoding="utf-8")
    assert spectra_text(spectra_of(directory)) in stored
    assert "spectrum.png are in" in text
    assert max(map(len, stored.splitlines())) <= 116
    assert (directory / "spectrum.png").is_file()
    exhibit.unlink()
    assert "spectrum" not in write_report(directory)
    assert not (directory / "spectrum.png").exists()


def test_of_a_swept_method_the_tables_say_how_the_setting_was_chosen(directory: Path) -> None:
    sweep = {"ewc": ("plugins[0].online_ewc.lam", {"ewc-1": 1, "ewc-2": 2})}
    write_experiment(directory, ["ewc-1", "ewc-2"], [0], sweeps=sweep)
    for name, acc in (("ewc-1", 0.4), ("ewc-2", 0.6)):
        write_result(directory, name, 0, two_by_two(acc))
        write_spectrum(directory, name, 0)
    write_report(directory)
    stored = (directory / "report.txt").read_text(encoding="utf-8")
    tables = stored.partition("Fisher spectrum after")[2]
    assert "ewc-2" in tables
    assert "ewc-1" not in tables
    said = "For ewc, only the setting with the highest mean ACC on these same results is shown."
    assert said in " ".join(tables.split())


@pytest.mark.parametrize(
    "changed",
    [
        {"eigenvalues": None},
        {"numbers": None},
        {"mass": np.zeros((2, 3))},
        {"mass": np.zeros((1, 2))},
        {"mass": np.zeros(2)},
        {"size": np.array([[6, 2], [6, 2]])},
        {"trace": np.zeros(3)},
        {"trace": np.array(["a", "b"])},
        {"numbers": NUMBERS[:, :-1]},
        {"name": SPECTRUM["name"][:-1], "numbers": NUMBERS[:, :-1]},
        {"layer": np.array([1, 2])},
        {"layer": np.array([["first", "second"]])},
        {"experience": np.array([0.0, 1.0])},
        {name: array[:0] for name, array in SPECTRUM.items() if name not in ("layer", "name")},
        {"eigenvalues": np.array([{}, {}])},
    ],
)
def test_files_whose_arrays_make_no_sense_are_left_out_and_named(
    directory: Path, changed: dict[str, Any]
) -> None:
    write_spectrum(directory, "other", 0)
    write_spectrum(directory, "ewc", 0, **changed)
    spectra = spectra_of(directory)
    assert [*spectra.methods] == ["other"]
    assert [*spectra.unreadable] == ["ewc/seed-0/spectrum.npz"]


def test_a_damaged_file_is_left_out_and_the_other_runs_count(directory: Path) -> None:
    path = write_spectrum(directory, "ewc", 0)
    write_spectrum(directory, "ewc", 1)
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        assert [*spectra_of(directory).methods["ewc"]] == [1]
    text = write_report(directory)
    assert "Left out: 1 unusable file (repeat its method's runs" in text
    assert "\n  ewc/seed-0/spectrum.npz: BadZipFile: " in text
    assert "spectrum.png are in" in text


def test_lines_are_means_over_seeds_and_bands_reach_from_the_least_to_the_greatest(
    directory: Path,
) -> None:
    write_spectrum(directory, "ewc", 0)
    for name, factor in (("ewc", 4.0), ("other", 1.0)):
        changed = {each: factor * SPECTRUM[each] for each in ("eigenvalues", "all_eigenvalues")}
        write_spectrum(directory, name, 1, **changed)
    figure = figure_of(directory)
    eigenvalues, shares, mass = panels_of(figure)
    first, last = eigenvalues.get_lines()
    np.testing.assert_allclose(first.get_ydata(), [2.0, 1.0])  # √(1 · 4), √(0.5 · 2)
    np.testing.assert_allclose(last.get_ydata(), [8.0, 4.0, 2.0])
    band = eigenvalues.collections[1].get_paths()[0].vertices
    assert {tuple(point) for point in band if point[0] == 1} == {(1.0, 4.0), (1.0, 16.0)}
    assert len(shares.collections) == 2
    assert len(mass.containers) == 6  # Bars of three kinds, and what they vary.
    single = panels_of(figure, 1)
    assert not single[0].collections
    assert len(single[2].containers) == 3


def test_of_spectra_of_different_lengths_what_all_seeds_have_is_drawn(directory: Path) -> None:
    write_spectrum(directory, "ewc", 0)
    write_spectrum(directory, "ewc", 1, eigenvalues=SPECTRUM["eigenvalues"][:, :2])
    eigenvalues = panels_of(figure_of(directory))[0]
    assert [len(line.get_xdata()) for line in eigenvalues.get_lines()] == [2, 2]
