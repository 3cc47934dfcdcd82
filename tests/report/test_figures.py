"""The figures: what is drawn can be read back from the axes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from avalanche_ext.report.matrices import matrices_figure
from avalanche_ext.report.series import Series
from avalanche_ext.report.streams import accuracy_figure, learning_figure
from avalanche_ext.results.experiment import read_results
from tests.results.trees import two_by_two, write_experiment, write_failure, write_result


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """`low` and `high` with two runs each, `broken` with none; low is listed first."""
    directory = tmp_path / "exp"
    write_experiment(directory, ["low", "broken", "high"], [0, 1])
    for seed, shift in enumerate([0.0, 0.1]):
        write_result(directory, "low", seed, two_by_two(0.2 + shift))
        write_result(directory, "high", seed, two_by_two(0.7 + shift))
        write_failure(directory, "broken", seed, "out of memory")
    return directory


def stream_of(figure: Figure | None) -> Axes:
    """The left part, with lines over experiences."""
    assert figure is not None
    stream, _ = figure.axes
    return stream


def rows_of(figure: Figure | None) -> list[str]:
    """The methods' names in the right part, from top to bottom, which are the legend."""
    assert figure is not None
    return [label.get_text() for label in figure.axes[1].get_yticklabels()][::-1]


def test_lines_are_mean_accuracies_over_the_experiences_seen_so_far(directory: Path) -> None:
    axes = stream_of(accuracy_figure(read_results(directory)))
    lines = {line.get_label(): line.get_xydata() for line in axes.get_lines()}
    assert list(lines) == ["low", "high"]
    np.testing.assert_allclose(lines["low"], [[1, 0.9], [2, (0.25 + 0.9) / 2]])
    np.testing.assert_allclose(lines["high"], [[1, 0.9], [2, (0.75 + 0.9) / 2]])


def test_bands_are_one_standard_deviation_wide(directory: Path) -> None:
    axes = stream_of(accuracy_figure(read_results(directory)))
    low = axes.collections[0]
    std = np.std([(0.2 + 0.9) / 2, (0.3 + 0.9) / 2], ddof=1)
    at_the_end = [y for x, y in low.get_paths()[0].vertices if x == 2]
    assert min(at_the_end) == pytest.approx(0.575 - std)
    assert max(at_the_end) == pytest.approx(0.575 + std)


def test_one_seed_has_no_band_and_claims_none(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["a"], [0])
    write_result(tmp_path, "a", 0, two_by_two(0.5))
    axes = stream_of(accuracy_figure(read_results(tmp_path)))
    assert not axes.collections
    assert "±" not in accuracy_figure(read_results(tmp_path)).get_suptitle()


@pytest.mark.parametrize("n_methods", [8, 9])
def test_bands_of_many_methods_are_left_out_and_not_claimed(tmp_path: Path, n_methods: int) -> None:
    names = [f"method-{k}" for k in range(n_methods)]
    write_experiment(tmp_path, names, [0, 1])
    for name in names:
        write_result(tmp_path, name, 0, two_by_two(0.5, 0.8))
        write_result(tmp_path, name, 1, two_by_two(0.6, 0.9))
    results = read_results(tmp_path)
    has_bands = n_methods == 8
    for figure in (accuracy_figure(results), learning_figure(results)):
        axes = stream_of(figure)
        assert len(axes.get_lines()) == n_methods
        assert len(axes.collections) == n_methods * has_bands
        spread = " ± std" * has_bands
        assert figure is not None
        assert figure.get_suptitle() == f"{results.name}, mean{spread} over seeds"


def test_rows_list_the_methods_as_their_lines_end(directory: Path) -> None:
    assert rows_of(accuracy_figure(read_results(directory))) == ["high", "low"]


def test_each_run_and_the_mean_are_in_the_method_s_row(directory: Path) -> None:
    _, ends = accuracy_figure(read_results(directory)).axes
    low, high, runs = (np.round(line.get_xydata(), 9).tolist() for line in ends.get_lines())
    assert (low, high) == ([[0.575, 0]], [[0.825, 1]])
    assert runs == [[0.55, 0], [0.6, 0], [0.8, 1], [0.85, 1]]
    ticks, _ = ends.collections
    np.testing.assert_allclose(ticks.get_offsets(), runs)
    assert len({tuple(colour) for colour in ticks.get_edgecolor()}) == 2


