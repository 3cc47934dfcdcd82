"""Consolidation combined with other methods in one strategy."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.training import plugins as theirs

from avalanche_ext.functional import project_gradient
from avalanche_ext.plugins import (
    AGEMPlugin,
    BGDPlugin,
    DRLPlugin,
    GMEDPlugin,
    GSSPlugin,
    HALPlugin,
    MASPlugin,
    MGEMPlugin,
    OnlineEWCPlugin,
    OnlineReplayPlugin,
    SynapticIntelligencePlugin,
    check_composition,
)
from tests.cases import digits, weights
from tests.plugins.consolidation.consolidation_cases import (
    EACH,
    STRENGTH,
    AfterTheStep,
    naive,
    run,
    three_tasks,
)

OTHERS = {
    "er": lambda: [OnlineReplayPlugin(20, 5)],
    "drl": lambda: [OnlineReplayPlugin(20, 5), DRLPlugin(2.0, 0.01)],
    "mgem": lambda: [MGEMPlugin(10)],
    "gmed": lambda: [GMEDPlugin(20, 5)],
    "mir+gmed": lambda: [GMEDPlugin(20, 5, retrieval="mir", n_candidates=10)],
    "hal": lambda: [HALPlugin(20, 5, hindsight_steps=2, anchor_steps=2)],
    "lwf": lambda: [theirs.LwFPlugin(alpha=1.0, temperature=2.0)],
    "their replay": lambda: [theirs.ReplayPlugin(20)],
    "their gem": lambda: [theirs.GEMPlugin(10, 0.5)],
    "si": lambda: [SynapticIntelligencePlugin(50.0, update="gradient")],
}


@pytest.mark.parametrize("update", ["proximal", "gradient"])
@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("other", OTHERS)
def test_with_others_it_changes_what_is_learned_whatever_the_order(other, name, update):
    def final(lam, *, first):
        torch.manual_seed(0)
        plugins = [EACH[name](lam, update=update), *OTHERS[other]()]
        return weights(run(*(plugins if first else reversed(plugins))))

    for first in (True, False):
        held, free = final(STRENGTH[name], first=first), final(0.0, first=first)
        assert torch.isfinite(held).all()
        assert not torch.equal(held, free)


@pytest.mark.parametrize("name", EACH)
def test_it_is_refused_with_bgd(name):
    for plugins in ([EACH[name](1.0), BGDPlugin()], [BGDPlugin(), EACH[name](1.0)]):
        strategy = naive(*plugins)
        before = weights(strategy)
        with pytest.raises(ValueError, match=r"combined with .BGDPlugin.*criterion alone"):
            strategy.train(three_tasks().train_stream[0], eval_streams=[])
        assert torch.equal(weights(strategy), before)


@pytest.mark.parametrize(
    "path",
    [
        lambda: SynapticIntelligencePlugin(1.0),
        lambda: theirs.SynapticIntelligencePlugin(1.0),
        lambda: theirs.RWalkPlugin(),
    ],
)
def test_a_path_is_refused_with_steps_that_it_cannot_see(path):
    for plugins in ([path(), GSSPlugin(20)], [GSSPlugin(20), path()]):
        strategy = naive(*plugins)
        before = weights(strategy)
        with pytest.raises(ValueError, match=r"combined with .GSSPlugin.* further steps"):
            strategy.train(three_tasks().train_stream[0], eval_streams=[])
        assert torch.equal(weights(strategy), before)
    check_composition([OnlineEWCPlugin(1.0), GSSPlugin(20)])


def test_any_number_of_them_go_together_and_with_replay():
    plugins = [make(1.0) for make in EACH.values()]
    check_composition([*plugins, OnlineReplayPlugin(20), MGEMPlugin(10)])
    check_composition([theirs.ReplayPlugin(10), *plugins])


class Gradients(SupervisedPlugin):
    """Records the gradient at its place in the list of plugins."""

    def after_backward(self, strategy, **kwargs):
        self.last = torch.cat([p.grad.flatten() for p in strategy.model.parameters()])


class Before(SupervisedPlugin):
    """Keeps the weights and the loss's own gradient, and those of the first task's memory."""

    def __init__(self, mgem):
        super().__init__()
        self.mgem = mgem

    def before_backward(self, strategy, **kwargs):
        parameters = [*strategy.model.parameters()]
        self.weights, losses = weights(strategy), [strategy.loss]
        slots = self.mgem.buffer.groups("task").get(0, [])
        x, y, _ = self.mgem.buffer.fetch(np.array(slots, dtype=np.int64))
        losses.append(strategy._criterion(strategy.model(x), y))
        found = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in losses]
        self.loss, self.memory = (torch.cat([g.flatten() for g in each]) for each in found)


def beside_gem(update, *, ewc_first):
    """Train two tasks; return the gradients around GEM's projection in the last iteration."""
    ewc, mgem = OnlineEWCPlugin(200.0, update=update), MGEMPlugin(10, 0.5)
    before, seen, projected, step = Before(mgem), Gradients(), Gradients(), AfterTheStep()
    middle = [ewc, mgem] if ewc_first else [mgem, ewc]
    strategy = naive(before, seen, step, *middle, projected)
    # Other classes of one classifier, whose gradients conflict.
    first, second, *_ = digits(train_size=30).train_stream
    strategy.train(first, eval_streams=[], shuffle=False)
    held, anchor = ewc.curvature.diagonal, ewc.anchor
    strategy.train(second, eval_streams=[], shuffle=False)
    return SimpleNamespace(
        start=before.weights,
        loss=before.loss,
        penalty=200.0 * held * (before.weights - anchor),
        memory=before.memory,
        seen=seen.last,
        projected=projected.last,
        stepped=step.weights,
        end=weights(strategy),
    )


