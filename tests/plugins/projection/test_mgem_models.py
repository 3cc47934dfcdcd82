"""GEM with models that grow, choose heads, or see a sample in several rows; GEM put aside."""

import pickle
from copy import deepcopy

import torch
from avalanche.models import IncrementalClassifier
from torch import nn

from avalanche_ext.benchmarks import split_digits
from avalanche_ext.models.catalogue import mlp
from avalanche_ext.plugins import MGEMPlugin
from tests.cases import digits, make_naive, train, weights
from tests.plugins.projection.gem_cases import SMALL, Expected, by_layer, check


class Growing(nn.Module):
    """A classifier with outputs for the classes seen so far."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU())
        self.classifier = IncrementalClassifier(16, initial_out_features=1)

    def forward(self, x):
        return self.classifier(self.hidden(x))


class Tokens(nn.Module):
    """Rows of the image as tokens, which one linear layer sees as a third dimension."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.classifier = nn.Linear(8, 6), nn.Linear(6, 10)

    def forward(self, x):
        return self.classifier(torch.relu(self.embed(x.squeeze(1))).mean(dim=1))


def test_classifiers_that_grow():
    plugin, model = MGEMPlugin(20, 0.1, partition="layer"), Growing()
    expected = Expected(plugin, 0.1, by_layer)
    train(make_naive(plugin, expected, model=model), digits("split", train_size=60))
    assert model.classifier.classifier.out_features == 10
    assert expected.n_projected > 10


def test_a_cone_for_each_head():
    plugin = MGEMPlugin(20, 0.5, partition="layer")
    model = mlp([16], multi_head=True, input_shape=(1, 8, 8), n_classes=2)
    benchmark = split_digits(n_experiences=5, train_size=60, scenario="task")
    check(plugin, Expected(plugin, 0.5, by_layer), model, benchmark)


def test_layers_that_see_a_sample_in_several_rows():
    for arguments in ({}, {"n_groups": 2}):
        plugin = MGEMPlugin(20, 0.5, **arguments)
        check(plugin, Expected(plugin, 0.5, **arguments), Tokens())


def test_it_resumes_from_a_copy_or_a_pickle_as_if_nothing_had_happened():
    first, *rest = digits("permuted", **SMALL).train_stream
    results = []
    for again in (lambda it: it, deepcopy, lambda it: pickle.loads(pickle.dumps(it))):
        plugin = MGEMPlugin(20, 0.5)
        strategy = make_naive(plugin, batch_size=10)
        strategy.train(first, eval_streams=[])
        strategy.plugins[strategy.plugins.index(plugin)] = again(plugin)
        for experience in rest:
            strategy.train(experience, eval_streams=[])
        results.append(weights(strategy))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_a_pickle_holds_the_memory_once():
    plugin = MGEMPlugin(20)
    strategy = make_naive(plugin, batch_size=10)
    train(strategy, digits("permuted", **SMALL))
    assert len(pickle.dumps(plugin)) < 1.2 * len(pickle.dumps(plugin.buffer)) + 2000
