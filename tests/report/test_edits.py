"""The picture of edited examples: what is drawn can be read back from the axes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from avalanche_ext.report.edits import edits_figure
from avalanche_ext.results.exhibits import Edits
from avalanche_ext.results.experiment import Exhibits, read_exhibits, read_results
from tests.results.trees import (
    two_by_two,
    write_edits,
    write_experiment,
    write_failure,
    write_result,
)

RNG = np.random.default_rng(0)


def images(n: int, channels: int = 1) -> Any:
    return RNG.uniform(size=(n, channels, 6, 5)).astype(np.float32)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """`gmed` and `other` with two runs each, neither with edits yet."""
    write_experiment(tmp_path, ["gmed", "other"], [0, 1])
    for method in ("gmed", "other"):
        for seed in (0, 1):
            write_result(tmp_path, method, seed, two_by_two(0.5))
    return tmp_path


def edits_of(directory: Path) -> Exhibits[Edits]:
    return read_exhibits(read_results(directory).with_first_runs(), Edits)


def figure_of(directory: Path) -> Figure:
    figure = edits_figure(edits_of(directory))
    assert figure is not None
    return figure


def titles_of(figure: Figure) -> list[str]:
    return [part.get_suptitle().split(",")[0] for part in figure.subfigs]


def labels_of(part: Any) -> list[str]:
    return [title.splitlines()[0] for title, _ in columns_of(part)]


def columns_of(part: Any) -> list[tuple[str, list[Any]]]:
    """Each column's title, and what its three rows show, of a block of a figure."""
    grid = [axes for axes in part.axes if axes.get_label() != "<colorbar>"]
    n_columns = len(grid) // 3
    columns = [grid[i::n_columns] for i in range(n_columns)]
    return [
        (column[0].get_title(), [axes.images[0] for axes in column])
        for column in columns
        if column[0].images
    ]


def test_each_column_shows_a_slot_before_and_after_and_the_difference(directory: Path) -> None:
    original = images(2)
    edited = original + RNG.normal(0.0, 0.3, original.shape).astype(np.float32)
    write_edits(directory, "gmed", 0, [3, 8], [12, 1], original, edited)
    (part,) = figure_of(directory).subfigs
    columns = columns_of(part)
    assert labels_of(part) == ["label 3", "label 8"]
    for i, (_, (above, middle, below)) in enumerate(columns):
        np.testing.assert_array_equal(above.get_array(), original[i, 0])
        np.testing.assert_array_equal(middle.get_array(), edited[i, 0].clip(0, 1))
        np.testing.assert_array_equal(below.get_array(), (edited - original)[i, 0])
        assert above.get_clim() == middle.get_clim() == (0, 1)
        assert above.get_cmap().name == "gray"


def test_rows_and_methods_are_named(directory: Path) -> None:
    for method in ("gmed", "other"):
        write_edits(directory, method, 0, [3], [12], images(1), images(1))
    figure = figure_of(directory)
    assert [part.get_suptitle() for part in figure.subfigs] == [
        f"{method}, seed 0: edited memory samples (label; edits, size of the change ‖x′ − x‖₂)"
        for method in ("gmed", "other")
    ]
    for part in figure.subfigs:
        names = [axes.get_ylabel() for axes in part.axes if axes.get_label() != "<colorbar>"]
        assert names == ["original", "edited", "difference"]


def test_titles_tell_how_often_and_how_far_a_sample_was_moved(directory: Path) -> None:
    original = images(3, channels=3)
    edited = original.copy()
    edited[0, :, 2, 2] += [0.3, 0.0, -0.4]
    edited[1, 0, 1, 1] += 0.0412
    write_edits(directory, "gmed", 0, [3, 8, 9], [12, 1, 2], original, edited)
    (part,) = figure_of(directory).subfigs
    assert [title for title, _ in columns_of(part)] == [
        "label 3\n12 edits, 0.5",
        "label 8\n1 edit, 0.041",
        "label 9\n2 edits, 0",
    ]


