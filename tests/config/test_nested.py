"""Data sets and transforms that a benchmark names: checked from source, and kept with results."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from avalanche_ext.config import Experiment, load_experiment
from avalanche_ext.config.errors import ConfigError
from avalanche_ext.config.listing import list_catalogue
from avalanche_ext.config.rerun import is_resolved
from avalanche_ext.runner.cell import run_cell

MINE = """
import torch

class Birds(torch.utils.data.Dataset):
    def __init__(self, n: int, train: bool, shade: float = 0.5):
        self.n, self.shade = n, shade
    def __len__(self):
        return self.n
    def __getitem__(self, index):
        return torch.full((1, 4, 4), self.shade), index % 4

class Noise:
    def __init__(self, scale: float = 0.1):
        self.scale = scale
    def __call__(self, x):
        return x + self.scale * torch.rand_like(x)

def two():
    from avalanche.benchmarks import benchmark_from_datasets
    from avalanche.benchmarks.utils import make_avalanche_dataset
    from avalanche.benchmarks.utils.classification_dataset import (
        _make_taskaware_classification_dataset as made,
    )
    def part():
        birds = Birds(8, True)
        birds.targets = [i % 4 for i in range(8)]
        return made(birds)
    return benchmark_from_datasets(train=[part(), part()], test=[part(), part()])
