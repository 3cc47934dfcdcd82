"""The page without a browser: what is in it, and what it needs."""

from __future__ import annotations

import re
import time
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml

from avalanche_ext.cli import main
from avalanche_ext.report.page import write_page
from avalanche_ext.report.page.summary import sentences
from avalanche_ext.report.statistics import method_statistics
from avalanche_ext.results.experiment import read_results
from avalanche_ext.results.record import ResultsError
from avalanche_ext.results.tune import Choice, Tried
from tests.results.trees import two_by_two, write_experiment, write_failure, write_result


class Page(HTMLParser):
    """The texts of a page by element, and the resources it loads."""

    LOADING = ("src", "href", "data", "action", "srcset", "poster", "xlink:href")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.ids: list[str] = []
        self._open = ""
        self.source = path.read_text("utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._open = tag
        for name, value in attributes:
            if name == "id" and value:
                self.ids.append(value)
            elif name in self.LOADING and value and not value.startswith("#"):
                self.loaded.append(value)

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.setdefault(self._open, []).append(data.strip())

    @property
    def text(self) -> str:
        return "\n".join(text for texts in self.texts.values() for text in texts)


def write_small(directory: Path, **changes: object) -> None:
    write_experiment(directory, ["ber", "drl"], range(5), baseline="ber")
    for seed in range(5):
        write_result(directory, "ber", seed, two_by_two(0.5 + seed / 100))
        write_result(directory, "drl", seed, two_by_two(0.7 + seed**2 / 500), **changes)


def test_the_command_writes_one_page_that_loads_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        write_small(tmp_path / name)
    folders = [str(tmp_path / name) for name in ("one", "two")]
    assert main(["report", *folders, "--format", "html"]) == 0
    path = tmp_path / "one" / "side_by_side.html"
    assert str(path) in capsys.readouterr().out
    assert [*tmp_path.rglob("*.html")] == [path]
    page = Page(path)
    assert {*page.loaded} == {"data:,"}
    assert not re.findall(r"url\((?!#)|@import|fetch\(|XMLHttpRequest|import\(", page.source)
    assert len(page.ids) == len({*page.ids})
    first = path.read_bytes()
    write_page(folders)
    assert path.read_bytes() == first


def test_a_browser_without_light_dark_has_the_light_colours(tmp_path: Path) -> None:
    write_small(tmp_path)
    source = Page(write_page([tmp_path])).source
    plain, _, rest = source.partition("@supports (color: light-dark(")
    defined = {*re.findall(r"--(\w+): #", plain)}
    assert {*re.findall(r"var\(--(\w+)\)", source)} <= defined
    assert defined == {*re.findall(r"--(\w+): light-dark\(#", rest)}


def test_several_experiments_share_a_picture_and_leave_the_first_ones_page(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_small(tmp_path / name)
    own = write_page([tmp_path / "one"]).read_bytes()
    page = Page(write_page([tmp_path / "one", tmp_path / "two"]))
    assert (tmp_path / "one" / "report.html").read_bytes() == own
    assert "all-side_by_side" in page.ids
    assert "drl beats ber in 10 of 10 pairs (1.00)" in page.source


def test_a_method_has_one_colour_on_a_page_of_several_experiments(tmp_path: Path) -> None:
    for name, methods in (("one", ["a", "b", "c"]), ("two", ["c", "d", "b"])):
        write_experiment(tmp_path / name, methods, [0])
        for method in methods:
            write_result(tmp_path / name, method, 0, two_by_two(0.5))
    source = Page(write_page([tmp_path / "one", tmp_path / "two"])).source
    colours = re.findall(r'<span class="swatch c(\d)"></span>(\w)<', source)
    assert colours == [("0", "a"), ("1", "b"), ("2", "c"), ("2", "c"), ("3", "d"), ("1", "b")]
    _, *pictures = re.findall(r'<figure class="picture" id="experiment-2.*?</figure>', source, re.S)
    assert pictures
    used = {*re.findall(r"var\(--c(\d)\)", "".join(pictures))}
    assert "0" not in used
    assert {"1", "2", "3"} <= used


def test_names_and_errors_are_texts_wherever_they_stand(tmp_path: Path) -> None:
    name = "</script><b>&"
    write_experiment(tmp_path, ["a", name.replace("/", "")], [0, 1])
    write_result(tmp_path, "a", 0, two_by_two(0.5))
    write_result(tmp_path, name.replace("/", ""), 0, two_by_two(0.5))
    write_failure(tmp_path, "a", 1, "<img src=x onerror=alert(1)>")
    page = Page(write_page([tmp_path]))
    assert "b" not in page.texts
    assert {*page.loaded} == {"data:,"}
    assert "a, seed 1: <img src=x onerror=alert(1)>" in page.text


def test_a_half_finished_grid_says_what_is_missing(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["ber", "drl", "er"], [0, 1], baseline="ber")
    write_result(tmp_path, "ber", 0, two_by_two(0.5))
    write_failure(tmp_path, "drl", 0, "out of memory")
    page = Page(write_page([tmp_path]))
    assert "1 of 6 runs finished" in page.text
    assert "drl, seed 0: out of memory" in page.text
    assert "ber, drl: seed 1" in page.text
    assert "er: seeds 0, 1" in page.text
    write_experiment(tmp_path / "none", ["ber"], [0])
    assert "No run has finished yet." in Page(write_page([tmp_path / "none"])).text


def test_what_is_measured_on_validation_is_labelled(tmp_path: Path) -> None:
    write_small(tmp_path)
    assert "VALIDATION" not in Page(write_page([tmp_path])).text
    record = yaml.safe_load((tmp_path / "record.yaml").read_text())
    (tmp_path / "record.yaml").write_text(yaml.safe_dump({**record, "split": "validation"}))
    page = Page(write_page([tmp_path]))
    assert "All accuracies are on held-out validation samples" in page.text
    assert "ACC after the last experience (VALIDATION)" in page.text


def test_configurations_are_divided_into_what_methods_share_and_what_they_do_not(
    tmp_path: Path,
) -> None:
    write_small(tmp_path)
    for method, mem_size in (("ber", 100), ("drl", 200)):
        config = f"training:\n  epochs: 1\nplugins:\n- replay:\n    mem_size: {mem_size}\n"
        (tmp_path / method / "seed-0" / "config.yaml").write_text(config)
    pre = Page(write_page([tmp_path])).texts["pre"]
    assert "training:\n  epochs: 1" in pre
    assert "plugins:\n- replay:\n    mem_size: 100" in pre
    assert "plugins:\n- replay:\n    mem_size: 200" in pre


def test_versions_that_runs_do_not_share_are_counted(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["a"], [0, 1, 2])
    for seed, version in enumerate(["2.6", "2.7", "2.7"]):
        write_result(tmp_path, "a", seed, two_by_two(0.5), versions={"torch": version})
    assert "2.6 in 1 runs, 2.7 in 2 runs" in Page(write_page([tmp_path])).text


def summary(directory: Path) -> list[str]:
    results = read_results(directory)
    return sentences(results, method_statistics(results))


def test_the_summary_begins_with_what_beats_the_baseline_and_by_how_much(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["ber", "good", "same", "bad"], range(5), baseline="ber")
    noise = np.array([0.0, 0.02, 0.01, 0.03, 0.015])
    for seed in range(5):
        for method, shift in (("ber", 0.0), ("good", 0.3), ("bad", -0.3)):
            extra = 0.0 if method == "ber" else noise[seed]
            write_result(tmp_path, method, seed, two_by_two(0.5 + shift + extra))
        write_result(tmp_path, "same", seed, two_by_two(0.5 + (-1) ** seed * noise[seed]))
    better, unsure, worse, *_, best = summary(tmp_path)
    assert re.fullmatch(
        r"1 of 3 methods beats ber in ACC: good by 0\.158 \(interval \+0\.15\d to \+0\.16\d, "
        r"p < 0\.001, higher for 5 of 5 seeds\)\.",
        better,
    )
    assert re.fullmatch(
        r"Not significantly different from ber: same \([-+]0\.00\d, p = 0\.\d+\)\.", unsure
    )
    assert worse.startswith("1 of 3 methods is worse: bad by 0.143 (interval -0.149 to -0.13")
    assert worse.endswith("lower for 5 of 5 seeds).")
    assert best.startswith("The highest mean ACC is good's, 0.858 ±")


def test_the_summary_says_where_nothing_is_tested_or_seeds_are_few(tmp_path: Path) -> None:
    write_experiment(tmp_path / "none", ["a"], [0])
    write_result(tmp_path / "none", "a", 0, two_by_two(0.5))
    assert summary(tmp_path / "none")[0].startswith("The YAML names no baseline")
    write_experiment(tmp_path / "few", ["a", "b"], [0, 1], baseline="a")
    for seed in (0, 1):
        write_result(tmp_path / "few", "a", seed, two_by_two(0.5))
        write_result(tmp_path / "few", "b", seed, two_by_two(0.6 + seed / 10))
    found = summary(tmp_path / "few")
    assert found[0] == "b does not significantly beat a in ACC."
    assert any(sentence.startswith("Caution: with only 2 seeds, the tests") for sentence in found)
    write_experiment(tmp_path / "alike", ["a", "b"], [0, 1], baseline="a")
    for seed in (0, 1):
        write_result(tmp_path / "alike", "a", seed, two_by_two(0.5))
        write_result(tmp_path / "alike", "b", seed, two_by_two(0.8 + seed / 1000))
    assert summary(tmp_path / "alike")[0] == "b does not significantly beat a in ACC."
    write_experiment(tmp_path / "one", ["a", "b"], [0], baseline="a")
    for method in ("a", "b"):
        write_result(tmp_path / "one", method, 0, two_by_two(0.5))
    assert summary(tmp_path / "one") == [
        "Not tested: b. A test needs at least two seeds in common with a, and differences that "
        "vary.",
        "The highest mean ACC is a's, 0.700.",
    ]


def test_the_summary_of_a_running_experiment_names_no_best_of_unlike_seeds(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["naive", "er", "drl"], [0, 1], baseline="naive")
    for method, lasts in {"naive": [0.2, 0.3], "er": [0.8], "drl": [0.7]}.items():
        for seed, last in enumerate(lasts):
            write_result(tmp_path, method, seed, two_by_two(last))
    said = "The highest mean ACC among methods run with the same seeds is er's, 0.850; naive has"
    assert any(sentence.startswith(said) for sentence in summary(tmp_path))
    (tmp_path / "drl/seed-0/result.json").unlink()
    assert "All methods ran different seeds, so none is called the best." in summary(tmp_path)
    write_experiment(tmp_path, ["gone", "naive", "er"], [0, 1], baseline="gone")
    assert "No tests: the baseline gone has no finished run." in summary(tmp_path)


def test_chosen_hyper_parameters_have_a_table_and_a_sentence(tmp_path: Path) -> None:
    write_small(tmp_path)
    tried = {
        f"drl-{lr}": Tried({"optimizer.lr": lr}, {7: 0.5 + lr, 8: 0.6 + lr}) for lr in (0.1, 0.2)
    }
    choice = Choice(
        "drl", "ACC", 1, 50, "grid", [7, 8], {"optimizer.lr": [0.1, 0.2]}, tried, "drl-0.2"
    )
    record = yaml.safe_load((tmp_path / "record.yaml").read_text())
    record["choices"] = [asdict(choice)]
    (tmp_path / "record.yaml").write_text(yaml.safe_dump(record))
    assert summary(tmp_path)[-1].startswith("The hyper-parameters of drl were chosen on held-out")
    page = Page(write_page([tmp_path]))
    assert [text for text in page.texts["caption"] if "VALIDATION" in text]
    cells = page.texts["td"]
    place = cells.index("lr 0.2")
    assert cells[place : place + 5] == [
        "lr 0.2", "0.750 ± 0.071", "+0.100 ± 0.000", "lr 0.1", "2",
    ]  # fmt: skip
    assert "Warning: drl's lr is the largest value tried (0.1, 0.2)" in page.text


def test_of_swept_methods_the_summary_warns(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["a-1", "a-2"], [0], sweeps={"a": ("lam", {"a-1": 1, "a-2": 2})})
    write_result(tmp_path, "a-1", 0, two_by_two(0.5))
    assert "so its accuracy is optimistic" in summary(tmp_path)[-1]


def test_a_folder_that_is_no_experiment_is_named_and_an_old_page_stays(tmp_path: Path) -> None:
    write_small(tmp_path / "exp")
    path = write_page([tmp_path / "exp"])
    before = path.read_bytes()
    with pytest.raises(ResultsError, match="nothing here"):
        write_page([tmp_path / "exp", tmp_path / "nothing here"])
    assert path.read_bytes() == before


def test_a_thousand_results_fit_on_a_page_of_six_megabytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names, length = [f"method-{k}" for k in range(50)], 20
    write_experiment(tmp_path, names, range(20), baseline=names[0])
    for name in names:
        for seed in range(20):
            write_result(tmp_path, name, seed, rng.random((length, length)).round(4).tolist())
    start = time.process_time()
    path = write_page([tmp_path])
    seconds = time.process_time() - start
    assert path.stat().st_size < 6e6
    assert seconds < 5.0  # Of the processor, which other programs do not lengthen.
    assert len(Page(path).texts["td"]) > 1000
