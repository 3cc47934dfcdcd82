"""State files of any content: one line each, and results that cannot be read are run again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from avalanche_ext.cli import main
from avalanche_ext.results.cell import read_events
from avalanche_ext.results.experiment import read_results
from tests.results.test_store import OLD, RESULT, files
from tests.results.trees import write_experiment

WHOLE = {"format": 1, "hash": OLD, "exhibits": [], **RESULT}

BROKEN: dict[str, bytes] = {
    "empty": b"",
    "binary": bytes(range(256)),
    "utf-16": json.dumps(WHOLE).encode("utf-16"),
    "cut": json.dumps(WHOLE).encode()[:-20],
    "nested": b'{"hash":"%s","R":' % OLD.encode() + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a list": b"[1]",
    "null": b"null",
    **{
        name: json.dumps(WHOLE | changed).encode()
        for name, changed in {
            "hash of another type": {"hash": [1]},
            "format": {"format": 0},
            "R is text": {"R": "\x1b[2Jx"},
            "R is ragged": {"R": [[0.1, 0.2], [0.3]]},
            "R is nested": {"R": [[[0.1]]]},
            "R is out of range": {"R": [[5.0, 0.0], [0.0, 0.0]]},
            "seconds": {"seconds": 3},
            "versions": {"versions": [1]},
            "exhibits": {"exhibits": 5},
            "untrained": {"untrained": None},
            "test sizes": {"test_sizes": {"a": 1}},
        }.items()
    },
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_result_that_cannot_be_read_is_set_aside_and_run_again(tmp_path, capsys, name):
    one = files(tmp_path)
    one.begin()
    path = one.folder / "result.json"
    path.write_bytes(BROKEN[name])
    assert not one.is_done()
    capsys.readouterr()
    one.begin()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said[:-1].isprintable()
    assert "this result cannot be read, and the run starts over" in said
    assert (one.folder / "result-broken-1.json").read_bytes() == BROKEN[name]
    one.write_result(RESULT)
    assert one.is_done()


@pytest.mark.parametrize("name", BROKEN)
def test_the_report_names_it_in_one_line(tmp_path, name):
    write_experiment(tmp_path, ["er"], [3], hashes={"er": {3: OLD}})
    for file in ("result.json", "failure.json"):
        folder = tmp_path / "er" / "seed-3"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(BROKEN[name])
        message = read_results(tmp_path).methods[0].failures.get(3, "")
        assert message.isprintable()
        (folder / file).unlink()


def test_a_later_versions_result_is_refused_and_stays(tmp_path):
    one = files(tmp_path)
    one.begin()
    path = one.folder / "result.json"
    path.write_text(json.dumps(WHOLE | {"format": 2}))
    for use in (one.is_done, one.begin):
        with pytest.raises(OSError, match=r"result\.json: .* later version; update avalanche-ext"):
            use()
    assert json.loads(path.read_text())["format"] == 2
    write_experiment(tmp_path / "exp", ["er"], [3], hashes={"er": {3: OLD}})
    assert "later version" in read_results(tmp_path / "exp").methods[0].failures[3]


def test_a_result_that_the_system_refuses_at_present_is_not_set_aside(tmp_path, monkeypatch):
    one = files(tmp_path)
    one.begin()
    one.write_result(RESULT)
    path = one.folder / "result.json"
    read = Path.read_text

    def fail(this, *args, **options):
        if this == path:
            raise OSError(116, "Stale file handle")
        return read(this, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", fail)
        for use in (one.is_done, one.begin):
            with pytest.raises(OSError, match="Stale file handle"):
                use()
    assert one.is_done()


def test_a_failure_next_to_a_result_is_removed(tmp_path):
    one = files(tmp_path)
    one.begin()
    one.write_result(RESULT)
    assert one.is_tidy()
    one.write_failure("not seen")
    assert not one.is_tidy()
    one.bring_back()
    assert one.is_tidy()
    assert not one.has_failed()


def test_what_is_done_stays_done(tmp_path):
    one = files(tmp_path)
    one.begin()
    one.write_result(RESULT)
    assert one.is_done()
    assert json.loads((one.folder / "result.json").read_text())["weights"] == RESULT["weights"]


EXPERIMENTS: dict[str, bytes] = {
    "binary": bytes(range(256)),
    "utf-16": "name: a".encode("utf-16"),
    "nested": b"name: " + b"[" * 3000 + b"]" * 3000,
    "a list": b"[1]",
    "steering": b'name: "\\e[2J"\nbaseline: null\nmethods: []\nseeds: []\n',
    "methods": b"name: a\nbaseline: null\nmethods: 5\nseeds: [0]\n",
    "a method": b"name: a\nbaseline: null\nmethods: [[1]]\nseeds: [0]\n",
    "seeds": b"name: a\nbaseline: null\nmethods: [er]\nseeds: {a: 1}\n",
    "a seed": b"name: a\nbaseline: null\nmethods: [er]\nseeds: [x]\n",
    "hashes": b"name: a\nbaseline: null\nmethods: [er]\nseeds: [0]\nhashes: [1]\n",
    "claims": b"name: a\nbaseline: null\nmethods: [er]\nseeds: [0]\nclaims: 3\n",
    "sweeps": b"name: a\nbaseline: null\nmethods: [er]\nseeds: [0]\nsweeps: {a: 1}\n",
    "published": b"name: a\nbaseline: null\nmethods: [er]\nseeds: [0]\npublished: {ACC: 5}\n",
    "a date": b"name: 2020-99-99\nbaseline: null\nmethods: [er]\nseeds: [0]\n",
    "a tag": b"!!python/object:os.system {}\n",
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_that_cannot_be_read_is_one_line_of_the_report(tmp_path, capsys, name):
    (tmp_path / "record.yaml").write_bytes(EXPERIMENTS[name])
    assert main(["report", str(tmp_path)]) == 2
    out, said = capsys.readouterr()
    assert not out
    assert said.count("\n") == 1
    assert said[:-1].isprintable()
    assert "record.yaml: " in said


def test_the_error_of_a_failed_run_cannot_steer_the_terminal(tmp_path):
    one = files(tmp_path)
    one.begin()
    one.write_failure("bad \x1b[2J\x07 thing\nand more")
    assert one.failure() == r"bad \x1b[2J\x07 thing and more"
    write_experiment(tmp_path / "exp", ["er"], [3], hashes={"er": {3: OLD}})
    assert read_results(tmp_path / "exp").methods[0].failures[3].isprintable()


def test_damaged_events_are_left_out(tmp_path):
    lines = [b'{"time": 1, "event": "start"}', b"\xff\xfe", b"[1]", b'{"event": "x"}', b"{" * 9000]
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    assert read_events(tmp_path, 0.0) == [{"time": 1, "event": "start"}]


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"a: " + b"[" * 3000, b"- 1", b"x: !!timestamp 1"]
)
def test_a_config_that_cannot_be_read_counts_as_none(tmp_path, content: bytes):
    one = files(tmp_path)
    one.begin()
    assert one.has_begun()
    (one.folder / "config.yaml").write_bytes(content)
    assert not one.has_begun()
    one.begin()
    assert one.has_begun()
