"""The code that torch compiles of a loss and its gradients, and how it is called."""

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


class Given(NamedTuple):
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

    def inputs(self) -> list[Tensor]:
        """Return the inputs of a graph's code, which has no weights if there are no terms."""
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
    def loss_at(
        parameters: dict[str, Tensor], of_terms: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        outputs = functional_call(model, parameters, (x,))
        loss = criterion(outputs, y)
        if not terms:
            return loss, [loss, outputs]
        total, found, trained = weights[0].to(loss.dtype) * loss, [loss, outputs], [*of_terms]
        for term, weight, own in zip(terms, weights[1:], tensors, strict=True):
            given = [trained.pop(0) if each.requires_grad else each for each in own]
            term_loss = term.loss_seen(outputs, y, *given)
            found.append(weight.to(term_loss.dtype) * term_loss)
            total = total + found[-1]
        return total, found

    with_gradients = grad_and_value(loss_at, argnums=(0, 1), has_aux=True)
    (of_model, of_terms), (_, found) = with_gradients(parameters, trained_of(tensors))
    return [*of_model.values(), *of_terms, *found]


_FUNCTIONS: dict[Hashable, Callable[..., list[Tensor]]] = {}


def function_of(kinds: Hashable) -> Callable[..., list[Tensor]]:
    """Return the function that models of one architecture share, with terms of the same settings.

    torch keeps compiled versions by the function's code, and a limited number, so each architecture
    has a copy of it. Whether a version fits a model is for torch to find out.
    """
    if kinds not in _FUNCTIONS:
        own = FunctionType(_loss_and_gradients.__code__.replace(), globals())
        _FUNCTIONS[kinds] = torch.compile(own, fullgraph=True, backend=_compiled)
    return _FUNCTIONS[kinds]


class _Call(NamedTuple):
    """A call of the code that torch has compiled from a graph."""

    code: Callable[..., Sequence[Any]]
    inputs: Sequence[Any]
    outputs: Sequence[Any]


_NOTES: list[list[_Call]] = []
"""The list in which calls are recorded, if any."""


@contextmanager
def noting() -> Iterator[list[_Call]]:
    """Record calls of compiled graphs inside this context."""
    notes: list[_Call] = []
    _NOTES.append(notes)
    try:
        yield notes
    finally:
        _NOTES.remove(notes)


def _compiled(graph: Any, examples: Any) -> Callable[..., Sequence[Any]]:
    """Compile a graph by inductor."""
    from torch._inductor.compile_fx import compile_fx

    code: Any = compile_fx(graph, examples)

    def called(*inputs: Any) -> Sequence[Any]:
        outputs: Sequence[Any] = code(*inputs)
        for notes in _NOTES:
            notes.append(_Call(code, inputs, outputs))
        return outputs

    return called


class DirectCode:
    """The code of a graph with all its inputs but the mini-batch.

    torch looks up in Python and C++ whether code fits a model, which takes as long as the code.

    Args:
        graph: A call of it.
        given: The mini-batch that it was called for.
        found: What has come of it.
    """

    def __init__(self, graph: _Call, given: Given, found: Sequence[Tensor]) -> None:
        self._code = graph.code
        self._inputs = [*graph.inputs]
        self._places = [_place(each, graph.inputs) for each in given.inputs()]
        self._sizes = [i for i, each in enumerate(graph.inputs) if isinstance(each, int)]
        self._order = [_place(each, graph.outputs) for each in found]
        self._layouts = _layout(given.x), _layout(given.y)
        for place in self._places:
            self._inputs[place] = None

    @classmethod
    def of(cls, graph: _Call, given: Given, found: Sequence[Tensor]) -> DirectCode | None:
        """Return the code that has been called; None if its inputs and outputs are not clear."""
        sizes = [each for each in graph.inputs if not isinstance(each, Tensor)]
        try:
            is_clear = all(n == len(given.y) > 1 for n in sizes)
            return cls(graph, given, found) if is_clear else None
        except ValueError:
            return None

    def fits(self, given: Given) -> bool:
        """Return whether samples and labels lie in memory as those did that it was made for."""
        return _layout(given.x) == self._layouts[0] and _layout(given.y) == self._layouts[1]

    def __call__(self, given: Given) -> list[Tensor]:
        """Return gradients, criterion, outputs and terms."""
        inputs = [*self._inputs]
        for place, each in zip(self._places, given.inputs(), strict=True):
            inputs[place] = each
        for i in self._sizes:
            inputs[i] = len(given.y)
        outputs = self._code(*inputs)
        return [outputs[i] for i in self._order]


def _layout(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape[1:], tensor.stride(), tensor.dtype, tensor.device


def _place(tensor: Tensor, tensors: Sequence[Any]) -> int:
    """Return the index of a tensor among others; ValueError if it is not one of them."""
    return [*map(id, tensors)].index(id(tensor))
