"""GSS-greedy by hand: one sample and one step after another, with plain lists for a memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from avalanche.models import avalanche_forward
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from avalanche_ext.data import InMemoryLoaders
from avalanche_ext.models import MLP
from avalanche_ext.plugins import GSSPlugin
from tests.cases import quiet, weights
from tests.oracles import max_cosines_by_loops

Sample = tuple[Tensor, Tensor, Tensor]


class Double(nn.Module):
    """Runs a model in double precision on samples of single precision."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.double()

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.model(x.double())
        return outputs


class GSSByHand:
    """Aljundi et al. (2019), Algorithm 2, with the steps of the official code.

    It draws as `GSSPlugin` does: an order of the memory for the steps, one for the references,
    exponential clocks of the slots, and a uniform number for each candidate.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        mem_size: int,
        batch_size: int,
        n_iterations: int,
        n_references: int,
        seed: int,
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self.mem_size, self.batch_size = mem_size, batch_size
        self.n_iterations, self.n_references = n_iterations, n_references
        self.rng = np.random.default_rng(seed)
        self.memory: list[Sample] = []
        self.scores: list[float] = []
        self.n_passed_over = self.n_replaced = 0

    def observe(self, batch: Sequence[Sample], is_new: bool = True) -> None:
        """Take all steps on a batch, and store of it what is to be stored."""
        parts = self._parts()
        for iteration in range(self.n_iterations):
            self._step(batch)
            if parts:
                self._step(parts[iteration % len(parts)])
        if is_new:
            self._store(batch)

    def _step(self, samples: Sequence[Sample]) -> None:
        self.model.train()
        self.optimizer.zero_grad()
        self._loss(samples).backward()
        self.optimizer.step()

    def _loss(self, samples: Sequence[Sample]) -> Tensor:
        x, y, t = (torch.stack(column) for column in zip(*samples, strict=True))
        return cross_entropy(avalanche_forward(self.model, x, t), y)

    def _gradient(self, samples: Sequence[Sample]) -> list[float]:
        self.model.eval()
        self.model.zero_grad()
        self._loss(samples).backward()
        gradients: list[float] = []
        for p in self.model.parameters():
            gradients += (torch.zeros_like(p) if p.grad is None else p.grad).flatten().tolist()
        return gradients

    def _parts(self) -> list[list[Sample]]:
        order = self.rng.permutation(len(self.memory)).tolist()
        starts = range(0, len(order), self.batch_size)
        return [[self.memory[i] for i in order[s : s + self.batch_size]] for s in starts]

    def _store(self, batch: Sequence[Sample]) -> None:
        if not self.memory:
            self.memory = [*batch[: self.mem_size]]
            self.scores = [0.1] * len(self.memory)
            return
        references = [self._gradient(part) for part in self._parts()[: self.n_references]]
        is_full = len(self.memory) == self.mem_size
        if is_full and max_cosines_by_loops([self._gradient(batch)], references)[0] >= 0:
            self.n_passed_over += 1
            return
        scores = max_cosines_by_loops([self._gradient([one]) for one in batch], references)
        if not is_full:
            n_free = self.mem_size - len(self.memory)
            self.memory += batch[:n_free]
            self.scores += scores[:n_free]
            return
        held = [*self.scores]
        slots = [*self._candidates(len(batch))]
        chances = self.rng.random(len(slots))
        for slot, chance, sample, score in zip(slots, chances, batch, scores, strict=False):
            old, new = (held[slot] + 1) / 2, (score + 1) / 2
            if chance < old / (old + new):
                self.memory[slot], self.scores[slot] = sample, score
                self.n_replaced += 1

    def _candidates(self, n: int) -> Iterator[int]:
        least, most = min(self.scores), max(self.scores)
        clocks = self.rng.standard_exponential(len(self.scores)).tolist()
        rates = [(s - least) / (most - least + 0.01) for s in self.scores]
        times = [c / r if r else float("inf") for c, r in zip(clocks, rates, strict=True)]
        for _, _, slot in sorted(zip(times, clocks, range(len(clocks)), strict=True))[:n]:
            yield slot


def batches(dataset: Any, size: int) -> Iterator[list[Sample]]:
    """Samples of one of our datasets in its order."""
    rows = [*zip(dataset.x, dataset.y, dataset.t, strict=True)]
    return (rows[start : start + size] for start in range(0, len(rows), size))


def small_mlp() -> MLP:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MLP([8], input_shape=(1, 8, 8), n_classes=10)


def sgd(model: nn.Module, momentum: float = 0.0) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=momentum)


def strategy_of(
    *plugins: Any, model: nn.Module | None = None, momentum: float = 0.0, **given: Any
) -> Any:
    """A strategy without metrics that runs these plugins."""
    model = small_mlp() if model is None else model
    return quiet(
        model=model,
        optimizer=sgd(model, momentum),
        plugins=[InMemoryLoaders(), *plugins],
        **given,
    )


def in_order(strategy: Any, experiences: Iterable[Any]) -> None:
    """Train on experiences without shuffling their samples."""
    for experience in experiences:
        strategy.train(experience, eval_streams=[], shuffle=False)


def check(
    model: nn.Module,
    stream: Sequence[Any],
    arguments: dict[str, int],
    n_epochs: int = 1,
    stream_batch_size: int = 10,
    momentum: float = 0.0,
) -> GSSByHand:
    """Compare the memory, its scores and the weights after training; return the loop by hand."""
    arguments = {
        "mem_size": 25, "batch_size": 7, "n_iterations": 2, "n_references": 3, "seed": 5,
    } | arguments  # fmt: skip
    alone = deepcopy(model)
    by_hand = GSSByHand(alone, sgd(alone, momentum), **arguments)
    for experience in stream:
        for epoch in range(n_epochs):
            for batch in batches(experience.dataset, stream_batch_size):
                by_hand.observe(batch, is_new=epoch == 0)
    plugin = GSSPlugin(**arguments)
    strategy = strategy_of(
        plugin,
        model=model,
        momentum=momentum,
        train_epochs=n_epochs,
        train_mb_size=stream_batch_size,
    )
    in_order(strategy, stream)
    x, y, t = (torch.stack(column) for column in zip(*by_hand.memory, strict=True))
    held = plugin.buffer.buffer
    assert torch.equal(held.x, x)
    assert torch.equal(held.y, y)
    assert torch.equal(held.t, t)
    np.testing.assert_allclose(plugin.buffer.scores, by_hand.scores, rtol=0, atol=1e-9)
    expected = torch.cat([p.detach().flatten() for p in alone.parameters()])
    torch.testing.assert_close(weights(strategy), expected, rtol=0, atol=1e-9)
    assert plugin.buffer.n_seen == sum(len(e.dataset) for e in stream)
    return by_hand