def write_ends(directory: Path, ends: Sequence[float]) -> None:
    """Methods named by their final accuracies on both experiences."""
    write_experiment(directory, [str(end) for end in ends], [0, 1])
    for end in ends:
        for seed in (0, 1):
            write_result(directory, str(end), seed, [[0.9, 0.1], [end, end]])


def test_axes_show_the_differences_between_methods_and_name_a_far_one(tmp_path: Path) -> None:
    near = [0.80, 0.81, 0.82, 0.83, 0.84, 0.86]
    write_ends(tmp_path, [*near, 0.2])
    stream, ends = accuracy_figure(read_results(tmp_path)).axes
    low, high = ends.get_xlim()
    assert 0.78 < low < 0.80
    assert 0.86 < high < 0.88
    assert [text.get_text() for text in ends.texts] == ["◂ 0.200"]
    assert ends.texts[0].xy[1] == 0
    assert 0.78 < stream.get_ylim()[0] < 0.80
    assert 0.90 < stream.get_ylim()[1] < 0.92


def test_with_two_methods_neither_is_far(tmp_path: Path) -> None:
    write_ends(tmp_path, [0.2, 0.8])
    stream, ends = accuracy_figure(read_results(tmp_path)).axes
    assert not ends.texts
    assert ends.get_xlim()[0] < 0.2 < 0.8 < ends.get_xlim()[1]
    assert stream.get_ylim()[0] < 0.2 < 0.9 < stream.get_ylim()[1]


def test_rows_of_many_methods_do_not_overlap(tmp_path: Path) -> None:
    write_ends(tmp_path, [round(0.3 + 0.01 * k, 2) for k in range(45)])
    figure = accuracy_figure(read_results(tmp_path))
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[1].get_yticklabels()]
    assert len(boxes) == 45
    assert not any(one.overlaps(other) for one, other in pairwise(boxes))
    assert all(figure.bbox.contains(*box.min) and figure.bbox.contains(*box.max) for box in boxes)


def test_of_a_swept_method_the_best_setting_is_drawn_and_the_caption_says_so(
    tmp_path: Path,
) -> None:
    write_experiment(tmp_path, ["a-1", "a-2"], [0], sweeps={"a": ("lam", {"a-1": 1, "a-2": 2})})
    write_result(tmp_path, "a-1", 0, two_by_two(0.5))
    write_result(tmp_path, "a-2", 0, two_by_two(0.6))
    results = read_results(tmp_path)
    for figure in (accuracy_figure(results), learning_figure(results), matrices_figure(results)):
        assert figure is not None
        assert " ".join(figure.get_suptitle().split()).endswith(
            "For a, only the setting with the highest mean ACC on these same results is shown"
        )
    assert rows_of(accuracy_figure(results)) == ["a-2"]


def test_learning_is_the_diagonal_of_the_matrices(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["a", "iid"], [0, 1])
    for seed, learned in enumerate([0.4, 0.6]):
        write_result(tmp_path, "a", seed, [[learned, 0.1], [0.3, 0.8]])
        write_result(tmp_path, "iid", seed, two_by_two(0.5), iid=True)
    figure = learning_figure(read_results(tmp_path))
    (line,) = stream_of(figure).get_lines()
    np.testing.assert_allclose(line.get_xydata(), [[1, 0.5], [2, 0.8]])
    assert rows_of(figure) == ["a"]


def test_of_methods_trained_in_random_order_there_is_nothing_to_draw(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["iid"], [0])
    write_result(tmp_path, "iid", 0, two_by_two(0.5), iid=True)
    assert learning_figure(read_results(tmp_path)) is None


def test_no_two_of_many_methods_look_alike(tmp_path: Path) -> None:
    names = [f"method-{k}" for k in range(20)]
    write_experiment(tmp_path, names, [0])
    for name in names:
        write_result(tmp_path, name, 0, two_by_two(0.5))
    axes = stream_of(accuracy_figure(read_results(tmp_path)))
    looks = {(line.get_color(), line.get_marker()) for line in axes.lines}
    assert len(looks) == 20


