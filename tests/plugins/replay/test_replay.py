"""The replay plugins inside real strategies, on a real benchmark."""

import pytest
import torch
from avalanche.benchmarks import split_online_stream
from avalanche.training import Naive
from avalanche.training.plugins import (
    GDumbPlugin,
    GSS_greedyPlugin,
    MIRPlugin,
    ReplayPlugin,
)
from avalanche.training.storage_policy import ClassBalancedBuffer, ReservoirSamplingBuffer
from torch import nn

from avalanche_ext.buffers import ReservoirBuffer, RingBuffer, TaskBuffer
from avalanche_ext.plugins import BalancedReplayPlugin, OnlineReplayPlugin
from tests.cases import Spy, digits, make_naive, train, weights


def mbatches(strategy) -> list[list[torch.Tensor]]:
    return next(p for p in strategy.plugins if isinstance(p, Spy)).mbatches


def test_er_trains_on_the_stream_then_on_what_was_drawn():
    plugin = OnlineReplayPlugin(mem_size=30, batch_size=7)
    strategy = make_naive(plugin, Spy(), batch_size=5)
    train(strategy, digits())
    sizes = [len(y) for _, y, _ in mbatches(strategy)]
    assert sizes[0] == 5, "the buffer is empty before the first step"
    assert sizes[1] == 5 + 5, "only what the first step has stored can be drawn"
    assert set(sizes[2:-1]) <= {12, 5 + 7, 2 + 7, 1 + 7, 3 + 7, 4 + 7}
    assert len(plugin.buffer) == 30


def test_er_stores_the_streams_rows_only():
    plugin = OnlineReplayPlugin(mem_size=2000)
    benchmark = digits()
    train(make_naive(plugin), benchmark)
    assert plugin.buffer.n_seen == sum(len(e.dataset) for e in benchmark.train_stream)


def test_er_says_which_rows_are_replayed():
    plugin = OnlineReplayPlugin(mem_size=40, batch_size=6)

    class Check(Spy):
        def before_forward(self, strategy, **kwargs):
            rows = strategy.mb_x[plugin.n_stream :]
            if len(plugin.slots):
                assert torch.equal(rows, plugin.buffer.fetch(plugin.slots)[0])
                self.checked += 1

    check = Check()
    train(make_naive(plugin, check, batch_size=5), digits())
    assert check.checked > 100


@pytest.mark.parametrize("batch_size", [4, 10])
@pytest.mark.parametrize(
    "mean", [nn.CrossEntropyLoss(), nn.CrossEntropyLoss(torch.arange(1.0, 11.0))]
)
def test_sum_of_the_two_means(batch_size, mean):
    plugin = OnlineReplayPlugin(mem_size=40, batch_size=10, loss="sum")

    class Check(Spy):
        def after_backward(self, strategy, **kwargs):
            n = plugin.n_stream
            expected = mean(strategy.mb_output[:n], strategy.mb_y[:n])
            if len(plugin.slots):
                expected = expected + mean(strategy.mb_output[n:], strategy.mb_y[n:])
            torch.testing.assert_close(strategy.loss, expected.reshape(1))
            self.checked += 1

    check = Check()
    train(make_naive(plugin, check, batch_size=batch_size, criterion=mean), digits())
    assert check.checked > 100


def test_drl_papers_er_draws_half_from_the_current_task():
    plugin = OnlineReplayPlugin(60, 20, buffer="ring", draw="half", stream="stored")
    strategy = make_naive(plugin, Spy(), batch_size=1)
    train(strategy, digits(train_size=50))
    for _, y, _ in mbatches(strategy)[-50:]:
        assert (y >= 8).sum() == 10


@pytest.mark.parametrize(
    "policy", [lambda: ReservoirSamplingBuffer(50), lambda: ClassBalancedBuffer(50)]
)
@pytest.mark.parametrize("make", [OnlineReplayPlugin, BalancedReplayPlugin])
def test_avalanches_buffers_inside_our_plugins(make, policy):
    theirs = policy()
    plugin = make(buffer=theirs)
    strategy = make_naive(plugin, Spy(), batch_size=10)
    benchmark = digits()
    strategy.train(benchmark.train_stream[0], eval_streams=[])
    assert all(len(y) <= 10 for _, y, _ in mbatches(strategy)), "empty in the first experience"
    assert len(plugin.buffer) == len(theirs.buffer) == 50
    mbatches(strategy).clear()
    strategy.train(benchmark.train_stream[1], eval_streams=[])
    assert all({2, 3} & set(y.tolist()) for _, y, _ in mbatches(strategy)), "the stream's rows"
    assert all({0, 1} & set(y.tolist()) for _, y, _ in mbatches(strategy)), "replayed rows"
    assert set(plugin.buffer.buffer.targets) == {0, 1, 2, 3}


