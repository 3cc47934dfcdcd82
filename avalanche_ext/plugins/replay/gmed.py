"""Gradient-based memory editing (GMED)."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt
from avalanche.evaluation.metric_results import MetricValue
from avalanche.training.storage_policy import ExemplarsBuffer
from numpy.typing import NDArray
from pydantic import FiniteFloat, PositiveInt
from torch import Tensor

from avalanche_ext.buffers import PolicyBuffer, SlotBuffer, Slots
from avalanche_ext.data import Batch, Strategy, criterion_of
from avalanche_ext.functional.lookahead.editing import Bounds, edited_examples, randomly_moved
from avalanche_ext.functional.lookahead.lookahead import NowAndAhead
from avalanche_ext.plugins.core.composition import Columns
from avalanche_ext.plugins.core.model import model_inputs
from avalanche_ext.plugins.replay.lookahead import LookAheadReplayPlugin, check_candidates
from avalanche_ext.plugins.replay.memory import ReplayLoss, named_buffer
from avalanche_ext.results.exhibits import Edits
from avalanche_ext.validation import validated

EDIT_NORM = "gmed/edit_norm"

Amount = Annotated[FiniteFloat, Ge(0)]
Edit = Literal["gmed", "random", "hindsight"]
Retrieval = Literal["random", "mir"]

_MOST_SHOWN = 10
_IMAGES = 4


class GMEDPlugin(LookAheadReplayPlugin):
    """GMED (Jin, Du and Ren 2021): edit stored samples so that they are forgotten more easily.

    In every iteration samples are drawn from the memory, moved so that the coming step on the
    stream increases their loss more (see `functional.edit_examples`), and written back to their
    slots. With `retrieval="random"` (ER+GMED) these samples are then replayed. With "mir"
    (MIR+GMED) the samples that MIR chooses are replayed unedited, and another draw is edited and
    written back. GMED uses no task boundaries, and task labels only for models with heads.

    Deviations from the official code:

    1. The sign of β is the paper's; the code adds β ∇ₓ ℓ(x; θ).
    2. The memory is a reservoir in which every sample is equally likely to be held; see
       `ReservoirBuffer`.
    3. MIR and editing share one look-ahead on the stream.
    4. With `decay`, a sample that takes another's slot starts with no edits. The code counts edits
       per slot, and keeps counting.

    Args:
        mem_size: Number of samples the memory holds; not used if `buffer` is a buffer.
        batch_size: Number of samples edited, and of samples replayed, in each iteration.
        stride: α, at least 0; with 0 this is plain replay or MIR. In the paper 5, 0.05 and 1 on
            Split, Permuted and Rotated MNIST, 0.05 on CIFAR-10, 1 on mini-ImageNet.
        reg_strength: β, at least 0. In the paper 0.01, 0.001, 0.01, 0.001 and 0.1, respectively.
        retrieval: How replayed samples are chosen: "random" or "mir".
        edit: "gmed", or one of the paper's ablations: "random" moves a sample by α in a fixed
            direction that belongs to its slot; "hindsight" looks ahead on a draw from the memory
            instead of the stream.
        n_steps: Number of successive edits in each iteration.
        decay: Share by which α shrinks with each earlier edit of a sample, in [0, 1).
        bounds: Least and greatest value of an input; edited samples are clamped to them.
        n_candidates: Number of samples MIR chooses from, at least `batch_size`.
        lr: Step size of the look-ahead; None takes the optimizer's current learning rate.
        loss: "sum" is the criterion over the stream's rows plus that over the replayed ones, which
            reproduces the paper's numbers; "separate" is the same sum, with a forward pass for the
            replayed rows alone; "union" is the criterion over all rows.
        buffer: "reservoir", "ring" (balanced over classes), or a buffer of `avalanche_ext.buffers`.
        keep_originals: Whether to keep samples as they were before their first edit, for reports.
        seed: Seed of the plugin's own draws, and of the memory that is created for a name.

    Raises:
        ValueError: If an argument has a wrong type or is out of range, or if `n_candidates` is less
            than `batch_size`, `bounds` are not ascending, or `buffer` is one of Avalanche's, which
            would lose the edits.
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
                f"buffer={type(memory.policy).__name__}: one of Avalanche's buffers would lose the "
                "edits after each experience; use one from avalanche_ext.buffers"
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
        self._record = _EditRecord(memory, keep_originals)

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Note the experience, and begin a new record of edits."""
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
        """Edit the samples in `slots`; `outputs` are those of the look-ahead on the stream."""
        if self.stride == 0:
            return
        x, y, t = self._fetched(strategy, slots)
        stride = self._strides(slots, x)
        if self.edit == "random":
            # Several steps in one direction are one longer step.
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
        """Return edited samples and their originals, with `keep_originals`."""
        edits = self._record.exhibit()
        return {edits.NAME: edits.to_arrays()} if edits else {}


class _EditRecord:
    """Lengths of the current experience's edits, and samples as they were before their first edit.

    Args:
        buffer: The memory.
        keep_originals: Whether to keep the samples.
    """

    def __init__(self, buffer: SlotBuffer, keep_originals: bool) -> None:
        self.buffer = buffer
        self.keep_originals = keep_originals
        # By arrival, because slots are renumbered and reused.
        self._originals: dict[int, Tensor] = {}
        # Tensors stay on the device until they are read, so that no iteration waits.
        self._norms: dict[int, Tensor] = {}
        self._first = 0

    def begin(self, iteration: int) -> None:
        """Begin an experience with this iteration; drop originals that have left the memory."""
        self._norms, self._first = {}, iteration
        held = {*self.buffer.notes(np.arange(len(self.buffer))).arrival}
        self._originals = {a: x for a, x in self._originals.items() if a in held}

    def note(self, slots: Slots, before: Tensor, after: Tensor, iteration: int) -> None:
        """Note the edit of samples, (B, ...), before it is written to `slots`, (B,)."""
        self._norms[iteration] = (after - before).flatten(1).norm(dim=1).mean()
        if self.keep_originals:
            notes = self.buffer.notes(slots)
            for arrival, age, x in zip(notes.arrival, notes.n_replaced, before, strict=True):
                if age == 0:
                    self._originals[arrival] = x.clone()

    def norms(self) -> dict[int, float]:
        """Return the mean length ‖x′ − x‖₂ of an edit by iteration, where there were edits."""
        norms = torch.stack([*self._norms.values()]).tolist() if self._norms else []
        return dict(zip(self._norms, norms, strict=True))

    def series(self) -> list[float]:
        """Return the mean length in each iteration of the experience; nan without edits."""
        norms = self.norms()
        last = max(norms, default=self._first - 1)
        return [norms.get(i, math.nan) for i in range(self._first, last + 1)]

    def exhibit(self) -> Edits | None:
        """Return the most often edited image of each of up to ten classes; None without any."""
        slots = np.arange(len(self.buffer))
        notes = self.buffer.notes(slots)
        n_edits = np.array(notes.n_replaced, dtype=np.int64)
        is_known = np.array([arrival in self._originals for arrival in notes.arrival], dtype=bool)
        shown = is_known & (n_edits > 0)
        if not shown.any():
            return None
        x, y, _ = (column.cpu().numpy() for column in self.buffer.fetch(slots))
        if x.ndim != _IMAGES:
            return None
        by_class = [slots[shown & (y == label)] for label in np.unique(y[shown])]
        chosen = np.array([held[n_edits[held].argmax()] for held in by_class[:_MOST_SHOWN]])
        originals = [self._originals[notes.arrival[slot]] for slot in chosen.tolist()]
        return Edits(
            slot=chosen,
            label=y[chosen],
            n_edits=n_edits[chosen],
            original=torch.stack(originals).cpu().numpy(),
            edited=x[chosen],
        )


def _bounds(bounds: list[float] | None) -> Bounds | None:
    if bounds is None:
        return None
    if len(bounds) != 2 or not bounds[0] < bounds[1]:
        raise ValueError(f"bounds={bounds}: give two numbers, the first below the second")
    return bounds[0], bounds[1]
