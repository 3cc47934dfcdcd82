"""The key of an experiment's folder."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from avalanche_ext.results.key import key_of


def test_all_that_ask_at_once_get_one_key_which_moves_with_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    with ThreadPoolExecutor(8) as several:
        (key,) = {*several.map(key_of, [folder] * 8)}
    assert len(key) == 32
    assert key_of(folder.rename(tmp_path / "moved")) == key
    assert key_of(tmp_path / "another") != key


def test_where_none_can_be_written_the_path_stands_for_it(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    assert key_of(file / "one") == str(file / "one")
