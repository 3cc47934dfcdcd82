"""Memory aware synapses through a strategy."""

from copy import deepcopy

import pytest
import torch

from avalanche_ext.plugins import MASPlugin
from tests.plugins.consolidation.consolidation_cases import naive, run, three_tasks


def importance_by_loops(model, samples):
    """The mean over samples of the gradient's absolute value, in float64, one by one."""
    model = deepcopy(model).double().eval()
    parameters = [*model.parameters()]
    total = torch.zeros(sum(p.numel() for p in parameters), dtype=torch.float64)
    for x in samples.double():
        squared = model(x[None]).square().sum()
        gradient = torch.autograd.grad(squared, parameters)
        total += torch.cat([g.flatten() for g in gradient]).abs()
    return total / len(samples)


def test_importances_are_those_of_a_plain_loop():
    plugin = MASPlugin(1.0, 0.5)
    strategy, estimates = naive(plugin), []
    for experience in three_tasks().train_stream:
        strategy.train(experience, eval_streams=[])
        estimates.append(importance_by_loops(strategy.model, experience.dataset.x))
    first, second, third = estimates
    expected = 0.25 * first + 0.5 * second + third
    actual = plugin.curvature.diagonal.double()
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)


def test_labels_have_no_influence_on_importances():
    plugins = []
    for shift in (0, 3):
        plugin = MASPlugin(1.0)
        benchmark = three_tasks(n_experiences=1)
        dataset = benchmark.train_stream[0].dataset
        dataset.y.add_(shift).remainder_(10)
        run(plugin, benchmark=benchmark, optimizer=lambda p: torch.optim.SGD(p, lr=0.0))
        plugins.append(plugin)
    assert torch.equal(plugins[0].curvature.diagonal, plugins[1].curvature.diagonal)


@pytest.mark.parametrize(
    "arguments",
    [{"lam": -1.0}, {"decay": 2.0}, {"n_samples": 0}, {"update": "none"}, {"every": -3}],
)
def test_wrong_arguments_are_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        MASPlugin(**arguments)


def test_iterations_need_a_number_of_samples():
    with pytest.raises(ValueError, match="n_samples=None: give a number with every=5"):
        MASPlugin(every=5)
