"""Checks of parts that do not fit each other although each of their keys is right; need no data."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from avalanche_ext.config.builtins import built_in
from avalanche_ext.config.catalogue import ANALYSES, known_classes
from avalanche_ext.config.errors import Problem, at
from avalanche_ext.config.schema import Component, Experiment, Method
from avalanche_ext.config.sections import LONGEST_NAME, Training
from avalanche_ext.config.signatures import read_signature
from avalanche_ext.config.traits import read_traits
from avalanche_ext.config.validation import of_type
from avalanche_ext.traits import Part, Phase, Traits, conflicts
from avalanche_ext.words import shown

_GREEDY_MEMORY = 200
_GREEDY_REPLAY = 32
"""Avalanche's defaults: samples that GSS-greedy stores, and adds to each mini-batch."""

_INNER_UPDATES = 5
"""Avalanche's default of LaMAML's `n_inner_updates`."""

_SUFFIXES = (".csv", ".html", ".png", ".txt", ".yaml")
"""How the files end that lie beside the folders of methods."""

_HIGH_RATE = 10.0
_MANY_EPOCHS = 100_000
_MANY_ITERATIONS = 100_000_000
"""Values above which a learning rate or the length of a training is no doubt mistyped."""

_HAS_ITS_OWN_START = ("ConstantLR", "CyclicLR", "LinearLR", "OneCycleLR")
"""Schedules of torch's that change the learning rate before the first step."""


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
    """Check that the loss of a mini-batch is a mean."""
    reduction = criterion.args.get("reduction", "mean")
    if _is_torch(criterion) and reduction != "mean":
        yield Problem(
            at(path, "reduction"),
            f"is {shown(reduction)}, but must be 'mean': methods take the loss for a mean over the "
            "mini-batch",
        )


def check_optimizer(optimizer: Component, path: str) -> Iterator[Problem]:
    """Check arguments of torch's optimizers against each other."""
    if not _is_torch(optimizer):
        return
    args = optimizer.args
    if args.get("nesterov") is True and optimizer.name == "SGD":
        if not args.get("momentum"):
            wrong = "is true, but needs a momentum above 0: add 'momentum', such as 0.9"
            yield Problem(at(path, "nesterov"), wrong)
        elif args.get("dampening"):
            wrong = f"is {shown(args['dampening'])}, but must be 0 with nesterov: true"
            yield Problem(at(path, "dampening"), wrong)
    for key, wanted in (("etas", "[below 1, above 1]"), ("step_sizes", "[smaller, larger]")):
        low, high = args.get(key) or (0, 2)
        if high <= low or (key == "etas" and not low < 1 < high):
            yield Problem(at(path, key), f"is {shown(args[key])}, but must be {wanted}")


def check_scheduler(
    scheduler: Component,
    training: Training | None,
    section: str,
    own: Container[str],
    n_experiences: int,
) -> Iterator[Problem]:
    """Check a schedule of torch's against its other arguments, and against the steps it takes.

    Args:
        scheduler: The schedule.
        training: How the method trains; None where the section has problems of its own.
        section: Where the YAML has the section `training`.
        own: The section's keys; the others are those of the experiment's section.
        n_experiences: Experiences that the method trains on, 1 if that is not known.
    """
    args, path = scheduler.args, at(section, "scheduler")
    if _torch_class(scheduler) == "CyclicLR" and _is_above(args.get("base_lr"), args.get("max_lr")):
        wrong = f"is {shown(args['base_lr'])}, but must be at most max_lr, which is "
        yield Problem(at(path, "base_lr"), f"{wrong}{shown(args['max_lr'])}")
    if _torch_class(scheduler) != "OneCycleLR":
        return
    total = args.get("total_steps")
    if total is None and "epochs" in args and "steps_per_epoch" in args:
        total = args["epochs"] * args["steps_per_epoch"]
    if total is None:
        yield Problem(
            at(path, "total_steps"),
            "missing, but 'OneCycleLR' needs it, or both 'epochs' and 'steps_per_epoch'",
        )
        return
    if training is None:
        return
    by_epoch = args.get("by", "epoch") == "epoch"
    if by_epoch and training.iterations is not None:
        yield Problem(
            path if "scheduler" in own else at(section, "iterations"),
            "'OneCycleLR' has a fixed number of steps, but how many epochs training.iterations "
            "makes is not known: give the scheduler by: iteration",
        )
        return
    key = "epochs" if by_epoch else "iterations"
    n_steps = training.epochs if by_epoch else training.iterations
    n_runs = 1 if args.get("reset", True) else n_experiences
    if n_steps is None or n_steps * n_runs <= total:
        return
    each = f" for each of {n_runs} experiences" if n_runs > 1 else ""
    if "scheduler" in own:
        yield Problem(
            at(path, "total_steps" if "total_steps" in args else "epochs"),
            f"gives 'OneCycleLR' {total} steps, but must give at least {n_steps * n_runs}: as many "
            f"as training.{key}{each}",
        )
    else:
        yield Problem(
            at(section, key),
            f"is {n_steps}{each}, but must be at most {total // n_runs}: as many steps as "
            "training.scheduler has",
        )


