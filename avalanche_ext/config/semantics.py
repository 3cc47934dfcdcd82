"""Checks for parts that do not fit together although each key is valid; they need no data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from avalanche_ext.config.builtins import built_in
from avalanche_ext.config.catalogue import ANALYSES, known_classes
from avalanche_ext.config.errors import Problem, at
from avalanche_ext.config.places import Place, places_of
from avalanche_ext.config.schema import Component
from avalanche_ext.config.sections import LONGEST_NAME
from avalanche_ext.traits import Part, conflicts
from avalanche_ext.words import shown

_SUFFIXES = (".csv", ".html", ".pdf", ".png", ".svg", ".txt", ".yaml")
"""Extensions of the files next to the folders of methods."""


def check_benchmark(benchmark: Component) -> Iterator[Problem]:
    """Check that the classes can be divided among the experiences, and the sizes of subsets."""
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
    """Check that a model with heads or masks has task labels to choose them by."""
    scenario = benchmark.args.get("scenario")
    if "scenario" not in benchmark.args or scenario == "task":
        return
    if model.name == "supsup":
        yield Problem(
            at(path, "name"),
            "is 'supsup', whose masks are chosen by task label: set benchmark.scenario, which is "
            f"{shown(scenario)}, to 'task'",
        )
    if model.args.get("multi_head") is True:
        yield Problem(
            at(path, "multi_head"),
            "is true, but heads are chosen by task label: set benchmark.scenario, which is "
            f"{shown(scenario)}, to 'task'",
        )


def check_names(names: Mapping[str, Sequence[str]]) -> Iterator[Problem]:
    """Check that the folders of methods do not clash with each other or with a report's files.

    Args:
        names: The names of the methods that each section of `methods` expands to.
    """
    first: dict[str, str] = {}
    for section, name in ((section, name) for section, made in names.items() for name in made):
        path = at("methods", section)
        other = first.setdefault(name.lower(), name)
        if other != name:
            yield Problem(
                path,
                f"'{name}' differs from '{other}' only in case, and would share its folder on "
                "macOS and Windows: rename one",
            )
        suffix = next((each for each in _SUFFIXES if name.lower().endswith(each)), None)
        if suffix:
            yield Problem(
                path,
                f"'{name}' must not end in '{suffix}': the folder is next to the report's files",
            )
        if name != section and len(name) > LONGEST_NAME:
            yield Problem(
                path,
                f"the sweep makes a name of {len(name)} characters, but a folder's name has at "
                f"most {LONGEST_NAME}",
            )


def check_built_ins(
    strategy: Component | None,
    plugins: Sequence[Component | None],
    path: str,
    model: Component | None,
    benchmark: Component | None,
) -> Iterator[Problem]:
    """Check that Avalanche's strategies and plugins work with the model and the benchmark.

    Args:
        strategy: The strategy; None if it has problems.
        plugins: The plugins, in order; None for those with problems.
        path: The path of the method in the YAML.
        model: The model; None if it has problems.
        benchmark: The method's benchmark; None if it has problems.
    """
    has_heads = model.args.get("multi_head") if model else None
    scenario = benchmark.args.get("scenario") if benchmark else None
    for place in places_of(strategy, plugins, path):
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
                f"'{name}' does not work with benchmark.scenario {shown(scenario)}: set it "
                f"to {right}, or leave the method out",
            )


def check_method(
    strategy: Component | None,
    plugins: Sequence[Component | None],
    path: str,
    benchmark: Component | None,
) -> Iterator[Problem]:
    """Check a method's parts against each other and against the benchmark.

    Args:
        strategy: The strategy; None if it has problems.
        plugins: The plugins, in order; None for those with problems.
        path: The path of the method in the YAML.
        benchmark: The method's benchmark.
    """
    places = places_of(strategy, plugins, path)
    yield from _check_combination(places)
    for place in places:
        yield from _check_modes(place)
        if not place.component.target.startswith("avalanche_ext."):
            continue  # An argument's name does not tell its meaning in another package.
        if benchmark:
            yield from _check_memory(place, benchmark)
        yield from _check_candidates(place)
        yield from _check_consolidation(place)


def _check_combination(places: Sequence[Place]) -> Iterator[Problem]:
    """Check that the parts of a method can act together."""
    # Our strategies are built from these plugins.
    owners = [(place, traits) for place in places for traits in place.traits]
    parts = [Part(place.component.name, traits) for place, traits in owners]
    for conflict in conflicts(parts):
        place, _ = owners[conflict.index]
        key = conflict.argument
        if key is None:
            yield Problem(place.path, conflict.message)
        else:
            value = shown(place.component.args[key])
            yield Problem(at(place.args_path, key), f"is {value}, but {conflict.message}")


def _check_modes(place: Place) -> Iterator[Problem]:
    """Check that Avalanche's EWC has a decay if, and only if, it is online."""
    args = place.component.args
    if place.component.name not in ("avalanche:EWC", "avalanche:EWCPlugin"):
        return
    is_online, decay = args.get("mode") == "online", args.get("decay_factor")
    if is_online and decay is None:
        wrong = "missing, but mode 'online' needs it (a number from 0 to 1)"
        yield Problem(at(place.args_path, "decay_factor"), wrong)
    if not is_online and decay is not None:
        wrong = f"is {decay}, but only mode 'online' has it: add mode: online, or leave it out"
        yield Problem(at(place.args_path, "decay_factor"), wrong)


def _check_candidates(place: Place) -> Iterator[Problem]:
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


def _check_consolidation(place: Place) -> Iterator[Problem]:
    """Check that estimates use at least one sample, and that there is a penalty."""
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


def _check_memory(place: Place, benchmark: Component) -> Iterator[Problem]:
    """Check that a memory balanced over groups can hold a sample of each group."""
    args = place.component.args
    # If a YAML cannot choose the buffer, a balanced one is a ring.
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
    """Check that a method has each analysis only once, its own and those of `analyses` together."""
    added = {analysis.name for analysis in analyses}
    for index, plugin in enumerate(plugins):
        if plugin is None or plugin.name not in ANALYSES:
            continue
        where = at(at(path, "plugins"), index)
        if plugin.name in added:
            yield Problem(
                where,
                f"'{plugin.name}' is already added to every method by the section 'analyses': "
                "keep one of them",
            )
        elif plugin.name in [other.name for other in plugins[:index] if other]:
            yield Problem(where, f"'{plugin.name}' is listed twice: keep one of them")
        yield from check_analysis(plugin, at(where, plugin.name))


def check_analysis(analysis: Component, path: str) -> Iterator[Problem]:
    """Check that an analysis uses a stream that is evaluated."""
    stream = analysis.args.get("stream", "test")
    if stream != "test":
        yield Problem(
            at(path, "stream"),
            f"is {shown(stream)}, but must be 'test', the one stream that is evaluated",
        )
