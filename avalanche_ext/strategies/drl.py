"""DRL as a strategy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from avalanche.core import SupervisedPlugin
from pydantic import NonNegativeFloat

from avalanche_ext.functional.representation.losses import Normalisation
from avalanche_ext.plugins import DRLPlugin
from avalanche_ext.strategies.ber import BER


class DRL(BER):
    """Discriminative representation loss on balanced experience replay; see `DRLPlugin`.

    Args:
        alpha: Weight α of pairs of one class.
        lam: Weight λ of the loss.
        layers: Modules whose outputs are used, and "logits"; None is the paper's choice.
        normalisation: "batch" or "pairs".
        seed: Seed of the ring buffer.
        plugins: Further plugins.
        base_kwargs: Arguments of `BER`, such as mem_size, batch_size_mem and eviction, and of
            Avalanche's `SupervisedTemplate`.

    Raises:
        ValueError: If an argument is out of range, or `plugins` cannot go with BER.
    """

    def __init__(
        self,
        *,
        alpha: NonNegativeFloat = 2.0,
        lam: NonNegativeFloat = 5e-4,
        layers: list[str] | None = None,
        normalisation: Normalisation = "batch",
        seed: int = 0,
        plugins: Sequence[SupervisedPlugin] | None = None,
        **base_kwargs: Any,
    ) -> None:
        drl = DRLPlugin(alpha, lam, layers=layers, normalisation=normalisation)
        super().__init__(seed=seed, plugins=[*(plugins or ()), drl], **base_kwargs)
