from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from avalanche_ext.config import Cell, Experiment
from avalanche_ext.results.record import Claim
from tests.config.cases import EXPERIMENT, experiment_with, loaded

DRL_PLUGINS = EXPERIMENT["methods"]["drl"]["plugins"]


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    return loaded(EXPERIMENT, tmp_path)


def only_cell(method: dict[str, Any], folder: Path, **sections: Any) -> Cell:
    document = experiment_with(**{"methods": {"m": method}, "seeds": 1, **sections})
    (cell,) = loaded(document, folder).cells()
    return cell


def test_what_the_file_leaves_out_has_defaults(experiment: Experiment) -> None:
    assert experiment.training.model_dump() == {
        "batch_size": 10,
        "epochs": 1,
        "iterations": None,
        "repeats": 1,
        "criterion": None,
        "scheduler": None,
        "clip_grad_norm": None,
        "checkpoint_minutes": 10,
        "eval_batch_size": 512,
        "shuffle": True,
        "iid": False,
        "threads": 1,
        "precision": "fp32",
        "channels_last": False,
        "compile": False,
        "device": "cpu",
    }
    assert experiment.wandb.model_dump() == {
        "mode": "offline",
        "project": "avalanche-ext",
        "entity": None,
        "tags": (),
        "report": False,
    }
    assert experiment.seeds == (0, 1, 2)
    assert experiment.baseline == "naive"
    assert experiment.published is None
    assert experiment.claims == ()
    assert experiment.methods["naive"].strategy.name == "avalanche:Naive"


def test_our_components_have_their_defaults_filled_in(experiment: Experiment) -> None:
    replay, drl = experiment.methods["drl"].plugins
    assert replay.target == "avalanche_ext.plugins:BalancedReplayPlugin"
    assert replay.args["mem_size"] == 100
    assert replay.args["batch_size"] == 20
    assert {"seed", "buffer"}.isdisjoint(replay.args)
    assert (drl.args["alpha"], drl.args["layers"]) == (2.0, None)
    assert isinstance(drl.args["alpha"], float)  # The file has an integer.


def test_avalanches_and_torchs_have_what_was_given(experiment: Experiment) -> None:
    strategy = experiment.methods["replay"].strategy
    assert strategy.target == "avalanche.training.supervised.strategy_wrappers:Replay"
    assert strategy.args == {"mem_size": 100}
    assert experiment.optimizer.args == {"lr": 0.05}


def test_an_explicit_null_baseline_means_no_tests(tmp_path: Path) -> None:
    assert loaded(experiment_with(baseline=None), tmp_path).baseline is None


def test_claims_have_two_methods_and_a_metric_however_they_are_spaced(tmp_path: Path) -> None:
    claims = ["drl > naive", "  replay>naive ", "drl>naive  in instance_accuracy"]
    assert loaded(experiment_with(claims=claims), tmp_path).claims == (
        Claim("drl", "naive", "ACC"),
        Claim("replay", "naive", "ACC"),
        Claim("drl", "naive", "instance_accuracy"),
    )


def test_claims_may_be_left_empty_and_given_on_the_command_line(tmp_path: Path) -> None:
    document = experiment_with(claims=None)
    assert loaded(document, tmp_path).claims == ()
    overridden = loaded(document, tmp_path, "claims=[drl > replay]")
    assert overridden.claims == (Claim("drl", "replay", "ACC"),)


def test_a_bare_name_means_a_component_with_its_defaults(tmp_path: Path) -> None:
    short = loaded(experiment_with(benchmark="split_digits", optimizer="SGD"), tmp_path)
    long = loaded(
        experiment_with(benchmark={"name": "split_digits"}, optimizer={"name": "SGD"}), tmp_path
    )
    assert short == long


def test_a_method_may_change_parts_of_optimizer_and_training(tmp_path: Path) -> None:
    optimizer = {"name": "SGD", "lr": 0.05, "momentum": 0.9}
    own = {"optimizer": {"lr": 1}, "training": {"epochs": 3}}
    cell = only_cell(own, tmp_path, optimizer=optimizer)
    assert cell.optimizer.args == {"lr": 1.0, "momentum": 0.9}
    assert (cell.training.epochs, cell.training.batch_size) == (3, 10)


def test_a_method_with_another_optimizer_shares_no_arguments(tmp_path: Path) -> None:
    optimizer = {"name": "SGD", "lr": 0.05, "momentum": 0.9}
    cell = only_cell(
        {"optimizer": {"name": "Adam", "betas": [0, 0.5]}}, tmp_path, optimizer=optimizer
    )
    assert cell.optimizer.target == "torch.optim.adam:Adam"
    assert cell.optimizer.args == {"betas": [0.0, 0.5]}


def test_cells_come_seed_by_seed(experiment: Experiment) -> None:
    assert [(cell.method_name, cell.seed) for cell in experiment.cells()] == [
        (method, seed) for seed in (0, 1, 2) for method in ("naive", "replay", "drl")
    ]


def test_a_cell_has_its_own_folder(experiment: Experiment) -> None:
    cell = experiment.cells()[5]
    assert cell.directory(Path("out")) == Path("out/small/drl/seed-1")


