"""Gradient-based sample selection (GSS), the greedy variant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from avalanche.models import avalanche_forward
from pydantic import Field, PositiveInt

from avalanche_ext.buffers import GreedyBuffer, Slots
from avalanche_ext.data import Strategy, criterion_of, origin_index
from avalanche_ext.functional.representation.similarity import GradientSimilarity, Group
from avalanche_ext.plugins.core.composition import Columns, MethodPlugin, stream_rows
from avalanche_ext.plugins.core.model import model_inputs
from avalanche_ext.traits import Phase
from avalanche_ext.validation import validated


class GSSPlugin(MethodPlugin):
    """Replay from a memory of samples whose gradients are unlike those of one another.

    GSS-greedy (Aljundi, Lin, Goujaud and Bengio 2019, Algorithm 2) with the rehearsal of its
    official code. Each mini-batch is trained on `n_iterations` times, each time in a step on the
    batch and one on samples from the memory, which is shuffled for each batch and gone through in
    parts of `batch_size`. Then, in the first epoch of its experience, the batch is shown to the
    memory: with the gradients on up to `n_references` parts of the memory, shuffled again, a sample
    has as its score the largest cosine of its gradient with any of them, the first samples 0.1.
    While there is room, all are stored. Once there is none, nothing changes unless the largest
    cosine of the gradient on the whole batch is below `threshold`; then each sample may replace
    one that is held, see `GreedyBuffer`. No boundary is read, nor a task label but by models with
    heads.

    The strategy's iteration is the first step on the batch; the others follow it, by the
    strategy's model in training mode, its optimizer, whose state they share, and its criterion
    alone. Other plugins act in the strategy's step only: penalties, projections and what moves the
    parameters after a step are left out of the others, and whoever follows the parameters' path
    sees one step of 2 · `n_iterations`. Gradients are put back afterwards as the strategy's step
    has left them, and its clock counts iterations, not steps.

    Deviations from the official code:

    1. A batch of which a part finds no room fills the memory and is left out otherwise; there the
       memory grows beyond its size.
    2. A cosine with a gradient of length zero is 0; there it is no number.
    3. Slots with the least score are candidates once there are no others; there it fails.

    Args:
        mem_size: Number of samples the memory holds.
        batch_size: Number of samples in each part of the memory, for steps and for references.
        n_iterations: How often each mini-batch is trained on; the paper has 3 on MNIST, its
            comparison in the DRL paper 10.
        n_references: Largest number of parts that samples are compared with.
        threshold: Below which largest cosine, from -1 to 1, a batch may change a full memory.
        seed: Seed of the memory's generator, from which all is drawn.

    Attributes:
        buffer: The memory, a `GreedyBuffer`.

    Raises:
        pydantic.ValidationError: If an argument is not of the given type or range.
    """

    phase = Phase.DATA
    stores: ClassVar[bool] = True
    beyond_criterion: ClassVar[bool] = True

    @validated
    def __init__(
        self,
        mem_size: PositiveInt = 300,
        batch_size: PositiveInt = 10,
        n_iterations: PositiveInt = 1,
        *,
        n_references: PositiveInt = 10,
        threshold: Annotated[float, Field(ge=-1, le=1)] = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.buffer = GreedyBuffer(mem_size, seed)
        self.batch_size = batch_size
        self.n_iterations = n_iterations
        self.n_references = n_references
        self.threshold = threshold
        self._origin = 0
        self._n_replaced = 0
        self._similarity: GradientSimilarity | None = None

    def __getstate__(self) -> dict[str, Any]:
        # It belongs to the model, and is made anew with the next experience.
        return {**self.__dict__, "_similarity": None}

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Note which experience the next mini-batches come from, and the model."""
        origin = origin_index(strategy.experience)
        if origin != self._origin:
            self._origin, self._n_replaced = origin, 0
        used = strategy.model, criterion_of(strategy)
        if self._similarity is None or not self._similarity.is_of(*used):
            self._similarity = GradientSimilarity(*used)

    def before_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Note what the stream has brought."""
        self.arrived = stream_rows(strategy, self)

    def after_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Take the other steps, and show the memory the batch."""
        assert self.arrived is not None
        with _gradients_kept(strategy.optimizer):
            parts = self._parts()
            for iteration in range(self.n_iterations):
                if iteration:
                    _step(strategy, self.arrived)
                if parts:
                    _step(strategy, self._fetched(strategy, parts[iteration % len(parts)]))
        if strategy.clock.train_exp_epochs == 0:
            self._store(strategy, self.arrived)

    def diagnostics(self) -> dict[str, float]:
        """Return how many samples were replaced in the current experience, and the mean score."""
        if not len(self.buffer):
            return {}
        score = float(self.buffer.scores.mean())
        return {"gss/replaced": float(self._n_replaced), "gss/score": score}

    def _store(self, strategy: Strategy, arrived: Columns) -> None:
        n, scores = len(arrived[1]), None
        was_full = self.buffer.is_full
        if len(self.buffer):
            assert self._similarity is not None
            parts = self._parts()[: self.n_references]
            references = self._similarity.references(
                [_group(strategy, self._fetched(strategy, part)) for part in parts]
            )
            if was_full and not (
                references.max_cosines([_group(strategy, arrived)]) < self.threshold
            ):
                self.buffer.leave_out(n)
                return
            rows = zip(*(torch.split(column, 1) for column in arrived), strict=True)
            scores = references.max_cosines([_group(strategy, row) for row in rows]).tolist()
        slots = self.buffer.add(*arrived, self._origin, scores)
        if was_full:
            self._n_replaced += int(np.count_nonzero(slots >= 0))

    def _parts(self) -> list[Slots]:
        """Return the slots of the memory, shuffled, in parts."""
        slots = self.buffer.rng.permutation(len(self.buffer))
        return [slots[i : i + self.batch_size] for i in range(0, len(slots), self.batch_size)]

    def _fetched(self, strategy: Strategy, slots: Slots) -> Columns:
        x, y, t = (column.to(strategy.device) for column in self.buffer.fetch(slots))
        return x, y, t


def _group(strategy: Strategy, columns: Columns) -> Group:
    x, y, t = columns
    return model_inputs(strategy, x, t), y


def _step(strategy: Strategy, columns: Columns) -> None:
    x, y, t = columns
    strategy.optimizer.zero_grad()
    loss = criterion_of(strategy)(avalanche_forward(strategy.model, x, t), y)
    torch.autograd.backward(loss)
    strategy.optimizer_step()


@contextmanager
def _gradients_kept(optimizer: Any) -> Iterator[None]:
    """Put the gradients of an optimizer's parameters back afterwards."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    gradients = [p.grad for p in parameters]
    for p in parameters:
        p.grad = None
    yield
    for p, gradient in zip(parameters, gradients, strict=True):
        p.grad = gradient
