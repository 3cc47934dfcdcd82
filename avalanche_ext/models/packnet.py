"""Models for Avalanche's PackNet, with BatchNorm."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

from avalanche.models.packnet import PackNetModel, PackNetModule, WeightAndBiasPackNetModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from avalanche_ext.models.features import Features


def packnet_model(
    model: nn.Module, n_classes: int, input_shape: Sequence[int] | None = None
) -> nn.Module:
    """Convert a classifier into a model that PackNet can prune.

    All tasks share one last layer, whose weights are packed like the others. Each task has its own
    BatchNorm layers; Mallya and Lazebnik (2018, arXiv:1711.05769) keep those of a pre-trained
    network for all tasks.

    Args:
        model: The classifier, with one head or several; it is not changed.
        n_classes: Number of outputs.
        input_shape: Shape of one sample, as for `features.last_layer`.

    Raises:
        ValueError: If the model has no last layer that classifies, or has weights in layers other
            than `Linear`, convolutions and BatchNorm.
    """
    features = Features(model, input_shape)
    for parent in [*features.modules()]:
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm):
                parent._modules[name] = NormPerTask(child)
    classifier = nn.Linear(features.n_features, n_classes)
    packed: nn.Module = PackNetModel(nn.Sequential(features, classifier))
    for layer in packed.modules():
        if isinstance(layer, WeightAndBiasPackNetModule):
            # Avalanche checks the weight instead of the bias, and fails if the bias is None.
            layer.has_bias = layer.wrappee.bias is not None
    return packed


class NormPerTask(PackNetModule):  # type: ignore[misc]
    """BatchNorm with separate weights and statistics for each task.

    Args:
        norm: The layer of the first task. Layers of later tasks start as new ones.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        self.norms = nn.ModuleList([norm])

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, ...), normalised for the active task."""
        normalised: Tensor = self.norms[self.active_task](x)
        return normalised

    def _prune(self, prune_proportion: float) -> None:
        """Prune nothing."""

    def _freeze_pruned(self) -> None:
        """Freeze the layer of the task just learned, and create the next task's."""
        learned = self.norms[-1]
        new = deepcopy(learned)
        assert isinstance(new, _BatchNorm)
        new.reset_parameters()
        for parameter in learned.parameters():
            parameter.requires_grad = False
        self.norms.append(new)

    def _activate_task(self, task_id: int) -> None:
        """Activate nothing: `forward` looks up the active task."""
