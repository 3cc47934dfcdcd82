"""The multi-layer perceptron of the papers."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Annotated, Literal

from pydantic import PositiveInt, Strict
from torch import Tensor, nn

from avalanche_ext.validation import validated


class MLP(nn.Module):
    """Fully connected layers with ReLU between them, and a single head.

    Avalanche's SimpleMLP has dropout and layers of one size only.

    Args:
        hidden_sizes: Number of units of each hidden layer.
        input_shape: Shape of one sample; it is flattened.
        n_classes: Number of outputs.
        initialisation: "xavier" draws weights uniformly after Glorot and Bengio (2010) and sets
            biases to 0, as GEM's and DRL's code; "torch" leaves torch's default, as GMED's.

    Raises:
        ValueError: If an argument is not as annotated; no hidden layer is allowed.
    """

    @validated
    def __init__(
        self,
        hidden_sizes: list[PositiveInt],
        *,
        input_shape: Annotated[tuple[int, ...], Strict(False)],
        n_classes: PositiveInt,
        initialisation: Literal["xavier", "torch"] = "xavier",
    ) -> None:
        super().__init__()
        sizes = [prod(input_shape), *hidden_sizes]
        hidden: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            hidden += [nn.Linear(n_in, n_out), nn.ReLU()]
        self.hidden = nn.Sequential(*hidden)
        self.classifier = nn.Linear(sizes[-1], n_classes)
        if initialisation == "xavier":
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    nn.init.xavier_uniform_(module.weight)
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, n_classes) of samples (B, *input_shape)."""
        logits: Tensor = self.classifier(self.hidden(x.flatten(1)))
        return logits
