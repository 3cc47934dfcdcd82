"""Where a run's numbers go while it runs: JSON lines on disk, wandb."""

from avalanche_ext.tracking.json_lines import JsonLinesSink
from avalanche_ext.tracking.sinks import Run, Sink, Sinks
from avalanche_ext.tracking.wandb_sink import WandbSink

__all__ = ["JsonLinesSink", "Run", "Sink", "Sinks", "WandbSink"]
