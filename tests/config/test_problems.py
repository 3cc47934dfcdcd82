"""All problems of a file at once, each in one line, each once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.config.cases import EXPERIMENT, experiment_with, loaded, problems_of, refusal


@pytest.mark.parametrize(
    "key", ["name", "benchmark", "model", "optimizer", "training", "seeds", "methods"]
)
def test_a_missing_section_is_named(key: str, tmp_path: Path) -> None:
    document = experiment_with()
    del document[key]
    assert problems_of(document, tmp_path) == [f"{key}: missing"]


def test_all_problems_of_a_file_are_reported_at_once(tmp_path: Path) -> None:
    text = """
    name: small
    benchmark: {name: split_digits, n_experiences: 3}
    model: {name: mlp, hidden_sizes: [100], hidden_sizes: [.nan]}
    optimizer: {name: SGD, lr: fast}
    training: {batch_size: 0}
    seeds: 2
    methods:
      ber: {plugins: [balanced_replay: {mem_size: 5}, drl: {lambda: 1}]}
      other: {strategy: avalanche:Navie}
    baseline: bre
    """
    assert problems_of(text, tmp_path) == [
        "model.hidden_sizes: duplicate key 'hidden_sizes' (on lines 4 and 4)",
        "model.hidden_sizes[0]: is .nan, but must be a finite number",
        "benchmark.n_experiences: is 3, but must divide the 10 classes of 'split_digits': "
        "1, 2, 5, 10",
        "optimizer.lr: is 'fast', but must be a number",
        "training.batch_size: is 0, but must be greater than 0",
        "methods.ber.plugins[1].drl.lambda: unknown key 'lambda' (did you mean 'lam'?)",
        "methods.ber.plugins[0].balanced_replay.mem_size: is 5, but must be at least 10: "
        "one sample for each of the 10 classes of 'split_digits'",
        "methods.other.strategy: unknown strategy 'avalanche:Navie' "
        "(did you mean 'avalanche:Naive'?)",
        "baseline: unknown method 'bre' (did you mean 'ber'?)",
    ]


def test_a_mistake_in_what_methods_share_is_reported_once(tmp_path: Path) -> None:
    document = experiment_with(
        optimizer={"name": "SGD", "lr": -1},
        training={"batch_size": 10, "epochs": 0},
        methods={"a": {"optimizer": {"momentum": 0.9}}, "b": {"training": {"batch_size": 5}}},
    )
    assert problems_of(document, tmp_path) == [
        "optimizer.lr: is -1, but must be at least 0",
        "training.epochs: is 0, but must be greater than 0",
    ]


def test_problems_of_every_kind_in_every_section_and_method_are_reported_at_once(
    tmp_path: Path,
) -> None:
    """No mistake hides another: schema, ranges, parts that do not fit, and what is refused."""
    text = """
    name: small
    benchmark: {name: split_digits, n_experiences: 4, scenario: task, order_sed: 1, train_size: 9.5}
    model: {name: mlp, hidden_sizes: [100], multi_head: false, multihead: true}
    optimizer: {name: SGD, lr: -0.1, momentun: 0.9}
    training: {batch_size: ten, iid: true}
    seeds: 2
    methods:
      a: {strategy: "avalanche:AR1", args: {nothing: 1}, plugins: [drl: {alpha: -1}, bgd: {}]}
      b: {plugins: [balanced_repaly, hal: {los: sum}]}
      c: {plugins: [mgem, "avalanche:ReplayPlugin", metric_loss: {}], optimizer: {name: SDG}}
      d: {strategy: "avalanche:SynapticIntelligence", optimizer: {momentum: -1, dampening: no}}
      e: {plugins: [mir: {n_candidates: 5}], training: {epochs: 0}, sweep: {plugins: []}}
    claims: [a > x]
    analyses: {rho: {}}
    published: {reference: A paper, rho_correlation: {ACC: 2.0}}
    """
    assert problems_of(text, tmp_path) == [
        "benchmark.order_sed: unknown key 'order_sed' (did you mean 'order_seed'?)",
        "benchmark.train_size: is 9.5, but must be an integer or null",
        "benchmark.n_experiences: is 4, but must divide the 10 classes of 'split_digits': "
        "1, 2, 5, 10",
        "model.multihead: unknown key 'multihead' (did you mean 'multi_head'?)",
        "optimizer.lr: is -0.1, but must be at least 0",
        "optimizer.momentun: unknown key 'momentun' (did you mean 'momentum'?)",
        "training.batch_size: is 'ten', but must be an integer",
        "training.iid: is true, but would mix samples of different task labels: needs a "
        "benchmark.scenario other than 'task'",
        "analyses.rho: unknown analysis 'rho' (did you mean 'rho_spectrum'?)",
        "published.rho_correlation.ACC: is 2.0, but must be at most 1",
        "methods.a.strategy: 'avalanche:AR1' cannot be used: it needs a pre-trained model of its "
        "own, which it downloads; use a script",
        "methods.a.plugins[0].drl.alpha: is -1, but must be at least 0",
        "methods.b.plugins[0]: unknown plugin 'balanced_repaly' (did you mean 'balanced_replay'?)",
        "methods.b.plugins[1].hal.los: unknown key 'los' (did you mean 'loss'?)",
        "methods.c.plugins[2].metric_loss.loss: missing, but 'metric_loss' needs it (text)",
        "methods.c.plugins[1]: 'avalanche:ReplayPlugin' cannot be combined with 'mgem': samples "
        "that one of them replays would look new to the other; keep one of them",
        "methods.c.optimizer.name: unknown optimizer 'SDG' (did you mean 'SGD'?)",
        "methods.d.strategy: 'avalanche:SynapticIntelligence' cannot be used: it is the same as "
        "avalanche:Naive bit for bit on a CPU: it stores views of the weights instead of copies, "
        "so that all importances are 0; use 'synaptic_intelligence'",
        "methods.d.optimizer.momentum: is -1, but must be at least 0",
        "methods.d.optimizer.dampening: is 'no', but must be a number",
        "methods.e.plugins[0].mir.n_candidates: is 5, but must be at least batch_size, which is 10",
        "methods.e.training.epochs: is 0, but must be greater than 0",
        "methods.e.sweep.plugins: is [], but must have at least one item",
        "claims[0]: unknown method 'x' (known: a, b, c, d)",
    ]


def test_what_a_method_must_have_for_published_numbers_is_not_hidden_by_other_problems(
    tmp_path: Path,
) -> None:
    correlations = {"reference": "A paper", "rho_correlation": {"ACC": 0.5}}
    lacking = "published.rho_correlation: needs ρ of some method: add analyses: {rho_spectrum: {}}"
    document = experiment_with(published=correlations, training={"batch_size": 0})
    wrong = "training.batch_size: is 0, but must be greater than 0"
    assert problems_of(document, tmp_path) == [wrong, lacking]
    methods = {"a": {"plugins": [{"rho_spectrum": {"layer": 3}}]}}
    document = experiment_with(published=correlations, methods=methods)
    assert len(problems_of(document, tmp_path)) == 1


@pytest.mark.parametrize(
    ("text", "found"), [("", "is empty"), ("- a", 'is ["a"]'), ("just text", "is 'just text'")]
)
def test_a_file_that_is_no_mapping_is_refused(text: str, found: str, tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    assert problems_of(text, tmp_path) == [
        f"{path}: {found}, but must be a mapping of keys to values"
    ]


def test_the_experiment_that_the_mistakes_are_made_in_is_right(tmp_path: Path) -> None:
    assert [*loaded(EXPERIMENT, tmp_path).methods] == ["naive", "replay", "drl"]


NODES = [
    (*("methods", "drl", "plugins", 1, "drl", "alpha"),),
    *[(key,) for key in EXPERIMENT],
    *[
        (key, inner)
        for key, value in EXPERIMENT.items()
        if isinstance(value, dict)
        for inner in value
    ],
    ("methods", "replay", "args"),
    ("methods", "replay", "strategy"),
    ("methods", "drl", "plugins", 0),
    ("methods", "drl", "plugins", 1, "drl"),
    ("model", "hidden_sizes", 0),
]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.sampled_from(["name", "lr", "plugins"]), inner)
    ),
    max_leaves=4,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(node=st.sampled_from(NODES), value=VALUES)
def test_whatever_stands_anywhere_is_accepted_or_refused_line_by_line(
    node: tuple[str | int, ...], value: Any, tmp_path: Path
) -> None:
    document = experiment_with()
    container: Any = document
    for key in node[:-1]:
        container = container[key]
    container[node[-1]] = value
    lines, problems = refusal(document, tmp_path)
    assert len(lines) == len(problems)
