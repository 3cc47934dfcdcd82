"""The methods of the DRL paper on Split MNIST as a user would write them by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

import numpy as np
import torch
from harness import make_model
from torch import Tensor, nn

from avalanche_ext.data import InMemoryDataset, TensorLoader
from avalanche_ext.functional import discriminative_representation_loss

Term = Callable[[list[Tensor], Tensor], Tensor]
"""Given the representations of each layer and labels, returns what is added to the loss."""


def drl(representations: list[Tensor], y: Tensor) -> Tensor:
    return 5e-4 * discriminative_representation_loss(torch.cat(representations, dim=1), y, 2.0)


class RingLoops:
    """A model, SGD, and a ring balanced over classes, for one pass over one stream.

    Args:
        datasets: The samples of each task.
        width: Units of each of the two hidden layers.
        lr: Learning rate.
        size: Slots of the ring.
    """

    def __init__(
        self, datasets: list[InMemoryDataset], width: int, lr: float, size: int = 300
    ) -> None:
        self.datasets = datasets
        self.model = make_model(width)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=lr)
        self.cross_entropy = nn.CrossEntropyLoss()
        self.rng = np.random.default_rng(0)
        self.x = torch.zeros(size, *datasets[0].x.shape[1:])
        self.y = torch.zeros(size, dtype=torch.int64)
        self.size = 0
        self.by_class: dict[int, list[int]] = {}
        self.by_task: dict[int, list[int]] = {}
        self.task_of = [0] * size

    def experience_replay(self, batch_size: int = 20) -> None:
        for task, _, _ in self.stored():
            now = self.by_task[task]
            earlier = [*chain(*(slots for t, slots in self.by_task.items() if t != task))]
            n_now = (batch_size + 1) // 2 if earlier else batch_size
            rows = [now[i] for i in self.rng.integers(0, len(now), n_now)]
            if earlier:
                draws = self.rng.integers(0, len(earlier), batch_size - n_now)
                rows += [earlier[i] for i in draws]
            self.step(self.cross_entropy(self.model(self.x[rows]), self.y[rows]))

    def balanced_replay(self, batch_size: int = 20, term: Term | None = None) -> None:
        for task, _, _ in self.stored():
            if task == 0:
                rows = torch.from_numpy(self.rng.integers(0, self.size, size=batch_size))
            else:
                per_class, rest = divmod(batch_size, len(self.by_class))
                one_more = {*self.rng.permutation([*self.by_class])[:rest].tolist()}
                draws = self.rng.random(batch_size).tolist()
                rows = torch.tensor(
                    [
                        slots[int(draws.pop() * len(slots))]
                        for label, slots in self.by_class.items()
                        for _ in range(per_class + (label in one_more))
                    ]
                )
            x, y = self.x[rows], self.y[rows]
            if term is None:
                self.step(self.cross_entropy(self.model(x), y))
            else:
                self.step(self.with_term(x, y, term))

    def averaged_gradient_episodic_memory(
        self, batch_size: int = 20, sample_size: int = 256
    ) -> None:
        parameters = [*self.model.parameters()]
        for task, _, label in self.stored():
            drawn = torch.from_numpy(self.rng.integers(0, self.size, size=batch_size))
            x, y = self.x[drawn], self.y[drawn]
            if task == 0:
                self.step(self.cross_entropy(self.model(x), y))
                continue
            others = [*chain(*(slots for c, slots in self.by_class.items() if c != int(label)))]
            rows = torch.tensor([others[i] for i in self.rng.integers(0, len(others), sample_size)])
            reference = self.cross_entropy(self.model(self.x[rows]), self.y[rows])
            r = torch.cat([g.flatten() for g in torch.autograd.grad(reference, parameters)])
            self.optimizer.zero_grad()
            self.cross_entropy(self.model(x), y).backward()
            g = torch.cat([p.grad.flatten() for p in parameters])
            product = g @ r
            if product < 0:
                g -= product / (r @ r) * r
                pieces = torch.split(g, [p.numel() for p in parameters])
                for p, piece in zip(parameters, pieces, strict=True):
                    p.grad.copy_(piece.view_as(p))
            self.optimizer.step()

    def with_term(self, x: Tensor, y: Tensor, term: Term) -> Tensor:
        layers, h = [], x.flatten(1)
        for module in self.model.hidden:
            h = module(h)
            if isinstance(module, nn.ReLU):
                layers.append(h)
        logits = self.model.classifier(h)
        return self.cross_entropy(logits, y) + term([*layers, logits], y)

    def stored(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield each arriving sample with its task, after storing it in the ring."""
        for task, dataset in enumerate(self.datasets):
            for x, y, _ in TensorLoader(dataset, 1, shuffle=True):
                label = int(y)
                if self.size < len(self.x):
                    slot = self.size
                    self.size += 1
                else:
                    by_class = self.by_class
                    largest = max(by_class, key=lambda c: len(by_class[c]) + (c == label))
                    slot = by_class[largest].pop(0)
                    self.by_task[self.task_of[slot]].remove(slot)
                self.x[slot], self.y[slot], self.task_of[slot] = x[0], label, task
                self.by_class.setdefault(label, []).append(slot)
                self.by_task.setdefault(task, []).append(slot)
                yield task, x, y

    def step(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def evaluate(self, datasets: list[InMemoryDataset]) -> None:
        with torch.inference_mode():
            for dataset in datasets:
                for x, y, _ in TensorLoader(dataset, 512):
                    (self.model(x).argmax(1) == y).sum()
