"""Losses of pytorch-metric-learning in a strategy."""

import random
import sys

import pytest
import torch
from pytorch_metric_learning.losses import ContrastiveLoss, ProxyAnchorLoss
from torch import nn

from avalanche_ext.plugins import (
    MetricLossPlugin,
)
from tests.cases import Spy, digits, make_naive, train, weights

PROXIES = {"num_classes": 10, "embedding_size": 16}
ROWS = torch.randn(6, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])


class Adds(Spy):
    """Checks that the loss is the criterion and λ times that of the last hidden layer."""

    def __init__(self, loss, lam) -> None:
        super().__init__()
        self.loss, self.lam = loss, lam

    def after_backward(self, strategy, **kwargs):
        x, y = strategy.mb_x, strategy.mb_y
        expected = nn.functional.cross_entropy(strategy.mb_output, y)
        expected = expected + self.lam * self.loss(strategy.model.hidden(x.flatten(1)), y)
        torch.testing.assert_close(strategy.loss, expected.reshape(1))
        self.checked += 1


def test_adds_lam_times_a_loss_by_name():
    check = Adds(ContrastiveLoss(neg_margin=0.7), 0.2)
    plugin = MetricLossPlugin("ContrastiveLoss", 0.2, args={"neg_margin": 0.7})
    train(make_naive(plugin, check), digits())
    assert check.checked > 100


def test_a_loss_with_proxies_trains_them_as_well():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loss = ProxyAnchorLoss(**PROXIES)
    before = loss.proxies.detach().clone()
    check = Adds(loss, 0.2)
    train(make_naive(MetricLossPlugin(loss, 0.2), check), digits())
    assert check.checked > 100
    assert ((loss.proxies - before).abs().amax(dim=1) > 1e-3).all()


def test_any_callable_will_do_and_layers_add_up():
    plugin = MetricLossPlugin(lambda h, y: (h**2).mean(), layers=["hidden.1", "logits"])
    total = plugin.representation_loss([ROWS, 2 * ROWS], LABELS)
    torch.testing.assert_close(total, 5 * (ROWS**2).mean())


def test_parameters_are_seeded_and_the_global_generators_left_alone():
    states = torch.get_rng_state(), random.getstate()
    made = [MetricLossPlugin("ProxyAnchorLoss", args=PROXIES, seed=seed) for seed in (1, 1, 2)]
    proxies = [plugin.loss.proxies for plugin in made]
    assert torch.equal(proxies[0], proxies[1])
    assert not torch.equal(proxies[0], proxies[2])
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]


def test_what_a_loss_draws_is_seeded_and_the_global_generators_left_alone():
    def dropping(h, y):
        return nn.functional.dropout(h).sum()

    before = torch.get_rng_state()
    draws = [
        [plugin.representation_loss([ROWS], LABELS).item() for _ in range(3)]
        for plugin in (MetricLossPlugin(dropping, seed=seed) for seed in (1, 1, 2))
    ]
    assert draws[0] == draws[1] != draws[2]
    assert len({*draws[0]}) == 3
    assert torch.equal(torch.get_rng_state(), before)


def test_batches_of_one_sample_train():
    strategy = make_naive(MetricLossPlugin("TripletMarginLoss"), batch_size=1)
    train(strategy, digits(train_size=7))
    assert torch.isfinite(weights(strategy)).all()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)
    with pytest.raises(ImportError, match=r"pip install pytorch-metric-learning"):
        MetricLossPlugin("ContrastiveLoss")
    MetricLossPlugin(lambda h, y: h.sum())


def test_an_unknown_name_gets_similar_ones_suggested():
    with pytest.raises(ValueError, match=r"'MultiSimilarity': .* has MultiSimilarityLoss"):
        MetricLossPlugin("MultiSimilarity")


@pytest.mark.parametrize("name", ["CrossBatchMemory", "BaseMetricLossFunction", "lmu"])
def test_only_losses_are_found(name):
    with pytest.raises(ValueError, match="no such class"):
        MetricLossPlugin(name)


@pytest.mark.parametrize("args", [None, {"num_class": 3}, {**PROXIES, "alhpa": 3}])
def test_wrong_args_of_the_class_are_named(args):
    with pytest.raises(ValueError, match=r"args=.*ProxyAnchorLoss"):
        MetricLossPlugin("ProxyAnchorLoss", args=args)


def test_args_need_the_name_of_a_class():
    with pytest.raises(ValueError, match=r"args=.*ContrastiveLoss"):
        MetricLossPlugin(ContrastiveLoss(), args={"neg_margin": 0.7})


def test_a_loss_of_each_row_is_refused():
    plugin = MetricLossPlugin(lambda h, y: h.sum(dim=1))
    with pytest.raises(ValueError, match=r"shape \(6,\).*scalar"):
        plugin.representation_loss([ROWS], LABELS)


@pytest.mark.parametrize(
    "arguments", [{"loss": 3}, {"lam": -1.0}, {"args": [1]}, {"layers": []}, {"lr": -1.0}]
)
def test_wrong_arguments_are_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        MetricLossPlugin(**{"loss": "ContrastiveLoss", **arguments})


@pytest.mark.parametrize(
    ("loss", "found"),
    [
        (lambda h, y: (h, y), "loss=function: returned \\("),
        (lambda h, y: {"loss": h.sum()}, "loss=function: returned {'loss'"),
        (ContrastiveLoss, "loss=ContrastiveLoss: returned ContrastiveLoss"),
    ],
)
def test_what_returns_no_tensor_is_refused(loss, found):
    strategy = make_naive(MetricLossPlugin(loss))
    with pytest.raises(ValueError, match=found):
        strategy.train(digits().train_stream[0], eval_streams=[])
