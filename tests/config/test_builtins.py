"""The states of Avalanche's strategies and plugins: what is refused, noted and listed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from avalanche_ext import cli
from avalanche_ext.config import list_catalogue, notes
from avalanche_ext.config.builtins import BUILT_INS
from avalanche_ext.config.catalogue import AVALANCHE, Kind, entries
from tests.config.cases import experiment_with, loaded, problems_of, written


def names(kind: Kind, *states: str) -> list[str]:
    """The names of Avalanche's strategies or plugins that are in one of the states."""
    theirs = [name for name in entries(kind) if name.startswith(AVALANCHE)]
    return [n for n in theirs if BUILT_INS[n.removeprefix(AVALANCHE)].state in states]


def one_method(kind: Kind, name: str, args: Any = None, **sections: Any) -> dict[str, Any]:
    """An experiment with one method: Avalanche's strategy or plugin."""
    method = {"strategy": name} if kind == "strategy" else {"plugins": [{name: args}]}
    if kind == "strategy" and args:
        method["args"] = args
    return experiment_with(methods={"m": method}, **sections)


def test_each_of_avalanches_has_a_state_and_nothing_else_has() -> None:
    theirs = {*entries("plugin"), *entries("strategy")}
    assert {f"{AVALANCHE}{name}" for name in BUILT_INS} == {
        name for name in theirs if name.startswith(AVALANCHE)
    }


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in ("plugin", "strategy") for name in names(kind, "refused")],
)
def test_what_cannot_be_used_is_refused_with_the_reason(
    kind: Kind, name: str, tmp_path: Path
) -> None:
    where = "strategy" if kind == "strategy" else "plugins[0]"
    (problem,) = problems_of(one_method(kind, name), tmp_path)
    reason = BUILT_INS[name.removeprefix(AVALANCHE)].remark
    assert problem == f"methods.m.{where}: '{name}' cannot be used: it {reason}"


@pytest.mark.parametrize("name", [name for name, known in BUILT_INS.items() if known.remark])
def test_remarks_name_only_what_there_is(name: str) -> None:
    known = {*entries("plugin"), *entries("strategy")}
    for quoted in re.findall(r"'([\w:]+)'", BUILT_INS[name].remark):
        assert quoted in known
        recommended = BUILT_INS.get(quoted.removeprefix(AVALANCHE), BUILT_INS["Naive"])
        assert recommended.state in ("works", "adapted")


def test_one_that_is_the_same_as_naive_is_refused_with_one_that_is_not(tmp_path: Path) -> None:
    si = {"avalanche:SynapticIntelligencePlugin": {"si_lambda": 1}}
    ours = {"synaptic_intelligence": None}
    assert len(problems_of(experiment_with(methods={"m": {"plugins": [si]}}), tmp_path)) == 1
    loaded(experiment_with(methods={"m": {"plugins": [ours]}}), tmp_path)


MULTI_HEAD: dict[str, Any] = {
    "benchmark": {"name": "split_digits", "n_experiences": 5, "scenario": "task"},
    "model": {"name": "mlp", "hidden_sizes": [100], "multi_head": True},
}


def test_what_calls_the_model_without_task_labels_needs_one_head(tmp_path: Path) -> None:
    assert problems_of(one_method("strategy", "avalanche:DER", **MULTI_HEAD), tmp_path) == [
        "methods.m.strategy: 'avalanche:DER' needs a model with one head: set model.multi_head to "
        "false, or leave the method out"
    ]
    loaded(one_method("strategy", "avalanche:DER"), tmp_path)
    rar = {"batch_size_mem": 5}
    assert problems_of(
        one_method("plugin", "avalanche:RARPlugin", rar, **MULTI_HEAD), tmp_path
    ) == [
        "methods.m.plugins[0]: 'avalanche:RARPlugin' needs a model with one head: set "
        "model.multi_head to false, or leave the method out"
    ]


def test_what_gives_the_model_task_labels_needs_heads(tmp_path: Path) -> None:
    assert problems_of(one_method("strategy", "avalanche:LaMAML"), tmp_path) == [
        "methods.m.strategy: 'avalanche:LaMAML' needs a model with heads: set model.multi_head to "
        "true, or leave the method out"
    ]
    loaded(one_method("strategy", "avalanche:LaMAML", **MULTI_HEAD), tmp_path)


@pytest.mark.parametrize(
    ("batch_size", "args", "n_parts"),
    [(4, {}, 4), (8, {}, 4), (6, {}, 3), (7, {"n_inner_updates": 6}, 4)],
)
def test_the_inner_updates_of_la_maml_have_samples(
    batch_size: int, args: dict[str, int], n_parts: int, tmp_path: Path
) -> None:
    def document(batch_size: int, args: dict[str, int]) -> dict[str, Any]:
        sections = {**MULTI_HEAD, "training": {"batch_size": batch_size}}
        return one_method("strategy", "avalanche:LaMAML", args, **sections)

    n_updates = args.get("n_inner_updates", 5)
    (problem,) = problems_of(document(batch_size, args), tmp_path)
    assert problem == (
        f"methods.m.args.n_inner_updates: is {n_updates}, but a mini-batch of {batch_size} makes "
        f"only {n_parts} parts of {-(-batch_size // n_updates)}: give {n_parts}, or a multiple of "
        f"{n_updates} as training.batch_size"
    )
    loaded(document(batch_size, {"n_inner_updates": n_parts}), tmp_path)
    loaded(document(2 * n_updates, args), tmp_path)


