"""Methods over several experiments, against numbers by hand, published tables and oracles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from avalanche_ext.report.duels import count_wins, duels, jeffreys_interval
from avalanche_ext.report.formats import report_on
from avalanche_ext.report.ranking import Ranking, on_left_out, ranking
from avalanche_ext.report.series import Series
from avalanche_ext.report.side_by_side import caption, side_by_side_figure
from avalanche_ext.results.experiment import ExperimentResults, read_results
from tests.oracles import statistics as oracle
from tests.results.trees import two_by_two, write_experiment, write_failure, write_result

# The columns of Demšar's (2006) Table 2: AUC of C4.5 with m = 0, with m chosen, cf chosen, both.
DEMSAR = [
    [0.763, 0.768, 0.771, 0.798],
    [0.599, 0.591, 0.590, 0.569],
    [0.954, 0.971, 0.968, 0.967],
    [0.628, 0.661, 0.654, 0.657],
    [0.882, 0.888, 0.886, 0.898],
    [0.936, 0.931, 0.916, 0.931],
    [0.661, 0.668, 0.609, 0.685],
    [0.583, 0.583, 0.563, 0.625],
    [0.775, 0.838, 0.866, 0.875],
    [1.000, 1.000, 1.000, 1.000],
    [0.940, 0.962, 0.965, 0.962],
    [0.619, 0.666, 0.614, 0.669],
    [0.972, 0.981, 0.9751, 0.975],
    [0.957, 0.978, 0.946, 0.970],
]


def write(folder: Path, accuracies: Mapping[str, Sequence[float]]) -> ExperimentResults:
    """An experiment with these final accuracies (ACC) of each method's seeds."""
    write_experiment(folder, [*accuracies], range(max(map(len, accuracies.values()))))
    for method, values in accuracies.items():
        for seed, value in enumerate(values):
            write_result(folder, method, seed, [[value, 0.0], [value, value]])
    return read_results(folder)


@pytest.fixture(scope="module")
def demsar(tmp_path_factory: pytest.TempPathFactory) -> Ranking:
    folder = tmp_path_factory.mktemp("demsar")
    names = ["plain", "m", "cf", "both"]
    found = ranking(
        [
            write(folder / str(i), {name: [value] for name, value in zip(names, row, strict=True)})
            for i, row in enumerate(DEMSAR)
        ]
    )
    assert found is not None
    return found


def test_ranks_are_demsars(demsar: Ranking) -> None:
    """He gives 3.143, 2.000, 2.893 and 1.964, p < 0.05, and a critical difference of 1.25."""
    assert demsar.experiments == 14
    assert [*demsar.ranks] == ["both", "m", "cf", "plain"]
    assert [round(rank, 3) for rank in demsar.ranks.values()] == [1.964, 2.0, 2.893, 3.143]
    assert demsar.friedman is not None
    assert demsar.friedman < 0.05
    assert demsar.critical_difference == pytest.approx(1.25, abs=0.005)
    # The largest difference, 1.179, is below the critical one: all are alike.
    assert demsar.alike == [("both", "m", "cf", "plain")]


@pytest.mark.parametrize(("k", "q"), [(3, 2.343), (4, 2.569), (5, 2.728), (7, 2.949), (10, 3.164)])
def test_the_critical_difference_uses_demsars_table_5(k: int, q: float, tmp_path: Path) -> None:
    methods = {f"m{i}": [i / 20] for i in range(k)}
    found = ranking([write(tmp_path / name, methods) for name in "ab"])
    assert found is not None
    assert found.critical_difference == pytest.approx(q * np.sqrt(k * (k + 1) / 12), rel=1e-3)


def test_friedman_is_that_of_the_definition(tmp_path: Path) -> None:
    table = [[0.9, 0.8, 0.7], [0.6, 0.9, 0.5], [0.8, 0.9, 0.7], [0.9, 0.8, 0.1]]
    experiments = [
        write(tmp_path / str(i), {name: [v] for name, v in zip("abc", row, strict=True)})
        for i, row in enumerate(table)
    ]
    found = ranking(experiments)
    assert found is not None
    expected = stats.chi2.sf(oracle.friedman_statistic(table), df=2)
    assert found.friedman == pytest.approx(expected)
    assert found.ranks == {"a": 1.5, "b": 1.5, "c": 3.0}


def test_groups_of_alike_methods_overlap_but_hold_no_other() -> None:
    found = Ranking("ACC", 9, {"a": 1.0, "b": 1.5, "c": 2.2, "d": 4.0, "e": 4.1}, 0.01, 1.0)
    assert found.alike == [("a", "b"), ("b", "c"), ("d", "e")]


