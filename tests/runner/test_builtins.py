"""Avalanche's strategies and plugins by name, through the runner as a user runs them.

What each does is asserted: a memory remembers more than Naive does, a penalty's strength holds
weights back, networks that grow or are packed forget nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from avalanche_ext.config import ConfigError
from avalanche_ext.results.cell import CellResult, read_cell
from avalanche_ext.runner.cell import run_cell
from avalanche_ext.runner.components import build
from tests.cases import weights
from tests.runner.cases import cell

Method = dict[str, Any]

DIGITS = {"name": "split_digits", "n_experiences": 5, "train_size": 60}
TASKS = {**DIGITS, "scenario": "task"}
SETTING: dict[str, Any] = {
    "benchmark": DIGITS,
    "model": {"name": "mlp", "hidden_sizes": [32]},
    "optimizer": {"name": "SGD", "lr": 0.1},
    "training": {"batch_size": 10, "epochs": 3},
}
HEADS = {"name": "mlp", "hidden_sizes": [32], "multi_head": True}


def strategy(name: str, **args: Any) -> Method:
    return {"strategy": f"avalanche:{name}", "args": args}


def plugin(name: str, **args: Any) -> Method:
    return {"plugins": [{f"avalanche:{name}": args}]}


def result_of(tmp_path: Path, method: Method, **changed: Any) -> CellResult:
    """Run a method with one seed, and read what the runner has written."""
    one = cell(tmp_path, "m", methods={"m": method}, baseline="m", **{**SETTING, **changed})
    out = tmp_path / "out"
    outcome = run_cell(one, out, None)
    result = read_cell(one.directory(out), None)
    assert outcome == "completed", result
    assert isinstance(result, CellResult)
    return result


def weights_of(
    tmp_path: Path, method: Method, experiences: Sequence[int] = range(5), **changed: Any
) -> list[torch.Tensor]:
    """Return the weights after each of some experiences, whose samples come in order."""
    one = cell(tmp_path, "m", methods={"m": method}, baseline="m", **{**SETTING, **changed})
    made = build(one, None)
    made.strategy.eval(made.benchmark.test_stream)
    found = []
    for index in experiences:
        experience = made.benchmark.train_stream[index]
        made.strategy.train(experience, eval_streams=[], shuffle=False)
        found.append(weights(made.strategy).clone())
    return found


@pytest.fixture(scope="module")
def naive(tmp_path_factory: pytest.TempPathFactory) -> CellResult:
    return result_of(tmp_path_factory.mktemp("naive"), strategy("Naive"))


REMEMBERS: dict[str, Method] = {
    "Cumulative": strategy("Cumulative"),
    "JointTraining": strategy("JointTraining"),
    "Replay": strategy("Replay", mem_size=100),
    "ReplayPlugin": plugin("ReplayPlugin", mem_size=100),
    "GEM": strategy("GEM", patterns_per_exp=20, memory_strength=0.5),
    "AGEM": strategy("AGEM", patterns_per_exp=20, sample_size=20),
    "DER": strategy("DER", mem_size=100, alpha=0.5, beta=0.0),
    "DER++": strategy("DER", mem_size=100, beta=0.5),
    "ER_ACE": strategy("ER_ACE", mem_size=100),
    "MIR": strategy("MIR", mem_size=100, batch_size_mem=10, subsample=50),
    "RAR": plugin("RARPlugin", mem_size=100, batch_size_mem=10),
    "GDumb": strategy("GDumb", mem_size=100),
    "SCR": strategy("SCR", mem_size=100, batch_size_mem=20),
    "ICaRL": strategy("ICaRL", memory_size=100, fixed_memory=True),
    "BiC": strategy("BiC", mem_size=100, stage_2_epochs=5),
    "CWRStar": strategy("CWRStar", cwr_layer_name="classifier"),
    "FeatureReplay": strategy("FeatureReplay", mem_size=100),
    "LFL": strategy("LFL", lambda_e=10.0),
}


@pytest.mark.parametrize("name", REMEMBERS)
def test_remembers_more_than_naive(name: str, naive: CellResult, tmp_path: Path) -> None:
    result = result_of(tmp_path, REMEMBERS[name])
    assert result.metrics["ACC"] > naive.metrics["ACC"] + 0.05


def test_what_is_generated_is_remembered(naive: CellResult, tmp_path: Path) -> None:
    result = result_of(
        tmp_path, strategy("GenerativeReplay"), training={"batch_size": 10, "epochs": 8}
    )
    assert result.metrics["ACC"] > naive.metrics["ACC"] + 0.1


def test_mer_remembers_more_than_naive(naive: CellResult, tmp_path: Path) -> None:
    result = result_of(
        tmp_path, strategy("MER", mem_size=50), training={"batch_size": 10, "epochs": 1}
    )
    assert result.metrics["BWT"] > naive.metrics["BWT"] + 0.3


PENALTIES = {
    "EWC": lambda strength: strategy("EWC", ewc_lambda=strength),
    "EWCPlugin": lambda strength: plugin("EWCPlugin", ewc_lambda=strength),
    "EWC online": lambda strength: strategy(
        "EWC", ewc_lambda=strength, mode="online", decay_factor=0.9
    ),
    "MAS": lambda strength: strategy("MAS", lambda_reg=strength / 100),
    "RWalk": lambda strength: plugin("RWalkPlugin", ewc_lambda=strength / 1000),
}


@pytest.mark.parametrize("model", [SETTING["model"], HEADS], ids=["one head", "a head a task"])
@pytest.mark.parametrize("name", PENALTIES)
def test_a_penalty_holds_weights_back(name: str, model: Any, tmp_path: Path) -> None:
    benchmark = TASKS if model is HEADS else DIGITS
    moved = []
    for strength in (0.0, 10.0):
        first, second = weights_of(
            tmp_path, PENALTIES[name](strength), range(2), benchmark=benchmark, model=model
        )
        moved.append(float((second - first).norm()))
    assert moved[0] > moved[1]


def test_lwf_keeps_what_an_earlier_head_says_of_new_samples(tmp_path: Path) -> None:
    drift = []
    for alpha in (0.0, 10.0):
        method = strategy("LwF", alpha=alpha, temperature=2.0)
        setting = {**SETTING, "benchmark": TASKS, "model": HEADS}
        made = build(cell(tmp_path, "m", methods={"m": method}, baseline="m", **setting), None)
        x = made.benchmark.train_stream[1].dataset.x
        said = []
        for experience in made.benchmark.train_stream[:2]:
            made.strategy.train(experience, eval_streams=[], shuffle=False)
            said.append(made.strategy.model(x, 0).softmax(1))
        drift.append(float((said[1] - said[0]).abs().mean()))
    assert drift[1] < 0.8 * drift[0]


def test_training_from_scratch_begins_again(tmp_path: Path) -> None:
    _, scratch = weights_of(tmp_path, strategy("FromScratchTraining"), range(2))
    (alone,) = weights_of(tmp_path, strategy("Naive"), [1])
    assert torch.equal(scratch, alone)


class TestJointTraining:
    def test_only_the_last_row_means_something(self, tmp_path: Path) -> None:
        result = result_of(tmp_path, strategy("JointTraining"))
        assert result.is_iid
        assert result.R.shape == (5, 5)
        assert (result.R[0] == result.R).all()
        assert result.metrics["ACC"] == pytest.approx(result.R[0].mean())
        assert all(result.metrics[name] is None for name in ("BWT", "FWT", "forgetting"))

    def test_trains_once_on_all_samples(self, tmp_path: Path) -> None:
        one = cell(tmp_path, "m", methods={"m": strategy("JointTraining")}, baseline="m", **SETTING)
        run_cell(one, tmp_path, None)
        lines = (one.directory(tmp_path) / "events.jsonl").read_text("utf-8").splitlines()
        events = [json.loads(line) for line in lines]
        assert [e["experience"] for e in events if "experience" in e] == [-1, 4]

    def test_trains_a_multi_head_model(self, tmp_path: Path) -> None:
        result = result_of(tmp_path, strategy("JointTraining"), benchmark=TASKS, model=HEADS)
        assert result.metrics["ACC"] > 0.9


GROWING: dict[str, Method] = {
    "PNN": strategy("PNNStrategy"),
    "PackNet": strategy("PackNet", post_prune_epochs=1, prune_proportion=0.8),
}


@pytest.mark.parametrize("model", [SETTING["model"], HEADS], ids=["one head", "a head a task"])
@pytest.mark.parametrize("name", GROWING)
def test_nothing_is_forgotten(name: str, model: Any, tmp_path: Path) -> None:
    result = result_of(tmp_path, GROWING[name], benchmark=TASKS, model=model)
    for i, row in enumerate(result.R):
        assert row[: i + 1].tolist() == result.R.diagonal()[: i + 1].tolist()
    assert result.metrics["ACC"] > 0.75


TASK_INCREMENTAL = (
    "Cumulative", "Replay", "GEM", "AGEM", "ER_ACE", "MIR", "GDumb",
)  # fmt: skip


@pytest.fixture(scope="module")
def naive_weights(tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    """Naive's weights after two tasks, with heads."""
    folder = tmp_path_factory.mktemp("naive-heads")
    return weights_of(folder, strategy("Naive"), range(2), benchmark=TASKS, model=HEADS)[-1]


