"""The loss of a mini-batch and its gradients from one compiled function of the parameters."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_modules

from avalanche_ext.functional.compiled.code import (
    BatchInputs,
    DirectCode,
    function_of,
    recorded_calls,
)
from avalanche_ext.functional.compiled.example import step_by_step
from avalanche_ext.functional.compiled.kinds import (
    is_same,
    is_torchs_or_ours,
    kinds_of,
    parts_of,
)
from avalanche_ext.functional.compiled.terms import (
    NotCompilableError,
    Term,
    first_line,
    trained_of,
    watching,
)

_ROWS = 37
"""Rows of the example that code for several rows is compiled with. That code takes any number from
2; the example is the same in every process, so that all compile the same code."""

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
"""Attributes of a module that hold its hooks. With "_global" before them, they name torch's own."""

_MOST_VERSIONS = 64
"""Versions of the code of one architecture that torch may compile."""


class Evaluated(NamedTuple):
    """The results of a compiled function for a mini-batch.

    Attributes:
        parameters: The model's parameters with gradients, in the model's order; then the terms'.
        gradients: The gradient of the loss for each parameter, in its shape; new tensors.
        criterion: The criterion, a scalar.
        outputs: The model's outputs, (B, C).
        terms: λ times the loss of each term, scalars.
    """

    parameters: list[Tensor]
    gradients: list[Tensor]
    criterion: Tensor
    outputs: Tensor
    terms: list[Tensor]


