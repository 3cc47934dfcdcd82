"""Signatures of constructors, read from their source, so that defaults are stated only once."""

from __future__ import annotations

import ast
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from pydantic import ValidationError

from avalanche_ext.config.annotations import (
    Flag,
    Inexpressible,
    Integer,
    Number,
    Text,
    union,
    yaml_type,
)
from avalanche_ext.config.sources import (
    Found,
    Module,
    SourceError,
    assigned,
    bundled,
    class_attribute,
    dotted,
    find,
    is_file,
    load,
    referred,
    remembered,
)
from avalanche_ext.config.validation import adapter

NO_DEFAULT = object()
"""The default of a required parameter, or of one whose default is not a plain value."""

# Parameters without annotations in Avalanche whose values only Python can build.
_OBJECTS = ("augmentations", "generator_strategy", "model", "scheduler", "storage_policy")


@dataclass(frozen=True)
class Parameter:
    """One parameter of a constructor.

    Attributes:
        name: Its keyword.
        annotation: Its annotation as in the source, empty without one.
        type: The type, for pydantic, of the values that YAML can give; None if there are none.
        required: Whether it has no default.
        default: Its default if that is a plain value, otherwise `NO_DEFAULT`.
    """

    name: str
    annotation: str
    type: Any
    required: bool
    default: Any


@dataclass(frozen=True)
class Signature:
    """The signature of a class or function.

    Attributes:
        parameters: Its parameters, in order.
        summary: The first paragraph of its docstring.
        is_open: Whether it may accept other keywords: the effect of `**kwargs` or of a decorator
            shows only in a call.
        place: The place of its definition, `/home/ann/mine.py:12`; empty for Avalanche, torch and
            this package.
    """

    parameters: tuple[Parameter, ...]
    summary: str
    is_open: bool = False
    place: str = ""

    def defaults(self) -> dict[str, Any]:
        """Return the plain defaults by name."""
        return {p.name: p.default for p in self.parameters if p.default is not NO_DEFAULT}


_HARMLESS = (
    *("cache", "dataclass", "final", "lru_cache", "no_grad", "override", "validate_call"),
    *("handle_legacy_interface", "register_model"),  # torchvision's
)
"""Decorators that do not change a signature."""

_CLOSED = ("avalanche", "avalanche_ext", "torch")
"""Packages that pass all `**kwargs` to the base class."""

_WITHOUT_CONSTRUCTOR = ("object", "abc.ABC", "typing.Generic", "typing.Protocol", "torch.nn.Module")

_Parameters = tuple[list[Parameter], bool]
"""Parameters, and whether there may be others."""


def read_signature(target: str) -> Signature:
    """Read the signature of `package.module:Name` or `/folder/file.py:Name` from its source.

    The name may stand for a class, a function, or `partial(function, …)`.

    Raises:
        LookupError: If the target is not installed, or not in the file.
        SourceError: If its file cannot be read.
    """
    return _read_signature(target) if is_file(target) else _installed_signature(target)


@remembered
def _read_signature(target: str) -> Signature:
    found = locate(target)
    place = found[0].place(found[1])
    try:
        paragraph = _documentation(found).split("\n\n")[0]
        parameters, is_open = _parameters(found)
    except RecursionError:
        raise SourceError(f"{place}: its names refer to each other in a circle") from None
    place = "" if found[0].is_known else place
    return Signature(tuple(parameters), " ".join(paragraph.split()), is_open, place)


_installed_signature = cache(_read_signature)  # Installed packages do not change during the run.


@remembered
def keywords(target: str) -> set[str]:
    """Return the names of the arguments that a class or function takes, according to its source.

    The `**kwargs` of a function also take the arguments of the class in its return annotation, as
    in torchvision's functions for models.

    Raises:
        LookupError: If the target is not installed, or not in the file.
        SourceError: If its file cannot be read.
    """
    names = {parameter.name for parameter in read_signature(target).parameters}
    module, statement = locate(target)
    if not isinstance(statement, ast.FunctionDef) or not statement.args.kwarg:
        return names
    returned = referred(module, statement.returns) if statement.returns else None
    if not returned or not isinstance(returned[1], ast.ClassDef):
        return names
    of_class = {parameter.name for parameter in _parameters(returned)[0]}
    set_by_it = {word.arg for call in _passing_on(statement) for word in call.keywords}
    return names | (of_class - set_by_it)


@remembered
def locate(target: str) -> Found:
    """Find the definition of a target, `package.module:Name` or `/folder/file.py:Name`.

    Raises:
        LookupError: If the target is not installed, or not in the file.
        SourceError: If its file cannot be read.
    """
    module = load(target)
    found = find(module, target.rpartition(":")[2]) if module else None
    if found is None:
        raise LookupError(f"{target} is not installed, or its package does not export it")
    return found


