"""A classifier split into its features and its last layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
from avalanche.models import MultiHeadClassifier, MultiTaskModule, as_multitask
from avalanche.models.base_model import BaseModel
from avalanche.models.helper_method import MultiTaskDecorator
from torch import Tensor, nn


class Features(nn.Module):
    """A copy of a classifier without its last layer.

    The last layer is the model's `MultiHeadClassifier` or, if it has none, its last `Linear`, whose
    output must be the model's output.

    Attributes:
        n_features: Number of features of a sample.

    Args:
        model: The classifier, with one head or several; it is not changed.
        input_shape: Shape of one sample, as for `last_layer`.

    Raises:
        ValueError: If the model has no such layer.
    """

    def __init__(self, model: nn.Module, input_shape: Sequence[int] | None = None) -> None:
        super().__init__()
        name, layer = last_layer(model, input_shape)
        self.n_features: int = layer.in_features
        self._end = _End()
        if isinstance(model, MultiTaskDecorator):
            self.body: nn.Module = nn.Sequential(deepcopy(model.model), nn.Flatten(), self._end)
        else:
            self.body = deepcopy(model)
            above, _, own_name = name.rpartition(".")
            setattr(self.body.get_submodule(above), own_name, self._end)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (B, n_features) of samples (B, ...).

        Raises:
            ValueError: If the model changes the output of its last layer.
        """
        is_multi_task = isinstance(self.body, MultiTaskModule)
        features: Tensor = self.body(x, 0) if is_multi_task else self.body(x)
        if features is not self._end.take():
            raise ValueError(_changes_output(self.body))
        return features


class _End(nn.Module):
    """Returns its input and ignores task labels."""

    def __init__(self) -> None:
        super().__init__()
        self._passed: Tensor | None = None

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        self._passed = x
        return x

    def take(self) -> Tensor | None:
        passed, self._passed = self._passed, None
        return passed


class FeaturesAndClassifier(BaseModel, nn.Module):  # type: ignore[misc]
    """A single-head classifier that gives access to its features, as Avalanche's LFL needs.

    Args:
        model: The classifier; it is not changed.
        input_shape: Shape of one sample, as for `last_layer`.

    Raises:
        ValueError: If the model has several heads, or no last `Linear` layer.
    """

    def __init__(self, model: nn.Module, input_shape: Sequence[int] | None = None) -> None:
        super().__init__()
        self.features = Features(model, input_shape)
        self.classifier = single_head(model, input_shape)

    def get_features(self, x: Tensor) -> Tensor:
        """Return the features (B, n_features) of samples (B, ...)."""
        features: Tensor = self.features(x)
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, n_classes) of samples (B, ...)."""
        logits: Tensor = self.classifier(self.features(x))
        return logits


def last_layer(
    model: nn.Module, input_shape: Sequence[int] | None = None
) -> tuple[str, nn.Linear | MultiHeadClassifier]:
    """Return the name and the layer that classifies: the heads, or otherwise the last `Linear`.

    Args:
        model: The classifier.
        input_shape: Shape of one sample. If it is given, a copy of the model is run to find the
            `Linear` whose output is the model's. Otherwise the layer is the last one registered.

    Raises:
        ValueError: If the model has neither, or if its output does not come from a `Linear`.
    """
    for kind in (MultiHeadClassifier, nn.Linear):
        of_kind = [(name, each) for name, each in model.named_modules() if isinstance(each, kind)]
        if of_kind and kind is nn.Linear and input_shape is not None:
            name = _name_of_last(model, input_shape)
            return next(each for each in of_kind if each[0] == name)
        if of_kind:
            return of_kind[-1]
    raise ValueError(f"model {type(model).__name__} has no Linear layer to take for its classifier")


def _name_of_last(model: nn.Module, input_shape: Sequence[int]) -> str:
    """Return the name of the `Linear` whose output is the model's."""
    copy = deepcopy(model).eval()
    outputs: dict[str, Any] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _module, _inputs, output: outputs.update({name: output})

    for name, module in copy.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(keep(name))
    first = next(copy.parameters())
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        logits = copy(torch.zeros(2, *input_shape, device=first.device))
    names = [name for name, output in outputs.items() if output is logits]
    if not names:
        raise ValueError(_changes_output(model))
    return names[0]


def _changes_output(model: nn.Module) -> str:
    return (
        f"model {type(model).__name__} changes the output of its last Linear layer, so it cannot "
        "be split into features and classifier; make that layer the last step of its forward"
    )


def with_heads(model: nn.Module, input_shape: Sequence[int] | None = None) -> MultiTaskModule:
    """Return the model with one head per task, chosen by task label, in place of its last layer.

    Args:
        model: The classifier.
        input_shape: Shape of one sample, as for `last_layer`.

    Raises:
        ValueError: If the model has no last `Linear` layer, or if that layer is neither an
            attribute of the model nor the end of one.
    """
    name, layer = last_layer(model, input_shape)
    attribute = name.partition(".")[0]
    part = getattr(model, attribute, None)
    ends = isinstance(part, nn.Sequential) and part[-1] is layer
    if part is not layer and not ends:
        raise ValueError(
            f"model {type(model).__name__} classifies by its layer {name!r}, which cannot become "
            "several heads: make it an attribute of the model itself"
        )
    return as_multitask(model, attribute)


def single_head(model: nn.Module, input_shape: Sequence[int] | None = None) -> nn.Linear:
    """Return a copy of the layer that classifies.

    Args:
        model: The classifier.
        input_shape: Shape of one sample, as for `last_layer`.

    Raises:
        ValueError: If the model has several heads, or no `Linear` layer.
    """
    _, layer = last_layer(model, input_shape)
    if not isinstance(layer, nn.Linear):
        raise ValueError(
            f"model {type(model).__name__} has one head a task, but must have a single one: leave "
            "model.multi_head out"
        )
    return deepcopy(layer)
