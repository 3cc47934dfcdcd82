"""What one cell trains, against a strategy that is set up by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from avalanche_ext.runner.cell import run_cell
from avalanche_ext.runner.components import build
from tests.runner.cases import cell


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_cell_trains_as_its_strategy_does_in_the_order_asked_for(
    shuffle: bool, tmp_path: Path
) -> None:
    one = cell(tmp_path, "ber", training={"batch_size": 5, "shuffle": shuffle})
    assert run_cell(one, tmp_path / "out", None) == "completed"
    result = json.loads((one.directory(tmp_path / "out") / "result.json").read_text("utf-8"))
    accuracies = {}
    for order in (True, False):
        built = build(one, None)
        for experience in built.benchmark.train_stream:
            built.strategy.train(experience, eval_streams=[], shuffle=order)
            built.strategy.eval(built.benchmark.test_stream)
        accuracies[order] = built.matrix.R
    assert not torch.equal(*map(torch.tensor, accuracies.values()))
    assert result["R"] == accuracies[shuffle].tolist()