def _documentation(found: Found) -> str:
    module, statement = found
    if isinstance(statement, ast.ClassDef | ast.FunctionDef):
        return ast.get_docstring(statement) or ""
    call = _partial(found)
    inner = call and referred(module, call.args[0])
    return _documentation(inner) if inner else ""


def _parameters(found: Found) -> _Parameters:
    """The keyword parameters of a function, a partial, or a class's `__init__`."""
    module, statement = found
    if isinstance(statement, ast.FunctionDef):
        return _of_function(module, statement)
    if isinstance(statement, ast.ClassDef):
        return _of_bundle(found) or _of_class(module, statement) or ([], False)
    call = _partial(found)
    inner = call and referred(module, call.args[0])
    if not call or not inner:
        return _of_value(found)
    bound = {word.arg: _plain(word.value, module) for word in call.keywords}
    parameters, is_open = _parameters(inner)
    return [
        replace(parameter, required=False, default=bound[parameter.name])
        if parameter.name in bound
        else parameter
        for parameter in parameters[len(call.args) - 1 :]
    ], is_open


def _of_value(found: Found) -> _Parameters:
    """The parameters of a value assigned to a name: another name, or one known only at run time."""
    module, _ = found
    value = assigned(found)
    if isinstance(value, ast.Lambda):
        return _of_arguments(module, value.args), value.args.kwarg is not None
    other = referred(module, value) if isinstance(value, ast.Name | ast.Attribute) else None
    return _parameters(other) if other else ([], not _is_closed(module))


def _of_bundle(found: Found) -> _Parameters | None:
    """The parameters of a strategy made of plugins: those of the plugins, each name once."""
    plugins = bundled(found)
    if not plugins:
        return None
    attribute = class_attribute(found, "renamed")
    renamed = ast.literal_eval(attribute) if attribute else {}
    of_plugins = [each for plugin in plugins for each in _parameters(plugin)[0]]
    names = [renamed.get(each.name, each.name) for each in of_plugins]
    renamed_parameters = {n: replace(p, name=n) for n, p in zip(names, of_plugins, strict=True)}
    return [*renamed_parameters.values()], False


def _of_class(module: Module, definition: ast.ClassDef) -> _Parameters | None:
    """The parameters of a class, or None if it takes the constructor of `object`.

    They are its own, and its base's if `__init__` is inherited or takes `**kwargs`.
    """
    if _is_decorated(module, definition):
        return [], True
    init = _init(definition)
    if init is None:
        of_bases = _of_bases(module, definition)
        if not _is_dataclass(definition):
            return of_bases
        fields = _fields(module, definition)
        inherited, is_open = of_bases or ([], False)
        return [*_without(inherited, fields), *fields], is_open
    own, is_open = _of_function(module, init)
    own = own[1:]
    if init.args.kwarg is None:
        return own, is_open
    inherited, base_is_open = _of_bases(module, definition) or ([], False)
    if _is_closed(module) or _passes_on(init):
        is_open = base_is_open
    return [*own, *_without(_left_open(init, inherited), own)], is_open


def _left_open(init: ast.FunctionDef, inherited: list[Parameter]) -> list[Parameter]:
    """Return the parameters of the base class that `__init__` does not set itself."""
    for call in _passing_on(init):
        called = ast.unparse(call.func)
        if not called.endswith(".__init__"):
            continue
        n_set = len(call.args) - (called != "super().__init__")  # `Base.__init__(self, …)`.
        words = {word.arg for word in call.keywords}
        inherited = [each for each in inherited[max(0, n_set) :] if each.name not in words]
    return inherited


def _passing_on(function: ast.FunctionDef) -> list[ast.Call]:
    """Return the calls that receive a function's `**kwargs`."""
    kwargs = function.args.kwarg
    return [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and kwargs
        for word in node.keywords
        if word.arg is None and isinstance(word.value, ast.Name) and word.value.id == kwargs.arg
    ]


def _without(parameters: list[Parameter], others: list[Parameter]) -> list[Parameter]:
    names = {other.name for other in others}
    return [parameter for parameter in parameters if parameter.name not in names]


def _of_bases(module: Module, definition: ast.ClassDef) -> _Parameters | None:
    """The parameters of the first base class that has a constructor; None if none has."""
    for base in definition.bases:
        if dotted(module, base) in _WITHOUT_CONSTRUCTOR:
            continue
        found = referred(module, base)
        if found is None and _is_closed(module):
            continue
        parameters = _constructor(found) if found else ([], True)
        if parameters is not None:
            return parameters
    return None


def _constructor(found: Found) -> _Parameters | None:
    module, statement = found
    if isinstance(statement, ast.ClassDef) and not bundled(found):
        return _of_class(module, statement)
    return _parameters(found)


def _is_closed(module: Module) -> bool:
    return module.folder is None and module.package in _CLOSED


def _init(definition: ast.ClassDef) -> ast.FunctionDef | None:
    methods = [each for each in definition.body if isinstance(each, ast.FunctionDef)]
    return next((each for each in reversed(methods) if each.name == "__init__"), None)


