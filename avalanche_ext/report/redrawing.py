"""Decides which pictures must be redrawn: only those whose content has changed.

Drawing takes most of the time of a report.
"""

from __future__ import annotations

import copyreg
import hashlib
import importlib.metadata
import io
import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import avalanche_ext
from avalanche_ext.results.files import read_json, replacing

STAMP = ".pictures.json"
"""The file that records what the pictures in a folder were drawn from."""


def stamp_of(*shown: object) -> str:
    """Return a hash of everything that pictures depend on: their data and the drawing code."""
    digest = hashlib.sha256(importlib.metadata.version("matplotlib").encode())
    package = Path(avalanche_ext.__file__).parent
    for path in [*sorted((package / "report").glob("*.py")), package / "metrics" / "heatmap.py"]:
        digest.update(path.read_bytes())
    content = io.BytesIO()
    pickler = pickle.Pickler(content)
    # The pictures do not depend on the folder's place or name.
    pickler.dispatch_table = {**copyreg.dispatch_table, type(package): lambda path: (Path, ())}
    pickler.dump(shown)
    digest.update(content.getvalue())
    return digest.hexdigest()


def drawn_before(folder: Path, stamp: str) -> list[str] | None:
    """Return the names of the pictures in a folder that were drawn with this stamp.

    None if there are none, or if one is missing or was changed.
    """
    try:
        known = read_json(folder / STAMP)
        sizes = dict(known["sizes"])
        is_same = known["stamp"] == stamp and all(
            (folder / name).stat().st_size == size for name, size in sizes.items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return [*sizes] if is_same else None


def remember(folder: Path, stamp: str, names: Sequence[str]) -> None:
    """Record which pictures in a folder were drawn with this stamp.

    Raises:
        OSError: If the record cannot be written.
    """
    sizes = {name: (folder / name).stat().st_size for name in names}
    with replacing(folder / STAMP) as partial:
        partial.write_text(json.dumps({"stamp": stamp, "sizes": sizes}), encoding="utf-8")
