"""Results record the versions of all packages that decide their numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest

from avalanche_ext.config import Component
from avalanche_ext.config.sources import KNOWN_PACKAGES
from avalanche_ext.runner import checkpoint_file
from avalanche_ext.runner.cell import run_cell
from avalanche_ext.runner.checkpoint_file import versions
from tests.runner.cases import cell


def test_packages_whose_sources_count_in_no_hash_have_their_versions_recorded(
    tmp_path: Path,
) -> None:
    one = cell(tmp_path)
    installed = {"avalanche_ext": ["avalanche-ext"], **packages_distributions()}
    for package in (*KNOWN_PACKAGES, "numpy", "sklearn"):
        assert {*installed[package]} & {*versions(one)}, package
    assert run_cell(one, tmp_path / "out", data_root=None) == "completed"
    result = json.loads((one.directory(tmp_path / "out") / "result.json").read_text("utf-8"))
    assert result["versions"].items() >= versions(one).items()


def test_a_users_file_costs_no_look_at_all_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(
        "from avalanche.core import SupervisedPlugin\nclass Mine(SupervisedPlugin):\n    pass\n"
    )
    one = cell(tmp_path, "mine", methods={"mine": {"plugins": ["./mine.py:Mine"]}})
    monkeypatch.setattr(checkpoint_file, "_distributions", lambda: pytest.fail("seconds"))
    assert "torch" in versions(one)


def test_the_package_of_a_component_has_its_version_recorded(tmp_path: Path) -> None:
    one = cell(tmp_path)
    plugins = (Component("yaml:Node", "yaml:Node", {}),)
    other = replace(one, method=replace(one.method, plugins=plugins))
    assert "PyYAML" not in versions(one)
    assert versions(other)["PyYAML"] == version("PyYAML")
