"""ρ-spectra that runs have kept: the report's tables, correlations and picture."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike

from avalanche_ext.report import write_report
from avalanche_ext.report.rho import (
    Correlation,
    RhoRuns,
    correlation,
    read_rho,
)
from avalanche_ext.report.rho_shown import rho_figure, rho_text
from avalanche_ext.results.experiment import read_results
from avalanche_ext.results.record import ResultsError
from tests.results.trees import (
    two_by_two,
    write_experiment,
    write_failure,
    write_result,
    write_rho,
)

FINAL = {"er": [0.5, 0.6], "drl": [0.7, 0.8]}
"""Accuracies on the first of two experiences at the end, by seed."""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """`er` and `drl` with two runs each, none with a spectrum yet."""
    write_experiment(tmp_path, [*FINAL], [0, 1])
    for method, finals in FINAL.items():
        for seed, final in enumerate(finals):
            write_result(tmp_path, method, seed, two_by_two(final))
    return tmp_path


def write_last(directory: Path, method: str, seed: int, rho: float, **more: ArrayLike) -> None:
    """A spectrum with this ρ after the last experience."""
    write_rho(directory, method, seed, rho=np.array([9.0, rho]), **more)


def rho_of(directory: Path) -> RhoRuns:
    return read_rho(read_results(directory))


def text_of(directory: Path) -> str:
    return rho_text(rho_of(directory))


def cells_of(text: str, first: str) -> list[list[str]]:
    """The cells of the lines that begin with this word, a list a line."""
    lines = [line for line in text.splitlines() if line.startswith(f"{first} ")]
    return [[cell.strip() for cell in line.split("  ") if cell] for line in lines]


def pearson_by_loops(x: list[float], y: list[float]) -> float:
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    both = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    alone = math.prod(
        sum((a - mean) ** 2 for a in values) for values, mean in ((x, mean_x), (y, mean_y))
    )
    return both / math.sqrt(alone)


def test_coefficients_are_those_of_the_formula() -> None:
    x, y = [0.1, 0.5, 0.2, 0.9, 0.4], [3.0, 2.0, 2.5, 0.1, 2.2]
    found = correlation(x, y)
    assert found.n == 5
    assert found.pearson is not None
    assert found.spearman is not None
    assert found.pearson[0] == pytest.approx(pearson_by_loops(x, y))
    # The one's ranks are the other's, reversed.
    assert found.spearman[0] == pytest.approx(-1.0)
    r, degrees = found.pearson[0], 3
    t = r * math.sqrt(degrees / (1 - r * r))
    # Student's distribution function with three degrees of freedom.
    cdf = 0.5 + (math.atan(t / math.sqrt(3)) + t / math.sqrt(3) / (1 + t * t / 3)) / math.pi
    assert found.pearson[1] == pytest.approx(2 * min(cdf, 1 - cdf))


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([], []),
        ([0.1, 0.2], [0.3, 0.4]),
        ([0.5, 0.5, 0.5], [0.1, 0.2, 0.3]),
        ([0.1, 0.2, 0.3], [0.9, 0.9, 0.9]),
        ([0.1, 0.2, 0.3], [0.3, 0.1 + 0.2, 0.3]),
    ],
)
def test_too_few_and_constant_numbers_have_no_correlation(x: list[float], y: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert correlation(x, y) == Correlation(None, None, len(x))


def test_without_spectra_there_is_neither_table_nor_picture(directory: Path) -> None:
    assert text_of(directory) == ""
    assert rho_figure(rho_of(directory)) is None
    assert "ρ" not in write_report(directory)
    assert not (directory / "rho.png").exists()


def test_a_table_tells_of_the_last_experience_over_seeds(directory: Path) -> None:
    write_last(directory, "er", 0, 1.5)
    write_last(directory, "er", 1, 2.5, n_alive=np.array([1, 8]))
    write_last(directory, "drl", 1, 0.5)
    text = text_of(directory)
    assert cells_of(text, "method") == [
        ["method", "runs", "ρ", "in use", "ρ in use", "into second", "into classifier"]
    ]
    assert cells_of(text, "er") == [
        [
            "er",
            "2",
            "2.000 ± 0.707",
            "7.0 ± 1.4 of 8",
            "1.250 ± 0.000",
            "0.750 ± 0.000",
            "0.875 ± 0.000",
        ]
    ]
    assert cells_of(text, "drl")[0][:3] == ["drl", "1", "0.500"]


def test_a_single_layer_has_no_column_of_its_own(directory: Path) -> None:
    for seed in (0, 1):
        one = {"layer": np.array(["linear"]), "layer_rho": np.array([[0.5], [0.75]])}
        write_rho(directory, "er", seed, **one)
    assert "into linear" not in text_of(directory)


def write_four(directory: Path) -> tuple[list[float], list[float]]:
    """A spectrum for each run; returns ρ and final accuracy of each."""
    rhos = {"er": [2.0, 1.75], "drl": [1.0, 0.25]}
    for method, values in rhos.items():
        for seed, rho in enumerate(values):
            write_last(directory, method, seed, rho, alive_rho=np.array([0.0, -rho]))
    return [*rhos["er"], *rhos["drl"]], [*FINAL["er"], *FINAL["drl"]]


def test_correlations_run_over_all_runs_of_all_methods(directory: Path) -> None:
    rhos, finals = write_four(directory)
    text = text_of(directory)
    expected = pearson_by_loops(rhos, finals)
    ((_, runs, pearson, _, spearman, p, in_use),) = cells_of(text, "ACC")
    assert (runs, pearson, spearman) == ("4", f"{expected:+.3f}", "-1.000")
    assert in_use == f"{-expected:+.3f}"
    assert p == "<0.001"
    ((_, runs, pearson, *_),) = cells_of(text, "forgetting")
    assert (runs, pearson) == ("4", f"{-expected:+.3f}")
    # What was just learned is the same in all runs: no intransigence, no correlation with it.
    assert cells_of(text, "intransigence") == [["intransigence", "4", *["–"] * 5]]
    assert "compared with" not in text


def test_intransigence_is_each_runs_against_the_best_method(directory: Path) -> None:
    write_four(directory)
    learned = {"er": [0.9, 0.8], "drl": [0.6, 0.7]}
    for method, values in learned.items():
        for seed, value in enumerate(values):
            write_result(directory, method, seed, two_by_two(0.5, learned=value))
    rho = rho_of(directory)
    found = {
        (name, seed): run.metrics["intransigence"]
        for name, runs in rho.methods.items()
        for seed, run in runs.items()
    }
    assert found == {
        ("er", 0): pytest.approx(-0.05),
        ("er", 1): pytest.approx(0.05),
        ("drl", 0): pytest.approx(0.25),
        ("drl", 1): pytest.approx(0.15),
    }


def test_a_papers_correlations_are_shown_next_to_ours(directory: Path) -> None:
    published = {"reference": "A paper, Table 4", "rho_correlation": {"ACC": -0.838}}
    write_experiment(directory, [*FINAL], [0, 1], published=published)
    write_four(directory)
    text = text_of(directory)
    assert "Correlation of ρ with each metric, compared with A paper, Table 4" in text
    assert cells_of(text, "ACC")[0][-1] == "-0.838"
    assert cells_of(text, "forgetting")[0][-1] == "–"
    assert "Compared with A paper" not in write_report(directory)


def test_correlations_of_no_such_metric_are_refused(directory: Path) -> None:
    published = {"reference": "A paper", "rho_correlation": {"BWT": 0.1}}
    write_experiment(directory, [*FINAL], [0, 1], published=published)
    with pytest.raises(ResultsError, match=r"published\.rho_correlation\.BWT: no such"):
        write_report(directory)


def test_runs_without_a_spectrum_or_with_none_that_is_defined_do_not_count(
    directory: Path,
) -> None:
    write_four(directory)
    write_last(directory, "er", 0, math.nan)
    write_failure(directory, "drl", 0, "out of memory")
    text = text_of(directory)
    assert cells_of(text, "ACC")[0][1] == "2"
    assert cells_of(text, "er")[0][:3] == ["er", "1", "1.750"]


def test_a_method_without_any_defined_spectrum_has_dashes(directory: Path) -> None:
    write_last(directory, "er", 0, math.nan)
    assert cells_of(text_of(directory), "er") == [["er", "0", *["–"] * 5]]
    assert rho_figure(rho_of(directory)) is None


def test_methods_trained_iid_are_in_the_table_but_in_no_correlation(directory: Path) -> None:
    write_experiment(directory, [*FINAL, "iid"], [0, 1])
    write_four(directory)
    for seed in (0, 1):
        write_result(directory, "iid", seed, two_by_two(0.9), iid=True)
        write_last(directory, "iid", seed, 0.125)
    text = text_of(directory)
    assert cells_of(text, "iid")[0][:3] == ["iid", "2", "0.125 ± 0.000"]
    assert cells_of(text, "ACC")[0][1] == "4"


def test_of_a_swept_method_the_best_setting_counts_and_the_report_says_so(
    directory: Path,
) -> None:
    write_four(directory)
    assert "swept" not in text_of(directory)
    sweeps = {"all": ("lr", {"er": 0.1, "drl": 0.2})}
    write_experiment(directory, [*FINAL], [0, 1], sweeps=sweeps)
    rho = rho_of(directory)
    assert [*rho.methods] == ["drl"]
    said = "only the setting with the highest mean ACC on these same results is shown."
    assert said in " ".join(rho_text(rho).split())


def test_one_experience_has_no_forgetting_to_correlate(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["er"], [0, 1, 2])
    for seed in range(3):
        write_result(tmp_path, "er", seed, [[0.5 + seed / 10]])
        write_last(tmp_path, "er", seed, float(seed))
    text = text_of(tmp_path)
    assert cells_of(text, "ACC")[0][1:3] == ["3", "+1.000"]
    assert cells_of(text, "forgetting") == [["forgetting", "0", *["–"] * 5]]


def test_spectra_of_another_configuration_than_the_result_are_not_shown(directory: Path) -> None:
    write_rho(directory, "er", 0, run_hash="of a run since taken back")
    assert rho_of(directory).methods == {}
    assert [*rho_of(directory).unreadable] == ["er/seed-0/rho_spectrum.npz"]


@pytest.mark.parametrize(
    "changes",
    [
        {"rho": None},
        {"rho": np.array([1.0])},
        {"n_alive": np.array([1.0, 2.0])},
        {"layer": np.array([1, 2])},
        {"layer": np.array(["second"])},
        {"experience": np.array([], dtype=int)},
    ],
)
def test_a_file_that_makes_no_sense_is_named_and_the_others_are_shown(
    directory: Path, changes: dict[str, Any]
) -> None:
    write_last(directory, "drl", 0, 1.5)
    write_rho(directory, "er", 0, **changes)
    text = write_report(directory)
    assert "Left out: 1 unusable file (repeat its method's runs" in text
    assert "er/seed-0/rho_spectrum.npz" in text
    assert cells_of(text, "drl")[1][:3] == ["drl", "1", "1.500"]


def test_each_run_is_a_point_in_the_colour_of_its_method(directory: Path) -> None:
    write_experiment(directory, ["naive", *FINAL], [0, 1])
    write_result(directory, "naive", 0, two_by_two(0.1))
    rhos, finals = write_four(directory)
    figure = rho_figure(rho_of(directory))
    assert figure is not None
    panels = figure.axes
    assert [axes.get_ylabel() for axes in panels] == ["ACC", "forgetting", "intransigence"]
    er, drl = panels[0].get_lines()
    np.testing.assert_allclose([*er.get_xdata(), *drl.get_xdata()], rhos)
    np.testing.assert_allclose(
        [*er.get_ydata(), *drl.get_ydata()], [(each + 0.9) / 2 for each in finals]
    )
    assert panels[0].get_title() == f"Pearson {pearson_by_loops(rhos, finals):+.2f} over 4 runs"
    assert panels[2].get_title() == ""
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["er", "drl"]
    # The colours of the report's other pictures, in which naive comes first.
    assert (er.get_color(), drl.get_color()) == ("#D55E00", "#009E73")


def test_the_picture_goes_with_the_last_spectrum(directory: Path) -> None:
    write_four(directory)
    assert "rho.png are in" in write_report(directory)
    assert (directory / "rho.png").is_file()
    for path in directory.rglob("rho_spectrum.npz"):
        path.unlink()
    assert "rho.png" not in write_report(directory)
    assert not (directory / "rho.png").exists()
