"""Searches for hyper-parameters on validation samples, with real cells."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection

from avalanche_ext.config import Experiment, load_experiment
from avalanche_ext.report.csv_table import csv_table
from avalanche_ext.report.statistics import method_statistics
from avalanche_ext.report.table import text_table
from avalanche_ext.results.experiment import read_results
from avalanche_ext.results.tune import Tried
from avalanche_ext.runner import PreflightError, Selection, explain, grid, run_experiment, tune
from avalanche_ext.runner import cell as cell_room
from avalanche_ext.runner.plan import EVERYTHING
from avalanche_ext.runner.preflight import check_here
from avalanche_ext.runner.tpe import JOURNAL, propose
from tests.runner.cases import SMALL, experiment

LR = "optimizer.lr"
TUNE: dict[str, Any] = {
    "experiences": 2,
    "validation_per_experience": 20,
    "seeds": 1,
    "search": {"ber": {LR: [0.001, 0.1]}},
}


class Here:
    """An engine whose calls run at once, in this process."""

    died: tuple[type[Exception], ...] = ()
    is_here = True
    imports_first = False

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*args))
        return future


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "engine", lambda *args, **options: Here())


def tuned(folder: Path, **changed: Any) -> Experiment:
    """The small experiment with one seed and a search, some of whose keys are replaced."""
    return experiment(folder, tune={**TUNE, **changed}, seeds=1)


def counts(outcome: grid.GridOutcome) -> tuple[int, int, int]:
    return outcome.n_completed, outcome.n_failed, outcome.n_done_before


def text_of(folder: Path) -> str:
    """The report's text of an experiment's folder."""
    results = read_results(folder)
    return text_table(results, method_statistics(results))


def test_the_methods_run_with_what_is_chosen_on_validation_samples(tmp_path: Path) -> None:
    searching, out = tuned(tmp_path), tmp_path / "out"
    planned = explain(searching, out, EVERYTHING)
    assert "small-tuning: 2 of 2 cells would run" in planned
    assert "small: its cells wait for the search to end" in planned
    assert counts(run_experiment(searching, out, verbosity=-1)) == (4, 0, 0)

    config = yaml.safe_load((out / "small/ber/seed-0/config.yaml").read_text())
    assert config["optimizer"]["args"] == {"lr": 0.1}
    by_hand = experiment(
        tmp_path, methods={"ber": {**SMALL["methods"]["ber"], "optimizer": {"lr": 0.1}}}
    )
    assert config["hash"] == by_hand.cells()[0].hash
    split = {
        path.relative_to(out).parts[0]: json.loads(path.read_text())["split"]
        for path in out.glob("*/*/*/result.json")
    }
    assert split == {"small": "test", "small-tuning": "validation"}
    sizes = json.loads((out / "small-tuning/ber-0.1/seed-10000/result.json").read_text())
    assert sizes["test_sizes"] == [20, 20]

    (choice,) = read_results(out / "small").choices
    assert choice.values == {LR: 0.1}
    assert [*choice.tried] == ["ber-0.001", "ber-0.1"]
    text = " ".join(text_of(out / "small").split())
    assert "chosen by ACC (higher is better) on VALIDATION samples: 20 held out from each" in text
    assert "ber's lr is the largest value tried (0.001, 0.1)" in text
    held_out = read_results(out / "small-tuning")
    assert "held-out VALIDATION samples" in text_of(held_out.folder).splitlines()[0]
    assert ",validation,ber-0.1," in csv_table([(held_out, method_statistics(held_out))])

    assert counts(run_experiment(searching, out, verbosity=-1)) == (0, 0, 4)
    assert "small: 0 of 2 cells would run" in explain(searching, out, EVERYTHING)
    one = Selection(methods=["naive"])
    assert counts(run_experiment(searching, out, selection=one, verbosity=-1)) == (0, 0, 1)
    assert [each.method for each in read_results(out / "small").choices] == ["ber"]
    again = Selection(rerun=["ber"])
    assert counts(run_experiment(searching, out, selection=again, verbosity=-1)) == (3, 0, 1)


def test_a_shard_runs_what_is_left_of_the_search_and_its_part_of_the_rest(tmp_path: Path) -> None:
    searching, out = tuned(tmp_path), tmp_path / "out"
    parts = [Selection(shard=(i, 2)) for i in (1, 2)]
    assert "small-tuning: 2 of 2 cells would run" in explain(searching, out, parts[1])
    for part, expected in zip(parts, ((3, 0, 0), (1, 0, 2)), strict=True):
        outcome = run_experiment(searching, out, selection=part, verbosity=-1)
        assert (counts(outcome), outcome.waiting) == (expected, "")
    assert counts(run_experiment(searching, out, verbosity=-1)) == (0, 0, 4)
    # Of what is repeated, each shard takes its part.
    before = results_in(out / "small-tuning")
    again = Selection(shard=(2, 2), rerun=["ber"])
    run_experiment(searching, out, selection=again, verbosity=-1)
    after = results_in(out / "small-tuning")
    assert [name for name in before if before[name] != after[name]] == ["ber-0.1"]


def results_in(folder: Path) -> dict[str, bytes]:
    """The content of all result files of an experiment with one seed, by method."""
    return {path.parts[-3]: path.read_bytes() for path in sorted(folder.glob("*/*/result.json"))}


def test_a_command_with_other_values_takes_no_score_away(tmp_path: Path) -> None:
    """Its settings have the same folders, so that the results of the first are set aside."""
    mine, other = tuned(tmp_path), tuned(tmp_path, validation_per_experience=30)
    out = tmp_path / "out"
    run_experiment(mine, out, verbosity=-1)
    chosen = tune.choice(mine, "ber", out)
    assert chosen is not None
    run_experiment(other, out, verbosity=-1)
    assert [*(out / "small-tuning/ber-0.1/seed-10000").glob("result-*.json")]
    assert tune.choice(mine, "ber", out) == chosen
    assert tune.choice(other, "ber", out) != chosen
    assert counts(run_experiment(mine, out, verbosity=-1)) == (0, 0, 4)


def test_a_search_of_some_methods_keeps_those_of_the_others(tmp_path: Path) -> None:
    search = {name: {LR: [0.001, 0.1]} for name in ("ber", "naive")}
    searching, out = tuned(tmp_path, search=search), tmp_path / "out"
    for name in ("ber", "naive"):
        only = Selection(methods=[name])
        run_experiment(searching, out, selection=only, verbosity=-1)
        settings = [method for each in search for method in (f"{each}-0.001", f"{each}-0.1")]
        assert {method.name for method in read_results(out / "small-tuning").methods} == {*settings}
    assert [each.method for each in read_results(out / "small").choices] == ["naive", "ber"]


def test_a_setting_that_cannot_be_trained_counts_as_the_worst(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = {"ber": {LR: [1e30, 0.001]}, "naive": {LR: [1e30]}}
    searching, out = tuned(tmp_path, search=search), tmp_path / "out"
    for expected in ((2, 1, 0), (0, 1, 2)):
        assert counts(run_experiment(searching, out, verbosity=-1)) == expected
        (choice,) = read_results(out / "small").choices
        assert choice.values == {LR: 0.001}
        assert "the loss became" in choice.without_score["ber-1e_30"]
        assert read_results(out / "small").methods[0].missing == [0]
        told = capsys.readouterr().err
        assert (
            "note: 1 setting of ber failed and counts as the worst, for example "
            f"{LR} 1e+30: DivergedError: the loss became"
        ) in told
        assert "note: naive does not run, because all its settings failed, for example" in told
        assert "(--rerun naive tries them again)" in told
    failures = [*(out / "small-tuning").glob("*/*/failure.json")]
    before = {path: path.stat().st_mtime_ns for path in failures}
    run_experiment(searching, out, selection=Selection(rerun=["naive"]), verbosity=-1)
    tried_again = [path.parts[-3] for path in failures if path.stat().st_mtime_ns != before[path]]
    assert tried_again == ["naive-1e_30"]


def test_a_run_of_a_search_that_its_machine_has_ended_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searching, out = tuned(tmp_path), tmp_path / "out"
    original = cell_room._train

    def full(cell: Any, *args: Any) -> Any:
        if cell.method_name == "ber-0.1":
            raise MemoryError("full")
        return original(cell, *args)

    with monkeypatch.context() as patched:
        patched.setattr(cell_room, "_train", full)
        assert counts(run_experiment(searching, out, verbosity=-1)) == (3, 1, 0)
    assert read_results(out / "small").choices[0].values == {LR: 0.001}
    assert counts(run_experiment(searching, out, verbosity=-1)) == (2, 0, 2)
    assert read_results(out / "small").choices[0].values == {LR: 0.1}


MINE = '''
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils import as_classification_dataset
from sklearn.datasets import load_digits
from torch.utils.data import Dataset, TensorDataset

class Poisoned(Dataset):
    def __init__(self, y):
        self.targets = y
    def __len__(self):
        return len(self.targets)
    def __getitem__(self, i):
        raise RuntimeError("a test sample was touched")

def digits(is_poisoned: bool = True):
    x, y = load_digits(return_X_y=True)
    x = torch.tensor(x, dtype=torch.float32)[:400] / 16
    y = torch.tensor(y)[:400]
    streams = {"train": [], "test": []}
    for low in (0, 2):
        rows = ((y == low) | (y == low + 1)).nonzero().flatten()
        for name, part in (("train", rows[:60]), ("test", rows[60:])):
            data = TensorDataset(x[part], y[part])
            data.targets = y[part].tolist()
            if name == "test" and is_poisoned:
                data = Poisoned(data.targets)
            streams[name].append(as_classification_dataset(data))
    return benchmark_from_datasets(**streams)

class Digits:
    """All digits, whose test labels are garbage if they are poisoned."""
    def __init__(self, train: bool, is_poisoned: bool):
        x, y = load_digits(return_X_y=True)
        part = slice(0, 900) if train else slice(900, None)
        self.x, self.targets = torch.tensor(x[part], dtype=torch.float32) / 16, y[part].tolist()
        if is_poisoned and not train:
            self.x = torch.rand(self.x.shape, generator=torch.Generator().manual_seed(0))
            self.targets = [(7 * i) % 10 for i in range(len(self.x))]
    def __len__(self):
        return len(self.targets)
    def __getitem__(self, i):
        return self.x[i].view(1, 8, 8), self.targets[i]
'''


def test_the_test_stream_is_never_seen_by_the_search(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE, "utf-8")
    touched = {"name": "./mine.py:digits"}
    garbage = {"name": "split", "dataset": "./mine.py:Digits", "n_experiences": 5}
    for name, benchmark in (("touched", touched), ("garbage", garbage)):
        choices = []
        for is_poisoned in (True, False):
            given = {"is_poisoned": is_poisoned}
            chosen = benchmark | (given if name == "touched" else {"args": given})
            searching = experiment(
                tmp_path,
                benchmark=chosen,
                methods={"ber": SMALL["methods"]["ber"]},
                tune=TUNE,
                seeds=1,
            )
            out = tmp_path / f"{name}-{is_poisoned}"
            if name == "touched" and is_poisoned:
                # The search goes through; what comes after it looks at the test stream.
                with pytest.raises(PreflightError, match="a test sample was touched"):
                    run_experiment(searching, out, verbosity=-1)
            else:
                run_experiment(searching, out, verbosity=-1)
            choices.append(tune.choice(searching, "ber", out))
        poisoned, plain = choices
        assert poisoned is not None
        assert poisoned == plain
        assert len({tried.mean for tried in poisoned.tried.values()}) == 2


def test_more_samples_than_there_are_cannot_be_held_out(tmp_path: Path) -> None:
    benchmark = {"name": "split_digits", "n_experiences": 5}
    many = {**TUNE, "validation_per_experience": 400}
    searching = experiment(tmp_path, benchmark=benchmark, tune=many)
    with pytest.raises(PreflightError, match="400 samples of each experience are to be held out"):
        check_here(searching, None)


def reached(score: float | None, failure: str = "") -> Tried:
    scores = {} if score is None else {10_000: score}
    return Tried({}, scores, {10_000: failure} if failure else {})


def test_tpe_proposes_the_same_whoever_asks_and_finds_the_best_region(tmp_path: Path) -> None:
    lrs, sizes = [i / 10 for i in range(1, 11)], [*range(1, 11)]
    search = {"ber": {LR: lrs, "training.batch_size": sizes}}
    tuning = tuned(tmp_path, search=search, sampler="tpe", trials=24).tuning
    assert tuning is not None
    settings = tuning.searches["ber"].settings
    scores = {
        name: -abs(each.values[LR] - 0.9) - abs(each.values["training.batch_size"] - 9) / 10
        for name, each in settings.items()
    }

    def after(known: list[str]) -> list[str]:
        def tried(names: Collection[str]) -> dict[str, Tried]:
            return {name: reached(scores[name] if name in known else None) for name in names}

        return propose(tuning.searches["ber"], tuning, "ber", tried)

    asked = [after([])]
    while len(asked[-1]) < 24:
        asked.append(after(asked[-1]))
    assert [len(each) for each in asked] == [10, 14, 18, 22, 24]
    assert all(later[: len(each)] == each for each, later in pairwise(asked))
    assert len({*asked[-1]}) == 24
    assert after(asked[0][:9]) == asked[0]

    def mean(names: list[str]) -> float:
        return sum(scores[name] for name in names) / len(names)

    assert mean(asked[-1][14:]) > mean(asked[0]) + 0.1


@pytest.mark.parametrize("metric", ["ACC", "forgetting"])
def test_tpe_counts_a_setting_that_failed_as_the_worst(tmp_path: Path, metric: str) -> None:
    """The best settings are next to those that fail, of which it tries few all the same."""
    search = {"ber": {LR: [i / 100 for i in range(1, 101)]}}
    n_failed = 0
    for seed in (1000, 1001, 1002):
        changed = {"search": search, "trials": 30, "metric": metric, "seeds": [seed]}
        tuning = tuned(tmp_path, sampler="tpe", **changed).tuning
        assert tuning is not None
        settings = tuning.searches["ber"].settings
        reached = {
            name: Tried({}, {}, {seed: "diverged"})
            if (rate := each.values[LR]) > 0.5
            else Tried({}, {seed: rate if metric == "ACC" else -rate})
            for name, each in settings.items()
        }
        asked = propose(tuning.searches["ber"], tuning, "ber", partial(picked, reached))
        n_failed += sum(settings[name].values[LR] > 0.5 for name in asked[10:])
    assert n_failed < 30, "it is 40 if failures count as nothing"


def picked(all_of_them: Mapping[str, Tried], names: Collection[str]) -> dict[str, Tried]:
    return {name: all_of_them[name] for name in names}


def test_tpe_leaves_optunas_journal_in_the_results(tmp_path: Path) -> None:
    out = tmp_path / "out"
    search = {"ber": {LR: [0.001, 0.1, 1e30]}}

    def studies() -> list[optuna.Study]:
        storage = JournalStorage(JournalFileBackend(str(out / "small-tuning" / JOURNAL)))
        names = optuna.get_all_study_names(storage)
        return [optuna.load_study(study_name=name, storage=storage) for name in names]

    searching = tuned(tmp_path, search=search, sampler="tpe", trials=2)
    for _ in range(2):
        run_experiment(searching, out, verbosity=-1)
        (study,) = studies()
        (choice,) = read_results(out / "small").choices
        assert {trial.user_attrs["setting"] for trial in study.trials} == {*choice.tried}
        assert len(study.trials) == 2
        assert study.best_trial.params == {LR: str(choice.values[LR])}

    # A repeated run has another result, as after a change of a library.
    path = next((out / "small-tuning").glob(f"{choice.chosen}/*/result.json"))
    content = json.loads(path.read_text())
    content["R"] = [[0.0, 0.0], [0.0, 0.0]]
    path.write_text(json.dumps(content))
    run_experiment(searching, out, verbosity=-1)
    (study,) = studies()
    assert len(study.trials) == 2
    assert {
        trial.value for trial in study.trials if trial.user_attrs["setting"] == choice.chosen
    } == {0.0}

    lowest = tuned(tmp_path, search=search, sampler="tpe", trials=2, metric="forgetting")
    run_experiment(lowest, out, verbosity=-1)
    by_acc, by_forgetting = studies()
    assert by_acc.direction == StudyDirection.MAXIMIZE
    assert by_forgetting.direction == StudyDirection.MINIMIZE
    assert len(by_forgetting.trials) == 2


def test_a_run_on_validation_samples_can_be_run_again_from_its_configuration(
    tmp_path: Path,
) -> None:
    held_out = experiment(tmp_path, validation={"experiences": 1, "per_experience": 20}, seeds=1)
    run_experiment(held_out, tmp_path / "out", verbosity=-1)
    folder = tmp_path / "out/small/ber/seed-0"
    again = load_experiment(folder / "config.yaml")
    run_experiment(again, tmp_path / "again", verbosity=-1)
    first, second = (
        json.loads((tmp_path / each / "small/ber/seed-0/result.json").read_text())
        for each in ("out", "again")
    )
    assert first["split"] == second["split"] == "validation"
    assert first["R"] == second["R"]
    assert len(first["R"]) == 1
    assert asdict(again.cells()[0])["validation"] == asdict(held_out.cells()[0])["validation"]
