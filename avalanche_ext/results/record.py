"""The content of record.yaml: the runs of an experiment, and what its report compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avalanche_ext.results.files import EXPERIMENT, RECORD, printable, read_yaml
from avalanche_ext.results.tune import Choice, read_choice

UNDECIDED = "undecided"
"""Placeholder for the hash of a run whose hyper-parameters are not chosen yet."""


class ResultsError(Exception):
    """Results that cannot be read or reported; the message names the file and the error."""


@dataclass(frozen=True)
class Sweep:
    """One method that is run with several values of one of its parameters.

    Attributes:
        parameter: The parameter's name, without the path to it.
        values: The values by the names of their methods, in the YAML's order.
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
    """The runs of an experiment and what its report compares: the keys of record.yaml.

    Attributes:
        name: The experiment's name.
        baseline: Name of the method that the others are tested against; None for no tests.
        claims: Claims to test one-sidedly, in the YAML's order.
        methods: Names of the methods, in the YAML's order; for a swept one, those of its settings.
        sweeps: The sweeps by the name of the swept method, which is not in `methods`.
        seeds: The seeds, in the YAML's order.
        hashes: The hash of each run's configuration, by method and seed.
        published: A paper's numbers: `reference`; `mean` and `std` per metric and method; and
            `rho_correlation` by metric. None if the YAML gives none.
        split: The samples that accuracies are measured on: "test", or "validation" for held-out
            ones.
        choices: The hyper-parameters that searches have chosen on validation samples.
    """

    name: str
    baseline: str | None
    claims: Sequence[Claim]
    methods: Sequence[str]
    sweeps: Mapping[str, Sweep]
    seeds: Sequence[int]
    hashes: Mapping[str, Mapping[int, str]]
    published: Mapping[str, Any] | None
    split: str = "test"
    choices: Sequence[Choice] = ()


def read_record(folder: Path) -> ExperimentRecord:
    """Read the record.yaml of an experiment's folder.

    Entries added after name, methods and seeds may be absent, as in files from earlier versions.

    Raises:
        ResultsError: If the file is absent or malformed.
    """
    path = folder / RECORD
    content = _content(path)
    try:
        return ExperimentRecord(
            name=_name(content["name"]),
            baseline=content["baseline"] and _name(content["baseline"]),
            claims=tuple(
                Claim(
                    _name(claim["higher"]),
                    _name(claim["lower"]),
                    _name(claim.get("metric", Claim.metric)),
                )
                for claim in content.get("claims") or ()
            ),
            methods=tuple(_name(name) for name in _list(content["methods"])),
            sweeps={
                _name(name): Sweep(
                    _name(sweep["parameter"]),
                    {_name(setting): value for setting, value in sweep["values"].items()},
                )
                for name, sweep in (content.get("sweeps") or {}).items()
            },
            seeds=tuple(int(seed) for seed in _list(content["seeds"])),
            hashes={
                _name(name): {int(seed): str(each) for seed, each in hashes.items()}
                for name, hashes in (content.get("hashes") or {}).items()
            },
            published=_published(content.get("published")),
            split=_name(content.get("split", "test")),
            choices=tuple(map(read_choice, content.get("choices") or ())),
        )
    except KeyError as error:
        raise ResultsError(f"{path}: no entry {printable(error)}") from error
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise ResultsError(f"{path}: malformed: {printable(error)}") from error


def _name(value: Any) -> str:
    """Return a name, which goes into paths and onto the terminal.

    Raises:
        ValueError: If it is not a text of one line.
    """
    if not isinstance(value, str) or not value.isprintable() or "/" in value:
        raise ValueError(f"{value!r} is not a name")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{value!r} is not a list")
    return value


def _published(value: Any) -> Mapping[str, Any] | None:
    """Return published numbers, by metric and method.

    Raises:
        ValueError: If they have another form.
    """
    if value is None:
        return None
    for metric, numbers in value.items():
        if metric == "reference":
            if not isinstance(numbers, str) or not numbers.isprintable():
                raise ValueError("published.reference is not a text of one line")
        elif not isinstance(numbers, dict):
            raise ValueError(f"published.{metric} is not a mapping")
        elif metric != "rho_correlation":
            for name, number in numbers.items():
                if not isinstance(number["mean"], int | float):
                    raise ValueError(f"published.{metric}.{name}.mean is not a number")
    return dict(value)


def _content(path: Path) -> dict[str, Any]:
    if path.parent.is_file():
        raise ResultsError(
            f"{path.parent}: is a file, but must be the folder of an experiment, <out>/<experiment>"
        )
    if not path.is_file() and path.with_name(EXPERIMENT).is_file():
        raise ResultsError(
            f"{path}: no such file beside {EXPERIMENT}, as in a folder of an earlier version: run "
            "the experiment again with the same --out, which writes it and repeats no finished run"
        )
    if not path.is_file():
        below = sorted(each.parent for each in path.parent.glob(f"*/{RECORD}"))
        hint = f" (did you mean '{below[0]}'?)" if below else ""
        raise ResultsError(
            f"{path}: no such file; give the folder of an experiment, <out>/<experiment>, "
            f"after it has been run{hint}"
        )
    try:
        return read_yaml(path)
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path}: {printable(error)}") from error
