"""Reads what an offline wandb run really left on disk.

A .wandb file holds 7 bytes of header, then blocks of 32 KiB with LevelDB's log records: checksum
(4 bytes), length (2), kind (1: whole, 2: first, 3: middle, 4: last part), payload; the payload is
wandb's own protocol buffer.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

from avalanche_ext.tracking import WandbSink
from tests.tracking.cases import RESULT, report_experiences, run_in

HEADER = 7
BLOCK = 32 * 1024


@dataclass
class StoredRun:
    run: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, str] = field(default_factory=dict)
    environment: Any = None
    artifacts: list[Any] = field(default_factory=list)
    exit_code: int | None = None


def read_stored_run(directory: Path, patience: float = 10.0) -> StoredRun:
    """Read a finished run; `finish` returns before the service has written the last records."""
    (file,) = directory.glob("run-*.wandb")
    end = time.monotonic() + patience
    while (stored := _interpret(file)).exit_code is None:
        assert time.monotonic() < end, f"{file} was never finished"
        time.sleep(0.02)
    return stored


def _interpret(file: Path) -> StoredRun:
    stored = StoredRun()
    for payload in _records(file.read_bytes()):
        record = Record()
        record.ParseFromString(payload)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            stored.run = record.run
            stored.config |= _items(record.run.config.update)
        elif kind == "config":
            stored.config |= _items(record.config.update)
        elif kind == "history":
            stored.history.append(_items(record.history.item))
        elif kind == "summary":
            stored.summary |= _items(record.summary.update)
        elif kind == "metric":
            stored.metrics[record.metric.name or record.metric.glob_name] = (
                record.metric.step_metric
            )
        elif kind == "environment":
            stored.environment = stored.environment or record.environment
        elif kind == "artifact":
            stored.artifacts.append(record.artifact)
        elif kind == "exit":
            stored.exit_code = record.exit.exit_code
    return stored


def _records(content: bytes) -> Iterator[bytes]:
    place, parts = HEADER, b""
    while place + 7 <= len(content):
        left_in_block = BLOCK - place % BLOCK
        if left_in_block < 7:
            place += left_in_block
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        if place + 7 + length > len(content):
            return  # still being written
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield parts
            parts = b""


def _items(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def finished_run(directory: Path) -> tuple[Path, StoredRun]:
    sink = WandbSink("offline", project="a-project")
    sink.start(run_in(directory))
    report_experiences(sink)
    sink.finish(RESULT)
    assert sink.offline_directory is not None
    return sink.offline_directory, read_stored_run(sink.offline_directory)
