"""Training samples that are held out to choose parameters by."""

import pytest
import torch

from avalanche_ext.benchmarks import permuted_digits, split_digits
from avalanche_ext.benchmarks.datasets import digits
from avalanche_ext.benchmarks.sources import Source, held_out
from avalanche_ext.benchmarks.tasks import Seeds, Sizes, split_by_class
from tests.benchmarks.cases import numbers, source


def test_held_out_samples_are_no_longer_trained_on_and_replace_the_test_samples():
    whole = source(n_train=60)
    part = held_out(whole, 20)
    train, test = numbers(part.train_x), numbers(part.test_x)
    assert len(train) == 40
    assert len(test) == 20
    assert sorted([*train, *test]) == numbers(whole.train_x)
    labels = dict(zip(numbers(whole.train_x), whole.train_y.tolist(), strict=True))
    assert part.test_y.tolist() == [labels[number] for number in test]
    assert part.train_y.tolist() == [labels[number] for number in train]


def test_they_are_a_random_sample_and_always_the_same():
    first, second = held_out(source(), 20), held_out(source(), 20)
    assert torch.equal(first.test_x, second.test_x)
    assert numbers(first.test_x) != list(range(20))
    assert numbers(first.test_x) == sorted(numbers(first.test_x))


def test_without_a_size_the_data_set_stays_as_it_is():
    whole = source()
    assert held_out(whole, None) is whole


@pytest.mark.parametrize("size", [60, 61])
def test_some_training_samples_must_be_left(size):
    with pytest.raises(ValueError, match=f"validation_size={size} must be below 60"):
        held_out(source(n_train=60), size)


def test_tasks_are_tested_on_them_and_permuted_as_without():
    usual = permuted_digits(n_experiences=2, test_size=None)
    chosen = permuted_digits(n_experiences=2, validation_size=300)
    n_test, n_train = len(digits().test_y), len(digits().train_y)
    assert [len(e.dataset) for e in usual.test_stream] == [n_test] * 2
    assert [len(e.dataset) for e in chosen.test_stream] == [300] * 2
    assert [len(e.dataset) for e in chosen.train_stream] == [n_train - 300] * 2
    rows = {tuple(x.flatten().tolist()) for x in usual.train_stream[1].dataset.x}
    assert {tuple(x.flatten().tolist()) for x in chosen.test_stream[1].dataset.x} <= rows


def test_classes_are_split_after_they_are_held_out():
    benchmark = split_digits(n_experiences=5, validation_size=300)
    assert sum(len(e.dataset) for e in benchmark.test_stream) == 300


@pytest.mark.parametrize(
    ("classes", "size", "part"),
    [([0] * 9 + [1], 1, "test"), ([0, 0, 1], 2, "training")],
)
def test_an_experience_without_samples_is_named(classes, size, part):
    n = len(classes)
    labels = torch.tensor(classes)
    whole = Source(torch.rand(n, 1, 2, 2), labels, torch.rand(n, 1, 2, 2), labels, n_classes=2)
    held = held_out(whole, size)
    lacking = held.test_y if part == "test" else held.train_y
    (index,) = {0, 1} - {*lacking.tolist()}
    with pytest.raises(ValueError, match=f"experience {index} has no {part} sample: validation_s"):
        split_by_class(held, 2, Sizes(None, None, "first"), Seeds(0, None))
