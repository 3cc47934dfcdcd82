"""The user's files in a run: imported under one name, named in errors, copied to the results."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch
import yaml

from avalanche_ext.cli import main
from avalanche_ext.config import Component, load_experiment
from avalanche_ext.config.open_names import digests
from avalanche_ext.results.experiment import read_results
from avalanche_ext.results.record import read_record
from avalanche_ext.runner.cell import run_cell
from avalanche_ext.runner.components import build
from avalanche_ext.runner.foreign import ComponentError, call
from avalanche_ext.runner.imports import locate
from tests.cases import weights
from tests.runner.cases import SMALL

MINE = """
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils import as_classification_dataset
from avalanche.core import SupervisedPlugin
from torch import nn
from torch.utils.data import TensorDataset

import helper


class MyPlugin(SupervisedPlugin):
    def __init__(self, strength: float = 0.1, seed: int = -1):
        super().__init__()
        if strength < 0:
            raise ValueError("strength must be at least 0")
        self.strength, self.seed = helper.twice(strength), seed

    def before_backward(self, strategy, **kwargs):
        strategy.loss = strategy.loss + self.strength * strategy.model.net[1].weight.abs().sum()


class MyModel(nn.Module):
    def __init__(self, input_shape, n_classes, width: int = 8):
        super().__init__()
        size = torch.Size(input_shape).numel()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(size, n_classes))

    def forward(self, x):
        return self.net(x)


class MyOptimizer(torch.optim.SGD):
    pass


def make_benchmark(n_experiences: int = 2, seed: int = 0, data_root=None, n_test: int | None = None,
                   integers: bool = False):
    generator = torch.Generator().manual_seed(seed)

    def dataset(first):
        y = first + torch.arange(12) % 2
        x = torch.randn(12, 1, 4, 4, generator=generator) + y.view(-1, 1, 1, 1)
        data = TensorDataset(x.long() if integers else x, y)
        data.targets = y.tolist()
        return as_classification_dataset(data)

    return benchmark_from_datasets(
        train=[dataset(2 * i) for i in range(n_experiences)],
        test=[dataset(2 * i) for i in range(n_test or n_experiences)],
    )


def not_a_benchmark():
    return 3