@pytest.mark.parametrize("name", TASK_INCREMENTAL)
def test_a_head_for_each_task(name: str, naive_weights: torch.Tensor, tmp_path: Path) -> None:
    result = result_of(tmp_path, REMEMBERS[name], benchmark=TASKS, model=HEADS)
    assert result.metrics["ACC"] > 0.8
    own = weights_of(tmp_path, REMEMBERS[name], range(2), benchmark=TASKS, model=HEADS)[-1]
    assert not torch.equal(own, naive_weights)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four digits as colour images of 32×32 pixels."""
    folder = tmp_path_factory.mktemp("images")
    whole = load_digits()
    for digit in range(4):
        of_digit = whole.images[whole.target == digit]
        for part, rows in (("train", of_digit[:24]), ("test", of_digit[24:40])):
            where = folder / part / str(digit)
            where.mkdir(parents=True)
            for index, image in enumerate(rows):
                grey = Image.fromarray((image * 15).astype(np.uint8)).resize((32, 32))
                grey.convert("RGB").save(where / f"{index}.png")
    return folder


def resnet(images: Path, scenario: str) -> dict[str, Any]:
    return {
        "benchmark": {
            "name": "image_folder", "folder": str(images), "n_experiences": 2, "scenario": scenario,
        },
        "model": {"name": "slim_resnet18", "width": 4, "multi_head": scenario == "task"},
        "optimizer": {"name": "SGD", "lr": 0.02, "momentum": 0.9},
        "training": {"batch_size": 8, "epochs": 6},
    }  # fmt: skip


ON_RESNET: dict[str, Method] = {
    name: REMEMBERS[name] for name in ("JointTraining", "SCR", "ICaRL", "BiC")
}


@pytest.mark.parametrize("name", ON_RESNET)
def test_a_resnet_remembers(name: str, images: Path, tmp_path: Path) -> None:
    result = result_of(tmp_path, ON_RESNET[name], **resnet(images, "class"))
    assert result.R[-1, 0] > 0.4


PACKED_RESNET = strategy("PackNet", post_prune_epochs=3, prune_proportion=0.3)


@pytest.mark.parametrize("method", [GROWING["PNN"], PACKED_RESNET], ids=["PNN", "PackNet"])
def test_a_resnet_forgets_nothing(method: Method, images: Path, tmp_path: Path) -> None:
    result = result_of(tmp_path, method, **resnet(images, "task"))
    assert result.R[1, 0] == result.R[0, 0] > 0.7
    assert result.R[1, 1] > 0.6


BESIDE_PACKNET = {
    "replay": {"balanced_replay": {"mem_size": 20}},
    "projection": {"mgem": {}},
    "pull": {"online_ewc": {}},
}


@pytest.mark.parametrize("kind", BESIDE_PACKNET)
def test_packnet_refuses_what_would_move_its_weights(kind: str, tmp_path: Path) -> None:
    method = {**GROWING["PackNet"], "plugins": [BESIDE_PACKNET[kind]]}
    with pytest.raises(ConfigError, match=r"cannot be combined with .*PackNet', which trains on"):
        cell(tmp_path, "m", methods={"m": method}, baseline="m", **{**SETTING, "benchmark": TASKS})


def test_a_loss_with_packnet_acts_and_nothing_is_forgotten(tmp_path: Path) -> None:
    method = {**GROWING["PackNet"], "plugins": [{"drl": {"layers": ["logits"], "lam": 0.1}}]}
    result = result_of(tmp_path, method, benchmark=TASKS)
    alone = result_of(tmp_path, GROWING["PackNet"], benchmark=TASKS)
    assert result.R.tolist() != alone.R.tolist()
    assert result.metrics["BWT"] == 0.0
