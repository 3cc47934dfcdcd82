"""Expected look-ahead steps, by a real optimizer on copies, and what must not change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from avalanche_ext.functional.model.running import Criterion
from tests.functional.lookahead.lookahead_models import Group


def stepped(
    model: nn.Module,
    stream: Group,
    lr: float | Mapping[Tensor, float],
    criterion: Criterion = cross_entropy,
) -> nn.Module:
    """A copy of the model after a step of torch's SGD."""
    ahead = deepcopy(model)
    pairs = [*zip(model.parameters(), ahead.parameters(), strict=True)]
    optimizer = torch.optim.SGD(
        {"params": [own], "lr": lr[p] if isinstance(lr, Mapping) else lr}
        for p, own in pairs
        if p.requires_grad and (not isinstance(lr, Mapping) or p in lr)
    )
    optimizer.zero_grad()
    inputs, y = stream
    criterion(ahead(*inputs), y).backward()
    optimizer.step()
    # The forward pass has moved the statistics of normalisation layers, which a look must not.
    for buffer, original in zip(ahead.buffers(), model.buffers(), strict=True):
        buffer.copy_(original)
    return ahead


def loss_of(model: nn.Module, group: Group, criterion: Criterion = cross_entropy) -> Tensor:
    """The loss of a copy of the model."""
    inputs, y = group
    return criterion(deepcopy(model)(*inputs), y)


def edited(
    model: nn.Module,
    memory: Group,
    ahead: nn.Module,
    *,
    stride: float | Sequence[float],
    reg_strength: float,
    n_steps: int = 1,
    bounds: tuple[float, float] | None = None,
    criterion: Criterion = cross_entropy,
) -> Tensor:
    """Jin, Du and Ren (2021): x + α ∇ [ℓ(x; θ') − ℓ(x; θ) − β ℓ(x; θ)], term by term."""
    (x, *others), y = memory
    strides = [stride] * len(x) if isinstance(stride, int | float) else stride
    for _ in range(n_steps):
        leaf = x.clone().requires_grad_()
        group = ([leaf, *others], y)
        (now,) = torch.autograd.grad(loss_of(model, group, criterion), leaf)
        (then,) = torch.autograd.grad(loss_of(ahead, group, criterion), leaf)
        rows = [
            x[i] + strides[i] * (then[i] - now[i] - reg_strength * now[i]) for i in range(len(x))
        ]
        x = torch.stack(rows)
        if bounds is not None:
            x = x.maximum(torch.full_like(x, bounds[0])).minimum(torch.full_like(x, bounds[1]))
    return x


def state(model: nn.Module) -> dict[str, Any]:
    """What must be as it was after a look ahead, in a form that `==` compares bit by bit."""
    modules = dict(model.named_modules())
    return {
        "parameters": {name: bits(p) for name, p in model.named_parameters()},
        "identities": [id(p) for p in model.parameters()],
        "gradients": {name: bits(p.grad) for name, p in model.named_parameters()},
        "trained": {name: p.requires_grad for name, p in model.named_parameters()},
        "buffers": {name: (id(b), bits(b)) for name, b in model.named_buffers()},
        "modes": {name: module.training for name, module in modules.items()},
        "hooks": {
            name: [
                [*getattr(module, kind)]
                for kind in (
                    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"
                )
            ]
            for name, module in modules.items()
        },
        "generator": bits(torch.get_rng_state()),
    }  # fmt: skip


def bits(tensor: Tensor | None) -> bytes | None:
    return None if tensor is None else tensor.detach().numpy().tobytes()
