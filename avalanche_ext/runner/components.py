"""Create the objects of a cell from its plain description."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from avalanche.benchmarks import CLScenario
from avalanche.core import SupervisedPlugin
from avalanche.models import MultiHeadClassifier
from avalanche.training.supervised import JointTraining
from torch import Tensor, nn
from torch.optim import Optimizer

from avalanche_ext.benchmarks.build import iid_stream
from avalanche_ext.benchmarks.validation import validation_benchmark
from avalanche_ext.config import Cell, Component
from avalanche_ext.config.builtins import built_in
from avalanche_ext.config.catalogue import ANALYSES
from avalanche_ext.data import InMemoryLoaders, Strategy, in_memory, origin_index
from avalanche_ext.data.views import seeded_generators
from avalanche_ext.data_root import given_data_root
from avalanche_ext.metrics.recorder import NoEvaluation, TransferMatrix
from avalanche_ext.models import SupSup
from avalanche_ext.models.features import with_heads
from avalanche_ext.plugins import ContinualEvaluationPlugin, check_composition
from avalanche_ext.plugins.core.guard import LossGuard
from avalanche_ext.runner.builtin_models import Given, model_arguments, trained
from avalanche_ext.runner.foreign import (
    ComponentError,
    asked_for,
    by_own_names,
    call,
    check_class,
    check_mixable,
    check_streams,
    completed,
    is_ours,
    one_sample,
)
from avalanche_ext.runner.precision import set_precision
from avalanche_ext.runner.recipe import clip, recipe_plugins, run_keys, without_run_keys
from avalanche_ext.runner.trial import check_output, wants_logits
from avalanche_ext.strategies.compiled import compile_steps, why_eager
from avalanche_ext.strategies.repairs import repair


@dataclass(frozen=True)
class Built:
    """The objects of one run."""

    benchmark: CLScenario
    strategy: Strategy
    matrix: TransferMatrix
    plugins: Sequence[SupervisedPlugin]
    """What `make_plugins` has made."""
    inside: ContinualEvaluationPlugin | None = None
    """The plugin that evaluates inside experiences, if there is one."""


def build(cell: Cell, data_root: Path | None) -> Built:
    """Create benchmark, model, plugins and strategy, each from the cell's seed.

    Raises:
        Exception: Whatever a component raises when its arguments do not fit.
    """
    return build_on(create_benchmark(cell, data_root), cell)


def create_benchmark(cell: Cell, data_root: Path | None) -> CLScenario:
    """Create a cell's benchmark; one from another package or the user is checked and completed.

    Raises:
        Exception: As `build` does.
    """
    benchmark, seed = cell.benchmark, cell.seed
    data_root = given_data_root(data_root)
    roots = dict.fromkeys(("data_root", "dataset_root", "root"), data_root)
    benchmark = by_own_names(benchmark)
    # Functions of other packages may use the global generators.
    with seeded_generators([derived_seed(seed, "benchmark")]):
        made = call(benchmark, asked_for(benchmark, {"seed": seed, **roots}))
    if not is_ours(benchmark):
        check_streams(made, benchmark)
    if cell.validation:
        made = validation_benchmark(
            made,
            cell.validation.experiences,
            cell.validation.per_experience,
            derived_seed(seed, "validation"),
        )
    return made if is_ours(benchmark) else completed(made, benchmark)


def build_on(benchmark: CLScenario, cell: Cell, *, tries_model: bool = True) -> Built:
    """Create the rest of a cell, given its benchmark, which does not change.

    The model is created first after seeding, so that all methods start from the same weights.

    Args:
        benchmark: The benchmark.
        cell: The cell.
        tries_model: Whether to check the model's output for a sample.

    Raises:
        Exception: As `build` does.
    """
    seed, training = cell.seed, cell.training
    # An epoch has at least one iteration, so `iterations` ends the training before `epochs` does.
    epochs = training.iterations or training.epochs
    if training.iid:
        check_mixable(benchmark, cell.benchmark)
        # The stream itself repeats the data.
        benchmark, epochs = iid_stream(benchmark, epochs, derived_seed(seed, "iid")), 1
    _seed_everything(seed)
    sample = one_sample(benchmark)
    input_shape = tuple(sample.shape)
    model = _model(cell, sample, benchmark.n_classes, tries_model)
    _check_heads(model, benchmark)
    _check_tasks(cell.method.strategy, benchmark)
    if training.device != "cpu":
        benchmark = in_memory(benchmark, training.device)
    matrix = TransferMatrix()
    plugins = make_plugins(cell)
    template = {
        "train_mb_size": training.batch_size,
        "train_epochs": epochs,
        "eval_mb_size": training.eval_batch_size,
        "device": training.device,
    }
    criterion = _criterion(cell, benchmark.n_classes)
    arguments = model_arguments(
        cell.method.strategy.target,
        Given(
            model=model,
            criterion=criterion,
            args=cell.method.strategy.args,
            template=template,
            input_shape=input_shape,
            n_classes=benchmark.n_classes,
        ),
    )
    if cell.method.criterion and arguments.get("criterion") is not criterion:
        raise ValueError(
            f"strategy '{cell.method.strategy.name}' has a loss of its own: leave "
            "training.criterion out"
        )
    strategy = _seeded(
        cell.method.strategy,
        seed,
        "strategy",
        **arguments,
        **template,
        optimizer=make_optimizer(cell, trained(arguments)),
        plugins=[matrix, *plugins],
        evaluator=NoEvaluation(),
    )
    check_class("strategy", cell.method.strategy, strategy)
    repair(strategy)
    set_precision(strategy, training, input_shape)
    inside = _evaluated_inside(cell, benchmark, strategy)
    if training.compile and not why_eager(strategy):
        compile_steps(strategy)
    return Built(benchmark, strategy, matrix, plugins, inside)


def make_plugins(cell: Cell) -> list[SupervisedPlugin]:
    """Create the plugins of a cell: the method's, surrounded by the runner's.

    Raises:
        ValueError: If they cannot act together.
        Exception: As `build` does.
    """
    seed = cell.seed
    plugins = [
        InMemoryLoaders(derived_seed(seed, "loaders")),
        *(_plugin(each, index, seed) for index, each in enumerate(cell.method.plugins)),
        *recipe_plugins(cell.method),
        LossGuard(),
    ]
    check_composition(plugins)
    return plugins


def _evaluated_inside(
    cell: Cell, benchmark: CLScenario, strategy: Strategy
) -> ContinualEvaluationPlugin | None:
    if cell.evaluate is None:
        return None
    plugin = ContinualEvaluationPlugin(
        benchmark.test_stream,
        **cell.evaluate.model_dump(),
        is_mixed=cell.training.iid or isinstance(strategy, JointTraining),
        seed=derived_seed(cell.seed, "evaluate"),
    )
    # After everything that may change the weights, but before the clock, which must be last.
    strategy.plugins.insert(len(strategy.plugins) - 1, plugin)
    return plugin


def _model(cell: Cell, sample: Tensor, n_classes: int, tries: bool) -> nn.Module:
    component = cell.model
    own = without_run_keys("model", component)
    shape = tuple(sample.shape)
    sizes = {"input_shape": shape, "n_classes": n_classes, "num_classes": n_classes}
    model: nn.Module = call(own, asked_for(own, sizes))
    check_class("model", component, model)
    has_heads = run_keys("model", component)["multi_head"]
    if tries and wants_logits(cell.method.strategy):
        # Heads grow as needed.
        check_output(model, sample, 0 if has_heads else n_classes, component, cell.benchmark)
    return with_heads(model, shape) if has_heads else model


def _check_heads(model: nn.Module, benchmark: CLScenario) -> None:
    """Raise ValueError if heads or masks are chosen by task label, but all labels are the same."""
    if _n_origins(benchmark) == 1 or len(_task_labels(benchmark)) > 1:
        return
    if isinstance(model, SupSup):
        raise ValueError(
            "SupSup has a mask for each task label, but all experiences have the same: use a "
            "benchmark with task labels (scenario: task, or return_task_id: true)"
        )
    if any(isinstance(module, MultiHeadClassifier) for module in model.modules()):
        raise ValueError(
            "model.multi_head is true, but all experiences have the same task label, so there is "
            "one head: use a benchmark with task labels (scenario: task, or return_task_id: true)"
        )


def _check_tasks(strategy: Component, benchmark: CLScenario) -> None:
    """Raise ValueError if an Avalanche strategy for tasks has fewer labels than experiences."""
    state = built_in(strategy.target)
    if state is None or state.scenarios != ("task",):
        return
    n_labels, n = len(_task_labels(benchmark)), _n_origins(benchmark)
    if n_labels < n:
        raise ValueError(
            f"strategy '{strategy.name}' needs a task label of its own for each experience, but "
            f"the {n} experiences have {n_labels}: use a benchmark with task labels (scenario: "
            "task, or return_task_id: true)"
        )


def _task_labels(benchmark: CLScenario) -> set[int]:
    return {label for each in benchmark.train_stream for label in each.task_labels}


def _n_origins(benchmark: CLScenario) -> int:
    """Return the number of experiences; parts of an online stream's experience count as one."""
    return len({origin_index(experience) for experience in benchmark.train_stream})


