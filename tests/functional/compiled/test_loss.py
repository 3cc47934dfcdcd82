"""One compiled function computes a model's loss and gradients, as the model itself does."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from avalanche_ext.functional.compiled.loss import CompiledLoss
from avalanche_ext.models import MLP
from avalanche_ext.plugins import DRLPlugin, MultiSimilarityPlugin, RMarginPlugin

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def model():
    """The model of all tests with compiled code, always with the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MLP([16], input_shape=(1, 8, 8), n_classes=10)


def batch(n):
    generator = torch.Generator().manual_seed(n)
    x = torch.randn(n, 1, 8, 8, generator=generator)
    return x, torch.randint(10, (n,), generator=generator)


def check_same(loss, model, terms, x, y):
    """What compiled code returns is what copies of the model and of its terms compute."""
    copy, copied_terms = deepcopy((model, terms))
    for term in copied_terms:
        term.watch(copy)
    outputs = copy(x)
    criterion = nn.functional.cross_entropy(outputs, y)
    losses = [term.lam * term.loss_seen(outputs, y, *term.loss_tensors(y)) for term in copied_terms]
    sum(losses, criterion).backward()
    found = loss(x, y)
    torch.testing.assert_close(found.criterion, criterion.detach(), **CLOSE)
    torch.testing.assert_close(found.outputs, outputs.detach(), **CLOSE)
    for one, right in zip(found.terms, losses, strict=True):
        torch.testing.assert_close(one, right.detach(), **CLOSE)
    parameters = [*copy.parameters(), *(p for term in copied_terms for p in term.loss_parameters())]
    for gradient, p in zip(found.gradients, parameters, strict=True):
        torch.testing.assert_close(gradient, p.grad, **CLOSE)


def no_terms(lam):
    return []


def three_terms(lam):
    return [
        DRLPlugin(lam=lam, normalisation="pairs", layers=["hidden.0", "logits"]),
        MultiSimilarityPlugin(lam=lam, form="pairs"),
        RMarginPlugin(lam=lam, hinge=True, redraw=True),
    ]


@pytest.mark.parametrize("make_terms", [no_terms, three_terms])
def test_two_compiled_versions_serve_all_mini_batches_and_models_of_one_architecture(make_terms):
    before = counters["stats"]["unique_graphs"]
    for lam in (0.1, 0.3):
        network, terms = model(), make_terms(lam)
        nn.init.constant_(network.classifier.bias, lam)
        loss = CompiledLoss(network, nn.CrossEntropyLoss(), terms)
        for n in (1, 2, 7, 13, 36, 37, 38, 59, 100, 1):
            check_same(loss, network, terms, *batch(n))
        for term in terms:
            term.lam = 0.2
        check_same(loss, network, terms, *batch(5))
    # Other tests may have compiled the first ones.
    assert counters["stats"]["unique_graphs"] <= before + 2


class Summed(nn.Sequential):
    """The sum of two layers, whose biases have one gradient."""

    def __init__(self):
        super().__init__(nn.Linear(8, 10), nn.Linear(8, 10))

    def forward(self, x):
        return self[0](x[:, 0, 0]) + self[1](x[:, 0, 1])


def test_each_parameter_has_a_gradient_of_its_own_laid_out_as_it_is():
    network = Summed()
    network[1].weight.data = network[1].weight.data.T.contiguous().T
    loss = CompiledLoss(network, nn.CrossEntropyLoss())
    check_same(loss, network, [], *batch(5))
    found = loss(*batch(4))
    assert len({g.data_ptr() for g in found.gradients}) == 4
    strides = [p.stride() for p in network.parameters()]
    assert [g.stride() for g in found.gradients] == strides
    assert (1, 10) in strides


def test_a_setting_that_is_set_again_to_an_equal_value_is_no_change():
    network, criterion = nn.Conv2d(1, 10, 8), nn.CrossEntropyLoss()
    network.temperature = 0.2
    loss = CompiledLoss(network, criterion)
    network.temperature, network.padding = float("0.2"), (0, 0)
    assert loss.is_still_of(network, criterion)
    network.temperature = 0.3
    assert not loss.is_still_of(network, criterion)
    network.temperature, network.padding = 0.2, (1, 1)
    assert not loss.is_still_of(network, criterion)


def test_a_list_that_changes_in_place_is_a_change():
    network, criterion = nn.Linear(4, 10), nn.CrossEntropyLoss()
    network.scales = [1.0, 2.0]
    loss = CompiledLoss(network, criterion)
    assert loss.is_still_of(network, criterion)
    network.scales[0] = 3.0
    assert not loss.is_still_of(network, criterion)