@pytest.mark.parametrize("ewc_first", [True, False])
def test_a_projection_sees_loss_and_penalty_of_the_gradient_form(ewc_first):
    found = beside_gem("gradient", ewc_first=ewc_first)
    assert found.penalty.norm() > 0.01 * found.loss.norm()
    torch.testing.assert_close(found.seen, found.loss + found.penalty, rtol=1e-4, atol=1e-6)
    expected = project_gradient(found.loss + found.penalty, found.memory[None], 0.5)
    torch.testing.assert_close(found.projected, expected, rtol=1e-3, atol=1e-5)
    assert torch.equal(found.end, found.stepped)


@pytest.mark.parametrize("ewc_first", [True, False])
def test_a_proximal_pull_follows_the_projected_step(ewc_first):
    found = beside_gem("proximal", ewc_first=ewc_first)
    torch.testing.assert_close(found.seen, found.loss)
    expected = project_gradient(found.loss, found.memory[None], 0.5)
    assert (expected - found.loss).norm() > 0.01 * found.loss.norm()
    torch.testing.assert_close(found.projected, expected, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found.stepped, found.start - 0.05 * found.projected)
    assert not torch.equal(found.end, found.stepped)


def test_importance_is_of_the_gradient_before_a_projection_that_comes_later():
    listed = {}
    for order in ("before", "after"):
        plugin = SynapticIntelligencePlugin(0.0)
        plugins = [plugin, MGEMPlugin(10)] if order == "before" else [MGEMPlugin(10), plugin]
        run(*plugins)
        listed[order] = plugin.curvature.diagonal
    assert not torch.equal(listed["before"], listed["after"])


def test_two_penalties_add_up():
    both = run(OnlineEWCPlugin(5.0, update="gradient"), OnlineEWCPlugin(15.0, update="gradient"))
    one = run(OnlineEWCPlugin(20.0, update="gradient"))
    torch.testing.assert_close(weights(both), weights(one), rtol=1e-5, atol=1e-6)


def test_mas_and_ewc_give_diagnostics_of_their_own():
    ewc, mas = OnlineEWCPlugin(1.0), MASPlugin(1.0)
    run(ewc, mas)
    assert {k.split("/")[0] for k in ewc.diagnostics()} == {"ewc"}
    assert {k.split("/")[0] for k in mas.diagnostics()} == {"mas"}


@pytest.mark.parametrize(
    ("pair", "commutes"),
    [
        (lambda: [OnlineEWCPlugin(200.0, n_samples=20), MASPlugin(10.0, n_samples=20)], True),
        (lambda: [EACH["spectrum"](50.0), MASPlugin(10.0, n_samples=20)], False),
        (lambda: [AGEMPlugin(20, 10), MGEMPlugin(10)], False),
    ],
    ids=["two diagonals", "a spectrum and a diagonal", "two projections"],
)
def test_the_order_of_plugins_of_one_phase_counts_as_documented(pair, commutes):
    first, second = (weights(run(*order(pair()))) for order in (list, reversed))
    assert torch.allclose(first, second, atol=1e-6) == commutes
