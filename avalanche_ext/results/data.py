"""Results as data: tables for pandas, matrices, curves and series of runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from avalanche_ext.metrics.curves import AccuracyCurves
from avalanche_ext.results.cell import CellResult, Floats, read_events
from avalanche_ext.results.configuration import configuration
from avalanche_ext.results.exhibits import ContinualEvaluation, E
from avalanche_ext.results.experiment import (
    ExperimentResults,
    MethodResults,
    read_exhibits,
    read_results,
)
from avalanche_ext.results.files import EVENTS, cell_folder, one_line
from avalanche_ext.results.record import ResultsError
from avalanche_ext.words import count

if TYPE_CHECKING:
    import pandas as pd

Per = Literal["run", "experience", "evaluation"]
"""The unit of a frame's rows."""


def load(*folders: str | Path) -> Results:
    """Read the results of one or more experiments.

    Args:
        *folders: Folders of experiments, `<out>/<experiment>`. Runs may be missing.

    Raises:
        ResultsError: If no folder is given, or one holds no readable experiment, or two hold
            experiments of one name.
    """
    experiments = tuple(map(read_results, folders))
    if not experiments:
        raise ResultsError("give the folder of an experiment, <out>/<experiment>, or several")
    names = [each.name for each in experiments]
    for name in names:
        if names.count(name) > 1:
            raise ResultsError(f"two of the folders hold an experiment named '{name}'")
    return Results(experiments)


