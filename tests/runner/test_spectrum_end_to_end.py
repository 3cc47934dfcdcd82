"""From a YAML with an analysis of spectra to the report's tables and picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from avalanche_ext.report import write_report
from avalanche_ext.runner.cell import run_cell
from avalanche_ext.runner.grid import run_experiment
from tests.runner.cases import cell, experiment
from tests.tracking.wandb_files import read_stored_run

ANALYSES = {"spectrum_analysis": {"rank": 6, "n_samples": 30}}


def events_of(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "events.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def spectra_in(row: dict[str, Any]) -> dict[str, float]:
    return {name: x for name, x in row.items() if name.startswith("spectrum/")}


def test_the_analysis_gives_every_method_spectra_and_the_same_results(
    tmp_path: Path,
) -> None:
    plain = experiment(tmp_path)
    analysed = experiment(tmp_path, analyses=ANALYSES)
    assert {each.hash for each in plain.cells()}.isdisjoint(each.hash for each in analysed.cells())
    results = {}
    for name, each in (("plain", plain), ("analysed", analysed)):
        outcome = run_experiment(each, tmp_path / name, jobs=1)
        assert outcome.n_completed == 4
        folder = outcome.directory
        results[name] = {
            path.parent.relative_to(folder): json.loads(path.read_text("utf-8"))["R"]
            for path in folder.glob("*/seed-*/result.json")
        }
    assert len(results["plain"]) == 4
    assert results["plain"] == results["analysed"]
    for run in results["analysed"]:
        with np.load(folder / run / "spectrum.npz") as file:
            spectrum = dict(file)
        assert spectrum["eigenvalues"].shape == (2, 6)
        assert spectrum["layer"].tolist() == ["hidden.0", "classifier"]
        last = spectra_in(events_of(folder / run)[-2])
        numbers = dict(zip(spectrum["name"].tolist(), spectrum["numbers"][-1], strict=True))
        assert last["spectrum/effective_rank"] == numbers["effective_rank"]
        assert last["spectrum/lambda_1"] == spectrum["eigenvalues"][-1, 0]
    text = write_report(folder)
    assert "spectrum.png are in" in text
    assert "Fisher spectrum after the first and the last experience" in text
    with Image.open(folder / "spectrum.png") as picture:
        assert len(picture.convert("RGB").getcolors(maxcolors=2**24)) > 10
    write_report(tmp_path / "plain" / "small")
    assert "spectrum" not in (tmp_path / "plain" / "small" / "report.txt").read_text("utf-8")


def test_numbers_reach_wandb(tmp_path: Path) -> None:
    one = cell(tmp_path, analyses=ANALYSES, wandb={"mode": "offline"})
    assert run_cell(one, tmp_path, None) == "completed"
    folder = one.directory(tmp_path)
    (stored,) = (folder / "wandb").glob("offline-run-*")
    told = [spectra_in(row) for row in read_stored_run(stored).history]
    events = [spectra_in(event) for event in events_of(folder)]
    assert [row for row in told if row] == [event for event in events if event]
    assert len([row for row in told if row]) == 2


def test_a_run_that_diverges_says_so(tmp_path: Path) -> None:
    one = cell(tmp_path, analyses=ANALYSES, optimizer={"name": "SGD", "lr": 1e30})
    assert run_cell(one, tmp_path, None) == "failed"
    failure = json.loads((one.directory(tmp_path) / "failure.json").read_text("utf-8"))
    assert failure["error"].startswith("DivergedError")
