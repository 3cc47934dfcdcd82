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
from avalanche_ext.data import Strategy, criterion_of, ends_batch, origin_index
from avalanche_ext.functional.representation.similarity import GradientSimilarity, Group
from avalanche_ext.plugins.core.composition import Columns, StoringPlugin, stream_rows
from avalanche_ext.plugins.core.model import model_inputs, own_model
from avalanche_ext.traits import Phase
from avalanche_ext.validation import validated


class GSSPlugin(StoringPlugin):
    """GSS-greedy: replay from a memory whose samples have dissimilar gradients.

    Gradient-based sample selection (Aljundi, Lin, Goujaud and Bengio 2019, Algorithm 2), with the
    rehearsal of its official code. It uses no task boundaries, and task labels only for models with
    heads. It cannot be combined with other replay, with `BGDPlugin`, or with a plugin that sums up
    gradient times step, such as `SynapticIntelligencePlugin`.

    **Training.** Each mini-batch is trained on `n_iterations` times, each time in one step on the
    batch and one on samples from the memory. For each batch the memory is shuffled and divided into
    parts of `batch_size`, which are used in turn. The strategy's own iteration is the first step on
    the batch. The other steps follow it, with the strategy's model in training mode, its optimizer
    and the optimizer's state, and the criterion alone: penalties, projections and pulls of other
    plugins act in the strategy's step only. Afterwards gradients are again those of the strategy's
    step; its clock counts iterations, not steps.

    **Storing.** In the first epoch of its experience each batch is then shown to the memory. The
    score of a sample is the largest cosine of its gradient with the gradients on up to
    `n_references` parts of the memory, which is shuffled again; the very first samples score 0.1.
    While there is room, all samples are stored. A full memory changes only if the largest cosine of
    the whole batch's gradient is below `threshold`; then each sample may replace a stored one, see
    `GreedyBuffer`.

    Deviations from the official code:

    1. If only a part of a batch finds room, that part is stored; the code lets the memory grow
       beyond its size.
    2. A cosine with a gradient of length zero is 0; the code returns nan.
    3. Slots with the lowest score become candidates for replacement once there are no others; the
       code fails.

    Args:
        mem_size: Number of samples the memory holds.
        batch_size: Number of samples in each part of the memory, for steps and for references.
        n_iterations: Number of times each mini-batch is trained on: 3 in the paper on MNIST, 10 in
            the DRL paper's comparison.
        n_references: Largest number of parts of the memory to compare samples with.
        threshold: A batch changes a full memory only if its largest cosine is below this, from -1
            to 1.
        seed: Seed of the memory's generator, which makes all draws.

    Attributes:
        buffer: The memory, a `GreedyBuffer`.

    Raises:
        ValueError: If an argument has a wrong type or is out of range.
    """

    phase = Phase.DATA
    not_pickled: ClassVar[tuple[str, ...]] = ("_similarity",)
    beyond_criterion: ClassVar[bool] = True
    takes_more_steps: ClassVar[bool] = True

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
        self.buffer: GreedyBuffer = GreedyBuffer(mem_size, seed)
        self.batch_size = batch_size
        self.n_iterations = n_iterations
        self.n_references = n_references
        self.threshold = threshold
        self._n_replaced = 0
        self._similarity: GradientSimilarity | None = None

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Note which experience the next mini-batches come from."""
        if origin_index(strategy.experience) != self._origin:
            self._n_replaced = 0
        super().before_training_exp(strategy, **kwargs)

    def before_training_epoch(self, strategy: Strategy, **kwargs: Any) -> None:
        """Note the trained parameters, after other plugins have frozen theirs."""
        super().before_training_epoch(strategy, **kwargs)
        used = own_model(strategy), criterion_of(strategy)
        if self._similarity is None or not self._similarity.is_of(*used):
            self._similarity = GradientSimilarity(*used)

    def before_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Note what the stream brought."""
        self.arrived = stream_rows(strategy, self)

    def after_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Take the other steps, then show the memory the batch."""
        assert self.arrived is not None
        with _gradients_kept(strategy.optimizer):
            parts = self._parts()
            for iteration in range(self.n_iterations):
                if iteration:
                    _step(strategy, self.arrived)
                if parts:
                    _step(strategy, self._fetched(strategy, parts[iteration % len(parts)]))
        if strategy.clock.train_exp_epochs == 0 and ends_batch(strategy):
            self._store(strategy, self.arrived)

    def diagnostics(self) -> dict[str, float]:
        """Return the number of samples replaced in this experience, and the mean score."""
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
        """Return the slots of the memory in shuffled parts of `batch_size`."""
        slots = self.buffer.rng.permutation(len(self.buffer))
        return [slots[i : i + self.batch_size] for i in range(0, len(slots), self.batch_size)]


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
def _gradients_kept(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Clear the gradients of an optimizer's parameters, and restore them afterwards."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    gradients = [p.grad for p in parameters]
    for p in parameters:
        p.grad = None
    yield
    for p, gradient in zip(parameters, gradients, strict=True):
        p.grad = gradient