def test_a_method_keeps_its_look_when_another_fails(directory: Path) -> None:
    results = read_results(directory)
    before = accuracy_figure(results).axes[0].get_lines()[-1].get_color()
    for seed in (0, 1):
        write_result(directory, "broken", seed, two_by_two(0.5))
        (directory / "broken" / f"seed-{seed}" / "failure.json").unlink()
    axes = stream_of(accuracy_figure(read_results(directory)))
    assert [line.get_label() for line in axes.get_lines()] == ["low", "broken", "high"]
    assert axes.get_lines()[-1].get_color() == before


@pytest.mark.parametrize("length", [1, 2, 10, 11, 20, 100])
def test_experiences_are_ticked_in_whole_steps_from_one(tmp_path: Path, length: int) -> None:
    write_experiment(tmp_path, ["a"], [0])
    write_result(tmp_path, "a", 0, np.full((length, length), 0.5).tolist())
    axes = stream_of(accuracy_figure(read_results(tmp_path)))
    ticks = axes.get_xticks()
    assert ticks[0] == 1
    assert ticks[-1] <= length
    assert len(ticks) <= 10
    assert len(set(np.diff(ticks))) <= 1


def test_each_method_with_results_has_its_mean_matrix(directory: Path) -> None:
    figure = matrices_figure(read_results(directory))
    drawn = {axes.get_title(): axes.images[0].get_array() for axes in figure.axes if axes.images}
    assert list(drawn) == ["low, mean of 2 runs", "high, mean of 2 runs"]
    untrained = [0.1, 0.1]
    np.testing.assert_allclose(drawn["low, mean of 2 runs"], [untrained, *two_by_two(0.25)])
    np.testing.assert_allclose(drawn["high, mean of 2 runs"], [untrained, *two_by_two(0.75)])


def test_many_matrices_are_one_image_with_a_name_each(tmp_path: Path) -> None:
    names = [f"method-{k}" for k in range(13)]
    write_experiment(tmp_path, names, [0])
    for k, name in enumerate(names):
        write_result(tmp_path, name, 0, two_by_two(k / 13))
    figure = matrices_figure(read_results(tmp_path))
    assert figure is not None
    figure.draw_without_rendering()
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == names
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(one.overlaps(other) for one, other in pairwise(boxes))
    (image,) = axes.images
    sheet = image.get_array()
    # The second matrix of the second of four columns, below its name and its untrained row.
    for k, text in enumerate(axes.texts):
        left, top = round(text.get_position()[0] - 0.5), round(text.get_position()[1] + 0.8)
        assert sheet is not None
        drawn = sheet[top : top + 4, left : left + 2].filled(-1.0).tolist()
        assert drawn == [[0.1, 0.1], [-1.0, -1.0], [0.9, 0.1], [k / 13, 0.9]]


@pytest.mark.parametrize("n_methods", [1, 2, 3, 4, 5, 10])
def test_matrices_do_not_overlap(tmp_path: Path, n_methods: int) -> None:
    names = [f"method-{k}" for k in range(n_methods)]
    write_experiment(tmp_path, names, [0])
    for name in names:
        write_result(tmp_path, name, 0, two_by_two(0.5))
    figure = matrices_figure(read_results(tmp_path))
    figure.draw_without_rendering()
    boxes = [axes.get_tightbbox() for axes in figure.axes if axes.get_visible()]
    assert len(boxes) == n_methods + 1
    for i, one in enumerate(boxes):
        for other in boxes[:i]:
            assert one is not None
            assert other is not None
            assert not one.padded(-1).overlaps(other)


def test_a_line_needs_a_text_for_each_point() -> None:
    assert Series([1, 2], [0.5, 0.6], ["a", "b"]).texts == ("a", "b")
    with pytest.raises(ValueError, match="there are 2 points and 1 texts"):
        Series([1, 2], [0.5, 0.6], ["a"])


def test_axes_of_accuracies_end_where_accuracies_do(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["a", "b"], [0, 1])
    for seed, learned in enumerate([0.05, 1.0]):
        for method in ("a", "b"):
            write_result(tmp_path, method, seed, [[learned, 0.1], [0.3, learned]])
    low, high = stream_of(learning_figure(read_results(tmp_path))).get_ylim()
    assert -0.03 < low < 0.05
    assert 1.0 < high < 1.03
