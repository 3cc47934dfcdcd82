"""Models by the names they have in experiment files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from avalanche.models import MTSlimResNet18, SimpleCNN, SlimResNet18, as_multitask
from pydantic import PositiveInt
from torch import nn

from avalanche_ext.models.mlp import MLP


def mlp(
    hidden_sizes: list[PositiveInt],
    initialisation: Literal["xavier", "torch"] = "xavier",
    multi_head: bool = False,
    *,
    input_shape: Sequence[int],
    n_classes: int,
) -> nn.Module:
    """Multi-layer perceptron with ReLU."""
    model = MLP(
        hidden_sizes, input_shape=input_shape, n_classes=n_classes, initialisation=initialisation
    )
    return as_multitask(model, "classifier") if multi_head else model


def slim_resnet18(
    width: PositiveInt = 20,
    multi_head: bool = False,
    *,
    input_shape: Sequence[int],
    n_classes: int,
) -> nn.Module:
    """Reduced ResNet-18 of GEM (Lopez-Paz and Ranzato 2017), Avalanche's, for 3×32×32 images."""
    _require_image(input_shape, "slim_resnet18")
    return (MTSlimResNet18 if multi_head else SlimResNet18)(n_classes, nf=width)


def simple_cnn(
    multi_head: bool = False, *, input_shape: Sequence[int], n_classes: int
) -> nn.Module:
    """Small convolutional network, Avalanche's SimpleCNN, for 3×32×32 images."""
    _require_image(input_shape, "simple_cnn")
    model = SimpleCNN(n_classes)
    return as_multitask(model, "classifier") if multi_head else model


def _require_image(input_shape: Sequence[int], model: str) -> None:
    if tuple(input_shape) != (3, 32, 32):
        raise ValueError(
            f"model {model} takes samples of shape (3, 32, 32), "
            f"but the benchmark's have {tuple(input_shape)}: use mlp"
        )
