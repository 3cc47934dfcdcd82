"""The key of an experiment's folder, which distinguishes experiments of the same name."""

from __future__ import annotations

import secrets
from pathlib import Path

from avalanche_ext.results.claims import ClaimedError, claimed
from avalanche_ext.results.files import CLAIMS, KEY, replacing

_PATIENCE = 10.0


def key_of(folder: Path) -> str:
    """Return the random key in an experiment's folder, creating it when first needed.

    It moves with the folder. If it cannot be written, the folder's path is used instead.
    """
    file = folder / KEY
    try:
        if not file.exists():
            with claimed(folder / CLAIMS / "key.lock", _PATIENCE):
                if not file.exists():
                    with replacing(file) as partial:
                        partial.write_text(secrets.token_hex(16), "utf-8")
        return file.read_text("utf-8")
    except (OSError, ClaimedError):
        return str(folder.resolve())
