from __future__ import annotations

from pathlib import Path

import pytest

from avalanche_ext.config import load_experiment
from tests.config.cases import EXPERIMENT, experiment_with, loaded, problems_of, written


def test_values_are_written_over_what_the_file_says(tmp_path: Path) -> None:
    experiment = loaded(
        EXPERIMENT,
        tmp_path,
        "optimizer.lr=1e-3",
        "methods.drl.plugins[1].drl.alpha=0.5",
        "seeds=[4, 2]",
        "model.hidden_sizes[1]=7",
        "wandb.mode=disabled",
    )
    assert experiment.optimizer.args == {"lr": 0.001}
    assert experiment.methods["drl"].plugins[1].args["alpha"] == 0.5
    assert experiment.seeds == (4, 2)
    assert experiment.model.args["hidden_sizes"] == [100, 7]
    assert experiment.wandb.mode == "disabled"


def test_the_last_of_two_counts(tmp_path: Path) -> None:
    experiment = loaded(EXPERIMENT, tmp_path, "optimizer.lr=0.5", "optimizer.lr=0.25")
    assert experiment.optimizer.args["lr"] == 0.25


def test_arguments_can_be_given_to_what_the_file_has_as_a_bare_name(tmp_path: Path) -> None:
    document = experiment_with(methods={"ber": {"plugins": ["balanced_replay"]}})
    path = "methods.ber.plugins[0].balanced_replay.mem_size"
    experiment = loaded(document, tmp_path, f"{path}=50")
    assert experiment.methods["ber"].plugins[0].args["mem_size"] == 50


def test_a_section_that_is_a_bare_name_keeps_it(tmp_path: Path) -> None:
    document = experiment_with(benchmark="split_digits")
    experiment = loaded(document, tmp_path, "benchmark.n_experiences=2")
    assert experiment.benchmark.name == "split_digits"
    assert experiment.benchmark.args["n_experiences"] == 2


def test_a_method_may_have_dots_in_its_name(tmp_path: Path) -> None:
    document = experiment_with(methods={"er": None, "er-1.5": None})
    experiment = loaded(document, tmp_path, "methods.er-1.5.optimizer.lr=0.5")
    assert experiment.methods["er-1.5"].optimizer.args["lr"] == 0.5
    assert experiment.methods["er"].optimizer.args["lr"] == 0.05


def test_n_seeds_counts_from_zero_whatever_the_file_says(tmp_path: Path) -> None:
    path = written(experiment_with(seeds=[7, 9]), tmp_path)
    assert load_experiment(path, n_seeds=3).seeds == (0, 1, 2)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("lr", "'lr': must have the form key=value, such as optimizer.lr=0.1"),
        ("=3", "'=3': must have the form key=value, such as optimizer.lr=0.1"),
        (
            "optimizer.lr='1e-3'",
            "optimizer.lr: is '1e-3', but must be a number (remove the quotes)",
        ),
        ("optimizer.lr=.nan", "optimizer.lr: is .nan, but must be a finite number"),
        ("optimizer.lr.x=1", "optimizer.lr.x: 'optimizer.lr' is 0.05, which has no keys"),
        ("optimiser.lr=1", "optimiser: unknown key 'optimiser' (did you mean 'optimizer'?)"),
        (
            "methods.drl.plugins[2].drl.lam=1",
            "methods.drl.plugins[2].drl.lam: there is no item 2: "
            "'methods.drl.plugins' has 2 items, counted from 0",
        ),
        ("methods[0]=1", "methods[0]: 'methods' is not a list"),
        (
            "methods.drl.plugins[1].dlr.lam=1",
            "methods.drl.plugins[1].dlr.lam: 'methods.drl.plugins[1]' has no 'dlr' "
            "(did you mean 'drl'?)",
        ),
        (
            "methods.naive.plugins[0]=drl",
            "methods.naive.plugins[0]: there is no 'methods.naive.plugins': "
            "write methods.naive.plugins=[NAME]",
        ),
        ("optimizer..lr=1", "optimizer..lr: not a path such as 'optimizer.lr' or 'plugins[0].drl'"),
        ("seeds=[1", "seeds:1:3: not valid YAML:"),
        (
            "6]",
            "'6]': must have the form key=value; quote values with spaces: "
            "'model.hidden_sizes=[5, 6]'",
        ),
        (
            "methods.drl.plugins[1].drl.alhpa=1",
            "methods.drl.plugins[1].drl.alhpa: unknown key 'alhpa' (did you mean 'alpha'?)",
        ),
    ],
)
def test_what_cannot_be_applied_is_named(override: str, line: str, tmp_path: Path) -> None:
    (found,) = problems_of(EXPERIMENT, tmp_path, override)
    assert found.startswith(line) if line.endswith("YAML:") else found == line


def test_all_overrides_are_checked_at_once(tmp_path: Path) -> None:
    problems = problems_of(EXPERIMENT, tmp_path, "lr", "optimizer.lr=x", "training.batch_size=0")
    assert [line.split(":")[0] for line in problems] == [
        "'lr'",
        "optimizer.lr",
        "training.batch_size",
    ]
