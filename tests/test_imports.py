"""Imports run one way, and what needs no torch does not import it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import avalanche_ext
from avalanche_ext.report import write_report
from avalanche_ext.results.store import write_experiment
from tests.runner.cases import RESULT, experiment

PACKAGE = Path(avalanche_ext.__file__).parent

# What each room may import of ours; a room is a folder or, where it is named, a module.
ALLOWED = {
    "state": set(),
    "functional": set(),
    "traits": set(),
    "words": set(),
    "cache": {"results"},
    "data_root": set(),
    "validation": {"words"},
    "metrics.matrix": set(),
    "metrics.curves": set(),
    "metrics.heatmap": set(),
    "results": {"metrics.curves", "metrics.matrix", "words"},
    "config": {"results", "traits", "validation", "words"},
    "data": {"state"},
    "buffers": {"functional", "data", "validation"},
    "plugins": {
        "state", "functional", "buffers", "data", "metrics.curves", "results", "traits",
        "validation",
    },
    "strategies": {"plugins", "buffers", "data", "functional", "traits", "validation"},
    "benchmarks": {"cache", "data", "data_root", "validation"},
    "models": {"functional", "validation"},
    "metrics.recorder": {"metrics.matrix", "data", "validation"},
    "metrics": {"metrics.curves", "metrics.matrix", "metrics.recorder"},
    "tracking.wandb_logger": {"data", "metrics.recorder", "plugins", "tracking"},
    "tracking": {"metrics.matrix", "metrics.heatmap", "results", "tracking.wandb_logger"},
    "report": {"metrics.curves", "metrics.matrix", "metrics.heatmap", "results", "words"},
    "runner": {
        "benchmarks", "buffers", "cache", "config", "data", "data_root", "functional", "metrics",
        "metrics.matrix", "metrics.recorder", "models", "plugins", "results", "state",
        "strategies", "tracking", "words",
    },
    "cli": {"cache", "config", "report", "results", "runner", "tracking", "words"},
    "__main__": {"cli"},
    "": set(),
}  # fmt: skip


def room(module: str) -> str:
    """The longest entry of ALLOWED that contains the module (named without the package)."""
    parts = module.split(".")
    for n in range(len(parts), 0, -1):
        if ".".join(parts[:n]) in ALLOWED:
            return ".".join(parts[:n])
    return ""


def imports_of(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            modules |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    ours = {m.removeprefix("avalanche_ext").lstrip(".") for m in modules if is_ours(m)}
    return {m for m in ours if m and is_module(m)}


def is_ours(module: str) -> bool:
    return module == "avalanche_ext" or module.startswith("avalanche_ext.")


def is_module(module: str) -> bool:
    path = PACKAGE.joinpath(*module.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_imports_run_one_way(path):
    module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
    module = "" if module == "__init__" else module
    here = room(module)
    wrong = {m for m in imports_of(path) if room(m) != here and room(m) not in ALLOWED[here]}
    assert not wrong, f"{here} must not import {', '.join(sorted(wrong))}"


SLOW = ("torch", "avalanche", "wandb")


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("avalanche_ext", SLOW),
        ("avalanche_ext.config", (*SLOW, "numpy")),
        ("avalanche_ext.report", (*SLOW, "matplotlib", "scipy")),
        ("avalanche_ext.results.experiment", (*SLOW, "pydantic")),
    ],
)
def test_what_answers_quickly_imports_nothing_slow(module, absent):
    code = f"import sys, {module}; print({{*{absent}}} & set(sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "set()"


def test_to_import_all_modules_changes_nothing_in_the_process():
    code = (
        "import gc, importlib, pkgutil, signal, avalanche_ext\n"
        "def state():\n"
        "    handlers = [*map(signal.getsignal, signal.valid_signals())]\n"
        "    return gc.isenabled(), gc.get_freeze_count(), handlers\n"
        "before = state()\n"
        "for module in pkgutil.walk_packages(avalanche_ext.__path__, 'avalanche_ext.'):\n"
        "    if not module.name.endswith('__main__'):\n"
        "        importlib.import_module(module.name)\n"
        "print(state() == before)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "True"


def test_a_run_imports_torch_in_its_workers_only(tmp_path):
    """Its own process checks and reports without torch, and imports once what a report needs."""
    experiment(tmp_path, seeds=1)
    words = ["run", str(tmp_path / "small.yaml"), "--jobs", "1", "--out", str(tmp_path)]
    code = (
        "import sys; from avalanche_ext.cli import main; "
        f"assert main({words!r}) == 0; "
        "print({'torch', 'avalanche', 'wandb', 'pandas', 'scipy.stats'} & {*sys.modules})"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "2 cells run, 0 failed" in answer.stdout
    assert answer.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    ("command", "absent"),
    [
        ("report", ("torch", "avalanche", "wandb", "pydantic", "pandas", "matplotlib")),
        ("run", ("torch", "avalanche", "wandb", "pandas", "matplotlib")),
    ],
)
def test_what_shows_a_finished_experiment_imports_nothing_slow(command, absent, tmp_path):
    description = experiment(tmp_path)
    for each in description.cells():
        each.files(tmp_path).begin()
        each.files(tmp_path).write_result(RESULT)
    folder = tmp_path / "small"
    write_experiment(folder, description.yaml(), description.summary())
    write_report(folder)  # Its pictures are drawn once.
    words = {
        "report": ["report", str(folder)],
        "run": ["run", str(tmp_path / "small.yaml"), "--out", str(tmp_path)],
    }
    code = (
        "import sys; from avalanche_ext.cli import main; "
        f"assert main({words[command]!r}) == 0; print({{*{absent}}} & {{*sys.modules}})"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.splitlines()[-1] == "set()"
