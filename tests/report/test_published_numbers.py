"""A paper's numbers next to ours, as a person reads them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from avalanche_ext.report.statistics import method_statistics
from avalanche_ext.report.table import text_table
from avalanche_ext.results.experiment import read_results
from avalanche_ext.results.record import ResultsError
from tests.results.trees import two_by_two, write_experiment, write_result


def text_of(directory: Path) -> str:
    results = read_results(directory)
    return text_table(results, method_statistics(results))


def test_published_numbers_are_shown_next_to_ours(tmp_path: Path) -> None:
    published = {
        "reference": "A paper",
        "ACC": {"ber": {"mean": 0.65, "std": 0.1}, "drl": {"mean": 0.9, "std": 0.1}},
        "forgetting": {"ber": {"mean": 0.5}},
    }
    write_experiment(tmp_path, ["ber", "drl"], [0, 1], published=published)
    for seed, last in enumerate([0.5, 0.6]):
        write_result(tmp_path, "ber", seed, two_by_two(last))
    text = text_of(tmp_path)
    table = text[text.index("Compared with A paper") :].splitlines()
    assert [re.split(r" {2,}", line) for line in table[2:5]] == [
        ["ACC", "ber", "0.725 ± 0.035", "0.650 ± 0.100", "+0.075", "+0.7"],
        ["ACC", "drl", "–", "0.900 ± 0.100", "–", "–"],
        ["forgetting", "ber", "0.350 ± 0.071", "0.500", "-0.150", "–"],
    ]


def test_published_instance_accuracy_is_shown_next_to_ours_and_explained(
    tmp_path: Path,
) -> None:
    published = {"reference": "A paper", "instance_accuracy": {"ber": {"mean": 0.65, "std": 0.1}}}
    write_experiment(tmp_path, ["ber"], [0, 1], published=published)
    for seed, last in enumerate([0.5, 0.6]):
        write_result(tmp_path, "ber", seed, two_by_two(last), test_sizes=[30, 10])
    # 0.75 * 0.5 + 0.25 * 0.9 and the same with 0.6: a mean of 0.6375.
    lines = text_of(tmp_path).splitlines()
    assert lines[-1] == "instance_accuracy  ber     0.637 ± 0.053  0.650 ± 0.100  -0.013      -0.1"
    assert (
        "instance_accuracy: accuracy over the pooled test samples of all experiences "
        "(Jin et al., 2021)."
    ) in " ".join(lines)


@pytest.mark.parametrize(("metric", "method"), [("accuracy", "ber"), ("ACC", "drl")])
def test_published_numbers_of_nothing_here_are_refused(
    tmp_path: Path, metric: str, method: str
) -> None:
    published = {"reference": "A paper", metric: {method: {"mean": 0.5, "std": 0.1}}}
    write_experiment(tmp_path, ["ber"], [0], published=published)
    write_result(tmp_path, "ber", 0, two_by_two(0.5))
    with pytest.raises(ResultsError, match=rf"published\.{metric}\.{method}: no such"):
        text_of(tmp_path)
