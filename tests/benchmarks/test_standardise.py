"""Inputs with mean 0 and standard deviation 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avalanche_ext.benchmarks import split_digits
from avalanche_ext.benchmarks.datasets import digits
from avalanche_ext.benchmarks.sources import Source
from avalanche_ext.benchmarks.standardise import standardised
from avalanche_ext.benchmarks.tasks import Seeds, Sizes, Task, split_by_class
from tests.benchmarks.cases import made
from tests.config.cases import EXPERIMENT, experiment_with, loaded


def tasks_of(source: Source) -> list[Task]:
    return split_by_class(source, 5, Sizes(20, None, "first"), Seeds(0, None))


@pytest.mark.parametrize(("per", "axes"), [("pixel", (0,)), ("channel", (0, 2, 3))])
def test_statistics_are_those_of_the_whole_training_set(per: Any, axes: tuple[int, ...]) -> None:
    source = digits()
    pixels = source.train_x.numpy().astype(np.float64) / source.white
    mean, std = pixels.mean(axes, keepdims=True)[0], pixels.std(axes, keepdims=True)[0]
    std[std < 1e-6] = 1.0
    for plain, changed in zip(
        tasks_of(source), standardised(tasks_of(source), source, per), strict=True
    ):
        for part in ("train_x", "test_x"):
            expected = (made(getattr(plain, part)).numpy() - mean) / std
            np.testing.assert_allclose(made(getattr(changed, part)).numpy(), expected, atol=1e-5)
        assert torch.equal(changed.train_y, plain.train_y)
        assert torch.equal(changed.test_y, plain.test_y)


def test_a_pixel_that_does_not_vary_becomes_zero() -> None:
    source = digits()
    constant = source.train_x.float().std(0) == 0
    assert constant.any()
    for task in standardised(tasks_of(source), source, "pixel"):
        assert bool((made(task.train_x)[:, constant] == 0).all())


def test_none_leaves_tasks_as_they_are() -> None:
    tasks = tasks_of(digits())
    assert standardised(tasks, digits(), None) is tasks


def test_a_benchmark_takes_it_by_name() -> None:
    benchmark = split_digits(standardise="pixel")
    x = torch.cat([experience.dataset.x for experience in benchmark.train_stream])
    varying = x.std(0) > 0
    torch.testing.assert_close(x.mean(0), torch.zeros(x.shape[1:]), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std(0)[varying], torch.ones(int(varying.sum())), atol=1e-3, rtol=0)


def test_results_of_runs_without_it_stay_valid_and_with_it_are_others(tmp_path: Path) -> None:
    plain = loaded(EXPERIMENT, tmp_path).cells()[0]
    benchmark = {**EXPERIMENT["benchmark"], "standardise": None}
    assert loaded(experiment_with(benchmark=benchmark), tmp_path).cells()[0].hash == plain.hash
    benchmark = {**EXPERIMENT["benchmark"], "standardise": "channel"}
    assert loaded(experiment_with(benchmark=benchmark), tmp_path).cells()[0].hash != plain.hash
