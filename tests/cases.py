"""What the tests of several rooms share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.benchmarks import (
    CLScenario,
    benchmark_from_datasets,
    with_classes_timeline,
    with_task_labels,
)
from avalanche.benchmarks.utils import DataAttribute, TaskLabels
from avalanche.benchmarks.utils.classification_dataset import (
    TaskAwareSupervisedClassificationDataset,
)
from avalanche.core import SupervisedPlugin
from avalanche.training import Naive
from torch import Tensor, nn
from torch.utils.data import Dataset

from avalanche_ext.benchmarks import permuted_digits, split_digits
from avalanche_ext.data import InMemoryLoaders
from avalanche_ext.metrics.recorder import NoEvaluation
from avalanche_ext.models import MLP

DATA_ROOT = Path(os.environ.get("AVALANCHE_EXT_DATA") or "data-root-not-given")

needs_mnist = pytest.mark.skipif(
    not (DATA_ROOT / "MNIST" / "raw").is_dir(),
    reason="MNIST/raw is not in the folder named by AVALANCHE_EXT_DATA",
)


def quiet(
    strategy: Callable[..., Any] = Naive, model: nn.Module | None = None, **given: Any
) -> Any:
    """A strategy without metrics, of an MLP for digits whose weights are always the same."""
    if model is None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = MLP([16], input_shape=(1, 8, 8), n_classes=10)
    arguments = {
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "criterion": nn.CrossEntropyLoss(),
        "train_mb_size": 10,
        "eval_mb_size": 100,
        "evaluator": NoEvaluation(),
    }
    return strategy(model=model, **(arguments | given))


def small_model(seed: int = 0) -> MLP:
    """An MLP for digits whose weights depend on the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MLP([32, 16], input_shape=(1, 8, 8), n_classes=10)


def make_naive(
    *plugins: Any, batch_size: int = 10, model: nn.Module | None = None, **given: Any
) -> Any:
    """Avalanche's Naive with in-memory loaders and these plugins, without metrics."""
    model = small_model() if model is None else model
    return quiet(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.05),
        train_mb_size=batch_size,
        plugins=[InMemoryLoaders(), *plugins],
        **given,
    )


def digits(kind: str = "split", **arguments: Any) -> CLScenario:
    """Scikit-learn's digits, split or permuted, in five experiences or as asked for."""
    make = {"split": split_digits, "permuted": permuted_digits}[kind]
    return make(**{"n_experiences": 5, **arguments})


def train(strategy: Any, benchmark: Any) -> None:
    """Train on every experience in turn."""
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[])


class Spy(SupervisedPlugin):
    """Keeps every mini-batch that is trained on; list it after what changes mini-batches."""

    def __init__(self) -> None:
        super().__init__()
        self.mbatches: list[list[Tensor]] = []
        self.checked = 0

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        self.mbatches.append(list(strategy.mbatch))


def weights(strategy: Any) -> Tensor:
    """All parameters of the strategy's model, as one vector."""
    return torch.cat([p.detach().flatten() for p in strategy.model.parameters()])


class SampleBySample(Dataset[Any]):
    """A data set as most are: one `(x_i, y_i)` at a time, each through `transform`."""

    def __init__(self, x: Tensor, y: Tensor, transform: Callable[[Tensor], Tensor]) -> None:
        self.x, self.targets, self.transform = x, y.tolist(), transform

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.x[index]), self.targets[index]


def plain_dataset(
    x: Tensor, y: Tensor, t: Tensor, transform: Callable[[Tensor], Tensor] = Tensor.clone
) -> Any:
    """Avalanche's own dataset of these samples."""
    return TaskAwareSupervisedClassificationDataset(
        [SampleBySample(x, y, transform)],
        data_attributes=[DataAttribute(y.tolist(), "targets"), TaskLabels(t.tolist())],
    )


def plain_benchmark(
    benchmark: CLScenario, transform: Callable[[Tensor], Tensor] = Tensor.clone
) -> CLScenario:
    """Avalanche's own benchmark of the samples of one of ours."""
    streams = {
        name: [plain_dataset(e.dataset.x, e.dataset.y, e.dataset.t, transform) for e in stream]
        for name, stream in benchmark.streams.items()
    }
    return with_task_labels(with_classes_timeline(benchmark_from_datasets(**streams)))
