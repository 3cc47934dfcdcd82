"""The code that torch compiles for a loss and its gradients, and how it is called."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value

from avalanche_ext.functional.compiled.terms import Term, trained_of


class BatchInputs(NamedTuple):
    """The inputs that change from one mini-batch to the next.

    Attributes:
        x: Samples.
        y: Labels.
        weights: Weights of the criterion and of each of T terms in the loss, (1 + T,).
        tensors: The other inputs of each term.
    """

    x: Tensor
    y: Tensor
    weights: Tensor
    tensors: Sequence[Sequence[Tensor]]

    def of_code(self) -> list[Tensor]:
        """Return the inputs of the compiled code; without terms it takes no weights."""
        if not self.tensors:
            return [self.x, self.y]
        return [self.x, self.y, self.weights, *chain(*self.tensors)]


def _loss_and_gradients(
    model: nn.Module,
    criterion: nn.Module,
    terms: Sequence[Term],
    parameters: dict[str, Tensor],
    x: Tensor,
    y: Tensor,
    weights: Tensor,
    tensors: Sequence[Sequence[Tensor]],
) -> list[Tensor]:
    """Return gradients of the model's and the terms' parameters, criterion, outputs and terms."""

    def loss_at(
        parameters: dict[str, Tensor], of_terms: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        outputs = functional_call(model, parameters, (x,))
        loss = criterion(outputs, y)
        if not terms:
            return loss, [loss, outputs]
        total, others, trained = weights[0].to(loss.dtype) * loss, [loss, outputs], [*of_terms]
        for term, weight, given in zip(terms, weights[1:], tensors, strict=True):
            inputs = [trained.pop(0) if each.requires_grad else each for each in given]
            term_loss = term.loss_seen(outputs, y, *inputs)
            others.append(weight.to(term_loss.dtype) * term_loss)
            total = total + others[-1]
        return total, others

    with_gradients = grad_and_value(loss_at, argnums=(0, 1), has_aux=True)
    (of_model, of_terms), (_, others) = with_gradients(parameters, trained_of(tensors))
    return [*of_model.values(), *of_terms, *others]


_FUNCTIONS: dict[Hashable, Callable[..., list[Tensor]]] = {}


def function_of(kinds: Hashable) -> Callable[..., list[Tensor]]:
    """Return the function that models of one architecture share, with terms of the same settings.

    torch keeps compiled versions by the function's code, and a limited number, so each architecture
    has a copy of it. Whether a version fits a model is for torch to find out.
    """
    if kinds not in _FUNCTIONS:
        copy = FunctionType(_loss_and_gradients.__code__.replace(), globals())
        _FUNCTIONS[kinds] = torch.compile(copy, fullgraph=True, backend=_inductor)
    return _FUNCTIONS[kinds]


class Call(NamedTuple):
    """A call of the code that inductor has made of a graph."""

    code: Callable[..., Sequence[Any]]
    inputs: Sequence[Any]
    outputs: Sequence[Any]


_RECORDS: list[list[Call]] = []
"""The lists to which each call is added."""


@contextmanager
def recorded_calls() -> Iterator[list[Call]]:
    """Record the calls of compiled code inside this context, in the list that it gives."""
    calls: list[Call] = []
    _RECORDS.append(calls)
    try:
        yield calls
    finally:
        _RECORDS.pop()


def _inductor(graph: Any, examples: Any) -> Callable[..., Sequence[Any]]:
    """Compile a graph by inductor to code whose calls can be recorded."""
    from torch._inductor.compile_fx import compile_fx

    code: Any = compile_fx(graph, examples)

    def called(*inputs: Any) -> Sequence[Any]:
        outputs: Sequence[Any] = code(*inputs)
        for calls in _RECORDS:
            calls.append(Call(code, inputs, outputs))
        return outputs

    return called


class DirectCode:
    """Compiled code with all its inputs but those of the mini-batch.

    If torch calls the code, it first checks whether the code fits the model, which takes as long as
    the code.

    Args:
        call: A call of the code by torch.
        inputs: The inputs of the mini-batch in that call.
        results: What the function returned, in its order.

    Raises:
        ValueError: If an input or a result is not among those of the call.
    """

    def __init__(self, call: Call, inputs: BatchInputs, results: Sequence[Tensor]) -> None:
        self._code = call.code
        self._inputs = [*call.inputs]
        self._places = [_place(each, call.inputs) for each in inputs.of_code()]
        self._sizes = [i for i, each in enumerate(call.inputs) if isinstance(each, int)]
        self._order = [_place(each, call.outputs) for each in results]
        self._layouts = _layout(inputs.x), _layout(inputs.y)
        for place in self._places:
            self._inputs[place] = None

    @classmethod
    def of(cls, call: Call, inputs: BatchInputs, results: Sequence[Tensor]) -> DirectCode | None:
        """Return the code that was called; None if its inputs or results cannot be told apart."""
        sizes = [each for each in call.inputs if not isinstance(each, Tensor)]
        if not all(n == len(inputs.y) > 1 for n in sizes):
            return None
        try:
            return cls(call, inputs, results)
        except ValueError:
            return None

    def fits(self, inputs: BatchInputs) -> bool:
        """Return whether samples and labels have the layout in memory that the code is for."""
        return _layout(inputs.x) == self._layouts[0] and _layout(inputs.y) == self._layouts[1]

    def __call__(self, inputs: BatchInputs) -> list[Tensor]:
        """Return what the function returns."""
        filled = [*self._inputs]
        for place, each in zip(self._places, inputs.of_code(), strict=True):
            filled[place] = each
        for i in self._sizes:
            filled[i] = len(inputs.y)
        outputs = self._code(*filled)
        return [outputs[i] for i in self._order]


def _layout(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape[1:], tensor.stride(), tensor.dtype, tensor.device


def _place(tensor: Tensor, tensors: Sequence[Any]) -> int:
    """Return the index of a tensor among others; ValueError if it is not one of them."""
    return [*map(id, tensors)].index(id(tensor))
