"""What becomes of the user's files that change while a grid runs."""

from __future__ import annotations

import json
from pathlib import Path

from avalanche_ext.runner import run_experiment
from tests.runner.cases import experiment

MINE = """
from pathlib import Path

from avalanche.core import SupervisedPlugin
from helper import Base

HERE = Path(__file__)


class Mine(Base, SupervisedPlugin):
    def __init__(self, **kwargs):
        super().__init__()
        self.factor = float(HERE.with_name("factor.txt").read_text())
        self.kwargs = kwargs

    def before_backward(self, strategy, **kwargs):
        from late import scaled

        strategy.loss = scaled(strategy.loss, self.factor)

    def after_training_exp(self, strategy, **kwargs):
        for name in ("mine", "helper", "late"):
            HERE.with_name(f"{name}.py").write_text("raise ValueError('unfinished')")
        HERE.with_name("helper.py").unlink()
"""


def test_cells_that_begin_later_run_what_the_files_were(tmp_path: Path) -> None:
    """They are found at their place, with the files next to them."""
    late = "def scaled(x, factor):\n    return factor * x\n"
    texts = {"mine.py": MINE, "helper.py": "class Base:\n    pass\n", "late.py": late}
    for name, text in {**texts, "factor.txt": "2"}.items():
        (tmp_path / name).write_text(text, "utf-8")
    methods = {"mine": {"plugins": ["./mine.py:Mine"]}}
    grid = experiment(tmp_path, methods=methods, seeds=3)
    cells = grid.cells()
    outcome = run_experiment(grid, tmp_path / "out", jobs=1)
    assert (outcome.n_completed, outcome.n_failed) == (3, 0)
    for cell in cells:
        folder = cell.directory(tmp_path / "out")
        assert json.loads((folder / "result.json").read_text("utf-8"))["hash"] == cell.hash
        copies = {path.name: path.read_text("utf-8") for path in folder.glob("source/*/*.py")}
        assert copies == texts
