"""Hand-made result folders, as the runner leaves them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import ArrayLike

Matrix = Sequence[Sequence[float]]

SECONDS = {"setup": 0.5, "training": 2.0, "evaluation": 0.25, "total": 2.75}
HASH = "0123456789abcdef"


def write_experiment(
    directory: Path,
    methods: Sequence[str],
    seeds: Sequence[int],
    baseline: str | None = None,
    published: Mapping[str, Any] | None = None,
    hashes: Mapping[str, Mapping[int, str]] | None = None,
    sweeps: Mapping[str, tuple[str, Mapping[str, Any]]] | None = None,
    claims: Sequence[tuple[str, ...]] | None = None,
) -> None:
    """Write record.yaml.

    Args:
        directory: The experiment's folder.
        methods: Their names.
        seeds: The seeds.
        baseline: Name of the baseline.
        published: A paper's numbers.
        hashes: By method and seed; None as in a file without any.
        sweeps: Parameter, and values by setting's name, of each swept method; None as in a file
            from before there were sweeps.
        claims: The better method, the other and the metric of each; without a metric as in a file
            from before claims named theirs, None as in one from before there were claims.
    """
    record: dict[str, Any] = {
        "name": directory.name,
        "baseline": baseline,
        "methods": list(methods),
        "seeds": [*seeds],
        "published": published,
    }
    if hashes is not None:
        record["hashes"] = hashes
    if sweeps is not None:
        record["sweeps"] = {
            name: {"parameter": parameter, "values": dict(values)}
            for name, (parameter, values) in sweeps.items()
        }
    if claims is not None:
        keys = ("higher", "lower", "metric")
        record["claims"] = [dict(zip(keys, claim, strict=False)) for claim in claims]
    directory.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(record, sort_keys=False)
    (directory / "record.yaml").write_text(text, encoding="utf-8")


def write_result(
    directory: Path,
    method: str,
    seed: int,
    R: Matrix,
    untrained: Sequence[float] | None = None,
    **changes: Any,
) -> Path:
    untrained = [0.1] * len(R) if untrained is None else untrained
    content = {
        "format": 1,
        "experiment": directory.name,
        "method": method,
        "seed": seed,
        "hash": HASH,
        "R": R,
        "untrained": untrained,
        "test_sizes": [100] * len(untrained),
        "metrics": {},
        "seconds": SECONDS,
        "versions": {},
    } | changes
    return _write(directory, method, seed, "result.json", content)


def write_failure(
    directory: Path, method: str, seed: int, error: str, run_hash: str = HASH
) -> Path:
    content = {
        "experiment": directory.name,
        "method": method,
        "seed": seed,
        "hash": run_hash,
        "error": error,
        "traceback": "Traceback (most recent call last): ...",
    }
    # A result outweighs a failure beside it.
    (directory / method / f"seed-{seed}" / "result.json").unlink(missing_ok=True)
    return _write(directory, method, seed, "failure.json", content)


def write_edits(
    directory: Path,
    method: str,
    seed: int,
    labels: Sequence[int],
    n_edits: Sequence[int],
    original: ArrayLike,
    edited: ArrayLike,
    run_hash: str = HASH,
) -> Path:
    path = directory / method / f"seed-{seed}" / "edits.npz"
    np.savez(
        path,
        hash=np.array(run_hash),
        slot=np.arange(len(labels)),
        label=np.array(labels),
        n_edits=np.array(n_edits),
        original=np.asarray(original, dtype=np.float32),
        edited=np.asarray(edited, dtype=np.float32),
    )
    return path


SPECTRUM = {
    "experience": np.array([0, 1]),
    "trace": np.array([2.0, 8.0]),
    "eigenvalues": np.array([[1.0, 0.5, np.nan], [4.0, 2.0, 1.0]]),
    "all_eigenvalues": np.array([[1.0, 0.5, 0.5, np.nan], [4.0, 2.0, 1.0, 1.0]]),
    "layer": np.array(["first", "second"]),
    "mass": np.array([[0.25, 0.75], [0.125, 0.875]]),
    "unweighted_mass": np.array([[0.5, 0.5], [0.75, 0.25]]),
    "size": np.array([[6.0, 2.0], [6.0, 2.0]]),
    "name": np.array(
        [
            "trace",
            "share_top_k",
            "share_5_percent_of_samples",
            "share_5_percent_of_parameters",
            "effective_rank",
            "log_decay",
            "log_decay_r2",
        ]
    ),
    "numbers": np.array(
        [[2.0, 0.75, 0.5, 1.0, 2.8, np.nan, np.nan], [8.0, 0.875, 0.5, 1.0, 3.4, -0.6931, 1.0]]
    ),
}
"""Spectra of two experiences, as the analysis leaves them."""


def write_spectrum(
    directory: Path, method: str, seed: int, run_hash: str = HASH, **changes: ArrayLike | None
) -> Path:
    """Write `SPECTRUM` with some arrays replaced, and without those that are None."""
    path = directory / method / f"seed-{seed}" / "spectrum.npz"
    arrays = {name: array for name, array in {**SPECTRUM, **changes}.items() if array is not None}
    np.savez_compressed(path, hash=np.array(run_hash), **arrays)  # type: ignore[arg-type]
    return path


RHO = {
    "experience": np.array([0, 1]),
    "n_samples": np.array([20, 40]),
    "rho": np.array([2.0, 1.5]),
    "alive_rho": np.array([1.0, 1.25]),
    "n_alive": np.array([5, 6]),
    "n_directions": np.array([8, 8]),
    "layer": np.array(["second", "classifier"]),
    "layer_rho": np.array([[0.5, 0.625], [0.75, 0.875]]),
}
"""ρ-spectra of two experiences, as the analysis leaves them."""


def write_rho(
    directory: Path, method: str, seed: int, run_hash: str = HASH, **changes: ArrayLike | None
) -> Path:
    """Write `RHO` with some arrays replaced, and without those that are None."""
    path = directory / method / f"seed-{seed}" / "rho_spectrum.npz"
    arrays = {name: array for name, array in {**RHO, **changes}.items() if array is not None}
    np.savez_compressed(path, hash=np.array(run_hash), **arrays)  # type: ignore[arg-type]
    return path


def two_by_two(last: float, learned: float = 0.9) -> Matrix:
    """R of two experiences whose final accuracies are `last` and `learned`."""
    return [[learned, 0.1], [last, learned]]


def write_points(
    directory: Path,
    points: Mapping[str, tuple[float, float]],
    sweeps: Mapping[str, tuple[str, Mapping[str, Any]]] | None = None,
    shifts: Sequence[float] = (-0.01, 0.01),
) -> None:
    """An experiment whose methods have these means of learning accuracy and BWT.

    Args:
        directory: The experiment's folder.
        points: Learning accuracy and BWT by method.
        sweeps: As for `write_experiment`.
        shifts: Per seed, what is added to all final accuracies but the last; of mean 0.
    """
    write_experiment(directory, list(points), range(len(shifts)), sweeps=sweeps)
    for method, (learned, bwt) in points.items():
        for seed, shift in enumerate(shifts):
            write_result(directory, method, seed, two_by_two(learned + bwt + shift, learned))


def _write(directory: Path, method: str, seed: int, name: str, content: Any) -> Path:
    path = directory / method / f"seed-{seed}" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