def test_only_methods_of_all_experiments_are_ranked(tmp_path: Path) -> None:
    one = write(tmp_path / "one", {"a": [0.9, 0.8], "b": [0.8, 0.9], "c": [0.1]})
    other = write(tmp_path / "other", {"b": [0.5], "a": [0.5], "d": [0.9]})
    found = ranking([one, other])
    # Equal means tie, though their sums differ by rounding.
    reason = "without a finished run in some experiment"
    left_out = {"c": reason, "d": reason}
    assert found == Ranking("ACC", 2, {"a": 1.5, "b": 1.5}, None, None, left_out)
    assert on_left_out(found) == f"The ranks leave out c, d ({reason})."
    assert ranking([one]) is None
    assert ranking([one, write(tmp_path / "third", {"a": [0.5]})]) is None


def test_methods_are_ranked_over_the_seeds_that_all_of_them_share(tmp_path: Path) -> None:
    # `half` lacks the seeds with which `a` and `b` do badly; with the same seeds it is the worst.
    one = write(tmp_path / "one", {"a": [0.9, 0.8, 0.1, 0.1], "b": [0.8, 0.7], "half": [0.7, 0.6]})
    two = write(tmp_path / "two", {"a": [0.9, 0.8], "b": [0.8, 0.9, 0.1], "half": [0.6]})
    found = ranking([one, two])
    assert found is not None
    assert found.ranks == {"a": 1.0, "b": 2.0, "half": 3.0}
    assert (found.left_out, found.n_unshared) == ({}, 2 + 3)
    note = "The ranks leave out 5 runs with seeds that a ranked method lacks."
    assert on_left_out(found) == note
    assert note in " ".join(report_on([one.folder, two.folder], "markdown").split())


def test_methods_trained_iid_are_not_ranked(tmp_path: Path) -> None:
    experiments = []
    for k in range(5):
        folder = tmp_path / str(k)
        write(folder, {"a": [0.5], "b": [0.6], "c": [0.7], "joint": [0.9]})
        write_result(folder, "joint", 0, [[0.9, 0.0], [0.9, 0.9]], iid=True)
        experiments.append(read_results(folder))
    found = ranking(experiments)
    assert found is not None
    assert found.ranks == {"c": 1.0, "b": 2.0, "a": 3.0}
    assert on_left_out(found) == "The ranks leave out joint (trained iid)."
    assert " The ranks leave out joint (trained iid). Below: " in caption(experiments)
    figure = side_by_side_figure(experiments)
    assert figure is not None
    assert not [text for text in figure.axes[0].texts if "joint" in text.get_text()]


def test_without_a_shared_seed_those_with_the_most_frequent_seed_are_ranked(
    tmp_path: Path,
) -> None:
    methods = {"a": [0.5, 0.5], "late": [0.9, 0.9], "b": [0.6, 0.6]}
    one, two = write(tmp_path / "one", methods), write(tmp_path / "two", methods)
    write_failure(tmp_path / "one", "late", 0, "out of memory")
    for name in "ab":
        write_failure(tmp_path / "one", name, 1, "out of memory")
    found = ranking([read_results(one.folder), two])
    assert found is not None
    assert found.ranks == {"b": 1.0, "a": 2.0}
    assert on_left_out(found) == (
        "The ranks leave out late (without a seed in common with the others)."
    )


def test_many_methods_left_out_are_counted() -> None:
    left_out = {f"m{k}": "trained iid" for k in range(5)} | {"late": "without runs"}
    found = Ranking("ACC", 2, {"a": 1.0, "b": 2.0}, None, None, left_out, n_unshared=1)
    assert on_left_out(found) == (
        "The ranks leave out 5 methods trained iid, late (without runs) and 1 run with seeds that "
        "a ranked method lacks."
    )


def test_methods_that_tie_everywhere_are_alike(tmp_path: Path) -> None:
    methods = {name: [0.5] for name in "abc"}
    found = ranking([write(tmp_path / name, methods) for name in "xy"])
    assert found is not None
    assert found.friedman == 1.0


def test_less_forgetting_ranks_first(tmp_path: Path) -> None:
    experiments = []
    for name in ("x", "y"):
        write_experiment(tmp_path / name, ["keeps", "forgets"], [0])
        write_result(tmp_path / name, "keeps", 0, two_by_two(0.8))
        write_result(tmp_path / name, "forgets", 0, two_by_two(0.3))
        experiments.append(read_results(tmp_path / name))
    by_forgetting, by_bwt = (ranking(experiments, metric) for metric in ("forgetting", "BWT"))
    assert by_forgetting is not None
    assert by_bwt is not None
    assert by_forgetting.ranks == by_bwt.ranks == {"keeps": 1.0, "forgets": 2.0}
    assert duels(experiments, "forgets", "forgetting")["keeps"].win_probability == 1.0


