"""Names for a cell's objects that the same configuration recreates: its benchmark and data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from avalanche.benchmarks import CLExperience, CLScenario
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.benchmarks.utils.flat_data import FlatData
from torch import Tensor

from avalanche_ext.data import InMemoryDataset
from avalanche_ext.runner.module_state import GENERATORS
from avalanche_ext.state import StateError


class Live:
    """Names the objects that a checkpoint refers to without storing them.

    Args:
        benchmark: The benchmark.
        others: Further objects by name.

    Attributes:
        transforms: The transforms of the data, which are stored because they may hold random
            generators.
    """

    def __init__(self, benchmark: CLScenario, others: Mapping[str, Any]) -> None:
        self.transforms: list[Any] = []
        self._sources: list[Any] = []
        """Datasets that are not in memory, and may draw random numbers."""
        self._things: dict[str, Any] = {**others, "benchmark": benchmark}
        self._experiences: dict[tuple[str, int], Any] = {}
        self._columns: dict[int, str] = {}
        """Names of datasets, by the identity of the samples that they share with their views."""
        for stream in (benchmark.train_stream, benchmark.test_stream):
            self._things[f"stream {stream.name}"] = stream
            for experience in stream:
                seen = experience.logging()
                place = seen.origin_stream.name, int(seen.current_experience)
                self._experiences[place] = experience
                self._things.setdefault(f"stream {place[0]}", seen.origin_stream)
                self._add_data(seen.dataset, " ".join(map(str, place)))
        self._names = {id(thing): name for name, thing in self._things.items()}

    def name(self, thing: Any) -> str | None:
        """Return an object's name; None if a checkpoint has to store it."""
        if isinstance(thing, CLExperience):
            seen = thing.logging()
            place = seen.origin_stream.name, int(seen.current_experience)
            if place not in self._experiences:
                return None
            return f"experience {' '.join(map(str, place))} {thing._exp_mode.name.lower()}"
        if isinstance(thing, InMemoryDataset) and id(thing._x) in self._columns:
            return f"{self._columns[id(thing._x)]} {thing._view}"
        if id(thing) in self._columns:
            return f"samples of {self._columns[id(thing)]}"
        return self._names.get(id(thing))

    def thing(self, name: str) -> Any:
        """Return the object with this name.

        Raises:
            StateError: If nothing has it here.
        """
        try:
            if name.startswith("experience "):
                _, stream, index, mode = name.split(" ")
                return getattr(self._experiences[stream, int(index)], mode)()
            if name.startswith("samples of "):
                return self._things[name.removeprefix("samples of ")]._x
            if name.startswith("rows "):
                dataset, _, view = name.rpartition(" ")
                return self._things[dataset].with_transforms(view)
            return self._things[name]
        except (KeyError, ValueError, AttributeError) as error:
            raise StateError(f"it mentions {name!r}, which this benchmark lacks") from error

    def generators(self) -> list[dict[str, Any]]:
        """Return the random generators of each dataset that is not in memory, by attribute."""
        return [
            {name: value for name, value in vars(source).items() if isinstance(value, GENERATORS)}
            for source in self._sources
        ]

    def set_generators(self, generators: Sequence[Mapping[str, Any]]) -> None:
        """Set what `generators` has returned in another process.

        Raises:
            ValueError: If there are other datasets here.
        """
        for source, values in zip(self._sources, generators, strict=True):
            vars(source).update(values)

    def _add_data(self, dataset: Any, name: str) -> None:
        if isinstance(dataset, InMemoryDataset):
            self._columns[id(dataset._x)] = f"rows {name}"
            self._things[f"rows {name}"] = dataset
            self._add_transforms([dataset.augmentation, dataset.evaluation])
        known = {id(thing) for thing in self._things.values()}
        for leaf in _leaves([dataset]):
            if id(leaf) not in known:
                known.add(id(leaf))
                self._things[f"data {len(self._things)}"] = leaf
                if hasattr(leaf, "__dict__") and not isinstance(leaf, Tensor | InMemoryDataset):
                    self._sources.append(leaf)
                    objects = [each for each in vars(leaf).values() if hasattr(each, "__dict__")]
                    self._add_transforms([each for each in objects if callable(each)])

    def _add_transforms(self, transforms: Sequence[Any]) -> None:
        for transform in transforms:
            if transform is not None and not any(transform is t for t in self.transforms):
                self.transforms.append(transform)


def _leaves(datasets: Iterable[Any]) -> Iterator[Any]:
    """Yield the data behind Avalanche's datasets, and the lists that they share."""
    for dataset in datasets:
        if isinstance(dataset, AvalancheDataset):
            attributes = [each.data for each in dataset._data_attributes.values()]
            yield from _leaves([dataset._flat_data, *attributes])
        elif isinstance(dataset, FlatData):
            yield from _leaves(dataset._datasets)
        else:
            yield dataset
