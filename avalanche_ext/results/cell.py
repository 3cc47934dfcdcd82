"""One run's result.json, failure.json and events.jsonl."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avalanche_ext.metrics.curves import CURVE_METRICS, AccuracyCurves, curve_summary
from avalanche_ext.metrics.matrix import summary
from avalanche_ext.results.files import (
    EVENTS,
    FAILURE,
    RESULT,
    RESULT_FORMAT,
    TEST,
    LaterVersionError,
    printable,
    read_json,
)

Floats = NDArray[np.float64]

PHASES = ("setup", "training", "evaluation", "total")
"""The phases of a run whose seconds are counted."""

MEMORY = ("peak", "kept")
"""Kinds of memory, in bytes: the most that the process had while it trained (on a GPU, what tensors
had there), and what the method's plugins keep for the next experience."""

_OF_THE_LAST_ROW = ("ACC", "instance_accuracy")
"""The metrics that need only the last row of R."""

_ROUNDING = 1e-9
"""How far a mean of accuracies may lie outside [0, 1]."""


@dataclass(frozen=True)
class CellResult:
    """One finished run.

    Attributes:
        R: Accuracies in [0, 1] on each test experience after each training experience, (T, T).
        untrained: The untrained model's accuracies, (T,).
        seconds: Seconds by phase, one for each of PHASES.
        metrics: What `metrics.summary` computes, recomputed rather than read from the file, so that
            all rows of a table share one definition; instance_accuracy is None for files written
            before test sizes were recorded. Also CURVE_METRICS, None if they were not measured.
        is_iid: Whether the samples of all experiences came in random order. Rows of R before the
            last are then not those of experiences, and metrics that need them are None.
        hash: The hash of the run's configuration.
        exhibits: Names of the exhibits that the run has kept; empty for files written before they
            were recorded.
        versions: Versions of the packages that affect the numbers, by name; empty for files written
            before they were recorded.
        memory: Bytes of memory, by MEMORY; without those that are not known.
        split: The samples that accuracies were measured on, "test" or "validation"; "test" for
            files written before it was recorded.
    """

    R: Floats
    untrained: Floats
    seconds: Mapping[str, float]
    metrics: Mapping[str, float | None]
    is_iid: bool
    hash: str
    exhibits: Sequence[str]
    versions: Mapping[str, str]
    memory: Mapping[str, float]
    split: str = TEST


def result_record(
    *,
    is_iid: bool,
    R: Floats,
    untrained: Floats,
    test_sizes: NDArray[np.int64],
    seconds: Mapping[str, float],
    weights: str,
    versions: Mapping[str, str],
    memory: Mapping[str, int],
    curves: AccuracyCurves | None = None,
    beta: int | None = None,
    compiled: float | None = None,
) -> dict[str, Any]:
    """Return the content of result.json for a finished run, as plain data.

    Args:
        is_iid: Whether the samples of all experiences came in random order.
        R: Accuracies in [0, 1], (T, T).
        untrained: The untrained model's accuracies, (T,).
        test_sizes: Numbers of samples of the test experiences, (T,).
        seconds: Seconds by phase, one for each of PHASES.
        weights: A hash of the trained weights.
        versions: Versions of the packages that affect the numbers, by name.
        memory: Bytes of memory, by MEMORY; without those that are not known.
        curves: Accuracies inside experiences; None if they were not measured.
        beta: Number of mini-batches of each experience that LCA averages over; None for as many as
            all experiences have.
        compiled: The share of iterations with compiled steps, in [0, 1]; None if the run did not
            ask for them.
    """
    return {
        "iid": is_iid,
        "R": R.tolist(),
        "untrained": untrained.tolist(),
        "test_sizes": test_sizes.tolist(),
        "metrics": {
            **run_metrics(R, untrained, test_sizes, is_iid),
            **(curve_summary(curves, beta) if curves else {}),
        },
        "seconds": dict(seconds),
        "weights": weights,
        "versions": dict(versions),
        "memory": dict(memory),
        **({} if compiled is None else {"compiled": compiled}),
    }


def run_metrics(
    R: ArrayLike, untrained: ArrayLike, test_sizes: ArrayLike | None, is_iid: bool
) -> dict[str, float | None]:
    """Return what `metrics.summary` computes, without metrics that are undefined for an i.i.d. run.

    Args:
        R: Accuracies in [0, 1], (t, T) with 1 <= t <= T.
        untrained: The untrained model's accuracies, (T,).
        test_sizes: Numbers of samples of the test experiences, (T,); None if they are not known.
        is_iid: Whether the samples of all experiences came in random order. Metrics that need
            other rows of R than the last are then None.

    Raises:
        ValueError: If an array has another shape, or an entry out of its range.
    """
    metrics = summary(R, untrained, test_sizes)
    if not is_iid:
        return metrics
    return {name: metrics[name] if name in _OF_THE_LAST_ROW else None for name in metrics}


