"""The interface of sinks, the destinations of a run's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Run:
    """The run whose numbers a sink receives.

    Attributes:
        experiment: Name of the experiment.
        method: Name of the method within it.
        seed: Seed of this run.
        config: The resolved configuration: plain, nested values.
        directory: Folder of the run's files; a sink may create it.
        n_experiences: T, the number of test experiences; None if it depends on the data.
        key: A key that distinguishes experiments of the same name even if their folders are moved;
            empty if only the folder does.
        n_bytes_kept: For a run that resumes from a checkpoint, the length of the part of
            events.jsonl that still holds; None for a run from the start.
    """

    experiment: str
    method: str
    seed: int
    config: Mapping[str, Any]
    directory: Path
    n_experiences: int | None
    key: str = ""
    n_bytes_kept: int | None = None


class Sink(Protocol):
    """Receives the numbers of one run, in order: `start`, `experience`s, `finish` or `fail`.

    If plugins record series, `series` is called between calls of `experience`.
    """

    def start(self, run: Run) -> None:
        """Begin a run, and discard what an earlier attempt has left in the same folder."""

    def experience(
        self, index: int, accuracies: Sequence[float], metrics: Mapping[str, float | None]
    ) -> None:
        """Record one evaluation of the whole test stream.

        Args:
            index: The experience just trained on, from 0; -1 for the untrained model.
            accuracies: Accuracy on each test experience, T numbers in [0, 1].
            metrics: Numbers by name (ACC, BWT, ...); None where one is undefined.
        """

    def series(self, index: int, start: int, series: Mapping[str, Sequence[float]]) -> None:
        """Record the numbers that plugins collected in each iteration of one experience.

        Args:
            index: The experience just trained on, from 0.
            start: Number of iterations of the run before this experience.
            series: Numbers by name: the k-th, from 0, belongs to iteration `start` + k; nan for
                none.
        """

    def finish(self, result: Mapping[str, Any]) -> None:
        """End a run that succeeded.

        Args:
            result: The content of its result.json.
        """

    def fail(self, error: str) -> None:
        """End a run that failed; `error` is one line."""


class Sinks:
    """Several sinks as one: each call goes to every sink, in order."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self.sinks = tuple(sinks)

    def start(self, run: Run) -> None:
        """Begin the run in every sink."""
        for sink in self.sinks:
            sink.start(run)

    def experience(
        self, index: int, accuracies: Sequence[float], metrics: Mapping[str, float | None]
    ) -> None:
        """Record one evaluation in every sink."""
        for sink in self.sinks:
            sink.experience(index, accuracies, metrics)

    def series(self, index: int, start: int, series: Mapping[str, Sequence[float]]) -> None:
        """Record one experience's series in every sink."""
        for sink in self.sinks:
            sink.series(index, start, series)

    def finish(self, result: Mapping[str, Any]) -> None:
        """End the run in every sink."""
        for sink in self.sinks:
            sink.finish(result)

    def fail(self, error: str) -> None:
        """End the failed run in every sink."""
        for sink in self.sinks:
            sink.fail(error)
