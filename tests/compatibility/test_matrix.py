"""Every plugin in every strategy, on every kind of stream, works or is refused with a reason."""

from __future__ import annotations

import pytest

from tests.compatibility.cells import FINE
from tests.compatibility.page import PARTS, found, page
from tests.compatibility.parts import FOLDER

pytestmark = pytest.mark.matrix


@pytest.mark.parametrize("part", PARTS)
def test_every_cell_works_or_is_refused_with_a_reason(part: str) -> None:
    failed = {str(cell): each for cell, each in found(part).items() if each.end not in FINE}
    assert not failed, "\n".join(
        f"{cell}: {each.end.value}, {each.reason}" for cell, each in failed.items()
    )


def test_the_page_shows_how_the_cells_end() -> None:
    shown = (FOLDER / "matrix.md").read_text("utf-8")
    assert page({part: found(part) for part in PARTS}) == shown
