"""Training steps whose loss and gradients come from compiled code."""

from __future__ import annotations

import warnings
from typing import Any, Protocol

import torch
from avalanche.core import BasePlugin
from avalanche.models.utils import is_multi_task_module
from avalanche.training.templates.base_sgd import BaseSGDTemplate
from avalanche.training.templates.problem_type import SupervisedProblem
from avalanche.training.templates.update_type import SGDUpdate
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim import optimizer as torch_optimizers

from avalanche_ext.data import criterion_of
from avalanche_ext.functional.compiled.loss import CompiledLoss, Evaluated, missing_compiler
from avalanche_ext.functional.compiled.terms import NotCompilableError, Term
from avalanche_ext.functional.model.wrapped import unwrapped
from avalanche_ext.traits import traits_of

_USUAL: dict[str, tuple[type, str]] = {
    "training_epoch": (SGDUpdate, "training loop"),
    "forward": (SupervisedProblem, "forward pass"),
    "_make_empty_loss": (BaseSGDTemplate, "loss"),
    "criterion": (SupervisedProblem, "loss"),
    "backward": (BaseSGDTemplate, "backward pass"),
    "optimizer_step": (BaseSGDTemplate, "optimizer step"),
}
"""Methods of Avalanche's template that a compiled step uses or replaces."""
_MOST_CHANGES = 20
"""Maximum number of changes of a model within experiences; each may require compilation."""
_BETWEEN = ("before_forward", "after_forward", "before_backward")
"""Hooks in which a plugin can reach the graph of the loss."""
_OF_TERMS = ("representation_loss", "loss_at", "loss_tensors")
"""Methods of a loss term that compiled code includes."""


def compile_steps(strategy: Any) -> None:
    """Make a strategy compute the loss of a mini-batch and its gradients by compiled code.

    This helps with small models, whose steps mostly consist of calls of single operations.
    Avalanche's hooks are called as usual, with `mb_output`, `loss` and the parameters' `grad`, and
    a step of plain SGD is taken without the optimizer's bookkeeping. A plugin may offer its term of
    the loss, which the code then includes, see `CompiledSteps.offer_term`. Compiling takes seconds
    in the first iteration; see `functional.compiled.loss.CompiledLoss`. Each step differs from the
    uncompiled one only by rounding.

    A step runs uncompiled while hooks are set on the model. If the model cannot be compiled, all
    further steps run uncompiled. A single warning says why. `why_eager` says before training which
    strategies and plugins rule out compiled steps.

    Args:
        strategy: One of Avalanche's, with its plugins, before it is trained.

    Raises:
        ValueError: If `why_eager` gives a reason.
    """
    reason = why_eager(strategy)
    if reason:
        raise ValueError(f"no compiled steps: {reason}")
    CompiledSteps(strategy)


def why_eager(strategy: Any) -> str:
    """Return why a strategy's steps cannot be compiled, as the end of a sentence; "" if they can.

    A plugin needs uncompiled steps if it declares `reads_graph`, or acts in `before_forward`,
    `after_forward` or `before_backward` and does not declare `reads_graph = False`, or overrides
    the loss of a base class that does. Avalanche's plugins are known.
    """
    kind = type(strategy)
    for name, (usual, meaning) in _USUAL.items():
        if getattr(kind, name, None) is not getattr(usual, name):
            return f"{kind.__name__} has a {meaning} of its own"
    for plugin in strategy.plugins:
        if _reads_graph(plugin):
            return f"{type(plugin).__name__} needs the graph of the loss, or looks at layers"
    criterion, model = criterion_of(strategy), strategy.model
    if not isinstance(criterion, nn.Module) or isinstance(criterion, BasePlugin):
        return f"the criterion is a {type(criterion).__name__}, not a plain nn.Module"
    if unwrapped(model) is not model or model._compiled_call_impl is not None:
        return f"the model is wrapped or compiled already, in a {type(model).__name__}"
    if is_multi_task_module(model):
        return "which heads run depends on the task labels of each mini-batch"
    if "forward" in vars(model):
        return f"{type(vars(model)['forward']).__name__} has replaced the model's forward"
    missing = missing_compiler()
    if missing and strategy.device.type == "cpu":
        return f"this machine has no C++ compiler {missing!r}; install one, or name it in $CXX"
    return ""


