"""What is built before a grid runs."""

import time

import pytest

from avalanche_ext.cli import main
from avalanche_ext.runner import components, rehearsal, run_experiment
from avalanche_ext.runner.engines.local import FOR_COMPILED
from avalanche_ext.runner.grid import _unneeded
from avalanche_ext.runner.preflight import PreflightError, check_builds, check_devices
from tests.runner.cases import SMALL, experiment


def built_methods(monkeypatch):
    """Return the list to which the names of methods are added that are built as a whole."""
    built, build_on = [], rehearsal.build_on

    def counted(benchmark, cell, **options):
        built.append(cell.method_name)
        return build_on(benchmark, cell, **options)

    monkeypatch.setattr(rehearsal, "build_on", counted)
    return built


def test_each_distinct_method_is_built_once_on_one_benchmark(tmp_path, monkeypatch):
    benchmarks, create_benchmark = [], components.create_benchmark

    def counted_benchmark(*args):
        benchmarks.append(args)
        return create_benchmark(*args)

    built = built_methods(monkeypatch)
    monkeypatch.setattr(components, "create_benchmark", counted_benchmark)
    methods = {**SMALL["methods"], "same_as_ber": SMALL["methods"]["ber"]}
    check_builds(experiment(tmp_path, methods=methods, seeds=20).cells(), None)
    assert built == ["naive", "ber"]
    assert len(benchmarks) == 1


def swept(name, key, values, **section):
    return {name: {**section, "sweep": {key: values}}}


def test_what_sweeps_share_is_built_once_and_every_value_is_tried(tmp_path, monkeypatch):
    """Arguments of plugins, optimizers and schedules need no model of their own."""
    drl = ["balanced_replay", {"drl": {"lam": 0.1}}]
    adam = {"optimizer": {"name": "Adam"}}
    fast_adam = {"optimizer": {"name": "Adam", "foreach": True}}
    methods = {
        **swept("lr", "optimizer.lr", [0.1, 0.2, 0.3], plugins=drl),
        **swept("lam", "plugins[1].drl.lam", [0.1, 0.2, 0.3], plugins=drl, **adam),
        **swept("layers", "plugins[1].drl.layers", [["hidden.1"], ["hidden.9"]], plugins=drl),
        **swept("fused", "optimizer.fused", [False, True], **fast_adam),
        **swept("sizes", "model.hidden_sizes", [[8], [9]]),
        **swept("memory", "args.mem_size", [20, 30], strategy="avalanche:Replay"),
    }
    built = built_methods(monkeypatch)
    with pytest.raises(PreflightError) as refused:
        check_builds(experiment(tmp_path, methods=methods).cells(), None)
    fused, layers = sorted(str(refused.value).splitlines())
    assert fused == "methods.fused-true: `fused` and `foreach` cannot be `True` together."
    assert layers.startswith("methods.layers-hidden.9: layers=['hidden.9']: the model has no")
    wholes = "lr-0.1 lam-0.1 layers-hidden.1 fused-false sizes-8 sizes-9 memory-20 memory-30"
    assert built == wholes.split()


def test_a_model_is_tried_once(tmp_path, monkeypatch):
    shapes, check_output = [], components.check_output

    def seen(model, sample, *others):
        shapes.append(next(each.shape[0] for each in model.parameters()))
        check_output(model, sample, *others)

    monkeypatch.setattr(components, "check_output", seen)
    methods = {
        **swept("memory", "args.mem_size", [20, 30], strategy="avalanche:Replay"),
        **swept("sizes", "model.hidden_sizes", [[8], [9]], strategy="avalanche:Replay"),
    }
    check_builds(experiment(tmp_path, methods=methods).cells(), None)
    assert shapes == [16, 8, 9]


def test_a_users_strategy_is_built_with_each_optimizer(tmp_path):
    """It may inspect its arguments when it is built."""
    (tmp_path / "mine.py").write_text(PICKY, "utf-8")
    methods = swept("mine", "optimizer.lr", [0.1, 0.5], strategy="./mine.py:Picky")
    with pytest.raises(PreflightError, match=r"^methods\.mine-0\.5: .*needs a small lr"):
        check_builds(experiment(tmp_path, methods=methods).cells(), None)


PICKY = """
from avalanche.training.supervised import Naive

class Picky(Naive):
    def __init__(self, *, model, optimizer, **kwargs):
        if optimizer.defaults["lr"] > 0.2:
            raise ValueError("needs a small lr")
        super().__init__(model=model, optimizer=optimizer, **kwargs)
"""


def test_nothing_is_built_on_a_gpu(tmp_path, monkeypatch):
    devices, build_on = [], rehearsal.build_on

    def seen(benchmark, cell, **options):
        built = build_on(benchmark, cell, **options)
        devices.append(built.strategy.device.type)
        return built

    monkeypatch.setattr(rehearsal, "build_on", seen)
    training = {**SMALL["training"], "device": "cuda"}
    check_builds(experiment(tmp_path, training=training).cells(), None)
    assert devices == ["cpu", "cpu"]