def test_duels_are_over_the_pairs_of_all_experiments(tmp_path: Path) -> None:
    one = write(tmp_path / "one", {"base": [0.5, 0.5, 0.5, 0.5, 0.5], "a": [0.6, 0.5, 0.4, 0.7]})
    two = write(tmp_path / "two", {"a": [0.9, 0.9], "base": [0.6, 0.7], "only": [0.1]})
    found = duels([one, two], "base")
    assert [*found] == ["a", "only"]
    a = found["a"]
    # Differences 0.1, 0, -0.1, 0.2 in one experiment, 0.3 and 0.2 in the other.
    assert a.difference.mean == pytest.approx((0.05 + 0.25) / 2)
    assert (a.difference.n, a.n_pairs) == (2, 6)
    assert a.win_probability == pytest.approx(4.5 / 6)
    assert a.interval is None, "too few pairs"
    assert found["only"].n_pairs == 1
    assert not duels([one, two], "nobody")


@pytest.mark.parametrize(("won", "n"), [(3, 10), (4.5, 6), (9, 10)])
def test_jeffreys_interval_is_that_of_the_posterior(won: float, n: int) -> None:
    def density(p: float) -> float:
        return p ** (won - 0.5) * (1 - p) ** (n - won - 0.5)

    expected = [oracle.quantile_of_density(density, share) for share in (0.025, 0.975)]
    assert jeffreys_interval(won, n) == pytest.approx(expected, abs=1e-4)


def test_who_wins_nothing_or_everything_reaches_the_end() -> None:
    assert jeffreys_interval(0, 8)[0] == 0.0
    assert jeffreys_interval(8, 8)[1] == 1.0


def test_wins_are_counted_over_the_pairs_of_all_experiments(tmp_path: Path) -> None:
    one = write(tmp_path / "one", {"b": [0.5, 0.5], "a": [0.6, 0.5, 0.4], "c": []})
    two = write(tmp_path / "two", {"a": [0.9], "b": [0.6], "c": [0.95], "alone": [0.9]})
    third = write(tmp_path / "third", {"c": [0.5]})
    found = count_wins([one, two, third])
    assert found is not None
    assert found.names == ["c", "a", "b"]
    # Of seeds 0 and 1 of the one, a wins one and ties one; it wins the pair of the other.
    assert found.won.tolist() == [[0, 1, 1], [0, 0, 2.5], [0, 0.5, 0]]
    assert found.n_pairs.tolist() == [[0, 1, 1], [1, 0, 3], [1, 3, 0]]
    assert found.probabilities[1, 2] == pytest.approx(2.5 / 3)
    assert np.isnan(found.probabilities.diagonal()).all()
    assert count_wins([two, third]) is None


def test_the_picture_of_several_experiments_has_ranks_from_five_on(tmp_path: Path) -> None:
    methods = {name: [0.5 + k / 10] * 3 for k, name in enumerate("abc")}
    experiments = [write(tmp_path / str(i), methods) for i in range(5)]
    figure = side_by_side_figure(experiments)
    assert figure is not None
    ranks, wins = figure.axes
    assert {"c 1.00", "b 2.00", "a 3.00"} <= {text.get_text() for text in ranks.texts}
    assert [label.get_text() for label in wins.get_yticklabels()] == ["c", "b", "a"]
    above = [text for text in wins.texts if text.get_position()[0] > text.get_position()[1]]
    assert {text.get_text() for text in above} == {"1.00"}
    assert {text.get_fontweight() for text in above} == {"bold"}
    points = [line for line in wins.get_lines() if isinstance(line, Series)]
    assert points[0].texts[0] == "c beats b in 15 of 15 pairs (1.00)"
    assert "mean ranks" in caption(experiments)
    few = side_by_side_figure(experiments[:4])
    assert few is not None
    assert len(few.axes) == 1
    assert "mean ranks" not in caption(experiments[:4])
    assert side_by_side_figure(experiments[:1]) is None


def test_without_a_difference_by_friedman_all_are_one_group() -> None:
    assert Ranking("ACC", 9, {"a": 1.0, "b": 2.0, "c": 4.0}, 0.2, 0.5).alike == [("a", "b", "c")]
