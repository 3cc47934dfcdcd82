"""Hindsight anchors (HAL): points that a model would forget, and a loss that preserves them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

from avalanche_ext.functional.model.running import (
    Criterion,
    Rates,
    left_as_it_was,
    losses_by_sample,
    outputs_at,
    rate_of,
    stepped,
)

Key = tuple[int, int]


def anchoring_loss(
    model: nn.Module, anchors: Sequence[Tensor], loss: Tensor, rates: Rates
) -> Tensor:
    """Return how far the coming step on `loss` would move the model's outputs on the anchors.

    It is the mean over anchors e of ‖f(e; θ) − f(e; θ̃)‖², where θ̃ = θ − η ∇_θ L(θ) is the result
    of a step of SGD on the loss L. It is differentiable in θ, also through θ̃, which needs second
    derivatives of L. The anchors run in eval mode.

    Args:
        model: f, returns outputs (E, C).
        anchors: The model's inputs: anchors (E, ...), and its other inputs if any.
        loss: L, a scalar computed from outputs of the model; its graph is kept.
        rates: η of each parameter.

    Returns:
        A scalar, 0 without anchors.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(loss, [*trained.values()], create_graph=True, allow_unused=True)
    ahead = stepped(trained, gradients, [rate_of(p, rates) for p in trained.values()])
    with left_as_it_was(model, anchors[0]):
        moved = outputs_at({}, model, anchors) - outputs_at(ahead, model, anchors)
    return moved.square().sum() / max(1, len(moved))


def is_twice_differentiable(criterion: Criterion) -> bool:
    """Return whether torch has the second derivatives of a criterion that `anchoring_loss` needs.

    A criterion that cannot be tried on two outputs (2, 10) counts as twice differentiable.

    Args:
        criterion: Returns a scalar, given outputs and labels.
    """
    outputs = torch.linspace(-1, 1, 20).view(2, 10).requires_grad_()
    try:
        loss = criterion(outputs, torch.tensor([0, 1]))
        (gradient,) = torch.autograd.grad(loss, outputs, create_graph=True)
        torch.autograd.grad(gradient.square().sum(), outputs)
    except Exception as error:
        return "derivative for" not in str(error)
    return True


def hindsight_parameters(
    model: nn.Module,
    batches: Iterable[tuple[Sequence[Tensor], Tensor]],
    rates: Rates,
    criterion: Criterion = cross_entropy,
) -> dict[str, Tensor]:
    """Return the parameters θ_M after a step of SGD on each batch, without changing the model.

    Args:
        model: The steps start at its parameters; it runs in eval mode.
        batches: Pairs of the model's inputs, samples (B, ...) first, and labels (B,).
        rates: η of each parameter.
        criterion: Returns a scalar, given outputs and labels.

    Returns:
        All parameters by name, detached.
    """
    named = dict(model.named_parameters())
    eta = {name: rate_of(p, rates) for name, p in named.items() if p.requires_grad}
    at = {name: p.detach() for name, p in named.items()}
    for inputs, y in batches:
        leaves = {name: at[name].clone().requires_grad_() for name in eta}
        with left_as_it_was(model, inputs[0]):
            loss = criterion(outputs_at({**at, **leaves}, model, inputs), y)
        gradients = torch.autograd.grad(loss, [*leaves.values()], allow_unused=True)
        moved = stepped({name: at[name] for name in eta}, gradients, [*eta.values()])
        at = {**at, **moved}
    return at


def learn_anchors(
    model: nn.Module,
    head: nn.Module,
    hindsight: Mapping[str, Tensor],
    start: Sequence[Tensor],
    y: Tensor,
    embeddings: Tensor,
    *,
    n_steps: int,
    lr: float,
    embedding_weight: float,
    criterion: Criterion = cross_entropy,
) -> Tensor:
    """Return the points that the model at θ would forget most through the steps to θ_M.

    Each anchor e with label y minimises, by Adam,

        ℓ(f(e; θ), y) − ℓ(f(e; θ_M), y) + γ (1 − cos(φ(e; θ), φ̂)).

    Anchors do not depend on each other: their objectives are summed, and Adam works by coordinate.

    Args:
        model: f at θ, run in eval mode; it does not change.
        head: The module of the model whose inputs are the embeddings φ, each as a vector (H,).
        hindsight: θ_M, parameters by name.
        start: The model's inputs: the starting points of the anchors, (E, ...), and its other
            inputs if any.
        y: Labels of the anchors, (E,).
        embeddings: φ̂, (E, H), rows in the order in which anchors enter `head`.
        n_steps: Number of steps of Adam.
        lr: Its learning rate.
        embedding_weight: γ, at least 0.
        criterion: Gives ℓ of each anchor; see `losses_by_sample`.

    Returns:
        Anchors, (E, ...), detached.
    """
    first, *others = start
    anchors = first.detach().clone().requires_grad_()
    now = {name: p.detach() for name, p in model.named_parameters()}
    adam = torch.optim.Adam([anchors], lr=lr)
    for _ in range(n_steps):
        inputs, entered = [anchors, *others], _Entered()
        with left_as_it_was(model, anchors):
            with head.register_forward_pre_hook(entered):
                losses = losses_by_sample(criterion, outputs_at(now, model, inputs), y)
            later = losses_by_sample(criterion, outputs_at(hindsight, model, inputs), y)
        distances = 1 - cosine_similarity(entered.rows(), embeddings)
        objectives = losses - later + embedding_weight * distances
        (anchors.grad,) = torch.autograd.grad(objectives.sum(), anchors)
        adam.step()
    return anchors.detach()


def update_means(means: dict[Key, Tensor], keys: Sequence[Key], rows: Tensor, decay: float) -> None:
    """Update running means, one for each key: m ← decay · m + (1 − decay) · batch mean.

    Args:
        means: Running means by key, each (...), changed in place; a new key starts at its batch
            mean.
        keys: The key of each row, B of them.
        rows: (B, ...).
        decay: Between 0 and 1.
    """
    for key in dict.fromkeys(keys):
        mean = rows[[row for row, other in enumerate(keys) if other == key]].mean(0)
        means[key] = torch.lerp(mean, means[key], decay) if key in means else mean


def update_sums(sums: dict[Key, Tensor], keys: Sequence[Key], rows: Tensor, decay: float) -> None:
    """Update running sums, one for each key: s ← decay · s + (1 − decay) · sum over the batch.

    Args:
        sums: Running sums by key, each (...), changed in place; a new key starts at 0.
        keys: The key of each row, B of them.
        rows: (B, ...).
        decay: Between 0 and 1.
    """
    for key in dict.fromkeys(keys):
        total = rows[[row for row, other in enumerate(keys) if other == key]].sum(0)
        sums[key] = torch.lerp(total, sums.get(key, torch.zeros_like(total)), decay)


def rescaled(samples: Tensor) -> Tensor:
    """Return samples, (B, ...), each shifted and stretched to [0, 1]; a constant one becomes 0."""
    rows = samples.flatten(1)
    least, greatest = rows.aminmax(dim=1, keepdim=True)
    spread = torch.where(greatest > least, greatest - least, 1)
    return ((rows - least) / spread).view_as(samples)


class _Entered:
    """A hook that gathers the inputs of a module, which may run once for each task."""

    def __init__(self) -> None:
        self._pieces: list[Tensor] = []

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._pieces.append(inputs[0].flatten(1))

    def rows(self) -> Tensor:
        return torch.cat(self._pieces)