@pytest.mark.parametrize("make", [ReservoirBuffer, RingBuffer, TaskBuffer])
def test_our_buffers_inside_avalanches_replay(make):
    buffer = make(50)
    replay = ReplayPlugin(mem_size=50, storage_policy=buffer)
    strategy = make_naive(replay, Spy(), batch_size=10)
    train(strategy, digits())
    assert set(buffer.buffer.targets.uniques) == set(range(10))
    # The last experience holds 8 and 9, and whatever else was trained on came from the buffer.
    assert {int(c) for _, y, _ in mbatches(strategy)[-10:] for c in y} > {8, 9}


@pytest.mark.parametrize("plugin", [OnlineReplayPlugin, BalancedReplayPlugin])
def test_in_several_epochs_each_sample_is_stored_once(plugin):
    replay = plugin(mem_size=500)
    train(make_naive(replay, batch_size=5, train_epochs=3), digits(train_size=40))
    assert replay.buffer.n_seen == len(replay.buffer) == 200
    assert len(replay.buffer.buffer.x.flatten(1).unique(dim=0)) == 200


def test_replay_forgets_less_than_finetuning():
    benchmark = digits()

    def accuracy_on_first(*plugins) -> float:
        strategy = make_naive(*plugins, batch_size=5)
        train(strategy, benchmark)
        dataset = benchmark.test_stream[0].dataset
        return (strategy.model(dataset.x).argmax(1) == dataset.y).float().mean().item()

    assert accuracy_on_first() < 0.2
    assert accuracy_on_first(BalancedReplayPlugin(mem_size=100)) > 0.7


def test_online_streams_and_plain_ones_fill_the_buffer_alike():
    benchmark = digits()
    plain, online = (OnlineReplayPlugin(60, 10, seed=3) for _ in range(2))
    strategy = make_naive(plain, batch_size=10)
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[], shuffle=False)
    mini = split_online_stream(benchmark.train_stream, experience_size=10, shuffle=False)
    strategy = make_naive(online, batch_size=10)
    for experience in mini:
        strategy.train(experience, eval_streams=[], shuffle=False)
    assert torch.equal(plain.buffer.buffer.x, online.buffer.buffer.x)
    assert plain.buffer.groups("task") == online.buffer.groups("task")


def test_two_memories_in_one_strategy_are_refused():
    strategy = make_naive(OnlineReplayPlugin(), BalancedReplayPlugin())
    with pytest.raises(
        ValueError, match=r"BalancedReplayPlugin. cannot .* with .OnlineReplayPlugin"
    ):
        train(strategy, digits())
    for theirs in (ReplayPlugin(), GSS_greedyPlugin(mem_size=20), GDumbPlugin(), MIRPlugin(20)):
        with pytest.raises(ValueError, match=f"'{type(theirs).__name__}' cannot be combined"):
            train(make_naive(BalancedReplayPlugin(), theirs), digits())


@pytest.mark.parametrize(
    ("make", "arguments", "named"),
    [
        (OnlineReplayPlugin, {"mem_size": 0}, "mem_size"),
        (OnlineReplayPlugin, {"batch_size": 0}, "batch_size"),
        (OnlineReplayPlugin, {"buffer": "reservior"}, "buffer"),
        (OnlineReplayPlugin, {"draw": "all"}, "draw"),
        (
            OnlineReplayPlugin,
            {"stream": "stored", "loss": "sum"},
            "loss='sum' needs the stream's rows, but stream='stored'",
        ),
        (BalancedReplayPlugin, {"mem_size": 2.5}, "mem_size"),
        (BalancedReplayPlugin, {"balance": "domain"}, "balance"),
        (BalancedReplayPlugin, {"positive_pairs": 1}, "positive_pairs"),
    ],
)
def test_wrong_arguments_are_named(make, arguments, named):
    with pytest.raises(ValueError, match=named):
        make(**arguments)


def test_plugins_draw_no_global_random_numbers():
    benchmark = digits()
    strategy = make_naive(OnlineReplayPlugin(), batch_size=10)
    before = torch.get_rng_state()
    train(strategy, benchmark)
    assert torch.equal(torch.get_rng_state(), before)


def test_same_seed_same_weights_other_seed_other_weights():
    def final(seed: int) -> torch.Tensor:
        strategy = make_naive(BalancedReplayPlugin(mem_size=50, seed=seed), batch_size=5)
        train(strategy, digits())
        return weights(strategy)

    assert torch.equal(final(0), final(0))
    assert not torch.equal(final(0), final(1))


def test_naive_is_really_avalanches():
    assert type(make_naive()) is Naive
