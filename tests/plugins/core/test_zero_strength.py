"""Losses on representations with other methods: with strength zero they have no effect."""

import pytest
import torch

from avalanche_ext.plugins import (
    BalancedReplayPlugin,
    DRLPlugin,
    MetricLossPlugin,
    MGEMPlugin,
    MultiSimilarityPlugin,
    OnlineEWCPlugin,
    RMarginPlugin,
)
from tests.cases import digits, make_naive, train, weights


def triplets(lam):
    return MetricLossPlugin("TripletMarginLoss", lam)


def proxies(lam):
    args = {"num_classes": 10, "embedding_size": 16}
    return MetricLossPlugin("ProxyAnchorLoss", lam, args=args)


EACH = {
    "drl": (lambda lam: DRLPlugin(lam=lam), 1e-3),
    "multi_similarity": (MultiSimilarityPlugin, 1e-2),
    "r_margin": (RMarginPlugin, 1e-3),
    "metric_loss": (triplets, 0.05),
    "metric_loss with proxies": (proxies, 0.05),
}


@pytest.fixture(scope="module")
def without():
    return trained()


def trained(*more):
    """Weights after training with plugins that replay, penalise and project."""
    torch.manual_seed(0)
    beside = BalancedReplayPlugin(20, seed=1), OnlineEWCPlugin(1.0), MGEMPlugin(20)
    strategy = make_naive(*beside, *more, batch_size=5)
    train(strategy, digits(n_experiences=5, train_size=40))
    return weights(strategy)


@pytest.mark.parametrize(("make", "lam"), EACH.values(), ids=EACH)
def test_zero_strength_changes_nothing_and_another_does(make, lam, without):
    assert torch.equal(trained(make(0.0)), without)
    with_it = trained(make(lam))
    assert torch.isfinite(with_it).all()
    assert not torch.equal(with_it, without)
