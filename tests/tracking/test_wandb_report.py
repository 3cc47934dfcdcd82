"""An experiment's report as a wandb run, with the real wandb offline."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from avalanche_ext.cli import main
from avalanche_ext.results.key import key_of
from avalanche_ext.tracking.wandb_report import log_report
from tests.runner.cases import experiment
from tests.tracking.wandb_files import read_stored_run

TEXT = "method  ACC\nber     0.9\n"
CSV = "method,ACC_mean,BWT_mean\nber,0.9,\ndrl,0.95,-0.1\n"


def written(directory: Path) -> list[Path]:
    files = [directory / name for name in ("report.txt", "summary.csv", "accuracy.png")]
    files[0].write_text(TEXT, encoding="utf-8")
    files[1].write_text(CSV, encoding="utf-8")
    Image.new("RGB", (4, 3)).save(files[2])
    return files


def test_a_report_is_a_run_with_a_table_pictures_and_an_artifact(tmp_path: Path) -> None:
    sent = log_report(written(tmp_path), "my table", tmp_path, project="p", tags=["paper"])
    assert sent is not None
    stored = read_stored_run(sent)
    assert (stored.run.project, stored.run.job_type, stored.run.run_group) == (
        "p",
        "report",
        "my table",
    )
    assert [*stored.run.tags] == ["my table", "paper"]
    (row,) = stored.history
    table = json.loads((sent / "files" / row["summary/path"]).read_text(encoding="utf-8"))
    assert table["columns"] == ["method", "ACC_mean", "BWT_mean"]
    assert table["data"] == [["ber", 0.9, None], ["drl", 0.95, -0.1]]
    assert (row["accuracy/width"], row["accuracy/height"]) == (4, 3)
    (artifact,) = (each for each in stored.artifacts if each.type == "report")
    assert artifact.name == "my_table-report"
    names = {entry.path for entry in artifact.manifest.contents}
    assert names == {"report.txt", "summary.csv", "accuracy.png"}


def test_a_repeated_report_takes_the_place_of_the_first(tmp_path: Path) -> None:
    ids = set()
    folder = tmp_path / "table"
    for name in ("table", "table", "moved"):
        folder = folder.rename(tmp_path / name) if folder.exists() else folder
        folder.mkdir(exist_ok=True)
        sent = log_report(written(folder), "table", folder, key=key_of(folder))
        assert sent is not None
        ids.add(read_stored_run(sent).run.run_id)
    assert len(ids) == 1


def test_disabled_sends_nothing(tmp_path: Path) -> None:
    files = written(tmp_path)
    assert log_report(files, "table", tmp_path, mode="disabled") is None
    assert {*tmp_path.iterdir()} == {*files}


def test_run_sends_the_report_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only = experiment(tmp_path, wandb={"report": True}, methods={"naive": {}}, seeds=[0])
    path = tmp_path / f"{only.name}.yaml"
    assert main(["run", str(path), "--jobs", "1", "--out", str(tmp_path)]) == 0
    said = re.search(r"To send this report to wandb: wandb sync (\S+)", capsys.readouterr().out)
    assert said is not None
    stored = read_stored_run(Path(said[1]))
    assert stored.run.display_name == "small/report"
    (row,) = stored.history
    assert {"summary/path", "accuracy/path", "matrices/path"} <= {*row}
    table = json.loads((Path(said[1]) / "files" / row["summary/path"]).read_text("utf-8"))
    (method,) = (dict(zip(table["columns"], line, strict=True)) for line in table["data"])
    assert (method["method"], method["finished"]) == ("naive", 1)
