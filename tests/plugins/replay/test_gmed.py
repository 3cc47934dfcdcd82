"""GMED inside real strategies, on a real benchmark."""

import numpy as np
import pytest
import torch
from avalanche.benchmarks import split_online_stream
from avalanche.models import as_multitask

from avalanche_ext.buffers import RingBuffer, TaskBuffer
from avalanche_ext.data import InMemoryLoaders
from avalanche_ext.plugins import GMEDPlugin
from tests.cases import digits, make_naive, quiet, small_model, train, weights
from tests.plugins.replay.lookahead_cases import After, Before, convolutional, edited

LR = 0.05


def watched(plugin, check, model=None, **given):
    """A strategy of `plugin` in which `check(strategy, before)` follows each of its draws."""
    before = Before(plugin.buffer)
    after = After(before, check)
    return make_naive(before, plugin, after, model=model, **given), after


def fetched(plugin, before, slots):
    """What `slots` held before the iteration."""
    _, y, t = plugin.buffer.fetch(slots)
    return before.memory[slots], y, t


@pytest.mark.parametrize("make", [small_model, convolutional])
def test_drawn_samples_are_edited_written_back_and_replayed(make):
    plugin = GMEDPlugin(60, 7, stride=3.0, reg_strength=0.1)

    def check(strategy, before):
        slots = plugin.slots
        expected = edited(
            before.model, plugin.arrived, fetched(plugin, before, slots), LR, 3.0, 0.1
        )
        others = np.setdiff1d(np.arange(len(before.memory)), slots)
        held, labels, _ = plugin.buffer.fetch(slots)
        torch.testing.assert_close(held, expected, rtol=1e-3, atol=1e-5)
        assert torch.equal(plugin.buffer.buffer.x[others], before.memory[others])
        assert torch.equal(strategy.mb_x[plugin.n_stream :], held)
        assert torch.equal(strategy.mb_y[plugin.n_stream :], labels)

    strategy, after = watched(plugin, check, make())
    train(strategy, digits(train_size=60))
    assert after.n_checked == 5 * 6 - 1
    assert plugin.diagnostics()["gmed/edit_norm"] > 0.01


def test_after_the_update_arriving_samples_are_stored_unedited():
    plugin = GMEDPlugin(2000, 7, stride=3.0, keep_originals=True)
    benchmark = digits(train_size=60)
    train(make_naive(plugin), benchmark)
    arrived = torch.cat([e.dataset.x for e in benchmark.train_stream]).flatten(1)
    held = plugin.buffer.buffer.x.flatten(1)
    untouched = np.array(plugin.buffer.notes(np.arange(len(held))).n_replaced) == 0
    distances = torch.cdist(held.double(), arrived.double()).min(dim=1).values.numpy()
    assert len(held) == 300
    assert 10 < untouched.sum() < 290
    assert (distances[untouched] < 1e-6).all()
    assert (distances[~untouched] > 1e-6).all()


def test_with_mir_others_are_edited_than_those_replayed():
    plugin = GMEDPlugin(60, 7, stride=3.0, reg_strength=0.1, retrieval="mir", n_candidates=20)

    def check(strategy, before):
        now = plugin.buffer.buffer.x
        changed = (now != before.memory).flatten(1).any(dim=1).nonzero().flatten().numpy()
        memory = fetched(plugin, before, changed)
        expected = edited(before.model, plugin.arrived, memory, LR, 3.0, 0.1)
        replayed = strategy.mb_x[plugin.n_stream :]
        assert len(changed) == 7
        torch.testing.assert_close(now[changed], expected, rtol=1e-3, atol=1e-5)
        assert torch.equal(replayed, before.memory[plugin.slots])

    strategy, after = watched(plugin, check)
    train(strategy, digits(train_size=60))
    assert after.n_checked == 29


def test_hindsight_looks_ahead_on_the_memory():
    plugin = GMEDPlugin(60, 7, stride=3.0, reg_strength=0.1, edit="hindsight")
    draws = []
    sample_slots = plugin.buffer.sample_slots

    def recorded(n, rng=None):
        draws.append(sample_slots(n, rng))
        return draws[-1]

    plugin.buffer.sample_slots = recorded

    def check(strategy, before):
        slots, others = draws[-2:]
        on = fetched(plugin, before, others)
        expected = edited(before.model, on, fetched(plugin, before, slots), LR, 3.0, 0.1)
        held = plugin.buffer.fetch(slots)[0]
        torch.testing.assert_close(held, expected, rtol=1e-3, atol=1e-5)

    strategy, after = watched(plugin, check)
    train(strategy, digits(train_size=60))
    assert after.n_checked == 29