def _is_decorated(module: Module, statement: ast.ClassDef | ast.FunctionDef) -> bool:
    """Return whether a decorator may change the signature."""
    return not _is_closed(module) and any(
        _decorator(node) not in _HARMLESS for node in statement.decorator_list
    )


def _decorator(node: ast.expr) -> str:
    node = node.func if isinstance(node, ast.Call) else node
    return ast.unparse(node).rpartition(".")[2]


def _is_dataclass(definition: ast.ClassDef) -> bool:
    return any(_decorator(node) == "dataclass" for node in definition.decorator_list)


def _fields(module: Module, definition: ast.ClassDef) -> list[Parameter]:
    """The parameters of a dataclass: its fields."""
    parameters = []
    for line in definition.body:
        if not isinstance(line, ast.AnnAssign) or not isinstance(line.target, ast.Name):
            continue
        if ast.unparse(line.annotation).startswith(("ClassVar", "typing.ClassVar")):
            continue
        default = line.value
        if isinstance(default, ast.Call) and _decorator(default) == "field":
            words = {word.arg: word.value for word in default.keywords}
            if isinstance(init := words.get("init"), ast.Constant) and init.value is False:
                continue
            default = words.get("default") or words.get("default_factory")
        argument = ast.arg(line.target.id, line.annotation)
        parameters.append(_parameter(argument, default, module))
    return parameters


def _passes_on(init: ast.FunctionDef) -> bool:
    """Return whether the base class's constructor, and nothing else, receives `**kwargs`."""
    assert init.args.kwarg is not None
    name = init.args.kwarg.arg
    uses = [node for node in ast.walk(init) if isinstance(node, ast.Name) and node.id == name]
    passed = [call for call in _passing_on(init) if ast.unparse(call.func).endswith(".__init__")]
    return len(uses) == 1 and len(passed) == 1


def _of_function(module: Module, function: ast.FunctionDef) -> _Parameters:
    if _is_decorated(module, function):
        return [], True
    is_open = function.args.kwarg is not None and not _is_closed(module)
    return _of_arguments(module, function.args), is_open


def _of_arguments(module: Module, arguments: ast.arguments) -> list[Parameter]:
    positional = [*arguments.posonlyargs, *arguments.args]
    n_without = len(positional) - len(arguments.defaults)
    defaults: list[ast.expr | None] = [*[None] * n_without, *arguments.defaults]
    return [
        *(_parameter(*pair, module) for pair in zip(positional, defaults, strict=True)),
        *(
            _parameter(*pair, module)
            for pair in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        ),
    ]


def _partial(found: Found) -> ast.Call | None:
    value = assigned(found)
    is_partial = isinstance(value, ast.Call) and ast.unparse(value.func).endswith("partial")
    return value if is_partial and isinstance(value, ast.Call) and value.args else None


def _parameter(argument: ast.arg, default: ast.expr | None, module: Module) -> Parameter:
    plain = NO_DEFAULT if default is None else _plain(default, module)
    return Parameter(
        name=argument.arg,
        annotation=ast.unparse(argument.annotation) if argument.annotation else "",
        type=_type(argument.arg, argument.annotation, plain, module),
        required=default is None,
        default=plain,
    )


def _plain(node: ast.expr, module: Module) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError):  # TypeError: a list as the key of a mapping.
        pass
    found = find(module, node.id) if isinstance(node, ast.Name) else None
    value = assigned(found)
    return _plain(value, found[0]) if found and value is not None else NO_DEFAULT


def _type(name: str, annotation: ast.expr | None, default: Any, module: Module) -> Any:
    if annotation is None:
        return None if name in _OBJECTS else _like(default)
    try:
        expressible = yaml_type(annotation, module)
    except Inexpressible:
        return None
    except (ValueError, TypeError, IndexError, SyntaxError, RecursionError):
        return Any  # `Literal[A]` or `Json = list["Json"]` can only be resolved at run time.
    if not module.is_known and not _is_sound(expressible):
        return Any
    # A default that contradicts its annotation proves the annotation wrong: Avalanche has
    # `batch_size: int = None` and `temperature: int = 0.1`.
    if isinstance(default, float) and expressible == Integer:
        return Number
    return union([expressible, None]) if default is None else expressible


def _is_sound(type_: Any) -> bool:
    """Return whether pydantic can check values of a type, unlike `Annotated[str, Gt(0)]`."""
    try:
        adapter(type_).json_schema()
        values: tuple[Any, ...] = (None, "", 0, [], {})
        for value in values:
            with suppress(ValidationError):
                adapter(type_).validate_python(value)
    except Exception:
        return False
    return True


def _like(default: Any) -> Any:
    """Return the type of a parameter without annotation, inferred from its default."""
    if isinstance(default, bool):
        return Flag
    if isinstance(default, int | float):  # Avalanche's LwF also takes one alpha an experience.
        return union([Integer, Number, list[Any]])
    return Text if isinstance(default, str) else Any
