"""No test of this folder writes to wandb's folders at home."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def wandb_away_from_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
            patch.setenv(variable, str(tmp_path_factory.mktemp("wandb")))
        yield
