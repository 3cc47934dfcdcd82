"""Transforms of a benchmark: random ones act at every access, the others once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from avalanche_ext.benchmarks import domains, permuted, rotated, split
from avalanche_ext.data import InMemoryLoaders
from tests.cases import quiet, weights

CROP = v2.RandomCrop(8, padding=2)
NORMALISE = v2.Normalize([0.5], [0.5])
GIVEN: dict[str, Any] = {"n_experiences": 2, "train_size": 20, "test_size": 10}


class Counted:
    """A transform that knows how many images it saw, and takes one at a time."""

    def __init__(self) -> None:
        self.n = 0

    def __call__(self, x: Tensor) -> Tensor:
        assert x.dim() == 3
        self.n += 1
        return 1 - x


def batch(benchmark: Any, i: int = 0) -> Tensor:
    return benchmark.train_stream[i].dataset.fetch(slice(None))[0]


def test_deterministic_ones_are_applied_once() -> None:
    counted = Counted()
    plain = split("digits", **GIVEN)
    benchmark = split("digits", **GIVEN, train_transforms=[counted])
    n = counted.n
    for _ in range(3):
        assert torch.equal(batch(benchmark), 1 - batch(plain))
    assert torch.equal(benchmark.test_stream[1].dataset.x, 1 - plain.test_stream[1].dataset.x)
    assert counted.n == n


def test_random_ones_are_redrawn_and_others_after_them_too() -> None:
    benchmark = split("digits", **GIVEN, train_transforms=[CROP, NORMALISE])
    dataset = benchmark.train_stream[0].dataset
    first, second = batch(benchmark), batch(benchmark)
    assert not torch.equal(first, second)
    assert first.min() == -1, "padded before it is normalised"
    plain = split("digits", **GIVEN)
    expected = NORMALISE(batch(plain))
    assert torch.equal(dataset.eval().fetch(slice(None))[0], expected)
    assert torch.equal(
        benchmark.test_stream[0].dataset.x, NORMALISE(plain.test_stream[0].dataset.x)
    )


def test_what_both_parts_begin_with_is_applied_once() -> None:
    counted = Counted()
    benchmark = split(
        "digits", **GIVEN, train_transforms=[counted, CROP], test_transforms=[counted]
    )
    n = counted.n
    batch(benchmark)
    benchmark.train_stream[0].dataset.eval().fetch(slice(None))
    assert counted.n == n


def test_the_runs_seed_decides_the_draws() -> None:
    first, second, other = (
        batch(split("digits", **GIVEN, train_transforms=[CROP], seed=seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_other_draws_of_a_run_stay_the_same() -> None:
    """A flip of probability 0 draws but changes nothing."""
    trained = []
    for transforms in (None, [v2.RandomHorizontalFlip(0.0)]):
        benchmark = split("digits", **GIVEN, train_transforms=transforms)
        torch.manual_seed(0)
        strategy = quiet(plugins=[InMemoryLoaders()])
        strategy.train(benchmark.train_stream)
        trained.append((weights(strategy), torch.rand(1)))
    assert torch.equal(trained[0][0], trained[1][0])
    assert torch.equal(trained[0][1], trained[1][1])


@pytest.mark.parametrize("make", [permuted, rotated])
def test_random_ones_come_before_permutation_and_rotation(make: Any) -> None:
    """If a crop does not shift a sample, the result is as without the crop."""
    plain = make("digits", **GIVEN)
    still = make("digits", **GIVEN, train_transforms=[v2.RandomHorizontalFlip(0.0)])
    flipped = make("digits", **GIVEN, train_transforms=[v2.RandomHorizontalFlip(1.0)])
    mirrored = make("digits", **GIVEN, train_transforms=[v2.Lambda(lambda x: x.flip(-1))])
    for i in range(2):
        torch.testing.assert_close(batch(still, i), batch(plain, i))
        torch.testing.assert_close(batch(flipped, i), batch(mirrored, i))
        evaluated = flipped.train_stream[i].dataset.eval().fetch(slice(None))[0]
        torch.testing.assert_close(evaluated, batch(plain, i))


def test_standardising_comes_last() -> None:
    plain = split("digits", **GIVEN, standardise="channel")
    still = split(
        "digits", **GIVEN, standardise="channel", train_transforms=[v2.RandomHorizontalFlip(0.0)]
    )
    torch.testing.assert_close(batch(still), batch(plain))
    normalised = split("digits", **GIVEN, standardise="channel", train_transforms=[NORMALISE])
    torch.testing.assert_close(batch(normalised), batch(plain), atol=1e-4, rtol=0)


def test_experiences_share_transforms_so_that_buffers_can_join_samples() -> None:
    benchmark = split("digits", **GIVEN, train_transforms=[CROP])
    first, second = (e.dataset for e in benchmark.train_stream)
    assert type(first.concat(second)) is type(first)


@pytest.mark.parametrize("make", [permuted, rotated])
@pytest.mark.parametrize("train", [[], [CROP]])
def test_shared_test_images_have_their_own(make: Any, train: Any) -> None:
    inverted = {"train_transforms": train, "test_transforms": [lambda x: 1 - x]}
    benchmarks = make("digits", **GIVEN), make("digits", **GIVEN, **inverted)
    plain, found = (b.test_stream[0].dataset.fetch(slice(None))[0] for b in benchmarks)
    torch.testing.assert_close(found, 1 - plain)


def test_domains_have_them_too() -> None:
    benchmark = domains(["digits", "digits"], train_transforms=[CROP])
    assert not torch.equal(batch(benchmark, 1), batch(benchmark, 1))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"test_transforms": [CROP]}, r"test_transforms\[0\] is random \(RandomCrop\)"),
        ({"train_transforms": [v2.Resize(4)], "test_transforms": []}, "shape .1, 4, 4. after tra"),
        ({"train_transforms": [v2.RandomCrop(6)]}, r"\(1, 6, 6\) .* test images \(1, 8, 8\)"),
        ({"train_transforms": [lambda x: x.missing]}, r"train_transforms\[0\] \(<lambda>\) fails"),
        ({"train_transforms": [lambda x: x.byte()]}, "must return a float tensor"),
        ({"train_transforms": ["RandomCrop"]}, r"train_transforms\[0\] \(str\) fails"),
        ({"train_transforms": [CROP], "augment": True}, "list the crop and the flip"),
    ],
)
def test_what_does_not_fit(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split("digits", **GIVEN, **given)


def test_normalised_images_cannot_be_rotated() -> None:
    with pytest.raises(ValueError, match="from 0 to 1, but have -1 to 1: use standardise"):
        rotated("digits", **GIVEN, train_transforms=[NORMALISE])
