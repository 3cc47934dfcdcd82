"""GEM's step recomputed from the memory and the model, to compare with a plugin's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from avalanche.core import SupervisedPlugin
from avalanche.models import avalanche_forward
from torch import Tensor, nn

from avalanche_ext.plugins import MGEMPlugin
from tests.cases import digits, make_naive, train
from tests.oracles import Array, diagonal_projection_by_loops, gem_projection_by_nnls

Blocks = Callable[[list[str]], list[list[str]]]

SMALL: dict[str, Any] = {"n_experiences": 3, "train_size": 60}


def one_block(names: list[str]) -> list[list[str]]:
    return [names]


def by_layer(names: list[str]) -> list[list[str]]:
    owners = dict.fromkeys(name.rpartition(".")[0] for name in names)
    return [[name for name in names if name.rpartition(".")[0] == owner] for owner in owners]


def by_tensor(names: list[str]) -> list[list[str]]:
    return [[name] for name in names]


class Expected(SupervisedPlugin):
    """Compares every gradient before the step with the projection of its own gradient.

    List it after the plugin. `penalty` is what else the strategy adds to the loss.
    """

    def __init__(
        self,
        plugin: MGEMPlugin,
        strength: float,
        blocks: Blocks = one_block,
        n_groups: int = 1,
        diagonal: bool = False,
        penalty: Callable[[nn.Module], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.plugin, self.strength, self.blocks = plugin, strength, blocks
        self.n_groups, self.diagonal, self.penalty = n_groups, diagonal, penalty
        self.n_projected = self.n_free = 0
        self.most_constraints = 0

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        model = deepcopy(strategy.model)
        x, y, t = strategy.mbatch
        penalty = self.penalty(model) if self.penalty else 0.0
        gradient = gradients(
            model, strategy._criterion(avalanche_forward(model, x, t), y) + penalty
        )
        references = [
            gradients(model, strategy._criterion(avalanche_forward(model, x, t), y))
            for x, y, t in self.constraints()
        ]
        self.most_constraints = max(self.most_constraints, len(references))
        actual = {
            name: torch.zeros_like(p) if p.grad is None else p.grad
            for name, p in strategy.model.named_parameters()
        }
        changed = False
        for block in self.blocks([*actual]):
            g = joined(gradient, block)
            z = g
            if references:
                G = np.stack([joined(reference, block) for reference in references])
                z = self.projected(g, G)
            changed |= not np.array_equal(z, g)
            error = np.linalg.norm(joined(actual, block) - z)
            assert error <= 1e-4 * max(np.linalg.norm(z), np.linalg.norm(g)), (block, error)
        self.n_projected += changed
        self.n_free += not changed

    def constraints(self) -> list[Sequence[Tensor]]:
        """Samples of each constraint: each earlier task's, every n_groups-th of them."""
        buffer, batches = self.plugin.buffer, []
        for task, slots in buffer.groups("task").items():
            if task != self.plugin._origin:
                for first in range(self.n_groups):
                    batches.append(buffer.fetch(np.array(slots[first :: self.n_groups])))
        return batches

    def projected(self, g: Array, G: Array) -> Array:
        if self.diagonal:
            return np.array(diagonal_projection_by_loops(g.tolist(), G.tolist(), self.strength))
        return gem_projection_by_nnls(g, G, self.strength)


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """Gradients by name, zeros where the loss does not reach."""
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in model.named_parameters()
    }


def joined(gradient: dict[str, Tensor], block: list[str]) -> Array:
    """The gradients of some parameters as one vector in double precision."""
    return np.concatenate([gradient[name].double().flatten().numpy() for name in block])


def check(
    plugin: MGEMPlugin,
    expected: Expected,
    model: nn.Module | None = None,
    benchmark: Any = None,
    before: Sequence[Any] = (),
    after: Sequence[Any] = (),
) -> Any:
    """Train with the plugin, each gradient compared; both outcomes must have been seen."""
    strategy = make_naive(*before, plugin, *after, expected, batch_size=10, model=model)
    train(strategy, benchmark or digits("permuted", **SMALL))
    assert expected.n_projected >= 2
    assert expected.n_free >= 2
    return strategy
