"""R-margin in a strategy, and its masks of switched pairs."""

import pickle

import pytest
import torch
from torch import nn

from avalanche_ext.functional import margin_loss
from avalanche_ext.plugins import (
    RMarginPlugin,
)
from tests.cases import Spy, digits, make_naive, train, weights

LABELS = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])
ROWS = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))


def value(plugin, n: int = 8) -> float:
    return plugin.representation_loss([ROWS[:n]], LABELS[:n]).item()


@pytest.mark.parametrize("hinge", [False, True])
def test_adds_lam_times_the_loss_of_the_last_hidden_layer(hinge):
    plugin = RMarginPlugin(0.01, boundary=0.5, margin=0.3, p_switch=0.0, hinge=hinge)

    class Check(Spy):
        def after_backward(self, strategy, **kwargs):
            model, x, y = strategy.model, strategy.mb_x, strategy.mb_y
            last = model.hidden(x.flatten(1))
            loss = margin_loss(last, y, plugin.boundary, 0.3, hinge=hinge)
            expected = nn.functional.cross_entropy(strategy.mb_output, y) + 0.01 * loss
            torch.testing.assert_close(strategy.loss, expected.reshape(1))
            self.checked += 1

    check = Check()
    train(make_naive(plugin, check), digits())
    assert check.checked > 100
    assert plugin.boundary.item() != 0.5


def test_several_layers_add_up():
    plugin = RMarginPlugin(layers=["hidden.1", "logits"])
    both = plugin.representation_loss([ROWS, ROWS[:, :2]], LABELS)
    apart = [plugin.representation_loss([rows], LABELS) for rows in (ROWS, ROWS[:, :2])]
    torch.testing.assert_close(both, sum(apart))


def test_without_the_hinge_the_boundary_has_no_influence_on_the_model():
    def final(boundary: float) -> torch.Tensor:
        torch.manual_seed(0)
        strategy = make_naive(RMarginPlugin(0.01, boundary=boundary))
        train(strategy, digits(train_size=50))
        return weights(strategy)

    assert torch.equal(final(0.1), final(5.0))


def test_one_mask_serves_all_batches_of_a_size():
    plugin = RMarginPlugin(seed=3)
    eight, six = value(plugin), value(plugin, 6)
    assert [value(plugin), value(plugin, 6)] == [eight, six]
    plugin = RMarginPlugin(seed=3)
    assert value(plugin) == eight
    assert len({value(RMarginPlugin(seed=seed)) for seed in range(10)}) > 5


def test_a_redrawn_mask_changes_and_its_share_is_the_probability():
    plugin = RMarginPlugin(redraw=True, p_switch=0.3, margin=0.0, boundary=1e6)
    assert len({value(plugin) for _ in range(10)}) > 5
    # With all pairs of one class and β huge, the loss counts the pairs that are not switched.
    same = torch.zeros(8, dtype=torch.int64)
    losses = [plugin.representation_loss([ROWS], same).item() for _ in range(300)]
    kept = -sum(losses) / len(losses) / 1e6 * 2 / 56
    assert kept == pytest.approx(0.7, abs=0.015)


def test_switched_pairs_are_left_out_or_pushed_apart():
    everything = {"p_switch": 1.0, "margin": 0.0}
    assert value(RMarginPlugin(**everything)) == 0
    repelled = value(RMarginPlugin(**everything, switch="repel"))
    all_apart = margin_loss(ROWS, torch.arange(8), torch.tensor(0.6), 0.0)
    assert repelled == pytest.approx(all_apart.item())


def test_masks_do_not_touch_the_global_generators_and_survive_a_pickle():
    before = torch.get_rng_state()
    plugin = RMarginPlugin(seed=1, redraw=True)
    value(plugin)
    copy = pickle.loads(pickle.dumps(plugin))
    assert [value(plugin) for _ in range(3)] == [value(copy) for _ in range(3)]
    plugin = RMarginPlugin(seed=1)
    drawn = value(plugin)
    assert value(pickle.loads(pickle.dumps(plugin))) == drawn
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "arguments",
    [
        {"lam": -1.0},
        {"boundary": float("inf")},
        {"margin": -0.1},
        {"p_switch": 1.5},
        {"switch": "swap"},
        {"lr": -1.0},
        {"redraw": "yes"},
        {"layers": []},
    ],
)
def test_wrong_arguments_are_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        RMarginPlugin(**arguments)
