"""Cells with `training.compile` train as they do without it, up to rounding, or say why not."""

from copy import deepcopy

import pytest
import torch

from avalanche_ext.functional.compiled import code
from avalanche_ext.runner.cell import run_cell
from avalanche_ext.runner.components import build
from avalanche_ext.runner.preflight import check_here
from avalanche_ext.strategies.compiled import share_compiled
from tests.cases import train, weights
from tests.functional.compiled.cases import counted_calls
from tests.runner.cases import cell, experiment
from tests.runner.resuming import DIGITS, REPLAY, left_by, run, run_until, small

METHODS = {
    "er": {"plugins": [{"online_replay": {"mem_size": 20}}]},
    "ber": {"plugins": [REPLAY]},
    "separate": {"plugins": [{"online_replay": {"mem_size": 20, "loss": "separate"}}]},
    "agem": {"plugins": [{"agem": {"mem_size": 20}}]},
    "gem": {"plugins": [{"mgem": {"size_per_task": 10}}]},
    "ogd": {"plugins": [{"ogd": {"n_samples": 10}}]},
    "gmed": {"plugins": [{"gmed": {"mem_size": 20, "batch_size": 5, "loss": "union"}}]},
    "online_ewc": {"plugins": ["online_ewc"]},
    "ewc_by_gradient": {"plugins": [{"online_ewc": {"update": "gradient"}}]},
    "spectrum": {"plugins": ["fisher_spectrum_ewc"]},
    "kronecker": {"plugins": ["kronecker_ewc"]},
    "si": {"plugins": ["synaptic_intelligence"]},
    "bgd": {"plugins": ["bgd"]},
    "combined": {"plugins": [REPLAY, "online_ewc", {"mgem": {"size_per_task": 10}}]},
    "drl": {"plugins": [REPLAY, {"drl": {"lam": 0.1}}]},
    "multi_similarity": {"plugins": [REPLAY, {"multi_similarity": {"lam": 0.5}}]},
    "r_margin": {"plugins": [REPLAY, {"r_margin": {"lam": 0.005, "redraw": True}}]},
    "terms": {
        "plugins": [
            {"online_replay": {"mem_size": 20, "loss": "separate"}},
            {"drl": {"lam": 0.1, "normalisation": "pairs", "layers": ["hidden.0", "logits"]}},
            {"multi_similarity": {"lam": 0.1, "form": "pairs"}},
            {"r_margin": {"lam": 0.1, "hinge": True, "lr": 0.5}},
        ]
    },
    "avalanche_replay": {"strategy": "avalanche:Replay", "args": {"mem_size": 20}},
    "avalanche_gem": {"strategy": "avalanche:GEM", "args": {"patterns_per_exp": 10}},
    "avalanche_ewc": {"strategy": "avalanche:EWC", "args": {"ewc_lambda": 0.4}},
    "mas": {"plugins": ["mas"]},
    "mir": {"plugins": [{"mir": {"mem_size": 20, "batch_size": 5, "loss": "union"}}]},
    "avalanche_mas": {"strategy": "avalanche:MAS"},
    "avalanche_agem": {
        "strategy": "avalanche:AGEM",
        "args": {"patterns_per_exp": 10, "sample_size": 5},
    },
    "avalanche_rwalk": {"plugins": ["avalanche:RWalkPlugin"]},
}

RECIPES = {
    "repeats": {"training": {"repeats": 3}},
    "iid": {"training": {"iid": True}},
    "smaller last batches": {"training": {"batch_size": 7}},
    "a last batch of one": {"training": {"batch_size": 59}},
    "clipped": {"training": {"clip_grad_norm": 0.5}},
    "scheduled": {"training": {"scheduler": {"name": "StepLR", "step_size": 3, "by": "iteration"}}},
    "momentum": {"optimizer": {"name": "SGD", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}},
    "evaluated inside": {"evaluate": {"every": 4, "test_size": 30}},
}

UNCOMPILED = {
    "dropout": ({"name": "mlp", "hidden_sizes": [16], "dropout": 0.5}, "draws random numbers"),
    "statistics": ("./network.py:Network", "changes its buffer 'norm.running_mean'"),
    "counter": ("./network.py:Counting", "changes its attribute 'n_passes'"),
}

NETWORK = """
from torch import nn

class Network(nn.Sequential):
    def __init__(self, n_classes):
        super().__init__()
        self.flat, self.norm = nn.Flatten(), nn.BatchNorm1d(64)
        self.classifier = nn.Linear(64, n_classes)

class Counting(nn.Sequential):
    def __init__(self, n_classes):
        super().__init__()
        self.flat, self.classifier, self.n_passes = nn.Flatten(), nn.Linear(64, n_classes), 0

    def forward(self, x):
        self.n_passes += 1
        return super().forward(x) / (1 + self.n_passes)
"""


@pytest.fixture
def calls(monkeypatch):
    """The sizes of the mini-batches that compiled code has been called for."""
    return counted_calls(monkeypatch)


def learned(folder, method, *, compile, **changed):
    """A cell's strategy after training."""
    training = {"batch_size": 5, "compile": compile, **changed.pop("training", {})}
    one = cell(folder, "method", methods={"method": method}, training=training, **changed)
    built = build(one, None)
    train(built.strategy, built.benchmark)
    return built.strategy


