"""What a model makes of samples is looked at before training, and the run stays as it is."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch
from avalanche.models import MultiHeadClassifier

from avalanche_ext.models.features import with_heads
from avalanche_ext.runner import components
from avalanche_ext.runner.cell import run_cell
from avalanche_ext.runner.components import build
from avalanche_ext.runner.foreign import ComponentError
from tests.runner.cases import cell

NETS = """
    import random

    import numpy as np
    import torch
    from avalanche.models import IncrementalClassifier
    from torch import nn


    class Noisy(nn.Module):
        '''Draws from all generators, counts its calls and has buffers.'''

        def __init__(self, n_classes: int):
            super().__init__()
            self.calls = 0
            self.net = nn.Sequential(
                nn.Flatten(), nn.Linear(64, 12), nn.BatchNorm1d(12), nn.Dropout(), nn.ReLU()
            )
            self.last = nn.Linear(12, n_classes)

        def forward(self, x):
            self.calls += 1
            noise = random.random() + np.random.rand() + torch.randn(()) + 0.01 * self.calls
            return self.last(self.net(x) * noise)


    class Flat(nn.Module):
        def __init__(self, n_outputs: int, as_pair: bool = False, with_dims: bool = False):
            super().__init__()
            self.last, self.as_pair = nn.Linear(64, n_outputs), as_pair
            self.with_dims = with_dims

        def forward(self, x):
            y = self.last(x.flatten(1))
            y = y[..., None] if self.with_dims else y
            return (y, y) if self.as_pair else y


    class Colour(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 10, 16)

        def forward(self, x):
            return self.conv(x).mean((2, 3))


    class Growing(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = IncrementalClassifier(64)

        def forward(self, x):
            return self.last(x.flatten(1))


    class OutOfOrder(nn.Module):
        '''Its last layer is registered first.'''

        def __init__(self, n_classes: int):
            super().__init__()
            self.fc = nn.Linear(20, n_classes)
            self.proj = nn.Linear(64, 20)

        def forward(self, x):
            return self.fc(torch.relu(self.proj(x.flatten(1))))
"""


DIGITS = {"name": "split_digits", "n_experiences": 2, "train_size": 20}
TASKS = {**DIGITS, "scenario": "task"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "nets.py").write_text(dedent(NETS), "utf-8")
    return tmp_path


def net(name: str, **args: Any) -> dict[str, Any]:
    return {"model": {"name": f"./nets.py:{name}", **args}}


def heads(model: torch.nn.Module) -> MultiHeadClassifier:
    return next(each for each in model.modules() if isinstance(each, MultiHeadClassifier))


def matrix(folder: Path, out: str, **changed: Any) -> Any:
    one = cell(folder, "ber", **changed)
    assert run_cell(one, folder / out, data_root=None) == "completed"
    return json.loads((one.directory(folder / out) / "result.json").read_text("utf-8"))["R"]


@pytest.mark.parametrize("where", ["nets", "mlp", "slim_resnet18"])
def test_no_number_changes(where: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = {
        "nets": net("Noisy"),
        "mlp": {"model": {"name": "mlp", "hidden_sizes": [16], "dropout": 0.5}},
        "slim_resnet18": {
            "model": {"name": "slim_resnet18", "width": 2},
            "benchmark": {**DIGITS, "image_size": 32, "channels": 3},
        },
    }[where]
    with_look = matrix(folder, "with", **changed)
    with monkeypatch.context() as patch:
        patch.setattr(components, "check_output", lambda *_: None)
        without = matrix(folder, "without", **changed)
    assert with_look == without


def test_a_model_is_as_it_was_made(folder: Path) -> None:
    model = build(cell(folder, **net("Noisy")), None).strategy.model
    assert model.calls == 0
    assert model.training
    assert torch.equal(model.net[2].running_mean, torch.zeros(12))
    assert model.net[2].num_batches_tracked == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            net("Flat", n_outputs=4),
            r"model '\./nets\.py:Flat' has 4 outputs, but the benchmark has 10 classes$",
        ),
        (
            net("Flat", n_outputs=10, as_pair=True),
            r"must return one tensor of logits \(B, n_classes\), but returns tuple$",
        ),
        (
            net("Flat", n_outputs=10, with_dims=True),
            r"for 2 samples of shape \(1, 8, 8\) it returns a tensor of shape \(2, 10, 1\)$",
        ),
        (
            {"model": "torchvision:resnet18"},
            r"model 'torchvision:resnet18' does not take samples of shape \(1, 8, 8\): set "
            r"benchmark\.channels: 3 \(RuntimeError: ",
        ),
        (
            net("Colour"),
            r": set benchmark\.channels: 3 and benchmark\.image_size: 32 \(RuntimeError: ",
        ),
        (
            {
                "model": {"name": "torchvision:googlenet", "init_weights": False},
                "benchmark": {**DIGITS, "channels": 3, "image_size": 32},
            },
            r"but returns GoogLeNetOutputs: set model\.aux_logits: false$",
        ),
    ],
)
def test_a_model_that_cannot_classify_is_refused(
    changed: dict[str, Any], message: str, folder: Path
) -> None:
    with pytest.raises(ComponentError, match=message):
        build(cell(folder, **changed), None)


def test_a_model_that_grows_may_start_with_fewer_outputs(folder: Path) -> None:
    made = build(cell(folder, **net("Growing")), None)
    made.strategy.train(made.benchmark.train_stream[0], eval_streams=[])


def test_heads_take_the_place_of_the_layer_that_gives_the_output(folder: Path) -> None:
    changed = net("OutOfOrder", multi_head=True)
    made = build(cell(folder, benchmark=TASKS, **changed), None)
    for experience in made.benchmark.train_stream:
        made.strategy.train(experience, eval_streams=[])
    assert heads(made.strategy.model).in_features == 20


@pytest.mark.parametrize(
    "model",
    [
        "torchvision:resnet18",
        {"name": "torchvision:VisionTransformer", "image_size": 8, "patch_size": 4,
         "num_layers": 1, "num_heads": 1, "hidden_dim": 8, "mlp_dim": 8},
    ],
)  # fmt: skip
def test_a_torchvision_model_gets_a_head_per_task(model: Any, folder: Path) -> None:
    """In an attribute of a ResNet, and at the end of one of a transformer."""
    named = {"name": model} if isinstance(model, str) else model
    changed = {"benchmark": {**TASKS, "channels": 3}, "model": {**named, "multi_head": True}}
    made = build(cell(folder, **changed), None)
    for experience in made.benchmark.train_stream:
        made.strategy.train(experience, eval_streams=[])
    assert {*heads(made.strategy.model).classifiers} == {"0", "1"}


def test_a_model_that_computes_after_its_last_layer_gets_no_heads() -> None:
    class Softmaxed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = torch.nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(x).softmax(1)

    with pytest.raises(ValueError, match="changes the output of its last Linear layer"):
        with_heads(Softmaxed(), (4,))
