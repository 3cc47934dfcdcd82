"""`training.precision` and `training.channels_last`, through cells of YAML files."""

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
import yaml

from avalanche_ext.buffers import SlotBuffer
from avalanche_ext.config import load_experiment
from avalanche_ext.plugins import diagnostics
from avalanche_ext.runner import precision
from avalanche_ext.runner.cell import run_cell
from avalanche_ext.runner.components import build
from avalanche_ext.runner.preflight import check_here
from tests.cases import train, weights
from tests.runner.cases import SMALL, cell
from tests.runner.resuming import (
    AVALANCHES,
    DIGITS,
    OURS,
    REPLAY,
    left_by,
    run,
    run_until,
    small,
)

NETWORK = """
import torch
from avalanche.models import IncrementalClassifier
from torch import nn

class Network(nn.Module):
    def __init__(self, input_shape, n_classes):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(),
        )
        self.classifier = nn.Linear(32, n_classes)

    def forward(self, x):
        return self.classifier(self.features(x))

class Reversed(Network):
    def __init__(self, input_shape, n_classes):
        nn.Module.__init__(self)
        self.classifier = nn.Linear(16, n_classes)
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU())

class Growing(Network):
    def __init__(self, input_shape, n_classes):
        super().__init__(input_shape, n_classes)
        self.classifier = IncrementalClassifier(32, initial_out_features=1)

class Helped(Network):
    def __init__(self, input_shape, n_classes):
        super().__init__(input_shape, n_classes)
        self.helper = IncrementalClassifier(32)

    def forward(self, x):
        features = self.features(x)
        self.helper(features)
        return self.classifier(features)

class Cooled(Network):
    def forward(self, x):
        return super().forward(x) / 3

class Pooled(nn.Sequential):
    def __init__(self, input_shape, n_classes):
        super().__init__(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, n_classes, 1),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )

class Alone(nn.Linear):
    def __init__(self, input_shape, n_classes):
        super().__init__(64, n_classes)

    def forward(self, x):
        return super().forward(x.flatten(1))

class Cosine(nn.Module):
    def __init__(self, n_features, n_classes):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_classes, n_features))

    def forward(self, x):
        return 10 * nn.functional.normalize(x) @ nn.functional.normalize(self.weight).T

class Similar(Network):
    def __init__(self, input_shape, n_classes):
        super().__init__(input_shape, n_classes)
        self.classifier = Cosine(32, n_classes)

class Unlayered(Network):
    def __init__(self, input_shape, n_classes):
        super().__init__(input_shape, n_classes)
        self.prototypes = nn.Parameter(torch.randn(32, n_classes), requires_grad=False)
        self.classifier = nn.Identity()

    def forward(self, x):
        return super().forward(x) @ self.prototypes
"""
MODEL = {"name": "./network.py:Network"}
LAST, BOTH = {"channels_last": True}, {"precision": "bf16", "channels_last": True}
COMBINED = {
    name: {"plugins": [REPLAY, part]}
    for part in OURS["combined"]["plugins"][1:]
    for name in ([part] if isinstance(part, str) else part)
}
# Its exponentials make more of a rounding than all else does.
COMBINED["multi_similarity"] = {"plugins": [REPLAY, {"multi_similarity": {"lam": 0.1}}]}
# A rounding may push a pair past its margin.
COMBINED["r_margin"] = {"plugins": [REPLAY, {"r_margin": {"lam": 1e-4}}]}
METHODS = {
    **{name: method for name, method in OURS.items() if name != "combined"},
    "bgd": {"plugins": [{"bgd": {"n_draws": 2}}]},
    **COMBINED,
    **{f"avalanche_{n}": AVALANCHES[n] for n in ("Replay", "GEM", "EWC", "LwF")},
}
EDITED, CHOSEN = "gmed", "gss"
"""What these store depends on gradients."""


@pytest.fixture(autouse=True)
def network(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "bfloat16_is_fast", lambda device: True)
    (tmp_path / "network.py").write_text(NETWORK)