def check_same(folder, calls, method, **changed):
    """Compiled steps lead to the same weights, and all steps are compiled."""
    found = learned(folder, method, compile=True, **changed)
    assert len(calls) == found.clock.train_iterations > 0
    expected = learned(folder, method, compile=False, **changed)
    torch.testing.assert_close(weights(found), weights(expected), rtol=1e-5, atol=1e-5)
    assert found.clock.train_iterations == expected.clock.train_iterations == len(calls)


@pytest.mark.parametrize("name", METHODS)
def test_methods_train_as_they_do_uncompiled(tmp_path, calls, name):
    check_same(tmp_path, calls, METHODS[name])


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_train_as_they_do_uncompiled(tmp_path, calls, name):
    check_same(tmp_path, calls, METHODS["ber"], **deepcopy(RECIPES[name]))


@pytest.mark.parametrize("kind", UNCOMPILED)
def test_models_that_draw_or_keep_statistics_train_uncompiled_with_a_word(tmp_path, kind):
    model, why = UNCOMPILED[kind]
    (tmp_path / "network.py").write_text(NETWORK)
    with pytest.warns(UserWarning, match=f"trains uncompiled, because.*{why}"):
        found = learned(tmp_path, METHODS["er"], compile=True, model=model)
    assert share_compiled(found) == 0.0
    expected = learned(tmp_path, METHODS["er"], compile=False, model=model)
    assert torch.equal(weights(found), weights(expected))


def test_before_training_it_says_which_methods_train_uncompiled_and_why(tmp_path, capsys):
    methods = {
        "metric": {"plugins": [{"metric_loss": {"loss": "ContrastiveLoss"}}]},
        "hal": {"plugins": ["hal"]},
        "sum": {"plugins": [{"online_replay": {"loss": "sum"}}]},
        "lwf": {"strategy": "avalanche:LwF", "args": {"alpha": 1.0, "temperature": 2.0}},
        "der": {"strategy": "avalanche:DER", "args": {"mem_size": 20}},
        "heads": {"model": {"name": "mlp", "hidden_sizes": [16], "multi_head": True}},
        **{name: METHODS[name] for name in ("er", "agem", "online_ewc", "terms")},
    }
    benchmark = {**DIGITS, "scenario": "task"}
    training = {"batch_size": 5, "compile": True}
    check_here(experiment(tmp_path, methods=methods, benchmark=benchmark, training=training), None)
    said = capsys.readouterr().err.splitlines()
    needs = "needs the graph of the loss, or looks at layers"
    assert said == [
        f"training.compile: methods.{names}: steps run uncompiled, because {why}"
        for names, why in {
            "metric": f"MetricLossPlugin {needs}",
            "hal": f"HALPlugin {needs}",
            "sum": f"OnlineReplayPlugin {needs}",
            "lwf": f"LwFPlugin {needs}",
            "der": "DER has a training loop of its own",
            "heads": "which heads run depends on the task labels of each mini-batch",
        }.items()
    ]


def test_what_trains_uncompiled_trains_as_without_the_key(tmp_path, calls):
    for name, method in {
        "metric": {"plugins": [REPLAY, {"metric_loss": {"loss": "ContrastiveLoss"}}]},
        "lwf": {"strategy": "avalanche:LwF", "args": {"alpha": 1.0, "temperature": 2.0}},
    }.items():
        found = learned(tmp_path, method, compile=True)
        expected = learned(tmp_path, method, compile=False)
        assert torch.equal(weights(found), weights(expected)), name
    assert not calls


def test_without_a_compiler_it_says_so_before_training(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CXX", "no-such-compiler")
    training = {"batch_size": 5, "compile": True}
    made = experiment(tmp_path, methods={"er": METHODS["er"]}, training=training)
    check_here(made, None)
    assert "this machine has no C++ compiler 'no-such-compiler'" in capsys.readouterr().err
    (one, *_) = made.cells()
    assert run_cell(one, tmp_path, None) == "completed"
    assert left_by(one, tmp_path)["result"]["compiled"] == 0.0
    uncompiled = cell(tmp_path, "method", methods={"method": METHODS["er"]})
    assert run_cell(uncompiled, tmp_path, None) == "completed"
    assert "compiled" not in left_by(uncompiled, tmp_path)["result"]


def test_the_key_counts_in_the_hash_where_it_is_true(tmp_path):
    plain = cell(tmp_path).hash
    assert cell(tmp_path, training={"batch_size": 5, "compile": False}).hash == plain
    assert cell(tmp_path, training={"batch_size": 5, "compile": True}).hash != plain


def test_a_run_resumes_bit_for_bit_with_recompiled_code(tmp_path, monkeypatch):
    plugins = [REPLAY, "online_ewc", {"r_margin": {"redraw": True}}]
    whole = small(tmp_path, {"plugins": plugins}, training={"compile": True})
    run(whole, tmp_path / "whole")
    out = tmp_path / "out"
    assert run_until(whole, out, monkeypatch, n_batches=5)
    assert run_until(whole, out, monkeypatch, 1)
    monkeypatch.setattr(code, "_FUNCTIONS", {})
    run(whole, out)
    assert left_by(whole, out) == left_by(whole, tmp_path / "whole")
    assert left_by(whole, out)["result"]["compiled"] == 1.0
