"""What GMED stores, reports and refuses."""

import pickle
from copy import deepcopy

import numpy as np
import pytest
import torch
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.storage_policy import ReservoirSamplingBuffer
from torch import nn
from torch.nn.functional import cross_entropy

from avalanche_ext.buffers import ReservoirBuffer, TaskBuffer
from avalanche_ext.data import InMemoryLoaders
from avalanche_ext.plugins import GMEDPlugin, MGEMPlugin, MIRPlugin, OnlineReplayPlugin
from tests.cases import Spy, digits, make_naive, quiet, train, weights
from tests.plugins.replay.lookahead_cases import After, Before, convolutional

LR = 0.05


@pytest.mark.parametrize("edit", ["gmed", "random", "hindsight"])
@pytest.mark.parametrize("retrieval", ["random", "mir"])
def test_without_stride_it_is_plain_replay_or_mir(edit, retrieval):
    def final(plugin):
        strategy = make_naive(plugin)
        train(strategy, digits())
        return weights(strategy)

    plain = {
        "random": OnlineReplayPlugin(60, 7, loss="sum", seed=4),
        "mir": MIRPlugin(60, 7, seed=4),
    }
    plugin = GMEDPlugin(60, 7, stride=0.0, edit=edit, retrieval=retrieval, seed=4)
    assert torch.equal(final(plugin), final(plain[retrieval]))


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda parameters: torch.optim.SGD(parameters, lr=LR, momentum=0.9),
        lambda parameters: torch.optim.Adam(parameters, lr=0.001),
    ],
)
@pytest.mark.parametrize("retrieval", ["random", "mir"])
def test_an_edit_touches_nothing_but_the_memory(optimizer, retrieval):
    model = convolutional()
    model.insert(4, nn.Dropout(0.5))
    plugin = GMEDPlugin(60, 7, stride=1.0, retrieval=retrieval)

    def check(strategy, before):
        for (name, now), then in zip(
            strategy.model.state_dict().items(), before.model.state_dict().values(), strict=True
        ):
            assert torch.equal(now, then), name
        state = strategy.optimizer.state_dict()
        assert repr(state) == repr(before.optimizer)
        assert torch.equal(torch.get_rng_state(), before.random)
        assert strategy.model.training
        assert not any(module._forward_hooks for module in strategy.model.modules())

    before = Before(plugin.buffer)
    after = After(before, check)
    strategy = quiet(
        model=model,
        optimizer=optimizer(model.parameters()),
        plugins=[InMemoryLoaders(), before, plugin, after],
    )
    train(strategy, digits(train_size=60))
    assert after.n_checked == 29


def test_gem_on_the_same_memory_sees_the_edits():
    memory = TaskBuffer(20)
    before = Before(memory)
    gem = MGEMPlugin(buffer=memory)

    def check(strategy, before):
        changed = (memory.buffer.x[: len(before.memory)] != before.memory).flatten(1).any(dim=1)
        for task, slots in memory.groups("task").items():
            known = versions.get(task)
            if changed[[slot for slot in slots if slot < len(changed)]].any():
                assert memory.versions("task")[task] is not known
                edited.add(task)
            versions[task] = memory.versions("task")[task]

    versions, edited = {}, set()
    after = After(before, check)
    strategy = make_naive(before, GMEDPlugin(buffer=memory, stride=5.0), after, gem)
    train(strategy, digits("permuted", n_experiences=3, train_size=100))
    assert edited == {0, 1, 2}


@pytest.mark.parametrize(
    "arguments", [{"edit": "random"}, {"edit": "hindsight"}, {"retrieval": "mir"}], ids=str
)
def test_its_own_draws_follow_its_seed(arguments):
    def final(seed):
        plugin = GMEDPlugin(buffer=ReservoirBuffer(40, 0), stride=2.0, seed=seed, **arguments)
        strategy = make_naive(plugin)
        train(strategy, digits(train_size=60))
        return weights(strategy)

    assert torch.equal(final(1), final(1))
    assert not torch.equal(final(1), final(2))


@pytest.mark.parametrize("retrieval", ["random", "mir"])
def test_separate_passes_do_not_mix_replayed_rows_with_the_streams(retrieval):
    model = convolutional()
    plugin = GMEDPlugin(60, 7, stride=0.0, retrieval=retrieval, loss="separate")
    checked = []

    class Check(Spy):
        def after_backward(self, strategy, **kwargs):
            assert len(strategy.mb_y) == 10
            if len(plugin.slots):
                x, y, _ = plugin.buffer.fetch(plugin.slots)
                drawn = cross_entropy(deepcopy(strategy.model)(x), y)
                stream = cross_entropy(strategy.mb_output, strategy.mb_y)
                torch.testing.assert_close(strategy.loss, (stream + drawn).reshape(1))
                checked.append(len(y))

    train(make_naive(plugin, Check(), model=model), digits(train_size=60))
    assert checked == [7] * 29
    assert int(model[1].num_batches_tracked) == 30 + 29