def _reads_graph(plugin: Any) -> bool:
    """Return whether a plugin may need the graph between the forward and the backward pass."""
    if any(name in vars(plugin) for name in (*_BETWEEN, *_OF_TERMS)):
        return True
    for base in type(plugin).__mro__:
        # A declaration covers methods of its class and bases, not of subclasses.
        if "reads_graph" in vars(base):
            return bool(plugin.reads_graph)
        if base.__module__.startswith("avalanche."):
            return traits_of(plugin).reads_graph
        if any(name in vars(base) for name in (*_BETWEEN, *_OF_TERMS)):
            return True
    return False


def share_compiled(strategy: Any) -> float:
    """Return the share of its iterations in which a strategy's steps were compiled, in [0, 1]."""
    steps = getattr(vars(strategy).get("forward"), "__self__", None)
    n_iterations: int = strategy.clock.train_iterations
    n_compiled = steps.n_compiled if isinstance(steps, CompiledSteps) else 0
    return n_compiled / max(n_iterations, 1)


class ComputedTerm(Term, Protocol):
    """A plugin that adds a term to the loss.

    Attributes:
        computed: λ times the loss of this iteration, until the plugin has added it; None if the
            plugin must compute it.
    """

    computed: Tensor | None


class CompiledSteps:
    """The methods that replace a strategy's own in training; see `compile_steps`."""

    def __init__(self, strategy: Any) -> None:
        self._strategy = strategy
        self._compiled: CompiledLoss | None = None
        self._experience: Any = None
        self._offered: list[ComputedTerm] = []
        self._terms: list[ComputedTerm] = []
        self._step: Evaluated | None = None
        self._empty: Tensor | None = None
        self.n_compiled = 0
        """Number of iterations so far with gradients from compiled code."""
        self._reason = ""
        """The reason why steps are no longer compiled."""
        self._was_watched = False
        self._n_changes = 0
        vars(strategy).update({name: getattr(self, name) for name in _REPLACED})

    def __getstate__(self) -> dict[str, Any]:
        # Compiled code is created again.
        made_again = dict.fromkeys(("_compiled", "_experience", "_step", "_empty"))
        return {**self.__dict__, **made_again, "_offered": [], "_terms": []}

    def offer_term(self, term: ComputedTerm) -> None:
        """Accept a term of this iteration's loss, which a plugin adds in `before_backward`.

        In `forward`, compiled code computes it; if the step runs uncompiled, the term watches the
        model instead.
        """
        self._offered.append(term)

    def forward(self) -> Any:
        """Return the model's output of the mini-batch, and keep loss and gradients."""
        strategy = self._strategy
        self._terms, self._offered = self._offered, []
        self._step = self._evaluated() if strategy.is_training else None
        if self._step is None:
            for term in self._terms:
                term.watch(strategy.model)
            return type(strategy).forward(strategy)
        # Lets `backward` notice if the loss or the output is used in another loss.
        self._step.criterion.requires_grad_()
        for term, value in zip(self._terms, self._step.terms, strict=True):
            term.computed = value.requires_grad_()
        self._empty = strategy.loss
        return self._step.outputs.requires_grad_()

    def criterion(self) -> Tensor:
        """Return the loss of the mini-batch."""
        if self._step is None:
            loss: Tensor = type(self._strategy).criterion(self._strategy)
            return loss
        return self._step.criterion

    def backward(self) -> None:
        """Add the gradients to the parameters' `grad`.

        Raises:
            RuntimeError: If a plugin has added a term to the loss that depends on the output.
        """
        strategy, step, self._step = self._strategy, self._step, None
        if step is None:
            type(strategy).backward(strategy)
            return
        assert self._empty is not None
        gradients, loss = step.gradients, strategy.loss
        # The empty loss must have received the criterion and one term per plugin, each once.
        are_added = all(term.computed is None for term in self._terms)
        if loss is not self._empty or self._empty._version != 1 + len(self._terms) or not are_added:
            gradients = self._weighted(step, loss)
        for p, gradient in zip(step.parameters, gradients, strict=True):
            p.grad = gradient if p.grad is None else p.grad + gradient
        self.n_compiled += 1

    def _weighted(self, step: Evaluated, loss: Any) -> list[Tensor]:
        """Compute the gradients of terms that plugins have added; return those of the rest."""
        loss.backward()
        if step.outputs.grad is not None:
            raise RuntimeError(
                "a plugin differentiates the mini-batch's output, but declares reads_graph = "
                "False: remove the declaration, or do not compile the steps"
            )
        grads = [each.grad for each in (step.criterion, *step.terms)]
        first, *others = (0.0 if each is None else float(each) for each in grads)
        if any(each != first for each in others):
            assert self._compiled is not None
            return self._compiled.weighted([first, *others])
        return [first * g if first else torch.zeros_like(g) for g in step.gradients]

    def optimizer_step(self) -> None:
        """Step the optimizer."""
        optimizer = self._strategy.optimizer
        if self._reason or not _is_plain_sgd(optimizer):
            type(self._strategy).optimizer_step(self._strategy)
            return
        with torch.no_grad():
            for group in optimizer.param_groups:
                stepped = [p for p in group["params"] if p.grad is not None]
                gradients = [p.grad for p in stepped]
                if stepped:
                    torch._foreach_add_(stepped, gradients, alpha=-group["lr"])

    def _evaluated(self) -> Evaluated | None:
        """Return compiled results for the mini-batch; None if the step runs uncompiled."""
        strategy = self._strategy
        if self._reason or strategy.retain_graph:
            return None
        try:
            compiled = self._current()
            if compiled.is_watched():
                self._say_watched()
                return None
            return compiled(strategy.mb_x, strategy.mb_y)
        except NotCompilableError as error:
            self._reason = str(error)
            name = type(strategy.model).__name__
            warnings.warn(f"{name} trains uncompiled, because {error}", stacklevel=2)
            return None

    def _current(self) -> CompiledLoss:
        """Return the compiled loss for the current model."""
        strategy, compiled = self._strategy, self._compiled
        model, criterion = strategy.model, strategy._criterion
        # At the start of an experience, models grow and users may have added plugins.
        terms = self._terms
        is_same = strategy.experience is self._experience
        reason = "" if is_same else why_eager(strategy)
        if reason:
            raise NotCompilableError(reason)
        self._experience = strategy.experience
        if compiled and is_same and compiled.is_still_of(model, criterion, terms):
            return compiled
        if not compiled or not compiled.is_of(model, criterion, terms):
            self._n_changes += bool(compiled and is_same)
            if self._n_changes > _MOST_CHANGES:
                raise NotCompilableError("it is changed again and again within experiences")
            compiled = self._compiled = CompiledLoss(model, criterion, terms)
        return compiled

    def _say_watched(self) -> None:
        if not self._was_watched:
            self._was_watched = True
            name = type(self._strategy.model).__name__
            warnings.warn(
                f"{name} trains uncompiled wherever hooks are set on it or its parameters, since "
                "compiled code skips them",
                stacklevel=3,
            )


_REPLACED = ("offer_term", "forward", "criterion", "backward", "optimizer_step")


def _is_plain_sgd(optimizer: Any) -> bool:
    """Return whether a step is θ − η ∇ for each parameter, without anything observing it."""
    if type(optimizer) is not SGD or "step" in vars(optimizer):  # A scheduler wraps it.
        return False
    hooks = (
        optimizer._optimizer_step_pre_hooks,
        optimizer._optimizer_step_post_hooks,
        torch_optimizers._global_optimizer_pre_hooks,
        torch_optimizers._global_optimizer_post_hooks,
    )
    return not any(hooks) and not any(
        group["momentum"] or group["weight_decay"] or group["maximize"] or group["differentiable"]
        for group in optimizer.param_groups
    )
