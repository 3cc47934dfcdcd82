"""Running a model in another mode than its own."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from avalanche_ext.functional.model.running import evaluating, is_samplewise, losses_by_sample


class Counting(nn.Dropout):
    """Counts how often its mode is set by `train`."""

    n_set = 0

    def train(self, mode=True):
        self.n_set += 1
        return super().train(mode)


def mixed():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), Counting())
    model.train()
    model[1].eval()
    return model


def modes(model):
    return [module.training for module in model.modules()]


def test_every_module_is_in_eval_mode_inside_and_in_its_own_afterwards():
    model = mixed()
    with evaluating(model):
        assert not any(modes(model))
    assert modes(model) == [True, True, False, True]
    assert model[2].n_set == 1


def test_modes_are_put_back_after_an_error():
    model = mixed()
    with pytest.raises(ZeroDivisionError), evaluating(model):
        raise ZeroDivisionError
    assert modes(model) == [True, True, False, True]


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.ReLU(), True),
        (nn.LayerNorm(8), True),
        (nn.GroupNorm(2, 8), True),
        (nn.Dropout(), True),
        (nn.BatchNorm1d(8), False),
        (nn.BatchNorm1d(8, affine=False), False),
        (nn.Sequential(nn.BatchNorm2d(8, track_running_stats=False)), False),
        (nn.SyncBatchNorm(8), False),
        (nn.InstanceNorm1d(8, track_running_stats=True), False),
    ],
)
def test_batch_statistics_make_samples_depend_on_each_other(layer, expected):
    assert is_samplewise(nn.Sequential(nn.Linear(6, 8), layer)) is expected


class Averaging(nn.CrossEntropyLoss):
    """Averages whatever its attribute `reduction` says."""

    def forward(self, outputs, y):
        return cross_entropy(outputs, y)


@pytest.mark.parametrize(
    "criterion",
    [
        cross_entropy,
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(reduction="sum"),
        lambda outputs, y: cross_entropy(outputs, y),
        Averaging(),
    ],
)
@pytest.mark.parametrize("n", [1, 4])
def test_the_loss_of_each_sample(criterion, n):
    generator = torch.Generator().manual_seed(0)
    outputs, y = torch.randn(n, 3, generator=generator), torch.arange(n) % 3
    losses = losses_by_sample(criterion, outputs, y)
    expected = [cross_entropy(outputs[i : i + 1], y[i : i + 1]) for i in range(n)]
    torch.testing.assert_close(losses, torch.stack(expected))
