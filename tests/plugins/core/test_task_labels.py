"""Benchmarks whose mini-batches have no task labels: the same as with the label 0 everywhere."""

from functools import cache

import numpy as np
import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.scenarios.supervised import (
    class_incremental_benchmark,
    new_instances_benchmark,
)
from avalanche.benchmarks.utils import as_classification_dataset

from avalanche_ext.plugins import MethodPlugin, exhibits
from tests.cases import SampleBySample, Spy, digits, plain_dataset, quiet, weights
from tests.plugins.every_plugin import PLUGINS


def from_datasets(train, test):
    halves = [train.subset(range(60)), train.subset(range(60, 120))]
    return benchmark_from_datasets(train=halves, test=[test, test])


def class_incremental(train, test):
    return class_incremental_benchmark(
        {"train": train, "test": test}, num_experiences=2, class_order=range(10)
    )


def new_instances(train, test):
    return new_instances_benchmark(train, test, num_experiences=2, seed=0)


BENCHMARKS = [from_datasets, class_incremental, new_instances]


def unlabelled(x, y):
    return as_classification_dataset(SampleBySample(x, y, torch.Tensor.clone))


def labelled(x, y):
    return plain_dataset(x, y, torch.zeros_like(y))


def trained(plugins, make_benchmark, make_dataset):
    """Weights, exhibits and the number of columns of mini-batches after two experiences."""
    torch.manual_seed(0)
    streams = digits(n_experiences=1).streams
    data = [streams[name][0].dataset for name in ("train", "test")]
    rows = [torch.randperm(len(each), generator=torch.manual_seed(0))[:120] for each in data]
    datasets = [make_dataset(each.x[i], each.y[i]) for each, i in zip(data, rows, strict=True)]
    benchmark, spy = make_benchmark(*datasets), Spy()
    strategy = quiet(plugins=[*plugins, spy], train_mb_size=4)
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[])
        strategy.eval(benchmark.test_stream)
    assert strategy.clock.train_exp_counter == 2
    return weights(strategy), exhibits(plugins), {len(mbatch) for mbatch in spy.mbatches}


@cache
def without_plugin(make_benchmark):
    return trained([], make_benchmark, unlabelled)[0]


@pytest.mark.parametrize("make_benchmark", BENCHMARKS)
@pytest.mark.parametrize("name", PLUGINS)
def test_without_task_labels_all_is_as_with_label_0(name, make_benchmark):
    plugin = PLUGINS[name]()
    found, shown, n_columns = trained([plugin], make_benchmark, unlabelled)
    expected, expected_shown, expected_columns = trained(
        [PLUGINS[name]()], make_benchmark, labelled
    )
    assert (n_columns, expected_columns) == ({2}, {3})
    assert torch.equal(found, expected)
    assert shown.keys() == expected_shown.keys()
    for exhibit, arrays in expected_shown.items():
        for array, values in arrays.items():
            np.testing.assert_array_equal(shown[exhibit][array], values)
    assert torch.equal(found, without_plugin(make_benchmark)) != isinstance(plugin, MethodPlugin)
    assert shown or isinstance(plugin, MethodPlugin)
