"""The section `analyses`, which adds plugins that look on to every method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from avalanche_ext.config.catalogue import ANALYSES
from avalanche_ext.words import alternatives
from tests.config.cases import EXPERIMENT, experiment_with, loaded, problems_of, swept

PATH = "analyses.spectrum_analysis"
TARGET = "avalanche_ext.plugins:SpectrumAnalysisPlugin"
NAMES = alternatives(ANALYSES)
DEFAULTS = {"rank": 50, "n_samples": 1000, "kind": "sampled"}
TWICE = (
    "'spectrum_analysis' is already added to every method by the section 'analyses': "
    "keep one of them"
)


def test_every_method_has_the_plugin_last(tmp_path: Path) -> None:
    plain = loaded(EXPERIMENT, tmp_path).methods
    analysed = loaded(
        experiment_with(analyses={"spectrum_analysis": {"rank": 20}}), tmp_path
    ).methods
    assert [*analysed] == [*plain]
    for name, method in analysed.items():
        *others, last = method.plugins
        assert tuple(others) == plain[name].plugins
        assert (last.name, last.target) == ("spectrum_analysis", TARGET)
        assert last.args == {**DEFAULTS, "rank": 20}


@pytest.mark.parametrize("empty", [{}, None])
def test_an_analysis_without_arguments_has_the_defaults(empty: Any, tmp_path: Path) -> None:
    methods = loaded(experiment_with(analyses={"spectrum_analysis": empty}), tmp_path).methods
    assert [method.plugins[-1].args for method in methods.values()] == [DEFAULTS] * 3


def test_settings_of_a_sweep_have_it_as_well(tmp_path: Path) -> None:
    document = {**swept("plugins[1].drl.lam", [0.1, 0.2]), "analyses": {"spectrum_analysis": {}}}
    methods = loaded(document, tmp_path).methods
    assert [*methods] == ["naive", "drl-0.1", "drl-0.2"]
    assert {method.plugins[-1].name for method in methods.values()} == {"spectrum_analysis"}


def test_it_may_be_given_on_the_command_line(tmp_path: Path) -> None:
    overridden = loaded(EXPERIMENT, tmp_path, "analyses.spectrum_analysis.rank=7")
    assert overridden.methods["drl"].plugins[-1].args == {**DEFAULTS, "rank": 7}


def test_it_is_the_same_as_the_plugin_in_the_method(tmp_path: Path) -> None:
    by_section = loaded(
        experiment_with(methods={"m": None}, analyses={"spectrum_analysis": {"rank": 7}}), tmp_path
    )
    method = {"plugins": [{"spectrum_analysis": {"rank": 7}}]}
    by_hand = loaded(experiment_with(methods={"m": method}), tmp_path)
    assert by_section == by_hand
    assert by_section.cells()[0].hash == by_hand.cells()[0].hash


def test_results_with_and_without_are_not_taken_for_each_other(tmp_path: Path) -> None:
    sections: list[dict[str, Any]] = [
        {},
        {"analyses": {"spectrum_analysis": {}}},
        {"analyses": {"spectrum_analysis": {"n_samples": 999}}},
    ]
    hashes = {
        cell.hash
        for changed in sections
        for cell in loaded(experiment_with(**changed), tmp_path).cells()
    }
    assert len(hashes) == 3 * 9


def test_with_bgd_it_is_accepted(tmp_path: Path) -> None:
    methods = {"m": {"plugins": ["bgd"]}}
    plugins = (
        loaded(experiment_with(methods=methods, analyses={"spectrum_analysis": None}), tmp_path)
        .methods["m"]
        .plugins
    )
    assert [plugin.name for plugin in plugins] == ["bgd", "spectrum_analysis"]


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ({"rnak": 5}, f"{PATH}.rnak: unknown key 'rnak' (did you mean 'rank'?)"),
        ({"rank": 0}, f"{PATH}.rank: is 0, but must be greater than 0"),
        (
            {"rank": "50"},
            f"{PATH}.rank: is '50', but must be an integer (remove the quotes)",
        ),
        (
            {"n_samples": 0.5},
            f"{PATH}.n_samples: is 0.5, but must be an integer",
        ),
        (
            {"kind": "samplde"},
            f"{PATH}.kind: is 'samplde', but must be 'true', 'sampled' or 'empirical' "
            "(did you mean 'sampled'?)",
        ),
        (
            {"kind": True},
            f"{PATH}.kind: is true, but must be 'true', 'sampled' or 'empirical' "
            "(put it in quotes)",
        ),
        (
            {"kind": False},
            f"{PATH}.kind: is false, but must be 'true', 'sampled' or 'empirical'",
        ),
        (
            {"seed": 3},
            f"{PATH}.seed: 'seed' cannot be set here: it comes from seeds",
        ),
        (
            True,
            f"{PATH}: is true, but must be a mapping of the arguments of 'spectrum_analysis', "
            "which may be empty",
        ),
    ],
)
def test_a_mistake_is_named_once(section: Any, line: str, tmp_path: Path) -> None:
    assert problems_of(experiment_with(analyses={"spectrum_analysis": section}), tmp_path) == [line]


def test_a_method_that_lists_it_as_well_is_refused(tmp_path: Path) -> None:
    methods = {"a": None, "b": {"plugins": ["drl", {"spectrum_analysis": {"rank": 5}}]}}
    document = experiment_with(methods=methods, analyses={"spectrum_analysis": None})
    assert problems_of(document, tmp_path) == [f"methods.b.plugins[1]: {TWICE}"]


@pytest.mark.parametrize("section", [None, {}])
def test_an_empty_section_adds_nothing(section: Any, tmp_path: Path) -> None:
    assert loaded(experiment_with(analyses=section), tmp_path) == loaded(EXPERIMENT, tmp_path)


@pytest.mark.parametrize(
    ("section", "start"),
    [
        (
            {"spectrum_analysys": {}},
            "analyses.spectrum_analysys: unknown analysis 'spectrum_analysys' "
            "(did you mean 'spectrum_analysis'?)",
        ),
        ({"drl": {}}, "analyses.drl: unknown analysis 'drl'"),
        (False, f"analyses: is false, but must be a mapping of {NAMES} to arguments"),
        (
            ["spectrum_analysis"],
            f'analyses: is ["spectrum_analysis"], but must be a mapping of {NAMES} to arguments',
        ),
    ],
)
def test_what_is_no_analysis_is_refused(section: Any, start: str, tmp_path: Path) -> None:
    (line,) = problems_of(experiment_with(analyses=section), tmp_path)
    assert line.startswith(start)


def test_an_analysis_that_a_method_lists_twice_is_refused(tmp_path: Path) -> None:
    methods = {"m": {"plugins": ["rho_spectrum", {"rho_spectrum": {"n_samples": 5}}]}}
    assert problems_of(experiment_with(methods=methods), tmp_path) == [
        "methods.m.plugins[1]: 'rho_spectrum' is listed twice: keep one of them"
    ]


def test_an_analysis_of_a_stream_that_is_not_evaluated_is_refused(tmp_path: Path) -> None:
    wrong = "is 'train', but must be 'test', the one stream that is evaluated"
    analyses = {"rho_spectrum": {"stream": "train"}}
    document = experiment_with(analyses=analyses)
    assert problems_of(document, tmp_path) == [f"analyses.rho_spectrum.stream: {wrong}"]
    methods = {"m": {"plugins": [analyses]}}
    document = experiment_with(methods=methods)
    path = "methods.m.plugins[0].rho_spectrum.stream"
    assert problems_of(document, tmp_path) == [f"{path}: {wrong}"]


def test_published_correlations_need_what_is_correlated(tmp_path: Path) -> None:
    published = {"reference": "A paper", "rho_correlation": {"ACC": 0.5}}
    document = experiment_with(published=published)
    assert problems_of(document, tmp_path) == [
        "published.rho_correlation: needs ρ of some method: add analyses: {rho_spectrum: {}}"
    ]
    loaded(experiment_with(published=published, analyses={"rho_spectrum": {}}), tmp_path)
