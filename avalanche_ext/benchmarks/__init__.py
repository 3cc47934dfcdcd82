"""Benchmarks in memory, for plain and online streams."""

from avalanche_ext.benchmarks.build import build_benchmark
from avalanche_ext.benchmarks.catalogue import (
    domains,
    image_folder,
    permuted,
    permuted_digits,
    permuted_mnist,
    rotated,
    rotated_digits,
    rotated_mnist,
    split,
    split_cifar10,
    split_cifar100,
    split_digits,
    split_fmnist,
    split_mnist,
)
from avalanche_ext.benchmarks.sources import DataNotFoundError
from avalanche_ext.benchmarks.tasks import Task

__all__ = [
    "DataNotFoundError",
    "Task",
    "build_benchmark",
    "domains",
    "image_folder",
    "permuted",
    "permuted_digits",
    "permuted_mnist",
    "rotated",
    "rotated_digits",
    "rotated_mnist",
    "split",
    "split_cifar10",
    "split_cifar100",
    "split_digits",
    "split_fmnist",
    "split_mnist",
]
