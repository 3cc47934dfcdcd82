"""Names of the user's classes and of other packages', read from source and never run."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml

from avalanche_ext.cli import main
from avalanche_ext.config import load_experiment
from avalanche_ext.config.errors import ConfigError
from avalanche_ext.config.listing import list_catalogue
from avalanche_ext.config.open_names import registered, relative_to
from tests.config.cases import experiment_with, loaded, problems_of

MINE = """
from pathlib import Path
from typing import Literal

from avalanche.core import SupervisedPlugin
from torch import nn, optim

Path(__file__).with_name("MARKER").write_text("imported")


class MyPlugin(SupervisedPlugin):
    '''Adds something.'''

    def __init__(self, strength: float, mode: Literal["l1", "l2"] = "l1", seed: int = 0):
        super().__init__()


class MyModel(nn.Module):
    def __init__(self, input_shape, n_classes, width: int = 8):
        super().__init__()


class MyOptimizer(optim.SGD):
    pass


def make_benchmark(n_experiences: int = 2, seed: int | None = None, data_root=None):
    ...
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE, "utf-8")
    return tmp_path


def write(folder: Path, **files: str) -> None:
    for name, source in files.items():
        (folder / f"{name}.py").write_text(dedent(source), "utf-8")


def with_plugin(name: str, **args: Any) -> dict[str, Any]:
    return experiment_with(methods={"mine": {"plugins": [{name: args}]}})


def of_mine(**changed: Any) -> dict[str, Any]:
    return experiment_with(
        **{
            "model": {"name": "./mine.py:MyModel", "width": 16},
            "benchmark": {"name": "./mine.py:make_benchmark", "n_experiences": 3},
            "optimizer": {"name": "./mine.py:MyOptimizer", "lr": 0.1},
            "methods": {"mine": {"plugins": [{"./mine.py:MyPlugin": {"strength": 0.1}}]}},
            **changed,
        }
    )


def plugin_problem(folder: Path, name: str, **args: Any) -> str:
    (problem,) = problems_of(with_plugin(name, **args), folder)
    return problem


def test_everything_may_be_the_users_and_nothing_of_it_is_run(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(of_mine()), "utf-8")
    monkeypatch.chdir(folder)
    assert main(["check", str(path)]) == 0
    assert main(["list", "./mine.py:MyPlugin"]) == 0
    assert main(["schema"]) == 0
    assert not (folder / "MARKER").exists()
    assert "strength:  " in capsys.readouterr().out


def test_what_a_name_stands_for_is_kept_with_its_arguments(folder: Path) -> None:
    (cell, *_) = loaded(of_mine(), folder).cells()
    assert cell.model.target == f"{folder / 'mine.py'}:MyModel"
    assert cell.model.args == {"width": 16}
    assert cell.optimizer.args == {"lr": 0.1}
    (plugin,) = cell.method.plugins
    assert plugin.args == {"strength": 0.1}


