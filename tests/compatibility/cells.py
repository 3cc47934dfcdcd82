"""One cell of the matrix: some plugins in a strategy, on a stream, with a model."""

from __future__ import annotations

import contextlib
import io
import random
import traceback
import warnings
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from avalanche.training import JointTraining
from torch import Tensor

import avalanche_ext
from avalanche_ext.data import origin_index
from avalanche_ext.metrics import NoEvaluation
from avalanche_ext.runner.foreign import call
from avalanche_ext.traits import Phase, traits_of
from tests.compatibility.oracle import Oracle, Uncheckable, Wrong
from tests.compatibility.parts import ModelName, made, model
from tests.compatibility.streams import stream
from tests.compatibility.watching import Criterion, Watch

OURS = Path(avalanche_ext.__file__).parent

NAIVE = "avalanche:Naive"


class End(Enum):
    """How a cell ends."""

    WORKS = "works"
    REFUSED = "refused"
    UPSTREAM = "fails without our plugins"
    WRONG = "wrong"
    IDLE = "without effect"
    SAID = "without effect, and says so"
    CRASH = "crash"
    LATE = "refused after training"


FINE = (End.WORKS, End.REFUSED, End.UPSTREAM, End.SAID)
"""Ends that a cell may have."""


@dataclass(frozen=True)
class Cell:
    """Plugins of ours in a strategy, on a stream, with a model; all by their names."""

    plugins: tuple[str, ...]
    strategy: str = NAIVE
    stream: str = "split"
    model: ModelName = "mlp"

    def __str__(self) -> str:
        return " · ".join([" + ".join(self.plugins) or "–", self.strategy, self.stream, self.model])


@dataclass(frozen=True)
class Outcome:
    """How a cell ended, and the reason, if it did not work."""

    end: End
    reason: str = ""


@dataclass
class _Run:
    """A strategy that was trained, or what stopped it."""

    error: Exception | None = None
    n_steps: int = 0
    state: dict[str, Tensor] | None = None
    oracle: Oracle | None = None
    watch: Watch | None = None
    warned: tuple[str, ...] = ()


def outcome(cell: Cell) -> Outcome:
    """Run a cell."""
    alone = without(cell.strategy, cell.stream, cell.model)
    if alone.error is not None:
        return Outcome(End.UPSTREAM, _words(alone.error))
    assert alone.state is not None
    if not all(bool(value.isfinite().all()) for value in alone.state.values()):
        return Outcome(End.UPSTREAM, "training diverges")
    run = _run(cell)
    if run.error is not None:
        return _failed(run)
    assert run.watch is not None
    assert run.oracle is not None
    for plugin in run.watch.plugins:
        name = type(plugin).__name__
        is_analysis = traits_of(plugin).phase is None
        if not is_analysis and not run.oracle.n_effects.get(id(plugin)):
            said = next((words for words in run.warned if words.startswith(name)), "")
            idle = f"{name} changes nothing after the first experience"
            return Outcome(End.SAID, said) if said else Outcome(End.IDLE, idle)
        try:
            run.oracle.finish(plugin)
        except Wrong as error:
            return Outcome(End.WRONG, f"{name}: {error}")
    added = [traits_of(p) for p in run.watch.plugins[: len(cell.plugins)]]
    is_same = _same(run.state, alone.state)
    if not is_same and all(traits.phase is None for traits in added):
        return Outcome(End.WRONG, "training is not the same without the plugin")
    # A projection leaves a gradient that violates no constraint, which the oracle has seen.
    acts = any(
        traits.criterion_alone or traits.phase not in (None, Phase.GRADIENT) for traits in added
    )
    if is_same and acts:
        return Outcome(End.IDLE, "the model is the same without the plugin")
    return Outcome(End.WORKS)