class CompiledLoss:
    """The loss of a model's outputs and its gradients, computed by a function compiled once.

    The loss is the criterion plus λ times each of some terms. The function is `grad_and_value` of
    this loss over the parameters. `torch.compile` makes code of it for mini-batches of one row, and
    for those of several rows, when the first comes. Models of one architecture with terms of the
    same settings, but for λ, share the code, and inductor keeps it on disk for other processes.

    Before code is used, its loss, outputs and gradients are compared with those of copies of model
    and terms that run step by step. Whether it still fits them is looked up in each call: by torch,
    or sooner by `is_still_of` for models and terms that are torch's and ours alone, since these
    depend on nothing but their parts and settings.

    Args:
        model: Called with samples alone. It must neither draw random numbers nor change itself in
            its forward pass, as dropout and batch normalisation do in training.
        criterion: Returns a scalar, given outputs and labels.
        terms: The terms added to the criterion. They may draw numbers in `loss_tensors` alone.
    """

    def __init__(self, model: nn.Module, criterion: nn.Module, terms: Sequence[Term] = ()) -> None:
        self._model = model
        self._criterion = criterion
        self._terms = [*terms]
        self._parts = [*parts_of(model, criterion, terms)]
        self._kinds = kinds_of(model, criterion, terms)
        self._modules = [*model.modules()]
        self._trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._unfrozen = [*self._trained.values()]
        self._frozen = [p for p in model.parameters() if not p.requires_grad]
        self._function = function_of(self._kinds)
        parts = *model.modules(), *criterion.modules(), *terms
        self._may_be_direct = all(map(is_torchs_or_ours, parts))
        self._codes: dict[bool, DirectCode | None] = {}
        """The code for one row and for several, which torch has to call where it is None."""
        self._must_copy = False
        self._weights = torch.ones(1)
        self._lams: list[float] = []
        self._inputs: BatchInputs | None = None

    def is_of(self, model: nn.Module, criterion: nn.Module, terms: Sequence[Term] = ()) -> bool:
        """Return whether it was made for this model, criterion and terms as they are."""
        return (
            self.is_still_of(model, criterion, terms)
            and sum(1 for _ in parts_of(model, criterion, terms)) == len(self._parts)
            and kinds_of(model, criterion, terms) == self._kinds
        )

    def is_still_of(
        self, model: nn.Module, criterion: nn.Module, terms: Sequence[Term] = ()
    ) -> bool:
        """Return the same as `is_of`, faster, for a model to which nothing can have been added."""
        return (
            model is self._model
            and criterion is self._criterion
            and [*map(id, terms)] == [*map(id, self._terms)]
            and all(is_same(parts.get(name), part) for parts, name, part in self._parts)
            and all(p.requires_grad for p in self._unfrozen)
            and not any(p.requires_grad for p in self._frozen)
        )

    def is_watched(self) -> bool:
        """Return whether hooks are set on the model or a parameter: compiled code skips them."""
        return (
            any(getattr(torch_modules, f"_global{hooks}") for hooks in _HOOKS)
            or any(getattr(module, hooks) for module in self._modules for hooks in _HOOKS)
            or any(p._backward_hooks or p._post_accumulate_grad_hooks for p in self._unfrozen)
        )

    @torch.no_grad()
    def __call__(self, x: Tensor, y: Tensor) -> Evaluated:
        """Return loss, outputs and gradients of samples x, (B, ...), and labels y, (B,).

        Raises:
            NotCompilableError: If the model, criterion, terms or this machine do not allow it.
        """
        is_one = len(y) == 1
        if is_one not in self._codes:
            self._codes[is_one] = self._prepare(x, y)
        tensors = [[*term.loss_tensors(y)] for term in self._terms]
        inputs = self._inputs = BatchInputs(x, y, self._weights_now(x.device), tensors)
        try:
            gradients, (criterion, outputs, *terms) = self._computed(inputs)
        except NotCompilableError:
            for term, own in zip(self._terms, tensors, strict=True):
                term.drawn = own
            raise
        return Evaluated(self._parameters(tensors), gradients, criterion, outputs, terms)

    @torch.no_grad()
    def weighted(self, factors: Sequence[float]) -> list[Tensor]:
        """Return the gradients of the last mini-batch, with other weights in its loss.

        Args:
            factors: Of the criterion and of each of `Evaluated.terms`.
        """
        assert self._inputs is not None
        weights = self._inputs.weights * self._inputs.weights.new_tensor(factors)
        return self._computed(self._inputs._replace(weights=weights))[0]

    def _weights_now(self, device: torch.device) -> Tensor:
        """Return the weights of the criterion and of each of T terms, (1 + T,)."""
        lams = [term.lam for term in self._terms]
        if lams != self._lams:
            self._lams = lams
            self._weights = torch.tensor([1.0, *lams], dtype=torch.float64, device=device)
        return self._weights

    def _parameters(self, tensors: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """Return the trained parameters of the model, then those among the tensors of terms."""
        return [*self._trained.values(), *trained_of(tensors)]

    def _computed(self, inputs: BatchInputs) -> tuple[list[Tensor], list[Tensor]]:
        """Return the gradients, and criterion, outputs and terms."""
        code = self._codes[len(inputs.y) == 1]
        results = code(inputs) if code and code.fits(inputs) else self._called_by_torch(inputs)
        gradients, others = self._split(results)
        if self._must_copy:
            pairs = zip(gradients, self._parameters(inputs.tensors), strict=True)
            gradients = [torch.empty_like(p).copy_(g) for g, p in pairs]
        return gradients, others

    def _split(self, results: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        n_others = 2 + len(self._terms)
        return results[:-n_others], results[-n_others:]

    def _called_by_torch(self, inputs: BatchInputs) -> list[Tensor]:
        """Return the function's results; torch looks for code that fits, or compiles it."""
        try:
            with watching(self._terms, self._model):
                return self._function(
                    self._model, self._criterion, self._terms, self._trained, *inputs
                )
        except Exception as error:  # Whatever the parts of the compiler and a compiler raise.
            raise NotCompilableError(f"it cannot be compiled: {first_line(error)}") from error

    def _prepare(self, x: Tensor, y: Tensor) -> DirectCode | None:
        """Compile code for mini-batches like this one, and compare it with the model."""
        import torch._dynamo.config as dynamo
        import torch._inductor.config as inductor

        if not (isinstance(x, Tensor) and isinstance(y, Tensor) and len(y)):
            raise NotCompilableError("a mini-batch is empty or not a tensor")
        has_rows = len(y) > 1
        if has_rows:
            n_times = -(-_ROWS // len(y))
            x, y = (torch.cat([each] * n_times)[:_ROWS] for each in (x, y))
        expected = step_by_step(self._model, self._criterion, self._terms, x, y)
        if self._codes and expected.of_model.keys() != self._trained.keys():
            raise NotCompilableError("which parameters have a gradient depends on the mini-batch")
        self._trained = {n: p for n, p in self._trained.items() if n in expected.of_model}
        inputs = BatchInputs(x, y, self._weights_now(x.device), expected.tensors)
        if has_rows:
            _mark_rows(inputs)
        # Other sizes of earlier models must not decide what is compiled. The code is small.
        with (
            dynamo.patch(automatic_dynamic_shapes=False, recompile_limit=_MOST_VERSIONS),
            inductor.patch(compile_threads=1),
            recorded_calls() as calls,
        ):
            results = self._called_by_torch(inputs)
        if not expected.is_close_to(results):
            raise NotCompilableError("compiled code gives other numbers than the model")
        gradients, _ = self._split(results)
        self._must_copy |= _must_be_copied(gradients, self._parameters(inputs.tensors))
        return DirectCode.of(calls[-1], inputs, results) if self._may_be_direct else None


def _mark_rows(inputs: BatchInputs) -> None:
    """Let code take any number of rows of an example of `_ROWS`."""
    for each in (inputs.x, inputs.y):
        torch._dynamo.mark_dynamic(each, 0)
    for each in chain(*inputs.tensors):
        sides = [dim for dim, n in enumerate(each.shape) if n == _ROWS]
        torch._dynamo.mark_dynamic(each, [] if each.requires_grad else sides)


def _must_be_copied(gradients: Sequence[Tensor], parameters: Sequence[Tensor]) -> bool:
    """Return whether gradients share memory, or are laid out otherwise than their parameters."""
    if len({each.data_ptr() for each in gradients}) < len(gradients):
        return True
    return any(g.stride() != p.stride() for g, p in zip(gradients, parameters, strict=True))


def missing_compiler() -> str:
    """Return the name of the C++ compiler that inductor needs on the CPU, if it is not here."""
    name = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    return "" if shutil.which(shlex.split(name)[0]) else name