def test_la_maml_that_would_train_on_nothing_is_refused(tmp_path: Path) -> None:
    benchmark = {**MULTI_HEAD["benchmark"], "train_size": 9}
    sections = {**MULTI_HEAD, "benchmark": benchmark}
    (problem,) = problems_of(one_method("strategy", "avalanche:LaMAML", **sections), tmp_path)
    assert problem == (
        "methods.m.strategy: 'avalanche:LaMAML' trains on whole mini-batches only, but "
        "training.batch_size is 10 and benchmark.train_size 9: give a smaller batch_size"
    )


def test_an_argument_whose_default_fails_is_missing(tmp_path: Path) -> None:
    greedy = "avalanche:GSS_greedyPlugin"
    assert problems_of(one_method("plugin", greedy, {"mem_size": 50}), tmp_path) == [
        f"methods.m.plugins[0].{greedy}.input_size: missing, but '{greedy}' needs it (the shape of "
        "a sample, such as [1, 28, 28])"
    ]
    loaded(one_method("plugin", greedy, {"input_size": [1, 8, 8]}), tmp_path)


def test_packnet_needs_an_epoch_before_it_prunes_and_weights_that_stay(tmp_path: Path) -> None:
    pruned = {"post_prune_epochs": 2, "prune_proportion": 0.5}
    packnet = {"strategy": "avalanche:PackNet", "args": pruned}
    scenario = {"benchmark": MULTI_HEAD["benchmark"]}
    optimizer = {"name": "SGD", "lr": 0.1, "weight_decay": 0.1}
    wrong = {**packnet, "training": {"epochs": 2}, "optimizer": optimizer}
    assert problems_of(experiment_with(methods={"m": wrong}, **scenario), tmp_path) == [
        "methods.m.args.post_prune_epochs: is 2, but must be less than training.epochs, which is 2",
        "methods.m.optimizer.weight_decay: is 0.1, but must be 0 with 'avalanche:PackNet', whose "
        "frozen weights it would shrink",
    ]
    right = {**packnet, "plugins": ["rho_spectrum"], "training": {"epochs": 3}}
    loaded(experiment_with(methods={"m": right}, **scenario), tmp_path)
    assert problems_of(experiment_with(methods={"m": right}), tmp_path) == [
        "methods.m.strategy: 'avalanche:PackNet' does not work with benchmark.scenario 'class': "
        "set it to 'task', or leave the method out"
    ]


@pytest.mark.parametrize("kind", ["strategy", "plugin"])
def test_the_memory_of_gss_greedy_holds_a_mini_batch_with_its_replay(
    kind: Kind, tmp_path: Path
) -> None:
    name = "avalanche:GSS_greedy" if kind == "strategy" else "avalanche:GSS_greedyPlugin"
    where = "args" if kind == "strategy" else f"plugins[0].{name}"
    args = {"input_size": [1, 8, 8], "mem_size": 41}
    assert problems_of(one_method(kind, name, args), tmp_path) == [
        f"methods.m.{where}.mem_size: is 41, but must be at least 42: '{name}' replays 32 samples "
        "in addition to the 10 of training.batch_size"
    ]
    loaded(one_method(kind, name, {**args, "mem_size": 42}), tmp_path)


EWC = {"plugins": [{"avalanche:EWCPlugin": {"ewc_lambda": 1}}]}


def test_what_is_wrong_in_avalanche_is_noted_once_for_all_methods_that_use_it(
    tmp_path: Path,
) -> None:
    swept = {**EWC, "sweep": {"plugins[0].avalanche:EWCPlugin.ewc_lambda": [1, 10]}}
    methods = {"a": EWC, "b": {"plugins": ["drl"]}, "c": swept, "d": {"strategy": "avalanche:DER"}}
    (note,) = notes(loaded(experiment_with(methods=methods), tmp_path))
    assert note == f"methods.a, methods.c: 'avalanche:EWCPlugin' {BUILT_INS['EWCPlugin'].remark}"
    assert notes(loaded(experiment_with(), tmp_path)) == []


def test_check_prints_notes_and_is_content(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(experiment_with(methods={"ewc": EWC}), tmp_path)
    assert cli.main(["check", str(path)]) == 0
    out, errors = capsys.readouterr()
    assert out.endswith("no problems\n")
    assert errors.startswith("note: methods.ewc: 'avalanche:EWCPlugin' squares the gradient")
    assert errors.count("\n") == 1


def test_the_list_groups_avalanches_by_state() -> None:
    text = " ".join(list_catalogue().split())
    for kind in ("plugin", "strategy"):
        for states in (["works"], ["adapted"], ["wrong"], ["refused"]):
            assert ", ".join(names(kind, *states)) in text


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("avalanche:Naive", "It works."),
        ("avalanche:DER", "It works only with model.multi_head false."),
        ("avalanche:EWC", "It runs, but it squares the gradient of each mini-batch's mean"),
        ("avalanche:SynapticIntelligence", "Refused: it is the same as avalanche:Naive bit"),
    ],
)
def test_the_list_says_of_one_how_it_fares(name: str, sentence: str) -> None:
    assert sentence in " ".join(list_catalogue([name]).split())
