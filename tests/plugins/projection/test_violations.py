"""mGEM's statistics of violations, against counts by hand."""

import io
import math

import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets, with_classes_timeline
from avalanche.logging import InteractiveLogger, TextLogger
from avalanche.training.plugins import EvaluationPlugin
from torch import nn

from avalanche_ext.functional.projection.projection import Projection, project
from avalanche_ext.plugins import MGEMPlugin, diagnostics
from avalanche_ext.plugins.projection.mgem import ViolationStatistics
from tests.cases import digits, make_naive, plain_dataset, train, weights

# The last sample of an experience is what is remembered of it.
STREAM = [
    [[1.0, 0.0]],
    [[1.0, 1.0], [-1.0, 1.0], [2.0, 0.0], [0.0, 1.0]],
    [[-1.0, -1.0], [-1.0, 2.0], [1.0, 1.0], [3.0, 4.0]],
    [[1.0, 0.0], [2.0, 1.0]],
]
# In the third experience (-1, -1) becomes 0 and (-1, 2) becomes (0, 2) or (0, 3).
ANGLE = (90 + math.degrees(math.atan(1 / 2))) / 2


class Sum(nn.Module):
    """A weight for each coordinate, in two layers; the loss is its mean output.

    The gradient of a batch is then the mean of its samples, whatever the weights.
    """

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)

    def forward(self, x):
        return self.a(x[:, :1]) + self.b(x[:, 1:])


def trained(n_experiences=4, evaluator=None, **arguments):
    """Train one sample at a time; return the plugin and the strategy."""
    plugin = MGEMPlugin(1, **{"memory_strength": 0.0, "statistics": True, **arguments})
    given = {} if evaluator is None else {"evaluator": evaluator}
    strategy = make_naive(plugin, model=Sum(), batch_size=1, **given)
    strategy._criterion = lambda outputs, y: outputs.mean()
    labels = [torch.zeros(len(x), dtype=torch.int64) for x in STREAM]
    sets = [plain_dataset(torch.tensor(x), y, y) for x, y in zip(STREAM, labels, strict=True)]
    benchmark = with_classes_timeline(benchmark_from_datasets(train=sets, test=sets))
    for experience in [*benchmark.train_stream][:n_experiences]:
        strategy.train(experience, shuffle=False, eval_streams=[])
    return plugin, strategy


@pytest.mark.parametrize(
    ("arguments", "second", "third"),
    [
        ({}, (1 / 4, 1, 45), (1.5 / 4, 1.5 / 2, ANGLE)),
        ({"solver": "diagonal"}, (1 / 4, 1, 45), (1.5 / 4, 1.5 / 2, ANGLE)),
        ({"partition": "layer"}, (1 / 8, 1, 45), (0.75 / 4, 1 / 2, ANGLE)),
        ({"partition": 2}, (1 / 8, 1, 45), (0.75 / 4, 1 / 2, ANGLE)),
        ({"memory_strength": 1.0}, (1 / 4, 0, 45), (1.5 / 4, 0, ANGLE)),
    ],
    ids=str,
)
def test_shares_and_angles_are_those_counted_by_hand(arguments, second, third):
    plugin, _ = trained(**arguments)
    names = ["violated", "active", "angle"]
    numbers = {index: counts.numbers() for index, counts in plugin.statistics.items()}
    assert numbers == {
        1: pytest.approx({"projected": 1 / 4, **dict(zip(names, second, strict=True))}),
        2: pytest.approx({"projected": 2 / 4, **dict(zip(names, third, strict=True))}),
        3: {"projected": 0, "violated": 0},
    }


def test_there_are_none_without_constraints():
    plugin, strategy = trained(n_experiences=1)
    assert plugin.statistics == {}
    assert plugin.diagnostics() == {}
    assert diagnostics(strategy.plugins) == {}
    assert ViolationStatistics().numbers() == {}


def test_there_are_none_unless_they_are_asked_for():
    plugin, strategy = trained(statistics=False)
    assert plugin.statistics == {}
    assert diagnostics(strategy.plugins) == {}


@pytest.mark.parametrize("n", [2, 3, 4])
def test_diagnostics_are_those_of_the_last_experience(n):
    plugin, strategy = trained(n)
    numbers = plugin.statistics[n - 1].numbers()
    assert plugin.diagnostics() == {f"mgem/{name}": value for name, value in numbers.items()}
    assert diagnostics(strategy.plugins) == plugin.diagnostics()


def test_counting_changes_no_weights():
    def outcome(statistics):
        strategy = make_naive(MGEMPlugin(10, partition="layer", statistics=statistics))
        train(strategy, digits("permuted", n_experiences=3, train_size=60))
        return weights(strategy)

    assert torch.equal(outcome(True), outcome(False))


def test_epochs_of_an_experience_are_counted_together():
    plugin = MGEMPlugin(10, statistics=True)
    train(make_naive(plugin, train_epochs=3), digits("permuted", n_experiences=2, train_size=60))
    assert plugin.statistics[1]._n_iterations == 3 * 6


@pytest.mark.parametrize("logger", [TextLogger, InteractiveLogger])
def test_avalanches_evaluator_gets_them(logger, capsys):
    written = io.StringIO()
    own = logger(written) if logger is TextLogger else logger()
    evaluator = EvaluationPlugin(loggers=[own], collect_all=True)
    plugin, _ = trained(3, evaluator)
    expected = plugin.diagnostics()
    assert set(expected) == {f"mgem/{n}" for n in ("projected", "violated", "active", "angle")}
    assert expected.items() <= evaluator.last_metric_results.items()
    iterations = [len(STREAM[0] + STREAM[1]), len(STREAM[0] + STREAM[1] + STREAM[2])]
    assert evaluator.get_all_metrics()["mgem/projected"] == (iterations, [0.25, 0.5])
    text = written.getvalue() if logger is TextLogger else capsys.readouterr().out
    assert "mgem/projected = 0.2500" in text


def test_avalanches_evaluator_gets_nothing_of_an_experience_without_constraints():
    evaluator = EvaluationPlugin(loggers=[TextLogger(io.StringIO())], collect_all=True)
    trained(1, evaluator)
    assert not [name for name in evaluator.get_all_metrics() if name.startswith("mgem")]


def test_a_gradient_that_becomes_zero_is_turned_by_a_right_angle():
    counts, g = ViolationStatistics(), torch.tensor([1.0, 2.0])
    yes = torch.ones(1, 1, dtype=torch.bool)
    counts.count(g, Projection(torch.zeros(2), yes, yes))
    assert counts.numbers()["angle"] == pytest.approx(90)


def held_by(solver, strength):
    """⟨z, g_k⟩ of all active constraints of some random problems."""
    rng, products = torch.Generator().manual_seed(0), []
    for _ in range(60):
        g, G = torch.randn(6, 10, generator=rng, dtype=torch.float64).split([1, 5])
        projection = project(g[0], G, strength, solver)
        products.append((G @ projection.gradient)[projection.active[0]])
    return torch.cat(products)


@pytest.mark.parametrize("solver", ["pivoting", "quadprog"])
@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_active_constraints_are_those_that_hold_the_projection(solver, strength):
    products = held_by(solver, strength)
    assert len(products) > 20
    torch.testing.assert_close(products, torch.zeros_like(products), atol=1e-12, rtol=0)
