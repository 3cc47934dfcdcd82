"""What `config.builtins` says is wrong in avalanche-lib 0.6.0 is so.

A test that fails here after an update of avalanche-lib says that a remark is out of date.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avalanche_ext.config import Component
from avalanche_ext.config.builtins import BUILT_INS
from avalanche_ext.config.catalogue import Kind, entries
from avalanche_ext.runner.components import Built, build
from tests.cases import weights
from tests.runner.cases import cell

KINDS: tuple[Kind, ...] = ("strategy", "plugin")
DIGITS = {"name": "split_digits", "n_experiences": 5, "train_size": 60}


def built(
    tmp_path: Path, kind: Kind, name: str, args: dict[str, Any] | None = None, **changed: Any
) -> Built:
    """Build a cell with a strategy or plugin of Avalanche's, whether or not a YAML may have it."""
    sections = {
        "benchmark": DIGITS,
        "model": {"name": "mlp", "hidden_sizes": [32]},
        "optimizer": {"name": "SGD", "lr": 0.1},
        "training": {"batch_size": 10, "epochs": 2},
        "methods": {"m": {}},
        "baseline": "m",
    }
    made = cell(tmp_path, "m", **{**sections, **changed})
    entry = entries(kind)[f"avalanche:{name}"]
    part = Component(f"avalanche:{name}", entry.target, args or {})
    parts = {"strategy": part} if kind == "strategy" else {"plugins": (part,)}
    return build(replace(made, method=replace(made.method, **parts)), None)


def trained(made: Built) -> torch.Tensor:
    """Train on all experiences, and return the weights."""
    for experience in made.benchmark.train_stream:
        made.strategy.train(experience, eval_streams=[])
    return weights(made.strategy).clone()


