"""Tasks that are whole data sets from different sources."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate

from avalanche_ext.benchmarks.build import Scenario
from avalanche_ext.benchmarks.images import with_channels
from avalanche_ext.benchmarks.sources import Source
from avalanche_ext.benchmarks.standardise import Standardisation, standardised
from avalanche_ext.benchmarks.tasks import Seeds, Sizes, Task, limited


def domain_tasks(
    sources: Sequence[Source],
    names: Sequence[str],
    sizes: Sizes,
    seeds: Seeds,
    scenario: Scenario,
    standardise: Standardisation | None,
    transformed: Callable[[Source], Source],
) -> list[Task]:
    """Return one task per data set, in the given order or in a random one from `seeds.order`.

    Args:
        sources: The data sets.
        names: Their names in error messages.
        sizes: How many samples to use from each, and which.
        seeds: Seeds of the order and of the samples.
        scenario: "class" gives each data set its own labels; "domain" needs the same number of
            classes in each.
        standardise: How the samples of each data set are standardised, by its own statistics.
        transformed: Adds the transforms to a data set.

    Raises:
        ValueError: If data sets differ in image size or, in scenario "domain", number of classes.
    """
    if not sources:
        raise ValueError("datasets is empty: name at least one data set")
    if any(source.train_x.shape[1] == 3 for source in sources):
        sources = [_coloured(*pair) for pair in zip(sources, names, strict=True)]
    shapes = [tuple(source.train_x.shape[1:]) for source in sources]
    for name, shape in zip(names, shapes, strict=True):
        if shape != shapes[0]:
            raise ValueError(
                f"datasets: images of {names[0]} have the shape {shapes[0]}, but images of {name} "
                f"{shape} (channels, height, width): give image_size"
            )
    if scenario == "domain":
        for name, source in zip(names, sources, strict=True):
            if source.n_classes != sources[0].n_classes:
                raise ValueError(
                    f"datasets: {names[0]} has {sources[0].n_classes} classes, but {name} has "
                    f"{source.n_classes}: use the scenario 'task' or 'class'"
                )
    # The label of each data set's class 0.
    firsts = [0] * len(sources)
    if scenario == "class":
        firsts = [*accumulate((source.n_classes for source in sources[:-1]), initial=0)]
    if seeds.order is not None:
        order = seeds.order_generator().permutation(len(sources)).tolist()
        sources, firsts = [sources[i] for i in order], [firsts[i] for i in order]
    sources = [transformed(source) for source in sources]
    tasks = limited(sources, sizes, seeds)
    return [
        _counted_from(first, standardised([task], source, standardise)[0])
        for first, task, source in zip(firsts, tasks, sources, strict=True)
    ]


def _coloured(source: Source, name: str) -> Source:
    train_x, test_x = (with_channels(x, 3, name) for x in (source.train_x, source.test_x))
    return replace(source, train_x=train_x, test_x=test_x)


def _counted_from(first: int, task: Task) -> Task:
    """Return a task whose class 0 has the label `first`, and so on."""
    classes = None if task.classes is None else task.classes + first
    return replace(task, train_y=task.train_y + first, test_y=task.test_y + first, classes=classes)
