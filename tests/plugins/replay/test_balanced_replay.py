"""BER inside real strategies: what its ring holds, and how its batches are balanced."""

import pytest
import torch
from avalanche.training.storage_policy import ClassBalancedBuffer, ReservoirSamplingBuffer

from avalanche_ext.plugins import BalancedReplayPlugin
from tests.cases import Spy, digits, make_naive, train


def mbatches(strategy) -> list[list[torch.Tensor]]:
    return next(p for p in strategy.plugins if isinstance(p, Spy)).mbatches


@pytest.mark.parametrize("eviction", ["oldest", "random", "farthest", "nearest", "old and near"])
@pytest.mark.parametrize("balance", ["class", "task"])
def test_the_ring_is_as_asked_for(balance, eviction):
    ring = BalancedReplayPlugin(17, balance=balance, eviction=eviction).buffer
    assert (ring.max_size, ring.balance, ring.eviction) == (17, balance, eviction)


@pytest.mark.parametrize("policy", [ClassBalancedBuffer, ReservoirSamplingBuffer])
def test_batches_from_one_of_avalanches_memories_are_balanced_from_the_second_task_on(policy):
    torch.manual_seed(0)  # Avalanche's memories draw from it; few draws miss a class.
    plugin = BalancedReplayPlugin(batch_size=16, buffer=policy(40))
    strategy = make_naive(plugin, Spy(), batch_size=10)
    first, *later = digits(train_size=60).train_stream
    strategy.train(first, eval_streams=[])
    for index, experience in enumerate(later, 1):
        mbatches(strategy).clear()
        strategy.train(experience, eval_streams=[])
        assert len(mbatches(strategy)) == 6
        for _, y, _ in mbatches(strategy):
            sizes = torch.bincount(y[10:]).tolist()
            assert sum(sizes) == 16
            assert len(sizes) == 2 * index
            assert max(sizes) - min(sizes) <= 1


def test_ber_trains_on_the_buffer_alone_balanced_over_classes():
    plugin = BalancedReplayPlugin(mem_size=50, batch_size=20)
    strategy = make_naive(plugin, Spy(), batch_size=1)
    benchmark = digits(train_size=60)
    train(strategy, benchmark)
    last_task = mbatches(strategy)[-40:]
    assert all(torch.bincount(y, minlength=10).tolist() == [2] * 10 for _, y, _ in last_task)
    assert plugin.buffer.n_seen == 5 * 60
    assert {c: len(s) for c, s in plugin.buffer.groups("class").items()} == dict.fromkeys(
        range(10), 5
    )


def test_ber_balances_over_tasks_where_tasks_share_their_classes():
    plugin = BalancedReplayPlugin(mem_size=40, batch_size=8, balance="task")
    benchmark = digits("permuted", n_experiences=4, train_size=40)
    strategy = make_naive(plugin, Spy(), batch_size=1)
    train(strategy, benchmark)
    assert {t: len(s) for t, s in plugin.buffer.groups("task").items()} == dict.fromkeys(
        range(4), 10
    )
    owner = {slot: task for task, slots in plugin.buffer.groups("task").items() for slot in slots}
    assert sorted(owner[s] for s in plugin.slots.tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_the_first_task_is_drawn_uniformly_or_balanced():
    def classes_drawn(first_task: str) -> set[int]:
        plugin = BalancedReplayPlugin(mem_size=100, batch_size=10, first_task=first_task)
        strategy = make_naive(plugin, Spy(), batch_size=1)
        strategy.train(digits(train_size=80).train_stream[0], eval_streams=[])
        return {int((y == 0).sum()) for _, y, _ in mbatches(strategy)[40:]}

    assert classes_drawn("balanced") == {5}
    assert len(classes_drawn("uniform")) > 3


def test_mem_size_below_the_number_of_classes_is_refused():
    strategy = make_naive(BalancedReplayPlugin(mem_size=3), batch_size=1)
    with pytest.raises(ValueError, match="max_size 3 cannot hold one sample of each of 4 groups"):
        train(strategy, digits())