@pytest.fixture(scope="module")
def naive(tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    return trained(built(tmp_path_factory.mktemp("naive"), "strategy", "Naive"))


@pytest.mark.parametrize(
    ("kind", "name", "args"),
    [
        ("strategy", "SynapticIntelligence", {"si_lambda": 1e6}),
        ("plugin", "SynapticIntelligencePlugin", {"si_lambda": 1e6}),
        ("plugin", "EarlyStoppingPlugin", {"patience": 0, "val_stream_name": "test_stream"}),
        ("plugin", "Clock", {}),
        ("plugin", "TrainGeneratorAfterExpPlugin", {}),
    ],
)
def test_these_change_nothing(
    kind: Kind, name: str, args: dict[str, Any], naive: torch.Tensor, tmp_path: Path
) -> None:
    assert BUILT_INS[name].state == "refused"
    assert torch.equal(trained(built(tmp_path, kind, name, args)), naive)


@pytest.mark.parametrize(
    ("kind", "name", "args", "error"),
    [
        ("plugin", "CurrentDataNCMUpdate", {}, AssertionError),
        ("plugin", "MemoryNCMUpdate", {}, AssertionError),
        ("plugin", "NCMOracle", {}, AssertionError),
        ("plugin", "CurrentDataFeCAMUpdate", {}, AssertionError),
        ("plugin", "MemoryFeCAMUpdate", {}, AssertionError),
        ("plugin", "FeCAMOracle", {}, AssertionError),
        ("plugin", "FeatureDistillationPlugin", {}, TypeError),
        ("plugin", "GenerativeReplayPlugin", {}, AttributeError),
        ("strategy", "OnlineNaive", {}, TypeError),
        ("strategy", "AETraining", {}, AttributeError),
        ("plugin", "GSS_greedyPlugin", {}, RuntimeError),
    ],
)
@pytest.mark.filterwarnings("ignore:Call to deprecated class OnlineNaive")
def test_these_fail(
    kind: Kind, name: str, args: dict[str, Any], error: type[Exception], tmp_path: Path
) -> None:
    known = BUILT_INS[name]
    assert known.state == "refused" or known.needs
    with pytest.raises(error):
        trained(built(tmp_path, kind, name, args))


@pytest.mark.parametrize("max_it_cnt", [1, 10**6])
def test_cope_stays_near_chance(max_it_cnt: int, tmp_path: Path) -> None:
    args = {"mem_size": 100, "n_classes": 10, "p_size": 10, "max_it_cnt": max_it_cnt}
    made = built(tmp_path, "plugin", "CoPEPlugin", args)
    for experience in made.benchmark.train_stream:
        made.strategy.train(experience, eval_streams=[])
        made.strategy.eval(made.benchmark.test_stream)
    assert made.matrix.R[-1].mean() < 0.25


def test_the_fisher_of_ewc_shrinks_as_batches_grow(tmp_path: Path) -> None:
    """λ then means something else with each batch size."""
    traces = []
    for batch_size in (1, 20):
        changed = {"training": {"batch_size": batch_size}, "optimizer": {"name": "SGD", "lr": 1e-9}}
        made = built(tmp_path, "plugin", "EWCPlugin", {"ewc_lambda": 1.0}, **changed)
        made.strategy.train(made.benchmark.train_stream[0], eval_streams=[])
        (ewc,) = [each for each in made.strategy.plugins if type(each).__name__ == "EWCPlugin"]
        traces.append(sum(float(each.data.sum()) for each in ewc.importances[0].values()))
    assert traces[1] < 0.8 * traces[0]


@pytest.mark.parametrize("mem_size", [41, 42])
def test_gss_fails_with_a_memory_smaller_than_a_mini_batch(mem_size: int, tmp_path: Path) -> None:
    args = {"mem_size": mem_size, "input_size": [1, 8, 8]}
    made = built(tmp_path, "plugin", "GSS_greedyPlugin", args)
    if mem_size == 42:
        trained(made)
    else:
        with pytest.raises(ValueError, match="empty"):
            trained(made)


def test_gss_stores_replayed_samples_as_new_ones(tmp_path: Path) -> None:
    args = {"mem_size": 100, "input_size": [1, 8, 8]}
    made = built(tmp_path, "plugin", "GSS_greedyPlugin", args)
    first, second = made.benchmark.train_stream[:2]
    made.strategy.train(first, eval_streams=[])
    (gss,) = [e for e in made.strategy.plugins if type(e).__name__ == "GSS_greedyPlugin"]
    kept = gss.ext_mem_list_x[: gss.ext_mem_list_current_index].flatten(1).numpy()
    # 60 samples, seen twice.
    assert len(kept) == 100
    assert len(np.unique(kept, axis=0)) <= 60
    made.strategy.train(second, eval_streams=[])


WITH_HEADS = [
    (kind, name)
    for kind in KINDS
    for name in (each.partition(":")[2] for each in entries(kind))
    if name in BUILT_INS and BUILT_INS[name].state != "refused" and BUILT_INS[name].heads
]


@pytest.mark.parametrize(("kind", "name"), WITH_HEADS)
def test_these_fail_with_other_heads(kind: Kind, name: str, tmp_path: Path) -> None:
    args: dict[str, dict[str, Any]] = {
        "BiCPlugin": {"stage_2_epochs": 1},
        "CWRStar": {"cwr_layer_name": "classifier"},
        "GSS_greedy": {"input_size": [1, 8, 8]},
        "GSS_greedyPlugin": {"input_size": [1, 8, 8]},
        "ICaRL": {"memory_size": 50, "fixed_memory": True},
        "LFL": {"lambda_e": 1.0},
        "RARPlugin": {"batch_size_mem": 10},
    }
    has_heads = BUILT_INS[name].heads == "one"
    changed = {
        "benchmark": {**DIGITS, "scenario": "task" if has_heads else "class"},
        "model": {"name": "mlp", "hidden_sizes": [32], "multi_head": has_heads},
    }
    with pytest.raises((AssertionError, AttributeError, RuntimeError, TypeError, ValueError)):
        trained(built(tmp_path, kind, name, args.get(name), **changed))