"""
BIRDS = {"name": "split", "dataset": "./mine.py:Birds", "args": {"n": 40}, "n_experiences": 2}


def loaded(folder: Path, /, **benchmark: Any) -> Experiment:
    folder.mkdir(exist_ok=True)
    (folder / "mine.py").write_text(MINE)
    document = {
        "name": "mine",
        "benchmark": benchmark,
        "model": {"name": "mlp", "hidden_sizes": [4]},
        "optimizer": {"name": "SGD", "lr": 0.1},
        "training": {"batch_size": 10},
        "seeds": 1,
        "methods": {"naive": {}},
        "wandb": {"mode": "disabled"},
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(document))
    return load_experiment(folder / "mine.yaml")


def problems(folder: Path, **benchmark: Any) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        loaded(folder, **benchmark)
    return [f"{problem.path}: {problem.message}" for problem in raised.value.problems]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"args": {"m": 3}}, "benchmark.args.m: unknown key 'm' (known: n, train, shade)"),
        ({"args": {"n": "x"}}, "benchmark.args.n: is 'x', but must be an integer"),
        ({"args": {}}, "benchmark.args.n: missing, but './mine.py:Birds' needs it (integer)"),
        ({"args": {}, "test": {"n": 3}}, "benchmark.args.n: missing, but './mine.py:Birds' needs"),
        (
            {"train": {"shad": 1.0}},
            "benchmark.train.shad: unknown key 'shad' (did you mean 'shade'",
        ),
        ({"dataset": "./mine.py:Bird"}, "benchmark.dataset: './mine.py:Bird' cannot be used"),
        ({"dataset": 3}, "benchmark.dataset: is 3, but must be the name of a data set"),
        (
            {"dataset": "minst"},
            "benchmark.dataset: unknown dataset 'minst' (did you mean 'mnist'?)",
        ),
        ({"dataset": "torchvision:MNITS"}, "did you mean 'torchvision:MNIST'"),
        ({"dataset": "mlp"}, "benchmark.dataset: 'mlp' is a model, not a dataset"),
        (
            {"train_transforms": [{"name": "torchvision:RandomCrop", "size": 4, "pading": 1}]},
            "benchmark.train_transforms[0].pading: unknown key 'pading' (did you mean 'padding'?)",
        ),
        (
            {"test_transforms": ["torchvision:Padd"]},
            "benchmark.test_transforms[0]: unknown transform 'torchvision:Padd'",
        ),
        (
            {"train_transforms": [{"size": 4}]},
            'benchmark.train_transforms[0]: is {"size": 4}, but must be a transform\'s name',
        ),
        (
            {"dataset": "mnist", "args": {"data_root": "a"}},
            "benchmark.args.data_root: 'data_root' cannot be set here: it comes from --data-root",
        ),
        (
            {"dataset": "torchvision:MNIST", "args": {"root": 3}},
            "benchmark.args.root: is 3, but must be text",
        ),
        (
            {"dataset": "torchvision:MNIST", "args": {"download": True}},
            "benchmark.args.download: 'download' cannot be set here",
        ),
        ({"skip": 0}, "benchmark.skip: is 0, but must be"),
        ({"online": 0}, "benchmark.online: is 0, but must be"),
    ],
)
def test_problems(changed: Any, expected: str, tmp_path: Path) -> None:
    found = problems(tmp_path, **(BIRDS | changed))
    assert any(expected in each for each in found), found


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"args": {"n": 3}}, "benchmark.datasets[1].name: missing, must be the name of a data set"),
        ({"name": "digits", "trian": {}}, "benchmark.datasets[1].trian: unknown key 'trian' (did "),
        (
            {"name": "./mine.py:Birds", "args": {"n": 3, "o": 1}},
            "benchmark.datasets[1].args.o: unknown key 'o'",
        ),
        ({"name": "digits", "args": [1]}, "benchmark.datasets[1].args: is [1], but must be a map"),
        (3, "benchmark.datasets[1]: is 3, but must be the name of a data set"),
    ],
)
def test_problems_of_domains(entry: Any, expected: str, tmp_path: Path) -> None:
    (found,) = problems(tmp_path, name="domains", datasets=["digits", entry])
    assert expected in found


def test_no_data_set(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, name="domains", datasets=[])
    assert "benchmark.datasets: is empty, but must name at least one data set" in found


def test_files_of_data_sets_and_transforms_count_in_the_hash(tmp_path: Path) -> None:
    given = {**BIRDS, "train_transforms": ["./mine.py:Noise"]}
    (cell,) = loaded(tmp_path / "a", **given).cells()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (moved,) = load_experiment(tmp_path / "b" / "mine.yaml").cells()
    assert moved.hash == cell.hash
    (tmp_path / "b" / "mine.py").write_text(MINE + "\n# edited\n")
    (edited,) = load_experiment(tmp_path / "b" / "mine.yaml").cells()
    assert edited.hash != cell.hash


@pytest.mark.parametrize(
    "benchmark",
    [
        *({"name": name} for name in ("split_mnist", "permuted_mnist", "rotated_mnist")),
        {"name": "image_folder", "folder": "birds"},
    ],
)
def test_keys_that_came_later_change_a_hash_only_where_they_are_given(
    benchmark: dict[str, Any], tmp_path: Path
) -> None:
    (plain,) = loaded(tmp_path, **benchmark).cells()
    assert not {"skip", "online", "channels", "train_transforms"} & {*plain.benchmark.args}
    (null,) = loaded(tmp_path, **benchmark, skip=None, online=None).cells()
    assert null.hash == plain.hash
    (given,) = loaded(tmp_path, **benchmark, skip=5).cells()
    assert given.hash != plain.hash


@pytest.mark.parametrize(
    "benchmark",
    [
        {**BIRDS, "train_transforms": [{"name": "./mine.py:Noise", "scale": 0.2}], "online": 5},
        {"name": "domains", "datasets": ["digits", {"name": "./mine.py:Birds", "args": {"n": 9}}],
         "image_size": 8, "train_size": 9, "scenario": "task"},
        {"name": "permuted", "dataset": "digits", "n_experiences": 2, "train_size": 20,
         "train_transforms": [{"name": "torchvision:RandomCrop", "size": 8, "padding": 1}]},
        {"name": "./mine.py:two"},
    ],
    ids=["online split", "domains", "permuted", "function"],
)  # fmt: skip
def test_a_run_and_its_config_again(benchmark: Any, tmp_path: Path) -> None:
    (cell,) = loaded(tmp_path, **benchmark).cells()
    assert run_cell(cell, tmp_path / "out", None) == "completed"
    folder = cell.directory(tmp_path / "out")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert is_resolved(config)
    (tmp_path / "mine.py").unlink()
    (again,) = load_experiment(folder / "config.yaml").cells()
    assert again.hash == cell.hash
    assert run_cell(again, tmp_path / "again", None) == "completed"


def test_iid_cannot_mix_an_online_stream(tmp_path: Path) -> None:
    loaded(tmp_path, **BIRDS, online=5)
    text = (
        (tmp_path / "mine.yaml")
        .read_text()
        .replace("batch_size: 10", "{batch_size: 10, iid: true}")
    )
    (tmp_path / "mine.yaml").write_text(text.replace("training:\n  {", "training: {"))
    with pytest.raises(ConfigError, match="mini-experiences of an online stream cannot be mixed"):
        load_experiment(tmp_path / "mine.yaml")


def test_each_part_may_have_a_root_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative to the current folder, not to the YAML or the data root."""
    for part in ("learn", "examine"):
        for label in "ab":
            (tmp_path / "images" / part / label).mkdir(parents=True)
            for i in range(6):
                file = tmp_path / "images" / part / label / f"{i}.png"
                Image.new("L", (4, 4), 9 * i).save(file)
    monkeypatch.chdir(tmp_path / "images")
    folders = {"train": {"root": "learn"}, "test": {"root": str(tmp_path / "images" / "examine")}}
    given = {"name": "split", "dataset": "torchvision:ImageFolder", "n_experiences": 1, **folders}
    (cell,) = loaded(tmp_path / "yaml", **given).cells()
    assert run_cell(cell, tmp_path / "out", None) == "completed"
    (other,) = loaded(tmp_path / "yaml", **given | {"train": {"root": "examine"}}).cells()
    assert other.hash != cell.hash
    listed = [{"name": "torchvision:ImageFolder", **folders}]
    (cell,) = loaded(tmp_path / "yaml", name="domains", datasets=listed).cells()
    assert run_cell(cell, tmp_path / "out", None) == "completed"


def test_a_data_set_of_ones_own_may_have_a_seed_and_a_root_of_its_own(tmp_path: Path) -> None:
    source = "\n\ndef seeded(seed: int, data_root, train: bool):\n    return Birds(seed, train)\n"
    given = {**BIRDS, "dataset": "./more.py:seeded"}
    loaded(tmp_path, **BIRDS)
    (tmp_path / "more.py").write_text(MINE + source)
    for args in ({}, {"seed": 12, "data_root": "elsewhere"}):
        assert loaded(tmp_path, **given | {"args": args})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("torchvision:RandomCrop", "padding: null"),
        ("torchvision:MNIST", "train: true"),
        ("torchvision:MNIST", "root:        text"),
    ],
)
def test_they_are_listed(name: str, expected: str) -> None:
    assert expected in list_catalogue([name])
