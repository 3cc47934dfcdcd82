"""Models by their names in experiment files.

With `multi_head` a model has one head per task, chosen by the task label. Avalanche's strategies
add classes to the heads as they appear; new heads have torch's default initialisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from avalanche.models import MTSlimResNet18, SimpleCNN, SlimResNet18
from pydantic import Field, PositiveFloat, PositiveInt
from torch import nn

from avalanche_ext.models.features import with_heads
from avalanche_ext.models.mlp import MLP
from avalanche_ext.models.resnet import ReducedResNet18
from avalanche_ext.models.supsup import Share, SupSup, Task

_LEAST_OF_SIMPLE_CNN = 10
_LEAST_OF_RESNET = 25


def mlp(
    hidden_sizes: list[PositiveInt],
    initialisation: Literal["xavier", "torch"] = "xavier",
    multi_head: bool = False,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    *,
    input_shape: Sequence[int],
    n_classes: int,
) -> nn.Module:
    """Multi-layer perceptron with ReLU."""
    model = MLP(
        hidden_sizes,
        input_shape=tuple(input_shape),
        n_classes=n_classes,
        initialisation=initialisation,
        dropout=dropout,
    )
    return with_heads(model) if multi_head else model


def supsup(
    hidden_sizes: list[PositiveInt],
    share: Share | None = None,
    task: Task = "known",
    *,
    input_shape: Sequence[int],
    n_classes: int,
) -> nn.Module:
    """Multi-layer perceptron with fixed random weights, and a mask over them for each task."""
    model = MLP(hidden_sizes, input_shape=tuple(input_shape), n_classes=n_classes)
    return SupSup(model, share, task)


def slim_resnet18(
    width: PositiveInt = 20,
    multi_head: bool = False,
    norm_eps: PositiveFloat = 1e-5,
    *,
    input_shape: Sequence[int],
    n_classes: int,
) -> nn.Module:
    """GEM's reduced ResNet-18, for 3×H×W images of at least 25 pixels."""
    model = _slim_resnet18(width, multi_head, input_shape, n_classes)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = norm_eps
    return model


def _slim_resnet18(
    width: int, multi_head: bool, input_shape: Sequence[int], n_classes: int
) -> nn.Module:
    if tuple(input_shape) == (3, 32, 32):
        model: nn.Module = (MTSlimResNet18 if multi_head else SlimResNet18)(n_classes, nf=width)
        return model
    _check_images("slim_resnet18", _LEAST_OF_RESNET, input_shape)
    model = ReducedResNet18(n_classes, width, (input_shape[1], input_shape[2]))
    return with_heads(model) if multi_head else model


def simple_cnn(
    multi_head: bool = False, *, input_shape: Sequence[int], n_classes: int
) -> nn.Module:
    """Avalanche's small convolutional network SimpleCNN, for 3×H×W images of at least 10 pixels."""
    _check_images("simple_cnn", _LEAST_OF_SIMPLE_CNN, input_shape)
    model: nn.Module = SimpleCNN(n_classes)
    return with_heads(model) if multi_head else model


def _check_images(model: str, least: int, input_shape: Sequence[int]) -> None:
    if len(input_shape) != 3 or input_shape[0] != 3 or min(input_shape[1:]) < least:
        raise _misfit(model, f"(3, H, W) with H and W at least {least}", input_shape)


def _misfit(model: str, wanted: str, input_shape: Sequence[int]) -> ValueError:
    return ValueError(
        f"model {model} takes samples of shape {wanted}, "
        f"but the benchmark's have shape {tuple(input_shape)}: use mlp"
    )