def test_a_benchmarks_seed_is_order_seed_and_the_same_in_all_runs(folder: Path) -> None:
    (cell, *_) = loaded(of_mine(), folder).cells()
    assert cell.benchmark.args == {"n_experiences": 3, "order_seed": 0}
    named = {"name": "./mine.py:make_benchmark", "order_seed": 7}
    (cell, *_) = loaded(of_mine(benchmark=named), folder).cells()
    assert cell.benchmark.args == {"order_seed": 7}
    assert problems_of(of_mine(benchmark={**named, "data_root": "x"}), folder) == [
        "benchmark.data_root: 'data_root' cannot be set here: it comes from --data-root; "
        f"make_benchmark is at {folder / 'mine.py'}:27"
    ]


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (
            {"strenght": 1.0, "strength": 1.0},
            "mine.py:MyPlugin\"].strenght: unknown key 'strenght' (did you mean 'strength'?); "
            "MyPlugin is at {file}:11",
        ),
        (
            {"strength": "strong"},
            "mine.py:MyPlugin\"].strength: is 'strong', but must be a number; "
            "MyPlugin is at {file}:11",
        ),
        (
            {"strength": 1.0, "mode": "l3"},
            "mine.py:MyPlugin\"].mode: is 'l3', but must be 'l1' or 'l2'; MyPlugin is at {file}:11",
        ),
        (
            {},
            "mine.py:MyPlugin\"].strength: missing, but './mine.py:MyPlugin' needs it (number); "
            "MyPlugin is at {file}:11",
        ),
        (
            {"strength": 1.0, "seed": 3},
            "mine.py:MyPlugin\"].seed: 'seed' cannot be set here: it comes from seeds; "
            "MyPlugin is at {file}:11",
        ),
    ],
)
def test_arguments_are_checked_as_ours_are(
    args: dict[str, Any], problem: str, folder: Path
) -> None:
    found = plugin_problem(folder, "./mine.py:MyPlugin", **args)
    assert found == 'methods.mine.plugins[0]["./' + problem.format(file=folder / "mine.py")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("./mien.py:MyPlugin", "{folder}/mien.py: there is no such file (did you mean 'mine.py'?)"),
        ("./no/mine.py:A", "{folder}/no/mine.py: there is no such file (nor a folder {folder}/no)"),
        ("./mine.py:MyPlugn", "{folder}/mine.py has no 'MyPlugn' (did you mean 'MyPlugin'?)"),
        (
            "./mine.py",
            "{folder}/mine.py is a file, but must also name a class or function in it: "
            "write './mine.py:Name' (it has MyPlugin, MyModel, MyOptimizer, make_benchmark)",
        ),
        ("./broken.py:A", "{folder}/broken.py:2: not valid Python: '(' was never closed"),
        ("./imports_broken.py:A", "{folder}/broken.py:2: not valid Python: '(' was never closed"),
        (
            "./a.b.py:A",
            "{folder}/a.b.py: Python cannot import it: use only letters, digits and '_'",
        ),
        ("./folder.py:A", "{folder}/folder.py is a folder, not a file"),
        (
            "mine:MyPlugin",
            "'mine' is not installed (for a file next to the YAML, write './mine.py:Name')",
        ),
        ("yaml.nothing:A", "'yaml' has no module 'yaml.nothing'"),
        ("yaml:dmup", "'yaml' has no 'dmup' (did you mean 'dump'?)"),
        (
            "not a module:A",
            "'not a module' is neither a module nor a file: write './file.py:Name' for a file "
            "next to the YAML, 'package.module:Name' for an installed one",
        ),
    ],
)
def test_what_is_not_there_is_named_with_the_place_that_was_looked_at(
    name: str, problem: str, folder: Path
) -> None:
    write(folder, broken="\nclass A(", imports_broken="from broken import A")
    (folder / "a.b.py").write_text("A = 1")
    (folder / "folder.py").mkdir()
    expected = f"methods.mine.plugins[0]: '{name}' cannot be used: "
    assert plugin_problem(folder, name) == expected + problem.format(folder=folder)


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        (
            {"methods": {"mine": {"plugins": ["./mine.py:MyModel"]}}},
            "methods.mine.plugins[0]: './mine.py:MyModel' is a model, not a plugin: "
            "it goes into 'model'",
        ),
        (
            {"model": "./mine.py:MyPlugin"},
            "model: './mine.py:MyPlugin' is a plugin, not a model: "
            "plugins go into the method's list 'plugins'",
        ),
        (
            {"optimizer": {"name": "avalanche_ext.models.mlp:MLP"}},
            "optimizer.name: 'avalanche_ext.models.mlp:MLP' is a model, not an optimizer: "
            "it goes into 'model'",
        ),
    ],
)
def test_a_class_in_the_wrong_place_is_recognised_by_its_bases(
    sections: dict[str, Any], problem: str, folder: Path
) -> None:
    (found,) = problems_of(of_mine(**sections), folder)
    assert found == problem


