"""How strongly the gradients of samples conflict after each experience."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import Tensor

from avalanche_ext.data import Strategy, origin_index
from avalanche_ext.functional.model.running import generators_kept, left_as_it_was
from avalanche_ext.functional.representation.diversity import (
    PairCosines,
    cosines,
    gradient_cosines,
    pairs_by_kind,
)
from avalanche_ext.plugins.core.composition import ReportingPlugin
from avalanche_ext.plugins.core.experiences import Endings, draw_samples
from avalanche_ext.plugins.core.gathering import (
    LOGITS,
    Gatherer,
    gathered_layers,
    in_float32,
    named_layers,
)
from avalanche_ext.plugins.core.model import (
    class_labels,
    is_multi_head,
    mask_values,
    model_inputs,
    own_model,
    unmasked,
)
from avalanche_ext.plugins.representation.base import concatenated
from avalanche_ext.results.exhibits import GradientDiversity, names_in, table
from avalanche_ext.validation import validated

MOST_PAIRS = 10_000
"""The maximum number of pairs of each kind kept for a report, 80 kB in single precision."""


class GradientDiversityPlugin(ReportingPlugin):
    """Compare gradients and representations of pairs of samples, without changing training.

    Chen, Diethe, Flach (2020, "Discriminative Representation Loss", arXiv:2006.11234) relate the
    two: the more similar the representations of two samples of different classes (a negative pair),
    the more their gradients conflict. Their loss makes representations less similar. After each
    experience, this plugin measures the cosine similarities of gradients (of the cross-entropy with
    respect to all trained parameters) and of representations. It compares all pairs among
    `n_samples` samples of each experience seen so far.

    Once an experience has been learned, samples are drawn without replacement from its training
    set. They are kept, so that later models are measured on the same samples, in evaluation mode
    and without augmentation. On an online stream, the plugin waits until all parts of an experience
    of the original stream have been learned, and draws from all of them.

    The time it takes counts as training, and grows with the square of the number of samples.

    Args:
        n_samples: Number of samples of each experience, all if it has fewer.
        layers: Modules whose outputs are the representations, and "logits"; they are concatenated.
            None takes the layers of `DRLPlugin`: the input of each linear layer if it depends on
            trained parameters (on an MLP every hidden layer after its activation), and the logits
            unless the model has several heads.
        seed: Seed of the draws.

    Raises:
        ValueError: If an argument has a wrong type or is out of range.
        ValueError: When training starts, if the model lacks one of the layers.
    """

    supports_distributed = False
    needs_scores: ClassVar[bool] = True
    needs_float32: ClassVar[bool] = True

    @validated
    def __init__(
        self,
        n_samples: PositiveInt = 40,
        *,
        layers: list[str] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.n_samples = n_samples
        self.layers = named_layers(layers)
        self.pairs: dict[str, PairCosines] = {}
        """The pairs after the last learned experience, by kind."""
        self._numbers: list[tuple[int, dict[str, float]]] = []
        self._is_new = False
        self._endings = Endings()
        self._samples: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        self._generator = torch.Generator().manual_seed(seed)

    def check(self, strategy: Strategy) -> None:
        """Raise ValueError if the plugin cannot act in this strategy."""
        super().check(strategy)
        gathered_layers(own_model(strategy), self.layers)

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Mark the last experience's numbers as old."""
        self._is_new = False

    def after_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Compare the pairs if the experience has ended."""
        if not self._endings.ends(strategy.experience):
            return
        index = origin_index(strategy.experience)
        with generators_kept(strategy.device):
            if index not in self._samples:
                self._samples[index] = draw_samples(
                    strategy.experience, self.n_samples, self._generator, strategy.device
                )
            self.pairs = self._compare(strategy)
        numbers = {
            f"{kind}/{name}": value
            for kind, pairs in self.pairs.items()
            for name, value in pairs.numbers().items()
        }
        self._numbers.append((index, numbers))
        self._is_new = True

    def diagnostics(self) -> dict[str, float]:
        """Return the numbers of the pairs after the current experience."""
        numbers = self._numbers[-1][1] if self._is_new else {}
        return {f"gradient_diversity/{name}": x for name, x in numbers.items() if math.isfinite(x)}

    def exhibits(self) -> dict[str, dict[str, NDArray[Any]]]:
        """Return the numbers of all experiences, and the cosines after the last one.

        At most 10,000 pairs of each kind are kept, drawn at random if there are more.
        """
        if not self._numbers:
            return {}
        numbers = [each for _, each in self._numbers]
        names = names_in(numbers)
        exhibit = GradientDiversity(
            experience=np.array([index for index, _ in self._numbers], dtype=np.int64),
            name=np.array(names, dtype=np.str_),
            numbers=table(numbers, names),
            **{kind: _kept(pairs) for kind, pairs in self.pairs.items()},
        )
        return {GradientDiversity.NAME: exhibit.to_arrays()}

    def _compare(self, strategy: Strategy) -> dict[str, PairCosines]:
        x, y, t = map(torch.cat, zip(*self._samples.values(), strict=True))
        of_gradients = gradient_cosines(
            own_model(strategy), x, y, t=t if is_multi_head(strategy) else None
        )
        hidden = _hidden_representations(strategy, x, t, self.layers)
        return pairs_by_kind(
            of_gradients, cosines(concatenated(hidden)), class_labels(strategy, y, t)
        )


def _kept(pairs: PairCosines) -> NDArray[np.float32]:
    """Return the cosines of gradients and of representations of some pairs, (2, m)."""
    both = torch.stack([pairs.gradients, pairs.representations]).float().cpu()
    drawn = torch.randperm(both.shape[1], generator=torch.Generator().manual_seed(0))
    kept: NDArray[np.float32] = both[:, drawn[:MOST_PAIRS]].numpy()
    return kept


def _hidden_representations(
    strategy: Strategy, x: Tensor, t: Tensor, layers: Sequence[str] | None
) -> list[Tensor]:
    """Return the model's representations of samples in evaluation mode; the model is not changed.

    Args:
        strategy: The strategy. Its model runs on mini-batches of `eval_mb_size`.
        x: Samples, (N, ...), on the model's device.
        t: Task labels, (N,).
        layers: Modules whose outputs are used, and "logits"; None takes, as in
            `RepresentationLossPlugin`, the input of each linear layer if it depends on trained
            parameters, and the logits of a model with a single head.

    Returns:
        The representations of each layer, (N, H_l), without a graph; the logits, if used, are the
        last.

    Raises:
        ValueError: If the model lacks one of the layers.
    """
    model, size = own_model(strategy), strategy.eval_mb_size
    hooked, gatherer = gathered_layers(model, layers), Gatherer()
    batches: list[list[Tensor]] = []
    with left_as_it_was(model, x):
        for x_part, t_part in zip(torch.split(x, size), torch.split(t, size), strict=True):
            gatherer.start(model, hooked, "inputs" if layers is None else "outputs")
            try:
                logits = model(*model_inputs(strategy, x_part, t_part))
            finally:
                gatherer.stop()
            found = [*gatherer.taken(logits, t_part).values()]
            if layers is None:
                found = [rows for rows in found if rows.requires_grad]
            if LOGITS in layers if layers else not is_multi_head(strategy):
                found.append(in_float32(unmasked(logits, mask_values(model))))
            batches.append([rows.detach() for rows in found])
    return [torch.cat(parts) for parts in zip(*batches, strict=True)]
