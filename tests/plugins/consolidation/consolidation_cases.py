"""Plugins that consolidate, runs of them, and a penalty whose matrix is written out."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from torch import Tensor

from avalanche_ext.functional.fisher.low_rank import LowRankCurvature
from avalanche_ext.models import MLP
from avalanche_ext.plugins import (
    FisherSpectrumEWCPlugin,
    KroneckerEWCPlugin,
    MASPlugin,
    OnlineEWCPlugin,
    SynapticIntelligencePlugin,
)
from tests.cases import Spy, digits, make_naive, weights

EACH: dict[str, Any] = {
    "online ewc": partial(OnlineEWCPlugin, n_samples=20),
    "spectrum": partial(FisherSpectrumEWCPlugin, rank=5, n_samples=20),
    "spectrum alone": partial(FisherSpectrumEWCPlugin, rank=5, n_samples=20, residual="none"),
    "kronecker": partial(KroneckerEWCPlugin, n_samples=20, rank=None, interval=1),
    "mas": partial(MASPlugin, n_samples=20),
    "si": SynapticIntelligencePlugin,
}
# At these, ηλ times the largest eigenvalue is a few tenths.
STRENGTH = {
    "online ewc": 20.0,
    "spectrum": 2.0,
    "spectrum alone": 2.0,
    "kronecker": 2.0,
    "mas": 1.0,
    "si": 50.0,
}


def three_tasks(**arguments: Any) -> Any:
    """Three tasks of permuted digits, 30 samples each."""
    return digits("permuted", **{"n_experiences": 3, "train_size": 30, **arguments})


def tiny() -> MLP:
    """An MLP small enough for dense matrices over its parameters, always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MLP([6], input_shape=(1, 8, 8), n_classes=10)


def naive(*plugins: Any, model: Any = None, optimizer: Any = None) -> Any:
    """Avalanche's Naive with these plugins, by default of the tiny model.

    Args:
        plugins: Its plugins.
        model: Another model.
        optimizer: Makes another optimizer of the model's parameters.
    """
    strategy = make_naive(*plugins, model=model or tiny())
    if optimizer is not None:
        strategy.optimizer = optimizer(strategy.model.parameters())
    return strategy


def run(*plugins: Any, benchmark: Any = None, **given: Any) -> Any:
    """Train on a benchmark, three small tasks unless given, without shuffling; see `naive`."""
    strategy = naive(*plugins, **given)
    for experience in (benchmark or three_tasks()).train_stream:
        strategy.train(experience, eval_streams=[], shuffle=False)
    return strategy


def dense(curvature: Any) -> Tensor:
    """F as a matrix, (P, P), in float64."""
    if not isinstance(curvature, LowRankCurvature):
        return torch.stack([curvature.product(row) for row in torch.eye(curvature.size)]).double()
    vectors = curvature.eigenvectors.double()
    matrix = vectors.T @ torch.diag(curvature.eigenvalues.double()) @ vectors
    if curvature.diagonal is not None:
        matrix = matrix + torch.diag(curvature.diagonal.double())
    return matrix


class AfterTheStep(SupervisedPlugin):
    """Keeps the parameters as the optimizer leaves them; list it before what pulls."""

    def after_update(self, strategy: Any, **kwargs: Any) -> None:
        self.weights = weights(strategy)


class Iterations(Spy):
    """Counts a check of each iteration in which there is a penalty; list it after the plugin."""

    def __init__(self, plugin: Any) -> None:
        super().__init__()
        self.plugin = plugin

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.start = weights(strategy)

    def after_update(self, strategy: Any, **kwargs: Any) -> None:
        if self.plugin.curvature is not None:
            self.check_step(strategy)
            self.checked += 1

    def check_step(self, strategy: Any) -> None:
        raise NotImplementedError


class Counting(OnlineEWCPlugin):
    """Keeps the samples of every estimate."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.samples: list[tuple[Tensor, Tensor]] = []

    def _estimate(self, strategy: Any, samples: Any) -> Any:
        x, y, t = samples()
        self.samples.append((x, y))
        return super()._estimate(strategy, lambda: (x, y, t))
