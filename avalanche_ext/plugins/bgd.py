"""Bayesian gradient descent (BGD)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, NamedTuple

import torch
from pydantic import Field, FiniteFloat, PositiveInt
from torch import Tensor, nn

from avalanche_ext.data import Strategy, criterion_of
from avalanche_ext.functional.bgd import bayesian_step, gradient_at
from avalanche_ext.functional.model.gradients import FlatLayout
from avalanche_ext.functional.model.running import losses_by_sample
from avalanche_ext.plugins.core.composition import MethodPlugin
from avalanche_ext.plugins.core.growth import leading_part
from avalanche_ext.plugins.core.model import model_inputs, own_model, task_labels
from avalanche_ext.traits import Phase
from avalanche_ext.validation import validated


class _Draw(NamedTuple):
    """A draw μ + σε of the weights: mean μ, std σ and noise ε, each (P,)."""

    mean: Tensor
    std: Tensor
    noise: Tensor


class BGDPlugin(MethodPlugin):
    """BGD: learn a Gaussian over each weight; the more certain a weight, the less it changes.

    Bayesian gradient descent (Zeno, Golan, Hoffer and Soudry 2018, "Task agnostic continual
    learning using online variational Bayes"). In every iteration the gradient of the criterion is
    taken at `n_draws` draws of the weights, and updates their means μ and standard deviations σ by
    `functional.bgd.bayesian_step`. It needs neither tasks nor their boundaries.

    **Where the weights are.** Between iterations, and thus in evaluation, the model's parameters
    are the means μ. During an iteration they are the first draw, which gives the strategy's output
    and loss. The other draws run on copies of the model's buffers, so that normalisation layers
    count a mini-batch once. If a forward or backward pass fails, the parameters stay at the draw
    until the strategy trains or evaluates again. The plugin replaces the optimizer's step: the
    optimizer finds no gradients, so its state does not change and its settings have no effect.

    **Beside other plugins.** The criterion must be a mean over rows: the method multiplies it by
    the number of rows, because it needs the sum. Replay may change the mini-batch, as long as the
    loss remains the criterion over all rows (`loss="union"`). Plugins that add to the loss, edit
    the gradient or move the weights are refused, because they would act on the first draw alone.

    Args:
        n_draws: K, the number of draws of the weights for each mini-batch.
        initial_std: Initial σ of all weights, and of new ones when a model grows; the leading part
            of a larger parameter keeps its σ. GMED's paper uses 0.017 on Split MNIST and 0.045 on
            Permuted MNIST.
        lr: η, the factor of the steps of μ.
        seed: Seed of the draws.

    Attributes:
        std: σ by the parameter's name, in its shape; that of a frozen parameter stays as it is.

    Raises:
        ValueError: If an argument has a wrong type or is out of range.
        ValueError: When training starts, if another plugin adds to the loss, edits the gradient or
            moves the weights; in the first iteration of an experience, if the loss differs from the
            criterion, or the criterion from its mean over rows.
    """

    phase = Phase.GRADIENT
    takes_own_steps: ClassVar[bool] = True
    criterion_alone: ClassVar[bool] = True
    needs_float32: ClassVar[bool] = True
    reads_graph: ClassVar[bool] = False
    not_pickled: ClassVar[tuple[str, ...]] = ("_layout", "_draw")

    @validated
    def __init__(
        self,
        n_draws: PositiveInt = 10,
        initial_std: Annotated[FiniteFloat, Field(gt=0)] = 0.017,
        lr: Annotated[FiniteFloat, Field(gt=0)] = 1.0,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.n_draws = n_draws
        self.initial_std = initial_std
        self.lr = lr
        self.std: dict[str, Tensor] = {}
        # On the CPU, so that the draws are the same on every device.
        self._generator = torch.Generator().manual_seed(seed)
        self._layout: FlatLayout | None = None
        self._draw: _Draw | None = None
        self._has_checked = False

    def check(self, strategy: Strategy) -> None:
        """Raise ValueError if the plugin cannot act in this strategy."""
        super().check(strategy)
        reduction = getattr(criterion_of(strategy), "reduction", "mean")
        if reduction != "mean":
            raise ValueError(
                f"BGDPlugin needs a criterion that is a mean over rows, but this one's reduction "
                f"is {reduction!r}: give reduction='mean'"
            )

    def before_training(self, strategy: Strategy, **kwargs: Any) -> None:
        """Undo a draw left by a failed iteration; raise the errors of `check`."""
        self._restore()
        super().before_training(strategy, **kwargs)

    def before_eval(self, strategy: Strategy, **kwargs: Any) -> None:
        """Undo a draw left by a failed iteration."""
        self._restore()

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Check the loss again in the first iteration."""
        self._restore()
        self._has_checked = False

    def before_training_epoch(self, strategy: Strategy, **kwargs: Any) -> None:
        """Look up the trained parameters, after other plugins have frozen theirs."""
        self._layout = FlatLayout(own_model(strategy).named_parameters())
        self.std |= {
            name: _carried_over(self.std.get(name), p, self.initial_std)
            for name, p in zip(self._layout.names, self._layout.parameters, strict=True)
        }

    def before_forward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Move the parameters to the first draw."""
        assert self._layout is not None
        self._restore()
        mean = self._layout.flatten(self._layout.parameters).detach()
        std = self._layout.flatten([self.std[name] for name in self._layout.names])
        self._draw = _Draw(mean, std, self._noise(mean))
        _write(self._layout, torch.addcmul(mean, std, self._draw.noise))

    def before_update(self, strategy: Strategy, **kwargs: Any) -> None:
        """Move the parameters to the new means, and leave no gradient for the optimizer."""
        layout, draw = self._layout, self._draw
        assert layout is not None
        assert draw is not None
        self._restore()
        if not self._has_checked:
            _check_loss(strategy)
            self._has_checked = True
        draws = self._gradients(strategy, layout, draw)
        mean, std = bayesian_step(draw.mean, draw.std, draws, self.lr)
        _write(layout, mean)
        self.std |= zip(layout.names, layout.pieces(std), strict=True)
        strategy.optimizer.zero_grad(set_to_none=True)

    def diagnostics(self) -> dict[str, float]:
        """Return the mean of σ over all weights."""
        if not self.std:
            return {}
        return {"bgd/std": float(torch.cat([std.flatten() for std in self.std.values()]).mean())}

    def _gradients(
        self, strategy: Strategy, layout: FlatLayout, first: _Draw
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the gradient and the noise of each draw."""
        x, y = strategy.mb_x, strategy.mb_y
        yield len(y) * layout.gradient(), first.noise
        model, criterion = own_model(strategy), criterion_of(strategy)
        inputs = model_inputs(strategy, x, task_labels(strategy))
        for _ in range(self.n_draws - 1):
            noise = self._noise(first.mean)
            weights = torch.addcmul(first.mean, first.std, noise)
            yield gradient_at(weights, layout, model, criterion, inputs, y), noise

    def _noise(self, like: Tensor) -> Tensor:
        noise = torch.randn(like.shape, dtype=like.dtype, generator=self._generator)
        return noise.to(like.device)

    def _restore(self) -> None:
        if self._layout is not None and self._draw is not None:
            _write(self._layout, self._draw.mean)
        self._draw = None


def _carried_over(std: Tensor | None, parameter: nn.Parameter, initial: float) -> Tensor:
    """Return σ of a parameter, given its earlier σ: None if it is new, smaller if it has grown."""
    grown = torch.full_like(parameter, initial, requires_grad=False)
    part = leading_part(std.shape, parameter.shape) if std is not None else None
    if std is not None and part is not None:
        grown[part] = std.to(grown)
    return grown


@torch.no_grad()
def _write(layout: FlatLayout, weights: Tensor) -> None:
    for p, piece in zip(layout.parameters, layout.pieces(weights), strict=True):
        p.copy_(piece)


@torch.no_grad()
def _check_loss(strategy: Strategy) -> None:
    """Raise ValueError if the loss is not the criterion, or the criterion not a mean over rows."""
    of_all, outputs, y = criterion_of(strategy), strategy.mb_output, strategy.mb_y
    criterion = of_all(outputs, y)
    # Under autocast the criterion may have a lower precision.
    if not torch.allclose(strategy.loss.to(criterion), criterion, equal_nan=True):
        raise ValueError(
            f"the loss is {float(strategy.loss):.6g}, but the criterion is {float(criterion):.6g}: "
            "BGDPlugin uses the criterion alone, at several draws of the weights; remove the "
            "plugin that adds to the loss"
        )
    mean = losses_by_sample(of_all, outputs, y).mean()
    if not torch.allclose(mean, criterion.to(mean), rtol=1e-2, equal_nan=True):
        raise ValueError(
            f"the criterion is {float(criterion):.6g}, but the mean of its values for single rows "
            f"is {float(mean):.6g}: BGDPlugin needs a criterion that is a mean over rows, without "
            "weights of classes or ignored labels"
        )
