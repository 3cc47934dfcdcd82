"""The validated experiment and its cells: frozen plain data that can be pickled."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from avalanche_ext.config.sections import Published, Training, Wandb
from avalanche_ext.results.record import Claim, ExperimentRecord, Sweep
from avalanche_ext.results.store import CellFiles


@dataclass(frozen=True)
class Component:
    """A class or function and the keyword arguments it is called with.

    Attributes:
        name: What the YAML calls it.
        target: Where it is, `package.module:Name`.
        args: What the YAML gave; for components of this package, also the defaults.
    """

    name: str
    target: str
    args: dict[str, Any]


@dataclass(frozen=True)
class Method:
    """A strategy with its plugins, and what it trains with."""

    strategy: Component
    plugins: tuple[Component, ...]
    optimizer: Component
    training: Training


@dataclass(frozen=True)
class Cell:
    """One method with one seed: the unit that is run, stored and skipped when it is done."""

    experiment: str
    method_name: str
    method: Method
    seed: int
    benchmark: Component
    model: Component
    wandb: Wandb

    @property
    def optimizer(self) -> Component:
        """The method's optimizer."""
        return self.method.optimizer

    @property
    def training(self) -> Training:
        """The method's training section."""
        return self.method.training

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits that change with whatever decides the numbers.

        Names of experiments and methods, wandb's settings, the index of a device and the batch
        size of evaluation decide none. Components count by the names that the YAML uses, so that
        moving code changes no hash; keys of `training` count only where they differ from their
        defaults, so that a new key changes none.
        """
        training = self.training.model_dump(exclude={"eval_batch_size"}, exclude_defaults=True)
        if "device" in training:
            training["device"] = self.training.device.partition(":")[0]
        components = (
            self.benchmark,
            self.model,
            self.optimizer,
            self.method.strategy,
            *self.method.plugins,
        )
        decisive = {
            "seed": self.seed,
            "training": training,
            "components": [[component.name, component.args] for component in components],
        }
        canonical = json.dumps(decisive, sort_keys=True, allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def resolved(self) -> dict[str, Any]:
        """Return everything about this cell as plain data, for `config.yaml` and wandb."""
        return {
            "experiment": self.experiment,
            "method": self.method_name,
            "seed": self.seed,
            "hash": self.hash,
            "benchmark": asdict(self.benchmark),
            "model": asdict(self.model),
            "optimizer": asdict(self.optimizer),
            "training": self.training.model_dump(),
            "strategy": asdict(self.method.strategy),
            "plugins": [asdict(plugin) for plugin in self.method.plugins],
            "wandb": self.wandb.model_dump(),
        }

    def directory(self, out: Path) -> Path:
        """Return the folder of this cell's files below `out`."""
        return self.files(out).folder

    def files(self, out: Path) -> CellFiles:
        """Return this cell's files below `out`."""
        return CellFiles(out, self.resolved())


@dataclass(frozen=True)
class Experiment:
    """A validated YAML: methods and seeds to be compared on one benchmark.

    Attributes:
        name: The folder of its results.
        benchmark: What is learned.
        model: What learns; a fresh one for each cell.
        optimizer: What every method steps with unless it says otherwise.
        training: How every method trains unless it says otherwise.
        seeds: One cell per method and seed.
        methods: By name, in the YAML's order; a swept one by the names of its settings.
        sweeps: By the name of the swept method, which is none of `methods`.
        baseline: The method that the others are tested against; None for no tests.
        claims: What the report tests one-sidedly, in the YAML's order.
        wandb: Where runs are logged.
        published: A paper's numbers for some of the methods, if the YAML gives any.
    """

    name: str
    benchmark: Component
    model: Component
    optimizer: Component
    training: Training
    seeds: tuple[int, ...]
    methods: dict[str, Method]
    sweeps: dict[str, Sweep]
    baseline: str | None
    claims: tuple[Claim, ...]
    wandb: Wandb
    published: Published | None

    def cells(self) -> list[Cell]:
        """Return all cells, seed by seed, so that every method has its first seed early."""
        return [
            Cell(
                experiment=self.name,
                method_name=name,
                method=method,
                seed=seed,
                benchmark=self.benchmark,
                model=self.model,
                wandb=self.wandb,
            )
            for seed in self.seeds
            for name, method in self.methods.items()
        ]

    def summary(self) -> dict[str, Any]:
        """Return what the report needs beside the results, as plain data, for `experiment.yaml`."""
        hashes: dict[str, dict[int, str]] = {name: {} for name in self.methods}
        for cell in self.cells():
            hashes[cell.method_name][cell.seed] = cell.hash
        record = ExperimentRecord(
            name=self.name,
            baseline=self.baseline,
            claims=[*self.claims],
            methods=[*self.methods],
            sweeps=self.sweeps,
            seeds=[*self.seeds],
            hashes=hashes,
            published=(
                self.published.model_dump(exclude_defaults=True) if self.published else None
            ),
        )
        return asdict(record)
