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


def test_each_number_stands_in_its_cell_and_can_be_read(axes: Axes) -> None:
    draw_matrix(axes, [[0.95, 0.1], [0.5, 0.8]])
    texts = {text.get_position(): (text.get_text(), text.get_color()) for text in axes.texts}
    assert texts == {
        (0, 0): ("0.95", "black"),
        (1, 0): ("0.10", "white"),
        (0, 1): ("0.50", "white"),
        (1, 1): ("0.80", "black"),
    }


def test_large_matrices_carry_no_numbers_and_whole_ticks(axes: Axes) -> None:
    draw_matrix(axes, np.full((20, 20), 0.5))
    assert not axes.texts
    for ticks in (axes.get_xticks(), axes.get_yticks()):
        np.testing.assert_array_equal(ticks, np.round(ticks))