def experiences_of(benchmark: Component | None) -> int:
    """Return how many experiences a benchmark has as its arguments say, 1 where they do not."""
    args = benchmark.args if benchmark else {}
    n_experiences = args.get("n_experiences", len(of_type(list, args.get("datasets"), [0])))
    return of_type(int, n_experiences, 1)


def check_momentum(
    scheduler: Component | None, optimizer: Component | None, path: str
) -> Iterator[Problem]:
    """Check that an optimizer has the momentum that a schedule of torch's changes.

    Args:
        scheduler: The schedule, if there is one.
        optimizer: The optimizer; None where it has problems of its own.
        path: Where the YAML has the one of them that a problem is put down to.
    """
    if scheduler is None or optimizer is None or not _is_torch(optimizer):
        return
    changes = scheduler.args.get("cycle_momentum", True)
    if _torch_class(scheduler) not in ("CyclicLR", "OneCycleLR") or not changes:
        return
    names = {each.name for each in read_signature(optimizer.target).parameters}
    if not names & {"momentum", "betas"}:
        yield Problem(
            path,
            f"'{scheduler.name}' changes the momentum, but '{optimizer.name}' has none: set "
            "training.scheduler.cycle_momentum to false",
        )


def _is_above(low: Any, high: Any) -> bool:
    return isinstance(low, float | int) and isinstance(high, float | int) and low > high


def _is_torch(component: Component) -> bool:
    return component.target.startswith("torch.")


def _torch_class(component: Component) -> str | None:
    return component.target.rpartition(":")[2] if _is_torch(component) else None


def check_names(names: Mapping[str, Sequence[str]]) -> Iterator[Problem]:
    """Check that the folders of methods can lie beside each other and beside a report's files.

    Args:
        names: The names of the methods that each section of `methods` stands for.
    """
    first: dict[str, str] = {}
    for section, name in ((section, name) for section, made in names.items() for name in made):
        path = at("methods", section)
        other = first.setdefault(name.lower(), name)
        if other != name:
            yield Problem(
                path,
                f"'{name}' differs from '{other}' in case alone, and would share its folder on "
                "macOS and Windows: rename one",
            )
        suffix = next((each for each in _SUFFIXES if name.lower().endswith(each)), None)
        if suffix:
            yield Problem(
                path,
                f"'{name}' must not end in '{suffix}': the folder lies beside the report's files",
            )
        if name != section and len(name) > LONGEST_NAME:
            yield Problem(
                path,
                f"the sweep makes a name of {len(name)} characters, but a folder's name has at "
                f"most {LONGEST_NAME}",
            )


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
    if training and training.iterations is not None:
        yield Problem(
            at(path, "training.iterations"),
            f"is {training.iterations}, but '{strategy.name}' prunes after so many epochs: give "
            "'epochs'",
        )
    elif after < 1:
        yield Problem(at(path, "args.post_prune_epochs"), f"is {after}, but must be at least 1")
    elif training and training.epochs <= after:
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


def check_look_ahead(
    strategy: Component | None, training: Training | None, path: str
) -> Iterator[Problem]:
    """Check that each inner update of Avalanche's LaMAML has samples.

    It cuts a mini-batch of b rows into parts of ⌈b / n_inner_updates⌉, and takes one for each.

    Args:
        strategy: The strategy; None where it has problems of its own.
        training: How the method trains; None where it has problems of its own.
        path: Where the YAML has the method.
    """
    if strategy is None or training is None or strategy.name != "avalanche:LaMAML":
        return
    batch_size = training.batch_size
    n_updates = strategy.args.get("n_inner_updates", _INNER_UPDATES)
    n_parts = math.ceil(batch_size / math.ceil(batch_size / n_updates))
    if n_parts < n_updates:
        yield Problem(
            at(path, "args.n_inner_updates"),
            f"is {n_updates}, but a mini-batch of {batch_size} makes only {n_parts} parts of "
            f"{math.ceil(batch_size / n_updates)}: give {n_parts}, or a multiple of {n_updates} as "
            "training.batch_size",
        )