def zero_strength(cell: Cell) -> Outcome:
    """Run a cell with strength 0 for the one plugin, which must then change nothing."""
    run = _run(cell, lam=0.0)
    if run.error is not None:
        return _failed(run)
    alone = without(cell.strategy, cell.stream, cell.model)
    if not _same(run.state, alone.state):
        return Outcome(End.WRONG, "with lam=0 training is not the same as without the plugin")
    return Outcome(End.WORKS)


@cache
def without(strategy: str, stream: str, model: ModelName) -> Any:
    """The same strategy without our plugin."""
    return _run(Cell((), strategy, stream, model))


def _failed(run: _Run) -> Outcome:
    error = run.error
    assert error is not None
    if isinstance(error, Uncheckable):
        raise error
    words = _words(error)
    if isinstance(error, Wrong):
        return Outcome(End.WRONG, words)
    if _is_refusal(error):
        return Outcome(End.LATE if run.n_steps else End.REFUSED, words)
    return Outcome(End.CRASH, words)


def _is_refusal(error: Exception) -> bool:
    """Whether one of our own modules raised a ValueError."""
    if not isinstance(error, ValueError):
        return False
    frames = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    return frames[-1].is_relative_to(OURS)


def _words(error: Exception) -> str:
    """What an error says, without what is particular to a cell."""
    if not isinstance(error, ValueError | Wrong):
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}, {last.name}"
        return f"{type(error).__name__} in {where}: {[*str(error).splitlines(), ''][0]}"
    return str(error)


def _same(a: dict[str, Tensor] | None, b: dict[str, Tensor] | None) -> bool:
    if a is None or b is None or a.keys() != b.keys():
        return False
    return all(torch.equal(a[key], b[key]) for key in a)


def _seed() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)


def create_plugin(name: str, args: dict[str, Any]) -> Any:
    """A plugin with its small arguments, and these."""
    part = made("plugin", small=True)[name]
    return call(replace(part, args={**part.args, **args}), {})


def _run(cell: Cell, **args: Any) -> _Run:
    run = _Run()
    stream(cell.stream)  # Making one draws random numbers.
    _seed()
    try:
        with warnings.catch_warnings(record=True) as caught:
            # Avalanche's deprecated functions set filters of their own.
            warnings.simplefilter("always")
            with contextlib.redirect_stdout(io.StringIO()):
                _train(cell, run, args)
        mine = (str(each.message) for each in caught if each.category is UserWarning)
        run.warned = tuple(words for words in mine if "Plugin: " in words)
    except Exception as error:
        run.error = error
        run.n_steps = run.watch.n_steps if run.watch else 0
    return run


def _train(cell: Cell, run: _Run, args: dict[str, Any]) -> None:
    data = stream(cell.stream)
    net = model(cell.model, data.head)
    criterion = Criterion()
    given = {
        "model": net,
        "optimizer": torch.optim.SGD(net.parameters(), lr=0.1),
        "criterion": criterion,
        "train_mb_size": 10,
        "eval_mb_size": 20,
        "plugins": [create_plugin(name, args) for name in cell.plugins],
        "evaluator": NoEvaluation(),
        **({"eval_every": 1} if data.valid else {}),
    }
    strategy: Any = call(made("strategy", small=True)[cell.strategy], given)
    run.oracle = Oracle(data, strategy, criterion)
    run.watch = Watch(strategy, net, criterion, run.oracle.check)
    # Joint training is on the whole stream at once.
    is_joint = isinstance(strategy, JointTraining)
    states: dict[str, Tensor] = {}
    for index, experience in enumerate([data.train] if is_joint else data.train):
        run.watch.experience = index
        run.watch.task = origin_index(data.train[0] if is_joint else experience)
        if run.watch.task not in run.oracle.seen_tasks:
            run.oracle.seen_tasks.append(run.watch.task)
        strategy.train(experience, eval_streams=[data.valid] if data.valid else [])
        strategy.eval(data.test)
        # After each experience, since what `SupSup` learned is a mask in the end.
        now = strategy.model.state_dict().items()
        states |= {f"{index}: {name}": value.clone() for name, value in now}
    run.n_steps, run.state = run.watch.n_steps, states