def test_random_edits_continue_in_one_direction():
    plugin = GMEDPlugin(30, 7, stride=0.25, edit="random", keep_originals=True)
    train(make_naive(plugin), digits(train_size=60))
    edits = plugin.exhibits()["edits"]
    moved = (edits["edited"] - edits["original"]).reshape(len(edits["slot"]), -1)
    assert edits["n_edits"].max() > 3
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 0.25 * edits["n_edits"], rtol=1e-4)


def test_the_look_ahead_has_the_optimizers_learning_rate_or_its_own():
    def final(lr, given):
        plugin = GMEDPlugin(60, 7, stride=3.0, lr=given)
        model = small_model()
        groups = [
            {"params": model.hidden.parameters(), "lr": lr},
            {"params": model.classifier.parameters(), "lr": lr},
        ]
        strategy = quiet(
            model=model,
            optimizer=torch.optim.SGD(groups),
            plugins=[InMemoryLoaders(), plugin],
        )
        train(strategy, digits(train_size=60))
        return weights(strategy)

    assert torch.equal(final(LR, None), final(LR, LR))
    assert not torch.equal(final(LR, None), final(LR, 10 * LR))


def test_the_stride_decays_with_the_edits_a_sample_has_had():
    plugin = GMEDPlugin(30, 7, stride=2.0, reg_strength=0.0, decay=0.5)

    def check(strategy, before):
        slots = plugin.slots
        ages = torch.tensor(plugin.buffer.notes(slots).n_replaced) - 1
        stride = (2.0 * 0.5**ages).reshape(-1, 1, 1, 1)
        memory = fetched(plugin, before, slots)
        expected = edited(before.model, plugin.arrived, memory, LR, stride, 0.0)
        torch.testing.assert_close(plugin.buffer.fetch(slots)[0], expected, rtol=1e-3, atol=1e-5)
        oldest.append(int(ages.max()))

    oldest = []
    strategy, after = watched(plugin, check)
    train(strategy, digits(train_size=60))
    assert after.n_checked == 29
    assert max(oldest) > 2


def test_a_sample_that_takes_anothers_slot_starts_without_edits():
    plugin = GMEDPlugin(5, 5, stride=2.0, decay=0.5)
    strategy = make_naive(plugin)
    train(strategy, digits(train_size=60))
    buffer, slots = plugin.buffer, np.arange(5)
    notes = buffer.notes(slots)
    # All five are edited in every iteration after the one that stored them.
    n_iterations = strategy.clock.train_iterations
    assert notes.n_replaced == [n_iterations - 1 - arrival // 10 for arrival in notes.arrival]
    assert max(notes.arrival) >= 10


def test_several_steps_and_bounds():
    benchmark = digits(train_size=60)
    norms = {}
    for n_steps in (1, 3):
        plugin = GMEDPlugin(60, 7, stride=5.0, n_steps=n_steps, bounds=[0.0, 1.0])
        train(make_naive(plugin), benchmark)
        held = plugin.buffer.buffer.x
        assert held.min() >= 0
        assert held.max() <= 1
        norms[n_steps] = plugin.diagnostics()["gmed/edit_norm"]
    assert norms[3] > 1.5 * norms[1]


@pytest.mark.parametrize("buffer", [RingBuffer, TaskBuffer])
def test_any_buffer_of_ours_is_edited(buffer):
    memory = buffer(40)
    train(make_naive(GMEDPlugin(buffer=memory, stride=1.0)), digits(train_size=60))
    assert sum(memory.notes(np.arange(len(memory))).n_replaced) > 20


def test_models_with_a_head_for_each_task():
    model = as_multitask(small_model(), "classifier")
    plugin = GMEDPlugin(60, 7, stride=3.0, reg_strength=0.1)

    def check(strategy, before):
        memory = fetched(plugin, before, plugin.slots)
        expected = edited(before.model, plugin.arrived, memory, LR, 3.0, 0.1)
        held = plugin.buffer.fetch(plugin.slots)[0]
        torch.testing.assert_close(held, expected, rtol=1e-3, atol=1e-5)

    strategy, after = watched(plugin, check, model)
    train(strategy, digits(train_size=60, scenario="task"))
    assert after.n_checked == 29


def test_online_streams_and_plain_ones_edit_alike():
    benchmark = digits(train_size=60)
    plain, online = (GMEDPlugin(60, 7, stride=1.0, seed=3) for _ in range(2))
    strategy = make_naive(plain)
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[], shuffle=False)
    others = make_naive(online)
    for part in split_online_stream(benchmark.train_stream, experience_size=10, shuffle=False):
        others.train(part, eval_streams=[], shuffle=False)
    assert torch.equal(plain.buffer.buffer.x, online.buffer.buffer.x)
    assert torch.equal(weights(strategy), weights(others))
    assert plain.series()["gmed/edit_norm"][-1:] == online.series()["gmed/edit_norm"]
