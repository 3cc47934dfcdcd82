"""Models that PackNet packs, with BatchNorm."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from avalanche.training.supervised.strategy_wrappers import PackNet
from torch import nn

from avalanche_ext.models.catalogue import mlp, slim_resnet18
from avalanche_ext.models.packnet import NormPerTask, packnet_model
from avalanche_ext.strategies.repairs import repair
from tests.cases import digits, quiet
from tests.models.test_progressive import Convolutions

MODELS = {
    "mlp": lambda: mlp([8], input_shape=(1, 8, 8), n_classes=2),
    "multi-head": lambda: mlp([8], multi_head=True, input_shape=(1, 8, 8), n_classes=2),
    "convolutions": Convolutions,
}


@pytest.mark.parametrize("name", MODELS)
def test_a_tasks_outputs_stay_when_later_ones_are_learned(name: str) -> None:
    model = packnet_model(MODELS[name](), n_classes=2)
    benchmark = digits(scenario="task", train_size=30, test_size=20)
    strategy = quiet(
        PackNet, model, train_epochs=3, post_prune_epochs=1, prune_proportion=0.5,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
    )  # fmt: skip
    repair(strategy)
    x = benchmark.test_stream[0].dataset.x
    outputs = []
    for experience in benchmark.train_stream[:3]:
        before = weights(model)
        strategy.train(experience, eval_streams=[])
        assert not torch.equal(weights(model)[: len(before)], before)
        model.eval()
        outputs.append(model(x, torch.zeros(len(x), dtype=torch.int64)))
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


def weights(model: nn.Module) -> torch.Tensor:
    matrices = [p.detach().flatten() for p in model.parameters() if p.dim() > 1]
    return torch.cat(matrices)


def test_each_task_has_norms_of_its_own() -> None:
    model = packnet_model(slim_resnet18(2, input_shape=(3, 32, 32), n_classes=2), n_classes=2)
    norms: list[Any] = [m for m in model.modules() if isinstance(m, NormPerTask)]
    assert len(norms) == 20
    assert not any(isinstance(m, nn.BatchNorm2d) and m.eps != 1e-5 for m in model.modules())
    model(torch.randn(4, 3, 32, 32), torch.zeros(4, dtype=torch.int64))
    model.prune(0.5)
    model.freeze_pruned()
    for norm in norms:
        first, second = norm.norms
        assert not any(p.requires_grad for p in first.parameters())
        assert all(p.requires_grad for p in second.parameters())
        assert torch.equal(second.running_mean, torch.zeros_like(second.running_mean))
        assert not torch.equal(first.running_mean, second.running_mean)
