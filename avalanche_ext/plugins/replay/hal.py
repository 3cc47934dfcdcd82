"""Hindsight anchor learning (HAL)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

import torch
from avalanche.training.storage_policy import ExemplarsBuffer
from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from avalanche_ext.data import Strategy, criterion_of, origin_index
from avalanche_ext.functional.lookahead.anchors import (
    Key,
    anchoring_loss,
    hindsight_parameters,
    is_twice_differentiable,
    learn_anchors,
    update_means,
)
from avalanche_ext.plugins.core.composition import Columns
from avalanche_ext.plugins.core.gathering import Gatherer, linear_layers
from avalanche_ext.plugins.core.model import (
    hooked_model,
    learning_rates,
    model_inputs,
    own_model,
    task_labels,
)
from avalanche_ext.plugins.replay.memory import ReplayLoss
from avalanche_ext.plugins.replay.online_replay import OnlineReplayPlugin
from avalanche_ext.validation import validated


class HALPlugin(OnlineReplayPlugin):
    """HAL: experience replay that also keeps outputs at anchors, points that are easily forgotten.

    Hindsight anchor learning (Chaudhry et al. 2021). Let θ̃ = θ − η ∇_θ CE(θ) be a step on the
    stream's rows and the rows drawn from the memory. The loss is

        CE(θ) + λ mean over anchors e of ‖f(e; θ) − f(e; θ̃)‖²,

    differentiated through θ̃. When a task has ended, at θ, one anchor e is learned for each of its
    classes. It starts at a running mean of the class's images, and Adam moves it to lower

        CE(e; θ) − CE(e; θ_M) + γ (1 − cos(φ(e; θ), φ̂)),

    where θ_M is θ after some steps of SGD on the memory, φ is the input of the last linear or
    multi-head layer, and φ̂ is the running mean of φ over the class's samples during the task. CE
    is the strategy's criterion.

    HAL needs tasks: a task is an experience of the original stream, so that online streams get the
    same anchors as others. Anchors are learned when the first experience of another task begins,
    before the model is adapted to it; the last task gets none. A task that returns gets new ones.

    The official code was not available, and the defaults come from a summary of the method that
    does not say which numbers are the paper's and which the code's. Choices where the summary is
    silent or the paper differs:

    1. The memory is a reservoir and is replayed from in the first task too, as in GMED's comparison
       (Jin et al. 2021); hindsight steps draw from all of it, the ended task included.
    2. A running mean starts at a class's mean in its first mini-batch, and takes in its mean in
       each later one.
    3. Anchors run in evaluation mode, with the running statistics of batch normalisation.
    4. θ̃ is a step of plain SGD on the criterion alone, without momentum or other plugins' losses.

    Args:
        mem_size: Number of samples the memory holds; not used if `buffer` is a buffer.
        batch_size: Number of samples drawn in each iteration and each hindsight step.
        lam: Weight λ of the anchors, at least 0; with 0 this is `OnlineReplayPlugin`.
        buffer: "reservoir", "ring" (balanced over classes), or a buffer, ours or Avalanche's.
        loss: "union" is the criterion over all rows; "sum" is the criterion over the stream's rows
            plus that over the drawn rows; "separate" is the same sum, with a forward pass for the
            drawn rows alone.
        lr: η, the step size of θ̃ and of the hindsight steps; None takes the optimizer's current
            rate for each parameter.
        hindsight_steps: Number of steps of SGD from θ to θ_M.
        anchor_steps: Number of steps of Adam on the anchors.
        anchor_lr: Adam's learning rate.
        embedding_weight: γ, at least 0.
        decay: Share of a running mean that stays when a mini-batch comes in, from 0 to 1.
        seed: Seed of the memory that is created for a name.

    Attributes:
        anchors: x, y and t of the anchors of all tasks that have ended; None before.

    Raises:
        ValueError: If an argument has a wrong type or is out of range; when training starts, if
            the model has no linear or multi-head layer, or torch has no second derivative of the
            criterion.
    """

    beyond_criterion: ClassVar[bool] = True
    reads_graph: ClassVar[bool] = True

    @validated
    def __init__(
        self,
        mem_size: PositiveInt = 500,
        batch_size: PositiveInt = 10,
        lam: Annotated[FiniteFloat, Field(ge=0)] = 0.1,
        *,
        buffer: Literal["reservoir", "ring"] | ExemplarsBuffer = "reservoir",
        loss: ReplayLoss = "union",
        lr: PositiveFloat | None = None,
        hindsight_steps: NonNegativeInt = 50,
        anchor_steps: NonNegativeInt = 100,
        anchor_lr: PositiveFloat = 0.001,
        embedding_weight: Annotated[FiniteFloat, Field(ge=0)] = 0.1,
        decay: Annotated[float, Field(ge=0, le=1)] = 0.9,
        seed: int = 0,
    ) -> None:
        super().__init__(mem_size, batch_size, buffer=buffer, loss=loss, seed=seed)
        self.lam = lam
        self.lr = lr
        self.hindsight_steps = hindsight_steps
        self.anchor_steps = anchor_steps
        self.anchor_lr = anchor_lr
        self.embedding_weight = embedding_weight
        self.decay = decay
        self.anchors: Columns | None = None
        self._anchors_of: dict[int, Columns] = {}
        self._gatherer = Gatherer()
        self._images: dict[Key, Tensor] = {}
        self._embeddings: dict[Key, Tensor] = {}
        self._anchoring: list[Tensor] = []

    def check(self, strategy: Strategy) -> None:
        """Raise ValueError if the plugin cannot act in this strategy."""
        super().check(strategy)
        if not linear_layers(hooked_model(strategy)):
            raise ValueError(
                "HALPlugin needs the input of the last linear or multi-head layer, but the model "
                f"{type(own_model(strategy)).__name__} contains no such layer"
            )
        criterion = criterion_of(strategy)
        if self.lam and not is_twice_differentiable(criterion):
            raise ValueError(
                f"HALPlugin differentiates the criterion twice, but {type(criterion).__name__} has "
                "no second derivative: use another, such as CrossEntropyLoss"
            )

    def before_train_dataset_adaptation(self, strategy: Strategy, **kwargs: Any) -> None:
        """Learn the anchors of a task that has ended, before the model is adapted to the next."""
        if origin_index(strategy.experience) == self._origin:
            return
        if self._images:
            self._anchors_of[self._origin] = self._learned(strategy)
            x, y, t = (torch.cat(parts) for parts in zip(*self._anchors_of.values(), strict=True))
            self.anchors = x, y, t
        self._images, self._embeddings, self._anchoring = {}, {}, []

    def before_forward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Start to gather embeddings."""
        head = [*linear_layers(own_model(strategy)).items()][-1:] if self.lam else []
        self._gatherer.start(strategy.model, dict(head), "inputs")

    def after_forward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Update the running means of the classes with the stream's rows."""
        self._gatherer.stop()
        entered = self._gatherer.taken(strategy.mb_output, task_labels(strategy))
        for embeddings in entered.values():
            assert self.arrived is not None
            x, y, t = self.arrived
            keys = [*zip(t.tolist(), y.tolist(), strict=True)]
            update_means(self._images, keys, x, self.decay)
            update_means(self._embeddings, keys, embeddings[: len(y)].detach(), self.decay)

    def before_backward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Add the loss on the anchors."""
        if self.anchors is None:
            strategy.loss += self._missing(strategy)
            return
        # The step to θ̃ is on the criterion alone, without what other plugins added to the loss.
        # It is asked for before the model runs again, since a strategy may read the last run.
        criterion = strategy.criterion()
        missing = self._missing(strategy)
        strategy.loss += missing
        x, _, t = self.anchors
        inputs, criterion = model_inputs(strategy, x, t), criterion + missing
        anchoring = anchoring_loss(
            own_model(strategy), inputs, criterion, learning_rates(strategy, self.lr)
        )
        strategy.loss += self.lam * anchoring
        self._anchoring.append(anchoring.detach())

    def diagnostics(self) -> dict[str, float]:
        """Return the number of anchors and the mean loss on them in the current task."""
        if self.anchors is None:
            return {}
        numbers = {"hal/anchors": float(len(self.anchors[1]))}
        if self._anchoring:
            numbers["hal/anchoring"] = float(torch.stack(self._anchoring).mean())
        return numbers

    def _learned(self, strategy: Strategy) -> Columns:
        # A multi-head layer outputs one task after another, in ascending order.
        keys = sorted(self._images)
        t, y = torch.tensor(keys, device=strategy.device).T
        start = torch.stack([self._images[key] for key in keys])
        model = own_model(strategy)
        x = learn_anchors(
            model,
            [*linear_layers(model).values()][-1],
            hindsight_parameters(
                model,
                self._draws(strategy),
                learning_rates(strategy, self.lr),
                criterion_of(strategy),
            ),
            model_inputs(strategy, start, t),
            y,
            torch.stack([self._embeddings[key] for key in keys]),
            n_steps=self.anchor_steps,
            lr=self.anchor_lr,
            embedding_weight=self.embedding_weight,
            criterion=criterion_of(strategy),
        )
        return x, y, t

    def _draws(self, strategy: Strategy) -> Iterator[tuple[list[Tensor], Tensor]]:
        for _ in range(self.hindsight_steps):
            x, y, t = self._fetched(strategy, self.buffer.sample_slots(self.batch_size))
            yield model_inputs(strategy, x, t), y
