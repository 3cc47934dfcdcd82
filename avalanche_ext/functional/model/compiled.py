"""The loss of a mini-batch and its gradients from one compiled function of the parameters."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from itertools import chain, starmap
from types import FunctionType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value
from torch.nn.modules import module as torch_modules
from torch.utils.hooks import RemovableHandle

from avalanche_ext.functional.model.running import generators_kept

_ROWS = 37
"""Rows of the example that code for several rows is compiled with. That code takes any number from
2; the example is the same in every process, so that all compile the same code."""
_TOLERANCE = 1e-4
"""By how much a compiled gradient may differ from the one that torch computes step by step, as a
part of the latter's largest entry. Sums in another order differ by less."""
_ROUNDING = 1e-6
"""By how much they may differ where sums of numbers of size 1 cancel."""
_MOST_VERSIONS = 64
"""Versions of the code of one architecture that torch may compile."""
_FIRST_HOOK = -1_000_000
"""The number of the first hook of a term; torch counts from 0."""
_PLAIN = (bool, int, float, str, bytes, type(None))


class NotCompilableError(Exception):
    """A model's loss cannot be compiled; the text completes "because …"."""


class Term(Protocol):
    """A loss beside the criterion, a pure function of the model's computations and of labels.

    Attributes:
        lam: Its weight λ.
    """

    lam: float

    def watch(self, model: nn.Module) -> None:
        """Observe what layers compute whenever the model is called, until `look_away`."""

    def look_away(self) -> None:
        """Stop observing."""

    def loss_parameters(self) -> Iterable[nn.Parameter]:
        """Return the term's trained parameters."""

    def loss_tensors(self, labels: Tensor) -> Sequence[Tensor]:
        """Return its further inputs: those parameters, and what it draws for a mini-batch."""

    def loss_seen(self, outputs: Tensor, labels: Tensor, *tensors: Tensor) -> Tensor:
        """Return the loss, a scalar, of what it observed while the model computed `outputs`."""


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
        self._parts = [*_parts(model, terms)]
        self._kinds = _kinds(model, criterion, terms)
        self._modules = [*model.modules()]
        self._trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._needing = [*self._trained.values()]
        self._frozen = [p for p in model.parameters() if not p.requires_grad]
        self._function = _function_of(self._kinds)
        self._is_known = all(map(_is_known, (*model.modules(), *criterion.modules(), *terms)))
        self._ready: dict[bool, _Direct | None] = {}
        self._copies = False
        self._weights = torch.ones(1)
        self._lams: list[float] = []
        self._given: _Given | None = None

    def is_of(self, model: nn.Module, criterion: nn.Module, terms: Sequence[Term] = ()) -> bool:
        """Return whether it was made for this model, criterion and terms as they are."""
        return (
            self.is_still_of(model, criterion, terms)
            and sum(1 for _ in _parts(model, terms)) == len(self._parts)
            and _kinds(model, criterion, terms) == self._kinds
        )

    def is_still_of(
        self, model: nn.Module, criterion: nn.Module, terms: Sequence[Term] = ()
    ) -> bool:
        """Return the same as `is_of`, faster, for a model to which nothing can have been added."""
        return (
            model is self._model
            and criterion is self._criterion
            and [*map(id, terms)] == [*map(id, self._terms)]
            and all(parts.get(name) is part for parts, name, part in self._parts)
            and all(p.requires_grad for p in self._needing)
            and not any(p.requires_grad for p in self._frozen)
        )

    def is_watched(self) -> bool:
        """Return whether hooks are set on the model or a parameter: compiled code skips them."""
        return bool(
            torch_modules._global_forward_hooks
            or torch_modules._global_forward_pre_hooks
            or torch_modules._global_backward_hooks
            or torch_modules._global_backward_pre_hooks
            or any(
                m._forward_hooks
                or m._forward_pre_hooks
                or m._backward_hooks
                or m._backward_pre_hooks
                for m in self._modules
            )
            or any(
                p._backward_hooks or p._post_accumulate_grad_hooks for p in self._trained.values()
            )
        )

    @torch.no_grad()
    def __call__(self, x: Tensor, y: Tensor) -> Evaluated:
        """Return loss, outputs and gradients of samples x, (B, ...), and labels y, (B,).

        Raises:
            NotCompilableError: If the model, criterion, terms or this machine do not allow it.
        """
        is_one = len(y) == 1
        if is_one not in self._ready:
            self._ready[is_one] = self._prepare(x, y)
        tensors = [[*term.loss_tensors(y)] for term in self._terms]
        given = self._given = _Given(x, y, self._weights_now(x.device), tensors)
        gradients, (criterion, outputs, *terms) = self._computed(given)
        parameters = [*self._trained.values(), *_trained_of(tensors)]
        return Evaluated(parameters, gradients, criterion, outputs, terms)

    @torch.no_grad()
    def weighted(self, factors: Sequence[float]) -> list[Tensor]:
        """Return the gradients of the last mini-batch, with other weights in its loss.

        Args:
            factors: Of the criterion and of each of `Evaluated.terms`.
        """
        assert self._given is not None
        weights = self._given.weights * self._given.weights.new_tensor(factors)
        return self._computed(self._given._replace(weights=weights))[0]

    def _weights_now(self, device: torch.device) -> Tensor:
        """Return the weights of the criterion and of each of T terms, (1 + T,)."""
        lams = [term.lam for term in self._terms]
        if lams != self._lams:
            self._lams = lams
            self._weights = torch.tensor([1.0, *lams], dtype=torch.float64, device=device)
        return self._weights

    def _computed(self, given: _Given) -> tuple[list[Tensor], list[Tensor]]:
        """Return the gradients, and criterion, outputs and terms."""
        direct = self._ready[len(given.y) == 1]
        found = direct(given) if direct and direct.fits(given) else self._checked(given)
        n_others = 2 + len(self._terms)
        gradients, others = found[:-n_others], found[-n_others:]
        if self._copies:
            parameters = *self._trained.values(), *_trained_of(given.tensors)
            pairs = zip(gradients, parameters, strict=True)
            gradients = [torch.empty_like(p).copy_(g) for g, p in pairs]
        return gradients, others

    def _checked(self, given: _Given) -> list[Tensor]:
        """Return all that code computes; torch looks up whether it fits the model."""
        try:
            with _watching(self._terms, self._model):
                return self._function(
                    self._model, self._criterion, self._terms, self._trained, *given
                )
        except Exception as error:  # Whatever the parts of the compiler and a compiler raise.
            raise NotCompilableError(f"it cannot be compiled: {_first_line(error)}") from error

    def _prepare(self, x: Tensor, y: Tensor) -> _Direct | None:
        """Compile code for mini-batches like this one, and compare it with the model."""
        import torch._dynamo.config as dynamo
        import torch._inductor.config as inductor

        if not (isinstance(x, Tensor) and isinstance(y, Tensor) and len(y)):
            raise NotCompilableError("a mini-batch is empty or not a tensor")
        if len(y) > 1:
            n_times = -(-_ROWS // len(y))
            x, y = (torch.cat([each] * n_times)[:_ROWS] for each in (x, y))
        expected = self._step_by_step(x, y)
        if self._ready and expected.gradients.keys() != self._trained.keys():
            raise NotCompilableError("which parameters have a gradient depends on the mini-batch")
        self._trained = {n: p for n, p in self._trained.items() if n in expected.gradients}
        given = _Given(x, y, self._weights_now(x.device), expected.tensors)
        if len(y) > 1:
            for each in (x, y):
                torch._dynamo.mark_dynamic(each, 0)
            for each in chain(*given.tensors):
                sides = [dim for dim, n in enumerate(each.shape) if n == _ROWS]
                torch._dynamo.mark_dynamic(each, [] if each.requires_grad else sides)
        # Other sizes of earlier models must not decide what is compiled. The code is small.
        with (
            dynamo.patch(automatic_dynamic_shapes=False, recompile_limit=_MOST_VERSIONS),
            inductor.patch(compile_threads=1),
            _noting() as calls,
        ):
            found = self._checked(given)
        numbers = [*expected.gradients.values(), *expected.of_tensors, *expected.others]
        gradients = found[: len(found) - len(expected.others)]
        self._copies = self._copies or len({each.data_ptr() for each in gradients}) < len(gradients)
        parameters = *self._trained.values(), *_trained_of(given.tensors)
        pairs = [*zip(gradients, parameters, strict=True)]
        self._copies = self._copies or any(g.stride() != p.stride() for g, p in pairs)
        if not all(map(_are_close, found, numbers)):
            raise NotCompilableError("compiled code gives other numbers than the model")
        return _Direct.of(calls[-1], given, found) if self._is_known else None

    @torch.enable_grad()
    def _step_by_step(self, x: Tensor, y: Tensor) -> _Expected:
        """Return what copies of the model and the terms compute.

        Raises:
            NotCompilableError: If the forward pass or a term draws random numbers or changes a
                part, or a term trains parameters that are not among its tensors.
        """
        try:
            model, criterion, terms = deepcopy((self._model, self._criterion, self._terms))
        except Exception as error:
            raise NotCompilableError(f"it cannot be copied: {_first_line(error)}") from error
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        with generators_kept(x.device), _watching(terms, model):
            tensors = [[*term.loss_tensors(y)] for term in terms]
            states = _generators(x.device)
            outputs: Tensor = model(x)
            loss = criterion(outputs, y)
            values = [
                term.lam * term.loss_seen(outputs, y, *own)
                for term, own in zip(terms, tensors, strict=True)
            ]
            draws = not all(map(torch.equal, states, _generators(x.device)))
        if draws:
            raise NotCompilableError("it draws random numbers, as dropout does")
        own: Iterable[object] = (self._model, self._criterion, *self._terms)
        pairs = zip(own, (model, criterion, *terms), strict=True)
        changed = next((each for pair in pairs for each in _differences(*pair)), None)
        if changed:
            raise NotCompilableError(f"its forward pass changes {changed}")
        total = sum(values, loss)
        if not total.requires_grad:
            raise NotCompilableError("the loss depends on no parameter that is trained")
        of_terms = _trained_of(tensors)
        passed = {*map(id, of_terms)}
        if any(id(p) not in passed for term in terms for p in term.loss_parameters()):
            raise NotCompilableError("parameters of a term are not among its loss_tensors")
        found = torch.autograd.grad(total, [*trained.values(), *of_terms], allow_unused=True)
        gradients = dict(zip(trained, found, strict=False))
        of_tensors = [g for g in found[len(trained) :] if g is not None]
        if len(of_tensors) < len(of_terms):
            raise NotCompilableError("the loss does not depend on what is trained with it")
        return _Expected(
            {name: g for name, g in gradients.items() if g is not None},
            of_tensors,
            [each.detach() for each in (loss, outputs, *values)],
            tensors,
        )


def missing_compiler() -> str:
    """Return the name of the C++ compiler that inductor needs on the CPU, if it is not here."""
    name = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    return "" if shutil.which(shlex.split(name)[0]) else name


@contextmanager
def _watching(terms: Sequence[Term], model: nn.Module) -> Iterator[None]:
    """Let terms observe a model that has no other hooks.

    Their hooks have the same numbers each time, because torch compiles code for these numbers.
    """
    next_id, RemovableHandle.next_id = RemovableHandle.next_id, _FIRST_HOOK
    try:
        with ExitStack() as watching:
            for term in terms:
                watching.callback(term.look_away)
                term.watch(model)
            yield
    finally:
        RemovableHandle.next_id = next_id


class _Given(NamedTuple):
    """The inputs that change from one mini-batch to the next.

    Attributes:
        x: Samples.
        y: Labels.
        weights: Weights of the criterion and of each of T terms in the loss, (1 + T,).
        tensors: What each term takes besides.
    """

    x: Tensor
    y: Tensor
    weights: Tensor
    tensors: Sequence[Sequence[Tensor]]

    def inputs(self) -> list[Tensor]:
        """Return what code of a graph takes of it: without terms there are no weights."""
        if not self.tensors:
            return [self.x, self.y]
        return [self.x, self.y, self.weights, *chain(*self.tensors)]


class _Expected(NamedTuple):
    """What a model computes for an example without compilation.

    Attributes:
        gradients: The gradients of its parameters, by name; none where the loss does not depend.
        of_tensors: The gradients of those of `tensors` that are trained.
        others: The criterion, the outputs, and λ times the loss of each term.
        tensors: What each term took besides.
    """

    gradients: dict[str, Tensor]
    of_tensors: list[Tensor]
    others: list[Tensor]
    tensors: list[list[Tensor]]


def _trained_of(tensors: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    return [each for own in tensors for each in own if each.requires_grad]


class _Call(NamedTuple):
    """A call of the code that torch has compiled from a graph."""

    code: Callable[..., Sequence[Any]]
    inputs: Sequence[Any]
    outputs: Sequence[Any]


_NOTES: list[list[_Call]] = []
"""The list in which calls are recorded, if any."""


@contextmanager
def _noting() -> Iterator[list[_Call]]:
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


class _Direct:
    """The code of a graph with all its inputs but the mini-batch.

    torch looks up in Python and C++ whether code fits a model, which takes as long as the code.

    Args:
        graph: A call of it.
        given: The mini-batch that it was called for.
        found: What has come of it.
    """

    def __init__(self, graph: _Call, given: _Given, found: Sequence[Tensor]) -> None:
        self._code = graph.code
        self._inputs = [*graph.inputs]
        self._places = [_place(each, graph.inputs) for each in given.inputs()]
        self._sizes = [i for i, each in enumerate(graph.inputs) if isinstance(each, int)]
        self._order = [_place(each, graph.outputs) for each in found]
        self._layouts = _layout(given.x), _layout(given.y)
        for place in self._places:
            self._inputs[place] = None

    @classmethod
    def of(cls, graph: _Call, given: _Given, found: Sequence[Tensor]) -> _Direct | None:
        """Return the code that has been called; None if its inputs and outputs are not clear."""
        sizes = [each for each in graph.inputs if not isinstance(each, Tensor)]
        try:
            is_clear = all(n == len(given.y) > 1 for n in sizes)
            return cls(graph, given, found) if is_clear else None
        except ValueError:
            return None

    def fits(self, given: _Given) -> bool:
        """Return whether samples and labels lie in memory as those did that it was made for."""
        return _layout(given.x) == self._layouts[0] and _layout(given.y) == self._layouts[1]

    def __call__(self, given: _Given) -> list[Tensor]:
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


def _is_known(part: object) -> bool:
    known = "torch.nn.", "avalanche_ext.models.", "avalanche_ext.plugins."
    return type(part).__module__.startswith(known)


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
    (of_model, of_terms), (_, found) = with_gradients(parameters, _trained_of(tensors))
    return [*of_model.values(), *of_terms, *found]


_FUNCTIONS: dict[Hashable, Callable[..., list[Tensor]]] = {}


def _function_of(kinds: Hashable) -> Callable[..., list[Tensor]]:
    """Return the function that models of one architecture share, with terms of the same settings.

    torch keeps compiled versions by the function's code, and a limited number, so each architecture
    has a copy of it. Whether a version fits a model is for torch to find out.
    """
    if kinds not in _FUNCTIONS:
        own = FunctionType(_loss_and_gradients.__code__.replace(), globals())
        _FUNCTIONS[kinds] = torch.compile(own, fullgraph=True, backend=_compiled)
    return _FUNCTIONS[kinds]


def _kinds(model: nn.Module, criterion: nn.Module, terms: Sequence[Term]) -> Hashable:
    modules = [*model.named_modules(), *criterion.named_modules()]
    return (*starmap(_kind, modules), *((type(term), *_settings(term)) for term in terms))


def _kind(name: str, module: nn.Module) -> Hashable:
    plain = tuple(sorted((k, v) for k, v in vars(module).items() if isinstance(v, _PLAIN)))
    tensors = [*module._parameters.items(), *module._buffers.items()]
    shapes = tuple((k, t.shape, t.dtype) for k, t in tensors if t is not None)
    return name, type(module), plain, shapes


def _settings(term: Term) -> Iterator[Hashable]:
    """Yield the settings that determine a term's code; λ is an input of the code instead."""
    for name, value in vars(term).items():
        if isinstance(value, _PLAIN) and name != "lam":
            yield name, value
        elif isinstance(value, list | tuple) and all(isinstance(each, _PLAIN) for each in value):
            yield name, tuple(value)


def _parts(model: nn.Module, terms: Sequence[Term]) -> Iterator[tuple[dict[str, Any], str, object]]:
    """Yield modules, tensors and settings of all parts, with their places."""
    for module in model.modules():
        for places in (module._modules, module._parameters, module._buffers):
            yield from ((places, name, part) for name, part in places.items())
        settings = vars(module)
        yield from ((settings, k, v) for k, v in settings.items() if isinstance(v, _PLAIN))
    for settings in map(vars, terms):
        plain = ((k, v) for k, v in settings.items() if isinstance(v, _PLAIN))
        yield from ((settings, k, v) for k, v in plain if k != "lam")


def _differences(before: object, after: object) -> Iterator[str]:
    """Yield what differs between a module or a term and its copy."""
    pairs = [("", before, after)]
    if isinstance(before, nn.Module) and isinstance(after, nn.Module):
        for (name, one), other in zip(before.named_buffers(), after.buffers(), strict=True):
            if not torch.equal(one, other):
                yield f"its buffer {name!r}, as batch normalisation does"
        named = zip(before.named_modules(), after.modules(), strict=True)
        pairs = [(name + "." if name else "", left, right) for (name, left), right in named]
    for prefix, left, right in pairs:
        for key, value in vars(left).items():
            if isinstance(value, _PLAIN) and vars(right).get(key) != value:
                yield f"its attribute '{prefix}{key}'"


def _generators(device: torch.device) -> list[Tensor]:
    on_gpu = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *on_gpu]


def _are_close(one: Tensor, other: Tensor) -> bool:
    one, other = one.detach(), other.detach()
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    largest = float(other.abs().amax()) if other.numel() else 0.0
    atol = _TOLERANCE * largest + _ROUNDING
    return torch.allclose(one, other, rtol=0.0, atol=atol, equal_nan=True)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
