"""The same cell on the same machine gives the same numbers, bit for bit, in any process."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avalanche_ext.config import Cell
from tests.runner.resuming import AVALANCHES, run, small

METHODS: dict[str, dict[str, Any]] = {
    "mgem": {"plugins": [{"mgem": {"size_per_task": 20, "partition": "layer", "n_groups": 2}}]},
    "GEM": AVALANCHES["GEM"],
}
CHANGED = {
    "benchmark": {"name": "split_digits", "n_experiences": 5, "train_size": 60},
    "training": {"epochs": 1},
    "optimizer": {"name": "SGD", "lr": 0.1},
}


def weights(one: Cell, out: Path) -> str:
    """The hash of the weights that a cell has trained."""
    result = json.loads((one.directory(out) / "result.json").read_text("utf-8"))
    return str(result["weights"])


def litter(seed: int) -> list[object]:
    """Allocate memory, so that later allocations have other addresses and alignments."""
    drawn = random.Random(seed)
    taken: list[object] = []
    for _ in range(200):
        size = drawn.randrange(1, 5000)
        taken += [bytearray(size), torch.empty(size), np.empty(size)]
    del taken[::2]
    return taken


@pytest.mark.parametrize("name", METHODS)
def test_where_memory_lies_changes_no_bit_of_gem(tmp_path, name):
    one = small(tmp_path, METHODS[name], **CHANGED)
    run(one, tmp_path / "first")
    kept = [litter(seed) for seed in range(3)]
    run(one, tmp_path / "second")
    assert weights(one, tmp_path / "first") == weights(one, tmp_path / "second")
    assert len(kept) == 3


RUN = """
import sys, warnings
from pathlib import Path
from avalanche_ext.config import load_experiment
from tests.runner.resuming import run
from tests.runner.test_reproducible import litter, weights
warnings.simplefilter("ignore")
kept = litter(int(sys.argv[3]))
(cell,) = load_experiment(Path(sys.argv[1])).cells()
run(cell, Path(sys.argv[2]))
print(weights(cell, Path(sys.argv[2])))
"""


@pytest.mark.cluster
@pytest.mark.parametrize("name", METHODS)
def test_processes_of_other_environments_give_the_same_bits(tmp_path, name):
    small(tmp_path, METHODS[name], **CHANGED)
    found = set()
    for seed in range(6):
        changes = {"PYTHONHASHSEED": str(seed), "PADDING": "x" * 777 * seed}
        words = [sys.executable, "-c", RUN, tmp_path / "small.yaml", tmp_path / str(seed), seed]
        done = subprocess.run(
            [*map(str, words)],
            env={**os.environ, **changes},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1
