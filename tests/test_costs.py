"""What an iteration costs, in operators of torch: they are counted, so no other process matters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from avalanche_ext.benchmarks import split_digits
from avalanche_ext.data import InMemoryLoaders
from avalanche_ext.plugins import BalancedReplayPlugin, OnlineReplayPlugin
from tests.cases import quiet, small_model

BATCH = 10


class Operators(TorchDispatchMode):  # type: ignore[misc]
    """Counts the operators that torch runs inside."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n += 1
        return func(*args, **(kwargs or {}))


def counted(run: Callable[[], object]) -> int:
    with Operators() as operators:
        run()
    return operators.n


def of_plugins(n_iterations: int, plugins: list[Any]) -> int:
    """Operators of the second experience, with so many iterations and a full memory."""
    benchmark = split_digits(2, train_size=n_iterations * BATCH)
    strategy = quiet(model=small_model(), plugins=[*plugins, InMemoryLoaders()])
    first, second = benchmark.train_stream
    strategy.train(first)
    return counted(lambda: strategy.train(second))


def an_iteration(plugins: Callable[[], list[Any]]) -> float:
    """Operators of one more iteration, without the fixed cost of an experience."""
    few, many = (of_plugins(n, plugins()) for n in (10, 20))
    return (many - few) / 10


def of_bare_step(batch: int) -> int:
    """Operators of one step by hand: forward, backward, SGD."""
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.rand(batch, 1, 8, 8), torch.zeros(batch, dtype=torch.int64)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    step()
    return counted(step)


def test_an_iteration_of_naive_training_runs_few_operators_besides_its_step() -> None:
    assert an_iteration(list) <= of_bare_step(BATCH) + 4


def test_an_iteration_of_replay_runs_few_operators_besides_its_step() -> None:
    bare = of_bare_step(2 * BATCH)
    online = an_iteration(lambda: [OnlineReplayPlugin(mem_size=50, batch_size=BATCH)])
    balanced = an_iteration(lambda: [BalancedReplayPlugin(mem_size=50, batch_size=BATCH)])
    assert online <= bare + 18
    assert balanced <= bare + 18