@pytest.mark.parametrize(
    ("base", "kind"),
    [
        ("optim.lr_scheduler.LambdaLR", "scheduler"),
        ("nn.CrossEntropyLoss", "criterion"),
        ("nn.modules.loss._Loss", "criterion"),
    ],
)
def test_bases_in_the_same_module_as_theirs_are_followed(
    base: str, kind: str, folder: Path
) -> None:
    write(folder, mine=f"from torch import nn, optim\n\nclass Own({base}): ...\n")
    problem = plugin_problem(folder, "./mine.py:Own")
    assert f"'./mine.py:Own' is a {kind}, not a plugin" in problem
    with relative_to(folder):
        listed = list_catalogue(["./mine.py:Own"])
    assert ("by:" in listed) == (kind == "scheduler")
    assert "multi_head" not in listed
    assert "optimizer" not in listed


def test_other_folders_are_relative_to_the_yaml_and_absolute_and_home(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "sub").mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir("/")
    for name in ("../mine.py:MyPlugin", f"{folder}/mine.py:MyPlugin", "~/mine.py:MyPlugin"):
        experiment = loaded(with_plugin(name, strength=1.0), folder / "sub")
        assert experiment.methods["mine"].plugins[0].target == f"{folder}/mine.py:MyPlugin"


@pytest.mark.parametrize("name", ["../mine.py:MyPlugin", '["./mine.py:MyPlugin"]'])
def test_a_sweep_and_an_override_reach_a_users_argument(name: str, folder: Path) -> None:
    """By the path that errors name, and by the plain one."""
    key = f"plugins[0]{'.' if name.startswith('.') else ''}{name.removeprefix('.')}.strength"
    document = with_plugin("./mine.py:MyPlugin", strength=0.5)
    experiment = loaded(document, folder, f"methods.mine.{key}=2")
    assert experiment.methods["mine"].plugins[0].args == {"strength": 2.0}
    document["methods"]["mine"]["sweep"] = {key: [1.0, 2.0]}
    methods = loaded(document, folder).methods
    assert [m.plugins[0].args["strength"] for m in methods.values()] == [1.0, 2.0]


def test_bases_are_followed_through_the_folder_and_into_packages(folder: Path) -> None:
    write(
        folder,
        base="""
            import avalanche_ext.plugins as theirs
            class Base(theirs.BalancedReplayPlugin):
                def __init__(self, extra: int, **kwargs):
                    super().__init__(**kwargs)
            """,
        derived="from base import Base\nclass Derived(Base): ...",
    )
    document = with_plugin("./derived.py:Derived", extra=1, mem_size=100)
    assert loaded(document, folder).methods["mine"].plugins[0].args == {
        "extra": 1,
        "mem_size": 100,
    }
    (problem,) = problems_of(with_plugin("./derived.py:Derived", extra=1, mem_sze=9), folder)
    assert "unknown key 'mem_sze' (did you mean 'mem_size'?)" in problem


def test_what_only_a_call_can_tell_is_passed_on(folder: Path) -> None:
    write(
        folder,
        loose="""
            import functools
            from avalanche.core import SupervisedPlugin
            class Keeps(SupervisedPlugin):
                def __init__(self, size: int = 1, **kwargs):
                    self.kept = kwargs
            def twisted(function): ...
            @twisted
            class Decorated(SupervisedPlugin): ...
            Made = twisted(3)
            """,
    )
    for name in ("Keeps", "Decorated", "Made"):
        document = with_plugin(f"./loose.py:{name}", anything=[1, "a"])
        (plugin,) = loaded(document, folder).methods["mine"].plugins
        assert plugin.args == {"anything": [1, "a"]}
    assert "must be an integer" in plugin_problem(folder, "./loose.py:Keeps", size="x")


