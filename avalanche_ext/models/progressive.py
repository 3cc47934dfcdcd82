"""Progressive networks for Avalanche's PNNStrategy, whose columns are copies of a given model."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from avalanche.models import PNN, MultiHeadClassifier, MultiTaskModule
from avalanche.models.helper_method import MultiTaskDecorator
from avalanche.models.pnn import MLPAdapter, PNNColumn
from torch import Tensor, nn
from torch.nn.functional import relu

from avalanche_ext.models.features import Features
from avalanche_ext.models.mlp import MLP


def progressive_network(
    model: nn.Module, input_shape: Sequence[int] | None = None
) -> ProgressiveNetwork:
    """Return a progressive network whose first column starts as a copy of `model`.

    The columns of an `MLP` are connected in each hidden layer, as in Avalanche's PNN. The columns
    of any other model are connected at its features, before the head.

    Args:
        model: The classifier, with one head or several; it is not changed.
        input_shape: Shape of one sample, as for `features.last_layer`.

    Raises:
        ValueError: If the model has no last layer that classifies, or is an MLP with dropout.
    """
    inner = model.model if isinstance(model, MultiTaskDecorator) else model
    hidden = [*inner.hidden] if isinstance(inner, MLP) else []
    if any(isinstance(layer, nn.Dropout) for layer in hidden):
        raise ValueError("PNN has no dropout between its columns: leave model.dropout out")
    layers = [layer for layer in hidden if isinstance(layer, nn.Linear)]
    return ProgressiveMLP(layers) if layers else ProgressiveFeatures(Features(model, input_shape))


class ProgressiveNetwork(PNN):  # type: ignore[misc]
    """One column and one head per task; each column takes input from the frozen columns before it.

    Rusu et al. (2016), Progressive Neural Networks, arXiv:1606.04671. Avalanche's PNN also adds a
    column when it evaluates a task that has not been learned yet, which freezes the column being
    trained. Here such a task uses the newest column and an untrained head.

    Each column starts with the weights of the given model; connections between columns start
    at random.
    """

    def __init__(self, n_features: int) -> None:
        # PNN would build its own MLP.
        MultiTaskModule.__init__(self)
        self.columns = nn.ModuleList()
        self.columns.append(self._column(0))
        self.classifier = MultiHeadClassifier(n_features)
        self._column_of: dict[int, int] = {}

    def adaptation(self, experience: Any) -> None:
        """Add a column for a task that is trained on for the first time, and freeze the others.

        Raises:
            ValueError: If the experience has several task labels.
        """
        MultiTaskModule.adaptation(self, experience)
        if not self.training:
            return
        labels = sorted(set(experience.task_labels))
        if len(labels) != 1:
            raise ValueError(
                f"PNN needs one task label per experience, but an experience has {labels}"
            )
        if labels[0] in self._column_of:
            return
        if self._column_of:
            for parameter in self.columns.parameters():
                parameter.requires_grad = False
            self.columns.append(self._column(len(self.columns)).to(self._adaptation_device))
        self._column_of[labels[0]] = len(self.columns) - 1
        self.train()

    def train(self, mode: bool = True) -> ProgressiveNetwork:
        """Set training mode; frozen columns stay in evaluation mode, to keep their statistics."""
        super().train(mode)
        for column in self.columns[:-1]:
            column.eval()
        return self

    def forward_single_task(self, x: Tensor, task_label: int) -> Tensor:
        """Return logits (B, classes of the head) of samples (B, ...) of one task."""
        index = self._column_of.get(task_label, len(self.columns) - 1)
        logits: Tensor = self.classifier(self._features(x, self.columns[: index + 1]), task_label)
        return logits

    def _column(self, n_before: int) -> nn.Module:
        raise NotImplementedError

    def _features(self, x: Tensor, columns: nn.ModuleList) -> Tensor:
        raise NotImplementedError


class ProgressiveMLP(ProgressiveNetwork):
    """Progressive network of multi-layer perceptrons, connected in each hidden layer.

    Args:
        hidden: The hidden layers of the first column, at least one; they are not changed.
    """

    def __init__(self, hidden: Sequence[nn.Linear]) -> None:
        self._hidden = [layer.state_dict() for layer in deepcopy([*hidden])]
        super().__init__(hidden[-1].out_features)

    def _column(self, n_before: int) -> nn.Module:
        column = nn.ModuleList()
        for state in self._hidden:
            n_out, n_in = state["weight"].shape
            layer = PNNColumn(n_in, n_out, n_before)
            layer.itoh.load_state_dict(state)
            column.append(layer)
        return column

    def _features(self, x: Tensor, columns: nn.ModuleList) -> Tensor:
        outputs = [x.flatten(1)] * len(columns)
        for layers in zip(*columns, strict=True):
            # A layer gets the outputs of the layer below in its own and all earlier columns.
            outputs = [relu(layer(outputs[: i + 1])) for i, layer in enumerate(layers)]
        return outputs[-1]


class ProgressiveFeatures(ProgressiveNetwork):
    """Progressive network of any models, connected at the features before the head.

    Args:
        features: The first column; it is not changed.
    """

    def __init__(self, features: Features) -> None:
        self._template = [deepcopy(features)]  # A list, so that it is no submodule.
        super().__init__(features.n_features)

    def _column(self, n_before: int) -> nn.Module:
        features = deepcopy(self._template[0])
        n = features.n_features
        return nn.ModuleList([features, MLPAdapter(n, n, n_before)])

    def _features(self, x: Tensor, columns: nn.ModuleList) -> Tensor:
        networks, adapters = zip(*columns, strict=True)
        *before, own = (network(x) for network in networks)
        features: Tensor = own + adapters[-1](before)
        return features
