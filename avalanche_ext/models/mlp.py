"""The multi-layer perceptron of the papers."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, Strict
from torch import Tensor, nn

from avalanche_ext.validation import validated


class MLP(nn.Module):
    """Fully connected layers with ReLU between them, and one head.

    Avalanche's SimpleMLP has dropout, and all its layers have the same size.

    Args:
        hidden_sizes: Number of units of each hidden layer; may be empty.
        input_shape: Shape of one sample, which is flattened.
        n_classes: Number of outputs.
        initialisation: "xavier" draws weights uniformly as in Glorot and Bengio (2010) and sets
            biases to 0, as in GEM's and DRL's code; "torch" keeps torch's default, as in GMED's.
        dropout: Probability that a hidden unit is set to 0 in training, at least 0 and below 1.

    Raises:
        ValueError: If an argument does not fit its annotation.
    """

    @validated
    def __init__(
        self,
        hidden_sizes: list[PositiveInt],
        *,
        input_shape: Annotated[tuple[int, ...], Strict(False)],
        n_classes: PositiveInt,
        initialisation: Literal["xavier", "torch"] = "xavier",
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        super().__init__()
        sizes = [prod(input_shape), *hidden_sizes]
        hidden: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            hidden += [nn.Linear(n_in, n_out), nn.ReLU()]
            hidden += [nn.Dropout(dropout)] if dropout else []
        self.hidden = nn.Sequential(*hidden)
        self.classifier = nn.Linear(sizes[-1], n_classes)
        if initialisation == "xavier":
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    nn.init.xavier_uniform_(module.weight)
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, n_classes) of samples `(B, *input_shape)`."""
        logits: Tensor = self.classifier(self.hidden(x.flatten(1)))
        return logits
