"""How a method trains: its model, optimizer, criterion, schedule and `training` section."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from avalanche_ext.config.builtins import built_in
from avalanche_ext.config.catalogue import Kind
from avalanche_ext.config.components import component, find_entry, sound_part
from avalanche_ext.config.errors import Problem, at, lies_at
from avalanche_ext.config.recipe_checks import (
    check_criterion,
    check_optimizer,
    check_scheduler,
    check_training,
    experiences_of,
)
from avalanche_ext.config.schema import Component
from avalanche_ext.config.sections import Training
from avalanche_ext.config.signatures import locate
from avalanche_ext.config.traits import read_traits
from avalanche_ext.config.validation import of_type, validate
from avalanche_ext.words import shown

_IF_ONLINE = {
    "iterations": "give 'epochs', the passes over each part",
    "scheduler": "give the scheduler by: iteration",
}


@dataclass(frozen=True)
class Recipe:
    """The `training` section and the parts it names; None for parts with problems or absent ones.

    Attributes:
        training: The section.
        criterion: The loss function; None for the cross-entropy.
        scheduler: The learning rates' schedule; None for none.
    """

    training: Training | None
    criterion: Component | None
    scheduler: Component | None


def resolve_training(
    section: Any,
    path: str,
    benchmark: Component | None,
    shared: Any = None,
    trained_once: bool = False,
) -> tuple[Recipe, list[Problem]]:
    """Check a `training` section.

    Args:
        section: What the YAML has.
        path: Where it has it.
        benchmark: The benchmark; None if its section has problems.
        shared: The experiment's section, if this is a method's section that changes some of its
            keys. Problems with the other keys are not repeated.
        trained_once: Whether the method trains on all experiences at once.
    """
    own = of_type(dict, section, {})
    given = section
    if isinstance(section, Mapping) or (section is None and shared is not None):
        given = _merged(of_type(dict, shared, {}), own)
    training, problems = validate(Training, given, path)
    given = of_type(dict, given, {})
    criterion, found = _named_part("criterion", given, path)
    problems += found
    scheduler, found = _named_part("scheduler", given, path)
    problems += found
    if benchmark:
        problems += check_training(given.get("iid"), benchmark, path)
    online = benchmark.args.get("online") if benchmark else None
    problems += _misfits(given, scheduler, online, path, own)
    if criterion:
        problems += check_criterion(criterion, at(path, "criterion"))
    if scheduler:
        n_experiences = 1 if trained_once else experiences_of(benchmark)
        problems += check_scheduler(scheduler, training, path, own, n_experiences)
    if shared is not None:
        problems = concerning(problems, path, own)
    return Recipe(training, criterion, scheduler), problems


def resolve_changed(
    kind: Kind, section: Any, path: str, shared: Any
) -> tuple[Component | None, Component | None, list[Problem]]:
    """Check a method's own model or optimizer.

    It keeps the arguments of the experiment's model or optimizer unless it names a different one.
    Problems with these arguments are not repeated.

    Returns:
        The component, or None if it has problems; its correct part; and the problems.
    """
    common, own = _named(shared), _named(section)
    same = own.get("name", common.get("name")) == common.get("name")
    merged = {**common, **own} if same else own
    name = merged.pop("name", None)
    if not isinstance(name, str):
        return None, None, []
    made, found = component(kind, name, merged, path=path, name_path=at(path, "name"))
    sound = made or sound_part(kind, name, merged, path, found)
    if kind == "optimizer" and sound:
        found += check_optimizer(sound, path)
    return made, sound, concerning(found, path, own) if same else found


def check_recipe(
    strategy: Component | None,
    plugins: Sequence[Component | None],
    optimizer: Component | None,
    recipe: Recipe,
    path: str,
) -> Iterator[Problem]:
    """Check that all settings of a recipe have an effect in the method.

    Args:
        strategy: The strategy; None if it has problems, as for the other parts.
        plugins: Its plugins.
        optimizer: The method's optimizer.
        recipe: The method's recipe.
        path: The path of the method in the YAML.
    """
    training = recipe.training
    state = built_in(strategy.target) if strategy else None
    if strategy and state and state.ignores_criterion and recipe.criterion:
        yield Problem(
            at(path, "training.criterion"),
            f"is {shown(recipe.criterion.name)}, but '{strategy.name}' has a loss of its own: set "
            "it to null for this method",
        )
    if strategy and state and state.counts_epochs and training and training.iterations is not None:
        yield Problem(
            at(path, "training.iterations"),
            f"is {training.iterations}, but '{strategy.name}' needs epochs: give 'epochs'",
        )
    stepping = next(filter(_takes_own_steps, (strategy, *plugins)), None)
    clips = training is not None and training.clip_grad_norm is not None
    for key, is_given in (("clip_grad_norm", clips), ("scheduler", recipe.scheduler is not None)):
        if stepping and is_given:
            yield Problem(
                at(at(path, "training"), key),
                f"has no effect with '{stepping.name}', which moves the weights itself: set it to "
                "null for this method",
            )
    if training and training.iid and optimizer and optimizer.args.get("reset"):
        yield Problem(
            at(path, "optimizer.reset"),
            "is true, but with iid: true there are no experiences to start from: set it to false "
            "for this method",
        )


def _takes_own_steps(part: Component | None) -> bool:
    return part is not None and any(
        traits.takes_own_steps for traits in read_traits(part.target, part.args)
    )


def concerning(problems: Iterable[Problem], path: str, keys: Iterable[str]) -> list[Problem]:
    """Return the problems under one of `keys`; the others were reported for the shared section."""
    starts = [at(path, key) for key in keys]
    return [
        problem for problem in problems if any(lies_at(problem.path, start) for start in starts)
    ]


def _merged(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the shared section updated by a method's; named parts update their arguments."""
    given = {**shared, **own}
    for key in ("criterion", "scheduler"):
        if own.get(key) is not None:
            given[key] = _over(shared.get(key), own[key])
    for one, other in (("epochs", "iterations"), ("iterations", "epochs")):
        if own.get(one) is not None and own.get(other) is None:
            given.pop(other, None)
    if given.get("epochs", 1) is None:
        del given["epochs"]
    return given