def test_dataclasses_have_the_parameters_of_their_fields(folder: Path) -> None:
    write(
        folder,
        data="""
            from dataclasses import dataclass, field
            from typing import ClassVar
            from avalanche.core import SupervisedPlugin
            @dataclass
            class Base(SupervisedPlugin):
                size: int
            @dataclass
            class Mine(Base):
                phase_name: ClassVar[str] = "x"
                rate: float = 0.5
                hidden: list = field(init=False)
                sizes: list[int] = field(default_factory=list)
            """,
    )
    text = list_catalogue([f"{folder}/data.py:Mine"])
    lines = [line.split()[0] for line in text.splitlines()[1:] if line.startswith("      ")]
    assert lines == ["size:", "rate:", "sizes:"]


def test_traits_are_read_as_ours_are(folder: Path) -> None:
    write(
        folder,
        replaying="""
            from avalanche.core import SupervisedPlugin
            from avalanche.training.plugins import ReplayPlugin
            from avalanche_ext.traits import Phase, by
            class Declares(SupervisedPlugin):
                phase = Phase.DATA
                stores = by("kind", {"stream": True}, otherwise=False)
                def __init__(self, kind: str = "stream"): ...
            class Silent(SupervisedPlugin):
                phase = "fast"
            class Inherits(ReplayPlugin): ...
            """,
    )

    def problems(*plugins: Any) -> list[str]:
        document = experiment_with(methods={"mine": {"plugins": [*plugins]}})
        try:
            loaded(document, folder)
        except ConfigError as error:
            return [problem.path for problem in error.problems]
        return []

    replay = {"avalanche:ReplayPlugin": {"mem_size": 10}}
    where = ["methods.mine.plugins[1]"]
    assert problems(replay, "./replaying.py:Declares") == where
    assert problems(replay, {"./replaying.py:Declares": {"kind": "none"}}) == []
    assert problems("./replaying.py:Silent", replay) == []
    assert problems({"balanced_replay": {"mem_size": 10}}, "./replaying.py:Inherits") == where


@pytest.mark.parametrize(
    ("section", "name", "reason"),
    [
        ("criterion", "torch.nn:NLLLoss", "it is not a loss of logits and labels; torch's are"),
        ("criterion", "torch.nn.modules.loss:MSELoss", "it is not a loss of logits and labels"),
        ("scheduler", "torch.optim.lr_scheduler:ReduceLROnPlateau", "it needs a metric"),
        ("optimizer", "torch.optim:LBFGS", "it evaluates the loss itself"),
        ("optimizer", "torch.optim:SparseAdam", "it takes sparse gradients only"),
    ],
)
def test_an_open_name_of_torchs_is_refused_as_a_short_one_is(
    section: str, name: str, reason: str, tmp_path: Path
) -> None:
    if section == "optimizer":
        document = experiment_with(optimizer={"name": name, "lr": 0.1})
    else:
        document = experiment_with()
        document["training"][section] = name
    (problem, *_) = problems_of(document, tmp_path)
    assert f"{section}" in problem
    assert f"'{name}' cannot be used: {reason}" in problem


def test_an_open_name_of_torchs_may_mean_a_listed_class(tmp_path: Path) -> None:
    optimizer = {"name": "torch.optim:Adam", "lr": 0.1}
    document = experiment_with(optimizer=optimizer)
    document["training"]["criterion"] = "torch.nn:MultiMarginLoss"
    loaded(document, tmp_path)


def test_what_the_benchmark_decides_is_not_set_in_torchvisions_models(tmp_path: Path) -> None:
    model = {"name": "torchvision:resnet18", "num_classes": 5}
    assert problems_of(experiment_with(model=model), tmp_path) == [
        "model.num_classes: 'num_classes' cannot be set here: it comes from benchmark"
    ]


