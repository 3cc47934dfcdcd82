"""Where one SGD step on some samples would lead a model, without taking it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from copy import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from avalanche_ext.functional.gradients import Criterion, is_samplewise
from avalanche_ext.functional.running import outputs_at
from avalanche_ext.functional.tape import LayerFactors, LinearTape

NowAndAhead = Callable[..., tuple[Tensor, Tensor]]
"""Returns a model's outputs at θ and at θ′, each (B, C), of its inputs."""

Rates = float | Mapping[Tensor, float]
"""Learning rates η: one, or one for each parameter; those without one stay where they are."""

_AGREEMENT = 1e-3


class LookAhead:
    """Looks one SGD step ahead of a model: θ′ = θ − η ∇ L(B; θ) on some samples B.

    The model, its buffers and any optimizer stay as they are; the model runs in the mode it is in.

    For models of linear layers θ′ is never made. With the inputs X of a layer and the gradients E
    at its outputs, both of B, the step is W ← W − η EᵀX, so that the layer puts out
    z′ = z − η (x Xᵀ + 1) E for inputs x: an update of rank |B|, for which no gradient of a weight
    is needed. Whether a model is one of those is seen from its modules, and proved by its outputs
    when it is first asked.

    Args:
        model: Called with inputs, returns outputs (B, C).
        criterion: L, a scalar of outputs and labels.
    """

    def __init__(self, model: nn.Module, criterion: Criterion = cross_entropy) -> None:
        self.model = model
        self.criterion = criterion
        self._is_of_low_rank: dict[tuple[int, ...], bool] = {}

    def after(self, inputs: Sequence[Tensor], y: Tensor, lr: Rates) -> NowAndAhead:
        """Return the outputs at θ and at the θ′ that a step on these samples leads to.

        Args:
            inputs: The model's inputs: samples (N, ...), and whatever else it takes.
            y: Labels, (N,).
            lr: η.
        """
        named = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        if len(inputs) > 1 or not is_samplewise(self.model):
            return self._stepped(named, inputs, y, lr)
        key = tuple(id(p) for _, p in named)
        if key not in self._is_of_low_rank:
            self._is_of_low_rank = {key: self._has_low_rank(named, inputs, y, lr)}
        if self._is_of_low_rank[key]:
            return self._of_low_rank(inputs, y, lr)
        return self._stepped(named, inputs, y, lr)

    def _stepped(
        self,
        named: Sequence[tuple[str, nn.Parameter]],
        inputs: Sequence[Tensor],
        y: Tensor,
        lr: Rates,
    ) -> NowAndAhead:
        loss = self.criterion(outputs_at({}, self.model, inputs), y)
        gradients = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
        ahead = {
            name: torch.sub(p.detach(), g, alpha=_rate(lr, p))
            for (name, p), g in zip(named, gradients, strict=True)
            if g is not None
        }
        model = self.model
        return lambda *inputs: (outputs_at({}, model, inputs), outputs_at(ahead, model, inputs))

    def _of_low_rank(self, inputs: Sequence[Tensor], y: Tensor, lr: Rates) -> NowAndAhead:
        tape = LinearTape(self.model)
        with tape.recording():
            outputs = outputs_at({}, self.model, inputs)
        factors = tape.factors_of(self.criterion(outputs, y))

        def both(x: Tensor) -> tuple[Tensor, Tensor]:
            with ExitStack() as hooks:
                for f in factors:
                    hook = f.layer.register_forward_hook(_step_of(f, lr), with_kwargs=True)
                    hooks.callback(hook.remove)
                now, ahead = outputs_at({}, self.model, [torch.cat([x, x])]).chunk(2)
            return now, ahead

        return both

    def _has_low_rank(
        self,
        named: Sequence[tuple[str, nn.Parameter]],
        inputs: Sequence[Tensor],
        y: Tensor,
        lr: Rates,
    ) -> bool:
        if not LinearTape(self.model).covers(p for _, p in named):
            return False
        now, expected = self._stepped(named, inputs, y, lr)(*inputs)
        _, ahead = self._of_low_rank(inputs, y, lr)(*inputs)
        scale = (expected - now).abs().max()
        return bool((ahead - expected).abs().max() <= _AGREEMENT * scale)


def interference(
    outputs: NowAndAhead, inputs: Sequence[Tensor], y: Tensor, criterion: Criterion
) -> Tensor:
    """Return by how much a step increases the loss of each sample (Aljundi et al. 2019, MIR).

    Args:
        outputs: Returns a model's outputs at θ and at θ′.
        inputs: The model's inputs.
        y: Labels, (B,).
        criterion: ℓ, of a single sample or with an attribute `reduction` as torch's losses have.

    Returns:
        ℓ(x; θ′) − ℓ(x; θ) of each sample, (B,).
    """
    now, ahead = outputs(*inputs)
    return _losses_by_sample(criterion, ahead, y) - _losses_by_sample(criterion, now, y)


def _losses_by_sample(criterion: Criterion, outputs: Tensor, y: Tensor) -> Tensor:
    if criterion is cross_entropy:
        return cross_entropy(outputs, y, reduction="none")
    if hasattr(criterion, "reduction"):
        by_sample = copy(criterion)
        by_sample.reduction = "none"
        return by_sample(outputs, y)
    return torch.stack(
        [criterion(o[None], label[None]) for o, label in zip(outputs, y, strict=True)]
    )


def _step_of(factors: LayerFactors, lr: Rates) -> Callable[..., Tensor]:
    """Return a hook that takes a linear layer's outputs of the second half of a batch to θ′."""
    x, e = factors.inputs, factors.output_gradients
    rates = {is_weight: _rate(lr, p) for p, is_weight in factors.of_parameters()}
    of_weight, of_bias = rates.get(True, 0.0), rates.get(False, 0.0)

    def hook(
        layer: nn.Module, positional: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor
    ) -> Tensor:
        (entering,) = (*positional, *named.values())
        now, ahead = output.chunk(2)
        kernel = entering[len(now) :] @ x.T
        return torch.cat([now, ahead - (of_weight * kernel + of_bias) @ e])

    return hook


def _rate(lr: Rates, parameter: Tensor) -> float:
    return lr.get(parameter, 0.0) if isinstance(lr, Mapping) else lr
