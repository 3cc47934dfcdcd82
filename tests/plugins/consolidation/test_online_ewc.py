"""Online EWC through a strategy."""

import warnings

import pytest
import torch

from avalanche_ext.functional.fisher.diagonal import diagonal_fisher
from avalanche_ext.plugins import OnlineEWCPlugin
from tests.cases import digits, make_naive, train, weights
from tests.oracles import reversed_fisher_by_loops
from tests.plugins.consolidation.consolidation_cases import naive, run, three_tasks
from tests.plugins.projection.test_mgem_models import Growing


@pytest.mark.parametrize("kind", ["true", "empirical"])
def test_the_fisher_is_of_the_kind_that_is_asked_for(kind):
    plugin = OnlineEWCPlugin(1.0, kind=kind)
    benchmark = three_tasks(n_experiences=1)
    strategy = run(plugin, benchmark=benchmark)
    dataset = benchmark.train_stream[0].dataset
    fisher = diagonal_fisher(strategy.model, dataset.x, dataset.y, kind)
    expected = torch.cat([piece.flatten() for piece in fisher.values()])
    torch.testing.assert_close(plugin.curvature.diagonal, expected)


def test_reversed_logits_leave_out_classes_that_a_growing_head_does_not_know():
    plugin, model = OnlineEWCPlugin(1.0, kind="reversed"), Growing()
    (experience,) = digits(order_seed=0, train_size=40).train_stream[:1]
    strategy = naive(plugin, model=model)
    strategy.train(experience, eval_streams=[])
    data = experience.dataset
    fisher = reversed_fisher_by_loops(model.eval(), data.x, data.y, unused=-1000.0)
    expected = torch.cat([torch.as_tensor(piece).flatten() for piece in fisher.values()])
    torch.testing.assert_close(plugin.curvature.diagonal, expected, rtol=1e-4, atol=1e-9)
    assert expected.any()
    assert not model.classifier.active_units.all()


def test_sampled_labels_are_its_own_and_new_for_each_task():
    def estimates(seed):
        plugin = OnlineEWCPlugin(0.0, 0.0, kind="sampled", seed=seed)
        strategy, found = naive(plugin), []
        (experience,) = three_tasks(n_experiences=1).train_stream
        for _ in range(2):
            strategy.train(experience, eval_streams=[], shuffle=False)
            strategy.optimizer.param_groups[0]["lr"] = 0.0
            found.append(plugin.curvature.diagonal)
        return found

    first, again, other = estimates(0), estimates(0), estimates(1)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    # The weights have not moved between the two.
    assert not torch.equal(first[0], first[1])


def test_it_forgets_less_than_without():
    benchmark = digits("permuted", n_experiences=4)

    def accuracies(lam):
        torch.manual_seed(0)
        strategy = make_naive(OnlineEWCPlugin(lam), train_epochs=3)
        train(strategy, benchmark)
        strategy.model.eval()
        return [
            float((strategy.model(e.dataset.x).argmax(1) == e.dataset.y).float().mean())
            for e in benchmark.test_stream
        ]

    held, free = accuracies(100.0), accuracies(0.0)
    assert sum(held[:-1]) > sum(free[:-1]) + 0.3


def test_without_discount_later_tasks_are_held_more_firmly():
    curvatures = {}
    for decay in (0.0, 0.5, 1.0):
        plugin = OnlineEWCPlugin(0.0, decay)
        run(plugin)
        curvatures[decay] = plugin.curvature.trace
    assert curvatures[0.0] < curvatures[0.5] < curvatures[1.0]


@pytest.mark.parametrize(
    "arguments",
    [
        {"lam": -1.0},
        {"lam": float("inf")},
        {"lam": float("nan")},
        {"decay": 1.1},
        {"decay": -0.1},
        {"decay": float("nan")},
        {"n_samples": 0},
        {"kind": "exact"},
        {"update": "decoupled"},
        {"every": 0},
        {"normalisation": "minmax"},
        {"seed": "one"},
    ],
)
def test_wrong_arguments_are_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        OnlineEWCPlugin(**arguments)


def test_iterations_need_a_number_of_samples():
    with pytest.raises(ValueError, match="n_samples=None: give a number with every=5"):
        OnlineEWCPlugin(every=5)


def test_the_anchor_is_where_the_task_ended():
    plugin = OnlineEWCPlugin(1.0)
    strategy = run(plugin)
    assert torch.equal(plugin.anchor, weights(strategy))


@pytest.mark.parametrize(("firmness", "expected"), [(1.9, 0), (2.1, 1)])
def test_steps_along_a_gradient_that_diverge_are_warned_of_once(firmness, expected):
    """Gradient descent on a parabola of curvature c diverges if the step times c is above 2."""
    first, second, _ = three_tasks().train_stream
    plugin = OnlineEWCPlugin(1.0, update="gradient")
    strategy = naive(plugin)
    strategy.train(first, eval_streams=[], shuffle=False)
    lr = strategy.optimizer.param_groups[0]["lr"]
    lam = firmness / (lr * plugin.curvature.largest)
    strategy = naive(OnlineEWCPlugin(lam, update="gradient"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        strategy.train(first, eval_streams=[], shuffle=False)
        strategy.train(second, eval_streams=[], shuffle=False)
    texts = [str(each.message) for each in caught]
    assert sum("use update='proximal'" in text for text in texts) == expected