def test_all_that_cannot_be_built_is_reported_at_once(tmp_path):
    """Each problem has its line, which names all methods that have it."""
    plugins = {
        "a": ["balanced_replay", {"drl": {"layers": ["hidden.9"]}}],
        "b": ["balanced_replay"],
        "c": [{"r_margin": {"layers": ["hiden.1"]}}],
        "d": [{"drl": {"layers": ["hidden.9"]}}],
    }
    methods = {name: {"plugins": listed} for name, listed in plugins.items()}
    cells = experiment(tmp_path, methods=methods, baseline="a").cells()
    with pytest.raises(PreflightError) as refused:
        check_builds(cells, None)
    first, second = str(refused.value).splitlines()
    assert first.startswith("methods.a, methods.d: layers=['hidden.9']: the model has no module")
    assert second.startswith("methods.c: layers=['hiden.1']: the model has no module")


def test_all_devices_that_the_machine_lacks_are_named(tmp_path):
    methods = {
        name: {"training": {"device": name.replace("_", ":")}} for name in ("cuda_62", "cuda_63")
    }
    cells = experiment(tmp_path, methods=methods, baseline="cuda_62").cells()
    with pytest.raises(PreflightError) as refused:
        check_devices(cells)
    first, second = str(refused.value).splitlines()
    assert first.startswith("training.device is 'cuda:62'")
    assert second.startswith("training.device is 'cuda:63'")


def test_a_run_says_in_one_line_each_what_its_workers_cannot_build(tmp_path, capfd):
    methods = {name: {"plugins": [{"drl": {"layers": [f"hidden.{name}"]}}]} for name in ("8", "9")}
    path = tmp_path / "small.yaml"
    experiment(tmp_path, methods=methods, baseline="8")
    assert main(["run", str(path), "--out", str(tmp_path / "out")]) == 2
    shown, said = capfd.readouterr()
    first, second = said.splitlines()
    assert shown == ""
    assert first.startswith("methods.8: layers=['hidden.8']: the model has no module")
    assert second.startswith("methods.9: layers=['hidden.9']: the model has no module")
    assert not [*(tmp_path / "out").rglob("*.json")]


DEADLY = """
import os
from avalanche.core import SupervisedPlugin

class Deadly(SupervisedPlugin):
    def __init__(self):
        super().__init__()
        os._exit(3)
"""


def test_who_dies_while_it_is_checked_ends_no_run_without_a_word(tmp_path):
    (tmp_path / "mine.py").write_text(DEADLY, "utf-8")
    grid = experiment(tmp_path, methods={"mine": {"plugins": ["./mine.py:Deadly"]}})
    with pytest.raises(PreflightError, match=r"to check them has died, or was killed"):
        run_experiment(grid, tmp_path / "out", jobs=1)
    assert not [*(tmp_path / "out").rglob("*.json")]


def test_data_that_cannot_be_kept_are_a_note_before_the_first_cell(tmp_path, capfd, monkeypatch):
    for i in range(520):
        file = tmp_path / "images" / ("train" if i < 500 else "test") / str(i % 2) / f"{i}.ppm"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"P6 2 2 255 " + bytes([i % 256]) * 12)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("AVALANCHE_EXT_CACHE", str(tmp_path / "file"))
    time.sleep(2.1)  # Until they have settled.
    benchmark = {"name": "image_folder", "folder": str(tmp_path / "images"), "image_size": 4}
    grid = experiment(tmp_path, benchmark={**benchmark, "n_experiences": 2, "train_size": 20})
    assert run_experiment(grid, tmp_path / "out", jobs=1).n_completed == 4
    said = capfd.readouterr().err
    assert said.count("cannot be written") == 1
    assert "note: each run decodes images again: " in said
    assert "Warning" not in said


SORTED = """
import torch
from torch.utils.data import TensorDataset

def make(train: bool):
    return TensorDataset(torch.rand(40, 1, 4, 4), torch.arange(4).repeat_interleave(10))
"""


@pytest.mark.parametrize("command", ["run", "check"])
def test_first_samples_without_a_class_are_a_note_before_the_first_cell(tmp_path, capfd, command):
    (tmp_path / "mine.py").write_text(SORTED, "utf-8")
    benchmark = {"name": "split", "dataset": "./mine.py:make", "n_experiences": 2, "train_size": 9}
    experiment(tmp_path, benchmark=benchmark)
    options = {"run": ["--out", str(tmp_path / "out"), "--jobs", "1"], "check": ["--build"]}
    for changed, n in ((["benchmark.subset=seed"], 0), ([], 1)):
        assert main([command, str(tmp_path / "small.yaml"), *changed, *options[command]]) == 0
        said = capfd.readouterr().err
        assert said.count("hold only") == n
        assert "Warning" not in said
    assert (
        "note: benchmark.subset is first, and the first 9 training samples (train_size) of "
        "experience 0 hold only 1 of its 2 classes (without class 1), and 1 other experience "
        "lacks classes too: use subset: seed\n"
    ) in said


def test_the_server_imports_only_what_the_experiment_needs(tmp_path):
    names = {name.rpartition(".")[2] for name in _unneeded(experiment(tmp_path))}
    assert "picture" in names
    assert "digits" not in names
    benchmark = {"name": "domains", "datasets": ["mnist", "fmnist"]}
    logged = experiment(tmp_path, benchmark=benchmark, wandb={"mode": "offline"})
    assert {name.rpartition(".")[2] for name in _unneeded(logged)} == {"digits", "compile_fx"}
    compiled = {"compiled": {"training": {"compile": True}}, "other": {}}
    assert FOR_COMPILED[0] not in _unneeded(experiment(tmp_path, methods=compiled))
