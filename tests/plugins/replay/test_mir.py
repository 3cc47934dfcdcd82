"""MIR inside real strategies, on a real benchmark."""

import numpy as np
import pytest
import torch
from avalanche.models import avalanche_forward
from avalanche.training.storage_policy import ReservoirSamplingBuffer
from torch import nn
from torch.nn.functional import cross_entropy

from avalanche_ext.plugins import MIRPlugin, OnlineReplayPlugin
from tests.cases import Spy, digits, make_naive, small_model, train, weights
from tests.plugins.replay.lookahead_cases import After, Before, convolutional, stepped

LR = 0.05


def increases(model, arrived, memory):
    """By how much a step on what has arrived increases the loss of each sample, one by one."""
    x, y, t = memory
    losses = []
    for each in (model, stepped(model, arrived, LR)):
        outputs = avalanche_forward(each, x, t)
        losses.append([cross_entropy(o, label).item() for o, label in zip(outputs, y, strict=True)])
    return np.array(losses[1]) - np.array(losses[0])


@pytest.mark.parametrize("make", [small_model, convolutional])
def test_of_all_candidates_those_are_replayed_whose_loss_increases_most(make):
    plugin = MIRPlugin(40, 7, n_candidates=40)

    def check(strategy, before):
        held = plugin.buffer.fetch(np.arange(len(before.memory)))
        scores = increases(before.model, plugin.arrived, held)
        chosen = scores[plugin.slots]
        left = np.delete(scores, plugin.slots)
        assert len(set(plugin.slots.tolist())) == min(7, len(scores))
        assert not len(left) or chosen.min() >= left.max() - 1e-6
        assert torch.equal(strategy.mb_x[plugin.n_stream :], held[0][plugin.slots])

    before = Before(plugin.buffer)
    after = After(before, check)
    train(make_naive(before, plugin, after, model=make()), digits(train_size=60))
    assert after.n_checked == 29


def test_candidates_are_drawn_from_the_whole_memory():
    plugin = MIRPlugin(40, 5, n_candidates=10)
    replayed = Spy()
    train(make_naive(plugin, replayed), digits())
    last = torch.cat([y[10:] for _, y, _ in replayed.mbatches[-60:] if len(y) > 10])
    assert set(last.tolist()) >= {0, 1, 2, 3, 4, 5, 6, 7}, "the current task's may be among them"


def test_as_many_candidates_as_samples_are_plain_replay():
    def final(plugin):
        strategy = make_naive(plugin)
        train(strategy, digits(train_size=60))
        return weights(strategy), plugin.buffer.buffer.x

    mir, mir_memory = final(MIRPlugin(40, 7, n_candidates=7, seed=2))
    er, er_memory = final(OnlineReplayPlugin(40, 7, loss="sum", seed=2))
    torch.testing.assert_close(mir, er, msg="the same rows in another order")
    assert torch.equal(mir_memory, er_memory)


def test_with_two_experiences_it_replays():
    plugin = MIRPlugin(40, 7)
    replayed = Spy()
    train(make_naive(plugin, replayed), digits(n_experiences=2, train_size=100))
    assert [len(y) for _, y, _ in replayed.mbatches] == [10] + [17] * 19


def test_choosing_touches_neither_model_nor_random_numbers():
    model = convolutional()
    model.insert(4, nn.Dropout(0.5))
    plugin = MIRPlugin(40, 7, n_candidates=20)

    def check(strategy, before):
        now, then = strategy.model.state_dict(), before.model.state_dict()
        assert all(torch.equal(now[name], then[name]) for name in now)

        assert torch.equal(torch.get_rng_state(), before.random)

    before = Before(plugin.buffer)
    after = After(before, check)
    train(make_naive(before, plugin, after, model=model), digits(train_size=60))
    assert after.n_checked == 29


def test_avalanches_buffers_are_chosen_from():
    plugin = MIRPlugin(batch_size=7, n_candidates=20, buffer=ReservoirSamplingBuffer(30))
    replayed = Spy()
    train(make_naive(plugin, replayed), digits(train_size=60))
    assert [len(y) for _, y, _ in replayed.mbatches] == [10] * 6 + [17] * 24


def test_it_forgets_less_than_finetuning():
    benchmark = digits()

    def accuracy_on_first(*plugins):
        strategy = make_naive(*plugins, batch_size=5)
        train(strategy, benchmark)
        dataset = benchmark.test_stream[0].dataset
        return (strategy.model(dataset.x).argmax(1) == dataset.y).float().mean().item()

    assert accuracy_on_first() < 0.2
    assert accuracy_on_first(MIRPlugin(mem_size=100)) > 0.7


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"mem_size": 0}, "mem_size"),
        ({"n_candidates": 5}, "n_candidates=5: must be at least batch_size, which is 10"),
        ({"loss": "mean"}, "loss"),
        ({"lr": -1.0}, "lr"),
    ],
)
def test_wrong_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        MIRPlugin(**arguments)
