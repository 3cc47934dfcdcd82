"""The files of an experiment: names and places, formats, writing and reading.

Load experiments with `load`. Nothing else is imported here, so that each module imports only what
it needs: configurations the names, plugins the exhibits' formats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avalanche_ext.results.data import Results, load

__all__ = ["Results", "load"]


def __getattr__(name: str) -> Any:
    # Not imported above, for the reason given there.
    if name in __all__:
        from avalanche_ext.results import data

        return getattr(data, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
