"""Notes on settings that run but are probably mistakes, or are wrong in Avalanche."""

from __future__ import annotations

import math
from collections.abc import Iterator

from avalanche_ext.config.builtins import built_in
from avalanche_ext.config.errors import at
from avalanche_ext.config.places import Place, places_of
from avalanche_ext.config.recipe_checks import is_torch
from avalanche_ext.config.schema import Experiment, Method
from avalanche_ext.traits import Phase

_HIGH_RATE = 10.0
_MANY_EPOCHS = 100_000
_MANY_ITERATIONS = 100_000_000
"""Values above which a learning rate or the length of a training is surely mistyped."""

_HAS_ITS_OWN_START = ("ConstantLR", "CyclicLR", "LinearLR", "OneCycleLR")
"""Torch's schedules that change the learning rate before the first step."""


def notes(experiment: Experiment) -> list[str]:
    """Return one line for each setting that is probably a mistake, or is wrong in Avalanche."""
    sections = {name: key for key, sweep in experiment.sweeps.items() for name in sweep.values}
    found: dict[str, list[str]] = {}
    for name, method in experiment.methods.items():
        if name in experiment.undecided:
            continue  # It is one of its settings.
        path = at("methods", sections.get(name, name))
        for where, remark in _on_method(method, experiment, path):
            found.setdefault(remark, []).append(where)
    for name, search in experiment.tuning.searches.items() if experiment.tuning else ():
        searched = {at(at("methods", name), key): key for key in search.options}
        for setting in search.settings.values():
            for where, remark in _on_method(setting.method, experiment, at("methods", name)):
                if where in searched:
                    where = at(at("tune.search", name), searched[where])
                found.setdefault(remark, []).append(where)
    return [f"{', '.join(dict.fromkeys(paths))}: {remark}" for remark, paths in found.items()]


_Remarks = Iterator[tuple[str, str]]
"""Paths, each with a remark on it."""


def _on_method(method: Method, experiment: Experiment, path: str) -> _Remarks:
    yield from _on_built_ins(method, path)
    yield from _on_twins(method, path)
    yield from _on_rates(method, experiment, path)
    yield from _on_lengths(method, experiment, path)
    yield from _on_evaluations(method, experiment)


def _on_built_ins(method: Method, path: str) -> _Remarks:
    for each in (method.strategy, *method.plugins):
        state = built_in(each.target)
        if state and state.state == "wrong":
            yield path, f"'{each.name}' {state.remark}"


def _on_twins(method: Method, path: str) -> _Remarks:
    """Yield what is listed twice, except two losses of one class."""
    places = places_of(method.strategy, method.plugins, path)
    for index, place in enumerate(places):
        if _adds_a_term(place) and any(_are_alike(place, other) for other in places[:index]):
            yield place.path, f"'{place.component.name}' is listed twice, and counts twice"


def _on_rates(method: Method, experiment: Experiment, path: str) -> _Remarks:
    where = "" if method.optimizer == experiment.optimizer else path
    lr = method.optimizer.args.get("lr")
    if is_torch(method.optimizer) and isinstance(lr, float | int):
        if lr == 0:
            yield at(where, "optimizer.lr"), "is 0, so nothing is trained"
        elif lr > _HIGH_RATE:
            yield at(where, "optimizer.lr"), f"is {lr:g}, too large for almost any model to learn"
    training, scheduler = method.training, method.scheduler
    where = "" if training == experiment.training else path
    if (
        scheduler
        and scheduler.name not in _HAS_ITS_OWN_START
        and is_torch(scheduler)
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
    """Yield remarks on mini-batches larger than the data, and on trainings that never end."""
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
            yield at(where, f"training.{key}"), f"is {length:,}: such a run would hardly ever end"


def _on_evaluations(method: Method, experiment: Experiment) -> _Remarks:
    """Yield remarks on evaluations inside experiences that come too late, if lengths are known."""
    n, evaluate = _n_batches(method, experiment), experiment.evaluate
    if n is None or evaluate is None:
        return
    if evaluate.every >= n:
        lost = ["stability_gap"] if evaluate.every == n else ["stability_gap", "LCA"]
        verb = "is" if len(lost) == 1 else "are"
        yield (
            "evaluate.every",
            f"is {evaluate.every:,}, but an experience has {n:,} mini-batches, so nothing is "
            f"evaluated inside it, and {' and '.join(lost)} {verb} undefined",
        )
    elif evaluate.beta and evaluate.beta > n:
        yield (
            "evaluate.beta",
            f"is {evaluate.beta:,}, but an experience has {n:,} mini-batches, so LCA is undefined",
        )


def _n_batches(method: Method, experiment: Experiment) -> int | None:
    """Return the number of mini-batches of an experience; None if the YAML does not show it."""
    args, training = experiment.benchmark.args, method.training
    if training.iid or method.strategy.name == "avalanche:JointTraining":
        return None
    if training.iterations is not None:
        return training.iterations // training.repeats
    size = args.get("train_size")
    if not experiment.benchmark.target.startswith("avalanche_ext.") or not isinstance(size, int):
        return None
    if experiment.validation:
        size -= experiment.validation.per_experience
    online = args.get("online")
    if not isinstance(online, int):
        return training.epochs * math.ceil(size / training.batch_size)
    whole, rest = divmod(size, online)
    of_parts = whole * math.ceil(online / training.batch_size)
    return training.epochs * (of_parts + math.ceil(rest / training.batch_size))


def _adds_a_term(place: Place) -> bool:
    """Return whether a plugin adds a term to the loss, or pulls by one after the step."""
    phases = (Phase.PENALTY, Phase.PULL)
    return any(traits.phase in phases for traits in place.traits)


def _are_alike(place: Place, other: Place) -> bool:
    """Return whether two plugins have the same class, and the same loss if it has several."""
    one, two = place.component, other.component
    return (one.target, one.args.get("loss")) == (two.target, two.args.get("loss"))
