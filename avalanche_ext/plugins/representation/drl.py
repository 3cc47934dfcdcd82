"""Discriminative representation loss (DRL)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import NonNegativeFloat
from torch import Tensor

from avalanche_ext.functional import discriminative_representation_loss
from avalanche_ext.functional.representation.losses import Normalisation
from avalanche_ext.plugins.representation.base import RepresentationLossPlugin, concatenated
from avalanche_ext.validation import validated


class DRLPlugin(RepresentationLossPlugin):
    """DRL: add λ times the discriminative representation loss to the criterion.

    The loss, `functional.discriminative_representation_loss`, makes the representations of samples
    less similar to each other: those of different classes and, with weight α, those of one class.
    The paper's method (Chen, Diethe and Flach 2020) is this plugin together with
    `BalancedReplayPlugin`, whose batches contain pairs of both kinds. It acts from the first task
    on.

    Args:
        alpha: Weight α of pairs of one class; 2 on MNIST and 0.1 on CIFAR in the paper.
        lam: Weight λ of the loss; in the paper 1e-2 on Permuted MNIST, 5e-4 on Split MNIST, 2e-4
            and 2e-5 on Split CIFAR-10 and CIFAR-100.
        layers: Modules whose outputs are used, and "logits"; None is the paper's choice: every
            hidden layer of an MLP after its activation, the pooled features of a ResNet, and
            the logits of a model with a single head.
        normalisation: "batch" averages over all B² pairs, which reproduces the paper's numbers;
            "pairs" averages over the pairs of each kind.

    Raises:
        ValueError: If an argument has a wrong type or is out of range.
        ValueError: When training starts, if the model lacks one of the layers.
    """

    reads_graph: ClassVar[bool] = False

    @validated
    def __init__(
        self,
        alpha: NonNegativeFloat = 2.0,
        lam: NonNegativeFloat = 5e-4,
        *,
        layers: list[str] | None = None,
        normalisation: Normalisation = "batch",
    ) -> None:
        super().__init__(lam, layers)
        self.alpha = alpha
        self.normalisation: Normalisation = normalisation

    def representation_loss(self, representations: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Return the discriminative representation loss over all layers, a scalar."""
        return discriminative_representation_loss(
            concatenated(representations), labels, self.alpha, self.normalisation
        )
