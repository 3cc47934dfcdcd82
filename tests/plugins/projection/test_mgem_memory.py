"""What GEM remembers, and how it goes with other plugins."""

from functools import partial

import pytest
import torch
from avalanche.training.plugins import EWCPlugin, LwFPlugin, MIRPlugin, ReplayPlugin
from avalanche.training.storage_policy import ClassBalancedBuffer, ReservoirSamplingBuffer

from avalanche_ext.benchmarks import permuted_digits, split_digits
from avalanche_ext.buffers import PolicyBuffer, ReservoirBuffer, RingBuffer, TaskBuffer
from avalanche_ext.models.catalogue import mlp
from avalanche_ext.plugins import (
    BalancedReplayPlugin,
    DRLPlugin,
    MGEMPlugin,
    OnlineReplayPlugin,
)
from tests.cases import Spy, digits, make_naive, train, weights
from tests.plugins.projection.gem_cases import SMALL, Expected, check


def test_the_memory_holds_the_last_samples_of_each_task_as_they_came():
    spy, plugin = Spy(), MGEMPlugin(20)
    strategy = make_naive(plugin, spy, batch_size=7)
    for experience in permuted_digits(**SMALL).train_stream:
        spy.mbatches.clear()
        strategy.train(experience, eval_streams=[])
        arrived = torch.cat([x for x, _, _ in spy.mbatches])
        slots = plugin.buffer.groups("task")[experience.current_experience]
        assert torch.equal(plugin.buffer._storage.columns[0][slots], arrived[-20:])


def test_the_memory_fills_while_its_task_is_first_seen():
    sizes = []

    class Check(Spy):
        def before_forward(self, strategy, **kwargs):
            sizes.append(len(plugin.buffer))

    plugin = MGEMPlugin(25)
    strategy = make_naive(plugin, Check(), batch_size=10, train_epochs=2)
    train(strategy, permuted_digits(n_experiences=1, train_size=60))
    assert sizes == [10, 20, 25, 25, 25, 25] + [25] * 6
    assert plugin.buffer.n_seen == 60, "once, not in each epoch"


class TestOtherMemories:
    def test_a_reservoir_grouped_by_task(self):
        plugin = MGEMPlugin(buffer=ReservoirBuffer(50, seed=1))
        expected = Expected(plugin, 0.5)
        check(plugin, expected)
        assert len(plugin.buffer) == 50
        assert expected.most_constraints == 2

    def test_constraints_of_classes_leave_out_the_current_tasks_samples(self):
        class ByClass(Expected):
            def constraints(self):
                buffer, current = self.plugin.buffer, self.plugin._origin
                x, y, t = buffer._storage.occupied()
                old = torch.tensor([o != current for o in buffer._notes.origin[: len(buffer)]])
                order = [label for label in buffer.groups("class") if (old & (y == label)).any()]
                return [[c[old & (y == label)] for c in (x, y, t)] for label in order]

        plugin = MGEMPlugin(group_by="class", buffer=RingBuffer(60))
        expected = ByClass(plugin, 0.5)
        check(plugin, expected)
        assert expected.most_constraints == 10

    def test_one_of_avalanches(self):
        benchmark = split_digits(n_experiences=5, train_size=60, scenario="task")
        policy = ClassBalancedBuffer(30)
        plugin = MGEMPlugin(buffer=policy)
        model = mlp([16], multi_head=True, input_shape=(1, 8, 8), n_classes=2)
        strategy = make_naive(plugin, expected := Expected(plugin, 0.5), model=model)
        train(strategy, benchmark)
        assert expected.n_projected > 0
        assert len(plugin.buffer) == len(policy.buffer) == 30


