"""What a user reads who mistyped something: one line a problem, with path, value, right word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avalanche_ext.config import ConfigError, catalogue
from tests.config.cases import EXPERIMENT, experiment_with, loaded, problems_of

LONG = "x" * 200


def method(**section: Any) -> dict[str, Any]:
    return experiment_with(methods={"m": section})


def plugins(*items: Any) -> dict[str, Any]:
    return method(plugins=[*items])


def published(**section: Any) -> dict[str, Any]:
    return experiment_with(published={"reference": "a paper", **section})


@pytest.mark.parametrize(
    ("document", "line"),
    [
        # The document.
        ({**EXPERIMENT, "sedes": 3}, "sedes: unknown key 'sedes' (did you mean 'seeds'?)"),
        (
            experiment_with(name="a b"),
            "name: is 'a b', but names a folder: letters, digits, '_', '-' and '.', "
            "beginning with none of the last two",
        ),
        (
            experiment_with(name=".."),
            "name: is '..', but names a folder: letters, digits, '_', '-' and '.', "
            "beginning with none of the last two",
        ),
        (experiment_with(name=3), "name: is 3, but must be text"),
        (experiment_with(seeds=0), "seeds: is 0, but must be greater than 0"),
        (experiment_with(seeds=True), "seeds: is true, but must be an integer or a list"),
        (
            experiment_with(seeds="5"),
            "seeds: is '5', but must be an integer or a list (remove the quotes)",
        ),
        (experiment_with(seeds=[]), "seeds: is [], but must be at least 1 long"),
        (
            experiment_with(seeds=[2**32]),
            "seeds[0]: is 4294967296, but must be less than 4294967296",
        ),
        (experiment_with(seeds=[0, -1]), "seeds[1]: is -1, but must be at least 0"),
        (
            experiment_with(seeds=[0, "1"]),
            "seeds[1]: is '1', but must be an integer (remove the quotes)",
        ),
        (experiment_with(seeds=[2, 1, 2]), "seeds: has 2 more than once"),
        (experiment_with(methods={}), "methods: is {}, but must be at least 1 long"),
        (
            experiment_with(methods=["ber"]),
            'methods: is ["ber"], but must be a mapping of names to values',
        ),
        (
            experiment_with(methods={"a/b": None}),
            "methods.a/b: is 'a/b', but names a folder: letters, digits, '_', '-' and '.', "
            "beginning with none of the last two",
        ),
        (
            experiment_with(baseline="naiv"),
            "baseline: unknown method 'naiv' (did you mean 'naive'?)",
        ),
        (experiment_with(baseline="x"), "baseline: unknown method 'x' (known: naive, replay, drl)"),
        # Training, wandb.
        (
            experiment_with(training=None),
            "training: is null, but must be a mapping of names to values",
        ),
        (experiment_with(training={}), "training.batch_size: missing"),
        (
            experiment_with(training={"batch_size": 0}),
            "training.batch_size: is 0, but must be greater than 0",
        ),
        (
            experiment_with(training={"batch_size": 10, "epohcs": 2}),
            "training.epohcs: unknown key 'epohcs' (did you mean 'epochs'?)",
        ),
        (
            experiment_with(training={"batch_size": 10, "shuffle": "no"}),
            "training.shuffle: is 'no', but must be true or false",
        ),
        (
            experiment_with(training={"batch_size": 10, "device": "gpu"}),
            "training.device: is 'gpu', but must be 'cpu', 'cuda' or 'cuda:<n>'",
        ),
        (
            experiment_with(wandb={"mode": "ofline"}),
            "wandb.mode: is 'ofline', but must be 'offline', 'online' or 'disabled' "
            "(did you mean 'offline'?)",
        ),
        (
            experiment_with(wandb="offline"),
            "wandb: is 'offline', but must be a mapping of names to values",
        ),
        (experiment_with(wandb=False), "wandb: is false, but must be a mapping of names to values"),
        # Components.
        (
            experiment_with(benchmark="split_digit"),
            "benchmark: unknown benchmark 'split_digit' (did you mean 'split_digits'?)",
        ),
        (
            experiment_with(benchmark={"name": "split_digits", "n_experience": 5}),
            "benchmark.n_experience: unknown key 'n_experience' (did you mean 'n_experiences'?)",
        ),
        (
            experiment_with(benchmark={"name": "split_digits", "seed": 1}),
            "benchmark.seed: 'seed' cannot be set here: it comes from seeds",
        ),
        (
            experiment_with(benchmark={"name": "split_digits", "order_seed": "sed"}),
            "benchmark.order_seed: is 'sed', but must be an integer or 'seed' or null "
            "(did you mean 'seed'?)",
        ),
        (
            experiment_with(benchmark=5),
            "benchmark: is 5, but must be a mapping with the benchmark's name and arguments",
        ),
        (
            experiment_with(model={"hidden_sizes": [100]}),
            "model.name: missing, must be one of mlp, slim_resnet18, simple_cnn",
        ),
        (
            experiment_with(model={"name": 3, "hidden_sizes": [100]}),
            "model.name: is 3, but must be one of mlp, slim_resnet18, simple_cnn",
        ),
        (
            experiment_with(model="mlp"),
            "model.hidden_sizes: missing, but 'mlp' needs it (list of integer > 0)",
        ),
        (
            experiment_with(model={"name": "mlp", "hidden_sizes": [100, 0]}),
            "model.hidden_sizes[1]: is 0, but must be greater than 0",
        ),
        (
            experiment_with(model={"name": "mlp", "hidden_sizes": 100}),
            "model.hidden_sizes: is 100, but must be a list",
        ),
        (
            experiment_with(optimizer={"name": "sgd", "lr": 0.1}),
            "optimizer.name: unknown optimizer 'sgd' (did you mean 'SGD'?)",
        ),
        (
            experiment_with(optimizer={"name": "SGD", "lr": "0.1"}),
            "optimizer.lr: is '0.1', but must be a number (remove the quotes)",
        ),
        (
            experiment_with(optimizer={"name": "SGD", "lr": True}),
            "optimizer.lr: is true, but must be a number",
        ),
        (
            experiment_with(optimizer={"name": "Adam", "betas": [0.9]}),
            "optimizer.betas[1]: missing",
        ),
        # Methods.
        (method(plugin=[]), "methods.m.plugin: unknown key 'plugin' (did you mean 'plugins'?)"),
        (
            experiment_with(methods={"m": 3}),
            "methods.m: is 3, but must be a mapping of names to values",
        ),
        (
            method(plugins={"drl": {}}),
            'methods.m.plugins: is {"drl": {}}, but must be a list',
        ),
        (
            method(strategy="Naive"),
            "methods.m.strategy: unknown strategy 'Naive' (did you mean 'avalanche:Naive'?)",
        ),
        (
            method(strategy="drl"),
            "methods.m.strategy: 'drl' is a plugin, not a strategy: "
            "plugins go into the method's list 'plugins'",
        ),
        (
            method(strategy="avalanche:Replay", args={"mem_size": 1.5}),
            "methods.m.args.mem_size: is 1.5, but must be an integer",
        ),
        (
            method(strategy="avalanche:EWC"),
            "methods.m.args.ewc_lambda: missing, but 'avalanche:EWC' needs it (number)",
        ),
        (
            method(args={"mem_size": 3}),
            "methods.m.args.mem_size: unknown key 'mem_size' (it takes none)",
        ),
        (
            method(args={"train_mb_size": 3}),
            "methods.m.args.train_mb_size: 'train_mb_size' cannot be set here: "
            "it comes from training.batch_size",
        ),
        (
            method(args={"criterion": "mse"}),
            "methods.m.args.criterion: 'criterion' cannot be set here",
        ),
        (
            method(
                strategy="avalanche:ICaRL",
                args={"memory_size": 1, "buffer_transform": None, "fixed_memory": True},
            ),
            "methods.m.strategy: 'avalanche:ICaRL' cannot be built from a YAML: "
            "it needs Python objects for 'feature_extractor', 'classifier'",
        ),
        # Plugins.
        (
            plugins("balanced_repaly"),
            "methods.m.plugins[0]: unknown plugin 'balanced_repaly' "
            "(did you mean 'balanced_replay'?)",
        ),
        (
            plugins("qqq"),
            "methods.m.plugins[0]: unknown plugin 'qqq' "
            f"(known: {', '.join(catalogue.OURS['plugin'])}, avalanche:<class name>)",
        ),
        (
            plugins("avalanche:Replay"),
            "methods.m.plugins[0]: 'avalanche:Replay' is a strategy, not a plugin: "
            "strategies go into the method's key 'strategy'",
        ),
        (
            plugins("balanced_replay", {"drl": {"alhpa": 2}}),
            "methods.m.plugins[1].drl.alhpa: unknown key 'alhpa' (did you mean 'alpha'?)",
        ),
        (
            plugins({"drl": {"alpha": -1}}),
            "methods.m.plugins[0].drl.alpha: is -1, but must be at least 0",
        ),
        (
            plugins({"drl": {"normalisation": "pair"}}),
            "methods.m.plugins[0].drl.normalisation: is 'pair', but must be 'batch' or 'pairs' "
            "(did you mean 'pairs'?)",
        ),
        (
            plugins({"balanced_replay": {"buffer": "ring"}}),
            "methods.m.plugins[0].balanced_replay.buffer: "
            "'buffer' takes a Python object (ExemplarsBuffer | None), not a YAML value",
        ),
        (
            plugins({"drl": 2}),
            "methods.m.plugins[0].drl: is 2, but must be a mapping of arguments",
        ),
        (
            plugins({"drl": None, "alpha": 2}),
            "methods.m.plugins[0]: has the keys 'drl', 'alpha': "
            "indent a plugin's arguments below its name",
        ),
        (
            plugins({"drl": None, "balanced_replay": None}),
            "methods.m.plugins[0]: has the keys 'drl', 'balanced_replay': "
            "begin each plugin with its own '-'",
        ),
        (
            plugins({"name": "drl", "alpha": 2}),
            "methods.m.plugins[0]: has the keys 'name', 'alpha': "
            "write a plugin as its name followed by its arguments",
        ),
        (
            plugins(3),
            "methods.m.plugins[0]: is 3, but must be a plugin's name, or its name and arguments",
        ),
        # A method's own optimizer and training.
        (
            method(optimizer={"lr": "fast"}),
            "methods.m.optimizer.lr: is 'fast', but must be a number",
        ),
        (
            method(optimizer={"name": "Adam", "momentum": 0.9}),
            "methods.m.optimizer.momentum: unknown key 'momentum' (known: lr, betas, eps, "
            "weight_decay, amsgrad, foreach, maximize, capturable, differentiable, fused, "
            "decoupled_weight_decay)",
        ),
        (
            method(training={"epochs": 0}),
            "methods.m.training.epochs: is 0, but must be greater than 0",
        ),
        # A paper's numbers.
        (
            published(ACC={"drl": {"mean": 88.2, "std": 0.6}}),
            "published.ACC.drl.mean: is 88.2, but must be at most 1",
        ),
        (
            published(ACC={"drl": {"mean": 0.8, "sdt": 0.1}}),
            "published.ACC.drl.std: missing",
        ),
        (
            published(ACC={"drl": {"mean": 0.8, "std": 0.1, "n": 3}}),
            "published.ACC.drl.n: unknown key 'n' (known: mean, std)",
        ),
        (
            published(acc={}),
            "published.acc: unknown key 'acc' (did you mean 'ACC'?)",
        ),
        (
            published(BWT={"dlr": {"mean": -0.1, "std": 0.1}}),
            "published.BWT.dlr: unknown method 'dlr' (did you mean 'drl'?)",
        ),
        # Long and odd values stay on one line.
        (
            experiment_with(seeds=LONG),
            f"seeds: is '{'x' * 56}..., but must be an integer or a list",
        ),
        (experiment_with(seeds="a\nb"), r"seeds: is 'a\nb', but must be an integer or a list"),
    ],
)
def test_a_mistake_is_named_with_path_value_and_right_word(
    document: dict[str, Any], line: str, tmp_path: Path
) -> None:
    assert line in "\n".join(problems_of(document, tmp_path)).splitlines()
    # Nothing else is reported, unless leaving a key out makes a second mistake of it.
    if not line.endswith("missing"):
        assert problems_of(document, tmp_path) == [line]


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
        "optimizer.lr: is -1.0, but must be at least 0",
        "training.epochs: is 0, but must be greater than 0",
    ]


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
    try:
        loaded(document, tmp_path)
    except ConfigError as error:
        assert error.problems
        assert len(str(error).splitlines()) == len(error.problems)
