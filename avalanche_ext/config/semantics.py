"""Checks of parts that do not fit each other although each of their keys is right; need no data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from avalanche_ext.config.builtins import built_in
from avalanche_ext.config.catalogue import ANALYSES, known_classes
from avalanche_ext.config.errors import Problem, at
from avalanche_ext.config.schema import Component, Experiment
from avalanche_ext.config.sections import Training
from avalanche_ext.config.traits import read_traits
from avalanche_ext.traits import Part, Traits, conflicts
from avalanche_ext.words import shown

_GREEDY_MEMORY = 200
_GREEDY_REPLAY = 32
"""Avalanche's defaults: samples that GSS-greedy stores, and adds to each mini-batch."""

_NOT_NEGATIVE = ("lr", "momentum", "weight_decay", "eps")


def check_benchmark(benchmark: Component) -> Iterator[Problem]:
    """Check that the classes can be dealt out to the experiences, and the sizes of subsets."""
    train_size, pool_size = benchmark.args.get("train_size"), benchmark.args.get("pool_size")
    if train_size is not None and pool_size is not None and train_size > pool_size:
        yield Problem(
            "benchmark.train_size",
            f"is {train_size}, but must be at most benchmark.pool_size, which is {pool_size}",
        )
    n_classes = known_classes(benchmark.name)
    n_experiences = benchmark.args.get("n_experiences")
    if not benchmark.name.startswith("split_") or n_classes is None or n_experiences is None:
        return
    if n_classes % n_experiences:
        divisors = [str(n) for n in range(1, n_classes + 1) if n_classes % n == 0]
        yield Problem(
            "benchmark.n_experiences",
            f"is {n_experiences}, but must divide the {n_classes} classes of '{benchmark.name}': "
            + ", ".join(divisors),
        )


def check_model(model: Component, benchmark: Component, path: str) -> Iterator[Problem]:
    """Check that a multi-head model has task labels to choose the head by."""
    scenario = benchmark.args.get("scenario")
    if model.args.get("multi_head") is True and "scenario" in benchmark.args and scenario != "task":
        yield Problem(
            at(path, "multi_head"),
            "is true, but heads are chosen by task label: needs benchmark.scenario: task, "
            f"which is {shown(scenario)}",
        )


def check_training(iid: Any, benchmark: Component, path: str) -> Iterator[Problem]:
    """Check that the samples of all experiences may be mixed, if `training.iid` asks for it."""
    if iid is True and benchmark.args.get("scenario") == "task":
        yield Problem(
            at(path, "iid"),
            "is true, but would mix samples of different task labels: "
            "needs a benchmark.scenario other than 'task'",
        )
    if iid is True and benchmark.args.get("online") is not None:
        yield Problem(
            at(path, "iid"),
            "is true, but the mini-experiences of an online stream cannot be mixed: "
            "leave out benchmark.online or training.iid",
        )


def check_criterion(criterion: Component, path: str) -> Iterator[Problem]:
    """Check that the loss of a mini-batch is one number."""
    if criterion.args.get("reduction") == "none":
        yield Problem(
            at(path, "reduction"), "is 'none', but must be 'mean' or 'sum': a loss is one number"
        )


def check_optimizer(optimizer: Component, path: str) -> Iterator[Problem]:
    """Check the ranges that torch's signatures do not show."""
    for name in _NOT_NEGATIVE:
        value = optimizer.args.get(name)
        if isinstance(value, int | float) and value < 0:
            yield Problem(at(path, name), f"is {value}, but must be at least 0")


@dataclass(frozen=True)
class _Place:
    """A strategy or plugin, its path in the YAML, and the path of its arguments."""

    component: Component
    path: str
    args_path: str


def _places(
    strategy: Component | None, plugins: Sequence[Component | None], path: str
) -> list[_Place]:
    places = [_Place(strategy, at(path, "strategy"), at(path, "args"))] if strategy else []
    for index, plugin in enumerate(plugins):
        if plugin:
            where = at(at(path, "plugins"), index)
            places.append(_Place(plugin, where, at(where, plugin.name)))
    return places


