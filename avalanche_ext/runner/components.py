"""Make the objects of a cell from its plain description."""

from __future__ import annotations

import random
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from avalanche.benchmarks import CLScenario
from torch.nn import CrossEntropyLoss

from avalanche_ext.benchmarks.build import iid_stream
from avalanche_ext.config import Cell, Component
from avalanche_ext.config.catalogue import ANALYSES
from avalanche_ext.data import InMemoryLoaders, Strategy, in_memory
from avalanche_ext.metrics.recorder import NoEvaluation, TransferMatrix
from avalanche_ext.plugins import check_composition
from avalanche_ext.plugins.core.guard import LossGuard
from avalanche_ext.runner.builtins import Given, model_arguments, trained
from avalanche_ext.strategies.repairs import repair


@dataclass(frozen=True)
class Built:
    """The objects of one run."""

    benchmark: CLScenario
    strategy: Strategy
    matrix: TransferMatrix


def build(cell: Cell, data_root: Path | None) -> Built:
    """Make benchmark, model, plugins and strategy, each from the cell's seed.

    Raises:
        Exception: Whatever a component raises when its arguments do not fit.
    """
    return build_on(create(cell.benchmark, seed=cell.seed, data_root=data_root), cell)


def build_on(benchmark: CLScenario, cell: Cell) -> Built:
    """Make the rest of a cell, given its benchmark, which stays as it is.

    The model is made first after seeding, so that all methods start from the same weights.

    Raises:
        Exception: As `build` does.
    """
    seed, training = cell.seed, cell.training
    epochs = training.epochs
    if training.iid:
        # The stream itself makes all the passes.
        benchmark, epochs = iid_stream(benchmark, epochs, derived_seed(seed, "iid")), 1
    _seed_everything(seed)
    input_shape = tuple(benchmark.train_stream[0].dataset.x.shape[1:])
    model = create(cell.model, input_shape=input_shape, n_classes=benchmark.n_classes)
    if training.device != "cpu":
        benchmark = in_memory(benchmark, training.device)
    matrix = TransferMatrix()
    plugins = [
        matrix,
        InMemoryLoaders(derived_seed(seed, "loaders")),
        *(_seeded(each, seed, _purpose(each, i)) for i, each in enumerate(cell.method.plugins)),
        LossGuard(),
    ]
    check_composition(plugins)
    template = {
        "train_mb_size": training.batch_size,
        "train_epochs": epochs,
        "eval_mb_size": training.eval_batch_size,
        "device": training.device,
    }
    arguments = model_arguments(
        cell.method.strategy.target,
        Given(
            model=model,
            criterion=CrossEntropyLoss(),
            args=cell.method.strategy.args,
            template=template,
            input_shape=input_shape,
            n_classes=benchmark.n_classes,
        ),
    )
    strategy = _seeded(
        cell.method.strategy,
        seed,
        "strategy",
        **arguments,
        **template,
        optimizer=create(cell.optimizer, params=trained(arguments)),
        plugins=plugins,
        evaluator=NoEvaluation(),
    )
    repair(strategy)
    return Built(benchmark, strategy, matrix)


def create(component: Component, **injected: Any) -> Any:
    """Call a component's target with its own arguments and what the runner adds."""
    return _locate(component.target)(**component.args, **injected)


def derived_seed(seed: int, purpose: str) -> int:
    """Return a seed for one purpose within the run, independent of the other purposes' seeds."""
    sequence = np.random.SeedSequence([seed, crc32(purpose.encode())])
    return int(sequence.generate_state(1)[0])


def _purpose(plugin: Component, index: int) -> str:
    """What a plugin's seed is derived from: its place in the list, or the name of an analysis.

    So an analysis draws the same samples whatever other plugins a method has.
    """
    return plugin.name if plugin.name in ANALYSES else f"plugins[{index}]"


def _seeded(component: Component, seed: int, purpose: str, **injected: Any) -> Any:
    if "seed" in signature(_locate(component.target)).parameters:
        injected["seed"] = derived_seed(seed, purpose)
    return create(component, **injected)


def _locate(target: str) -> Any:
    module, name = target.split(":")
    return getattr(import_module(module), name)


def _seed_everything(seed: int) -> None:
    """Seed the global generators, from which models and Avalanche's own plugins draw."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
