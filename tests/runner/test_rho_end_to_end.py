"""From a YAML with the analysis `rho_spectrum` to the report's tables and picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from avalanche_ext.report import write_report
from avalanche_ext.runner.cell import run_cell
from avalanche_ext.runner.grid import run_experiment
from tests.runner.cases import cell, experiment

RHO = {"rho_spectrum": {"n_samples": 15}}


def results_in(folder: Path) -> dict[Path, list[list[float]]]:
    return {
        path.parent.relative_to(folder): json.loads(path.read_text("utf-8"))["R"]
        for path in folder.glob("*/seed-*/result.json")
    }


def test_every_method_is_measured_and_learns_the_same(tmp_path: Path) -> None:
    published = {"reference": "A paper", "rho_correlation": {"ACC": -0.838}}
    results = {}
    for name, more in (("plain", {}), ("analysed", {"analyses": RHO, "published": published})):
        outcome = run_experiment(experiment(tmp_path, **more), tmp_path / name, jobs=1)
        assert outcome.n_completed == 4
        folder = outcome.directory
        results[name] = results_in(folder)
    assert len(results["plain"]) == 4
    assert results["plain"] == results["analysed"]
    for run in results["analysed"]:
        with np.load(folder / run / "rho_spectrum.npz") as file:
            arrays = dict(file)
        assert arrays["experience"].tolist() == [0, 1]
        assert arrays["n_samples"].tolist() == [15, 30]
        assert arrays["layer"].tolist() == ["classifier"]
        lines = (folder / run / "events.jsonl").read_text("utf-8").splitlines()
        told = [event for event in map(json.loads, lines) if "rho_spectrum" in event]
        assert [event["rho_spectrum"] for event in told] == arrays["rho"].tolist()
    text = write_report(folder)
    assert "Correlation of ρ with each metric, compared with A paper" in text
    (line,) = (line for line in text.splitlines() if line.startswith("ACC  "))
    assert line.split()[1] == "4"
    assert line.endswith("-0.838")
    assert "rho.png are in" in text


def test_iid_runs_are_measured_on_all_tasks_seen(tmp_path: Path) -> None:
    one = cell(tmp_path, analyses=RHO, training={"batch_size": 5, "iid": True})
    assert run_cell(one, tmp_path, None) == "completed"
    with np.load(one.directory(tmp_path) / "rho_spectrum.npz") as file:
        assert file["n_samples"].tolist() == [15, 30]
