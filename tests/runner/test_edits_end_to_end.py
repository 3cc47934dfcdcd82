"""From a YAML that asks for originals to the picture of edited examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from avalanche_ext.report import write_report
from avalanche_ext.runner.grid import run_experiment
from tests.runner.cases import experiment

GMED = {"mem_size": 30, "batch_size": 5, "stride": 2.0, "keep_originals": True}


def test_a_run_that_keeps_originals_has_a_picture_of_its_edits(tmp_path: Path) -> None:
    methods = {
        "edited": {"plugins": [{"gmed": GMED}]},
        "without_originals": {"plugins": [{"gmed": {**GMED, "keep_originals": False}}]},
        "never_edited": {"plugins": [{"gmed": {**GMED, "stride": 0.0}}]},
    }
    outcome = run_experiment(experiment(tmp_path, methods=methods, seeds=1), tmp_path, jobs=1)
    assert outcome.n_completed == len(methods)
    found = [path.parent.parent.name for path in outcome.directory.rglob("edits.npz")]
    assert found == ["edited"]
    with np.load(outcome.directory / "edited" / "seed-0" / "edits.npz") as file:
        edits = dict(file)
    n_shown = len(edits["label"])
    assert n_shown == len({*edits["label"].tolist()}) == len({*edits["slot"].tolist()})
    assert {*edits["label"].tolist()} <= {*range(10)}
    assert edits["original"].shape == edits["edited"].shape == (n_shown, 1, 8, 8)
    assert (edits["n_edits"] > 0).all()
    changes = np.abs(edits["edited"] - edits["original"]).reshape(n_shown, -1).max(axis=1)
    assert (changes > 0).all()
    assert 0 <= edits["original"].min() < edits["original"].max() <= 1
    assert "edits.png are in" in write_report(outcome.directory)
    with Image.open(outcome.directory / "edits.png") as picture:
        assert len(picture.convert("RGB").getcolors(maxcolors=2**24)) > 10