def _over(shared: Any, own: Any) -> Any:
    """Return a part with the shared one's arguments, unless it names a different class."""
    if isinstance(own, Mapping) and isinstance(shared, str | Mapping):
        common = _named(shared)
        if own.get("name", common.get("name")) == common.get("name"):
            return {**common, **own}
    return own


def _named(section: Any) -> dict[str, Any]:
    return {"name": section} if isinstance(section, str) else {**of_type(dict, section, {})}


def _named_part(
    kind: Kind, training: Mapping[str, Any], path: str
) -> tuple[Component | None, list[Problem]]:
    """Resolve the component that a key of the section names; its type has been checked."""
    value, where = training.get(kind), at(path, kind)
    if not isinstance(value, str | dict):
        return None, []
    args = _named(value)
    name = args.pop("name", None)
    if not isinstance(name, str):
        wrong = f"is {shown(name)}, but must be" if name is not None else "missing, must be"
        return None, [Problem(at(where, "name"), f"{wrong} the name of a {kind}")]
    name_path = where if isinstance(value, str) else at(where, "name")
    entry, _ = find_entry(kind, name, name_path)
    if entry and isinstance(locate(entry.target)[1], ast.FunctionDef):
        wrong = f"'{name}' is a function, but must be a class: a {kind} is made for each run"
        return None, [Problem(name_path, wrong)]
    return component(kind, name, args, path=where, name_path=name_path)


def _misfits(
    given: Mapping[str, Any],
    scheduler: Component | None,
    online: int | None,
    path: str,
    own: Mapping[str, Any],
) -> Iterator[Problem]:
    """Yield contradictions between two keys, reported at the one in the section itself.

    Args:
        given: The section.
        scheduler: The schedule that it names.
        online: Number of samples of each mini-experience, if the benchmark is online.
        path: The path of the section in the YAML.
        own: The section's own keys, without those of the section that it changes.
    """
    if given.get("iterations") is not None and "epochs" in given:
        yield Problem(
            at(path, "iterations"),
            f"is {shown(given['iterations'])}, but 'epochs' is {shown(given['epochs'])}: "
            "give one of them",
        )
    by_epoch = scheduler is not None and scheduler.args.get("by", "epoch") == "epoch"
    for key, is_meant in (
        ("iterations", given.get("iterations") is not None),
        ("scheduler", by_epoch),
    ):
        if online is not None and is_meant:
            yield Problem(
                at(path, key),
                f"benchmark.online cuts experiences into parts of {online} samples, which have "
                f"epochs of their own: {_IF_ONLINE[key]}",
            )
    if given.get("iid") is not True:
        return
    if given.get("iterations") is not None:
        key, value = ("iterations", given["iterations"]) if "iterations" in own else ("iid", True)
        yield Problem(
            at(path, key),
            f"is {shown(value)}, but iid: true makes whole passes over all samples: give 'epochs', "
            "not 'iterations'",
        )
    if scheduler and (scheduler.args.get("by"), scheduler.args.get("reset")) != (
        "iteration",
        False,
    ):
        yield Problem(
            at(path, "scheduler" if "scheduler" in own else "iid"),
            "with iid: true there are no epochs or experiences to step by: give the scheduler "
            "by: iteration and reset: false",
        )
