"""No metrics, at no cost."""

from __future__ import annotations

from typing import Any

from avalanche.core import SupervisedPlugin


class NoEvaluation(SupervisedPlugin):  # type: ignore[misc]
    """An evaluator for strategies whose numbers a `TransferMatrix` takes: it does nothing.

    Avalanche's EvaluationPlugin copies the experience at each callback, even with no metrics; in
    online learning with small models this shows (experiments/benchmarks/online.py).
    """

    supports_distributed = True

    def get_last_metrics(self) -> dict[str, Any]:
        """Return an empty dictionary, which `train` and `eval` then return."""
        return {}
