"""The report says when the runs of a table come from different versions of packages."""

from pathlib import Path

from avalanche_ext.report import write_report
from tests.results.trees import two_by_two, write_experiment, write_result


def report(tmp_path: Path, versions: dict[tuple[str, int], dict[str, str]]) -> str:
    folder = tmp_path / "exp"
    methods = [*dict.fromkeys(name for name, _ in versions)]
    write_experiment(folder, methods, sorted({seed for _, seed in versions}))
    for (name, seed), each in versions.items():
        write_result(folder, name, seed, two_by_two(0.5), versions=each)
    return write_report(folder)


def test_versions_that_runs_do_not_share_are_named_with_their_methods(tmp_path: Path) -> None:
    old, new = {"torch": "2.6.0", "numpy": "2.1"}, {"torch": "2.7.1", "numpy": "2.1"}
    text = report(tmp_path, {("er", 0): old, ("er", 1): new, ("drl", 0): new, ("drl", 1): {}})
    assert (
        "Runs used different package versions (repeat a method's runs with --rerun METHOD):\n"
        "  torch 2.6.0 in 1 run: er\n"
        "  torch 2.7.1 in 2 runs: er, drl\n"
    ) in text
    assert "numpy" not in text


def test_a_table_of_one_version_says_nothing(tmp_path: Path) -> None:
    same = {"torch": "2.6.0"}
    assert "versions" not in report(tmp_path, {("er", 0): same, ("drl", 0): same, ("drl", 1): {}})
