"""Where one SGD step on some samples would lead a model, without taking it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.dropout import _DropoutNd

from avalanche_ext.functional.model.running import (
    Criterion,
    Rates,
    generators_kept,
    is_samplewise,
    losses_by_sample,
    outputs_at,
    rate_of,
    stepped,
)
from avalanche_ext.functional.model.tape import LayerFactors, LinearTape

NowAndAhead = Callable[..., tuple[Tensor, Tensor]]
"""Returns a model's outputs at θ and at θ′, each (B, C), of its inputs."""

_AGREEMENT = 1e-3
_VISIBLE = 0.1


class LookAhead:
    """Looks one SGD step ahead of a model, by the faster of two ways that it allows.

    Whether `low_rank_step_ahead` is right for a model is seen from its modules, and proved by its
    outputs when it is first asked; `step_ahead` is right for all.

    Args:
        model: Called with inputs, returns outputs (B, C).
        criterion: L, a scalar of outputs and labels.
    """

    def __init__(self, model: nn.Module, criterion: Criterion = cross_entropy) -> None:
        self.model = model
        self.criterion = criterion
        self._proved: tuple[list[nn.Parameter], bool] | None = None

    def after(self, inputs: Sequence[Tensor], y: Tensor, lr: Rates) -> NowAndAhead:
        """Return the outputs at θ and at the θ′ that a step on these samples leads to.

        Args:
            inputs: The model's inputs: samples (N, ...), and whatever else it takes.
            y: Labels, (N,).
            lr: η.
        """
        ahead = low_rank_step_ahead if self._has_low_rank(inputs, y, lr) else step_ahead
        return ahead(self.model, self.criterion, inputs, y, lr)

    def _has_low_rank(self, inputs: Sequence[Tensor], y: Tensor, lr: Rates) -> bool:
        if len(inputs) > 1 or not is_samplewise(self.model) or _is_random(self.model):
            return False
        trained = [p for p in self.model.parameters() if p.requires_grad]
        if self._proved is None or not _are_same(self._proved[0], trained):
            with generators_kept(inputs[0].device):
                verdict = self._verdict(trained, inputs, y, lr)
            self._proved = None if verdict is None else (trained, verdict)
        return self._proved is not None and self._proved[1]

    def _verdict(
        self, trained: list[nn.Parameter], inputs: Sequence[Tensor], y: Tensor, lr: Rates
    ) -> bool | None:
        """Tell whether both ways agree on these samples; None if a step on them changes nothing."""
        model, criterion = self.model, self.criterion
        if not LinearTape(model).covers(trained):
            return False
        now, expected = step_ahead(model, criterion, inputs, y, lr)(*inputs)
        change = (expected - now).abs().max()
        if change == 0:
            return None
        # Short steps are lengthened, so that rounding does not decide.
        factor = max(1.0, (_VISIBLE * now.abs().max() / change).item())
        rates: dict[Tensor, float] = {p: factor * rate_of(p, lr) for p in trained}
        now, expected = step_ahead(model, criterion, inputs, y, rates)(*inputs)
        _, ahead = low_rank_step_ahead(model, criterion, inputs, y, rates)(*inputs)
        change = (expected - now).abs().max()
        return bool((ahead - expected).abs().max() <= _AGREEMENT * change)


def step_ahead(
    model: nn.Module, criterion: Criterion, inputs: Sequence[Tensor], y: Tensor, lr: Rates
) -> NowAndAhead:
    """Return a model's outputs at θ and at θ′ = θ − η ∇ L, where a step of SGD would lead it.

    The model, its buffers and any optimizer stay as they are; the model runs in the mode it is in.

    Args:
        model: Called with inputs, returns outputs (B, C).
        criterion: L, a scalar of outputs and labels.
        inputs: The model's inputs in that step: samples (N, ...), and whatever else it takes.
        y: Labels, (N,).
        lr: η.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    loss = criterion(outputs_at({}, model, inputs), y)
    gradients = torch.autograd.grad(loss, [*trained.values()], allow_unused=True)
    rates = [rate_of(p, lr) for p in trained.values()]
    ahead = stepped({name: p.detach() for name, p in trained.items()}, gradients, rates)

    def both(*inputs: Tensor) -> tuple[Tensor, Tensor]:
        # Layers such as dropout draw the same in both passes, or the step would drown in noise.
        with generators_kept(inputs[0].device):
            now = outputs_at({}, model, inputs)
        return now, outputs_at(ahead, model, inputs)

    return both


def low_rank_step_ahead(
    model: nn.Module, criterion: Criterion, inputs: Sequence[Tensor], y: Tensor, lr: Rates
) -> NowAndAhead:
    """Return the same as `step_ahead` for a model of linear layers, without making θ′.

    With the inputs X of a layer and the gradients E at its outputs, both of the step's samples,
    the step is W ← W − η EᵀX, so that the layer puts out z′ = z − η (x Xᵀ + 1) E for inputs x: an
    update of rank N, for which no gradient of a weight is needed. Both outputs are of one pass.
    """
    tape = LinearTape(model)
    with tape.recording():
        outputs = outputs_at({}, model, inputs)
    factors = tape.factors_of(criterion(outputs, y))

    def both(x: Tensor) -> tuple[Tensor, Tensor]:
        with ExitStack() as hooks:
            for f in factors:
                step = _step_of(f, lr, 2 * len(x))
                hook = f.layer.register_forward_hook(step, with_kwargs=True)
                hooks.callback(hook.remove)
            now, ahead = outputs_at({}, model, [torch.cat([x, x])]).chunk(2)
        return now, ahead

    return both


def _is_random(model: nn.Module) -> bool:
    return any(isinstance(m, _DropoutNd) and m.training and m.p > 0 for m in model.modules())


def _are_same(some: Sequence[nn.Parameter], others: Sequence[nn.Parameter]) -> bool:
    return len(some) == len(others) and all(map(operator.is_, some, others))


def interference(
    outputs: NowAndAhead, inputs: Sequence[Tensor], y: Tensor, criterion: Criterion
) -> Tensor:
    """Return by how much a step increases the loss of each sample (Aljundi et al. 2019, MIR).

    Args:
        outputs: Returns a model's outputs at θ and at θ′.
        inputs: The model's inputs.
        y: Labels, (B,).
        criterion: ℓ of each sample is taken from it; see `losses_by_sample`.

    Returns:
        ℓ(x; θ′) − ℓ(x; θ) of each sample, (B,).
    """
    now, ahead = outputs(*inputs)
    return losses_by_sample(criterion, ahead, y) - losses_by_sample(criterion, now, y)


def _step_of(factors: LayerFactors, lr: Rates, n_rows: int) -> Callable[..., Tensor]:
    """Return a hook that takes a linear layer's outputs of the second half of a batch to θ′."""
    x, e = factors.inputs, factors.output_gradients
    rates = {is_weight: rate_of(p, lr) for p, is_weight in factors.of_parameters()}
    of_weight, of_bias = rates.get(True, 0.0), rates.get(False, 0.0)

    def hook(
        layer: nn.Module, positional: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor
    ) -> Tensor:
        (entering,) = (*positional, *named.values())
        if output.dim() == 1 or len(output) != n_rows:
            # It sees something else than the batch: the proof by outputs will fail.
            return output
        now, ahead = output.chunk(2)
        kernel = entering[len(now) :] @ x.T
        return torch.cat([now, ahead - (of_weight * kernel + of_bias) @ e])

    return hook
