"""Old samples from other packages' plugins are refused with our memories, before any step."""

import pytest
import torch
from avalanche.benchmarks.utils import concat_datasets
from avalanche.benchmarks.utils.data_loader import ReplayDataLoader
from avalanche.core import SupervisedPlugin
from avalanche.training import JointTraining, Naive
from torch.utils.data import DataLoader

from avalanche_ext.plugins import (
    AGEMPlugin,
    DRLPlugin,
    GSSPlugin,
    MGEMPlugin,
    OnlineEWCPlugin,
    OnlineReplayPlugin,
)
from tests.cases import digits, plain_benchmark, quiet, train, weights


class OwnReplay(SupervisedPlugin):
    """Replays the experiences before in a loader, as a user's plugin may."""

    def __init__(self, make):
        super().__init__()
        self.make = make
        self.seen = []

    def before_training_exp(self, strategy, **kwargs):
        dataset = strategy.adapted_dataset
        if self.seen:
            strategy.dataloader = self.make(dataset, concat_datasets(self.seen))
        self.seen.append(dataset)


def replaying(dataset, memory):
    return ReplayDataLoader(dataset, memory, batch_size=5, batch_size_mem=5)


def joined(dataset, memory):
    both = concat_datasets([dataset, memory])
    return DataLoader(both, batch_size=5, shuffle=True, collate_fn=both.collate_fn)


class Remembering(Naive):
    """Trains on all experiences so far."""

    seen = None

    def train_dataset_adaptation(self, **kwargs):
        super().train_dataset_adaptation(**kwargs)
        if self.seen is not None:
            self.adapted_dataset = concat_datasets([self.seen, self.adapted_dataset])
        self.seen = self.adapted_dataset


STORING = [
    lambda: MGEMPlugin(20),
    lambda: OnlineReplayPlugin(20),
    lambda: AGEMPlugin(20),
    lambda: GSSPlugin(20),
]


def refused(strategy, plugin):
    """Train on two experiences and return the error of the second."""
    first, second = plain_benchmark(digits(train_size=20)).train_stream[:2]
    strategy.train(first, eval_streams=[])
    before = weights(strategy)
    with pytest.raises(ValueError, match=f"^{type(plugin).__name__} would treat old") as error:
        strategy.train(second, eval_streams=[])
    assert torch.equal(weights(strategy), before)
    assert len(plugin.buffer) <= 20
    return str(error.value)


@pytest.mark.parametrize("make", STORING)
@pytest.mark.parametrize("loader", [replaying, joined])
@pytest.mark.parametrize("ours_is_first", [True, False])
def test_a_plugin_with_a_loader_over_more_samples_is_refused(make, loader, ours_is_first):
    ours, theirs = make(), OwnReplay(loader)
    plugins = [ours, theirs] if ours_is_first else [theirs, ours]
    message = refused(quiet(plugins=plugins), ours)
    assert "experience 1 holds 20 samples, but the strategy trains on 40" in message
    assert f"remove {type(ours).__name__}, or the strategy or plugin that adds samples" in message


@pytest.mark.parametrize("make", STORING)
def test_a_strategy_that_adapts_the_dataset_to_more_samples_is_refused(make):
    ours = make()
    refused(quiet(Remembering, plugins=[ours]), ours)


def test_joint_training_is_refused_with_a_memory():
    strategy = quiet(JointTraining, plugins=[MGEMPlugin(20)])
    message = "'MGEMPlugin' cannot be combined with 'JointTraining': samples that one of them"
    with pytest.raises(ValueError, match=message):
        strategy.train(plain_benchmark(digits(train_size=20)).train_stream, eval_streams=[])


@pytest.mark.parametrize("strategy", [Naive, Remembering])
def test_methods_without_a_memory_go_with_old_samples(strategy):
    plugins = [OwnReplay(replaying), DRLPlugin(), OnlineEWCPlugin()]
    train(quiet(strategy, plugins=plugins), plain_benchmark(digits(train_size=20)))


def test_a_loader_that_cannot_tell_its_size_is_let_be():
    class Unsized(SupervisedPlugin):
        def before_training_exp(self, strategy, **kwargs):
            strategy.dataloader = [*strategy.dataloader]

    ours = MGEMPlugin(20)
    train(quiet(plugins=[Unsized(), ours]), plain_benchmark(digits(train_size=20)))
    assert len(ours.buffer) == 100
