"""The folder of data sets, if the user names one."""

from __future__ import annotations

import os
from pathlib import Path

DATA_ROOT_VARIABLE = "AVALANCHE_EXT_DATA"


def given_data_root(data_root: Path | None) -> Path | None:
    """Return `data_root`, otherwise $AVALANCHE_EXT_DATA, otherwise None."""
    if data_root is None and os.environ.get(DATA_ROOT_VARIABLE):
        return Path(os.environ[DATA_ROOT_VARIABLE])
    return data_root
