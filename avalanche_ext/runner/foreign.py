"""Components from outside this package: the arguments they get, and what they must return."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from avalanche.benchmarks import CLScenario
from avalanche.core import BasePlugin
from avalanche.training.templates.base import BaseTemplate
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from avalanche_ext.benchmarks.foreign import labelled
from avalanche_ext.config import Component
from avalanche_ext.config.catalogue import Kind
from avalanche_ext.config.signatures import keywords
from avalanche_ext.config.sources import SourceError
from avalanche_ext.data import InMemoryDataset, in_memory
from avalanche_ext.runner.imports import locate

_MOST_BYTES = 2 * 1024**3
"""The maximum size of a benchmark's samples that are kept in memory."""

_CLASSES: dict[Kind, type] = {
    "model": nn.Module,
    "criterion": nn.Module,
    "optimizer": Optimizer,
    "plugin": BasePlugin,
    "scheduler": LRScheduler,
    "strategy": BaseTemplate,
}


class ComponentError(Exception):
    """A component cannot be built; the text names it and the faulty line of the user's file."""


def is_ours(component: Component) -> bool:
    """Return whether a component belongs to this package."""
    return component.target.startswith("avalanche_ext.")


def call(component: Component, given: Mapping[str, Any]) -> Any:
    """Call a component's target with its own arguments and those of the runner.

    Raises:
        ComponentError: If the user's code, in a file or a package, raises any error.
        Exception: Whatever another component raises when its arguments do not fit.
    """
    try:
        return locate(component.target)(**{**given, **_with_parts(component)})
    except (Exception, SystemExit) as error:
        if not component.files:
            raise
        raise ComponentError(
            f"'{component.name}' cannot be built: {_reason(error)}{_place(error)}"
        ) from error


def _with_parts(component: Component) -> dict[str, Any]:
    """Return a component's arguments with the named data sets' classes and transforms filled in."""
    args = deepcopy(component.args)
    for path, part in component.parts.items():
        *outer, last = path
        place: Any = args
        for key in outer:
            place = place[key]
        # A transform is a mapping with a name; a data set is called by the benchmark.
        place[last] = call(part, {}) if isinstance(place[last], dict) else locate(part.target)
    return args


