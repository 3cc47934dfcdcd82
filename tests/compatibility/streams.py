"""Small streams of scikit-learn's digits, of every kind that we and Avalanche make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, Literal

import torch
from avalanche.benchmarks import (
    benchmark_from_datasets,
    benchmark_with_validation_stream,
    class_incremental_benchmark,
    data_incremental_benchmark,
    nc_benchmark,
    new_instances_benchmark,
    ni_benchmark,
    split_continuous_linear_decay_stream,
    split_online_stream,
    with_classes_timeline,
    with_task_labels,
)
from avalanche.benchmarks.utils import as_classification_dataset
from torch import Tensor

from avalanche_ext.benchmarks import permuted_digits, rotated_digits, split_digits
from avalanche_ext.data import fetch_all, origin_experience
from tests.cases import SampleBySample, plain_benchmark, plain_dataset

Head = Literal["fixed", "multi", "growing"]

N_EXPERIENCES = 3
SIZE = 20
"""Number of training samples of each experience."""
_TEST_SIZE = 8


@dataclass(frozen=True)
class Stream:
    """What is trained on, and what is evaluated after each experience.

    Attributes:
        train: Experiences, in order.
        test: Experiences that are evaluated.
        valid: Experiences that are evaluated while training; none if there are no such.
        head: The kind of classifier that the model has.
    """

    train: Sequence[Any]
    test: Sequence[Any]
    valid: Sequence[Any] = ()
    head: Head = "fixed"

    def tasks(self) -> dict[int, tuple[Tensor, Tensor, Tensor]]:
        """Samples of each experience of the original stream, by its index: x, y and t."""
        origins = {o.current_experience: o for o in map(origin_experience, self.train)}
        return {index: fetch_all(o.dataset.eval()) for index, o in origins.items()}


def _few(stream: Any) -> list[Any]:
    return [*islice(stream, N_EXPERIENCES)]


def _of(benchmark: Any, head: Head = "fixed") -> Stream:
    return Stream(_few(benchmark.train_stream), _few(benchmark.test_stream), head=head)


def _split(**more: Any) -> Any:
    return split_digits(n_experiences=5, train_size=SIZE, test_size=_TEST_SIZE, **more)


def _pooled(name: str) -> tuple[Tensor, Tensor]:
    """Samples of the first experiences, and their labels."""
    stream = _few(getattr(_split(), f"{name}_stream"))
    return tuple(torch.cat([getattr(e.dataset, c) for e in stream]) for c in "xy")


def _dataset(name: str) -> Any:
    return SampleBySample(*_pooled(name), Tensor.clone)


def _without_task_labels() -> Any:
    streams = {
        name: [
            as_classification_dataset(SampleBySample(e.dataset.x, e.dataset.y, Tensor.clone))
            for e in _few(stream)
        ]
        for name, stream in _split().streams.items()
    }
    return benchmark_from_datasets(**streams)


def _repeating() -> Any:
    """Three experiences, each of which brings back a class of an earlier one."""
    x, y = _pooled("train")
    test = [
        plain_dataset(e.dataset.x, e.dataset.y, e.dataset.t) for e in _few(_split().test_stream)
    ]
    rows: list[Tensor] = [(y == c).nonzero().flatten() for c in range(6)]
    parts = [(0, 1), (2, 3, 0), (4, 5, 2)]
    taken = [0] * 6
    train = []
    for classes in parts:
        chosen = []
        for c in classes:
            n = 5 if c in (0, 2) else 8
            chosen.append(rows[c][taken[c] : taken[c] + n])
            taken[c] += n
        index = torch.cat(chosen)
        train.append(plain_dataset(x[index], y[index], torch.zeros_like(index)))
    return with_task_labels(with_classes_timeline(benchmark_from_datasets(train=train, test=test)))


def _online(benchmark: Any, split: Callable[..., Any], **more: Any) -> Stream:
    train = split(_few(benchmark.train_stream), experience_size=10, **more)
    return Stream([*train], _few(benchmark.test_stream))


def _data_incremental() -> Stream:
    benchmark = nc_benchmark(
        _dataset("train"), _dataset("test"), N_EXPERIENCES, task_labels=False, shuffle=False
    )
    parts = data_incremental_benchmark(benchmark, experience_size=10, shuffle=True)
    return Stream([*parts.train_stream][:4], [*parts.test_stream])


def _with_validation() -> Stream:
    benchmark = benchmark_with_validation_stream(plain_benchmark(_split()), validation_size=4)
    return Stream(
        _few(benchmark.train_stream), _few(benchmark.test_stream), _few(benchmark.valid_stream)
    )


def _classes(make: Callable[..., Any], **more: Any) -> Stream:
    return _of(make(_dataset("train"), _dataset("test"), N_EXPERIENCES, **more))


STREAMS: dict[str, Callable[[], Stream]] = {
    "split": lambda: _of(_split()),
    "permuted": lambda: _of(
        permuted_digits(n_experiences=N_EXPERIENCES, train_size=SIZE, test_size=_TEST_SIZE)
    ),
    "rotated": lambda: _of(
        rotated_digits(n_experiences=N_EXPERIENCES, train_size=SIZE, test_size=_TEST_SIZE)
    ),
    "nc_benchmark": lambda: _classes(nc_benchmark, task_labels=False, shuffle=False),
    "ni_benchmark": lambda: _classes(ni_benchmark, task_labels=False, seed=0),
    "from datasets": lambda: _of(_without_task_labels()),
    "class_incremental": lambda: _of(
        class_incremental_benchmark(
            {name: as_classification_dataset(_dataset(name)) for name in ("train", "test")},
            num_experiences=N_EXPERIENCES,
            seed=0,
        )
    ),
    "new_instances": lambda: _of(
        new_instances_benchmark(
            *(as_classification_dataset(_dataset(name)) for name in ("train", "test")),
            num_experiences=N_EXPERIENCES,
            seed=0,
        )
    ),
    "online": lambda: _online(_split(), split_online_stream),
    "linear decay": lambda: _online(
        _split(),
        split_continuous_linear_decay_stream,
        iters_per_virtual_epoch=6,
        beta=3,
        shuffle=False,
    ),
    "class repetition": lambda: _of(_repeating()),
    "data-incremental": _data_incremental,
    "multi-head": lambda: _of(_split(scenario="task"), "multi"),
    "growing head": lambda: _of(_split(), "growing"),
    "validation": _with_validation,
}
"""A stream of each kind by its name."""


@cache
def stream(name: str) -> Stream:
    """The stream of this name."""
    return STREAMS[name]()
