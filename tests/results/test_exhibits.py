"""Exhibits read back: files that cannot be read are left out and named."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avalanche_ext.report import write_report
from avalanche_ext.results.exhibits import (
    Edits,
    Exhibit,
    FisherSpectra,
    RhoSpectra,
    names_in,
    padded,
    table,
)
from avalanche_ext.results.experiment import Exhibits, read_exhibits, read_results
from tests.results.trees import (
    HASH,
    RHO,
    SPECTRUM,
    two_by_two,
    write_edits,
    write_experiment,
    write_result,
)

RNG = np.random.default_rng(0)
ARRAYS: dict[str, Any] = {
    "hash": np.array(HASH),
    "slot": np.array([0, 6]),
    "label": np.array([3, 8]),
    "n_edits": np.array([5, 1]),
    "original": RNG.uniform(size=(2, 1, 6, 5)).astype(np.float32),
    "edited": RNG.uniform(size=(2, 1, 6, 5)).astype(np.float32),
}
WHERE = "gmed/seed-0/edits.npz"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """`gmed` with a file of edits as runs write it, `other` with a sound one."""
    write_experiment(tmp_path, ["gmed", "other"], [0])
    for method in ("gmed", "other"):
        write_result(tmp_path, method, 0, two_by_two(0.5))
    np.savez_compressed(tmp_path / WHERE, **ARRAYS)
    arrays = (ARRAYS[name] for name in ("label", "n_edits", "original", "edited"))
    write_edits(tmp_path, "other", 0, *arrays)
    return tmp_path


def edits_of(directory: Path) -> Exhibits[Edits]:
    return read_exhibits(read_results(directory).with_first_runs(), Edits)


def is_left_out(directory: Path) -> bool:
    """Whether the file of `gmed` is reported as unreadable; if not, it must have been read."""
    edits = edits_of(directory)
    assert [*edits.methods][-1] == "other"
    assert len(edits.methods) + len(edits.unreadable) == 2
    return [*edits.unreadable] == [WHERE]


def test_a_sound_file_is_read(directory: Path) -> None:
    assert not is_left_out(directory)
    arrays = edits_of(directory).methods["gmed"][0].to_arrays()
    assert {*arrays} == {*ARRAYS} - {"hash"}
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, ARRAYS[name])


def test_truncated_files_are_left_out(directory: Path) -> None:
    path = directory / WHERE
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        assert is_left_out(directory)


def test_files_with_a_flipped_byte_are_left_out_or_hold_what_was_written(directory: Path) -> None:
    path = directory / WHERE
    whole = path.read_bytes()
    results = read_results(directory)
    kinds = set()
    for position in range(0, len(whole), 3):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        edits = read_exhibits(results, Edits)
        if edits.unreadable:
            kinds.add(edits.unreadable[WHERE].partition(":")[0])
        else:
            for name, array in edits.methods["gmed"][0].to_arrays().items():
                np.testing.assert_array_equal(array, ARRAYS[name])
    # The last is zlib.error.
    assert {"BadZipFile", "KeyError", "NotImplementedError", "error"} <= kinds


@pytest.mark.parametrize("content", [b"", b"text", np.zeros(3).tobytes()])
def test_files_that_are_something_else_are_left_out(directory: Path, content: bytes) -> None:
    (directory / WHERE).write_bytes(content)
    assert is_left_out(directory)


@pytest.mark.parametrize(
    "changed",
    [
        {"edited": ARRAYS["edited"][:1]},
        {"original": ARRAYS["original"][0], "edited": ARRAYS["edited"][0]},
        {"n_edits": np.array([5])},
        {"label": np.array([3, 8, 9])},
        {"label": np.array([{}, {}])},
    ],
)
def test_arrays_that_do_not_go_together_are_left_out(
    directory: Path, changed: dict[str, Any]
) -> None:
    np.savez_compressed(directory / WHERE, **{**ARRAYS, **changed})
    assert is_left_out(directory)


def test_a_missing_array_is_named(directory: Path) -> None:
    np.savez_compressed(directory / WHERE, **{k: ARRAYS[k] for k in ARRAYS if k != "n_edits"})
    assert is_left_out(directory)
    assert "n_edits" in edits_of(directory).unreadable[WHERE]


def test_the_report_names_the_file_and_draws_the_others(directory: Path) -> None:
    path = directory / WHERE
    path.write_bytes(path.read_bytes()[:-100])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = write_report(directory)
    assert "Left out: 1 unusable file (repeat its method's runs" in text
    assert f"\n  {WHERE}: BadZipFile: " in text
    assert text.startswith((directory / "report.txt").read_text(encoding="utf-8"))
    assert "edits.png are in" in text
    (directory / "other" / "seed-0" / "edits.npz").unlink()
    assert "edits.png are in" not in write_report(directory)
    assert not (directory / "edits.png").exists()


def test_a_file_of_another_configuration_than_the_result_is_named(directory: Path) -> None:
    np.savez_compressed(directory / WHERE, **{**ARRAYS, "hash": np.array("of another run")})
    assert is_left_out(directory)
    text = write_report(directory)
    assert f"\n  {WHERE}: ValueError: it comes from another configuration than the result" in text


def test_a_file_that_is_gone_is_named_if_the_result_names_it(directory: Path) -> None:
    (directory / WHERE).unlink()
    assert edits_of(directory).unreadable == {}
    write_result(directory, "gmed", 0, two_by_two(0.5), exhibits=["edits"])
    assert is_left_out(directory)
    assert f"\n  {WHERE}: FileNotFoundError: the run wrote this file" in write_report(directory)


@pytest.mark.parametrize(
    ("kind", "arrays"),
    [
        (Edits, {name: ARRAYS[name] for name in ARRAYS if name != "hash"}),
        (FisherSpectra, SPECTRUM),
        (RhoSpectra, RHO),
    ],
)
def test_an_exhibit_is_its_arrays(kind: type[Exhibit], arrays: dict[str, Any]) -> None:
    written = kind.from_arrays({**arrays, "more": np.zeros(1)}).to_arrays()
    assert {*written} == {*arrays}
    assert all(written[name] is arrays[name] for name in arrays)


def test_a_wrong_array_is_named_with_what_it_must_be() -> None:
    message = r"layer_rho has shape \(1, 2\).*but must have shape \(2, 2\) and hold floats"
    with pytest.raises(ValueError, match=message):
        RhoSpectra.from_arrays({**RHO, "layer_rho": RHO["layer_rho"][:1]})


def test_vectors_become_rows_that_end_with_nan() -> None:
    rows = padded([np.array([1.0, 2.0]), np.empty(0), np.array([3.0])])
    np.testing.assert_array_equal(rows, [[1, 2], [np.nan, np.nan], [3, np.nan]])
    assert padded([np.empty(0)] * 2).shape == (2, 0)


def test_a_table_has_a_column_for_each_name_of_any_row() -> None:
    rows = [{"b": 1.0}, {"a": 2.0, "b": 3.0}]
    names = names_in(rows)
    assert names == ["b", "a"]
    np.testing.assert_array_equal(table(rows, names), [[1, np.nan], [3, 2]])
    np.testing.assert_array_equal(table(rows, names, absent=0.0), [[1, 0], [3, 2]])
    assert table([{}, {}], []).shape == (2, 0)