def test_edit_norms_are_reported_by_iteration():
    plugin = GMEDPlugin(60, 7, stride=1.0)
    evaluator = EvaluationPlugin()
    strategy = make_naive(plugin, evaluator=evaluator)
    train(strategy, digits(train_size=60))
    norms = plugin.series()["gmed/edit_norm"]
    assert len(norms) == 6
    assert plugin.diagnostics()["gmed/edit_norm"] == pytest.approx(np.mean(norms))
    iterations, published = evaluator.get_all_metrics()["gmed/edit_norm"]
    assert iterations == [*range(1, 30)], "in the first iteration there is nothing to edit"
    assert published[-6:] == norms


def test_the_norm_is_the_mean_length_of_an_edit():
    plugin = GMEDPlugin(60, 7, stride=0.25, edit="random", n_steps=2)
    train(make_naive(plugin), digits(train_size=60))
    assert plugin.series()["gmed/edit_norm"] == pytest.approx([0.5] * 6)


def test_originals_follow_their_samples_when_the_buffer_is_resized():
    plugin = GMEDPlugin(40, 7, stride=0.1, edit="random", keep_originals=True)
    strategy = make_naive(plugin)
    benchmark = digits(train_size=60)
    train(strategy, benchmark)
    plugin.buffer.resize(strategy, 15)
    edits = plugin.exhibits()["edits"]
    moved = (edits["edited"] - edits["original"]).reshape(len(edits["slot"]), -1)
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 0.1 * edits["n_edits"], rtol=1e-4)


def test_samples_that_others_have_edited_before_have_no_originals():
    memory = ReservoirBuffer(20)
    benchmark = digits(train_size=60)
    train(make_naive(GMEDPlugin(buffer=memory, stride=0.1)), benchmark)
    notes = memory.notes(np.arange(len(memory)))
    edited = {a for a, n in zip(notes.arrival, notes.n_replaced, strict=True) if n}
    plugin = GMEDPlugin(buffer=memory, stride=0.1, keep_originals=True)
    assert plugin.exhibits() == {}
    make_naive(plugin).train(benchmark.train_stream[0], eval_streams=[])
    left = {*memory.notes(np.arange(len(memory))).arrival} & edited
    shown = memory.notes(plugin.exhibits()["edits"]["slot"]).arrival
    assert left
    assert not edited & {*shown}


def test_iterations_without_edits_have_no_norm():
    plugin = GMEDPlugin(60, 7, stride=1.0)
    strategy = make_naive(plugin)
    strategy.train(digits(train_size=60).train_stream[0], eval_streams=[])
    first, *others = plugin.series()["gmed/edit_norm"]
    assert np.isnan(first)
    assert len(others) == 5
    assert np.all(np.array(others) > 0)
    assert GMEDPlugin().series() == GMEDPlugin().diagnostics() == {}


def test_originals_are_those_of_the_sample_that_is_there():
    plugin = GMEDPlugin(20, 7, stride=1.0, keep_originals=True)
    benchmark = digits(train_size=60)
    train(make_naive(plugin), benchmark)
    edits = plugin.exhibits()["edits"]
    stream = torch.cat([e.dataset.x for e in benchmark.train_stream]).numpy()
    labels = torch.cat([e.dataset.y for e in benchmark.train_stream]).numpy()
    for label, original, now in zip(
        edits["label"], edits["original"], edits["edited"], strict=True
    ):
        same = (stream == original).all(axis=(1, 2, 3))
        assert label in labels[same]
        assert not np.array_equal(original, now)
    assert GMEDPlugin(20, 7).exhibits() == {}


def test_originals_of_samples_that_have_left_the_memory_are_not_kept():
    plugin = GMEDPlugin(10, 7, stride=0.1, buffer="ring", keep_originals=True)
    strategy, sizes = make_naive(plugin), []
    for experience in digits(n_experiences=10, train_size=100).train_stream:
        strategy.train(experience, eval_streams=[])
        sizes.append(len(pickle.dumps(plugin)))
    assert max(sizes[2:]) < 1.5 * sizes[1], "memory stays as it is, however long the run"


def test_it_can_be_pickled_between_experiences():
    benchmark = digits(train_size=60)

    def final(interrupt):
        plugin = GMEDPlugin(40, 7, stride=1.0)
        strategy = make_naive(plugin)
        for experience in benchmark.train_stream:
            strategy.train(experience, eval_streams=[])
            if interrupt:
                strategy.plugins[strategy.plugins.index(plugin)] = plugin = pickle.loads(
                    pickle.dumps(plugin)
                )
        return weights(strategy)

    assert torch.equal(final(True), final(False))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"mem_size": 0}, "mem_size"),
        ({"stride": -1.0}, "stride"),
        ({"stride": float("inf")}, "stride"),
        ({"reg_strength": -0.1}, "reg_strength"),
        ({"retrieval": "mri"}, "retrieval"),
        ({"edit": "none"}, "edit"),
        ({"n_steps": 0}, "n_steps"),
        ({"decay": 1.0}, "decay"),
        ({"bounds": [1.0, 0.0]}, r"bounds=\[1.0, 0.0\]"),
        ({"bounds": [1.0]}, r"bounds=\[1.0\]"),
        ({"retrieval": "mir", "n_candidates": 5}, "n_candidates=5: must be at least batch_size"),
        ({"lr": 0.0}, "lr"),
        ({"buffer": ReservoirSamplingBuffer(20)}, "ReservoirSamplingBuffer: one of Avalanche's"),
    ],
)
def test_wrong_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        GMEDPlugin(**arguments)
