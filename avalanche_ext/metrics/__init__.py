"""The transfer matrix R, the metrics computed from it, and the plugin that fills it."""

from typing import Any

from avalanche_ext.metrics.matrix import (
    average_accuracy,
    average_forgetting,
    average_intransigence,
    backward_transfer,
    forward_transfer,
    instance_accuracy,
    learning_accuracy,
    summary,
)

__all__ = [
    "NoEvaluation",
    "TransferMatrix",
    "average_accuracy",
    "average_forgetting",
    "average_intransigence",
    "backward_transfer",
    "forward_transfer",
    "instance_accuracy",
    "learning_accuracy",
    "summary",
]


def __getattr__(name: str) -> Any:
    # Not imported above, so that reports do not wait for Avalanche.
    if name in ("NoEvaluation", "TransferMatrix"):
        from avalanche_ext.metrics import recorder

        return getattr(recorder, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
