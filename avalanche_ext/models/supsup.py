"""Supermasks in superposition (SupSup): one mask over fixed random weights for each task."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from math import inf
from typing import Annotated, Any, Literal

import torch
from annotated_types import Gt, Le
from avalanche.models import MultiTaskModule
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from avalanche_ext.functional.supermasks import (
    Inference,
    infer_tasks,
    signed_constant,
    supermask,
)
from avalanche_ext.validation import validated

Share = Annotated[float, Gt(0), Le(1)]
Task = Literal["known", "one_shot", "binary"]

_MASKED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_MOST_SEEDS = 2**31 - 1


class SupSup(MultiTaskModule):  # type: ignore[misc]
    """A model with random weights that never change, and a mask over them for each task.

    Supermasks in superposition (Wortsman et al. 2020, arXiv:2006.14769). Linear layers and
    convolutions get weights ±√(2 / fan_in). Training learns a score for each weight, which
    determines the mask, see `functional.supermasks`. When a task with another label begins, the
    previous task's mask is fixed, and takes one byte per weight. So nothing learned can be
    forgotten, and in the task-incremental scenario BWT is exactly 0. It needs no plugin: any
    strategy trains it like a multi-head model.

    With `task="known"`, samples use the mask of their task label; those of a task not learned yet
    use the mask of untrained scores. Otherwise task labels are ignored in eval mode, and the task
    of each sample, one of those learned, is inferred from the sample alone, by the entropy of its
    prediction under a mixture of all masks. Each inference step takes T forward and backward passes
    for T tasks: "one_shot" takes one step, "binary" ⌈log₂ T⌉.

    Methods that protect earlier weights have nothing to protect here, and would pull a task's
    scores towards those of the previous task.

    Deviations from the official code:

    1. The number of tasks need not be known; scores of later tasks are drawn when they begin.
    2. The task is inferred for each sample. The code infers one for a whole mini-batch, from its
       first sample.

    Args:
        model: A model with one head, which is copied; its weights are not used. Biases are left
            out. Batch normalisation loses its weights and running statistics, as in the official
            code, so even in eval mode it depends on the rest of the batch.
        share: The share of weights that a mask keeps, those whose scores have the largest
            magnitude; None keeps those with a score of at least 0, as the paper does on MNIST.
        task: "known", or the method that infers the task in eval mode: "one_shot" or "binary".
        seed: Seed of the weights and scores; None draws it from torch's global generator.

    Attributes:
        labels: Task labels in the order in which they were learned, the current one included.

    Raises:
        ValueError: If an argument is out of range, or the model has several heads or parameters in
            other layers; while training, if an experience has several task labels or one that came
            before.
    """

    @validated
    def __init__(
        self,
        model: nn.Module,
        share: Share | None = None,
        task: Task = "known",
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if isinstance(model, MultiTaskModule):
            raise ValueError(
                f"the {type(model).__name__} has several heads: give SupSup a model with one, as "
                "each task has a mask of its own"
            )
        if seed is None:
            seed = int(torch.randint(_MOST_SEEDS, ()))
        self.task: Task = task
        self.labels: list[int] = []
        self._origin: int | None = None
        self.body = deepcopy(model)
        _replace(self.body, share, seed)

    def adaptation(self, experience: Any) -> None:
        """Begin a new mask if the experience about to be learned is a new task."""
        if not self.training:
            return
        # Parts of an online stream have no labels.
        whole = getattr(experience, "origin_experience", None) or experience
        labels, origin = sorted({*getattr(whole, "task_labels", ())}), whole.current_experience
        if len(labels) != 1:
            raise ValueError(
                f"experience {origin} has the task labels {labels}, but SupSup learns one mask at "
                "a time: give each experience one task label"
            )
        (label,) = labels
        if label in self.labels and (label != self.labels[-1] or origin != self._origin):
            raise ValueError(
                f"task label {label} comes again in experience {origin}, but SupSup has fixed its "
                "mask: give each experience a task label of its own, as the scenario 'task' does"
            )
        if self.labels and label not in self.labels:
            for layer in self._layers():
                layer.fix()
        if label not in self.labels:
            self.labels.append(label)
        self._origin = origin

    def forward(self, x: Tensor, task_labels: Tensor | int) -> Tensor:
        """Return logits (B, C).

        Args:
            x: Samples, (B, ...).
            task_labels: Their task labels, (B,), or one for all.
        """
        if self.task != "known" and not self.training and self.labels:
            indices = self.inferred(x)
        else:
            given = torch.as_tensor(task_labels).expand(len(x))
            indices = torch.tensor([self._index(int(label)) for label in given.tolist()])
        # Ordered by label, like heads, so that hooks know which rows a layer sees.
        used = sorted({*indices.tolist()}, key=lambda i: (*self.labels, inf)[i])
        if len(used) == 1:
            return self._run(x, used[0])
        places = [(indices == index).nonzero()[:, 0].to(x.device) for index in used]
        parts = [self._run(x[rows], i) for rows, i in zip(places, used, strict=True)]
        return torch.cat(parts)[torch.argsort(torch.cat(places))]

    def inferred(self, x: Tensor) -> Tensor:
        """Return the index in `labels` of the inferred task of each sample, (B, ...).

        The last label may belong to a task that is still being learned.
        """
        weights = next(iter(self._layers())).layer.weight
        alpha = weights.new_zeros(len(x), len(self.labels))
        method: Inference = "one_shot" if self.task == "known" else self.task
        return infer_tasks(lambda mixed: self._run(x, mixed), alpha, method).cpu()

    def _index(self, label: int) -> int:
        return self.labels.index(label) if label in self.labels else len(self.labels)

    def _run(self, x: Tensor, mask: int | Tensor) -> Tensor:
        for layer in self._layers():
            layer.used = mask
        logits: Tensor = self.body(x)
        return logits

    def _layers(self) -> Sequence[MaskedLayer]:
        return [module for module in self.modules() if isinstance(module, MaskedLayer)]


class MaskedLayer(nn.Module):
    """A linear layer or convolution with fixed random weights, and a mask over them for each task.

    Args:
        layer: The layer, whose weights are replaced.
        share: See `SupSup`.
        seed: Seed of weights and scores.

    Attributes:
        scores: Scores of the task being learned.
        masks: The masks of earlier tasks, (T, *weight.shape), bool.
        used: The index of the mask to use, or coefficients of all, (B, T + 1).
    """

    masks: Tensor

    def __init__(self, layer: nn.Module, share: float | None, seed: int) -> None:
        super().__init__()
        assert isinstance(layer, _MASKED)
        self.layer = layer
        self.share = share
        self._seed = seed
        weights = signed_constant(layer.weight.shape, torch.Generator().manual_seed(seed))
        layer.weight = nn.Parameter(weights.to(layer.weight), requires_grad=False)
        layer.bias = None
        self.register_buffer("masks", torch.zeros(0, *weights.shape, dtype=torch.bool))
        self.scores = nn.Parameter(self._drawn(0))
        self.used: int | Tensor = 0

    def fix(self) -> None:
        """Fix the mask of the learned task, and draw scores for the next."""
        with torch.no_grad():
            mask = supermask(self.scores, self.share).bool()
        self.masks = torch.cat([self.masks, mask[None].to(self.masks.device)])
        self.scores = nn.Parameter(self._drawn(len(self.masks)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output for x (B, ...) under the mask, or the mixture, in use."""
        if isinstance(self.used, int):
            return self._masked(x, self.used)
        total: Tensor | None = None
        for index, share in enumerate(self.used.unbind(1)):
            part = self._masked(x, index)
            part = part * share.view(-1, *(1 for _ in part.shape[1:]))
            total = part if total is None else total + part
        assert total is not None
        return total

    def _masked(self, x: Tensor, index: int) -> Tensor:
        n_fixed = len(self.masks)
        if index < n_fixed:
            # Gives losses on earlier tasks a gradient, of zero.
            mask = self.masks[index] + 0 * self.scores
        else:
            mask = supermask(self.scores if index == n_fixed else self._drawn(index), self.share)
        output: Tensor = functional_call(self.layer, {"weight": self.layer.weight * mask}, (x,))
        return output

    def _drawn(self, task: int) -> Tensor:
        """Return the initial scores of a task, torch's default initialisation of weights."""
        like = self.layer.weight
        bound = 1 / (like[0].numel() ** 0.5)
        generator = torch.Generator().manual_seed((self._seed + 7919 * (task + 1)) % _MOST_SEEDS)
        scores = torch.empty(like.shape).uniform_(-bound, bound, generator=generator)
        return scores.to(like)


def _replace(model: nn.Module, share: float | None, seed: int) -> None:
    """Replace a model's layers with weights by masked layers."""
    n_masked = 0
    for parent in [*model.modules()]:
        for name, child in parent.named_children():
            if isinstance(child, _MASKED):
                of_layer = (seed + 104729 * n_masked) % _MOST_SEEDS
                parent._modules[name] = MaskedLayer(child, share, of_layer)
                n_masked += 1
            elif isinstance(child, _BatchNorm):
                parent._modules[name] = type(child)(
                    child.num_features, child.eps, affine=False, track_running_stats=False
                )
    masked = {id(p) for m in model.modules() if isinstance(m, MaskedLayer) for p in m.parameters()}
    others = [name for name, p in model.named_parameters() if id(p) not in masked]
    if others or not n_masked:
        reason = f"parameters {', '.join(others)} that all tasks would share" if others else "none"
        raise ValueError(
            f"SupSup masks the weights of linear layers and convolutions, and the "
            f"{type(model).__name__} has {reason}: use a model with no parameters in other layers"
        )