def _reason(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it calls sys.exit({'' if error.code is None else error.code})"
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")


def _place(error: BaseException) -> str:
    """Return the last line of code in the traceback outside Python's import machinery."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}:{error.lineno})"
    here = Path(__file__).parent
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).parent != here
        and not frame.filename.startswith("<")
        and "importlib" not in Path(frame.filename).parts
    ]
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""


def asked_for(component: Component, offered: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the offered arguments that a constructor has parameters for.

    Raises:
        ComponentError: If the file that it is in raises anything when it is imported.
    """
    names = parameters(component) - {*component.args}
    return {name: value for name, value in offered.items() if name in names}


def by_own_names(benchmark: Component) -> Component:
    """Return a benchmark with the argument `order_seed` renamed to `seed` if it uses that name."""
    args = {**benchmark.args}
    if "order_seed" not in args or "order_seed" in parameters(benchmark):
        return benchmark
    return replace(benchmark, args={"seed": args.pop("order_seed"), **args})


def parameters(component: Component) -> set[str]:
    """Return the names of a constructor's parameters, including those behind its `**kwargs`.

    Raises:
        ComponentError: If the file that it is in raises anything when it is imported.
    """
    try:
        # A decorator may hide the signature from the source, but not from `inspect`.
        names = {*inspect.signature(locate(component.target)).parameters}
    except (Exception, SystemExit) as error:
        if not component.files:
            raise
        raise ComponentError(
            f"'{component.name}' cannot be imported: {_reason(error)}{_place(error)}"
        ) from error
    with suppress(LookupError, SourceError):
        names |= keywords(component.target)
    return names


def check_class(kind: Kind, component: Component, made: Any) -> None:
    """Raise ComponentError unless a component has returned an object of the needed class."""
    if not is_ours(component) and not isinstance(made, _CLASSES[kind]):
        needed = _CLASSES[kind]
        raise ComponentError(
            f"'{component.name}' must be a {kind} (of the class {needed.__module__}."
            f"{needed.__name__}), but is of the class {type(made).__name__}"
        )


def completed(benchmark: CLScenario, component: Component) -> CLScenario:
    """Check the samples of a benchmark that a function has returned, and prepare it for a run.

    Datasets are kept in memory unless they are large. Experiences without classes and task labels
    get them, and the benchmark gets `n_classes`, at least one more than its largest label.

    Raises:
        ComponentError: If its samples cannot be learned or evaluated.
    """
    for name in ("train", "test"):
        for index, experience in enumerate(benchmark.streams[name]):
            if wrong := _wrong_with_dataset(experience):
                raise ComponentError(
                    f"'{component.name}' returns a benchmark whose {name} experience {index} "
                    f"{wrong}"
                )
    experiences = [*benchmark.train_stream, *benchmark.test_stream]
    if all(isinstance(each.dataset, InMemoryDataset) for each in experiences):
        result = benchmark
    else:
        sizes = [len(e.dataset) * _bytes(e.dataset[0][0]) for e in experiences]
        result = in_memory(benchmark) if sum(sizes) <= _MOST_BYTES else benchmark
    result = labelled(result)
    n_classes = getattr(benchmark, "n_classes", None)
    largest = max(int(label) for each in experiences for label in each.dataset.targets)
    result.n_classes = max(n_classes or 0, largest + 1)
    return result


def _bytes(x: Tensor) -> int:
    return x.numel() * x.element_size()


def check_streams(benchmark: Any, component: Component) -> None:
    """Raise ComponentError unless a benchmark has a train and a test stream of one length.

    Samples are not checked.
    """
    wrong = _wrong_with(benchmark)
    if wrong:
        raise ComponentError(f"'{component.name}' {wrong}")


def _wrong_with(benchmark: Any) -> str:
    """Return an error of a benchmark as the end of a sentence; empty if there is none."""
    if not isinstance(benchmark, CLScenario):
        return f"must return an Avalanche benchmark, but returns {type(benchmark).__name__}"
    lengths = {}
    for name in ("train", "test"):
        stream = getattr(benchmark, f"{name}_stream", None)
        if stream is None:
            return f"returns a benchmark without the stream '{name}'"
        if not hasattr(stream, "__len__") or len(stream) == 0:
            return f"returns a benchmark whose {name} stream is empty or has no length"
        lengths[name] = len(stream)
    if lengths["train"] != lengths["test"]:
        return (
            f"returns a benchmark with {lengths['train']} training and {lengths['test']} test "
            "experiences, but needs as many of one as of the other: R has one row and one column "
            "each"
        )
    return ""


def _wrong_with_dataset(experience: Any) -> str:
    dataset = experience.dataset
    if len(dataset) == 0:
        return "has no samples"
    x, y = dataset[0][:2]
    if not isinstance(x, Tensor):
        return f"has samples of type {type(x).__name__}, but needs tensors: add ToTensor() to them"
    if not x.is_floating_point():
        return f"has samples of {x.dtype}, but needs floating-point numbers"
    if not isinstance(y, int) and not (isinstance(y, Tensor) and y.dtype == torch.int64):
        return f"has labels of type {type(y).__name__}, but needs integers from 0"
    if not hasattr(dataset, "targets"):
        return "has no targets: make its dataset with avalanche's as_classification_dataset"
    if min(int(label) for label in dataset.targets) < 0:
        return "has negative labels, but needs integers from 0"
    return ""


def check_mixable(benchmark: CLScenario, component: Component) -> None:
    """Raise ComponentError unless the training samples can be mixed, as `training.iid` does."""
    if not all(isinstance(each.dataset, InMemoryDataset) for each in benchmark.train_stream):
        raise ComponentError(
            f"'{component.name}' cannot have training.iid: its samples are drawn at random or take "
            "too much memory to be mixed"
        )


def one_sample(benchmark: CLScenario) -> Tensor:
    """Return one sample of a benchmark; a test sample, because reading it draws nothing."""
    sample: Tensor = benchmark.test_stream[0].dataset[0][0]
    return sample
