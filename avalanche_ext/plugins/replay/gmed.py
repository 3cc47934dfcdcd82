"""Gradient-based memory editing (GMED)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt, Lt
from avalanche.evaluation.metric_results import MetricValue
from avalanche.training.storage_policy import ExemplarsBuffer
from numpy.typing import NDArray
from pydantic import FiniteFloat, PositiveInt
from torch import Tensor

from avalanche_ext.buffers import PolicyBuffer, Slots
from avalanche_ext.data import Batch, Strategy, criterion_of
from avalanche_ext.functional.lookahead.editing import Bounds, edited_examples, randomly_moved
from avalanche_ext.functional.lookahead.lookahead import NowAndAhead
from avalanche_ext.plugins.core.composition import Columns
from avalanche_ext.plugins.core.model import model_inputs
from avalanche_ext.plugins.replay.edits import EditRecord
from avalanche_ext.plugins.replay.lookahead import LookAheadReplayPlugin, check_candidates
from avalanche_ext.plugins.replay.memory import ReplayLoss, named_buffer
from avalanche_ext.validation import validated

EDIT_NORM = "gmed/edit_norm"

Amount = Annotated[FiniteFloat, Ge(0)]
Edit = Literal["gmed", "random", "hindsight"]
Retrieval = Literal["random", "mir"]


class GMEDPlugin(LookAheadReplayPlugin):
    """GMED (Jin, Du and Ren 2021): edit stored samples so that they are forgotten more easily.

    In every iteration samples are drawn from the memory, moved to where the coming step on the
    stream interferes with them more (see `functional.edit_examples`), and written back to their
    slots. With `retrieval="random"` (ER+GMED) the edited samples are replayed; with "mir"
    (MIR+GMED) those that MIR chooses are replayed unedited, and another draw is edited and written
    back. No boundary is read, nor a task label but by models with heads.

    Deviations from the official code:

    1. The sign of β is the paper's; the code adds β ∇ₓ ℓ(x; θ).
    2. The memory is a reservoir that holds every sample equally likely; see `ReservoirBuffer`.
    3. MIR and editing share one look-ahead on the stream.

    Args:
        mem_size: Number of samples the memory holds; not used if `buffer` is a buffer.
        batch_size: Number of samples edited, and of samples replayed, in each iteration.
        stride: α, at least 0; 5, 0.05 and 1 on Split, Permuted and Rotated MNIST, 0.05 on CIFAR-10,
            1 on mini-ImageNet in the paper. With 0 it is plain replay or MIR.
        reg_strength: β, at least 0; 0.01, 0.001, 0.01, 0.001 and 0.1 there.
        retrieval: How replayed samples are chosen, "random" or "mir".
        edit: "gmed"; or one of the paper's ablations: "random" moves a sample by α in a direction
            that its slot has at all times, "hindsight" looks ahead on a draw from the memory
            instead of the stream.
        n_steps: Number of edits one after another in each iteration.
        decay: Share by which α shrinks with every edit that a sample has had, in [0, 1).
        bounds: Least and greatest value of an input, to which edited samples are clamped.
        n_candidates: Number of samples MIR chooses from, at least `batch_size`.
        lr: Step size of the look-ahead; None is the optimizer's learning rate of the moment.
        loss: "sum" adds the means over the stream's rows and over the replayed ones, which the
            paper's numbers need; "separate" does, too, in a forward pass of its own for the latter;
            "union" is the mean over all.
        buffer: "reservoir", "ring" (balanced over classes), or a buffer of ours.
        keep_originals: Whether to keep samples as they were before their first edit, for reports.
        seed: Seed of the buffer that is made here, and of the plugin's own draws.

    Raises:
        pydantic.ValidationError: If an argument is not of the given type or range.
        ValueError: If there are fewer candidates than samples to be replayed, `bounds` are not
            ascending, or `buffer` is one of Avalanche's, which would lose the edits.
    """

    @validated
    def __init__(
        self,
        mem_size: PositiveInt = 500,
        batch_size: PositiveInt = 10,
        *,
        stride: Amount = 1.0,
        reg_strength: Amount = 0.01,
        retrieval: Retrieval = "random",
        edit: Edit = "gmed",
        n_steps: PositiveInt = 1,
        decay: Annotated[float, Ge(0), Lt(1)] = 0.0,
        bounds: list[float] | None = None,
        n_candidates: PositiveInt = 50,
        lr: Annotated[FiniteFloat, Gt(0)] | None = None,
        loss: ReplayLoss = "sum",
        buffer: Literal["reservoir", "ring"] | ExemplarsBuffer = "reservoir",
        keep_originals: bool = False,
        seed: int = 0,
    ) -> None:
        memory = named_buffer(buffer, mem_size, seed)
        if isinstance(memory, PolicyBuffer):
            raise ValueError(
                f"buffer={type(memory.policy).__name__}: one of Avalanche's buffers would forget "
                "the edits after each experience; give one of avalanche_ext.buffers"
            )
        if retrieval == "mir":
            check_candidates(n_candidates, batch_size)
        super().__init__(memory, batch_size, loss, lr)
        self.stride = stride
        self.reg_strength = reg_strength
        self.retrieval = retrieval
        self.edit = edit
        self.n_steps = n_steps
        self.decay = decay
        self.bounds = _bounds(bounds)
        self.n_candidates = n_candidates
        self._seed = seed
        self._rng = np.random.default_rng([1, seed])
        self._record = EditRecord(memory, keep_originals)

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Note the experience and the model, and begin a new record."""
        super().before_training_exp(strategy, **kwargs)
        self._record.begin(strategy.clock.train_iterations)

    def _draw(self, strategy: Strategy, arrived: Columns) -> Slots:
        return self.buffer.sample_slots(self.batch_size)

    def _replay(self, strategy: Strategy, arrived: Columns) -> tuple[Slots, Batch]:
        if self.retrieval == "random":
            slots = self._draw(strategy, arrived)
            looks = self.edit == "gmed" and self.stride > 0
            self._edit(strategy, slots, self._after_a_step_on(strategy, arrived) if looks else None)
            return slots, self.buffer.fetch(slots)
        outputs = self._after_a_step_on(strategy, arrived)
        slots = self._most_interfered(strategy, outputs, self.n_candidates)
        replayed = self.buffer.fetch(slots)
        self._edit(strategy, self.buffer.sample_slots(self.batch_size, self._rng), outputs)
        return slots, replayed

    def _edit(self, strategy: Strategy, slots: Slots, outputs: NowAndAhead | None) -> None:
        """Edit what `slots` hold, given the outputs after a step on the stream, if it was taken."""
        if self.stride == 0:
            return
        x, y, t = self._fetched(strategy, slots)
        stride = self._strides(slots, x)
        if self.edit == "random":
            # Several steps in one direction are a longer one.
            stride = self.n_steps * stride
            edited = randomly_moved(x, slots.tolist(), stride, self._seed, self.bounds)
        else:
            if self.edit == "hindsight":
                others = self.buffer.sample_slots(self.batch_size, self._rng)
                outputs = self._after_a_step_on(strategy, self._fetched(strategy, others))
            assert outputs is not None
            edited = edited_examples(
                outputs,
                model_inputs(strategy, x, t),
                y,
                criterion_of(strategy),
                stride=stride,
                reg_strength=self.reg_strength,
                n_steps=self.n_steps,
                bounds=self.bounds,
            )
        self._record.note(slots, x, edited, strategy.clock.train_iterations)
        self.buffer.replace(slots, edited)

    def _strides(self, slots: Slots, x: Tensor) -> float | Tensor:
        if self.decay == 0:
            return self.stride
        ages = x.new_tensor(self.buffer.notes(slots).n_replaced)
        return self.stride * (1 - self.decay) ** ages

    def publish(self, strategy: Strategy) -> None:
        """Hand the mean length of an edit in each iteration to Avalanche's evaluator."""
        publish = getattr(strategy.evaluator, "publish_metric_value", None)
        if publish:
            for iteration, norm in self._record.norms().items():
                publish(MetricValue(self, EDIT_NORM, norm, iteration))

    def diagnostics(self) -> dict[str, float]:
        """Return the mean length of an edit, ‖x′ − x‖₂, in the current experience."""
        norms = self._record.norms().values()
        return {EDIT_NORM: sum(norms) / len(norms)} if norms else {}

    def series(self) -> dict[str, list[float]]:
        """Return the mean length of an edit in each iteration of the current experience."""
        norms = self._record.series()
        return {EDIT_NORM: norms} if norms else {}

    def exhibits(self) -> dict[str, dict[str, NDArray[Any]]]:
        """Return edited samples beside the originals, if those are kept."""
        edits = self._record.exhibit()
        return {edits.NAME: edits.to_arrays()} if edits else {}


def _bounds(bounds: list[float] | None) -> Bounds | None:
    if bounds is None:
        return None
    if len(bounds) != 2 or not bounds[0] < bounds[1]:
        raise ValueError(f"bounds={bounds}: give the least and the greatest value of an input")
    return bounds[0], bounds[1]
