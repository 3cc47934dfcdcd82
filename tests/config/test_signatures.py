from __future__ import annotations

import inspect
import sys
import uuid
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from avalanche.training.templates import SupervisedTemplate

from avalanche_ext.config.annotations import describe
from avalanche_ext.config.catalogue import KINDS, OURS
from avalanche_ext.config.signatures import NO_DEFAULT, Parameter, Signature, read_signature
from avalanche_ext.config.validation import validate

Package = Callable[..., str]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """Write a package of source files; return its name, which no other test has used."""

    def write(**modules: str) -> str:
        name = f"toy_{uuid.uuid4().hex}"
        folder = tmp_path / name
        folder.mkdir()
        for module, source in {"__init__": "", **modules}.items():
            (folder / f"{module}.py").write_text(dedent(source).replace("PACKAGE", name))
        monkeypatch.syspath_prepend(tmp_path)
        return name

    return write


def parameters_of(signature: Signature) -> dict[str, Parameter]:
    return {parameter.name: parameter for parameter in signature.parameters}


def only_parameter(package: Package, declaration: str, before: str = "") -> Parameter:
    source = f"{dedent(before)}\ndef function({declaration}): ...\n"
    signature = read_signature(f"{package(module=source)}.module:function")
    return signature.parameters[0]


def test_a_class_is_read_without_being_imported(package: Package) -> None:
    name = package(
        module='''
        raise RuntimeError("imported")

        class Plugin:
            """First line
            and second.

            Second paragraph.
            """

            def __init__(self, size: int = 3, /, rate=0.5, *, name: str): ...
        '''
    )
    signature = read_signature(f"{name}.module:Plugin")
    assert signature.summary == "First line and second."
    assert [
        (parameter.name, parameter.required, parameter.default)
        for parameter in signature.parameters
    ] == [("size", False, 3), ("rate", False, 0.5), ("name", True, NO_DEFAULT)]
    assert name not in sys.modules


@pytest.mark.parametrize(
    ("declaration", "admitted"),
    [
        ("x: int", "integer"),
        ("x: float", "number"),
        ("x: 'bool'", "true | false"),
        ("x: str | None", "text | null"),
        ("x: Optional[int]", "integer | null"),
        ("x: typing.Union[int, 'str']", "integer | text"),
        ("x: PositiveInt", "integer > 0"),
        ("x: pydantic.NonNegativeFloat", "number >= 0"),
        ("x: Annotated[float, Field(gt=0, le=1)]", "number > 0 and <= 1"),
        ("x: Annotated[int, Ge(2)]", "integer >= 2"),
        ("x: list[PositiveInt]", "list of integer > 0"),
        ("x: Sequence[float]", "list of number"),
        ("x: tuple[float, float]", "[number, number]"),
        ("x: tuple[int, ...]", "list of integer"),
        ("x: dict[str, float]", "mapping"),
        ("x: Literal['a', 'b'] | Buffer", "'a' | 'b'"),
        ("x: int | Literal['seed'] | None", "integer | 'seed' | null"),
        ("x: float | torch.Tensor", "number"),
        ("x: Path", "text"),
        ("x", "any value"),
        ("x=1", "integer | number | list of any value"),
        ("x=True", "true | false"),
        ("x='mean'", "text"),
        ("x: int = None", "integer | null"),
        ("x: int = 0.1", "number"),
    ],
)
def test_annotations_keep_what_yaml_can_express(
    package: Package, declaration: str, admitted: str
) -> None:
    assert describe(only_parameter(package, declaration).type) == admitted


@pytest.mark.parametrize(
    "declaration",
    [
        "x: Buffer",
        "x: Buffer | None = None",
        "x: 'Optional[Buffer]' = None",
        "x: list[Tensor]",
        "x: torch.device",
        "x: Callable[[int], int]",
        "scheduler",
    ],
)
def test_objects_cannot_be_set_from_yaml(package: Package, declaration: str) -> None:
    assert only_parameter(package, declaration).type is None


def test_aliases_and_constants_are_followed_through_imports(package: Package) -> None:
    name = package(
        __init__="from PACKAGE.names import *",
        names="Mode: TypeAlias = Literal['fast', 'slow']\nDEFAULT = 'fast'\n",
        module="""
        from . import Mode as HowFast
        from .names import DEFAULT

        def function(mode: HowFast = DEFAULT): ...
        """,
    )
    (mode,) = read_signature(f"{name}.module:function").parameters
    assert (describe(mode.type), mode.default) == ("'fast' | 'slow'", "fast")


def test_a_default_that_is_no_plain_value_is_no_default_but_makes_it_optional(
    package: Package,
) -> None:
    parameter = only_parameter(package, "x: float = make()")
    assert parameter.default is NO_DEFAULT
    assert not parameter.required


def test_an_inherited_constructor_and_forwarded_keywords_are_found(package: Package) -> None:
    name = package(
        base="""
        class Base:
            def __init__(self, size: int = 1, rate: float = 0.5): ...
        """,
        module="""
        from PACKAGE.base import Base

        class Inherits(Base): ...

        class Forwards(Base):
            def __init__(self, extra: str, size: int = 2, **kwargs): ...

        class Replaces(Base):
            def __init__(self, extra: str): ...
        """,
    )
    defaults = {
        target: {
            key: parameter.default
            for key, parameter in parameters_of(read_signature(f"{name}.module:{target}")).items()
        }
        for target in ("Inherits", "Forwards", "Replaces")
    }
    assert defaults == {
        "Inherits": {"size": 1, "rate": 0.5},
        "Forwards": {"extra": NO_DEFAULT, "size": 2, "rate": 0.5},
        "Replaces": {"extra": NO_DEFAULT},
    }


def test_a_partial_has_what_its_function_leaves_open(package: Package) -> None:
    name = package(
        module='''
        from functools import partial

        def function(kind: str, size: int = 1, *, rate: float):
            """Does it."""

        target = partial(function, "digits", rate=0.1)
        '''
    )
    signature = read_signature(f"{name}.module:target")
    assert signature.summary == "Does it."
    assert {key: p.default for key, p in parameters_of(signature).items()} == {
        "size": 1,
        "rate": 0.1,
    }
    assert not parameters_of(signature)["rate"].required


@pytest.mark.parametrize("target", ["no_such_package.module:X", "yaml.no_such_module:X", "yaml:X"])
def test_a_target_that_is_not_there_is_named(target: str) -> None:
    with pytest.raises(LookupError, match=target):
        read_signature(target)


@pytest.mark.parametrize(
    "target", [entry.target for kind in KINDS for entry in OURS[kind].values()]
)
def test_what_is_read_of_ours_is_what_python_sees(target: str) -> None:
    module, _, name = target.partition(":")
    seen = _keyword_parameters(getattr(import_module(module), name))
    read = parameters_of(read_signature(target))
    assert {key: parameter.required for key, parameter in read.items()} == {
        key: parameter.default is parameter.empty for key, parameter in seen.items()
    }
    for key, parameter in read.items():
        if parameter.default is not NO_DEFAULT:
            assert parameter.default == seen[key].default
            if parameter.type is not None:
                assert validate(parameter.type, parameter.default, key)[1] == []


def _keyword_parameters(target: Any) -> dict[str, inspect.Parameter]:
    """What Python admits by keyword, without what Avalanche's template adds to a strategy."""
    parameters = dict(inspect.signature(target).parameters)
    if isinstance(target, type) and issubclass(target, SupervisedTemplate):
        for name in inspect.signature(SupervisedTemplate).parameters:
            parameters.pop(name, None)
    return parameters
