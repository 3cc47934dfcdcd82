"""What people really mistype, in a YAML and on the command line, and what they read then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from avalanche_ext.cli import main
from tests.config.cases import EXPERIMENT, experiment_with, loaded, problems_of, written

HEAD = """\
name: small
benchmark: {name: split_digits, n_experiences: 5}
model: {name: mlp, hidden_sizes: [100, 100]}
optimizer: {name: SGD, lr: 0.05}
training: {batch_size: 10}
seeds: 3
"""
MINE = """\
from avalanche.core import SupervisedPlugin


class MyPlugin(SupervisedPlugin):
    def __init__(self, strength: float = 1.0):
        super().__init__()
"""
PLUGIN = "methods.m.plugins[0]"


def top(**keys: Any) -> dict[str, Any]:
    return {**EXPERIMENT, **keys}


def training(**keys: Any) -> dict[str, Any]:
    return experiment_with(training={"batch_size": 10, **keys})


def optimizer(**keys: Any) -> dict[str, Any]:
    return experiment_with(optimizer=keys)


def model(**keys: Any) -> dict[str, Any]:
    return experiment_with(model=keys)


def benchmark(**keys: Any) -> dict[str, Any]:
    return experiment_with(benchmark=keys)


def method(**keys: Any) -> dict[str, Any]:
    return experiment_with(methods={"m": keys})


def plugin(item: Any) -> dict[str, Any]:
    return method(plugins=[item])


MISTAKES: list[tuple[dict[str, Any] | str, str]] = [
    # Keys that are misspelt, or stand in another section.
    (top(seed=3), "seed: unknown key 'seed' (did you mean 'seeds'?)"),
    (top(lr=0.1), "lr: unknown key 'lr' (did you mean 'optimizer.lr'?)"),
    (top(epochs=2), "epochs: unknown key 'epochs' (did you mean 'training.epochs'?)"),
    (top(dataset="mnist"), "dataset: unknown key 'dataset' (did you mean 'benchmark.dataset'?)"),
    (
        top(plugins=["drl"]),
        "plugins: unknown key 'plugins' (did you mean 'methods.NAME.plugins'?)",
    ),
    (training(epoch=2), "training.epoch: unknown key 'epoch' (did you mean 'epochs'?)"),
    (training(lr=0.1), "training.lr: unknown key 'lr' (did you mean 'optimizer.lr'?)"),
    (training(seeds=3), "training.seeds: unknown key 'seeds' (it stands at the top level)"),
    (
        optimizer(name="SGD", epochs=2),
        "optimizer.epochs: unknown key 'epochs' (did you mean 'training.epochs'?)",
    ),
    (
        optimizer(name="SGD", learning_rate=0.1),
        "optimizer.learning_rate: unknown key 'learning_rate' (did you mean 'lr'?)",
    ),
    (
        benchmark(name="split_mnist", n_tasks=5),
        "benchmark.n_tasks: unknown key 'n_tasks' (did you mean 'n_experiences'?)",
    ),
    (method(lr=0.1), "methods.m.lr: unknown key 'lr' (did you mean 'optimizer.lr'?)"),
    (method(seeds=3), "methods.m.seeds: unknown key 'seeds' (it stands at the top level)"),
    (
        method(strategy="avalanche:Replay", mem_size=100),
        "methods.m.mem_size: unknown key 'mem_size' (did you mean 'args.mem_size'?)",
    ),
    (
        method(plugins=["balanced_replay"], mem_size=100),
        "methods.m.mem_size: unknown key 'mem_size' "
        "(did you mean 'plugins[0].balanced_replay.mem_size'?)",
    ),
    # Values.
    (training(epochs=0), "training.epochs: is 0, but must be greater than 0"),
    (
        training(batch_size="10"),
        "training.batch_size: is '10', but must be an integer (remove the quotes)",
    ),
    (training(batch_size=10.0), "training.batch_size: is 10.0, but must be an integer"),
    (
        training(epochs=1, iterations=50),
        "training.iterations: is 50, but 'epochs' is 1: give one of them",
    ),
    (
        training(device="gpu"),
        "training.device: is 'gpu', but must be 'cpu', 'cuda' or 'cuda:<n>'",
    ),
    (optimizer(name="SGD", lr="0,1"), "optimizer.lr: is '0,1', but must be a number"),
    (
        HEAD.replace("0.05", "'1e-3'") + "methods: {m: {}}\n",
        "optimizer.lr: is '1e-3', but must be a number (remove the quotes)",
    ),
    (
        model(name="mlp", hidden_sizes="100, 100"),
        "model.hidden_sizes: is '100, 100', but must be a list",
    ),
    (
        benchmark(name="split_mnist", scenario="class-incremental"),
        "benchmark.scenario: is 'class-incremental', but must be 'class', 'domain' or 'task'",
    ),
    (top(seeds="0-4"), "seeds: is '0-4', but must be an integer or a list"),
    (
        top(name="my table"),
        "name: is 'my table', but must be a folder name: use only letters, digits, '_', '-' and "
        "'.', and do not begin with '-' or '.'",
    ),
    # Names of models, optimizers, benchmarks.
    (optimizer(name="adam"), "optimizer.name: unknown optimizer 'adam' (did you mean 'Adam'?)"),
    (
        optimizer(name="torch.optim.Adam"),
        "optimizer.name: unknown optimizer 'torch.optim.Adam' (did you mean 'Adam'?)",
    ),
    (optimizer(SGD={"lr": 0.1}), "optimizer: has the key 'SGD', but must be {name: SGD, …}"),
    (
        model(name="mlp", hidden_size=[10]),
        "model.hidden_size: unknown key 'hidden_size' (did you mean 'hidden_sizes'?)",
    ),
    (
        training(criterion="cross_entropy"),
        "training.criterion: unknown criterion 'cross_entropy' (did you mean 'CrossEntropyLoss'?)",
    ),
    (
        training(scheduler="StepLR"),
        "training.scheduler.step_size: missing, but 'StepLR' needs it (integer)",
    ),
    (
        model(name="MLP", hidden_sizes=[10]),
        "model.name: unknown model 'MLP' (did you mean 'mlp'?)",
    ),
    (
        model(name="torchvision:resnet81"),
        "model.name: unknown model 'torchvision:resnet81' (did you mean 'torchvision:resnet18'?)",
    ),
    (
        model(name="mlp", hidden_sizes=[10], n_classes=10),
        "model.n_classes: 'n_classes' cannot be set here: it comes from benchmark",
    ),
    (
        benchmark(name="SplitMNIST"),
        "benchmark.name: unknown benchmark 'SplitMNIST' (did you mean 'split_mnist'?)",
    ),
    (
        benchmark(name="avalanche:SplitMnist"),
        "benchmark.name: unknown benchmark 'avalanche:SplitMnist' "
        "(did you mean 'avalanche:SplitMNIST'?)",
    ),
    (
        benchmark(name="split", dataset="MNIST"),
        "benchmark.dataset: unknown dataset 'MNIST' (did you mean 'mnist'?)",
    ),
    # Names of strategies and plugins.
    (
        method(strategy="Replay", args={"mem_size": 10}),
        "methods.m.strategy: unknown strategy 'Replay' (did you mean 'avalanche:Replay'?)",
    ),
    (
        method(strategy={"name": "avalanche:Replay"}),
        'methods.m.strategy: is {"name": "avalanche:Replay"}, but must be a name: its arguments '
        "go into the key 'args'",
    ),
    (
        method(strategy="balanced_replay"),
        "methods.m.strategy: 'balanced_replay' is a plugin, not a strategy: plugins go into the "
        "method's list 'plugins'",
    ),
    (plugin("ber"), f"{PLUGIN}: unknown plugin 'ber' (did you mean the strategy 'BER'?)"),
    (
        plugin("DRL"),
        f"{PLUGIN}: 'DRL' is a strategy, not a plugin: strategies go into the method's key "
        "'strategy'",
    ),
    (
        plugin("EWCPlugin"),
        f"{PLUGIN}: unknown plugin 'EWCPlugin' (did you mean 'avalanche:EWCPlugin'?)",
    ),
    (
        plugin("ewc"),
        f"{PLUGIN}: unknown plugin 'ewc' (did you mean 'online_ewc', 'fisher_spectrum_ewc' or "
        "'kronecker_ewc'?)",
    ),
    # Arguments of strategies and plugins.
    (
        plugin({"drl": {"lambda": 1}}),
        f"{PLUGIN}.drl.lambda: unknown key 'lambda' (did you mean 'lam'?)",
    ),
    (
        plugin({"online_ewc": {"ewc_lambda": 1}}),
        f"{PLUGIN}.online_ewc.ewc_lambda: unknown key 'ewc_lambda' (did you mean 'lam'?)",
    ),
    (
        plugin({"balanced_replay": {"memory_size": 300}}),
        f"{PLUGIN}.balanced_replay.memory_size: unknown key 'memory_size' "
        "(did you mean 'mem_size'?)",
    ),
    (
        method(strategy="avalanche:EWC", args={"ewc_lambda": -1}),
        "methods.m.args.ewc_lambda: is -1, but must be at least 0",
    ),
    (
        method(strategy="avalanche:EWC"),
        "methods.m.args.ewc_lambda: missing, but 'avalanche:EWC' needs it (number)",
    ),
    # The shape of methods and plugins.
    (
        experiment_with(methods={"m": "drl"}),
        "methods.m: is 'drl', but must be a mapping such as {plugins: [drl]}",
    ),
    (
        method(plugins={"drl": {"alpha": 2}}),
        'methods.m.plugins: is {"drl": {"alpha": 2}}, but must be a list: '
        "write '- ' before each plugin",
    ),
    (
        HEAD + "methods:\n  m:\n    plugins:\n      -drl\n",
        "methods.m.plugins: is '-drl', but must be a list: write '- ' before each plugin",
    ),
    (
        HEAD + "methods:\n  m:\n  plugins: [drl]\n",
        "methods.plugins: 'plugins' is where a method's name should be: indent it below its method",
    ),
    (
        HEAD + "methods:\n  m:\n    plugins:\n    - drl:\n      alpha: 2\n",
        f"{PLUGIN}: has the keys 'drl', 'alpha': indent a plugin's arguments below its name",
    ),
    (
        plugin({"name": "drl", "alpha": 2}),
        f"{PLUGIN}: has the keys 'name', 'alpha': write a plugin as its name followed by its "
        "arguments",
    ),
    (
        HEAD + "methods: {m: {plugins: [drl: {alpha:2}]}}\n",
        f"{PLUGIN}.drl.alpha:2: unknown key 'alpha:2' (write 'alpha: 2', with a space)",
    ),
    # YAML.
    (
        HEAD + "methods:\n\tm: {}\n",
        "FOLDER/experiment.yaml:8:1: not valid YAML: found a tab: indent with spaces",
    ),
    (
        HEAD + "methods: {m: {plugins: [drl: {alpha: 2}}}\n",
        "FOLDER/experiment.yaml:7:40: not valid YAML: in [ ], a ',' or the closing ']' is "
        "missing, or a text needs quotes",
    ),
    (
        HEAD + "methods: {m: {strategy: avalanche: Replay}}\n",
        "FOLDER/experiment.yaml:7:34: not valid YAML: in { }, a ',' or the closing '}' is "
        "missing, or a text needs quotes",
    ),
    (
        HEAD + "seeds: 4\nmethods: {m: {}}\n",
        "seeds: duplicate key 'seeds' (on lines 6 and 7)",
    ),
    # Files of one's own.
    (
        plugin("./mine.py"),
        f"{PLUGIN}: './mine.py' cannot be used: FOLDER/mine.py is a file, but must also name "
        "a class or function in it: write './mine.py:Name' (it has MyPlugin)",
    ),
    (
        plugin("./mine.py:MyPlugn"),
        f"{PLUGIN}: './mine.py:MyPlugn' cannot be used: FOLDER/mine.py has no 'MyPlugn' "
        "(did you mean 'MyPlugin'?)",
    ),
    (
        plugin("./mien.py:MyPlugin"),
        f"{PLUGIN}: './mien.py:MyPlugin' cannot be used: FOLDER/mien.py: there is no such file "
        "(did you mean 'mine.py'?)",
    ),
    (
        plugin("./mine.py.MyPlugin"),
        f"{PLUGIN}: unknown plugin './mine.py.MyPlugin' "
        "(for a class in a file write './mine.py:MyPlugin')",
    ),
    (
        plugin("mine:MyPlugin"),
        f"{PLUGIN}: 'mine:MyPlugin' cannot be used: 'mine' is not installed "
        "(for a file next to the YAML, write './mine.py:Name')",
    ),
    (
        plugin({"./mine.py:MyPlugin": {"strenght": 1}}),
        f"{PLUGIN}[\"./mine.py:MyPlugin\"].strenght: unknown key 'strenght' "
        "(did you mean 'strength'?); MyPlugin is at FOLDER/mine.py:4",
    ),
    # Sweeps, claims, baseline, published numbers.
    (
        method(sweep={"lr": [0.1, 0.2]}),
        "methods.m.sweep.lr: unknown key 'lr' (did you mean 'optimizer.lr'?)",
    ),
    (
        method(plugins=["drl"], sweep={"drl.lam": [0.1]}),
        "methods.m.sweep.drl.lam: unknown key 'drl' (did you mean 'plugins[0].drl'?)",
    ),
    (
        method(plugins=["drl"], sweep={"plugins[1].drl.lam": [0.1]}),
        "methods.m.sweep.plugins[1].drl.lam: there is no item 1: 'methods.m.plugins' has 1 item, "
        "counted from 0",
    ),
    (
        method(sweep={"optimizer.lr": 0.1}),
        "methods.m.sweep.optimizer.lr: is 0.1, but must be a list",
    ),
    (top(baseline="Naive"), "baseline: unknown method 'Naive' (did you mean 'naive'?)"),
    (
        top(claims=["naive < drl"]),
        "claims[0]: is 'naive < drl', but must have the form 'method > other', where the method "
        "is claimed to have the higher ACC, or 'method > other in metric'",
    ),
    (
        top(claims=["drl > naive in acc"]),
        "claims[0]: 'acc' is not a metric where higher is better (did you mean 'ACC'?)",
    ),
    (
        top(analyses=["rho_spectrum"]),
        'analyses: is ["rho_spectrum"], but must be a mapping of gradient_diversity, '
        "rho_spectrum or spectrum_analysis to arguments",
    ),
    (
        top(published={"reference": "a paper", "ACC": {"drl": 0.9}}),
        "published.ACC.drl: is 0.9, but must be a mapping: {mean: 0.9}",
    ),
]


@pytest.mark.parametrize(("document", "line"), MISTAKES, ids=[line[:60] for _, line in MISTAKES])
def test_a_mistake_in_a_yaml(document: dict[str, Any] | str, line: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    assert problems_of(document, tmp_path) == [line.replace("FOLDER", str(tmp_path))]


WORDS: list[tuple[str, str]] = [
    # Values after the file.
    ("check x.yaml lr=0.1", "lr: unknown key 'lr' (did you mean 'optimizer.lr'?)"),
    (
        "check x.yaml optimizer.lr = 0.1",
        "'optimizer.lr = 0.1': must have no spaces around '=': write optimizer.lr=0.1",
    ),
    (
        "check x.yaml optimizer.lr= 0.1",
        "'optimizer.lr= 0.1': must have no spaces around '=': write optimizer.lr=0.1",
    ),
    (
        "check x.yaml optimizer.lr:0.1",
        "'optimizer.lr:0.1': must have the form key=value, such as optimizer.lr=0.1",
    ),
    (
        "check x.yaml --optimizer.lr=0.1",
        "avalanche-ext check: unrecognized arguments: --optimizer.lr=0.1 "
        "(did you mean 'optimizer.lr=0.1'?)",
    ),
    ("check x.yaml optimizer.lr=", "optimizer.lr: is null, but must be a number"),
    ("check x.yaml seeds=[0,1", "seeds:1:5: not valid YAML: a bracket or brace is left open"),
    (
        "check x.yaml plugins[0].drl.lam=1",
        "plugins[0].drl.lam: there is no 'plugins' (did you mean 'methods.NAME.plugins'?)",
    ),
    (
        "check x.yaml methods.naive.plugins[0].drl.lam=1",
        "methods.naive.plugins[0].drl.lam: there is no 'methods.naive.plugins': "
        "write methods.naive.plugins=[NAME]",
    ),
    (
        "check x.yaml methods.drl.plugins[1].dlr.lam=1",
        "methods.drl.plugins[1].dlr.lam: 'methods.drl.plugins[1]' has no 'dlr' "
        "(did you mean 'drl'?)",
    ),
    ("check x.yaml y.yaml", "'y.yaml': give one file at a time, then values as key=value"),
    # Files and folders.
    ("check x.yml", "x.yml: no such file (did you mean 'x.yaml'?)"),
    ("check results", "results: is a folder, but must be a YAML file"),
    (
        "report x.yaml",
        "x.yaml: is a file, but must be the folder of an experiment, <out>/<experiment>",
    ),
    (
        "report results",
        "results/record.yaml: no such file; give the folder of an experiment, "
        "<out>/<experiment>, after it has been run (did you mean 'results/small'?)",
    ),
    (
        "report resluts",
        "resluts/record.yaml: no such file; give the folder of an experiment, "
        "<out>/<experiment>, after it has been run",
    ),
    # Commands and options.
    ("chekc x.yaml", "avalanche-ext: unknown command 'chekc' (did you mean 'check'?)"),
    ("x.yaml", "avalanche-ext: unknown command 'x.yaml' (did you mean 'run x.yaml'?)"),
    (
        "run",
        "avalanche-ext run: the following arguments are required: FILE "
        "(see avalanche-ext run --help)",
    ),
    (
        "run x.yaml --job 2",
        "avalanche-ext run: unrecognized arguments: --job 2 (did you mean '--jobs'?)",
    ),
    (
        "run x.yaml --output there",
        "avalanche-ext run: unrecognized arguments: --output there (did you mean '--out'?)",
    ),
    (
        "check x.yaml --jobs 2",
        "avalanche-ext check: unrecognized arguments: --jobs 2 (only 'run' has it)",
    ),
    (
        "run x.yaml --device cuda:0",
        "avalanche-ext run: unrecognized arguments: --device cuda:0 (did you mean '--devices'?)",
    ),
    (
        "run x.yaml --seeds many",
        "avalanche-ext run: argument --seeds: is 'many', but must be a positive integer "
        "(see avalanche-ext run --help)",
    ),
    ("run x.yaml --methods dlr --dry-run", "--methods: unknown method 'dlr' (did you mean 'drl'?)"),
    ("list dlr", "dlr: unknown name (did you mean 'drl'?)"),
    (
        "list avalanche:EWCPlugn",
        "avalanche:EWCPlugn: unknown name (did you mean 'avalanche:EWCPlugin'?)",
    ),
]


@pytest.mark.parametrize(("words", "line"), WORDS, ids=[words for words, _ in WORDS])
def test_a_mistake_on_the_command_line(
    words: str,
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    written(EXPERIMENT, tmp_path).rename(tmp_path / "x.yaml")
    (tmp_path / "results" / "small").mkdir(parents=True)
    (tmp_path / "results" / "small" / "record.yaml").touch()
    monkeypatch.chdir(tmp_path)
    try:
        code = main(words.split())
    except SystemExit as error:
        code = int(error.code or 0)
    said = capsys.readouterr()
    assert (code, said.out, said.err) == (2, "", f"{line}\n")


def test_what_only_looks_like_a_mistake(tmp_path: Path) -> None:
    """A number as YAML 1.2 has it, a file without './', a method called yes, a bare scheduler."""
    (tmp_path / "mine.py").write_text(MINE)
    text = HEAD.replace("0.05", "1e-3").replace("batch_size", "scheduler: PolynomialLR, batch_size")
    text += "methods: {yes: {plugins: ['mine.py:MyPlugin']}}\n"
    experiment = loaded(text, tmp_path)
    assert experiment.optimizer.args["lr"] == 1e-3
    assert [*experiment.methods] == ["yes"]
