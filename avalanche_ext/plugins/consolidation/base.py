"""Consolidation: what has been learned is held in place by a quadratic penalty."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from math import isfinite
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Le
from avalanche.models.utils import is_multi_task_module
from pydantic import FiniteFloat
from torch import Tensor

from avalanche_ext.data import Strategy, origin_experience, origin_index
from avalanche_ext.functional.fisher.curvature import Curvature
from avalanche_ext.functional.model.running import generators_kept
from avalanche_ext.plugins.consolidation.penalty import QuadraticPenalty
from avalanche_ext.plugins.core.composition import Columns, MethodPlugin, stream_rows
from avalanche_ext.plugins.core.experiences import Endings, RecentRows, draw_samples
from avalanche_ext.plugins.core.model import learning_rates
from avalanche_ext.traits import Phase, by

Amount = Annotated[FiniteFloat, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
Update = Literal["proximal", "gradient"]
Normalisation = Literal["none", "max", "trace"]
Samples = Callable[[], tuple[Tensor, Tensor, Tensor | None]]
"""Gives x, y and, for models with heads, task labels, on the strategy's device."""


class ConsolidationPlugin(MethodPlugin):
    """Hold parameters where they are, as firmly as what has been learned needs them.

    The penalty is (λ/2) (θ − θ*)ᵀ F (θ − θ*). When something has been learned, its curvature F′ is
    estimated by `_estimate`; then F ← γF + F′, and the anchor θ* moves to the present parameters.
    What is kept is F and θ*, whatever the number of tasks.

    **When.** At the end of each experience, of its samples. On an online stream, that of the
    experience it was cut from: with its last part, or, if parts have been left out, when the next
    one begins, before the model is adapted to that. With `every`, after each so many iterations,
    of the last rows of the stream, whatever the experiences are; rows that Avalanche's own plugins
    replay cannot be told from those.

    **How.** With `update="proximal"` parameters are pulled after the optimizer's step, by
    `functional.proximal.ProximalStep` with the optimizer's learning rates of the moment: stable at
    any λ, and, as the weight decay of AdamW, not seen by momentum, adaptive rates, or projections
    of the gradient. With "gradient" the penalty's gradient is added to that of the loss, before
    other plugins edit it. Either way the strategy's `loss` does not contain the penalty.

    A learning rate that changes makes the proximal step anew: little work for a diagonal or for
    eigenpairs alone, about that of k steps for both.

    A model may grow: what is new is free, see `QuadraticPenalty`. What is known of parameters is
    lost when they are no longer trained, even if they are later on. A plugin that is pickled while
    it waits for the end of an experience that an online stream has broken off does not estimate
    that experience.

    Args:
        lam: λ, at least 0; with 0 it changes nothing.
        decay: γ, from 0 to 1.
        n_samples: How many samples each estimate is of, drawn without replacement, or the last rows
            with `every`; None is all of the experience. They are on the device all at once.
        update: "proximal" or "gradient".
        every: How many iterations there are from one consolidation to the next; None is by
            experience.
        normalisation: What each F′ is divided by before it is merged: "none"; "max", its largest
            eigenvalue, for a diagonal its largest entry; "trace", the mean over its diagonal.
        seed: Seed of the plugin's own draws.

    Raises:
        ValueError: If there is `every`, and no number of samples although they are needed.
    """

    prefix: ClassVar[str]
    """What the names of diagnostics begin with."""
    phase = by("update", {"proximal": Phase.PULL}, otherwise=Phase.PENALTY)
    reads_samples: ClassVar[bool] = True
    """Whether estimates are of samples."""
    _rank = 0

    def __init__(
        self,
        lam: float,
        decay: float,
        n_samples: int | None,
        *,
        update: Update,
        every: int | None,
        normalisation: Normalisation,
        seed: int,
    ) -> None:
        super().__init__()
        if every is not None and n_samples is None and self.reads_samples:
            raise ValueError(
                f"n_samples=None, but must be given beside every={every}: how many of the "
                "stream's last rows the estimate is of"
            )
        self.lam = lam
        self.decay = decay
        self.n_samples = n_samples
        self.update = update
        self.every = every
        self.normalisation = normalisation
        # On the CPU, so that the draws are the same on every device.
        self._generator = torch.Generator().manual_seed(seed)
        self._penalty = QuadraticPenalty(lam)
        self._endings = Endings()
        self._unfinished: Any = None
        self._recent = RecentRows(n_samples) if every and n_samples else None
        self._n_iterations = 0
        self._numbers: dict[str, float] = {}

    def __getstate__(self) -> dict[str, Any]:
        # An experience would take all of its benchmark along.
        return {**self.__dict__, "_unfinished": None}

    @property
    def curvature(self) -> Curvature | None:
        """F, in the order of the model's trained parameters; None before the first estimate."""
        return self._penalty.curvature

    @property
    def anchor(self) -> Tensor | None:
        """The anchor θ*, (P,), in the same order; None before the first estimate."""
        return self._penalty.anchor

    @abstractmethod
    def _estimate(self, strategy: Strategy, samples: Samples) -> Curvature:
        """Return the curvature F′ of what has been learned since the last estimate."""

    def before_train_dataset_adaptation(self, strategy: Strategy, **kwargs: Any) -> None:
        """Consolidate an experience that an online stream has left without its last part."""
        left = self._unfinished
        if left is not None and origin_index(left) != origin_index(strategy.experience):
            self._consolidate(strategy, left)
            self._unfinished = None

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Find the parameters in the model, as it is adapted to the experience."""
        self._numbers = {}
        self._follow(strategy)

    def before_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Take in the stream's rows, if estimates are of them."""
        if self._recent is not None:
            self._recent.add(stream_rows(strategy, self))

    def before_backward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Lay the penalty's gradient under that of the loss, if that is asked for."""
        if self.phase is Phase.PENALTY and self._penalty.is_active:
            self._penalty.lay(self._rates(strategy))

    def after_update(self, strategy: Strategy, **kwargs: Any) -> None:
        """Pull the parameters towards the anchor, unless the gradient has done so."""
        if self.phase is Phase.PULL and self._penalty.is_active:
            self._penalty.pull(self._rates(strategy))

    def after_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Consolidate, if it is time to."""
        self._n_iterations += 1
        if self.every is not None and self._n_iterations % self.every == 0:
            self._consolidate(strategy, None)

    def after_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Consolidate, if an experience of the original stream has ended."""
        if self.every is None:
            has_ended = self._endings.ends(strategy.experience)
            self._unfinished = None if has_ended else strategy.experience
            if has_ended:
                self._consolidate(strategy, strategy.experience)

    def diagnostics(self) -> dict[str, float]:
        """Return what the experience's last consolidation found; nothing if there was none.

        "penalty" is (λ/2) (θ − θ*)ᵀ F (θ − θ*) before it, so 0 the first time; "trace" and
        "largest" are of the F that is kept since, "megabytes" the memory of F and θ*.
        """
        return {f"{self.prefix}/{name}": value for name, value in self._numbers.items()}

    def _follow(self, strategy: Strategy) -> Tensor | None:
        """Find the parameters; return where earlier ones lie, if that has changed."""
        return self._penalty.follow(strategy.model)

    def _consolidate(self, strategy: Strategy, experience: Any) -> None:
        self._follow(strategy)
        with generators_kept(strategy.device):
            new = self._estimate(strategy, lambda: self._samples(strategy, experience))
        if not isfinite(new.trace):
            raise FloatingPointError(
                f"{type(self).__name__}: the trace of what was estimated is {new.trace}: training "
                "has diverged; a smaller learning rate or lam may help"
            )
        new = self._normalised(new)
        held, penalty = self.curvature, self._penalty.value()
        merged = new if held is None else held.merged(new, self.decay, self._rank)
        self._penalty.renew(merged)
        self._numbers = {
            "penalty": penalty,
            "trace": merged.trace,
            "largest": merged.largest,
            "megabytes": self._penalty.n_bytes / 1e6,
        }

    def _normalised(self, curvature: Curvature) -> Curvature:
        size = {
            "none": 1.0,
            "max": curvature.largest,
            "trace": curvature.trace / curvature.eigenvectors.shape[1],
        }[self.normalisation]
        return curvature if size in (0.0, 1.0) else curvature.scaled(1 / size)

    def _samples(self, strategy: Strategy, experience: Any) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return samples of an experience, or of the last rows where it is None."""
        x, y, t = self._columns(strategy, experience)
        return x, y, t if is_multi_task_module(strategy.model) else None

    def _columns(self, strategy: Strategy, experience: Any) -> Columns:
        if self._recent is not None:
            x, y, t = (column.to(strategy.device) for column in self._recent.columns())
            return x, y, t
        n_samples = self.n_samples or len(origin_experience(experience).dataset)
        return draw_samples(experience, n_samples, self._generator, strategy.device)

    def _draw_seed(self) -> int:
        """Return a seed for an estimate that draws."""
        return int(torch.randint(2**31 - 1, (), generator=self._generator))

    def _flattened(self, by_name: dict[str, Tensor]) -> Tensor:
        """Return what there is of each trained parameter as one vector, (P,)."""
        layout = self._penalty.layout
        return layout.flatten([by_name[name] for name in layout.names])

    def _rates(self, strategy: Strategy) -> list[float]:
        """Return the optimizer's learning rate of each trained parameter."""
        rates = learning_rates(strategy, None)
        return [rates.get(p, 0.0) for p in self._penalty.layout.parameters]
