"""From a YAML with an analysis of gradients of pairs to the report's table and picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from avalanche_ext.report import write_report
from avalanche_ext.runner.grid import run_experiment
from tests.runner.cases import experiment


def test_every_method_is_analysed_and_has_the_same_results(tmp_path: Path) -> None:
    results = {}
    for name, analyses in (("plain", {}), ("analysed", {"gradient_diversity": {"n_samples": 12}})):
        outcome = run_experiment(experiment(tmp_path, analyses=analyses), tmp_path / name, jobs=1)
        assert outcome.n_completed == 4
        folder = outcome.directory
        results[name] = {
            path.parent.relative_to(folder): json.loads(path.read_text("utf-8"))["R"]
            for path in folder.glob("*/seed-*/result.json")
        }
    assert len(results["plain"]) == 4
    assert results["plain"] == results["analysed"]
    for run in results["analysed"]:
        with np.load(folder / run / "gradient_diversity.npz") as file:
            kept = dict(file)
        assert kept["negative"].shape[1] + kept["positive"].shape[1] == 24 * 23 / 2
        last = json.loads((folder / run / "events.jsonl").read_text("utf-8").splitlines()[-2])
        name = "negative/conflicting"
        number = kept["numbers"][-1, kept["name"].tolist().index(name)]
        assert last[f"gradient_diversity/{name}"] == number
    text = write_report(folder)
    assert "gradient_diversity.png are in" in text
    assert "Gradient similarity of pairs of samples after the last experience" in text
    with Image.open(folder / "gradient_diversity.png") as picture:
        assert len(picture.convert("RGB").getcolors(maxcolors=2**24)) > 10
