"""Multi-similarity as an auxiliary loss on representations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field, FiniteFloat, NonNegativeFloat
from torch import Tensor

from avalanche_ext.functional import multi_similarity_loss
from avalanche_ext.functional.representation.multi_similarity import Form
from avalanche_ext.plugins.representation.base import RepresentationLossPlugin
from avalanche_ext.validation import validated

Sharpness = Annotated[FiniteFloat, Field(gt=0)]


class MultiSimilarityPlugin(RepresentationLossPlugin):
    """Add λ times the multi-similarity loss of each layer to the criterion.

    The loss of Wang et al. (2019, "Multi-similarity loss with general pair weighting for deep
    metric learning"), in the setting in which the DRL paper (Chen, Diethe and Flach 2020) compares
    with it: together with `BalancedReplayPlugin`, from the first task on. See
    `functional.multi_similarity_loss`.

    Deviations from Wang et al.:

    1. No pairs are mined: all pairs of the mini-batch count, as in the DRL paper.
    2. The loss applies to every hidden layer and to the logits, each normalised separately, and is
       added to the criterion. Theirs is the only loss, on one embedding.
    3. `form="rows"`, the default, reproduces the DRL paper's numbers. `form="matrix"` is the form
       in its code, `form="pairs"` the formula of Wang et al.

    Args:
        lam: Weight λ of the loss; in the DRL paper 5 on Permuted MNIST, 1 on Split MNIST and
            Fashion-MNIST, 2 and 0.1 on Split CIFAR-10 and CIFAR-100.
        alpha: α, above 0: the larger it is, the more the least similar pairs of one class dominate.
        beta: β, above 0: the larger it is, the more the most similar pairs of different classes
            dominate.
        base: The similarity that separates the two kinds of pairs.
        form: "rows", "matrix" or "pairs"; see `functional.multi_similarity_loss`.
        layers: Modules whose outputs are used, and "logits"; None is every hidden layer of an MLP
            after its activation, the pooled features of a ResNet, and the logits of a model with a
            single head.

    Raises:
        ValueError: If an argument has a wrong type or is out of range.
        ValueError: When training starts, if the model lacks one of the layers.
    """

    reads_graph: ClassVar[bool] = False

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
