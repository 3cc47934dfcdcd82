"""The picture of differences from the baseline: what is drawn can be read back from the axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from avalanche_ext.report.differences import differences_figure
from avalanche_ext.report.series import Series
from avalanche_ext.report.statistics import method_statistics
from avalanche_ext.results.experiment import read_results
from tests.results.trees import two_by_two, write_experiment, write_result

NOISE = [0.0, 0.02, 0.01, 0.03, 0.015]


def write(directory: Path, shifts: dict[str, float], n_seeds: int = 5) -> None:
    """Methods whose final accuracy on the first experience differs so far from the baseline's."""
    write_experiment(directory, ["base", *shifts], range(n_seeds), baseline="base")
    for seed, noise in enumerate(NOISE[:n_seeds]):
        write_result(directory, "base", seed, two_by_two(0.5))
        for name, shift in shifts.items():
            write_result(directory, name, seed, two_by_two(0.5 + shift + noise))


def figure_of(directory: Path) -> Figure | None:
    results = read_results(directory)
    return differences_figure(results, method_statistics(results))


def points(axes: Axes) -> dict[str, Series]:
    """The mean of each method by its name."""
    lines = [line for line in axes.get_lines() if isinstance(line, Series)]
    return {line.texts[0].partition(":")[0]: line for line in lines if len(line.texts) == 1}


def test_each_metric_has_a_panel_with_means_and_intervals(tmp_path: Path) -> None:
    write(tmp_path, {"good": 0.1, "bad": -0.2})
    figure = figure_of(tmp_path)
    assert figure is not None
    acc, bwt = figure.axes
    assert (acc.get_xlabel(), bwt.get_xlabel()) == ("difference in ACC", "difference in BWT")
    assert [label.get_text() for label in acc.get_yticklabels()] == ["bad", "good"]
    good = points(acc)["good"]
    np.testing.assert_allclose(good.get_xydata(), [[(0.1 + np.mean(NOISE)) / 2, 1]])
    statistics = {each.name: each for each in method_statistics(read_results(tmp_path))}
    (bars,) = acc.collections
    low, high = statistics["good"].tests["ACC"].interval or (0.0, 0.0)
    np.testing.assert_allclose(bars.get_paths()[1].vertices, [[low, 1], [high, 1]])
    assert good.texts[0].startswith("good: ACC +0.058, [+0.05")
    assert good.texts[0].endswith("Holm p <0.001, higher for 5/5 seeds")


def test_significant_differences_are_filled(tmp_path: Path) -> None:
    write(tmp_path, {"good": 0.1, "same": -0.015})
    figure = figure_of(tmp_path)
    assert figure is not None
    found = points(figure.axes[0])
    assert found["good"].get_markerfacecolor() == found["good"].get_color()
    assert found["same"].get_markerfacecolor() == "white"


def test_no_difference_of_few_seeds_is_filled(tmp_path: Path) -> None:
    write(tmp_path, {"good": 0.3}, n_seeds=3)
    (test,) = (each.tests["ACC"] for each in method_statistics(read_results(tmp_path))[1:])
    assert test.t_test_holm is not None
    assert test.t_test_holm < 0.001
    figure = figure_of(tmp_path)
    assert figure is not None
    assert points(figure.axes[0])["good"].get_markerfacecolor() == "white"


def test_the_baseline_counts_where_the_axis_leaves_a_far_method_out(tmp_path: Path) -> None:
    write(tmp_path, {"far": -0.49, "a": -0.04, "b": -0.02, "c": 0.01})
    figure = figure_of(tmp_path)
    assert figure is not None
    acc = figure.axes[0]
    assert [text.get_text() for text in acc.texts] == ["◂ -0.237"]
    assert -0.05 < acc.get_xlim()[0] < 0 < acc.get_xlim()[1]


@pytest.mark.parametrize("n_seeds", [1, 2])
def test_with_few_seeds_there_are_means_without_bars(tmp_path: Path, n_seeds: int) -> None:
    write(tmp_path, {"a": 0.1}, n_seeds)
    figure = figure_of(tmp_path)
    assert figure is not None
    (bars,) = figure.axes[0].collections
    assert np.ptp(bars.get_paths()[0].vertices[:, 0]) == 0


def test_without_a_baseline_there_is_nothing_to_draw(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["a", "b"], [0])
    write_result(tmp_path, "a", 0, two_by_two(0.5))
    assert figure_of(tmp_path) is None


def test_the_title_speaks_of_intervals_only_where_there_are_some(tmp_path: Path) -> None:
    for n_seeds, said in (
        (4, "no intervals or significance with fewer than 5 seeds"),
        (5, "bars: 95 %"),
    ):
        write(tmp_path / str(n_seeds), {"a": 0.1, "b": 0.2}, n_seeds)
        figure = figure_of(tmp_path / str(n_seeds))
        assert figure is not None
        assert said in figure.get_suptitle()
        assert len(figure.axes[0].get_xticks()) >= 3
