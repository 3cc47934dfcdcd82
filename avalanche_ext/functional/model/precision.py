"""Computing in bfloat16 or with channels last, and suspending bfloat16."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_IMAGES = 4
"""Dimensions of a batch of images, and of the weights of their convolutions."""


class InBfloat16:
    """The `forward` of a model that computes in bfloat16 by autocast, and returns float32.

    Weights, their gradients and the loss keep their precision. The backward pass of what was
    computed in bfloat16 is in bfloat16 too.

    Args:
        model: The model, whose own `forward` this object replaces, see `use_bfloat16`.

    Attributes:
        is_on: Whether the model computes in bfloat16 now; see `full_precision`.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.is_on = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the model's own `forward` returns."""
        own: Any = type(self.model).forward
        if not self.is_on:
            return own(self.model, *args, **kwargs)
        device = next(self.model.parameters()).device.type
        with torch.autocast(device, torch.bfloat16):
            outputs = own(self.model, *args, **kwargs)
        return _in_float32(outputs)


class InFloat32:
    """The `forward` of a module that computes in float32 within a model in bfloat16.

    Args:
        module: The module; this object replaces the module's own `forward`.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return what the module's own `forward` returns for x in float32."""
        own: Any = type(self.module).forward
        with torch.autocast(x.device.type, enabled=False):
            return own(self.module, x.float(), *args, **kwargs)


def use_bfloat16(model: nn.Module, in_float32: Iterable[nn.Module] = ()) -> None:
    """Make a model compute in bfloat16 from now on, whoever calls it; its copies do so too.

    If its parts are called one by one, each part computes in its own precision.

    Args:
        model: The model.
        in_float32: Modules of the model that still compute in float32.

    Raises:
        ValueError: If it has trained weights that are not in float32.
    """
    for name, p in model.named_parameters():
        if p.requires_grad and p.dtype != torch.float32:
            raise ValueError(
                f"bfloat16 is for a model with weights in float32, but {name!r} is in "
                f"{str(p.dtype).removeprefix('torch.')}"
            )
    vars(model)["forward"] = InBfloat16(model)
    for module in in_float32:
        vars(module)["forward"] = InFloat32(module)


@contextmanager
def full_precision(model: nn.Module) -> Iterator[None]:
    """Make a model compute in the precision of its weights inside this context.

    Otherwise differences below the rounding of bfloat16 would be noise, such as those made by a
    step of SGD: bfloat16 keeps 8 bits of a weight, so most weights would stay the same.
    """
    found = [vars(module).get("forward") for module in model.modules()]
    lowered = [each for each in found if isinstance(each, InBfloat16) and each.is_on]
    for each in lowered:
        each.is_on = False
    try:
        yield
    finally:
        for each in lowered:
            each.is_on = True


def bfloat16_is_fast(device: torch.device) -> bool:
    """Return whether a device has instructions for products of bfloat16.

    Other devices emulate them, which is slower than float32. Of processors, only x86 ones with
    AVX512-BF16 or AMX are recognised.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def use_channels_last(model: nn.Module) -> None:
    """Store the weights of a model's image convolutions with channels last, in place.

    The convolutions then take images in any layout, and return them with channels last.

    Raises:
        ValueError: If the model has no such weights.
    """
    weights = [p for p in model.parameters() if p.dim() == _IMAGES]
    if not weights:
        raise ValueError(
            f"channels last is for convolutions of images, but {type(model).__name__} has no "
            "weights of four dimensions"
        )
    for p in weights:
        p.data = p.data.contiguous(memory_format=torch.channels_last)


def _in_float32(outputs: Any) -> Any:
    if isinstance(outputs, Tensor):
        return outputs.float() if outputs.dtype == torch.bfloat16 else outputs
    if type(outputs) in (list, tuple):
        return type(outputs)(map(_in_float32, outputs))
    if type(outputs) is dict:
        return {key: _in_float32(each) for key, each in outputs.items()}
    return outputs
