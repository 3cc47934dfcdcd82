"""What GSS-greedy's memory keeps."""

import pickle

import numpy as np
import pytest
import torch
from avalanche.training.plugins import ReplayPlugin

from avalanche_ext.buffers import GreedyBuffer
from avalanche_ext.buffers.greedy import candidate_weights, candidates, replacement_probabilities
from tests.buffers.cases import held, numbered
from tests.cases import digits, make_naive
from tests.oracles import replacements_by_enumeration

HELD = [0.3, -0.6, 0.9, 0.1]


def filled(scores, seed=0, max_size=None):
    """A buffer that holds samples 0, 1, ... with these scores."""
    buffer = GreedyBuffer(max_size or len(scores), seed)
    buffer.add(*numbered([0] * len(scores)), scores=scores)
    return buffer


def within(counts, probabilities, n):
    """Whether counts are within five standard deviations of what n trials have on average."""
    std = np.sqrt(n * probabilities * (1 - probabilities))
    return np.all(np.abs(counts - n * probabilities) <= 5 * std)


def test_candidates_are_weighted_from_the_least_score():
    weights = candidate_weights(np.array([0.5, -0.5, 0.0]))
    np.testing.assert_allclose(weights, [1 / 1.01, 0, 0.5 / 1.01])
    assert candidate_weights(np.full(3, 0.2)).tolist() == [0, 0, 0]


def test_the_larger_score_is_the_likelier_to_go():
    chances = replacement_probabilities(np.array([0.5, 0, 1, -1, -1]), np.array([0, 0.5, 0, 0, -1]))
    np.testing.assert_allclose(chances, [1.5 / 2.5, 1 / 2.5, 2 / 3, 0, 0.5])


@pytest.mark.parametrize("arriving", [[0.2], [-0.9, 0.8], [0.5, 0.5, -0.2]])
def test_probabilities_of_replacements_are_those_of_all_draws_enumerated(arriving):
    counts, n = np.zeros((len(arriving), len(HELD))), 4000
    for seed in range(n):
        buffer = filled(HELD, seed)
        slots = buffer.add(*numbered([1] * len(arriving), 4), scores=arriving)
        for row, slot in enumerate(slots):
            if slot >= 0:
                counts[row, slot] += 1
    expected = replacements_by_enumeration(HELD, arriving)
    assert expected.sum() > 0.3
    assert within(counts, expected, n)


def test_slots_of_the_least_score_are_candidates_last():
    rng = np.random.default_rng(0)
    for _ in range(50):
        drawn = candidates(np.array([0.2, -0.5, 0.1, -0.5]), 4, rng)
        assert {*drawn[:2].tolist()} == {0, 2}
        assert {*drawn[2:].tolist()} == {1, 3}


def test_of_equal_scores_each_slot_is_a_candidate_as_often():
    rng, n = np.random.default_rng(0), 2000
    drawn = [candidates(np.full(5, 0.1), 2, rng) for _ in range(n)]
    assert within(np.bincount(np.concatenate(drawn)), np.full(5, 2 / 5), n)


def test_all_are_stored_while_there_is_room():
    buffer = GreedyBuffer(5)
    assert buffer.add(*numbered([0, 1])).tolist() == [0, 1]
    assert buffer.scores.tolist() == [0.1, 0.1]
    assert not buffer.is_full
    slots = buffer.add(*numbered([1, 1, 1, 1], 2), scores=[0.9, 0.8, -0.3, 0.2])
    assert slots.tolist() == [2, 3, 4, -1]
    assert held(buffer) == [0, 1, 2, 3, 4]
    assert buffer.scores.tolist() == [0.1, 0.1, 0.9, 0.8, -0.3]
    assert buffer.is_full
    assert buffer.n_seen == 6


def test_a_sample_that_replaces_another_brings_its_score_label_and_arrival():
    buffer = filled([-1.0, 0.9])
    assert buffer.groups("class") == {0: [0, 1]}
    # The least score is no candidate, and one of -1 replaces any other.
    assert buffer.add(*numbered([3], 7), scores=[-1]).tolist() == [1]
    assert buffer.scores.tolist() == [-1, -1]
    assert buffer.groups("class") == {0: [0], 3: [1]}
    assert buffer.notes(np.arange(2)).arrival == [0, 2]
    assert held(buffer) == [0, 7]


def test_a_sample_of_score_minus_one_is_never_replaced_by_a_larger_one():
    buffer = filled([-1.0, -1.0])
    for _ in range(20):
        assert buffer.add(*numbered([1, 1], 5), scores=[0.0, 0.9]).tolist() == [-1, -1]
    assert held(buffer) == [0, 1]


def test_of_a_batch_larger_than_the_memory_the_first_samples_may_enter():
    buffer = GreedyBuffer(2)
    assert buffer.add(*numbered([0] * 5)).tolist() == [0, 1, -1, -1, -1]
    slots = buffer.add(*numbered([1] * 5, 5), scores=[-1.0] * 5)
    assert {*slots[:2].tolist()} == {0, 1}
    assert slots[2:].tolist() == [-1, -1, -1]
    assert held(buffer) == [5, 6]


def test_samples_that_are_left_out_count_as_seen():
    buffer = filled([-1.0, 0.9])
    buffer.leave_out(8)
    buffer.add(*numbered([1], 2), scores=[-1])
    assert buffer.notes(np.arange(2)).arrival == [0, 10]


def test_scores_survive_growing_shrinking_and_pickling():
    buffer = filled(HELD)
    buffer.resize(None, 6)
    assert buffer.scores.tolist() == HELD
    buffer.resize(None, 2)
    assert held(buffer) == [1, 3], "the least scores stay"
    assert buffer.scores.tolist() == [-0.6, 0.1]
    assert pickle.loads(pickle.dumps(buffer)).scores.tolist() == [-0.6, 0.1]
    buffer.resize(None, 3)
    assert buffer.add(*numbered([1], 9), scores=[0.4]).tolist() == [2]
    assert buffer.scores.tolist() == [-0.6, 0.1, 0.4]


def test_state_dict_makes_a_twin_with_the_same_scores(tmp_path):
    buffer, twin = filled(HELD, seed=3), filled([0.7], max_size=9)
    torch.save(buffer.state_dict(), tmp_path / "buffer.pt")
    twin.load_state_dict(torch.load(tmp_path / "buffer.pt", weights_only=True))
    for each in (buffer, twin):
        each.add(*numbered([1, 1, 1], 4), scores=[-0.5, 0.0, 0.5])
    assert twin.scores.tolist() == buffer.scores.tolist() != HELD
    assert torch.equal(buffer.buffer.x, twin.buffer.x)


@pytest.mark.parametrize("scores", [[0.1], [0.1, 1.5], [0.1, float("nan")], [[0.1, 0.2]]])
def test_wrong_scores_are_named(scores):
    with pytest.raises(ValueError, match=r"scores must be 2 numbers from -1 to 1, but are "):
        GreedyBuffer(4).add(*numbered([0, 1]), scores=scores)


def test_samples_without_scores_are_refused_once_there_is_something_to_compare_them_with():
    with pytest.raises(ValueError, match="scores=None: GreedyBuffer needs a score for each sample"):
        filled(HELD).add(*numbered([0], 4))


def test_as_a_storage_policy_of_avalanche_it_says_what_to_use():
    strategy = make_naive(ReplayPlugin(20, storage_policy=GreedyBuffer(20)))
    with pytest.raises(TypeError, match="give to a storage policy: use GSSPlugin, or another"):
        strategy.train(digits(train_size=20).train_stream[0], eval_streams=[])
