"""The transfer matrix R, accuracies inside experiences, and the metrics computed from them."""

from typing import Any

from avalanche_ext.metrics.curves import (
    AccuracyCurves,
    average_anytime_accuracy,
    average_minimum_accuracy,
    curve_summary,
    learning_curve_area,
    stability_gap,
    worst_case_accuracy,
)
from avalanche_ext.metrics.matrix import (
    average_accuracy,
    average_forgetting,
    average_incremental_accuracy,
    average_intransigence,
    backward_transfer,
    forward_transfer,
    instance_accuracy,
    learning_accuracy,
    summary,
)

__all__ = [
    "AccuracyCurves",
    "NoEvaluation",
    "TransferMatrix",
    "average_accuracy",
    "average_anytime_accuracy",
    "average_forgetting",
    "average_incremental_accuracy",
    "average_intransigence",
    "average_minimum_accuracy",
    "backward_transfer",
    "curve_summary",
    "forward_transfer",
    "instance_accuracy",
    "learning_accuracy",
    "learning_curve_area",
    "stability_gap",
    "summary",
    "worst_case_accuracy",
]


def __getattr__(name: str) -> Any:
    # Imported late, so that reports do not wait for Avalanche.
    if name in ("NoEvaluation", "TransferMatrix"):
        from avalanche_ext.metrics import recorder

        return getattr(recorder, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
