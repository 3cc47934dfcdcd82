"""GEM with extreme arguments and inputs."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from avalanche_ext.plugins import MGEMPlugin
from avalanche_ext.plugins.core.guard import DivergedError
from tests.cases import digits, make_naive, small_model, train, weights
from tests.plugins.projection.gem_cases import SMALL, Expected, check


class TestDegenerateCases:
    def test_a_memory_of_one_sample(self):
        plugin = MGEMPlugin(1)
        check(plugin, Expected(plugin, 0.5))

    def test_more_groups_than_samples(self):
        plugin = MGEMPlugin(2, n_groups=5)
        strategy = make_naive(plugin, batch_size=10)
        train(strategy, digits("permuted", **SMALL))
        assert [len(slots) for slots in plugin.buffer.groups("task").values()] == [2, 2, 2]

    def test_a_gradient_of_zero_stays_zero(self):
        strategy = make_naive(MGEMPlugin(5))
        strategy._criterion = lambda outputs, y: 0.0 * outputs.sum()
        before = weights(strategy).clone()
        train(strategy, digits("permuted", **SMALL))
        assert torch.equal(weights(strategy), before)

    def test_a_diverged_model_is_named(self):
        strategy = make_naive(MGEMPlugin(5, 0.5))
        strategy.optimizer.param_groups[0]["lr"] = 1e30
        with pytest.raises(DivergedError, match="the loss became nan at iteration 1 "):
            train(strategy, digits("permuted", **SMALL))

    def test_a_gradient_that_is_not_finite_is_named_where_the_loss_is(self):
        strategy = make_naive(MGEMPlugin(5, 0.5))
        first, second, *_ = digits("permuted", **SMALL).train_stream
        strategy.train(first, eval_streams=[])
        strategy._criterion = lambda outputs, y: (0.0 * outputs).sum().sqrt()
        with pytest.raises(FloatingPointError, match="training has diverged"):
            strategy.train(second, eval_streams=[])

    def test_frozen_parameters_are_left_out(self):
        model = small_model()
        model.hidden[0].weight.requires_grad_(False)
        before = model.hidden[0].weight.clone()
        plugin = MGEMPlugin(20, partition="tensor")
        train(make_naive(plugin, model=model, batch_size=10), digits("permuted", **SMALL))
        assert torch.equal(model.hidden[0].weight, before)
        assert plugin._layout.names[0] == "hidden.0.bias"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"size_per_task": 0}, "size_per_task"),
        ({"memory_strength": -0.1}, "memory_strength"),
        ({"memory_strength": []}, "memory_strength"),
        ({"memory_strength": float("inf")}, "memory_strength"),
        ({"memory_strength": [0.5, -1.0]}, "memory_strength"),
        ({"partition": "layers"}, "partition"),
        ({"partition": 0}, "partition"),
        ({"partition": []}, "partition"),
        ({"n_groups": 0}, "n_groups"),
        ({"solver": "qp"}, "solver"),
        ({"group_by": "domain"}, "group_by"),
        ({"buffer": 256}, "buffer"),
    ],
)
def test_wrong_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        MGEMPlugin(**arguments)


@pytest.mark.parametrize(
    ("partition", "message"),
    [
        (["hidden.*", "head.*"], r"'head\.\*' matches no parameter, of .*hidden\.0\.weight"),
        (10**6, r"partition=1000000: must be between 1 and 2778"),
    ],
)
def test_a_partition_that_does_not_fit_the_model_is_named_before_training(partition, message):
    strategy = make_naive(MGEMPlugin(partition=partition))
    before = weights(strategy).clone()
    with pytest.raises(ValueError, match=message):
        train(strategy, digits())
    assert torch.equal(weights(strategy), before)


def test_a_gradient_of_zero_of_a_parametrised_layer_stays_zero():
    model = nn.Sequential(nn.Flatten(), weight_norm(nn.Linear(64, 10)))
    strategy = make_naive(MGEMPlugin(5), model=model)
    strategy._criterion = lambda outputs, y: 0.0 * outputs.sum()
    before = weights(strategy).clone()
    train(strategy, digits("permuted", **SMALL))
    assert torch.equal(weights(strategy), before)
