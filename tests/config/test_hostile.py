"""YAML files that are broken, absurd or malicious get a plain error after bounded work."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import pytest

from avalanche_ext.config import ConfigError, load_experiment
from avalanche_ext.config.errors import MOST_PROBLEMS
from avalanche_ext.config.reader import DEEPEST, LONGEST, MOST_VALUES, read_file, read_text
from tests.config.cases import EXPERIMENT, experiment_with, loaded, problems_of, written
from tests.config.fuzzing import mutants

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
MERGED_LAUGHS = "a0: &a0 {k: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 12)
)
CHAIN = "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 500))


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read_text(text, "x.yaml")
    return str(caught.value)


def problems(text: str) -> list[str]:
    return [str(problem) for problem in read_text(text, "x.yaml")[1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "a3: has more than 10,000 values"),
        (MERGED_LAUGHS, "a4.<<: has more than 10,000 values"),
        (CHAIN, "a49: is nested more than 50 levels deep"),
        ("a: " + "[" * 500 + "]" * 500, "not valid YAML: nested more than 50 levels deep"),
        ("a: " + "[" * 50_000, "not valid YAML: nested more than 50 levels deep"),
        ("- " * 40_000, "not valid YAML: nested more than 50 levels deep"),
        ("a: " + "{a: " * 500, "not valid YAML: nested more than 50 levels deep"),
        ("a: &a {b: [*a]}", "a.b[0]: contains itself through an anchor"),
        ("a: *b", "x.yaml:1:4: not valid YAML: found undefined alias 'b'"),
        ("a: !!bool maybe", "x.yaml:1:4: not valid YAML: 'maybe' does not fit the tag !!bool"),
        ("a: !!int ''", "x.yaml:1:4: not valid YAML: '' does not fit the tag !!int"),
        ("a: !!float x", "x.yaml:1:4: not valid YAML: 'x' does not fit the tag !!float"),
        ("a: !!null x", "x.yaml:1:4: not valid YAML: 'x' does not fit the tag !!null"),
        (
            "a: !!python/object/apply:os.system ['true']",
            "x.yaml:1:4: not valid YAML: the tag !!python/object/apply:os.system has no meaning "
            "here: leave it out",
        ),
        ("a: !!set {b}", "the tag !!set has no meaning here: leave it out"),
        ("a: !!binary aGk=", "the tag !!binary has no meaning here: leave it out"),
        ("a: !!str {b: 1}", "the tag !!str has no meaning here: leave it out"),
        ("a: !!seq b", "the tag !!seq has no meaning here: leave it out"),
        ("a: !mine b", "the tag !mine has no meaning here: leave it out"),
        (
            "<<: 3",
            "not valid YAML: '<<' must be followed by an alias of a mapping, or a list of them",
        ),
        (
            "<<: [{a: 1}, 3]",
            "not valid YAML: '<<' must be followed by an alias of a mapping, or a list of them",
        ),
        ("? [a]\n: 1", "x.yaml:1:3: not valid YAML: a key must be text, not a list or a mapping"),
        ("{a: 1}: 1", "x.yaml:1:1: not valid YAML: a key must be text, not a list or a mapping"),
        ('a: "\\ud800"', "not valid YAML: the text has a surrogate, which is half a character"),
        ('"\\ud800": 1', "not valid YAML: the text has a surrogate, which is half a character"),
        (
            'a: "\\UFFFFFFFF"',
            "not valid YAML: a text in double quotes has an unknown escape",
        ),
        ("a: 1\nb: \0", r"x.yaml:2: not valid YAML: the character '\x00' is not allowed"),
        ("a:\n\t- 1", "x.yaml:2:1: not valid YAML: found a tab: indent with spaces"),
        ("a: [1,\nb: 2", "not valid YAML: a bracket or brace is left open"),
        ("a: 'b", "x.yaml:1:6: not valid YAML: a quote is left open"),
        (
            "a: b: c",
            "x.yaml:1:5: not valid YAML: found ': ' where no key is allowed: check the "
            "indentation, or quote the text",
        ),
        ("a: 1\n---\nb: 2", "expected a single document in the stream"),
        ("a" * (LONGEST + 1), "x.yaml: is longer than 100,000 characters"),
        ("a: [" + "1, " * MOST_VALUES + "]", "a: has more than 10,000 values"),
    ],
)
def test_text_that_cannot_be_meant_is_refused_in_one_line(text: str, message: str) -> None:
    line = refusal(text)
    assert message in line
    assert "\n" not in line
    assert len(line) < 300


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: " + "9" * 5000, "but must not be an integer of more than 250 digits"),
        ("a: 0x" + "f" * 5000, "but must not be an integer of more than 250 digits"),
        ("a: 1e" + "9" * 400, "but must be a finite number"),
        ("a: " + "9" * 400 + ".5", "but must be a finite number"),
        ("~: 1", "~: a key must be text: quote it as '~'"),
        ("1.5: 1", "1.5: a key must be text: quote it as '1.5'"),
        ("true: 1", "true: a key must be text: quote it as 'true'"),
    ],
)
def test_numbers_beyond_all_bounds_and_keys_that_are_no_text_are_named(
    text: str, message: str
) -> None:
    (line,) = problems(text)
    assert message in line
    assert len(line) < 200


def test_merge_signs_that_are_values_are_text() -> None:
    assert read_text("a: <<", "x.yaml") == ({"a": "<<"}, [])


def test_a_long_key_is_shown_in_part() -> None:
    (line,) = problems("? " + "9" * 50_000 + "\n: 1")
    assert len(line) < 5000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: 1".encode("utf-16"), "is text in UTF-16, but must be in UTF-8: save it as UTF-8"),
        (bytes(range(128, 256)), "not a text file in UTF-8: byte 0 cannot be read"),
        (b"\x7fELF\0\0", r"the character '\x7f' is not allowed"),
        (b"a" * 10_000_000, "is longer than 100,000 characters"),
        ("é".encode() * 1_000_000, "is longer than 100,000 characters"),
    ],
)
def test_files_that_are_no_text_or_too_long_are_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_file(path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (".", ".: is a folder, but must be a YAML file"),
        ("a\0b", "not a path: embedded null byte"),
        ("x" * 5000, "File name too long"),
        ("", ".: is a folder, but must be a YAML file"),
    ],
)
def test_paths_that_are_no_file_are_refused(path: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_experiment(path)
    assert message in str(caught.value)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs /dev/zero")
def test_an_endless_file_is_read_no_further_than_is_allowed() -> None:
    with pytest.raises(ConfigError, match="is longer than 100,000 characters"):
        read_file(Path("/dev/zero"))


def swept(values: list[Any]) -> dict[str, Any]:
    plugins = ["balanced_replay", {"drl": {"alpha": 2}}]
    return {"plugins": plugins, "sweep": {"plugins[1].drl.lam": values}}


@pytest.mark.parametrize(
    ("document", "last_line"),
    [
        (experiment_with(seeds=[*range(2000)], name=3), "name: is 3, but must be text"),
        (
            experiment_with(methods={"m": swept([float(n) for n in range(1500)])}),
            "methods.m.sweep.plugins[1].drl.lam: is [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, "
            "9.0, 10.0, ..., but must be at most 1000 long",
        ),
        (
            experiment_with(
                methods={f"m{k}": swept([float(n) for n in range(500)]) for k in range(4)}
            ),
            "methods: has more than 1,000 methods, counting each setting of a sweep",
        ),
        (
            experiment_with(methods={f"m{n}": None for n in range(1200)}),
            "methods: has more than 1,000 methods, counting each setting of a sweep",
        ),
        (
            experiment_with(methods={"m": {"plugins": ["mas"] * 500}}),
            "methods.m.plugins: is "
            '["mas", "mas", "mas", "mas", "mas", "mas", "mas", "mas", ..., but must be at most 100 '
            "long",
        ),
    ],
)
def test_sizes_beyond_all_use_are_refused(
    tmp_path: Path, document: dict[str, Any], last_line: str
) -> None:
    assert last_line in problems_of(document, tmp_path)


@pytest.mark.parametrize(
    ("document", "n_more"),
    [
        (experiment_with(**{f"unknown{n}": 1 for n in range(3000)}), 2900),
        (experiment_with(methods={"m": {f"plugin{n}": 1 for n in range(3000)}}), 2900),
        (experiment_with(seeds=[-n for n in range(1, 4001)]), 3900),
        (experiment_with(methods={f"m {n}": None for n in range(800)}), 700),
    ],
)
def test_only_the_first_problems_are_looked_into(
    tmp_path: Path, document: dict[str, Any], n_more: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches = []
    search = difflib.get_close_matches

    def counted(*args: Any, **kwargs: Any) -> list[str]:
        searches.append(args[0])
        return search(*args, **kwargs)

    monkeypatch.setattr(difflib, "get_close_matches", counted)
    lines = problems_of(document, tmp_path)
    assert len(lines) <= MOST_PROBLEMS + 1
    assert len(searches) <= MOST_PROBLEMS
    assert f"has {n_more:,} more problems like these" in lines[-1] or "more problems" in lines[-1]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("a" + "[0]" * 500 + "=1", "there is no 'a'"),
        (".".join(["a"] * 500) + "=1", f"is nested more than {DEEPEST} levels deep"),
        ("methods.drl.plugins[" + "9" * 5000 + "]=1", "not a path such as"),
        ("[0]=1", "[0]: 'experiment' is not a list"),
        ("optimizer.lr=" + "1" * 5000, "must not be an integer of more than 250 digits"),
        ("optimizer.lr=!!bool x", "optimizer.lr:1:1: not valid YAML: 'x' does not fit the tag"),
        ("seeds=" + "[" * 500, "nested more than 50 levels deep"),
        ("name=" + "x" * 200_000, "name: is longer than 100,000 characters"),
        ("training.batch_size=" + "9" * 30, "but must be an integer of at most 64 bits"),
        ("model.hidden_sizes=[" + "9" * 30 + "]", "but must be an integer of at most 64 bits"),
    ],
)
def test_hostile_overrides_get_an_answer(tmp_path: Path, override: str, message: str) -> None:
    lines = problems_of(EXPERIMENT, tmp_path, override)
    assert message in lines[0]
    assert len(lines[0]) < 1500


def test_a_plugin_without_a_name_is_no_list_of_plugins(tmp_path: Path) -> None:
    document = experiment_with(methods={"m": {"plugins": [{}]}})
    assert problems_of(document, tmp_path) == [
        "methods.m.plugins[0]: is {}, but must be a plugin's name, or its name and arguments"
    ]


def answered(text: str, path: Path) -> None:
    """Load a mutant, which must be accepted, or refused in printable lines."""
    path.write_text(text, encoding="utf-8", newline="")
    try:
        load_experiment(path)
    except ConfigError as error:
        lines = str(error).splitlines()
        assert lines
        assert all(line.isprintable() and ": " in line for line in lines)
        assert len(lines) <= MOST_PROBLEMS + 1


def test_mutated_experiments_are_accepted_or_refused_in_words(tmp_path: Path) -> None:
    for text in mutants(100, seed=0):
        answered(text, tmp_path / "x.yaml")


@pytest.mark.paper
def test_thousands_of_mutated_experiments_are_accepted_or_refused_in_words(tmp_path: Path) -> None:
    for text in mutants(20_000, seed=1):
        answered(text, tmp_path / "x.yaml")


def test_all_unmutated_experiments_are_small(tmp_path: Path) -> None:
    path = written(experiment_with(), tmp_path)
    assert len(path.read_text()) < LONGEST / 100
    assert loaded(EXPERIMENT, tmp_path).name == "small"
