"""How much memory a run takes, and how much its method keeps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from avalanche_ext.plugins import MethodPlugin
from avalanche_ext.runner import memory
from avalanche_ext.runner.cell import run_cell
from avalanche_ext.state import encoded, restored
from tests.cases import make_naive
from tests.runner.cases import cell

CPU = torch.device("cpu")
SAMPLE = 64 * 4
"""Bytes of an 8 x 8 image in float32."""


def memory_of(folder: Path, **method: Any) -> dict[str, int]:
    folder.mkdir(exist_ok=True)
    one = cell(folder, "it", methods={"it": method})
    assert run_cell(one, folder, None) == "completed"
    return json.loads((one.directory(folder) / "result.json").read_text("utf-8"))["memory"]


def test_results_hold_the_memory_of_the_process_and_what_the_method_keeps(tmp_path: Path) -> None:
    naive = memory_of(tmp_path / "naive")
    assert naive["kept"] == 0
    # Nothing larger has come since: it is the highest that this process has had.
    assert naive["peak"] == pytest.approx(memory.peak(CPU), rel=0.05)
    replay = memory_of(tmp_path / "ber", plugins=[{"balanced_replay": {"mem_size": 20}}])
    # Twenty images, their labels and task labels, and the states of two generators.
    assert 20 * SAMPLE < replay["kept"] < 20 * (SAMPLE + 16) + 2 * 5056
    # A memory that two plugins share counts once.
    both = [{"balanced_replay": {"mem_size": 20}}, {"drl": {"lam": 0.1}}]
    assert memory_of(tmp_path / "drl", plugins=both)["kept"] < 1.5 * replay["kept"]


class Keeping(MethodPlugin):
    """Keeps a tensor."""

    def __init__(self, tensor: torch.Tensor) -> None:
        super().__init__()
        self.tensor = tensor


def test_what_plugins_share_counts_once_as_after_a_resume() -> None:
    large = torch.zeros(1000)
    part = large[10:30]
    plugins = [Keeping(each) for each in (part, part, part[5:], large[500:510])]
    package = __name__.partition(".")[0]
    resumed = restored(encoded(plugins, packages=[package]), packages=[package])
    for each in (plugins, resumed):
        assert memory.kept(make_naive(*each)) == 4 * (20 + 10)


@pytest.mark.parametrize(
    "method",
    [
        {"strategy": "avalanche:Replay", "args": {"mem_size": 20}},
        {"strategy": "avalanche:Cumulative"},
        {"plugins": [{"avalanche:LwFPlugin": {}}]},
        {"plugins": [{"./mine.py:Mine": {}}]},
    ],
)
def test_what_others_keep_is_not_known(method: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from avalanche.core import SupervisedPlugin\n\n\nclass Mine(SupervisedPlugin):\n    pass\n"
    )
    assert "kept" not in memory_of(tmp_path, **method)


# In a process of its own, as runs are: the tests before it may have left anything in theirs.
PEAKS = """
import numpy as np, torch
from avalanche_ext.runner import memory

cpu = torch.device("cpu")
large = np.ones(30_000_000)
print(memory.peak(cpu))
del large
memory.begin_peak(cpu)
print(memory.peak(cpu))
large = np.ones(30_000_000)
print(memory.peak(cpu))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux counts anew")
def test_the_peak_is_that_of_the_run_and_not_of_earlier_ones() -> None:
    output = subprocess.run(
        [sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True
    ).stdout
    earlier, without_it, with_it = map(int, output.split())
    assert without_it < earlier - 200e6
    assert with_it == pytest.approx(without_it + 240e6, rel=0.2)