def check_built_ins(
    strategy: Component | None,
    plugins: Sequence[Component | None],
    path: str,
    model: Component | None,
    benchmark: Component | None,
) -> Iterator[Problem]:
    """Check that Avalanche's strategies and plugins work with the model and the benchmark.

    Args:
        strategy: The strategy; None where it has problems of its own.
        plugins: The plugins, in order; None where one has problems of its own.
        path: Where the YAML has the method.
        model: What learns; None where it has problems of its own.
        benchmark: What the method learns; None where it has problems of its own.
    """
    has_heads = model.args.get("multi_head") if model else None
    scenario = benchmark.args.get("scenario") if benchmark else None
    for place in _places(strategy, plugins, path):
        name, state = place.component.name, built_in(place.component.target)
        if state is None:
            continue
        if (state.heads, has_heads) in (("one", True), ("many", False)):
            wanted, right = ("heads", "true") if state.heads == "many" else ("one head", "false")
            yield Problem(
                place.path,
                f"'{name}' needs a model with {wanted}: set model.multi_head to {right}, or leave "
                "the method out",
            )
        if scenario and scenario not in state.scenarios:
            right = " or ".join(shown(each) for each in state.scenarios)
            yield Problem(
                place.path,
                f"'{name}' does not work with benchmark.scenario {shown(scenario)}: it needs "
                f"{right}, or leave the method out",
            )


def check_packed(
    strategy: Component | None,
    optimizer: Component | None,
    training: Training | None,
    path: str,
) -> Iterator[Problem]:
    """Check that PackNet has an epoch before it prunes, and that frozen weights do not decay.

    Args:
        strategy: The strategy; None where it has problems of its own, as with the other parts.
        optimizer: What the method steps with.
        training: How the method trains.
        path: Where the YAML has the method.
    """
    if strategy is None or strategy.name != "avalanche:PackNet":
        return
    after = strategy.args["post_prune_epochs"]
    if training and training.epochs <= after:
        yield Problem(
            at(path, "args.post_prune_epochs"),
            f"is {after}, but must be less than training.epochs, which is {training.epochs}",
        )
    decay = optimizer.args.get("weight_decay") if optimizer else None
    if decay:
        yield Problem(
            at(path, "optimizer.weight_decay"),
            f"is {decay}, but must be 0 with 'avalanche:PackNet', whose frozen weights it would "
            "shrink",
        )


def check_greedy(
    strategy: Component | None,
    plugins: Sequence[Component | None],
    training: Training | None,
    path: str,
) -> Iterator[Problem]:
    """Check that the memory of Avalanche's GSS-greedy holds a mini-batch with its replayed rows.

    Args:
        strategy: The strategy; None where it has problems of its own, as with the other parts.
        plugins: The plugins, in order.
        training: How the method trains.
        path: Where the YAML has the method.
    """
    for place in _places(strategy, plugins, path):
        size = place.component.args.get("mem_size", _GREEDY_MEMORY)
        if training is None or not place.component.name.startswith("avalanche:GSS_greedy"):
            continue
        least = training.batch_size + _GREEDY_REPLAY
        if size < least:
            yield Problem(
                at(place.args_path, "mem_size"),
                f"is {size}, but must be at least {least}: '{place.component.name}' replays "
                f"{_GREEDY_REPLAY} samples beside the {training.batch_size} of training.batch_size",
            )


def notes(experiment: Experiment) -> list[str]:
    """Return what is wrong with Avalanche's strategies and plugins that run, one line for each."""
    sections = {name: key for key, sweep in experiment.sweeps.items() for name in sweep.values}
    found: dict[str, tuple[str, list[str]]] = {}
    for name, method in experiment.methods.items():
        for each in (method.strategy, *method.plugins):
            state = built_in(each.target)
            if state and state.state == "wrong":
                path = at("methods", sections.get(name, name))
                found.setdefault(each.name, (state.remark, []))[1].append(path)
    return [
        f"{', '.join(dict.fromkeys(paths))}: '{name}' {remark}"
        for name, (remark, paths) in found.items()
    ]


def check_method(
    strategy: Component | None,
    plugins: Sequence[Component | None],
    path: str,
    benchmark: Component | None,
) -> Iterator[Problem]:
    """Check a method's parts against each other and against the benchmark.

    Args:
        strategy: The strategy; None where it has problems of its own.
        plugins: The plugins, in order; None where one has problems of its own.
        path: Where the YAML has the method.
        benchmark: What the method learns.
    """
    places = _places(strategy, plugins, path)
    yield from _check_combination(places)
    for place in places:
        if not place.component.target.startswith("avalanche_ext."):
            continue  # What an argument of another package means is not known by its name.
        if benchmark:
            yield from _check_memory(place, benchmark)
        yield from _check_candidates(place)
        yield from _check_consolidation(place)


