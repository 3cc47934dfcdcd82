"""The section `tune`, and what `check` says of it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from avalanche_ext.config import load_experiment, notes
from avalanche_ext.config.tune import chosen, tuning_stage
from avalanche_ext.results.files import as_yaml
from avalanche_ext.results.tune import Choice, Tried
from tests.config.cases import EXPERIMENT, LAM, experiment_with, loaded, problems_of, written

LRS = [0.01, 0.1]
TUNE: dict[str, Any] = {
    "experiences": 2,
    "validation_per_experience": 40,
    "seeds": 2,
    "search": {"drl": {LAM: [1e-4, 1e-3], "optimizer.lr": LRS}},
}


def tuned(**changed: Any) -> dict[str, Any]:
    """The small experiment with a search, some of whose keys are replaced."""
    return experiment_with(tune={**TUNE, **changed})


def searched(search: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return tuned(search=search, **changed)


def decided(document: dict[str, Any], folder: Path, **choices: str) -> Any:
    """The experiment with settings that are chosen by hand, by method."""
    experiment = loaded(document, folder)
    assert experiment.tuning is not None
    made = [
        Choice(
            method=method,
            metric="ACC",
            experiences=2,
            validation_per_experience=40,
            sampler="grid",
            seeds=[10_000],
            searched={},
            tried={name: Tried({}, {10_000: 1.0})},
            chosen=name,
        )
        for method, name in choices.items()
    ]
    return chosen(experiment, made)


def test_a_grid_has_every_combination_and_no_cell_runs_before_the_choice(tmp_path: Path) -> None:
    experiment = loaded(tuned(), tmp_path)
    assert experiment.tuning is not None
    search = experiment.tuning.searches["drl"]
    assert [*search.settings] == [
        "drl-0.0001-0.01",
        "drl-0.0001-0.1",
        "drl-0.001-0.01",
        "drl-0.001-0.1",
    ]
    third = search.settings["drl-0.001-0.01"]
    assert third.values == {LAM: 1e-3, "optimizer.lr": 0.01}
    assert third.method.plugins[1].args["lam"] == 1e-3
    assert third.method.optimizer.args["lr"] == 0.01
    assert {cell.method_name for cell in experiment.cells()} == {"naive", "replay"}


def test_the_search_has_seeds_samples_and_a_folder_of_its_own(tmp_path: Path) -> None:
    experiment = loaded(tuned(), tmp_path)
    stage = tuning_stage(experiment, {"drl": ["drl-0.001-0.01"]})
    first, second = stage.cells()
    assert (first.seed, second.seed) == (10_000, 10_001)
    assert first.directory(tmp_path) == tmp_path / "small-tuning/drl-0.001-0.01/seed-10000"
    assert first.resolved()["validation"] == {"experiences": 2, "per_experience": 40}
    assert first.resolved()["split"] == first.split == stage.summary()["split"] == "validation"
    assert loaded(tuned(seeds=[7, 9]), tmp_path).tuning.seeds == (7, 9)


def test_the_yamls_of_both_stages_give_the_same_cells(tmp_path: Path) -> None:
    document = tuned() | {
        "analyses": {"rho_spectrum": {}},
        "claims": ["drl > naive"],
        "evaluate": {"every": 5},
        "published": {"reference": "1e-3", "ACC": {"naive": {"mean": 0.5}}},
        "wandb": {"tags": ["010"]},
    }
    whole = loaded(as_yaml(document), tmp_path)
    assert whole.tuning is not None
    stage = tuning_stage(whole, {"drl": [*whole.tuning.searches["drl"].settings]})
    for experiment in (whole, stage):
        path = tmp_path / "kept.yaml"
        path.write_text(experiment.yaml(), "utf-8")
        again = load_experiment(path)
        assert [cell.resolved() for cell in again.cells()] == [
            cell.resolved() for cell in experiment.cells()
        ]
        assert (again.claims, again.published) == (experiment.claims, experiment.published)
        assert (again.tuning, again.baseline) == (experiment.tuning, experiment.baseline)


def test_the_chosen_cell_has_the_hash_of_the_same_cell_written_by_hand(tmp_path: Path) -> None:
    analyses = {"rho_spectrum": {"n_samples": 50}}
    tuning = {**tuned(), "analyses": analyses}
    (cell,) = (
        c
        for c in decided(tuning, tmp_path, drl="drl-0.001-0.1").cells()
        if c.method_name == "drl" and c.seed == 1
    )
    drl = {
        "plugins": [EXPERIMENT["methods"]["drl"]["plugins"][0], {"drl": {"alpha": 2, "lam": 1e-3}}],
        "optimizer": {"lr": 0.1},
    }
    by_hand = loaded(experiment_with(methods={"drl": drl}, analyses=analyses), tmp_path)
    assert cell.hash == by_hand.cells()[1].hash
    assert "split" not in cell.resolved()
    stage = tuning_stage(loaded(tuning, tmp_path), {"drl": ["drl-0.001-0.1"]})
    assert [p.name for p in stage.methods["drl-0.001-0.1"].plugins] == ["balanced_replay", "drl"]


def test_a_part_of_the_search_may_be_decided(tmp_path: Path) -> None:
    both = searched({"drl": {LAM: [1e-4]}, "naive": {"optimizer.lr": LRS}})
    experiment = decided(both, tmp_path, drl="drl-0.0001")
    assert experiment.undecided == ("naive",)
    assert {cell.method_name for cell in experiment.cells()} == {"drl", "replay"}
    hashes = experiment.summary()["hashes"]
    assert set(hashes["naive"].values()) == {"undecided"}
    assert "undecided" not in hashes["drl"].values()


def test_values_may_be_lists_and_names(tmp_path: Path) -> None:
    search = {"naive": {"model.hidden_sizes": [[8], [16, 16]], "model.hidden_sizes[0]": [4, 5]}}
    experiment = loaded(searched(search), tmp_path)
    assert experiment.tuning is not None
    settings = experiment.tuning.searches["naive"].settings
    assert settings["naive-16x16-5"].method.model.args["hidden_sizes"] == [5, 16]
    named = loaded(searched({"naive": {"optimizer.name": ["SGD", "torch.optim:SGD"]}}), tmp_path)
    assert [*named.tuning.searches["naive"].settings] == ["naive-SGD", "naive-torch.optim_SGD"]


def test_the_ends_that_no_value_can_lie_beyond_are_known(tmp_path: Path) -> None:
    search = {
        "drl": {LAM: [0, 1e-3], "optimizer.momentum": [0.0, 0.9], "training.batch_size": [1, 8]},
        "naive": {"optimizer.lr": LRS, "model.hidden_sizes": [[1], [8]], "training.epochs": [2, 3]},
    }
    tuning = loaded(searched(search), tmp_path).tuning
    assert tuning is not None
    bounds = {name: {**each.bounds} for name, each in tuning.searches.items()}
    assert bounds == {
        "drl": {each: ["smallest"] for each in search["drl"]},
        "naive": {"optimizer.lr": [], "training.epochs": []},
    }


def test_check_notes_what_any_setting_hardly_means(tmp_path: Path) -> None:
    search = {"naive": {"optimizer.lr": [0.1, 20.0], "training.batch_size": [8, 5000]}}
    sized = {**EXPERIMENT["benchmark"], "train_size": 100}
    assert notes(loaded({**searched(search), "benchmark": sized}, tmp_path)) == [
        "tune.search.naive.training.batch_size: is 5000, but benchmark.train_size is 100: each "
        "mini-batch has 100 samples of the stream",
        "tune.search.naive.optimizer.lr: is 20, too large for almost any model to learn",
    ]


def test_random_settings_are_drawn_once_by_the_first_seed(tmp_path: Path) -> None:
    search = {
        "naive": {
            "optimizer.lr": [i / 1000 for i in range(1, 200)],
            "training.batch_size": [*range(1, 200)],
        }
    }

    def drawn(**changed: Any) -> list[str]:
        tuning = loaded(searched(search, sampler="random", **changed), tmp_path).tuning
        return [*tuning.searches["naive"].settings]

    assert len({*drawn(trials=6)}) == 6
    assert drawn(trials=4) == drawn(trials=6)[:4]
    assert drawn(trials=4, seeds=[1234]) != drawn(trials=4)
    few = searched({"naive": {"optimizer.lr": LRS}}, sampler="random", trials=40)
    assert len(loaded(few, tmp_path).tuning.searches["naive"].settings) == 2


def test_a_validation_part_can_be_given_by_hand_and_counts_in_the_hash(tmp_path: Path) -> None:
    validation = {"experiences": 2, "per_experience": 40}
    held_out = loaded(experiment_with(validation=validation), tmp_path)
    (cell, *_), (plain, *_) = held_out.cells(), loaded(experiment_with(), tmp_path).cells()
    assert cell.hash != plain.hash
    assert (cell.split, plain.split) == ("validation", "test")
    by_size = experiment_with(benchmark={**EXPERIMENT["benchmark"], "validation_size": 100})
    assert loaded(by_size, tmp_path).split == "validation"
    files = cell.files(tmp_path)
    files.begin()
    (again,) = load_experiment(files.folder / "config.yaml").cells()
    assert (again.hash, again.split) == (cell.hash, "validation")


def test_a_search_can_be_changed_on_the_command_line(tmp_path: Path) -> None:
    path = written(tuned(), tmp_path)
    changed = load_experiment(
        path, ["tune.search.drl.optimizer.lr=[0.5]", "tune.search.naive.model.hidden_sizes=[[4]]"]
    )
    assert changed.tuning is not None
    assert [*changed.tuning.searches["drl"].settings] == ["drl-0.0001-0.5", "drl-0.001-0.5"]
    assert [*changed.tuning.searches["naive"].settings] == ["naive-4"]


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        (
            {"search": {"drl": {"optimizer.lrr": LRS}}},
            "tune.search.drl.optimizer.lrr: unknown key 'lrr' (did you mean 'lr'?)",
        ),
        (
            {"search": {"naive": {LAM: [1e-4]}}},
            f"tune.search.naive.{LAM}: there is no 'methods.naive.plugins': "
            "write methods.naive.plugins=[NAME]",
        ),
        (
            {"search": {"drl": {LAM: [1e-4], "plugins[2].drl.lam": [1]}}},
            "tune.search.drl.plugins[2].drl.lam: there is no item 2: 'methods.drl.plugins' has 2 "
            "items, counted from 0",
        ),
        (
            {"search": {"drl": {LAM: []}}},
            f"tune.search.drl.{LAM}: is [], but must have at least one item",
        ),
        (
            {"search": {"naive": {"training.clip_grad_norm": [1.0, None]}}},
            "tune.search.naive.training.clip_grad_norm[1]: is null, but must be a number, true, "
            "false, text or a list",
        ),
        (
            {"search": {"naive": {"optimizer": [{"name": "Adam"}]}}},
            'tune.search.naive.optimizer[0]: is {"name": "Adam"}, but must be a number, true, '
            "false, text or a list",
        ),
        (
            {"search": {"drl": {LAM: [1e-4, "x"], "optimizer.lr": LRS}}},
            f"tune.search.drl.{LAM}[1]: is 'x', but must be a number",
        ),
        (
            {"search": {"dlr": {LAM: [1e-4]}}},
            "tune.search.dlr: unknown method 'dlr' (did you mean 'drl'?)",
        ),
        ({"experiences": 6}, "tune.experiences: is 6, but 'split_digits' has 5 experiences"),
        (
            {"seeds": [2, 5]},
            "tune.seeds: has 2, which the experiment has too: tune with other seeds",
        ),
        (
            {"metric": "acc"},
            "tune.metric: is 'acc', but must be one of ACC, average_incremental_accuracy, "
            "instance_accuracy, BWT, FWT, learning_accuracy, forgetting (did you mean 'ACC'?)",
        ),
        (
            {"metric": "loss"},
            "tune.metric: is 'loss', but must be one of ACC, average_incremental_accuracy, "
            "instance_accuracy, BWT, FWT, learning_accuracy, forgetting",
        ),
        (
            {"metric": "intransigence"},
            "tune.metric: is 'intransigence', which is relative to the best of the compared "
            "methods, so it cannot rank settings: use learning_accuracy",
        ),
        (
            {"metric": "BWT", "experiences": 1},
            "tune.metric: is 'BWT', but tune.experiences is 1, and it needs at least 2",
        ),
        (
            {"metric": "BWT", "search": {"drl": {"training.iid": [True, False]}}},
            "tune.metric: is 'BWT', but drl has only ACC and instance_accuracy: training.iid is "
            "true",
        ),
        (
            {"trials": 5},
            "tune.trials: is 5, but the sampler 'grid' tries every setting: leave it out, or use "
            "the sampler random or tpe",
        ),
        (
            {"sampler": "random"},
            "tune.trials: missing, but the sampler 'random' needs it (how many settings to try)",
        ),
        (
            {
                "search": {
                    "naive": {"optimizer.lr": [*range(40)], "training.epochs": [*range(1, 41)]}
                }
            },
            "tune.search.naive: has 1,600 settings, but at most 1,000 can be searched: shorten "
            "the lists, or use the sampler random",
        ),
    ],
)
def test_a_wrong_search_is_refused(tmp_path: Path, changed: dict[str, Any], problem: str) -> None:
    assert problems_of(tuned(**changed), tmp_path) == [problem]


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    small = {**EXPERIMENT["benchmark"], "train_size": 40}
    assert problems_of({**tuned(), "benchmark": small}, tmp_path) == [
        "tune.validation_per_experience: is 40, but must be below benchmark.train_size, which is "
        "40: the rest is trained on"
    ]
    held_out = {**EXPERIMENT["benchmark"], "validation_size": 40}
    assert problems_of({**tuned(), "benchmark": held_out}, tmp_path) == [
        "benchmark.validation_size: is 40, but 'tune' holds out samples itself: leave it out"
    ]
    assert problems_of(
        {**tuned(), "validation": {"experiences": 1, "per_experience": 5}}, tmp_path
    ) == ["validation: has no effect with 'tune', which has held-out samples of its own"]
    sweep = {"drl": {**EXPERIMENT["methods"]["drl"], "sweep": {"optimizer.lr": [1]}}}
    assert problems_of({**tuned(), "methods": sweep, "baseline": None}, tmp_path) == [
        "tune.search.drl: 'drl' has a sweep: leave out the sweep or the search"
    ]
    memory = {"drl": {"plugins[0].balanced_replay.mem_size": [5, 50], LAM: [1, 2]}}
    (problem,) = problems_of(searched(memory), tmp_path)
    assert problem.startswith(
        "tune.search.drl.plugins[0].balanced_replay.mem_size[0]: is 5, but must"
    )


def test_settings_that_do_not_fit_each_other_are_named(tmp_path: Path) -> None:
    mir = {"plugins": [{"mir": {"mem_size": 100}}]}
    search = {
        "mir": {"plugins[0].mir.n_candidates": [50, 10], "plugins[0].mir.batch_size": [5, 20]}
    }
    document = {**searched(search), "methods": {"mir": mir}}
    assert problems_of(document, tmp_path) == [
        "methods.mir.plugins[0].mir.n_candidates: is 10, but must be at least batch_size, which "
        "is 20 (when plugins[0].mir.n_candidates is 10 and plugins[0].mir.batch_size is 20)"
    ]


def test_paths_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    search = {"drl": {"plugins": [["drl"]], LAM: [1e-4]}}
    assert problems_of(searched(search), tmp_path) == [
        "tune.search.drl: there is no item 1: 'methods.drl.plugins' has 1 item, counted from 0"
    ]
    (problem,) = problems_of({**tuned(), "name": "x" * 250}, tmp_path)
    assert problem == (
        "name: has 250 characters, but with 'tune' at most 248: the search adds '-tuning'"
    )


def test_a_problem_of_what_all_methods_share_is_said_once(tmp_path: Path) -> None:
    document = tuned()
    document["optimizer"]["name"] = "SGDD"
    (problem,) = problems_of(document, tmp_path)
    assert problem.startswith("optimizer.name: unknown optimizer 'SGDD'")


def test_tpe_needs_optuna(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "optuna" else find(name, *a)
    )
    assert problems_of(tuned(sampler="tpe", trials=3), tmp_path) == [
        "tune.sampler: is 'tpe', but Optuna is not installed: pip install 'avalanche-ext[tune]'"
    ]