@cache
def learned(name, **training):
    """The strategy after two experiences of six iterations, and its weights before."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "network.py").write_text(NETWORK)
        one = cell(
            Path(folder), name, model=MODEL, methods={name: METHODS[name]},
            benchmark={**DIGITS, "train_size": 30}, training={"batch_size": 5, **training},
        )  # fmt: skip
        built = build(one, None)
        start = weights(built.strategy)
        train(built.strategy, built.benchmark)
        built.strategy.eval(built.benchmark.test_stream)
    return built.strategy, start


def memories(strategy):
    found = [getattr(plugin, "buffer", None) for plugin in strategy.plugins]
    return [each.fetch(np.arange(len(each))) for each in found if isinstance(each, SlotBuffer)]


@pytest.mark.parametrize("name", METHODS)
def test_channels_last_changes_rounding_alone(name):
    (found, _), (expected, start) = learned(name, **LAST), learned(name)
    torch.testing.assert_close(weights(found), weights(expected), rtol=1e-4, atol=1e-4)
    assert not torch.equal(weights(expected), start)
    assert found.clock.train_iterations == expected.clock.train_iterations


@pytest.mark.parametrize("name", METHODS)
def test_in_bfloat16_training_is_that_in_float32_up_to_rounding(name):
    (found, _), (expected, start) = learned(name, **BOTH), learned(name)
    assert found.clock.train_iterations == expected.clock.train_iterations
    moved = weights(expected) - start
    assert 0 < (weights(found) - weights(expected)).norm() < 0.3 * moved.norm()
    assert diagnostics(found.plugins).keys() == diagnostics(expected.plugins).keys()
    if name not in (EDITED, CHOSEN):
        for stored, right in zip(memories(found), memories(expected), strict=True):
            assert all(map(torch.equal, stored, right))


@pytest.mark.parametrize(
    ("model", "scenario"),
    [
        (MODEL, "class"),
        ({"name": "mlp", "hidden_sizes": [16], "multi_head": True}, "task"),
        ({"name": "./network.py:Growing"}, "class"),
        ({"name": "./network.py:Reversed"}, "class"),
        ({"name": "./network.py:Helped"}, "class"),
        ({"name": "./network.py:Cooled"}, "class"),
        ({"name": "./network.py:Pooled"}, "class"),
        ({"name": "./network.py:Alone"}, "class"),
        ({"name": "./network.py:Similar"}, "class"),
        ({"name": "supsup", "hidden_sizes": [16], "task": "binary"}, "task"),
    ],
    ids=lambda given: given["name"].rpartition(":")[2] if isinstance(given, dict) else given,
)
def test_the_layer_that_classifies_computes_in_float32(tmp_path, model, scenario):
    one = cell(
        tmp_path, "er", model=model, methods={"er": {"plugins": [REPLAY]}},
        benchmark={**DIGITS, "train_size": 30, "scenario": scenario},
        training={"batch_size": 5, "precision": "bf16"},
    )  # fmt: skip
    strategy = (built := build(one, None)).strategy
    train(strategy, built.benchmark)
    outputs, types = [], {}
    for name, module in strategy.model.named_modules():
        module.register_forward_hook(
            lambda _module, _inputs, output, name=name: types.update({name: output.dtype})
        )
    strategy.model.register_forward_hook(lambda _model, _inputs, output: outputs.append(output))
    strategy.eval(built.benchmark.test_stream)
    logits = torch.cat([output[:, :1] for output in outputs])
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())
    assert len(types) == 1 or torch.bfloat16 in types.values()


def test_a_model_without_a_layer_that_classifies_says_so(tmp_path):
    one = cell(
        tmp_path, model={"name": "./network.py:Unlayered"},
        training={"batch_size": 5, "precision": "bf16"},
    )  # fmt: skip
    with pytest.warns(UserWarning, match="Unlayered uses 'prototypes' outside of a layer"):
        build(one, None)


@pytest.mark.parametrize(
    "method", [{"plugins": [REPLAY, "kronecker_ewc"]}, AVALANCHES["LwF"]], ids=["ours", "LwF"]
)
def test_a_run_resumes_bit_for_bit(tmp_path, monkeypatch, method):
    whole = small(tmp_path, method, model=MODEL, training=BOTH)
    run(whole, tmp_path / "whole")
    expected = left_by(whole, tmp_path / "whole")
    assert expected["result"]["versions"]["precision"] == "bf16"
    out = tmp_path / "out"
    assert run_until(whole, out, monkeypatch, 1)
    assert run_until(whole, out, monkeypatch, n_batches=5)
    run(whole, out)
    assert left_by(whole, out) == expected


def test_where_bfloat16_is_slow_it_says_so_once_and_stays_float32(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(precision, "bfloat16_is_fast", lambda device: False)
    methods = {"lower": {"training": {"precision": "bf16"}}, "full": {}, "other": {}}
    methods["other"] = {"training": {"precision": "bf16", "epochs": 2}}
    path = tmp_path / "slow.yaml"
    path.write_text(yaml.safe_dump({**SMALL, "model": MODEL, "seeds": 1, "methods": methods}))
    experiment = load_experiment(path)
    check_here(experiment, None)
    said = [line for line in capsys.readouterr().err.splitlines() if "bf16" in line]
    assert said == [
        "training.precision: bf16 is slow on cpu of this machine, so runs there use fp32; "
        "result.json says which each run used"
    ]
    results = {}
    for one in experiment.cells():
        assert run_cell(one, tmp_path, None) == "completed"
        result = json.loads((one.directory(tmp_path) / "result.json").read_text())
        results[one.method_name] = result
    assert results["lower"]["weights"] == results["full"]["weights"]
    assert results["lower"]["versions"]["precision"] == "fp32"
    assert "precision" not in results["full"]["versions"]


def test_a_key_counts_in_the_hash_where_it_differs_from_its_default(tmp_path):
    def hashed(**training):
        return cell(tmp_path, training={"batch_size": 5, **training}).hash

    assert hashed(precision="fp32", channels_last=False) == hashed()
    assert len({hashed(), hashed(**LAST), hashed(**BOTH), hashed(precision="bf16")}) == 4


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"model": SMALL["model"], "training": LAST}, "MLP has no weights of four dimensions"),
        (
            {"methods": {"method": {"strategy": "avalanche:AGEM", "args": {"patterns_per_exp": 5}}},
             "training": LAST},
            "Avalanche's AGEMPlugin cannot read gradients of such weights",
        ),
    ],
    ids=["no images", "AGEM"],
)  # fmt: skip
def test_what_channels_last_cannot_do_is_refused_before_training(tmp_path, changed, said):
    given = {"model": MODEL, "methods": {"method": {}}, **changed}
    given["training"] = {"batch_size": 5, **given["training"]}
    one = cell(tmp_path, "method", **given)
    with pytest.raises(ValueError, match=rf"training\.channels_last is true, but .*{said}"):
        build(one, None)
