"""The picture of R: what it shows can be read back from the axes."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from avalanche_ext.metrics.heatmap import draw_matrix


@pytest.fixture
def axes() -> Axes:
    return Figure().add_subplot()


def test_matrix_is_drawn_on_the_scale_of_accuracies(axes: Axes) -> None:
    R = np.array([[0.3, 0.2], [0.25, 0.4]])
    image = draw_matrix(axes, R)
    np.testing.assert_array_equal(image.get_array(), R)
    assert image.get_clim() == (0.0, 1.0)
    assert axes.get_xlabel() == "accuracy on test experience"
    assert axes.get_ylabel() == "after training on experience"


def test_each_number_is_in_its_cell_and_can_be_read(axes: Axes) -> None:
    draw_matrix(axes, [[0.95, 0.1], [0.5, 0.8]])
    texts = {text.get_position(): (text.get_text(), text.get_color()) for text in axes.texts}
    assert texts == {
        (1, 1): ("0.95", "black"),
        (2, 1): ("0.10", "white"),
        (1, 2): ("0.50", "white"),
        (2, 2): ("0.80", "black"),
    }


@pytest.mark.parametrize("size", [1, 2, 10, 11, 20, 100])
def test_experiences_are_counted_from_one_below_the_untrained_model(size: int) -> None:
    R, untrained = np.full((size, size), 0.5), np.full(size, 0.25)
    bare, whole = Figure().subplots(1, 2)
    draw_matrix(bare, R)
    image = draw_matrix(whole, R, untrained)
    np.testing.assert_array_equal(image.get_array(), [untrained, *R])
    for axes in (bare, whole):
        ticks = axes.get_xticks().tolist()
        assert ticks[0] == 1
        assert ticks[-1] <= size
        assert len(ticks) <= 10
        assert axes.get_xlim() == (0.5, size + 0.5)
    assert bare.get_yticks().tolist() == ticks
    assert whole.get_yticks().tolist() == [0, *ticks]
    labels = [label.get_text() for label in whole.get_yticklabels()]
    assert labels == ["untrained", *map(str, ticks)]
    assert (bare.get_ylim(), whole.get_ylim()) == ((size + 0.5, 0.5), (size + 0.5, -0.5))


def test_large_matrices_carry_no_numbers_and_whole_ticks(axes: Axes) -> None:
    draw_matrix(axes, np.full((20, 20), 0.5))
    assert not axes.texts
    for ticks in (axes.get_xticks(), axes.get_yticks()):
        np.testing.assert_array_equal(ticks, np.round(ticks))
