"""The loss of a mini-batch and its gradients from one compiled function of the parameters."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value
from torch.nn.modules import module as torch_modules

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
_PLAIN = (bool, int, float, str, bytes, type(None))


class NotCompilableError(Exception):
    """Why no compiled function gives a model's loss; the text completes "because …"."""


class Evaluated(NamedTuple):
    """What a compiled function has computed of a mini-batch.

    Attributes:
        gradients: The gradient of the loss for each of `CompiledLoss.parameters`, in their shapes;
            new tensors.
        loss: The loss, a scalar.
        outputs: The model's outputs, (B, C).
    """

    gradients: list[Tensor]
    loss: Tensor
    outputs: Tensor


class CompiledLoss:
    """The criterion of a model's outputs and its gradients, by a function that is compiled once.

    The function is `grad_and_value` of the loss over the parameters. `torch.compile` makes code of
    it for mini-batches of one row, and for those of several rows, when the first comes. Models of
    one architecture share the code, and inductor keeps it on disk for other processes.

    Before code is used, its loss, outputs and gradients are compared with those of a copy of the
    model that runs step by step. Whether it still fits the model is looked up in each call: by
    torch, or sooner by `is_still_of` for models that are made of torch's modules and ours alone,
    since these depend on nothing but their parts and settings.

    Args:
        model: Called with samples alone. It must neither draw random numbers nor change itself in
            its forward pass, as dropout and batch normalisation do in training.
        criterion: Returns a scalar, given outputs and labels.

    Attributes:
        parameters: The parameters that have gradients, in the model's order. Before the first call
            those that the loss does not depend on are among them.
    """

    def __init__(self, model: nn.Module, criterion: nn.Module) -> None:
        self._model = model
        self._criterion = criterion
        self._parts = [*_parts(model)]
        self._modules = [*model.modules()]
        self._trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._needing = [*self._trained.values()]
        self._frozen = [p for p in model.parameters() if not p.requires_grad]
        self._function = _function_of(model, criterion)
        self._is_known = all(map(_is_known, (*model.modules(), *criterion.modules())))
        self._ready: dict[bool, _Direct | None] = {}
        self._copies = False

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The parameters that have gradients."""
        return [*self._trained.values()]

    def is_of(self, model: nn.Module, criterion: nn.Module) -> bool:
        """Return whether it was made for this model as it is, and for this criterion."""
        n_parts = sum(1 for _ in _parts(model))
        return n_parts == len(self._parts) and self.is_still_of(model, criterion)

    def is_still_of(self, model: nn.Module, criterion: nn.Module) -> bool:
        """Return the same as `is_of`, sooner, of a model to which nothing can have been added."""
        return (
            model is self._model
            and criterion is self._criterion
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
            NotCompilableError: If the model, the criterion or this machine does not allow it.
        """
        is_one = len(y) == 1
        if is_one not in self._ready:
            self._ready[is_one] = self._prepare(x, y)
        direct = self._ready[is_one]
        if direct is not None and direct.fits(x, y):
            *gradients, loss, outputs = direct(x, y)
        else:
            *gradients, loss, outputs = self._checked(x, y)
        if self._copies:
            pairs = zip(gradients, self._trained.values(), strict=True)
            gradients = [torch.empty_like(p).copy_(g) for g, p in pairs]
        return Evaluated(gradients, loss, outputs)

    def _checked(self, x: Tensor, y: Tensor) -> list[Tensor]:
        """Return gradients, loss and outputs; torch looks up whether its code fits the model."""
        try:
            return self._function(self._model, self._criterion, self._trained, x, y)
        except Exception as error:  # Whatever the parts of the compiler and a compiler raise.
            raise NotCompilableError(f"it cannot be compiled: {_first_line(error)}") from error

    def _prepare(self, x: Tensor, y: Tensor) -> _Direct | None:
        """Compile code for mini-batches like this one, and compare it with the model."""
        import torch._dynamo.config as dynamo
        import torch._inductor.config as inductor

        if not (isinstance(x, Tensor) and isinstance(y, Tensor) and len(y)):
            raise NotCompilableError("a mini-batch is empty, or is no tensor")
        if len(y) > 1:
            n_times = -(-_ROWS // len(y))
            x, y = (torch.cat([each] * n_times)[:_ROWS] for each in (x, y))
        expected, *others = self._step_by_step(x, y)
        if self._ready and expected.keys() != self._trained.keys():
            raise NotCompilableError("which parameters have a gradient depends on the mini-batch")
        self._trained = {n: p for n, p in self._trained.items() if n in expected}
        if len(y) > 1:
            for each in (x, y):
                torch._dynamo.mark_dynamic(each, 0)
        # Other sizes of earlier models must not decide what is compiled. The code is small.
        with (
            dynamo.patch(automatic_dynamic_shapes=False, recompile_limit=_MOST_VERSIONS),
            inductor.patch(compile_threads=1),
            _noting() as calls,
        ):
            found = self._checked(x, y)
        *gradients, loss, outputs = found
        self._copies = self._copies or len({each.data_ptr() for each in gradients}) < len(gradients)
        pairs = [*zip(gradients, self._trained.values(), strict=True)]
        self._copies = self._copies or any(g.stride() != p.stride() for g, p in pairs)
        numbers = loss, outputs, *gradients
        if not all(map(_are_close, numbers, (*others, *expected.values()))):
            raise NotCompilableError("compiled code gives other numbers than the model")
        return _Direct.of(calls[-1], x, y, found) if self._is_known else None

    @torch.enable_grad()
    def _step_by_step(self, x: Tensor, y: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Return gradients by name, loss and outputs of a copy of the model.

        Parameters that the loss does not depend on have no gradient.

        Raises:
            NotCompilableError: If the forward pass draws random numbers or changes the model.
        """
        try:
            model, criterion = deepcopy((self._model, self._criterion))
        except Exception as error:
            raise NotCompilableError(f"it cannot be copied: {_first_line(error)}") from error
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        with generators_kept(x.device):
            before = _generators(x.device)
            outputs: Tensor = model(x)
            loss = criterion(outputs, y)
            draws = not all(map(torch.equal, before, _generators(x.device)))
        if draws:
            raise NotCompilableError("it draws random numbers, as dropout does")
        changed = next(_differences(self._model, model), None) or next(
            _differences(self._criterion, criterion), None
        )
        if changed:
            raise NotCompilableError(f"its forward pass changes {changed}")
        if not loss.requires_grad:
            raise NotCompilableError("the loss depends on no parameter that is trained")
        found = torch.autograd.grad(loss, [*trained.values()], allow_unused=True)
        pairs = zip(trained, found, strict=True)
        return {n: g for n, g in pairs if g is not None}, loss.detach(), outputs.detach()


def missing_compiler() -> str:
    """Return the name of the C++ compiler that inductor needs on the CPU, if it is not here."""
    name = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    return "" if shutil.which(shlex.split(name)[0]) else name


class _Call(NamedTuple):
    """A call of the code that torch has compiled of a graph."""

    code: Callable[..., Sequence[Any]]
    inputs: Sequence[Any]
    outputs: Sequence[Any]


_NOTES: list[list[_Call]] = []
"""Where calls are noted, while somebody wants to know."""


@contextmanager
def _noting() -> Iterator[list[_Call]]:
    """Note calls of compiled graphs inside."""
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
        x: The samples that it was called for.
        y: Their labels.
        found: What has come of it.
    """

    def __init__(self, graph: _Call, x: Tensor, y: Tensor, found: Sequence[Tensor]) -> None:
        self._code = graph.code
        self._inputs = [*graph.inputs]
        self._x = _place(x, graph.inputs)
        self._y = _place(y, graph.inputs)
        self._sizes = [i for i, each in enumerate(graph.inputs) if isinstance(each, int)]
        self._order = [_place(each, graph.outputs) for each in found]
        self._layouts = _layout(x), _layout(y)
        self._inputs[self._x] = self._inputs[self._y] = None

    @classmethod
    def of(cls, graph: _Call, x: Tensor, y: Tensor, found: Sequence[Tensor]) -> _Direct | None:
        """Return the code that has been called; None if its inputs and outputs are not clear."""
        sizes = [each for each in graph.inputs if not isinstance(each, Tensor)]
        try:
            return cls(graph, x, y, found) if all(n == len(y) > 1 for n in sizes) else None
        except ValueError:
            return None

    def fits(self, x: Tensor, y: Tensor) -> bool:
        """Return whether samples and labels lie in memory as those did that it was made for."""
        return _layout(x) == self._layouts[0] and _layout(y) == self._layouts[1]

    def __call__(self, x: Tensor, y: Tensor) -> list[Tensor]:
        """Return gradients, loss and outputs."""
        inputs = [*self._inputs]
        inputs[self._x], inputs[self._y] = x, y
        for i in self._sizes:
            inputs[i] = len(y)
        outputs = self._code(*inputs)
        return [outputs[i] for i in self._order]


def _layout(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape[1:], tensor.stride(), tensor.dtype, tensor.device


def _place(tensor: Tensor, tensors: Sequence[Any]) -> int:
    """Return the index of a tensor among others; ValueError if it is not one of them."""
    return [*map(id, tensors)].index(id(tensor))


def _is_known(module: nn.Module) -> bool:
    return type(module).__module__.startswith(("torch.nn.", "avalanche_ext.models."))


def _loss_and_gradients(
    model: nn.Module, criterion: nn.Module, parameters: dict[str, Tensor], x: Tensor, y: Tensor
) -> list[Tensor]:
    def loss_at(parameters: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        outputs = functional_call(model, parameters, (x,))
        return criterion(outputs, y), outputs

    gradients, (loss, outputs) = grad_and_value(loss_at, has_aux=True)(parameters)
    return [*gradients.values(), loss, outputs]


_FUNCTIONS: dict[Hashable, Callable[..., list[Tensor]]] = {}


def _function_of(model: nn.Module, criterion: nn.Module) -> Callable[..., list[Tensor]]:
    """Return the function that models of one architecture share.

    torch keeps compiled versions by the function's code, and a limited number, so each architecture
    has a copy of it. Whether a version fits a model is for torch to find out.
    """
    key = tuple(_kinds(model)), tuple(_kinds(criterion))
    if key not in _FUNCTIONS:
        own = FunctionType(_loss_and_gradients.__code__.replace(), globals())
        _FUNCTIONS[key] = torch.compile(own, fullgraph=True, backend=_compiled)
    return _FUNCTIONS[key]


def _kinds(root: nn.Module) -> Iterator[Hashable]:
    for name, module in root.named_modules():
        plain = tuple(sorted((k, v) for k, v in vars(module).items() if isinstance(v, _PLAIN)))
        tensors = [*module._parameters.items(), *module._buffers.items()]
        shapes = tuple((k, t.shape, t.dtype) for k, t in tensors if t is not None)
        yield name, type(module), plain, shapes


def _parts(model: nn.Module) -> Iterator[tuple[dict[str, Any], str, object]]:
    """Yield modules, tensors and settings below a model, with the places that they stand in."""
    for module in model.modules():
        for places in (module._modules, module._parameters, module._buffers):
            yield from ((places, name, part) for name, part in places.items())
        settings = vars(module)
        yield from ((settings, k, v) for k, v in settings.items() if isinstance(v, _PLAIN))


def _differences(before: nn.Module, after: nn.Module) -> Iterator[str]:
    """Yield what differs between a module and its copy."""
    for (name, one), (_, other) in zip(before.named_buffers(), after.named_buffers(), strict=True):
        if not torch.equal(one, other):
            yield f"its buffer {name!r}, as batch normalisation does"
    for (name, left), (_, right) in zip(before.named_modules(), after.named_modules(), strict=True):
        for key, value in vars(left).items():
            if isinstance(value, _PLAIN) and vars(right).get(key) != value:
                yield f"its attribute '{name + '.' if name else ''}{key}'"


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
