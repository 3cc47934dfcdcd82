"""State of the user's own code: in modules, classes, functions, optimizers and data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from avalanche_ext.config import Cell
from tests.runner.resuming import left_by, run, run_until, small

MINE = """
import random
from functools import partial

import numpy as np
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils import AvalancheDataset, as_classification_dataset
from avalanche.core import SupervisedPlugin
from sklearn.datasets import load_digits
from torch.utils.data import Dataset

OF_NUMPY, OLD, OF_PYTHON = np.random.default_rng(0), np.random.RandomState(0), random.Random(0)
COUNTS, N = {}, 0
CONSTANTS = {"lock": iter([]), "same": partial(map, abs)}  # Cannot be stored, and need not be.


class Scaled(SupervisedPlugin):
    def before_backward(self, strategy, **kwargs):
        strategy.loss = strategy.loss * (1 + self.factor())


class Generators(Scaled):
    def factor(self):
        return OF_NUMPY.random() + OLD.rand() + OF_PYTHON.random()


class Globals(Scaled):
    def factor(self):
        global N
        N += 1
        COUNTS["n"] = COUNTS.get("n", 0) + 1
        return (N + COUNTS["n"]) / 100


class OfTheClass(Scaled):
    seen = []

    def factor(self):
        self.seen.append(1)
        return len(self.seen) / 100


class Closure(Scaled):
    def __init__(self):
        super().__init__()
        seen = []
        self.note, self.seen = lambda: seen.append(1), seen

    def factor(self):
        self.note()
        return len(self.seen) / 100


class View(Scaled):
    def __init__(self):
        super().__init__()
        self.sums = np.zeros(4)
        self.first, self.all = self.sums[:2], torch.from_numpy(self.sums)

    def factor(self):
        self.first += 0.001
        return float(self.all.sum())


class Slowing(torch.optim.SGD):
    def __init__(self, params, lr=0.1):
        super().__init__(params, lr=lr)
        self.n = 0

    def step(self, closure=None):
        self.n += 1
        for group in self.param_groups:
            group["lr"] = 0.1 / (1 + self.n / 10)
        return super().step(closure)


class Noise:
    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, x):
        return x + 0.1 * torch.randn(x.shape, generator=self.generator)


class Noisy(Dataset):
    def __init__(self, rows, generator):
        digits = load_digits()
        self.x = torch.tensor(digits.images[rows], dtype=torch.float32)[:, None] / 16
        self.targets = digits.target[rows].tolist()
        self.generator, self.transform = generator, Noise(0)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.transform(self.x[i]) * self.generator.random(), self.targets[i]


def noisy():
    shared = np.random.default_rng(0)
    parts = [slice(0, 40), slice(40, 80)]
    train, test = (
        [AvalancheDataset([as_classification_dataset(Noisy(rows, shared))]) for rows in parts]
        for _ in range(2)
    )
    return benchmark_from_datasets(train=train, test=test)
"""


def cell_with(folder: Path, plugin: str | None = None, **changed: Any) -> Cell:
    folder.mkdir(exist_ok=True)
    (folder / "mine.py").write_text(MINE, "utf-8")
    return small(folder, {"plugins": [f"./mine.py:{plugin}"]} if plugin else {}, **changed)


CASES: dict[str, dict[str, Any]] = {
    **{
        name: {"plugin": name}
        for name in ("Generators", "Globals", "OfTheClass", "Closure", "View")
    },
    "Slowing": {"optimizer": {"name": "./mine.py:Slowing", "lr": 0.1}},
    "noisy": {"benchmark": {"name": "./mine.py:noisy"}},
}


@pytest.mark.parametrize("name", CASES)
def test_a_run_that_goes_on_equals_one_that_was_not_interrupted(
    tmp_path: Path, monkeypatch: Any, name: str
) -> None:
    one = cell_with(tmp_path, **CASES[name])
    run(one, tmp_path / "whole")
    assert run_until(one, tmp_path / "cut", monkeypatch, n_experiences=1)
    run(one, tmp_path / "cut")
    assert left_by(one, tmp_path / "cut") == left_by(one, tmp_path / "whole")


@pytest.mark.parametrize("name", ["Generators", "Globals", "OfTheClass"])
def test_a_run_begins_with_nothing_of_the_runs_before_it(tmp_path: Path, name: str) -> None:
    one = cell_with(tmp_path, **CASES[name])
    for out in ("first", "second"):
        run(one, tmp_path / out)
    assert left_by(one, tmp_path / "second") == left_by(one, tmp_path / "first")
