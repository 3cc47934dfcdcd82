"""Cells that are ended in the middle and run again, and what is left of their runs to compare."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avalanche_ext.config import Cell
from avalanche_ext.runner.cell import run_cell
from avalanche_ext.runner.checkpoint import Checkpoints
from tests.runner.cases import cell

REPLAY = {"balanced_replay": {"mem_size": 20}}

OURS: dict[str, dict[str, Any]] = {
    "online_replay": {"plugins": [{"online_replay": {"mem_size": 20}}]},
    "ring": {"plugins": [{"online_replay": {"mem_size": 20, "buffer": "ring", "loss": "sum"}}]},
    "gmed": {
        "plugins": [{"gmed": {"mem_size": 20, "batch_size": 5, "keep_originals": True}}],
    },
    "mir": {"plugins": [{"mir": {"mem_size": 20, "batch_size": 5, "n_candidates": 8}}]},
    "hal": {"plugins": [{"hal": {"mem_size": 20, "hindsight_steps": 3, "anchor_steps": 3}}]},
    "gss": {"plugins": [{"gss": {"mem_size": 20}}]},
    "agem": {"plugins": [{"agem": {"mem_size": 20}}]},
    "bgd": {"plugins": ["bgd"]},
    "si": {"plugins": ["synaptic_intelligence"]},
    "fisher_spectrum": {"plugins": [{"fisher_spectrum_ewc": {}}]},
    "combined": {
        "plugins": [
            REPLAY,
            "drl",
            "r_margin",
            "multi_similarity",
            "online_ewc",
            "mas",
            {"kronecker_ewc": {"interval": 4}},
            {"mgem": {"size_per_task": 10, "statistics": True}},
            {"ogd": {"n_samples": 10}},
            "rho_spectrum",
            "gradient_diversity",
        ]
    },
}
"""Methods of ours that have every plugin of ours between them."""

AVALANCHES: dict[str, dict[str, Any]] = {
    "Naive": {"strategy": "avalanche:Naive"},
    "Replay": {"strategy": "avalanche:Replay", "args": {"mem_size": 20}},
    "GEM": {"strategy": "avalanche:GEM", "args": {"patterns_per_exp": 10}},
    "EWC": {"strategy": "avalanche:EWC", "args": {"ewc_lambda": 0.4}},
    "LwF": {"strategy": "avalanche:LwF", "args": {"alpha": 1.0, "temperature": 2.0}},
    "DER": {"strategy": "avalanche:DER", "args": {"mem_size": 20}},
    "MAS": {"strategy": "avalanche:MAS"},
    "CWRStar": {"strategy": "avalanche:CWRStar", "args": {"cwr_layer_name": "classifier"}},
}

DIGITS = {"name": "split_digits", "n_experiences": 2, "train_size": 60}

RECIPES: dict[str, dict[str, Any]] = {
    "adam with a schedule": {
        "optimizer": {"name": "Adam", "lr": 0.01},
        "training": {"scheduler": {"name": "CosineAnnealingLR", "T_max": 50, "by": "iteration"}},
    },
    "iterations, repeated": {"training": {"iterations": 41, "repeats": 3}},
    "iid": {"training": {"iid": True}},
    "evaluated inside": {"evaluate": {"every": 4, "test_size": 30}},
    "heads": {
        "model": {"name": "mlp", "hidden_sizes": [16], "multi_head": True},
        "benchmark": {**DIGITS, "scenario": "task"},
    },
    "supermasks": {
        "model": {"name": "supsup", "hidden_sizes": [16], "task": "binary"},
        "benchmark": {**DIGITS, "scenario": "task"},
        "optimizer": {"name": "Adam", "lr": 0.01},
    },
    "random transforms": {
        "benchmark": {
            **DIGITS,
            "train_transforms": [
                "torchvision:RandomHorizontalFlip",
                {"name": "torchvision:RandomCrop", "size": 8, "padding": 2},
            ],
        }
    },
    "online stream": {
        "benchmark": {"name": "split", "dataset": "digits", "n_experiences": 2, "online": 50}
    },
}


class Ended(BaseException):
    """Ends a run where a checkpoint has just been written."""


def small(folder: Path, method: dict[str, Any], minutes: float = 10, **changed: Any) -> Cell:
    """Return a cell of one method on a few digits."""
    training = {"batch_size": 5, "epochs": 2, "checkpoint_minutes": minutes}
    training |= changed.pop("training", {})
    if "iterations" in training:
        del training["epochs"]
    return cell(folder, "method", methods={"method": method}, training=training, **changed)


def run(one: Cell, out: Path) -> None:
    """Run a cell to its end."""
    assert run_cell(one, out, None) == "completed", one.files(out).failure()


def run_until(
    one: Cell, out: Path, monkeypatch: Any, n_experiences: int = 0, n_batches: int = 0
) -> bool:
    """Run a cell until a checkpoint after so many experiences, or before so many batches.

    Returns:
        Whether it was ended there.
    """
    experiences, batches = iter(range(1, 10_000)), iter(range(1, 10_000))
    save = Checkpoints.save

    def after_experience(self: Checkpoints, progress: Any) -> None:
        save(self, progress)
        if next(experiences) == n_experiences:
            raise Ended

    def before_batch(self: Checkpoints) -> None:
        if next(batches) == n_batches:
            save(self, self._position(self._part))
            raise Ended

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", after_experience)
        if n_batches:
            patch.setattr(Checkpoints, "_between_batches", before_batch)
        try:
            run(one, out)
        except Ended:
            return True
    return False


def left_by(one: Cell, out: Path) -> dict[str, Any]:
    """Return what a finished cell has left, without times and the process's peak of memory."""
    folder = one.directory(out)
    result = json.loads((folder / "result.json").read_text("utf-8"))
    del result["seconds"], result["memory"]["peak"]
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    for event in events:
        event.pop("time")
        event.pop("seconds", None)
    exhibits = {
        path.name: {name: array.tobytes() for name, array in np.load(path).items()}
        for path in sorted(folder.glob("*.npz"))
    }
    return {"result": result, "events": events, "exhibits": exhibits}