class StreamSpy(Spy):
    """Keeps what the stream brings, before any plugin has changed it."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def before_training_iteration(self, strategy, **kwargs):
        self.seen.append(strategy.mb_x)


class TestCompositions:
    def test_penalties_are_projected_and_references_are_plain(self):
        class Decay(Spy):
            def before_backward(self, strategy, **kwargs):
                strategy.loss += decay(strategy.model)

        def decay(model):
            return 0.02 * sum((p**2).sum() for p in model.parameters())

        plugin = MGEMPlugin(20, 0.5)
        check(plugin, Expected(plugin, 0.5, penalty=decay), before=[Decay()])

    def test_the_streams_rows_are_stored_behind_a_replay_plugin(self):
        for replay in (OnlineReplayPlugin(40), BalancedReplayPlugin(40)):
            plugin, spy = MGEMPlugin(20), Spy()
            strategy = make_naive(spy, replay, plugin, batch_size=5)
            strategy.plugins.insert(0, early := StreamSpy())
            train(strategy, digits("permuted", **SMALL))
            arrived = torch.cat(early.seen)
            assert plugin.buffer.n_seen == len(arrived) == 180
            assert torch.equal(plugin.buffer._storage.columns[0][40:60].sort(0)[0],
                               arrived[-20:].sort(0)[0])  # fmt: skip

    def test_a_memory_shared_with_a_replay_plugin_is_written_once(self):
        buffer = TaskBuffer(20)
        strategy = make_naive(OnlineReplayPlugin(buffer=buffer), MGEMPlugin(buffer=buffer))
        train(strategy, digits("permuted", **SMALL))
        assert buffer.n_seen == 180

    def test_two_that_share_a_memory_write_it_once(self):
        buffer = TaskBuffer(20)
        strategy = make_naive(MGEMPlugin(buffer=buffer), MGEMPlugin(buffer=buffer, n_groups=2))
        train(strategy, digits("permuted", **SMALL))
        assert buffer.n_seen == 180

    def test_who_only_looks_at_the_memory_does_not_write_it(self):
        class Looking(Spy):
            buffer = TaskBuffer(20)

        strategy = make_naive(Looking(), MGEMPlugin(buffer=Looking.buffer))
        train(strategy, digits("permuted", **SMALL))
        assert Looking.buffer.n_seen == 180

    def test_one_view_of_avalanches_memory_is_written_once(self):
        updates = []

        class Counting(ReservoirSamplingBuffer):
            def post_adapt(self, agent, exp):
                updates.append(exp)
                super().post_adapt(agent, exp)

        view = PolicyBuffer(Counting(30))
        strategy = make_naive(OnlineReplayPlugin(buffer=view), MGEMPlugin(buffer=view))
        train(strategy, digits("permuted", **SMALL))
        assert len(updates) == 3

    def test_two_views_of_avalanches_memory_are_refused(self):
        policy = ReservoirSamplingBuffer(30)
        strategy = make_naive(OnlineReplayPlugin(buffer=policy), MGEMPlugin(buffer=policy))
        with pytest.raises(ValueError, match=r"OnlineReplayPlugin and MGEMPlugin .*one .*Policy"):
            train(strategy, digits("permuted", **SMALL))

    @pytest.mark.parametrize(
        "others",
        [
            lambda: [DRLPlugin(lam=0.01), BalancedReplayPlugin(40)],
            lambda: [OnlineReplayPlugin(40), DRLPlugin(lam=0.01)],
            lambda: [EWCPlugin(0.01)],
            lambda: [LwFPlugin(1.0, 2.0)],
        ],
    )
    def test_every_order_stores_the_stream_and_uses_all_plugins(self, others):
        def trained(*plugins):
            strategy = make_naive(*plugins, batch_size=10)
            train(strategy, digits("permuted", **SMALL))
            return weights(strategy)

        alone, without = trained(MGEMPlugin(20)), trained(*others())
        for first in (True, False):
            mgem = MGEMPlugin(20)
            together = trained(*([mgem, *others()] if first else [*others(), mgem]))
            assert mgem.buffer.n_seen == 180
            assert not torch.equal(together, alone)
            assert not torch.equal(together, without)

    @pytest.mark.parametrize("other", [ReplayPlugin, partial(MIRPlugin, 5, 5)])
    def test_avalanches_replay_is_refused(self, other):
        strategy = make_naive(MGEMPlugin(20), other())
        with pytest.raises(ValueError, match=r"cannot be combined with .MGEMPlugin"):
            train(strategy, digits())
