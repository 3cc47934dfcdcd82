"""Base class of methods that keep parameters in place by a quadratic penalty."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable
from math import isfinite
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Le
from pydantic import FiniteFloat
from torch import Tensor

from avalanche_ext.data import Strategy, begins_batch, origin_experience, origin_index
from avalanche_ext.functional.fisher.curvature import Curvature
from avalanche_ext.functional.model.running import generators_kept
from avalanche_ext.plugins.consolidation.penalty import QuadraticPenalty
from avalanche_ext.plugins.consolidation.rates import effective_rates, grown_rate
from avalanche_ext.plugins.core.composition import Columns, MethodPlugin, stream_rows
from avalanche_ext.plugins.core.experiences import Endings, RecentRows, draw_samples
from avalanche_ext.plugins.core.model import is_multi_head, own_model, parameters_to_come
from avalanche_ext.traits import Phase, by

Amount = Annotated[FiniteFloat, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
Update = Literal["proximal", "gradient"]
Normalisation = Literal["none", "max", "trace"]
Samples = Callable[[], tuple[Tensor, Tensor, Tensor | None]]
"""Returns x, y and, for models with heads, task labels, on the strategy's device."""


class ConsolidationPlugin(MethodPlugin):
    """Keep parameters near their values, more firmly where earlier tasks depend on them more.

    The penalty is (λ/2) (θ − θ*)ᵀ F (θ − θ*). A consolidation calls `_estimate` for the curvature
    F′ of what was just learned, sets F ← γF + F′, and moves the anchor θ* to the current
    parameters. Only F and θ* are kept, whatever the number of tasks.

    **When.** At the end of each experience, from its samples. On an online stream this is the
    experience of the original stream. It is consolidated after its last part or, if parts were left
    out, when the next experience begins, before the model is adapted to it. Training on the last
    part again does not consolidate it again. With `every`, the plugin instead consolidates after
    that many iterations each time, from the last rows of the stream, ignoring the boundaries of
    experiences. It cannot distinguish new rows from rows that Avalanche's own plugins replay.

    **How.** With `update="proximal"`, a proximal step (`functional.fisher.curvature`) pulls the
    parameters after the optimizer's step. The pull is stable at any λ, and bypasses the optimizer
    and projections of the gradient. With "gradient", the penalty's gradient is added to that of the
    loss before other plugins edit it. In both cases the strategy's `loss` does not contain the
    penalty.

    **λ and the optimizer.** The pull uses the optimizer's effective rates η (`effective_rates`):
    the learning rate for SGD, lr / (1 − μ) with momentum μ, and lr / (√v̂ + ε) for each weight for
    Adam, AdamW and similar optimizers. So λ means the same under every optimizer and in both forms:
    training converges where the gradient of the loss is −λF(θ − θ*). With Kronecker factors this is
    exact only if each layer has a single rate. Under Adam, a weight whose gradients have almost
    vanished has a very large η: a diagonal F holds it firmly, since the loss does not oppose this;
    eigenpairs hold sums of weights, so they move it to compensate for others. With Adam's learning
    rate in place of η, λ would have to be about 100 times larger to hold as firmly on Split MNIST.

    When η changes, the proximal step must be set up again. This is cheap for a diagonal F, and for
    eigenpairs alone with one rate for all weights; otherwise it costs about as much as k steps.
    With eigenpairs and an adaptive optimizer, η is therefore updated only at every tenth pull.

    **How often.** With `interval` = n, every n-th iteration pulls at n times the rates η of that
    iteration. The next consolidation (without `every`, at the latest the end of the experience)
    first pulls for the remaining iterations. An evaluation before then sees weights that up to
    n − 1 steps have moved without a pull.

    At each consolidation, the plugin warns if the penalty has done nothing since the last one, that
    is, if all its changes of the weights were lost in rounding.

    When a model grows, its new parameters are free, see `QuadraticPenalty`. A parameter that is no
    longer trained loses its F and θ* for good. If an online stream stops in the middle of an
    experience, and the plugin is pickled before the next one begins, the unfinished experience is
    not consolidated.

    Args:
        lam: λ, at least 0; with 0 the plugin changes nothing.
        decay: γ, from 0 to 1.
        n_samples: Number of samples for each estimate, drawn without replacement, or with `every`
            the stream's last rows; None takes the whole experience. All are on the device at once.
        update: "proximal" or "gradient".
        every: Number of iterations between consolidations; None consolidates after each experience.
        normalisation: Divisor of each F′ before it is added: "none"; "max", its largest eigenvalue,
            which for a diagonal is its largest entry; "trace", the mean of its diagonal.
        seed: Seed of the plugin's own draws.
        interval: Number of iterations between pulls; 1 with `update="gradient"`.

    Raises:
        ValueError: If `every` is given without `n_samples`, unless estimates need no samples; or if
            `interval` is not 1 with `update="gradient"`.
    """

    prefix: ClassVar[str]
    """Prefix of the diagnostics' names."""
    phase = by("update", {"proximal": Phase.PULL}, otherwise=Phase.PENALTY)
    looks_back = by("every", {None: True}, otherwise=False)
    needs_float32: ClassVar[bool] = True
    reads_graph: ClassVar[bool] = False
    reads_samples: ClassVar[bool] = True
    """Whether estimates need samples."""
    # An experience would pickle its whole benchmark.
    not_pickled: ClassVar[tuple[str, ...]] = ("_unfinished",)

    def __init__(
        self,
        lam: float,
        decay: float,
        n_samples: int | None,
        update: Update,
        every: int | None,
        normalisation: Normalisation,
        seed: int,
        interval: int = 1,
    ) -> None:
        super().__init__()
        if interval != 1 and update == "gradient":
            raise ValueError(
                f"interval={interval}: must be 1 with update='gradient', since the optimizer steps "
                "along the penalty's gradient in each iteration"
            )
        if every is not None and n_samples is None and self.reads_samples:
            raise ValueError(
                f"n_samples=None: give a number with every={every}; each estimate then uses that "
                "many of the stream's last rows"
            )
        self.decay = decay
        self.n_samples = n_samples
        self.update = update
        self.every = every
        self.normalisation = normalisation
        self.interval = interval
        # On the CPU, so that the draws are the same on every device.
        self._generator = torch.Generator().manual_seed(seed)
        self._penalty = QuadraticPenalty(lam)
        self._endings = Endings()
        self._unfinished: Any = None
        self._recent = RecentRows(n_samples) if every and n_samples else None
        self._n_iterations = 0
        self._n_without_pull = 0
        self._n_at_consolidation = 0
        self._numbers: dict[str, float] = {}

    @property
    def lam(self) -> float:
        """λ; it may be changed at any time."""
        return self._penalty.lam

    @lam.setter
    def lam(self, lam: float) -> None:
        self._penalty.lam = lam

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
        """Return the curvature F′ of what was learned since the last estimate."""

    def before_train_dataset_adaptation(self, strategy: Strategy, **kwargs: Any) -> None:
        """Consolidate an experience that an online stream left unfinished."""
        left = self._unfinished
        if left is not None and origin_index(left) != origin_index(strategy.experience):
            self._consolidate(strategy, left)
            self._unfinished = None

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Forget the numbers of the last experience."""
        self._numbers = {}

    def before_training_epoch(self, strategy: Strategy, **kwargs: Any) -> None:
        """Look up the trained parameters, after other plugins have frozen theirs."""
        self._follow(strategy)

    def before_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Remember the stream's rows, if estimates use them."""
        if self._recent is not None and begins_batch(strategy):
            self._recent.add(stream_rows(strategy, self))

    def before_backward(self, strategy: Strategy, **kwargs: Any) -> None:
        """With `update="gradient"`, add the penalty's gradient."""
        if self.phase is Phase.PENALTY and self._penalty.is_active:
            self._penalty.add_gradient(self._rates(strategy, with_momentum=False))

    def after_update(self, strategy: Strategy, **kwargs: Any) -> None:
        """With `update="proximal"`, pull the parameters towards the anchor."""
        if self.phase is Phase.PULL and self._penalty.is_active:
            self._n_without_pull += 1
            if self._n_without_pull == self.interval:
                self._pull(strategy)

    def after_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Consolidate if `every` iterations have passed."""
        self._n_iterations += 1
        if self.every is not None and self._n_iterations % self.every == 0:
            self._consolidate(strategy, None)

    def after_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Consolidate if an experience of the original stream has ended."""
        if self.every is None:
            has_ended = self._endings.ends(strategy.experience)
            self._unfinished = None if self._endings.is_over else strategy.experience
            if has_ended:
                self._consolidate(strategy, strategy.experience)

    def diagnostics(self) -> dict[str, float]:
        """Return numbers about the experience's last consolidation; empty if there was none.

        "penalty" is (λ/2) (θ − θ*)ᵀ F (θ − θ*) before the consolidation, so 0 the first time.
        "trace" and "largest" (eigenvalue) describe F after it; "megabytes" is the memory of F and
        θ*.
        """
        return {f"{self.prefix}/{name}": value for name, value in self._numbers.items()}

    def _follow(self, strategy: Strategy) -> Tensor | None:
        """Look up the parameters; return the new places of earlier ones if they changed."""
        return self._penalty.follow(own_model(strategy))

    def _pull(self, strategy: Strategy) -> None:
        """Pull for all iterations since the last one."""
        self._penalty.pull(self._rates(strategy), self._n_without_pull)
        self._n_without_pull = 0

    def _consolidate(self, strategy: Strategy, experience: Any) -> None:
        self._follow(strategy)
        if self._n_without_pull:
            self._pull(strategy)
        self._warn_if_idle(strategy)
        with generators_kept(strategy.device):
            new = self._estimate(strategy, lambda: self._samples(strategy, experience))
        if not isfinite(new.trace):
            raise FloatingPointError(
                f"{type(self).__name__}: the estimate has trace {new.trace} because training has "
                "diverged; try a smaller learning rate or lam"
            )
        new = self._normalised(new)
        held, penalty = self.curvature, self._penalty.value()
        merged = new if held is None else held.merged(new, self.decay)
        self._penalty.renew(merged)
        self._numbers = {
            "penalty": penalty,
            "trace": merged.trace,
            "largest": merged.largest,
            "megabytes": self._penalty.n_bytes / 1e6,
        }

    def _warn_if_idle(self, strategy: Strategy) -> None:
        n_iterations = self._n_iterations - self._n_at_consolidation
        self._n_at_consolidation = self._n_iterations
        if not self._penalty.is_active or not n_iterations:
            return
        is_pull, n_tries = self.phase is Phase.PULL, self._penalty.n_tries
        is_at_anchor = n_tries == 1 and not is_pull and not self._penalty.acts
        if not (self._penalty.is_idle or not n_tries or is_at_anchor):
            return
        assert self.curvature is not None
        largest = self.curvature.largest
        reason = "its curvature is zero, so no lam helps: estimate it from more samples"
        if not n_tries:
            hook = "after_update" if is_pull else "before_backward"
            reason = (
                f"{type(strategy).__name__} has not called {hook}, in which it acts: use a "
                "strategy that calls Avalanche's hooks"
            )
        elif is_at_anchor:
            reason = (
                "its gradient is zero in the first iteration after a consolidation, and there was "
                "one iteration only: use update='proximal', or longer experiences"
            )
        elif largest:
            reason = (
                f"lam={self.lam:.3g} times the curvature's largest eigenvalue {largest:.3g} is so "
                "small that its pull is lost in rounding: use a larger lam"
            )
        warnings.warn(
            f"{type(self).__name__}: the penalty has had no effect since the last consolidation; "
            + reason,
            stacklevel=3,
        )

    def _normalised(self, curvature: Curvature) -> Curvature:
        size = 1.0
        if self.normalisation != "none":
            is_max = self.normalisation == "max"
            size = curvature.largest if is_max else curvature.trace / curvature.size
        return curvature if size in (0.0, 1.0) else curvature.scaled(1 / size)

    def _samples(self, strategy: Strategy, experience: Any) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return samples of an experience, or the last rows if that is None."""
        x, y, t = self._columns(strategy, experience)
        return x, y, t if is_multi_head(strategy) else None

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
        """Return tensors in the shapes of the trained parameters as one vector, (P,)."""
        layout = self._penalty.layout
        return layout.flatten([by_name[name] for name in layout.names])

    def _rates(self, strategy: Strategy, *, with_momentum: bool = True) -> list[float | Tensor]:
        """Return the optimizer's effective rate of each trained parameter."""
        rates = effective_rates(strategy.optimizer, with_momentum=with_momentum)
        for parameter, replaced in parameters_to_come(strategy).items():
            if replaced in rates:
                rates[parameter] = grown_rate(rates[replaced], parameter)
        return [rates.get(p, 0.0) for p in self._penalty.layout.parameters]
