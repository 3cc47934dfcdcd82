"""What is built before a grid runs."""

import pytest

from avalanche_ext.runner import components
from avalanche_ext.runner.preflight import PreflightError, check_builds, check_devices
from tests.runner.cases import SMALL, experiment


def test_each_distinct_method_is_built_once_on_one_benchmark(tmp_path, monkeypatch):
    built, benchmarks = [], []
    build_on, create_benchmark = components.build_on, components.create_benchmark

    def counted(benchmark, cell):
        built.append(cell.method_name)
        return build_on(benchmark, cell)

    def counted_benchmark(*args):
        benchmarks.append(args)
        return create_benchmark(*args)

    monkeypatch.setattr(components, "build_on", counted)
    monkeypatch.setattr(components, "create_benchmark", counted_benchmark)
    methods = {**SMALL["methods"], "same_as_ber": SMALL["methods"]["ber"]}
    check_builds(experiment(tmp_path, methods=methods, seeds=20).cells(), None)
    assert built == ["naive", "ber"]
    assert len(benchmarks) == 1


def test_nothing_is_built_on_a_gpu(tmp_path, monkeypatch):
    devices, build_on = [], components.build_on

    def seen(benchmark, cell):
        built = build_on(benchmark, cell)
        devices.append(built.strategy.device.type)
        return built

    monkeypatch.setattr(components, "build_on", seen)
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