def read_cell(folder: Path, expected_hash: str | None) -> CellResult | str | None:
    """Read a run's folder. A readable result counts even if there is a failure beside it.

    Args:
        folder: The folder, which need not exist.
        expected_hash: The hash of the requested configuration; None for any.

    Returns:
        The result; the error if the run has failed; None if there is neither.

    Raises:
        ValueError: If a file of the run cannot be understood; the message is one line.
        OSError: If it cannot be read.
    """
    damage: ValueError | None = None
    try:
        result = _content(folder / RESULT, expected_hash)
        if result is not None:
            return result_of(result)
    except ValueError as error:
        damage = error
    failure = _content(folder / FAILURE, expected_hash)
    if failure is None:
        if damage:
            raise damage
        return None
    if "error" not in failure:
        raise ValueError("no entry 'error'")
    return printable(failure["error"])


def _content(path: Path, expected_hash: str | None) -> dict[str, Any] | None:
    """Return the content of a run's file; None if it is missing or of another configuration."""
    if not path.is_file():
        return None
    content = read_json(path)
    is_other = expected_hash is not None and content.get("hash", expected_hash) != expected_hash
    return None if is_other else content


def result_of(content: Mapping[str, Any]) -> CellResult:
    """Return the finished run that the content of a result.json says.

    Raises:
        ValueError: If it does not say one; the message is one line.
        LaterVersionError: If a later version has written it.
    """
    try:
        return _result(content)
    except KeyError as error:
        raise ValueError(f"no entry {printable(error)}") from None
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(printable(error)) from None


def read_events(folder: Path, since: float) -> list[dict[str, Any]]:
    """Read the events of a run that may still be running.

    Args:
        folder: The run's folder, which need not exist.
        since: Seconds since the epoch before which events are left out.

    Returns:
        The events in order, without a line that is still being written or is damaged.
    """
    try:
        text = (folder / EVENTS).read_text("utf-8", errors="replace")
    except OSError:
        return []
    events = [_event(line) for line in text.split("\n")[:-1]]
    return [event for event in events if event and event["time"] >= since]


def _event(line: str) -> dict[str, Any]:
    """Return the content of a line of events.jsonl; nothing if it is damaged."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    is_event = isinstance(event, dict) and isinstance(event.get("time"), int | float)
    return event if is_event else {}


def _finite(value: Any) -> float:
    number = float(value)
    if not isfinite(number):
        raise ValueError(f"seconds and bytes must be finite, but one is {number}")
    return number


def _share(name: str, value: Any) -> float:
    share = float(value)
    if not -_ROUNDING <= share <= 1.0 + _ROUNDING:
        raise ValueError(f"{name} must be in [0, 1], but is {share}")
    return share


def _result(content: Mapping[str, Any]) -> CellResult:
    written = content["format"]
    if type(written) is int and written > RESULT_FORMAT:
        raise LaterVersionError("it was written by a later version; update avalanche-ext")
    if written != RESULT_FORMAT:
        raise ValueError(
            f"format {printable(written)}, but this version reads format {RESULT_FORMAT}"
        )
    R = np.asarray(content["R"], dtype=np.float64)
    untrained = np.asarray(content["untrained"], dtype=np.float64)
    is_iid = content.get("iid", False)
    if not isinstance(is_iid, bool):
        raise ValueError(f"iid must be true or false, but is {printable(is_iid)}")
    metrics = run_metrics(R, untrained, content.get("test_sizes"), is_iid)
    measured = content.get("metrics", {})
    for name in CURVE_METRICS:
        value = measured.get(name)
        metrics[name] = None if value is None else _share(name, value)
    if len(R) != len(untrained):
        raise ValueError(f"R must be square, but has shape {R.shape}")
    seconds = {phase: _finite(content["seconds"][phase]) for phase in PHASES}
    exhibits = content.get("exhibits", [])
    if not isinstance(exhibits, list) or not all(isinstance(name, str) for name in exhibits):
        raise ValueError("exhibits must be a list of names")
    return CellResult(
        R=R,
        untrained=untrained,
        seconds=seconds,
        metrics=metrics,
        is_iid=is_iid,
        hash=str(content["hash"]),
        exhibits=exhibits,
        versions={
            printable(name): printable(each) for name, each in content.get("versions", {}).items()
        },
        split=printable(content.get("split", TEST)),
        memory={
            kind: _finite(n)
            for kind in MEMORY
            if (n := content.get("memory", {}).get(kind)) is not None
        },
    )