def notes(experiment: Experiment) -> list[str]:
    """Return what runs, but is hardly meant, or is wrong in Avalanche; one line for each."""
    sections = {name: key for key, sweep in experiment.sweeps.items() for name in sweep.values}
    found: dict[str, list[str]] = {}
    for name, method in experiment.methods.items():
        path = at("methods", sections.get(name, name))
        for where, remark in (
            *_on_built_ins(method, path),
            *_on_twins(method, path),
            *_on_rates(method, experiment, path),
            *_on_lengths(method, experiment, path),
        ):
            found.setdefault(remark, []).append(where)
    return [f"{', '.join(dict.fromkeys(paths))}: {remark}" for remark, paths in found.items()]


_Remarks = Iterator[tuple[str, str]]
"""Paths, each with what is to be said of it."""


def _on_built_ins(method: Method, path: str) -> _Remarks:
    for each in (method.strategy, *method.plugins):
        state = built_in(each.target)
        if state and state.state == "wrong":
            yield path, f"'{each.name}' {state.remark}"


def _on_twins(method: Method, path: str) -> _Remarks:
    """What is listed twice, unless it is two losses of one class."""
    places = _places(method.strategy, method.plugins, path)
    for index, place in enumerate(places):
        if _adds_a_term(place) and any(_are_alike(place, other) for other in places[:index]):
            yield place.path, f"'{place.component.name}' is listed twice, and counts twice"


def _on_rates(method: Method, experiment: Experiment, path: str) -> _Remarks:
    where = "" if method.optimizer == experiment.optimizer else path
    lr = method.optimizer.args.get("lr")
    if _is_torch(method.optimizer) and isinstance(lr, float | int):
        if lr == 0:
            yield at(where, "optimizer.lr"), "is 0, so that nothing is trained"
        elif lr > _HIGH_RATE:
            yield at(where, "optimizer.lr"), f"is {lr:g}, with which hardly any model learns"
    training, scheduler = method.training, method.scheduler
    where = "" if training == experiment.training else path
    if (
        scheduler
        and scheduler.name not in _HAS_ITS_OWN_START
        and _is_torch(scheduler)
        and scheduler.args.get("by", "epoch") == "epoch"
        and scheduler.args.get("reset", True)
        and training.iterations is None
        and training.epochs == 1
    ):
        yield (
            at(where, "training.scheduler"),
            "changes nothing: it steps after each epoch, starts again in each experience, and an "
            "experience has 1 epoch; give by: iteration, or reset: false",
        )


def _on_lengths(method: Method, experiment: Experiment, path: str) -> _Remarks:
    """Mini-batches larger than the data, and trainings that never end."""
    training = method.training
    where = "" if training == experiment.training else path
    for key in ("train_size", "online"):
        size = experiment.benchmark.args.get(key)
        is_ours = experiment.benchmark.target.startswith("avalanche_ext.")
        if is_ours and not training.iid and isinstance(size, int) and training.batch_size > size:
            yield (
                at(where, "training.batch_size"),
                f"is {training.batch_size}, but benchmark.{key} is {size}: each mini-batch has "
                f"{size} samples of the stream",
            )
    lengths = (("epochs", _MANY_EPOCHS), ("iterations", _MANY_ITERATIONS))
    for key, most in lengths:
        length = getattr(training, key) or 0
        if length > most:
            yield at(where, f"training.{key}"), f"is {length:,}: such a run hardly ends"


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
        yield from _check_modes(place)
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


def _adds_a_term(place: _Place) -> bool:
    """Return whether a plugin adds a term to the loss, or pulls by one after the step."""
    phases = (Phase.PENALTY, Phase.PULL)
    return any(traits.phase in phases for traits in _traits(place.component))


def _are_alike(place: _Place, other: _Place) -> bool:
    """Return whether two are of one class, and of one of its losses where it has several."""
    one, two = place.component, other.component
    return (one.target, one.args.get("loss")) == (two.target, two.args.get("loss"))


def _traits(component: Component) -> Sequence[Traits]:
    return read_traits(component.target, component.args)


def _check_modes(place: _Place) -> Iterator[Problem]:
    """Check that Avalanche's EWC forgets old tasks where it is online, and there alone."""
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