def _check_combination(places: Sequence[_Place]) -> Iterator[Problem]:
    """Check that the parts of a method can act together."""
    # A strategy of ours stands for the plugins that it is made of.
    owners = [(place, traits) for place in places for traits in _traits(place.component)]
    parts = [Part(place.component.name, traits) for place, traits in owners]
    for conflict in conflicts(parts):
        place, _ = owners[conflict.index]
        key = conflict.argument
        if key is None:
            yield Problem(place.path, conflict.message)
        else:
            value = shown(place.component.args[key])
            yield Problem(at(place.args_path, key), f"is {value}, but {conflict.message}")


def _traits(component: Component) -> Sequence[Traits]:
    return read_traits(component.target, component.args)


def _check_candidates(place: _Place) -> Iterator[Problem]:
    """Check that MIR can choose as many samples as it replays."""
    args = place.component.args
    key = "batch_size_mem" if "batch_size_mem" in args else "batch_size"
    n_candidates, batch_size = args.get("n_candidates"), args.get(key)
    if not (isinstance(n_candidates, int) and isinstance(batch_size, int)):
        return
    if n_candidates < batch_size and args.get("retrieval", "mir") == "mir":
        yield Problem(
            at(place.args_path, "n_candidates"),
            f"is {n_candidates}, but must be at least {key}, which is {batch_size}",
        )


def _check_consolidation(place: _Place) -> Iterator[Problem]:
    """Check that an estimate is of some samples, and that something is estimated."""
    args = place.component.args
    every = args.get("every")
    if every is not None and "n_samples" in args and args["n_samples"] is None:
        yield Problem(
            at(place.args_path, "n_samples"),
            f"is null, but 'every: {every}' needs a number: how many of the stream's last rows "
            "each estimate uses",
        )
    if args.get("rank") == 0 and args.get("residual") == "none":
        yield Problem(
            at(place.args_path, "rank"),
            "is 0, but must be at least 1, or residual 'diagonal': with residual 'none' there is "
            "no penalty",
        )


def _check_memory(place: _Place, benchmark: Component) -> Iterator[Problem]:
    """Check that a memory that is balanced over groups can hold a sample of each."""
    args = place.component.args
    # Where a YAML cannot name another buffer, what is balanced is a ring.
    if args.get("buffer", "ring" if "balance" in args else None) != "ring":
        return
    if args.get("balance") == "task":
        n_groups, groups = benchmark.args.get("n_experiences"), "experiences"
    else:
        n_groups, groups = known_classes(benchmark.name), "classes"
    size = args.get("mem_size")
    if isinstance(size, int) and isinstance(n_groups, int) and size < n_groups:
        yield Problem(
            at(place.args_path, "mem_size"),
            f"is {size}, but must be at least {n_groups}: "
            f"one sample for each of the {n_groups} {groups} of '{benchmark.name}'",
        )


def check_analyses(
    plugins: Sequence[Component | None], analyses: Sequence[Component], path: str
) -> Iterator[Problem]:
    """Check that a method has each analysis once, be it of its own or of the section `analyses`."""
    added = {analysis.name for analysis in analyses}
    for index, plugin in enumerate(plugins):
        if plugin is None or plugin.name not in ANALYSES:
            continue
        where = at(at(path, "plugins"), index)
        if plugin.name in added:
            yield Problem(
                where,
                f"'{plugin.name}' is what the section 'analyses' adds to every method: "
                "keep one of them",
            )
        elif plugin.name in [other.name for other in plugins[:index] if other]:
            yield Problem(where, f"'{plugin.name}' is listed twice: keep one of them")
        yield from check_analysis(plugin, at(where, plugin.name))


def check_analysis(analysis: Component, path: str) -> Iterator[Problem]:
    """Check that an analysis looks at what is evaluated."""
    stream = analysis.args.get("stream", "test")
    if stream != "test":
        yield Problem(
            at(path, "stream"),
            f"is {shown(stream)}, but must be 'test', the one stream that is evaluated",
        )
