"""Before torch is imported, one thread: with models this small, more cost more than they give."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep decoded data sets out of the user's cache, in subprocesses too."""
    os.environ["AVALANCHE_EXT_CACHE"] = str(tmp_path_factory.mktemp("cache"))
