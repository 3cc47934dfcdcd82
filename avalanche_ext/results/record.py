"""What an experiment compares, as its file experiment.yaml says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from avalanche_ext.results.files import EXPERIMENT


class ResultsError(Exception):
    """Results that cannot be read or reported; the message names the file and what is wrong."""


@dataclass(frozen=True)
class Sweep:
    """One method that is run with several values of one of its parameters.

    Attributes:
        parameter: The parameter's name, without the path to it.
        values: The value by the name of the method that has it, in the YAML's order.
    """

    parameter: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Claim:
    """The claim that one method is better than another.

    Attributes:
        higher: Name of the method that is claimed to be better.
        lower: Name of the other method.
        metric: The metric that is claimed to be higher.
    """

    higher: str
    lower: str
    metric: str = "ACC"


@dataclass(frozen=True)
class ExperimentRecord:
    """The runs of an experiment and what its report compares: the keys of experiment.yaml.

    Attributes:
        name: The experiment's name.
        baseline: Name of the method that the others are tested against; None for no tests.
        claims: What is tested one-sidedly, in the YAML's order.
        methods: Names of the methods, in the YAML's order; a swept one by those of its settings.
        sweeps: What is swept, by the name of the swept method, which is none of `methods`.
        seeds: The seeds, in the YAML's order.
        hashes: The hash of each run's configuration, by method and seed.
        published: A paper's numbers: `reference`, per metric per method `mean` and `std`, and
            `rho_correlation` by metric; None if the YAML gives none.
    """

    name: str
    baseline: str | None
    claims: Sequence[Claim]
    methods: Sequence[str]
    sweeps: Mapping[str, Sweep]
    seeds: Sequence[int]
    hashes: Mapping[str, Mapping[int, str]]
    published: Mapping[str, Any] | None


def read_record(folder: Path) -> ExperimentRecord:
    """Read the experiment.yaml of an experiment's folder.

    Claims, sweeps, hashes and published numbers may be absent, as in files of earlier versions.

    Raises:
        ResultsError: If the file is absent or malformed.
    """
    path = folder / EXPERIMENT
    content = _content(path)
    try:
        return ExperimentRecord(
            name=content["name"],
            baseline=content["baseline"],
            claims=tuple(
                Claim(claim["higher"], claim["lower"], claim.get("metric", Claim.metric))
                for claim in content.get("claims") or ()
            ),
            methods=tuple(content["methods"]),
            sweeps={
                name: Sweep(sweep["parameter"], sweep["values"])
                for name, sweep in (content.get("sweeps") or {}).items()
            },
            seeds=tuple(int(seed) for seed in content["seeds"]),
            hashes=content.get("hashes") or {},
            published=content.get("published"),
        )
    except KeyError as error:
        raise ResultsError(f"{path}: no entry {error}") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise ResultsError(f"{path}: malformed: {error}") from error


def _content(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ResultsError(
            f"{path}: no such file; give the folder of an experiment, <out>/<experiment>, "
            "after it has been run"
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ResultsError(f"{path}: not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ResultsError(f"{path}: must hold a mapping, but holds {content!r}")
    return content
