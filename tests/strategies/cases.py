"""Small strategies on embedded data."""

from __future__ import annotations

from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from avalanche.training import Naive
from torch import Tensor, nn

from avalanche_ext.benchmarks import permuted_digits, split_digits
from avalanche_ext.data import InMemoryLoaders
from avalanche_ext.metrics import NoEvaluation
from avalanche_ext.models import MLP


class Spy(SupervisedPlugin):
    """Keeps every mini-batch that is trained on; list it after what changes mini-batches."""

    def __init__(self) -> None:
        super().__init__()
        self.mbatches: list[list[Tensor]] = []
        self.checked = 0

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        self.mbatches.append(list(strategy.mbatch))


def digits(kind: str = "split", **arguments: Any) -> Any:
    """Scikit-learn's digits in five experiences, or as asked for."""
    return {"split": split_digits, "permuted": permuted_digits}[kind](
        **{"n_experiences": 5, **arguments}
    )


def small_model(seed: int = 0) -> MLP:
    """An MLP for digits whose weights depend on the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MLP([32, 16], input_shape=(1, 8, 8), n_classes=10)


def make_naive(
    *plugins: Any, batch_size: int = 10, model: nn.Module | None = None, **arguments: Any
) -> Naive:
    """Avalanche's Naive with in-memory loaders and these plugins, silent."""
    model = small_model() if model is None else model
    return Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.05),
        train_mb_size=batch_size,
        eval_mb_size=256,
        plugins=[InMemoryLoaders(), *plugins],
        evaluator=NoEvaluation(),
        **arguments,
    )


def train(strategy: Any, benchmark: Any) -> None:
    """Train on every experience in turn."""
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[])


def weights(strategy: Any) -> Tensor:
    """All parameters as one vector."""
    return torch.cat([p.detach().flatten() for p in strategy.model.parameters()])