class Results:
    """The finished runs of one or more experiments.

    Experiences are counted from 1 in frames, as in figures; index 0 of an array is experience 1.
    Accuracies are fractions in [0, 1], seconds are wall-clock seconds, memory is bytes.

    Args:
        experiments: The experiments as `read_results` returns them, with names that differ.
    """

    def __init__(self, experiments: Sequence[ExperimentResults]) -> None:
        self.experiments = tuple(experiments)

    def __repr__(self) -> str:
        return f"Results({', '.join(map(_summary, self.experiments))})"

    @property
    def methods(self) -> list[str]:
        """The names of all methods, each once, in the order of the configurations."""
        names = (method.name for each in self.experiments for method in each.methods)
        return [*dict.fromkeys(names)]

    @property
    def seeds(self) -> list[int]:
        """All seeds, each once."""
        return [*dict.fromkeys(seed for each in self.experiments for seed in each.seeds)]

    def frame(self, per: Per = "run", *, config: bool = True) -> pd.DataFrame:
        """Return the finished runs as a table.

        All forms have the columns `experiment`, `method` and `seed`. Undefined numbers are nan.

        - "run": one row per run, with `split` ("test", or "validation" for held-out samples),
          `iid`, the metrics by their names in result files, including those that the report
          computes from several runs (intransigence), `seconds_<phase>`, `memory_<kind>`, and the
          configuration.
        - "experience": one row per entry of R, with `after`, the number of experiences learned, 0
          for the untrained model; `experience`, the test experience from 1; and `accuracy`. A run
          that learns all experiences at once (iid, JointTraining) only has the last `after` and 0.
        - "evaluation": one row per accuracy inside experiences, for runs with `evaluate`:
          `learning`, the experience being learned, from 1; `batch`, the number of its mini-batches
          learned so far; `experience`, the test experience from 1; and `accuracy`.

        Args:
            per: The unit of a row.
            config: Whether the rows of runs include their configurations: `benchmark`, `model`,
                `optimizer`, `strategy` and `plugins` by their names, and each argument by its path,
                such as `optimizer.lr`, `training.batch_size`, `plugins.drl.lam` or, for
                `./mine.py:Mine`, `plugins.Mine.strength`. Lists are given as text: "[100, 100]".

        Raises:
            ValueError: If `per` is none of these.
            ResultsError: If a file with accuracies inside experiences cannot be read, or a
                configuration is malformed.
        """
        import pandas as pd

        if per == "run":
            rows = [*self._run_rows(config)]
        elif per == "experience":
            rows = [*self._experience_rows()]
        elif per == "evaluation":
            rows = [*self._evaluation_rows()]
        else:
            raise ValueError(f"per must be 'run', 'experience' or 'evaluation', but is {per!r}")
        return pd.DataFrame(rows) if rows else pd.DataFrame(columns=[*_RUN])

    def absent(self) -> pd.DataFrame:
        """Return a row for each run that is not finished, with `experiment`, `method` and `seed`.

        `error` is the reason of a failure; it is missing for a run that does not exist yet.
        """
        import pandas as pd

        rows = [
            (experiment.name, method.name, seed, error)
            for experiment in self.experiments
            for method in experiment.methods
            for seed, error in (
                *method.failures.items(),
                *((seed, None) for seed in method.missing),
            )
        ]
        return pd.DataFrame(rows, columns=[*_RUN, "error"])

    def matrix(self, method: str, seed: int | None = None, experiment: str | None = None) -> Floats:
        """Return R, (T, T): accuracies on each test experience after each experience.

        Args:
            method: The method.
            seed: The run; None for the mean over the finished runs.
            experiment: The experiment; needed if several have the method.

        Raises:
            ResultsError: If there is no such finished run.
        """
        _, runs = self._method(method, experiment)
        if seed is None:
            return np.asarray(runs.matrices.mean(axis=0))
        return self._cell(runs, seed).R

    def exhibits(
        self, kind: type[E], method: str, experiment: str | None = None
    ) -> Mapping[int, E]:
        """Return the exhibits of one kind from a method's finished runs, by seed.

        Args:
            kind: A class of `avalanche_ext.results.exhibits`.
            method: The method.
            experiment: The experiment; needed if several have the method.

        Raises:
            ResultsError: If there is no finished run, or one of their files cannot be read.
        """
        where, runs = self._method(method, experiment)
        return _readable(replace(where, methods=(runs,)), kind).get(method, {})

    def curves(self, method: str, seed: int, experiment: str | None = None) -> AccuracyCurves:
        """Return the accuracies inside experiences of a run with `evaluate`.

        Its metrics, such as `learning_curve_area` at another β, are in `avalanche_ext.metrics`.

        Raises:
            ResultsError: If there is no such finished run, or it was not evaluated so, or its file
                cannot be read.
        """
        where, runs = self._method(method, experiment)
        run = replace(runs, cells={seed: self._cell(runs, seed)})
        kept = _readable(replace(where, methods=(run,)), ContinualEvaluation).get(method, {})
        if seed not in kept:
            raise ResultsError(
                f"{method}, seed {seed}: was not evaluated inside experiences: run it with "
                "evaluate: {every: 50}"
            )
        return kept[seed].curves

    def series(self, method: str, seed: int, experiment: str | None = None) -> pd.DataFrame:
        """Return the numbers that plugins recorded in each iteration of a run, one column per name.

        The index `iteration` counts the steps of the whole run from 0; nan where nothing was
        recorded.

        Raises:
            ResultsError: If there is no such finished run, or what it has noted is malformed.
        """
        import pandas as pd

        where, runs = self._method(method, experiment)
        self._cell(runs, seed)
        folder = cell_folder(where.folder, method, seed)
        parts = []
        for event in read_events(folder, since=0.0):
            if event.get("event") != "series":
                continue
            try:
                columns = {
                    name: pd.Series(values, dtype=np.float64)
                    for name, values in event["series"].items()
                }
                part = pd.DataFrame(columns)
                part.index += event["start"]
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise ResultsError(f"{folder / EVENTS}: malformed ({one_line(error)})") from None
            parts.append(part)
        joined = pd.concat(parts) if parts else pd.DataFrame()
        return joined.rename_axis("iteration")

    def experiment(self, name: str | None = None) -> ExperimentResults:
        """Return one of the experiments.

        Args:
            name: Its name; None for the only one.

        Raises:
            ResultsError: If there is none of this name, or if there are several and no name is
                given.
        """
        names = [each.name for each in self.experiments]
        if name is None and len(names) > 1:
            raise ResultsError(f"there are several experiments: choose one of {', '.join(names)}")
        if name is not None and name not in names:
            raise ResultsError(f"there is no experiment '{name}' (known: {', '.join(names)})")
        return self.experiments[names.index(name) if name else 0]

    def experiment_of(self, method: str, name: str | None = None) -> ExperimentResults:
        """Return the experiment that has a method.

        Args:
            method: The method.
            name: The experiment's name; needed if several have the method.

        Raises:
            ResultsError: If the method does not exist, or none of its runs has finished.
        """
        return self._method(method, name)[0]

    def _method(self, name: str, experiment: str | None) -> tuple[ExperimentResults, MethodResults]:
        """Return a method with finished runs, and its experiment."""
        asked = [self.experiment(experiment)] if experiment else self.experiments
        found = [(each, method) for each in asked for method in each.methods if method.name == name]
        if not found:
            raise ResultsError(f"there is no method '{name}' (known: {', '.join(self.methods)})")
        if len(found) > 1:
            names = ", ".join(each.name for each, _ in found)
            raise ResultsError(f"several experiments have a method '{name}': choose one of {names}")
        if not found[0][1].cells:
            raise ResultsError(f"{name}: no run has finished yet")
        return found[0]

    def _cell(self, runs: MethodResults, seed: int) -> CellResult:
        if seed not in runs.cells:
            finished = ", ".join(map(str, runs.cells))
            raise ResultsError(f"{runs.name}, seed {seed}: has not finished; finished: {finished}")
        return runs.cells[seed]

    def _finished(self) -> Iterator[tuple[dict[str, Any], ExperimentResults, CellResult]]:
        for experiment in self.experiments:
            for method in experiment.methods:
                for seed, cell in method.cells.items():
                    run = dict(zip(_RUN, (experiment.name, method.name, seed), strict=True))
                    yield run, experiment, cell

    def _run_rows(self, with_config: bool) -> Iterator[dict[str, Any]]:
        metrics = {each.name: each.run_metrics() for each in self.experiments}
        for run, experiment, cell in self._finished():
            folder = cell_folder(experiment.folder, run["method"], run["seed"])
            yield {
                **run,
                "split": cell.split,
                "iid": cell.is_iid,
                **{
                    name: np.nan if value is None else value
                    for name, value in metrics[experiment.name][run["method"]][run["seed"]].items()
                },
                **{f"seconds_{phase}": value for phase, value in cell.seconds.items()},
                **{f"memory_{kind}": value for kind, value in cell.memory.items()},
                **(configuration(folder, cell.hash) if with_config else {}),
            }

    def _experience_rows(self) -> Iterator[dict[str, Any]]:
        for run, _, cell in self._finished():
            rows = dict(enumerate([cell.untrained, *cell.R]))
            for after in (0, len(cell.R)) if cell.is_iid else rows:
                for j, accuracy in enumerate(rows[after].tolist(), 1):
                    yield {**run, "after": after, "experience": j, "accuracy": accuracy}

    def _evaluation_rows(self) -> Iterator[dict[str, Any]]:
        for experiment in self.experiments:
            for method, runs in _readable(experiment, ContinualEvaluation).items():
                for seed, exhibit in runs.items():
                    run = dict(zip(_RUN, (experiment.name, method, seed), strict=True))
                    yield from _measured(run, exhibit.curves)


_RUN = ("experiment", "method", "seed")


def _measured(run: Mapping[str, Any], curves: AccuracyCurves) -> Iterator[dict[str, Any]]:
    rows = zip(curves.experience, curves.batch, curves.accuracy, strict=True)
    for learning, batch, accuracies in rows:
        place = {"learning": int(learning) + 1, "batch": int(batch)}
        for j in np.flatnonzero(~np.isnan(accuracies)):
            yield {**run, **place, "experience": int(j) + 1, "accuracy": float(accuracies[j])}


def _readable(results: ExperimentResults, kind: type[E]) -> Mapping[str, Mapping[int, E]]:
    """Return the exhibits of one kind by method and seed.

    Raises:
        ResultsError: If a file cannot be read.
    """
    found = read_exhibits(results, kind)
    for path, error in found.unreadable.items():
        raise ResultsError(f"{results.folder / path}: {error}")
    return found.methods


def _summary(results: ExperimentResults) -> str:
    finished = sum(len(method.cells) for method in results.methods)
    return (
        f"{results.name}: {count(len(results.methods), 'method')} x "
        f"{count(len(results.seeds), 'seed')}, "
        f"{finished} of {results.n_cells} runs finished"
    )
