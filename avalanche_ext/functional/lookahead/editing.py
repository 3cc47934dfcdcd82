"""Gradient-based memory editing (GMED): move stored examples so that they are forgotten sooner."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from avalanche_ext.functional.lookahead.lookahead import NowAndAhead, step_ahead
from avalanche_ext.functional.model.running import Criterion, generators_kept

Bounds = tuple[float, float]


def edit_examples(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    stream_x: Tensor,
    stream_y: Tensor,
    *,
    lr: float,
    stride: float | Tensor,
    reg_strength: float,
    n_steps: int = 1,
    bounds: Bounds | None = None,
    criterion: Criterion = cross_entropy,
) -> Tensor:
    """Edit examples so that the coming update on the stream interferes with them more.

    Gradient-based memory editing (Jin, Du and Ren 2021): with θ′ = θ − η ∇_θ ℓ(stream; θ),

        x ← x + α ∇ₓ [ℓ(x; θ′) − ℓ(x; θ) − β ℓ(x; θ)],

    where ℓ is the criterion's mean over the batch, so an example moves by α / B times the gradient
    of its own loss. θ′ does not depend on x, so no second derivatives are needed. The model, its
    buffers, its gradients and torch's generators do not change.

    Deviations from the official code:

    1. The sign of β is the paper's; the official code adds β ∇ₓ ℓ(x; θ).

    Args:
        model: Called with samples, returns outputs (B, C); it runs in its current mode.
        x: Examples to edit, (B, ...).
        y: Their labels, (B,).
        stream_x: Samples of the stream, (N, ...).
        stream_y: Their labels, (N,).
        lr: η, the step size of the look-ahead.
        stride: α, one number, or one for each example, (B,).
        reg_strength: β, at least 0; keeps the loss of the edited examples low.
        n_steps: Number of successive edits, at least 1, with the same θ′.
        bounds: Least and greatest value of an input; examples are clamped to them in every step.
        criterion: Returns the mean loss over a batch, given outputs and labels.

    Returns:
        Edited examples, (B, ...), detached.

    Raises:
        ValueError: If `stride` has another shape, `lr` or `reg_strength` is below 0, `n_steps` is
            below 1, or `bounds` are not ascending.
    """
    if isinstance(stride, Tensor) and stride.shape != y.shape:
        raise ValueError(
            f"stride has shape {tuple(stride.shape)}: give one number, or one for each of the "
            f"{len(y)} examples"
        )
    if not lr >= 0:
        raise ValueError(f"lr={lr}: must be at least 0")
    if n_steps < 1:
        raise ValueError(f"n_steps={n_steps}: must be at least 1")
    if not reg_strength >= 0:
        raise ValueError(f"reg_strength={reg_strength}: must be at least 0")
    if bounds is not None and not bounds[0] < bounds[1]:
        raise ValueError(f"bounds={bounds}: the first must be below the second")
    with generators_kept(x.device):
        outputs = step_ahead(model, criterion, [stream_x], stream_y, lr)
        return edited_examples(
            outputs,
            [x],
            y,
            criterion,
            stride=stride,
            reg_strength=reg_strength,
            n_steps=n_steps,
            bounds=bounds,
        )


def edited_examples(
    outputs: NowAndAhead,
    inputs: Sequence[Tensor],
    y: Tensor,
    criterion: Criterion,
    *,
    stride: float | Tensor,
    reg_strength: float,
    n_steps: int,
    bounds: Bounds | None,
) -> Tensor:
    """Edit examples as `edit_examples` does, given the outputs at θ and at θ′.

    Args:
        outputs: Returns a model's outputs at θ and at θ′; see `step_ahead`.
        inputs: The model's inputs, the examples first.
        y: Labels of the examples, (B,).
        criterion: As in `edit_examples`, like all arguments below.
        stride: α.
        reg_strength: β.
        n_steps: Number of edits.
        bounds: Least and greatest value.

    Returns:
        Edited examples, (B, ...), detached.
    """
    x, *others = inputs
    for _ in range(n_steps):
        x = x.detach().requires_grad_()
        now, ahead = outputs(x, *others)
        objective = criterion(ahead, y) - (1 + reg_strength) * criterion(now, y)
        (direction,) = torch.autograd.grad(objective, x)
        x = _moved(x.detach(), direction, stride, bounds)
    return x


def randomly_moved(
    x: Tensor, slots: Sequence[int], stride: float | Tensor, seed: int, bounds: Bounds | None = None
) -> Tensor:
    """Move each example by α along the random direction of its slot: GMED's ablation (Table 3).

    Args:
        x: Examples, (B, ...).
        slots: The slot of each example, B numbers of at least 0. Each slot has a fixed direction,
            drawn uniformly from [−1, 1] in each coordinate and scaled to length 1.
        stride: α, one number, or one for each example, (B,).
        seed: Directions depend on this seed and the slot.
        bounds: As for `edit_examples`.
    """
    directions = torch.stack([_direction(x[0], seed, slot) for slot in slots])
    return _moved(x, directions, stride, bounds)


def _direction(example: Tensor, seed: int, slot: int) -> Tensor:
    # With one generator per slot, the directions of the memory need not be stored.
    drawn = np.random.default_rng([2, seed, slot]).uniform(-1, 1, tuple(example.shape))
    direction = torch.from_numpy(drawn / np.linalg.norm(drawn))
    return direction.to(example)


def _moved(x: Tensor, directions: Tensor, stride: float | Tensor, bounds: Bounds | None) -> Tensor:
    if isinstance(stride, Tensor):
        stride = stride.to(x).reshape(-1, *[1] * (x.dim() - 1))
    moved = x + stride * directions
    return moved if bounds is None else moved.clamp(*bounds)
