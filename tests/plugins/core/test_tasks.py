"""Which task a sample belongs to: by experience, by task label, and across benchmarks."""

import random
import warnings

import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.training.storage_policy import ReservoirSamplingBuffer

from avalanche_ext.buffers import TaskBuffer
from avalanche_ext.plugins import (
    AGEMPlugin,
    BalancedReplayPlugin,
    MGEMPlugin,
    OnlineReplayPlugin,
)
from tests.cases import digits, make_naive, plain_dataset, quiet, train, weights

STREAM = [*digits(train_size=40, test_size=20).train_stream][:3]

ON_AVALANCHES = {
    "gem": lambda buffer: MGEMPlugin(buffer=buffer),
    "gem by class": lambda buffer: MGEMPlugin(buffer=buffer, group_by="class"),
    "agem": lambda buffer: AGEMPlugin(buffer=buffer, sample_size=10),
    "er half": lambda buffer: OnlineReplayPlugin(buffer=buffer, draw="half"),
    "ber": lambda buffer: BalancedReplayPlugin(buffer=buffer, balance="task"),
}


def labelled(labels):
    """The three experiences with these task labels."""
    datasets = [
        plain_dataset(e.dataset.x, e.dataset.y, torch.full_like(e.dataset.t, label))
        for e, label in zip(STREAM, labels, strict=True)
    ]
    return benchmark_from_datasets(train=datasets)


@pytest.mark.parametrize("make", ON_AVALANCHES.values(), ids=ON_AVALANCHES)
def test_on_avalanches_buffers_any_numbering_of_tasks_trains_the_same(make):
    trained = []
    for labels in ((0, 1, 2), (4, 5, 6), (2, 1, 0)):
        torch.manual_seed(0)
        random.seed(0)
        strategy = quiet(plugins=[make(ReservoirSamplingBuffer(30))])
        train(strategy, labelled(labels))
        trained.append(weights(strategy))
    torch.manual_seed(0)
    plain = quiet()
    train(plain, labelled((0, 1, 2)))
    assert not torch.equal(trained[0], weights(plain))
    # Draws and constraints are in the order of the labels, so only the first two are equal.
    assert torch.equal(trained[0], trained[1])
    assert not torch.equal(trained[2], weights(plain))


def test_without_task_labels_avalanches_buffers_hold_one_earlier_task():
    plugin = MGEMPlugin(buffer=ReservoirSamplingBuffer(30), statistics=True)
    train(quiet(plugins=[plugin]), labelled((0, 0, 0)))
    assert [*plugin.statistics] == [1, 2]


def test_a_dataset_stored_before_training_is_an_earlier_task():
    buffer = TaskBuffer(10)
    buffer.update_from_dataset(STREAM[2].dataset)
    trained = []
    for plugins in ([], [AGEMPlugin(buffer=buffer, sample_size=10)]):
        strategy = make_naive(*plugins)
        strategy.train(STREAM[0], eval_streams=[])
        trained.append(weights(strategy))
    assert not torch.equal(*trained), "the gradients were projected"
    assert {*buffer.buffer.targets} == {0, 1, 4, 5}


def test_a_second_stream_whose_experiences_have_the_same_numbers_is_named():
    plugin = MGEMPlugin(10)
    strategy = make_naive(plugin)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(strategy, digits(n_experiences=2, train_size=20))
    other = digits("permuted", n_experiences=3, train_size=40)
    with pytest.warns(UserWarning, match="MGEMPlugin holds samples of task 0 of another stream"):
        strategy.train(other.train_stream[0], eval_streams=[])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        strategy.train(other.train_stream[2], eval_streams=[])
