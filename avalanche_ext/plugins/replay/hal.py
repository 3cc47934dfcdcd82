"""Hindsight anchor learning (HAL)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from avalanche.training.storage_policy import ExemplarsBuffer
from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from avalanche_ext.buffers import PolicyBuffer, Slots, TaskClassBuffer, uniform
from avalanche_ext.data import Strategy, criterion_of, origin_index
from avalanche_ext.functional.lookahead.anchors import (
    Key,
    anchoring_loss,
    hindsight_parameters,
    is_twice_differentiable,
    learn_anchors,
    rescaled,
    update_means,
    update_sums,
)
from avalanche_ext.plugins.core.composition import Columns
from avalanche_ext.plugins.core.gathering import Gatherer, linear_layers
from avalanche_ext.plugins.core.model import (
    hooked_model,
    learning_rates,
    learning_rates_to_come,
    model_inputs,
    own_model,
    task_labels,
)
from avalanche_ext.plugins.replay.memory import ReplayLoss
from avalanche_ext.plugins.replay.online_replay import OnlineReplayPlugin
from avalanche_ext.validation import validated

Share = Annotated[float, Field(ge=0, le=1)]


class HALPlugin(OnlineReplayPlugin):
    """HAL: experience replay that also preserves the outputs at points that are easily forgotten.

    Hindsight anchor learning (Chaudhry et al. 2021). Let θ̃ = θ − η ∇_θ CE(θ) be a step on the
    stream's rows and the rows drawn from the memory. The loss is

        CE(θ) + λ mean over anchors e of ‖f(e; θ) − f(e; θ̃)‖²,

    differentiated through θ̃. When a task has ended, at θ, one anchor e is learned for each of its
    classes. It starts at a running mean of the class's images, and Adam moves it to lower

        CE(e; θ) − CE(e; θ_M) + γ (1 − cos(φ(e; θ), φ̂)),

    where θ_M is θ after some steps of SGD on the memory, φ is the input of the last linear or
    multi-head layer, and φ̂ is the running mean of φ over the class's samples during the task. CE
    is the strategy's criterion.

    HAL needs tasks: a task is an experience of the original stream, so online streams get the same
    anchors as others. Anchors are learned when the first experience of another task begins, before
    the model is adapted to it; the last task gets none. A task that returns gets new ones.

    The defaults follow a summary of the method, with a reservoir as in GMED's comparison (Jin et
    al. 2021). The official code's settings are `size_per_class=1, replayed="earlier", n_anchors=10,
    first_anchors="last", rescale=True, means="from_zero", embedding_decay=0.5`. Deviations from it:

    1. Anchors run in evaluation mode, with the running statistics of batch normalisation.
    2. θ̃ is a step of plain SGD on the criterion alone, without momentum or other plugins' losses.
    3. Adam is restarted for each task's anchors; in the code its moments carry over from one anchor
       to the next.

    Args:
        mem_size: Number of samples the memory holds; not used if `buffer` is a buffer, or with
            `size_per_class`.
        batch_size: Number of samples drawn in each iteration and each hindsight step.
        lam: Weight λ of the anchors, at least 0; with 0 this is `OnlineReplayPlugin`.
        buffer: "reservoir", "ring" (balanced over classes), or a buffer, ours or Avalanche's.
        size_per_class: Number of samples held of each class of each task, its last ones, see
            `TaskClassBuffer`; None takes `buffer`.
        replayed: Which samples are replayed, and drawn for hindsight steps: "all", the current
            task's included, or those of "earlier" tasks. In the first task "earlier" replays
            nothing, and its hindsight is θ itself.
        loss: "union" is the criterion over all rows; "sum" is the criterion over the stream's rows
            plus that over the drawn rows; "separate" is the same sum, with a forward pass for the
            drawn rows alone.
        lr: η, the step size of θ̃ and of the hindsight steps; None takes the optimizer's current
            rate for each parameter.
        n_anchors: Number of anchors drawn for the loss in each iteration, without replacement; None
            takes all.
        first_anchors: The anchors of the first task: "learned" like those of other tasks, or the
            "last" sample of each class.
        rescale: Whether learned anchors are rescaled to [0, 1], each by its own least and greatest
            value.
        hindsight_steps: Number of steps of SGD from θ to θ_M.
        anchor_steps: Number of steps of Adam on the anchors.
        anchor_lr: Adam's learning rate.
        embedding_weight: γ, at least 0.
        means: How running means are computed. "of_batches": they start at a class's mean in its
            first mini-batch of the task, and are updated with its mean in each later one.
            "from_zero": they start at 0. An image is updated with one sample of the stream after
            another; an embedding is updated with the sum over its class's rows in a mini-batch, and
            carries over to later tasks. The rows include replayed ones, unless `loss` is
            "separate".
        decay: Share of a running mean that remains after an update, from 0 to 1.
        embedding_decay: The same for embeddings; None takes `decay`.
        seed: Seed of the draws of anchors, and of the memory that is created.

    Attributes:
        anchors: x, y and t of the anchors of all tasks that have ended; None before.

    Raises:
        ValueError: If an argument has a wrong type or is out of range; if both `buffer` and
            `size_per_class` are given; if `replayed` is "earlier" and `buffer` is Avalanche's; when
            training starts, if the model has no linear or multi-head layer, or torch has no second
            derivative of the criterion.
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
        size_per_class: PositiveInt | None = None,
        replayed: Literal["all", "earlier"] = "all",
        loss: ReplayLoss = "union",
        lr: PositiveFloat | None = None,
        n_anchors: PositiveInt | None = None,
        first_anchors: Literal["learned", "last"] = "learned",
        rescale: bool = False,
        hindsight_steps: NonNegativeInt = 50,
        anchor_steps: NonNegativeInt = 100,
        anchor_lr: PositiveFloat = 0.001,
        embedding_weight: Annotated[FiniteFloat, Field(ge=0)] = 0.1,
        means: Literal["of_batches", "from_zero"] = "of_batches",
        decay: Share = 0.9,
        embedding_decay: Share | None = None,
        seed: int = 0,
    ) -> None:
        if size_per_class is not None and buffer != "reservoir":
            raise ValueError(
                f"size_per_class={size_per_class} already defines the memory: leave out buffer"
            )
        memory = buffer if size_per_class is None else TaskClassBuffer(size_per_class, seed)
        super().__init__(mem_size, batch_size, buffer=memory, loss=loss, seed=seed)
        if replayed == "earlier" and isinstance(self.buffer, PolicyBuffer):
            raise ValueError(
                "replayed='earlier' needs the experience of each stored sample, which Avalanche's "
                f"{type(self.buffer.policy).__name__} does not record: give one of our buffers, or "
                "replayed='all'"
            )
        self.lam = lam
        self.replayed = replayed
        self.lr = lr
        self.n_anchors = n_anchors
        self.first_anchors = first_anchors
        self.rescale = rescale
        self.hindsight_steps = hindsight_steps
        self.anchor_steps = anchor_steps
        self.anchor_lr = anchor_lr
        self.embedding_weight = embedding_weight
        self.means = means
        self.decay = decay
        self.embedding_decay = decay if embedding_decay is None else embedding_decay
        self.anchors: Columns | None = None
        self._anchors_of: dict[int, Columns] = {}
        self._gatherer = Gatherer()
        self._images: dict[Key, Tensor] = {}
        self._embeddings: dict[Key, Tensor] = {}
        self._last: dict[Key, Tensor] = {}
        self._anchoring: list[Tensor] = []
        self._rng = np.random.default_rng([5, seed])

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
            self._anchors_of[self._origin] = self._of_task(strategy)
            x, y, t = (torch.cat(parts) for parts in zip(*self._anchors_of.values(), strict=True))
            self.anchors = x, y, t
        self._images, self._last, self._anchoring = {}, {}, []
        if self.means == "of_batches":
            self._embeddings = {}

    def before_forward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Start to gather embeddings."""
        head = [*linear_layers(own_model(strategy)).items()][-1:] if self.lam else []
        self._gatherer.start(strategy.model, dict(head), "inputs")

    def after_forward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Update the running means of the classes."""
        self._gatherer.stop()
        entered = self._gatherer.taken(strategy.mb_output, task_labels(strategy))
        for embeddings in entered.values():
            assert self.arrived is not None
            x, y, t = self.arrived
            keys, embeddings = _keys(y, t), embeddings.detach()
            if self.means == "of_batches":
                update_means(self._images, keys, x, self.decay)
                update_means(self._embeddings, keys, embeddings[: len(y)], self.embedding_decay)
            else:
                for key, row in zip(keys, torch.split(x, 1), strict=True):
                    update_sums(self._images, [key], row, self.decay)
                keys_of_all = _keys(strategy.mb_y, task_labels(strategy))
                update_sums(self._embeddings, keys_of_all, embeddings, self.embedding_decay)
            if self.first_anchors == "last" and not self._anchors_of:
                self._last |= zip(keys, x, strict=True)

    def before_backward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Add the loss on the anchors."""
        if self.anchors is None:
            strategy.loss += self._missing(strategy)
            return
        # The step to θ̃ is on the criterion alone, without what other plugins added to the loss.
        # Computed before the model runs again, because the strategy may use the last pass.
        criterion = strategy.criterion()
        missing = self._missing(strategy)
        strategy.loss += missing
        x, _, t = self._drawn_anchors(self.anchors)
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

    def _draw(self, strategy: Strategy, arrived: Columns) -> Slots:
        return self._slots()

    def _slots(self) -> Slots:
        """Draw slots to replay, or for a hindsight step; may be empty."""
        if self.replayed == "all":
            return self.buffer.sample_slots(self.batch_size)
        earlier = {t: slots for t, slots in self.buffer.groups("task").items() if t != self._task}
        if not earlier:
            return np.empty(0, dtype=np.int64)
        return uniform(earlier, self.batch_size, self.buffer.rng, replacement=False)

    def _drawn_anchors(self, anchors: Columns) -> Columns:
        n = len(anchors[1])
        if self.n_anchors is None or n <= self.n_anchors:
            return anchors
        drawn = torch.from_numpy(self._rng.choice(n, self.n_anchors, replace=False))
        x, y, t = (column.index_select(0, drawn.to(column.device)) for column in anchors)
        return x, y, t

    def _of_task(self, strategy: Strategy) -> Columns:
        """Return the anchors of the task that has ended."""
        # A multi-head layer outputs one task after another, in ascending order.
        keys = sorted(self._images)
        t, y = torch.tensor(keys, device=strategy.device).T
        if self._last:
            return torch.stack([self._last[key] for key in keys]), y, t
        x = self._learned(strategy, keys, y, t)
        return rescaled(x) if self.rescale else x, y, t

    def _learned(self, strategy: Strategy, keys: list[Key], y: Tensor, t: Tensor) -> Tensor:
        start = torch.stack([self._images[key] for key in keys])
        model = own_model(strategy)
        return learn_anchors(
            model,
            [*linear_layers(model).values()][-1],
            hindsight_parameters(
                model,
                self._draws(strategy),
                learning_rates_to_come(strategy, self.lr),
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

    def _draws(self, strategy: Strategy) -> Iterator[tuple[list[Tensor], Tensor]]:
        for _ in range(self.hindsight_steps):
            slots = self._slots()
            if len(slots):
                x, y, t = self._fetched(strategy, slots)
                yield model_inputs(strategy, x, t), y


def _keys(y: Tensor, t: Tensor) -> list[Key]:
    return [*zip(t.tolist(), y.tolist(), strict=True)]