def test_cells_survive_pickling(experiment: Experiment) -> None:
    cells = experiment.cells()
    assert pickle.loads(pickle.dumps(cells)) == cells


def test_all_hashes_of_different_cells_differ(experiment: Experiment) -> None:
    hashes = [cell.hash for cell in experiment.cells()]
    assert len({*hashes}) == len(hashes) == 9
    assert all(len(value) == 16 and int(value, 16) >= 0 for value in hashes)


@pytest.mark.parametrize(
    "override",
    [
        "benchmark.n_experiences=2",
        "model.hidden_sizes[0]=99",
        "optimizer.lr=0.04",
        "optimizer.momentum=0.9",
        "training.batch_size=11",
        "training.epochs=2",
        "training.device=cuda:0",
        "methods.m.plugins[0].balanced_replay.mem_size=99",
        "methods.m.plugins[1].drl.alpha=1",
        "methods.m.strategy='avalanche:FromScratchTraining'",
        "seeds=[1]",
    ],
)
def test_whatever_decides_the_numbers_changes_the_hash(override: str, tmp_path: Path) -> None:
    document = experiment_with(methods={"m": {"plugins": DRL_PLUGINS}}, seeds=[0])
    before, after = (
        loaded(document, tmp_path, *overrides).cells()[0].hash for overrides in ((), (override,))
    )
    assert before != after


@pytest.mark.parametrize(
    "sections",
    [
        {"name": "other"},
        {"methods": {"renamed": {"plugins": DRL_PLUGINS}}},
        {"wandb": {"mode": "disabled", "project": "p"}},
        {"methods": {"m": {"plugins": DRL_PLUGINS}, "naive": None}, "claims": ["m > naive"]},
        {"seeds": [0, 1]},
        {"optimizer": {"lr": 0.05, "name": "SGD"}},
        {"training": {"batch_size": 10, "epochs": 1, "shuffle": True}},
        {
            "methods": {
                "m": {
                    "plugins": [
                        DRL_PLUGINS[0],
                        {"drl": {"alpha": 2.0, "lam": 5e-4, "layers": None}},
                    ]
                }
            }
        },
    ],
)
def test_names_order_and_spelt_out_defaults_do_not_change_the_hash(
    sections: dict[str, Any], tmp_path: Path
) -> None:
    document = experiment_with(methods={"m": {"plugins": DRL_PLUGINS}}, seeds=[0])
    before = loaded(document, tmp_path).cells()[0].hash
    assert loaded({**document, **sections}, tmp_path).cells()[0].hash == before


def test_the_order_of_plugins_changes_the_hash(tmp_path: Path) -> None:
    forwards = only_cell({"plugins": DRL_PLUGINS}, tmp_path)
    backwards = only_cell({"plugins": DRL_PLUGINS[::-1]}, tmp_path)
    assert forwards.hash != backwards.hash


def test_a_new_default_in_our_signatures_changes_the_hash(experiment: Experiment) -> None:
    cell = experiment.cells()[2]
    replay, drl = cell.method.plugins
    newer = replace(drl, args={**drl.args, "layers": ["logits"]})
    changed = replace(cell, method=replace(cell.method, plugins=(replay, newer)))
    assert changed.hash != cell.hash


def test_resolved_is_plain_data_with_everything(experiment: Experiment) -> None:
    cell = experiment.cells()[2]
    resolved = cell.resolved()
    assert yaml.safe_load(yaml.safe_dump(resolved)) == resolved
    assert json.loads(json.dumps(resolved)) == resolved
    assert resolved["hash"] == cell.hash
    assert (resolved["experiment"], resolved["method"], resolved["seed"]) == ("small", "drl", 0)
    assert [plugin["name"] for plugin in resolved["plugins"]] == ["balanced_replay", "drl"]
    assert resolved["plugins"][1]["args"]["lam"] == 5e-4
    assert {"benchmark", "model", "optimizer", "training", "strategy", "wandb"} <= {*resolved}


def test_the_summary_is_what_the_report_reads(tmp_path: Path) -> None:
    published = {
        "reference": "a paper",
        "ACC": {"drl": {"mean": 1, "std": 0.006}},
        "rho_correlation": {"ACC": -0.838, "forgetting": 0.262},
    }
    sections = {"published": published, "baseline": "replay", "claims": ["drl > naive in BWT"]}
    experiment = loaded(experiment_with(**sections, analyses={"rho_spectrum": {}}), tmp_path)
    summary = experiment.summary()
    assert yaml.safe_load(yaml.safe_dump(summary)) == summary
    assert summary.pop("hashes") == {
        method: {cell.seed: cell.hash for cell in experiment.cells() if cell.method_name == method}
        for method in ("naive", "replay", "drl")
    }
    assert summary == {
        "name": "small",
        "baseline": "replay",
        "claims": [{"higher": "drl", "lower": "naive", "metric": "BWT"}],
        "methods": ["naive", "replay", "drl"],
        "sweeps": {},
        "seeds": [0, 1, 2],
        "published": published,
        "split": "test",
        "choices": [],
    }