RUN = """
import os, signal, sys, warnings
from pathlib import Path
from avalanche_ext.config import load_experiment
from avalanche_ext.runner.cell import run_cell
from avalanche_ext.runner.checkpoint import Checkpoints
warnings.simplefilter("ignore")
(cell,) = load_experiment(Path(sys.argv[1])).cells()
last = [int(n) for n in sys.argv[3:]]
save = Checkpoints.save

def then_kill(self, position):
    save(self, position)
    if [position.n_done, position.part] == last:
        self._finish()
        os.kill(os.getpid(), signal.SIGKILL)

if last:
    Checkpoints.save = then_kill
print("begins", flush=True)
print(run_cell(cell, Path(sys.argv[2]), None))
"""


def begun(yaml_file: Path, out: Path, last: tuple[int, ...] = ()) -> subprocess.Popen[str]:
    """Start a run of a cell in another process.

    Args:
        yaml_file: The experiment of one cell.
        out: Folder of all results.
        last: The finished experiences, and the part of the next, at whose first checkpoint the
            process kills itself. A kill from outside may come after the run has ended.
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-c", RUN, str(yaml_file), str(out), *map(str, last)]
    process = subprocess.Popen(command, text=True, **pipes)
    assert process.stdout.readline() == "begins\n"
    return process


def wait_for(seen: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until a condition holds, while a process runs."""
    for _ in range(15_000):  # Of 20 ms: a loaded machine takes minutes to import torch twice.
        if seen():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError("it never came")


def progress(one: Cell, out: Path) -> dict[str, Any]:
    """Where the checkpoint of a cell was taken, if there is one."""
    path = one.files(out).checkpoint
    return torch.load(path, weights_only=True)["progress"] if path.exists() else {"n_done": 0}
