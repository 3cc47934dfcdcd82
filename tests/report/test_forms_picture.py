"""Forms of the Fisher along the path of training: the table, and the picture read from its axes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from avalanche_ext.report.forms import by_iteration, forms_text
from avalanche_ext.report.forms_picture import forms_figure
from avalanche_ext.results.exhibits import FisherForms
from avalanche_ext.results.experiment import Exhibits

NAN = math.nan
ARRAYS = {
    "experience": np.array([0, 1, 2]),
    "form": np.array(["diagonal", "Kronecker"]),
    "trace": np.ones((3, 2)),
    "eigenvalue_error": np.zeros((3, 2)),
    "iteration": np.array([[5.0, 10.0], [5.0, 10.0], [NAN, NAN]]),
    "true": np.array([[2.0, 4.0], [4.0, 0.0], [NAN, NAN]]),
    "estimated": np.array(
        [[[1.0, 1.0], [2.0, 2.0]], [[1.0, 1.0], [4.0, 0.0]], [[NAN, NAN], [NAN, NAN]]]
    ),
}
ARRAYS |= {"true_sum": 2 * ARRAYS["true"], "estimated_sum": ARRAYS["estimated"]}


def test_ratios_are_those_of_points_where_the_fisher_sees_something() -> None:
    found = by_iteration({0: FisherForms.from_arrays(ARRAYS)})
    assert found["diagonal"] == {5: [0.5, 0.25], 10: [0.25]}
    assert found["Kronecker"] == {5: [1.0, 1.0], 10: [0.5]}
    later = {**ARRAYS, "iteration": np.array([[5.0, 10.0], [7.0, 14.0], [NAN, NAN]])}
    of_sum = by_iteration({0: FisherForms.from_arrays(later)}, is_sum=True)
    assert of_sum == {"diagonal": {7: [0.125]}, "Kronecker": {7: [0.5]}}, "without the first"


def test_lines_are_medians_over_experiences_and_seeds() -> None:
    run = FisherForms.from_arrays(ARRAYS)
    figure = forms_figure(Exhibits({"ewc": {0: run, 1: run}}))
    assert figure is not None
    axes = figure.axes[0]
    lines = {line.get_label(): [*line.get_ydata()] for line in axes.get_lines()}
    assert lines["diagonal"] == [0.375, 0.25]
    assert lines["Kronecker"] == [1.0, 0.5]
    assert axes.get_yscale() == "log"


def test_the_table_has_medians_and_their_range_over_iterations() -> None:
    arrays = {**ARRAYS, "trace": np.array([[1.0, 0.5], [1.0, 0.5], [1.0, 0.8]])}
    text = forms_text(Exhibits({"ewc": {0: FisherForms.from_arrays(arrays)}}), ["Best on test"])
    rows = [line.split("  ") for line in text.splitlines()]
    cells = [[cell.strip() for cell in row if cell] for row in rows if row[0] == "ewc"]
    one, zero = "1.000 ± 0.000", "0.000 ± 0.000"
    assert cells == [
        ["ewc", "diagonal", one, zero, "0.31 (0.25 to 0.38)", "0.12 (0.12 to 0.12)"],
        ["ewc", "Kronecker", "0.600 ± 0.173", zero, "0.75 (0.50 to 1.00)", "0.50 (0.50 to 0.50)"],
    ]
    assert "Best on test." in text
    assert forms_text(Exhibits()) == ""


def test_there_is_none_without_a_path() -> None:
    empty = {**ARRAYS, "iteration": np.zeros((3, 0)), "true": np.zeros((3, 0))}
    empty |= {"true_sum": empty["true"], "estimated": np.zeros((3, 2, 0))}
    empty["estimated_sum"] = empty["estimated"]
    run = FisherForms.from_arrays(empty)
    assert forms_figure(Exhibits({"ewc": {0: run}})) is None
    assert forms_figure(Exhibits()) is None


@pytest.mark.parametrize("name", ["true", "estimated", "trace", "true_sum", "estimated_sum"])
def test_arrays_of_other_shapes_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        FisherForms.from_arrays({**ARRAYS, name: ARRAYS[name][:, :1]})
