"""A model inside the wrappers of torch.compile and DataParallel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

_COMPILED = "_orig_mod"
"""The name under which a module made by torch.compile holds the original one."""


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the user's own module, without the wrappers of `torch.compile` or `DataParallel`."""
    while True:
        if _COMPILED in model._modules:
            model = model.get_submodule(_COMPILED)
        elif isinstance(model, nn.DataParallel):
            model = model.module
        else:
            return model


def plain_name(name: str) -> str:
    """Return the name that a module or parameter has in the uncompiled model."""
    return ".".join(part for part in name.split(".") if part != _COMPILED)


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run compiled modules uncompiled.

    Compiled code skips hooks that were added later, and cannot be differentiated twice or by
    `torch.func`.
    """
    with torch.compiler.set_stance("force_eager"):
        yield


@contextmanager
def called_uncompiled(model: nn.Module) -> Iterator[None]:
    """Run the model uncompiled whenever it is called inside this context.

    Compiled code may run again as soon as the call has ended, even with an error.
    """
    during, in_place = ExitStack(), model._compiled_call_impl

    def begin(*of_call: object) -> None:
        if not torch.compiler.is_compiling():  # Traced code ignores the stance.
            during.enter_context(uncompiled())

    def end(*of_call: object) -> None:
        during.close()

    if in_place is not None:  # Compiled code would contain the model's own hooks.
        model._compiled_call_impl = None
    try:
        with (
            model.register_forward_pre_hook(begin),
            # Contexts end in reverse order.
            model.register_forward_hook(end, prepend=True, always_call=True),
        ):
            yield
    finally:
        if in_place is not None:
            model._compiled_call_impl = in_place