def test_differences_share_a_scale_with_zero_in_the_middle(directory: Path) -> None:
    original = images(2)
    edited = original.copy()
    edited[0, 0, 2, 2] -= 0.75
    edited[1, 0, 1, 1] += 0.25
    write_edits(directory, "gmed", 0, [3, 8], [1, 1], original, edited)
    (part,) = figure_of(directory).subfigs
    for _, (*_, below) in columns_of(part):
        assert below.get_clim() == pytest.approx((-0.75, 0.75))
        assert below.cmap(below.norm(0.0)) == pytest.approx((1, 1, 1, 1), abs=0.05)


def test_colours_are_shown_and_differences_are_means_over_channels(directory: Path) -> None:
    original, edited = images(1, channels=3), 3 * images(1, channels=3) - 1
    write_edits(directory, "gmed", 0, [3], [12], original, edited)
    (part,) = figure_of(directory).subfigs
    ((_, (above, middle, below)),) = columns_of(part)
    np.testing.assert_array_equal(above.get_array(), original[0].transpose(1, 2, 0))
    np.testing.assert_array_equal(middle.get_array(), edited[0].transpose(1, 2, 0).clip(0, 1))
    red, green, blue = (edited - original)[0]
    np.testing.assert_allclose(below.get_array(), (red + green + blue) / 3, rtol=1e-5, atol=1e-6)


def test_the_first_ten_slots_are_drawn(directory: Path) -> None:
    original = images(12)
    write_edits(directory, "gmed", 0, [*range(12, 0, -1)], [1] * 12, original, original + 0.1)
    (part,) = figure_of(directory).subfigs
    assert labels_of(part) == [f"label {i}" for i in range(12, 2, -1)]
    for (_, (above, *_)), image in zip(columns_of(part), original[:10], strict=True):
        np.testing.assert_array_equal(above.get_array(), image[0])


def test_a_method_with_fewer_slots_has_empty_places(directory: Path) -> None:
    write_edits(directory, "gmed", 0, [3, 8, 9], [1, 1, 1], images(3), images(3))
    write_edits(directory, "other", 0, [4], [1], images(1), images(1))
    assert [len(columns_of(part)) for part in figure_of(directory).subfigs] == [3, 1]


def test_edits_that_change_nothing_or_explode_can_be_drawn(directory: Path) -> None:
    original, same, broken = images(1), images(1), images(1)
    same[:] = original
    broken[0, 0, 0, :2] = [np.nan, np.inf]
    write_edits(directory, "gmed", 0, [3], [1], original, same)
    write_edits(directory, "other", 0, [3], [1], original, broken)
    figure = figure_of(directory)
    figure.draw_without_rendering()
    scales = [columns_of(part)[0][1][2].get_clim() for part in figure.subfigs]
    assert scales[0] == (-1, 1)
    assert scales[1][1] == np.abs((broken - original)[0, 0].ravel()[2:]).max()


def test_methods_are_left_out_whose_first_finished_run_shows_nothing(directory: Path) -> None:
    assert edits_figure(edits_of(directory)) is None
    write_edits(directory, "gmed", 0, [], [], images(0), images(0))
    write_edits(directory, "other", 1, [3], [5], images(1), images(1))
    assert edits_figure(edits_of(directory)) is None
    write_failure(directory, "other", 0, "out of memory")
    assert titles_of(figure_of(directory)) == ["other"]


def test_edits_of_another_configuration_than_the_result_are_not_shown(directory: Path) -> None:
    given = ([3], [5], images(1), images(1))
    write_edits(directory, "gmed", 0, *given, run_hash="of a run since taken back")
    assert edits_figure(edits_of(directory)) is None
    write_edits(directory, "gmed", 0, *given)
    assert titles_of(figure_of(directory)) == ["gmed"]


@pytest.mark.parametrize("n_slots", [1, 4, 10])
def test_pictures_and_their_titles_do_not_overlap(directory: Path, n_slots: int) -> None:
    for method in ("gmed", "other"):
        labels = range(100, 100 + n_slots)
        write_edits(
            directory, method, 0, [*labels], [1234] * n_slots, images(n_slots), images(n_slots)
        )
    figure = figure_of(directory)
    figure.draw_without_rendering()
    boxes = [axes.get_tightbbox() for part in figure.subfigs for axes in part.axes]
    for i, one in enumerate(boxes):
        for other in boxes[:i]:
            assert one is not None
            assert other is not None
            assert not one.padded(-1).overlaps(other)
