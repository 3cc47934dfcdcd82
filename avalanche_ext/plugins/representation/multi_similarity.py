"""Multi-similarity as an auxiliary loss on representations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, FiniteFloat, NonNegativeFloat
from torch import Tensor

from avalanche_ext.functional import multi_similarity_loss
from avalanche_ext.functional.representation.losses import Form
from avalanche_ext.plugins.representation.base import RepresentationLossPlugin
from avalanche_ext.validation import validated

Sharpness = Annotated[FiniteFloat, Field(gt=0)]


class MultiSimilarityPlugin(RepresentationLossPlugin):
    """Add λ times the multi-similarity loss of each layer to the criterion, in the first task too.

    The loss (Wang and others 2019, "Multi-similarity loss with general pair weighting for deep
    metric learning") as the DRL paper (Chen, Diethe and Flach 2020) compares itself with it, beside
    `BalancedReplayPlugin`. See `functional.multi_similarity_loss`. Deviations from Wang and others:

    1. No pairs are mined: all pairs of the mini-batch count, as in the DRL paper.
    2. It is a loss on every hidden layer and on the logits, each normalised by itself, beside the
       criterion; theirs is the only loss, on one embedding.
    3. `form="rows"`, the default, reproduces the DRL paper's numbers; `form="matrix"` is its code,
       `form="pairs"` the formula of Wang and others.

    Args:
        lam: Weight λ of the loss; the DRL paper takes 5 on Permuted MNIST, 1 on Split MNIST and
            Fashion-MNIST, 2 and 0.1 on Split CIFAR-10 and CIFAR-100.
        alpha: How sharply the least similar pairs of one class stand out.
        beta: Likewise the most similar pairs of different classes.
        base: The similarity that parts the two.
        form: "rows", "matrix" or "pairs": what enters the sums over pairs, and how many there are.
        layers: Modules whose outputs are used, and "logits"; None is every hidden layer of an MLP
            after its activation, the pooled features of a ResNet, and the logits.

    Raises:
        pydantic.ValidationError: If an argument is not of the given type or range.
        ValueError: When training starts, if the model lacks one of the layers.
    """

    @validated
    def __init__(
        self,
        lam: NonNegativeFloat = 1.0,
        *,
        alpha: Sharpness = 2.0,
        beta: Sharpness = 40.0,
        base: FiniteFloat = 0.5,
        form: Form = "rows",
        layers: list[str] | None = None,
    ) -> None:
        super().__init__(lam, layers)
        self.alpha = alpha
        self.beta = beta
        self.base = base
        self.form: Form = form

    def representation_loss(self, representations: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Return the sum of the layers' multi-similarity losses, a scalar."""
        return multi_similarity_loss(
            representations, labels, self.alpha, self.beta, self.base, self.form
        )
