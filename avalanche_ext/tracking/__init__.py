"""Logging a run's numbers while it runs, as JSON lines on disk and to wandb."""

from typing import Any

from avalanche_ext.tracking.json_lines import JsonLinesSink
from avalanche_ext.tracking.sinks import Run, Sink, Sinks
from avalanche_ext.tracking.wandb_sink import WandbSink

__all__ = ["JsonLinesSink", "Run", "Sink", "Sinks", "WandbLogger", "WandbSink"]


def __getattr__(name: str) -> Any:
    # Imported late, so that sinks do not wait for Avalanche.
    if name == "WandbLogger":
        from avalanche_ext.tracking.wandb_logger import WandbLogger

        return WandbLogger
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