"""

EXPERIMENT: dict[str, Any] = {
    **SMALL,
    "benchmark": {"name": "./mine.py:make_benchmark", "n_experiences": 3},
    "model": {"name": "./mine.py:MyModel"},
    "optimizer": {"name": "./mine.py:MyOptimizer", "lr": 0.05},
    "seeds": [1],
    "methods": {"mine": {"plugins": [{"./mine.py:MyPlugin": {"strength": 0.1}}]}},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE, "utf-8")
    (tmp_path / "helper.py").write_text("def twice(x):\n    return 2 * x\n", "utf-8")
    return tmp_path


def written(folder: Path, **changed: Any) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump({**EXPERIMENT, **changed}, sort_keys=False), "utf-8")
    return path


def cell_of(folder: Path, **changed: Any) -> Any:
    return load_experiment(written(folder, **changed)).cells()[0]


def mine(folder: Path, name: str, **args: Any) -> Component:
    target = f"{folder / 'mine.py'}:{name}"
    return Component(f"./mine.py:{name}", target, args, digests(target))


def test_a_users_benchmark_model_optimizer_and_plugin_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", str(written(folder)), "--out", str(folder / "out"), "--jobs", "1"]
    assert main(command) == 0
    assert "mine" in capsys.readouterr().out
    assert main(command) == 0
    assert "0 cells run, 0 failed, 1 already finished" in capsys.readouterr().out
    (folder / "helper.py").write_text("def twice(x):\n    return 3 * x\n", "utf-8")
    assert main(command) == 0
    assert "1 cell run, 0 failed, 0 already finished" in capsys.readouterr().out


def test_constructors_get_what_they_ask_for(folder: Path) -> None:
    made = build(cell_of(folder), data_root=None)
    assert made.strategy.model.net[1].weight.shape == (6, 16)
    plugin = next(p for p in made.strategy.plugins if hasattr(p, "strength"))
    assert plugin.strength == 0.2
    assert plugin.seed > 0
    assert type(made.strategy.optimizer).__name__ == "MyOptimizer"
    assert made.benchmark.n_classes == 6


def test_constructors_get_what_their_bases_ask_for(folder: Path) -> None:
    source = """
        from mine import MyModel, MyPlugin

        class Longer(MyPlugin):
            def __init__(self, extra: int = 1, **kwargs):
                super().__init__(**kwargs)

        class Stronger(MyPlugin):
            def __init__(self, **kwargs):
                super().__init__(strength=3.0, seed=7, **kwargs)

        class Wider(MyModel):
            def __init__(self, **kwargs):
                super().__init__(width=16, **kwargs)

        def wide(**kwargs) -> Wider:
            return Wider(**kwargs)
    """
    (folder / "more.py").write_text(dedent(source), "utf-8")
    plugins = [{"./more.py:Longer": {"strength": 0.1}}, "./more.py:Stronger"]
    methods = {"mine": {"plugins": plugins}}
    seeds = set()
    for model in ("./more.py:Wider", "./more.py:wide"):
        experiment = load_experiment(written(folder, model=model, methods=methods, seeds=[1, 2]))
        for cell in experiment.cells():
            made = build(cell, data_root=None)
            assert made.strategy.model.net[1].weight.shape == (6, 16)
            longer, stronger = (p for p in made.strategy.plugins if hasattr(p, "strength"))
            assert (stronger.strength, stronger.seed) == (6.0, 7)
            seeds.add(longer.seed)
    assert len(seeds) == 2
    assert min(seeds) >= 0


def test_a_function_of_any_keywords_may_be_given_the_number_of_classes(folder: Path) -> None:
    source = "from mine import MyModel\n\ndef net(**kwargs):\n    return MyModel((16,), **kwargs)\n"
    (folder / "more.py").write_text(source, "utf-8")
    named = {"name": "./more.py:net", "n_classes": 6}
    model = build(cell_of(folder, model=named), data_root=None).strategy.model
    assert model.net[1].weight.shape == (6, 16)


def test_a_benchmark_is_the_same_for_all_seeds_and_follows_order_seed(folder: Path) -> None:
    def first(**args: Any) -> torch.Tensor:
        named = {"name": "./mine.py:make_benchmark", **args}
        cells = load_experiment(written(folder, benchmark=named, seeds=2)).cells()
        samples = [build(c, None).benchmark.train_stream[0].dataset.x for c in cells]
        assert torch.equal(*samples)
        return samples[0]

    assert torch.equal(first(), first(order_seed=0))
    assert not torch.equal(first(), first(order_seed=1))


def test_runs_reproduce(folder: Path) -> None:
    def final() -> torch.Tensor:
        made = build(cell_of(folder), data_root=None)
        for experience in made.benchmark.train_stream:
            made.strategy.train(experience, eval_streams=[])
        return weights(made.strategy)

    assert torch.equal(final(), final())


def test_a_config_yaml_among_the_results_can_be_run_again_alone(folder: Path) -> None:
    cell = cell_of(folder)
    out = folder / "out"
    assert run_cell(cell, out, data_root=None) == "completed"
    for name in ("mine.py", "helper.py"):
        (folder / name).unlink()
    (again,) = load_experiment(cell.directory(out) / "config.yaml").cells()
    assert again.hash == cell.hash
    assert run_cell(again, folder / "again", data_root=None) == "completed"
    results = [
        c.files(o).folder / "result.json" for c, o in ((cell, out), (again, folder / "again"))
    ]
    first, second = (yaml.safe_load(path.read_text("utf-8"))["R"] for path in results)
    assert first == second


def test_a_config_yaml_without_user_files_can_be_run_again(folder: Path) -> None:
    methods = {"ber": {"plugins": [{"balanced_replay": {"mem_size": 20}}]}}
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**SMALL, "methods": methods, "analyses": {"rho_spectrum": {}}}))
    cell = load_experiment(path).cells()[1]
    directory = cell.files(folder / "out").begin()
    (again,) = load_experiment(directory / "config.yaml").cells()
    assert again.hash == cell.hash
    assert again.resolved() == cell.resolved()


def test_a_file_that_is_edited_while_cells_wait_is_not_run_under_its_old_hash(folder: Path) -> None:
    cell = cell_of(folder)
    (folder / "helper.py").write_text("def twice(x):\n    return 3 * x\n", "utf-8")
    assert run_cell(cell, folder / "out", data_root=None) == "failed"
    failure = (cell.directory(folder / "out") / "failure.json").read_text("utf-8")
    assert f"{folder / 'helper.py'} has been edited since this command began" in failure


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"methods": {"mine": {"plugins": [{"./mine.py:MyPlugin": {"strength": -1}}]}}},
            "methods.mine: './mine.py:MyPlugin' cannot be built: ValueError: strength must be at "
            "least 0 ({folder}/mine.py:16)",
        ),
        (
            {"benchmark": {"name": "./mine.py:not_a_benchmark"}},
            "benchmark: './mine.py:not_a_benchmark' must return an Avalanche benchmark, but "
            "returns int",
        ),
        (
            {"benchmark": {"name": "./mine.py:make_benchmark", "n_test": 1}},
            "benchmark: './mine.py:make_benchmark' returns a benchmark with 2 training and 1 test "
            "experiences, but needs as many of one as of the other: R has one row and one column "
            "each",
        ),
        (
            {"benchmark": {"name": "./mine.py:make_benchmark", "integers": True}},
            "benchmark: './mine.py:make_benchmark' returns a benchmark whose train experience 0 "
            "has samples of torch.int64, but needs floating-point numbers",
        ),
        (
            {"model": {"name": "./mine.py:not_a_benchmark"}},
            "methods.mine: './mine.py:not_a_benchmark' must be a model (of the class "
            "torch.nn.modules.module.Module), but is of the class int",
        ),
        (
            {"model": {"name": "./failing.py:MyModel"}},
            "methods.mine: './failing.py:MyModel' cannot be imported: ZeroDivisionError: division "
            "by zero ({folder}/failing.py:2)",
        ),
    ],
)
def test_errors_of_the_users_code_are_one_sentence_with_file_and_line(
    changed: dict[str, Any], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "failing.py").write_text("class MyModel: ...\n1 / 0\n", "utf-8")
    assert main(["run", str(written(folder, **changed)), "--out", str(folder / "out")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == message.format(folder=folder)


def test_samples_that_are_random_are_learned_but_not_mixed(folder: Path) -> None:
    source = """
        import torch
        from avalanche.benchmarks import benchmark_from_datasets
        from avalanche.benchmarks.utils import as_classification_dataset
        from torch.utils.data import Dataset

        class Noise(Dataset):
            targets = [0, 1] * 10
            def __len__(self):
                return 20
            def __getitem__(self, index):
                return torch.randn(1, 4, 4), self.targets[index]

        def noise():
            data = as_classification_dataset(Noise())
            return benchmark_from_datasets(train=[data, data], test=[data, data])
    """
    (folder / "noise.py").write_text(dedent(source), "utf-8")
    made = build(cell_of(folder, benchmark="./noise.py:noise"), data_root=None)
    made.strategy.train(made.benchmark.train_stream[0], eval_streams=[])
    assert made.strategy.clock.train_iterations == 4
    cell = cell_of(folder, benchmark="./noise.py:noise", training={"batch_size": 5, "iid": True})
    with pytest.raises(ComponentError, match=r"'./noise.py:noise' cannot have training.iid"):
        build(cell, data_root=None)


def test_the_data_root_is_given_wherever_it_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = MINE + "\n\ndef rooted(root):\n    return make_benchmark(int(root.name))\n"
    (folder / "mine.py").write_text(source, "utf-8")
    cell = cell_of(folder, benchmark="./mine.py:rooted")
    monkeypatch.setenv("AVALANCHE_EXT_DATA", "/3")
    assert len(build(cell, data_root=None).benchmark.train_stream) == 3
    assert len(build(cell, data_root=Path("/4")).benchmark.train_stream) == 4


def test_files_of_one_name_in_two_folders_and_their_helpers_are_apart(tmp_path: Path) -> None:
    values = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "helper.py").write_text(f"value = {name!r}", "utf-8")
        source = (
            "import helper\nfrom helper import value\ndef get():\n    return helper.value + value"
        )
        (tmp_path / name / "mine.py").write_text(source, "utf-8")
        values.append(locate(f"{tmp_path / name / 'mine.py'}:get")())
    assert values == ["aa", "bb"]
    assert "helper" not in sys.modules
    assert not [*tmp_path.rglob("__pycache__")]


def test_packages_in_the_folder_are_imported_in_every_way(tmp_path: Path) -> None:
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "__init__.py").write_text("from .small import size", "utf-8")
    (tmp_path / "nets" / "small.py").write_text("from nets.sizes import size", "utf-8")
    (tmp_path / "nets" / "sizes.py").write_text("size = 3", "utf-8")
    source = """
        import nets.small
        import nets.sizes as s
        from nets import size
        from nets.small import *
        from . import nets as again

        def get():
            import nets
            return [nets.small.size, s.size, size, again.size]
    """
    (tmp_path / "mine.py").write_text(dedent(source), "utf-8")
    target = f"{tmp_path / 'mine.py'}:get"
    assert locate(target)() == [3, 3, 3, 3]
    assert {*digests(target)} == {
        "mine.py",
        "nets/__init__.py",
        "nets/small.py",
        "nets/sizes.py",
    }


def test_what_a_file_defines_can_be_pickled_into_a_fresh_process(folder: Path) -> None:
    source = "from helper import twice\nclass Small:\n    def __init__(self, x):\n"
    (folder / "small.py").write_text(f"{source}        self.x = twice(x)\n", "utf-8")
    small = locate(f"{folder / 'small.py'}:Small")(1.5)
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).x)"
    answer = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(small), capture_output=True, check=True
    )
    assert answer.stdout.decode().strip() == "3.0"


def test_an_edited_file_is_imported_again(folder: Path) -> None:
    assert call(mine(folder, "MyPlugin"), {}).strength == 0.2
    (folder / "helper.py").write_text("def twice(x):\n    return 20 * x\n", "utf-8")
    assert call(mine(folder, "MyPlugin"), {}).strength == 2.0


def test_an_error_in_an_imported_helper_is_named(folder: Path) -> None:
    (folder / "helper.py").write_text("import no_such_package_at_all\n", "utf-8")
    with pytest.raises(ComponentError, match=rf"no_such_package_at_all.*{folder}/helper.py:1\)"):
        call(mine(folder, "MyPlugin"), {})


def test_a_torchvision_model_learns(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    named = {"benchmark": {"name": "./mine.py:images"}, "model": "torchvision:squeezenet1_1"}
    path.write_text(yaml.safe_dump({**SMALL, **named, "methods": {"naive": {}}}), "utf-8")
    source = """
        import torch
        from avalanche.benchmarks import benchmark_from_datasets
        from avalanche.benchmarks.utils import as_classification_dataset
        from torch.utils.data import TensorDataset

        def images():
            data = TensorDataset(torch.zeros(5, 3, 32, 32), torch.arange(5))
            data.targets = [*range(5)]
            one = as_classification_dataset(data)
            return benchmark_from_datasets(train=[one, one], test=[one, one])
    """
    (tmp_path / "mine.py").write_text(dedent(source), "utf-8")
    cell = load_experiment(path).cells()[0]
    made = build(cell, data_root=None)
    made.strategy.train(made.benchmark.train_stream[0], eval_streams=[])
    assert made.strategy.model(torch.zeros(1, 3, 32, 32)).shape == (1, 5)


def test_an_experiment_yaml_among_the_results_can_be_run_again_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugins = [{"./mine.py:MyPlugin": {"strength": 0.1}}]
    methods = {
        "mine": {"plugins": plugins, "sweep": {'plugins[0]["./mine.py:MyPlugin"].strength': [0, 1]}}
    }
    yaml_file = str(written(folder, methods=methods))
    first, again = folder / "out", folder / "elsewhere"
    words = ["optimizer.lr=1e-3", "--seeds", "2", "--jobs", "1", "--out"]
    assert main(["run", yaml_file, *words, str(first)]) == 0
    for name in ("mine.py", "helper.py", "experiment.yaml"):
        (folder / name).unlink()
    kept = str(first / "small" / "experiment.yaml")
    assert main(["check", kept]) == 0
    assert main(["run", kept, "--jobs", "1", "--out", str(again)]) == 0
    records = [read_record(out / "small") for out in (first, again)]
    assert records[0] == records[1]
    assert [*records[0].hashes] == ["mine-0", "mine-1"]
    tables = [read_results(out / "small").run_metrics() for out in (first, again)]
    assert tables[0] == tables[1]
    assert tables[0]["mine-0"] != tables[0]["mine-1"]
