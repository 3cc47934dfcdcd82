"""What a method trains with: model, optimizer, criterion, schedule and the `training` section."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from avalanche_ext.config.catalogue import Kind
from avalanche_ext.config.components import component, sound_part
from avalanche_ext.config.errors import Problem, at, lies_at
from avalanche_ext.config.schema import Component
from avalanche_ext.config.sections import Training
from avalanche_ext.config.semantics import (
    check_criterion,
    check_optimizer,
    check_scheduler,
    check_training,
)
from avalanche_ext.config.validation import of_type, validate
from avalanche_ext.words import shown


@dataclass(frozen=True)
class Recipe:
    """The `training` section, and what its keys name; None where a part has problems, or is not.

    Attributes:
        training: The section.
        criterion: The loss function; None for the cross-entropy.
        scheduler: The learning rates' schedule; None for none.
    """

    training: Training | None
    criterion: Component | None
    scheduler: Component | None


def resolve_training(
    section: Any, path: str, benchmark: Component | None, shared: Any = None
) -> tuple[Recipe, list[Problem]]:
    """Check a `training` section.

    Args:
        section: What the YAML has.
        path: Where it has it.
        benchmark: What is learned; None if its section has problems.
        shared: The experiment's section, where this is a method's, which changes some of its keys.
            Problems with the others are not repeated.
    """
    own = of_type(dict, section, {})
    is_changed = shared is not None and isinstance(section, Mapping | None)
    given = {**of_type(dict, shared, {}), **own} if is_changed else section
    for one, other in (("epochs", "iterations"), ("iterations", "epochs")):
        if own.get(one) is not None and other not in own and isinstance(given, dict):
            given.pop(other, None)
    training, problems = validate(Training, given, path)
    given = of_type(dict, given, {})
    criterion, found = _named_part("criterion", given, path)
    problems += found
    scheduler, found = _named_part("scheduler", given, path)
    problems += found
    if benchmark:
        problems += check_training(given.get("iid"), benchmark, path)
    problems += _misfits(given, scheduler, path, own)
    if criterion:
        problems += check_criterion(criterion, at(path, "criterion"))
    if scheduler:
        problems += check_scheduler(scheduler, training, at(path, "scheduler"))
    if shared is not None:
        problems = concerning(problems, path, own)
    return Recipe(training, criterion, scheduler), problems


def resolve_changed(
    kind: Kind, section: Any, path: str, shared: Any
) -> tuple[Component | None, Component | None, list[Problem]]:
    """Check a method's own model or optimizer.

    It keeps the arguments of the experiment's unless it names another one. Problems with these are
    not repeated.

    Returns:
        The component, or None if it has problems; what of it is right; and the problems.
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


def concerning(problems: Iterable[Problem], path: str, keys: Iterable[str]) -> list[Problem]:
    """Return the problems under one of `keys`; the others were reported for the shared section."""
    starts = [at(path, key) for key in keys]
    return [
        problem for problem in problems if any(lies_at(problem.path, start) for start in starts)
    ]


def _named(section: Any) -> dict[str, Any]:
    return {"name": section} if isinstance(section, str) else {**of_type(dict, section, {})}


def _named_part(
    kind: Kind, training: Mapping[str, Any], path: str
) -> tuple[Component | None, list[Problem]]:
    """What a key of the section names; the section's type has been checked."""
    value, where = training.get(kind), at(path, kind)
    if not isinstance(value, str | dict):
        return None, []
    args = _named(value)
    name = args.pop("name", None)
    if not isinstance(name, str):
        wrong = f"is {shown(name)}, but must be" if name is not None else "missing, must be"
        return None, [Problem(at(where, "name"), f"{wrong} the name of a {kind}")]
    name_path = where if isinstance(value, str) else at(where, "name")
    return component(kind, name, args, path=where, name_path=name_path)


def _misfits(
    given: Mapping[str, Any], scheduler: Component | None, path: str, own: Mapping[str, Any]
) -> Iterator[Problem]:
    """Yield what two keys cannot mean together, at the one that the section itself has."""
    if given.get("iterations") is not None and "epochs" in given:
        yield Problem(
            at(path, "iterations"),
            f"is {shown(given['iterations'])}, but 'epochs' is {shown(given['epochs'])}: "
            "give one of them",
        )
    if given.get("iid") is not True:
        return
    if given.get("iterations") is not None:
        key, value = ("iterations", given["iterations"]) if "iterations" in own else ("iid", True)
        yield Problem(
            at(path, key),
            f"is {shown(value)}, but iid: true passes over all samples: give 'epochs', not "
            "'iterations'",
        )
    if scheduler and (scheduler.args.get("by"), scheduler.args.get("reset")) != (
        "iteration",
        False,
    ):
        yield Problem(
            at(path, "scheduler" if "scheduler" in own else "iid"),
            "iid: true knows neither epochs nor the ends of experiences: give the scheduler "
            "by: iteration and reset: false",
        )