def test_torchvisions_models_and_avalanches_benchmarks_are_found_by_name(tmp_path: Path) -> None:
    document = experiment_with(
        benchmark={"name": "avalanche:SplitMNIST", "n_experiences": 5},
        model={"name": "torchvision:resnet18", "weights": "DEFAULT"},
        methods={"naive": None},
    )
    (cell, *_) = loaded(document, tmp_path).cells()
    assert cell.model.target == "torchvision.models:resnet18"
    assert cell.benchmark.args == {"n_experiences": 5, "order_seed": 0}
    document["model"] = "torchvision:resnet81"
    document["benchmark"]["name"] = "avalanche:SplitMNSIT"
    assert problems_of(document, tmp_path) == [
        "benchmark.name: unknown benchmark 'avalanche:SplitMNSIT' "
        "(did you mean 'avalanche:SplitMNIST'?)",
        "model: unknown model 'torchvision:resnet81' (did you mean 'torchvision:resnet18'?)",
    ]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package that registers `shiny`; its name."""
    name = f"toy_{uuid.uuid4().hex}"
    site = tmp_path / "site"
    package = site / name
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from .plugins import Shiny\nraise RuntimeError", "utf-8")
    source = "from avalanche.core import SupervisedPlugin\nclass Shiny(SupervisedPlugin):\n"
    source += "    def __init__(self, size: int = 1): ...\n"
    (package / "plugins.py").write_text(source, "utf-8")
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[avalanche_ext]\nshiny = {name}:Shiny\n")
    monkeypatch.syspath_prepend(site)
    registered.cache_clear()
    yield name
    registered.cache_clear()


@pytest.mark.usefixtures("installed")
def test_packages_register_short_names(tmp_path: Path) -> None:
    assert loaded(with_plugin("shiny", size=3), tmp_path).methods["mine"].plugins[0].args == {
        "size": 3
    }
    assert "did you mean 'shiny'?" in plugin_problem(tmp_path, "shinny")
    assert "is a plugin, not a model" in problems_of(experiment_with(model="shiny"), tmp_path)[0]
    assert "size: 1" in list_catalogue(["shiny"])


def test_modules_are_found_by_their_full_names_and_not_imported(
    installed: str, tmp_path: Path
) -> None:
    for module in (installed, f"{installed}.plugins"):
        name = f"{module}:Shiny"
        (plugin,) = loaded(with_plugin(name, size=2), tmp_path).methods["mine"].plugins
        assert f"{installed}.plugins" in plugin.files
    assert installed not in sys.modules


def hash_of(folder: Path, document: dict[str, Any] | None = None) -> str:
    return loaded(document or of_mine(), folder).cells()[0].hash


def test_the_hash_follows_the_users_files_wherever_they_lie(folder: Path, tmp_path: Path) -> None:
    before = hash_of(folder)
    write(folder, unrelated="x = 1")
    assert hash_of(folder) == before
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.py").write_text(MINE, "utf-8")
    assert hash_of(elsewhere) == before
    write(folder, mine=MINE + "\n# edited")
    assert hash_of(folder) != before


@pytest.mark.parametrize(
    "statement",
    [
        "import helper",
        "from helper import x",
        "from . import helper",
        "from .helper import x",
        "import importlib as i; i.import_module('helper')",
        "from importlib import import_module; import_module('.helper', __package__)",
        "__import__('helper')",
        "__import__('helper', globals(), level=1)",
    ],
)
@pytest.mark.parametrize("indent", ["", "def late():\n    "])
def test_the_hash_follows_what_a_file_imports_from_its_folder(
    statement: str, indent: str, folder: Path
) -> None:
    write(folder, mine=f"{MINE}\n{indent}{statement}", helper="import deeper", deeper="x = 1")
    first = hash_of(folder)
    write(folder, deeper="x = 2")
    assert hash_of(folder) != first


@pytest.mark.parametrize(
    ("call", "imported"),
    [
        ("import_module('pkg.my-part')", {"pkg/__init__.py", "pkg/my-part.py"}),
        ("import_module(name='.own', package='pkg')", {"pkg/__init__.py", "pkg/own.py"}),
        ("import_module('..helper', package='pkg.own')", {"pkg/__init__.py", "pkg/helper.py"}),
        ("import_as('.helper', __package__)", {"helper.py"}),
        ("import_module('hel' + input())", set()),
        ("import_module(f'.helper', *rest)", set()),
        ("import_module('/helper')", set()),
        ("import_module('a\\0b')", set()),
        ("import_module()", set()),
        ("open('helper')", set()),
    ],
)
def test_calls_that_import_a_literal_name_are_imports(
    call: str, imported: set[str], folder: Path
) -> None:
    (folder / "pkg").mkdir()
    write(folder / "pkg", __init__="", own="", helper="", **{"my-part": ""})
    head = "from importlib import import_module, import_module as import_as"
    write(folder, mine=f"{head}\n{MINE}\n{call}", helper="")
    mine = loaded(with_plugin("./mine.py:MyPlugin", strength=1), folder).methods["mine"]
    (plugin,) = mine.plugins
    assert {*plugin.files} == {"mine.py", *imported}


@pytest.mark.parametrize("edited", ["losses", "deeper", "__init__"])
def test_the_hash_follows_what_a_package_that_is_worked_on_imports(
    edited: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = f"worked_on_{uuid.uuid4().hex}"
    (folder / package).mkdir()
    plugins = MINE.replace("from torch", f"import {package}.losses\nfrom torch", 1)
    write(folder / package, __init__="", plugins=plugins, losses="from . import deeper")
    write(folder / package, deeper="x = 1", other="x = 1")
    monkeypatch.syspath_prepend(folder)

    def hash_now() -> str:
        plugin = {f"{package}.plugins:MyPlugin": {"strength": 0.1}}
        return loaded(experiment_with(methods={"m": {"plugins": [plugin]}}), folder).cells()[0].hash

    before = hash_now()
    write(folder / package, other="x = 2")
    assert hash_now() == before
    (folder / package / f"{edited}.py").write_text("from . import deeper\nx = 3", "utf-8")
    assert hash_now() != before


def test_the_hash_of_other_experiments_knows_no_files(tmp_path: Path) -> None:
    for component in loaded(experiment_with(), tmp_path).cells()[0].components:
        assert component.files == {}
        assert "files" not in component.plain()


def test_an_edit_is_seen_in_the_same_process(folder: Path) -> None:
    loaded(of_mine(), folder)
    write(folder, mine=MINE.replace("strength", "power"))
    assert "did you mean" not in problems_of(of_mine(), folder)[0]
    assert "unknown key 'strength'" in "\n".join(problems_of(of_mine(), folder))


def test_sources_that_cannot_be_understood_are_one_problem_or_passed_on(folder: Path) -> None:
    write(
        folder,
        odd="""
            from typing import Annotated, Literal
            from annotated_types import Gt
            from avalanche.core import SupervisedPlugin
            A = B
            B = A
            Json = list["Json"]
            MODE = "fast"
            class Odd(SupervisedPlugin):
                def __init__(self, a: Literal[MODE], b: Json, c: Annotated[str, Gt(0)], d: "(",
                             e: dict[str] = {[]: 1}): ...
            """,
    )
    args = {"a": "fast", "b": [1], "c": "x", "d": 1, "e": {"x": 2}}
    (plugin,) = loaded(with_plugin("./odd.py:Odd", **args), folder).methods["mine"].plugins
    assert plugin.args == args
    problem = plugin_problem(folder, "./odd.py:A")
    assert problem.endswith(f"{folder}/odd.py:5: its names refer to each other in a circle")


def test_warnings_of_the_users_source_are_left_to_its_run(
    folder: Path, recwarn: pytest.WarningsRecorder
) -> None:
    write(folder, mine=MINE + '\nPATTERN = "\\d"\n')
    loaded(of_mine(), folder)
    assert not [*recwarn]


def test_a_null_character_or_a_strange_name_is_one_problem(folder: Path) -> None:
    for name in ("./mi\0ne.py:A", "~nobody-at-all/x.py:A", ":", "a:", ":a", ".py", "x.py:", "::"):
        assert plugin_problem(folder, name)


def test_names_are_relative_to_the_yaml_even_after_an_error(folder: Path) -> None:
    problems_of(of_mine(name="-"), folder)
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(of_mine()), "utf-8")
    assert load_experiment(path)
