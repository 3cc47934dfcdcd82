"""Memories that several plugins of a strategy store samples in."""

from __future__ import annotations

from typing import Any

from avalanche.training.storage_policy import ExemplarsBuffer

from avalanche_ext.buffers import PolicyBuffer, SlotBuffer
from avalanche_ext.plugins.core.composition import MethodPlugin, Phase


def is_writer(strategy: Any, plugin: Any) -> bool:
    """Tell whether it is this plugin that shows its `buffer` what the stream brings.

    Of several plugins of a strategy that share a buffer, one alone writes it: the one that replays
    from it, else the first.
    """
    sharing = [p for p in _storing(strategy) if p.buffer is plugin.buffer]
    replaying = [p for p in sharing if p.phase is Phase.DATA]
    return next(iter([*replaying, *sharing]), plugin) is plugin


def check_views(strategy: Any, plugin: Any) -> None:
    """Raise ValueError if another plugin has a view of its own of Avalanche's same memory."""
    mine = _policy(plugin.buffer)
    for other in _storing(strategy):
        if other.buffer is not plugin.buffer and _policy(other.buffer) is mine is not None:
            raise ValueError(
                f"buffer={mine}: {type(other).__name__} has it, too, and both would "
                "write it; give both the same avalanche_ext.buffers.PolicyBuffer of it"
            )


def _storing(strategy: Any) -> list[Any]:
    return [p for p in strategy.plugins if isinstance(p, MethodPlugin) and p.stores]


def _policy(buffer: SlotBuffer) -> ExemplarsBuffer | None:
    return buffer.policy if isinstance(buffer, PolicyBuffer) else None
