"""Checks of a method's recipe: its arguments, and its fit with strategy and plugins."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Sequence
from typing import Any

from avalanche_ext.config.errors import Problem, at
from avalanche_ext.config.places import places_of
from avalanche_ext.config.schema import Component
from avalanche_ext.config.sections import Training
from avalanche_ext.config.signatures import read_signature
from avalanche_ext.words import shown

_GREEDY_MEMORY = 200
_GREEDY_REPLAY = 32
"""Avalanche's defaults: samples that GSS-greedy stores, and that it adds to each mini-batch."""

_INNER_UPDATES = 5
"""Avalanche's default of LaMAML's `n_inner_updates`."""


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
    if is_torch(criterion) and reduction != "mean":
        yield Problem(
            at(path, "reduction"),
            f"is {shown(reduction)}, but must be 'mean': methods assume that the loss is a mean "
            "over the mini-batch",
        )


def check_optimizer(optimizer: Component, path: str) -> Iterator[Problem]:
    """Check arguments of torch's optimizers against each other."""
    if not is_torch(optimizer):
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
    """Check one of torch's schedules against its other arguments and its number of steps.

    Args:
        scheduler: The schedule.
        training: The method's training section; None if the section has problems.
        section: The path of the section `training` in the YAML.
        own: The keys of this section; the others come from the experiment's section.
        n_experiences: Number of experiences that the method trains on, 1 if unknown.
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
            "'OneCycleLR' has a fixed number of steps, but the number of epochs in "
            "training.iterations is unknown: give the scheduler by: iteration",
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
    """Return the number of experiences in a benchmark's arguments, 1 if they do not give it."""
    args = benchmark.args if benchmark else {}
    datasets = args.get("datasets")
    n_experiences = len(datasets) if isinstance(datasets, list) else args.get("n_experiences")
    return n_experiences if isinstance(n_experiences, int) else 1


def check_momentum(
    scheduler: Component | None, optimizer: Component | None, path: str
) -> Iterator[Problem]:
    """Check that an optimizer has the momentum that one of torch's schedules changes.

    Args:
        scheduler: The schedule, if there is one.
        optimizer: The optimizer; None if it has problems.
        path: The path at which a problem is reported.
    """
    if scheduler is None or optimizer is None or not is_torch(optimizer):
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


def check_packed(
    strategy: Component | None,
    optimizer: Component | None,
    training: Training | None,
    path: str,
) -> Iterator[Problem]:
    """Check that PackNet has an epoch before it prunes, and that frozen weights do not decay.

    Args:
        strategy: The strategy; None if it has problems, as for the other parts.
        optimizer: The method's optimizer.
        training: The method's training section.
        path: The path of the method in the YAML.
    """
    if strategy is None or strategy.name != "avalanche:PackNet":
        return
    after = strategy.args["post_prune_epochs"]
    if after < 1:
        yield Problem(at(path, "args.post_prune_epochs"), f"is {after}, but must be at least 1")
    elif training and training.iterations is None and training.epochs <= after:
        yield Problem(
            at(path, "args.post_prune_epochs"),
            f"is {after}, but must be less than training.epochs, which is {training.epochs}",
        )
    decay = _weight_decay(optimizer) if optimizer else None
    if decay:
        yield Problem(
            at(path, "optimizer.weight_decay"),
            f"is {decay}, but must be 0 with 'avalanche:PackNet', whose frozen weights it would "
            "shrink",
        )


def _weight_decay(optimizer: Component) -> Any:
    """Return the weight decay of an optimizer, its default if the YAML gives none."""
    signature = read_signature(optimizer.target)
    return optimizer.args.get("weight_decay", signature.defaults().get("weight_decay"))


def check_feature_replay(strategy: Component | None, path: str) -> Iterator[Problem]:
    """Check that the memory of Avalanche's FeatureReplay holds at least one of its mini-batches.

    It draws only whole mini-batches from the memory, and waits for ever if there is none.

    Args:
        strategy: The strategy; None if it has problems.
        path: The path of the method in the YAML.
    """
    if strategy is None or strategy.name != "avalanche:FeatureReplay":
        return
    defaults = read_signature(strategy.target).defaults()
    size, least = ({**defaults, **strategy.args}[key] for key in ("mem_size", "batch_size_mem"))
    if least is not None and size < least:
        yield Problem(
            at(path, "args.mem_size"),
            f"is {size}, but must be at least {least}, the batch_size_mem of '{strategy.name}'",
        )


def check_greedy(
    strategy: Component | None,
    plugins: Sequence[Component | None],
    training: Training | None,
    path: str,
) -> Iterator[Problem]:
    """Check that the memory of Avalanche's GSS-greedy can hold a mini-batch plus replayed rows.

    Args:
        strategy: The strategy; None if it has problems, as for the other parts.
        plugins: The plugins, in order.
        training: The method's training section.
        path: The path of the method in the YAML.
    """
    for place in places_of(strategy, plugins, path):
        size = place.component.args.get("mem_size", _GREEDY_MEMORY)
        if training is None or not place.component.name.startswith("avalanche:GSS_greedy"):
            continue
        least = training.batch_size + _GREEDY_REPLAY
        if size < least:
            yield Problem(
                at(place.args_path, "mem_size"),
                f"is {size}, but must be at least {least}: '{place.component.name}' replays "
                f"{_GREEDY_REPLAY} samples in addition to the {training.batch_size} of "
                "training.batch_size",
            )


def check_look_ahead(
    strategy: Component | None,
    training: Training | None,
    path: str,
    benchmark: Component | None,
) -> Iterator[Problem]:
    """Check that each inner update of Avalanche's LaMAML has samples.

    It leaves out incomplete mini-batches, cuts a mini-batch of b rows into parts of ⌈b /
    n_inner_updates⌉, and uses one part for each update.

    Args:
        strategy: The strategy; None if it has problems.
        training: The method's training section; None if it has problems.
        path: The path of the method in the YAML.
        benchmark: The method's benchmark; None if it has problems.
    """
    if strategy is None or training is None or strategy.name != "avalanche:LaMAML":
        return
    batch_size = training.batch_size
    size = benchmark.args.get("train_size") if benchmark else None
    if isinstance(size, int) and size < batch_size:
        yield Problem(
            at(path, "strategy"),
            f"'{strategy.name}' trains on whole mini-batches only, but training.batch_size is "
            f"{batch_size} and benchmark.train_size {size}: give a smaller batch_size",
        )
    n_updates = strategy.args.get("n_inner_updates", _INNER_UPDATES)
    n_parts = math.ceil(batch_size / math.ceil(batch_size / n_updates))
    if n_parts < n_updates:
        yield Problem(
            at(path, "args.n_inner_updates"),
            f"is {n_updates}, but a mini-batch of {batch_size} makes only {n_parts} parts of "
            f"{math.ceil(batch_size / n_updates)}: give {n_parts}, or a multiple of {n_updates} as "
            "training.batch_size",
        )


def _is_above(low: Any, high: Any) -> bool:
    return isinstance(low, float | int) and isinstance(high, float | int) and low > high


def is_torch(component: Component) -> bool:
    """Return whether a component is torch's own."""
    return component.target.startswith("torch.")


def _torch_class(component: Component) -> str | None:
    return component.target.rpartition(":")[2] if is_torch(component) else None
