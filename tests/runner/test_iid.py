"""A cell whose training samples come independently of their tasks."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from avalanche_ext.config import Cell
from avalanche_ext.runner.cell import run_cell
from avalanche_ext.runner.components import Built, build
from tests.cases import Spy, weights
from tests.runner.cases import cell

DIGITS = {"name": "split_digits", "n_experiences": 5}
METHODS = {
    "in_sequence": {},
    "iid": {"training": {"iid": True}},
    "three_epochs": {"training": {"iid": True, "epochs": 3}},
    "as_drawn": {"training": {"iid": True, "shuffle": False}},
}


def mixed(folder: Path, method: str, seed: int = 0, **changed: Any) -> Cell:
    return cell(folder, method, seed, **{"methods": METHODS, "benchmark": DIGITS, **changed})


def trained(one: Cell) -> tuple[Built, Tensor]:
    """Train as the runner does; also return the samples, in the order they were trained on."""
    made = build(one, data_root=None)
    spy = Spy()
    made.strategy.plugins.append(spy)
    for experience in made.benchmark.train_stream:
        made.strategy.train(experience, eval_streams=[], shuffle=one.training.shuffle)
    return made, torch.cat([x.flatten(1) for x, *_ in spy.mbatches])


def counted(samples: Tensor) -> Counter[tuple[float, ...]]:
    return Counter(tuple(row) for row in samples.tolist())


def test_each_sample_is_trained_on_once_an_epoch(tmp_path: Path) -> None:
    _, in_sequence = trained(mixed(tmp_path, "in_sequence"))
    _, once = trained(mixed(tmp_path, "iid"))
    _, thrice = trained(mixed(tmp_path, "three_epochs"))
    expected = counted(in_sequence)
    assert counted(once) == expected
    assert counted(thrice) == {row: 3 * n for row, n in expected.items()}


def test_without_shuffling_the_order_is_that_of_the_stream(tmp_path: Path) -> None:
    made, samples = trained(mixed(tmp_path, "as_drawn"))
    stream = [e.dataset.x.flatten(1) for e in made.benchmark.train_stream]
    assert torch.equal(samples, torch.cat(stream))


def test_the_run_decides_the_order(tmp_path: Path) -> None:
    first, again, other = (trained(mixed(tmp_path, "iid", seed)) for seed in (0, 0, 1))
    assert torch.equal(first[1], again[1])
    assert torch.equal(weights(first[0].strategy), weights(again[0].strategy))
    assert not torch.equal(first[1], other[1])
    assert counted(first[1]) == counted(other[1])


def test_it_starts_from_the_same_weights_and_is_tested_on_the_same_samples(tmp_path: Path) -> None:
    ours, theirs = (build(mixed(tmp_path, m), data_root=None) for m in ("iid", "in_sequence"))
    assert torch.equal(weights(ours.strategy), weights(theirs.strategy))
    for a, b in zip(ours.benchmark.test_stream, theirs.benchmark.test_stream, strict=True):
        assert torch.equal(a.dataset.x, b.dataset.x)
        assert torch.equal(a.dataset.y, b.dataset.y)


@pytest.mark.parametrize(("kind", "margin"), [("split_digits", 0.5), ("permuted_digits", 0.2)])
def test_it_learns_all_tasks_where_training_in_sequence_forgets(
    kind: str, margin: float, tmp_path: Path
) -> None:
    results = {}
    for method in ("in_sequence", "iid"):
        one = mixed(tmp_path, method, benchmark={"name": kind, "n_experiences": 5})
        assert run_cell(one, tmp_path / "out", None) == "completed"
        text = (one.directory(tmp_path / "out") / "result.json").read_text("utf-8")
        results[method] = json.loads(text)
    assert [results[method]["iid"] for method in ("in_sequence", "iid")] == [False, True]
    for result in results.values():
        assert [len(row) for row in result["R"]] == [5] * 5
    assert results["iid"]["untrained"] == results["in_sequence"]["untrained"]
    last = {method: result["R"][-1] for method, result in results.items()}
    assert min(last["iid"]) > 0.6
    assert sum(last["iid"]) / 5 > sum(last["in_sequence"]) / 5 + margin
