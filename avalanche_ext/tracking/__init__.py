"""Logging a run's numbers while it runs, as JSON lines on disk and to wandb."""

from avalanche_ext.tracking.json_lines import JsonLinesSink
from avalanche_ext.tracking.sinks import Run, Sink, Sinks
from avalanche_ext.tracking.wandb_sink import WandbSink

__all__ = ["JsonLinesSink", "Run", "Sink", "Sinks", "WandbSink"]
