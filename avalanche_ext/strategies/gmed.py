"""GMED as a strategy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from annotated_types import Ge, Gt, Lt
from avalanche.core import SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate
from pydantic import FiniteFloat, PositiveInt

from avalanche_ext.plugins import GMEDPlugin, check_composition
from avalanche_ext.plugins.replay.gmed import Amount, Edit, Retrieval
from avalanche_ext.plugins.replay.memory import ReplayLoss


class GMED(SupervisedTemplate):  # type: ignore[misc]
    """Gradient-based memory editing on experience replay or MIR; see `GMEDPlugin`.

    Args:
        mem_size: Number of samples the memory holds.
        batch_size_mem: Number of samples edited, and of samples replayed, in each iteration.
        stride: α.
        reg_strength: β.
        retrieval: "random" (ER+GMED) or "mir" (MIR+GMED).
        edit: "gmed", "random" or "hindsight".
        n_steps: Number of edits one after another.
        decay: Share by which α shrinks with every edit that a sample has had.
        bounds: Least and greatest value of an input.
        n_candidates: Number of samples MIR chooses from.
        lr: Step size of the look-ahead; None is the optimizer's learning rate.
        loss: "sum", "separate" or "union" of stream and memory.
        keep_originals: Whether to keep samples as they were before their first edit.
        seed: Seed of the reservoir and of the plugin's own draws.
        plugins: Further plugins.
        base_kwargs: Arguments of Avalanche's `SupervisedTemplate`, such as model and optimizer.

    Raises:
        ValueError: If an argument is out of range, or `plugins` cannot go with GMED.
    """

    def __init__(
        self,
        *,
        mem_size: PositiveInt = 500,
        batch_size_mem: PositiveInt = 10,
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
        keep_originals: bool = False,
        seed: int = 0,
        plugins: Sequence[SupervisedPlugin] | None = None,
        **base_kwargs: Any,
    ) -> None:
        gmed = GMEDPlugin(
            mem_size,
            batch_size_mem,
            stride=stride,
            reg_strength=reg_strength,
            retrieval=retrieval,
            edit=edit,
            n_steps=n_steps,
            decay=decay,
            bounds=bounds,
            n_candidates=n_candidates,
            lr=lr,
            loss=loss,
            keep_originals=keep_originals,
            seed=seed,
        )
        super().__init__(plugins=[*(plugins or ()), gmed], **base_kwargs)
        check_composition(self.plugins)
