"""Classes of different heads, and units that are not in use."""

from collections import Counter
from copy import deepcopy
from itertools import product

import pytest
import torch
from avalanche.training.plugins import ReplayPlugin
from torch import nn

from avalanche_ext.buffers import RingBuffer
from avalanche_ext.models.catalogue import mlp
from avalanche_ext.plugins import (
    AGEMPlugin,
    BalancedReplayPlugin,
    MetricLossPlugin,
    OnlineReplayPlugin,
)
from avalanche_ext.plugins.core.model import class_labels, mask_values, unmasked
from tests.cases import Spy, digits, make_naive, train, weights


def recording_loss(sink):
    def loss(embeddings, labels):
        sink.append(labels)
        return embeddings.sum() * 0

    return loss


def multi_head_model():
    return mlp([8], multi_head=True, input_shape=(1, 8, 8), n_classes=10)


MODEL = multi_head_model()


def test_losses_are_given_a_class_for_each_label_of_each_task():
    """Heads count their classes from 0: the first of two tasks are not one class."""
    seen, batches = [], []

    class Keep(Spy):
        def after_backward(self, strategy, **kwargs):
            batches.append((strategy.mb_y.tolist(), strategy.mb_task_id.tolist()))

    plugins = [OnlineReplayPlugin(40, 20), MetricLossPlugin(recording_loss(seen)), Keep()]
    train(make_naive(*plugins, model=multi_head_model()), digits(scenario="task"))
    y, t = batches[-1]
    assert len({*t}) > 2
    assert {*y} == {0, 1}
    labels = seen[-1].tolist()
    for i, j in product(range(len(y)), repeat=2):
        assert (labels[i] == labels[j]) == ((y[i], t[i]) == (y[j], t[j]))


@pytest.mark.parametrize(
    "make",
    [
        lambda: BalancedReplayPlugin(50),
        lambda: BalancedReplayPlugin(50, eviction="old and near"),
        lambda: OnlineReplayPlugin(50, buffer="ring"),
        lambda: ReplayPlugin(50, storage_policy=RingBuffer(50)),
    ],
    ids=["ber", "old and near", "er", "in avalanche's place"],
)
def test_a_memory_of_classes_holds_the_classes_of_each_head(make):
    plugin = make()
    train(make_naive(plugin, model=multi_head_model()), digits(scenario="task", train_size=60))
    memory = plugin.buffer if hasattr(plugin, "buffer") else plugin.storage_policy
    held = memory.buffer
    pairs = Counter(zip(held.y.tolist(), held.t.tolist(), strict=True))
    assert len(pairs) == 10
    assert {*pairs.values()} == {5}


def test_references_of_other_classes_are_those_of_other_heads():
    plain, projected = (
        make_naive(*plugins, model=deepcopy(MODEL))
        for plugins in ([], [AGEMPlugin(50, references="other_classes")])
    )
    for strategy in (plain, projected):
        torch.manual_seed(0)
        train(strategy, digits(scenario="task", train_size=60))
    assert not torch.equal(weights(plain), weights(projected))


def test_with_one_head_labels_are_those_of_the_data_whatever_the_task():
    strategy = make_naive()
    y, t = torch.tensor([0, 1, 0]), torch.tensor([0, 0, 1])
    assert class_labels(strategy, y, t) is y


def test_no_two_classes_of_any_tasks_get_the_same_label():
    strategy = make_naive(model=multi_head_model())
    pairs = torch.tensor([*product(range(30), range(30))])
    labels = class_labels(strategy, pairs[:, 0], pairs[:, 1])
    assert len({*labels.tolist()}) == 900


def test_logits_of_a_model_without_such_heads_stay_as_they_are():
    logits = torch.full((2, 3), -1000.0)
    assert unmasked(logits, mask_values(nn.Linear(2, 3))) is logits