def make_optimizer(cell: Cell, params: list[nn.Parameter]) -> Optimizer:
    """Make a cell's optimizer.

    Raises:
        Exception: As `build` does.
    """
    own = without_run_keys("optimizer", cell.optimizer)
    optimizer: Optimizer = call(own, {"params": params})
    check_class("optimizer", own, optimizer)
    if cell.training.clip_grad_norm is not None:
        clip(optimizer, cell.training.clip_grad_norm)
    return optimizer


def _criterion(cell: Cell, n_classes: int) -> nn.Module:
    """Make the loss function, and see that it is one of logits and labels.

    Raises:
        ComponentError: If it is of another class, or gives no single number.
    """
    component = cell.method.criterion
    if component is None:
        return nn.CrossEntropyLoss()
    criterion: nn.Module = call(component, {})
    check_class("criterion", component, criterion)
    try:
        loss = criterion(torch.zeros(2, n_classes), torch.zeros(2, dtype=torch.int64))
        is_number = loss.numel() == 1
    except Exception as error:
        raise ComponentError(
            f"training.criterion: '{component.name}' does not take logits (B, {n_classes}) and "
            f"labels (B,): {error}"
        ) from error
    if not is_number:
        raise ComponentError(
            f"training.criterion: '{component.name}' must return one number, but returns a tensor "
            f"of shape {tuple(loss.shape)}"
        )
    if any(parameter.requires_grad for parameter in criterion.parameters()):
        raise ComponentError(
            f"training.criterion: '{component.name}' has parameters to learn, but the optimizer "
            "steps only the model's"
        )
    return criterion.to(cell.training.device)


def derived_seed(seed: int, purpose: str) -> int:
    """Return a seed for one purpose within the run, independent of the other purposes' seeds."""
    sequence = np.random.SeedSequence([seed, crc32(purpose.encode())])
    return int(sequence.generate_state(1)[0])


def _purpose(plugin: Component, index: int) -> str:
    """Return the key of a plugin's seed: its place in the list, or the name of an analysis.

    So an analysis draws the same samples whatever other plugins a method has.
    """
    return plugin.name if plugin.name in ANALYSES else f"plugins[{index}]"


def _seeded(component: Component, seed: int, purpose: str, **injected: Any) -> Any:
    given = asked_for(component, {"seed": derived_seed(seed, purpose)})
    return call(component, {**given, **injected})


def _plugin(plugin: Component, index: int, seed: int) -> Any:
    made = _seeded(plugin, seed, _purpose(plugin, index))
    check_class("plugin", plugin, made)
    return made


def _seed_everything(seed: int) -> None:
    """Seed the global generators, from which models and Avalanche's own plugins draw."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
