"""Names of classes and functions from other packages and the user's files.

They are `avalanche:Name`, `torchvision:name`, `package.module:Name`, `./file.py:Name` relative to
the YAML, and short names that installed packages register under the entry-point group
`avalanche_ext`. All are looked up in source files; nothing is imported.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from avalanche_ext.config.catalogue import AVALANCHE, Entry, Kind
from avalanche_ext.config.signatures import locate
from avalanche_ext.config.sources import (
    Module,
    ancestry,
    defined_names,
    dotted,
    files_stay,
    find,
    is_beside,
    load,
    load_beside,
    load_module,
    remembered,
)
from avalanche_ext.words import did_you_mean

GROUP = "avalanche_ext"
"""The entry-point group under which a package registers short names."""

TORCHVISION = "torchvision:"
"""Prefix of names that are looked up in torchvision."""

_MODULES: dict[str, dict[Kind, tuple[str, ...]]] = {
    AVALANCHE: {
        "benchmark": ("avalanche.benchmarks.classic",),
        "model": ("avalanche.models",),
    },
    TORCHVISION: {
        "model": ("torchvision.models",),
        "dataset": ("torchvision.datasets",),
        "transform": ("torchvision.transforms.v2",),
    },
}
"""The modules in which names with a prefix are looked up, by kind."""

_ROOTS: dict[str, Kind] = {
    "BasePlugin": "plugin",
    "BaseSGDPlugin": "plugin",
    "SupervisedPlugin": "plugin",
    "SupervisedMetaLearningPlugin": "plugin",
    "BaseTemplate": "strategy",
    "BaseSGDTemplate": "strategy",
    "SupervisedTemplate": "strategy",
    "SupervisedMetaLearningTemplate": "strategy",
    "CLScenario": "benchmark",
    "_Loss": "criterion",
    "Module": "model",
    "Optimizer": "optimizer",
    "LRScheduler": "scheduler",
    "Dataset": "dataset",
    "Transform": "transform",
}
"""The kind of a class, by the name of its base class in Avalanche or torch."""

_IMPORTERS = {
    "import_module": ("name", "package"),
    "__import__": ("name", "globals", "locals", "fromlist", "level"),
}
"""Functions that import a module, and their parameters."""

_FOLDER = ContextVar("folder", default=Path())


@contextmanager
def relative_to(folder: Path) -> Iterator[None]:
    """Resolve files in names relative to this folder, the YAML's, instead of the working directory.

    The sections that contain names do not know where the YAML is.
    """
    token = _FOLDER.set(folder)
    try:
        with files_stay():
            yield
    finally:
        _FOLDER.reset(token)


def is_open_name(name: str) -> bool:
    """Return whether a name includes its location: `torchvision:resnet18`."""
    return ":" in name or name.endswith(".py")


def open_entry(kind: Kind, name: str) -> Entry:
    """Return the entry of an open name.

    Args:
        kind: The required kind; decides where a name with a prefix is looked up.
        name: `avalanche:Name`, `torchvision:name`, `package.module:Name` or `./file.py:Name`,
            relative to the folder of `relative_to`.

    Raises:
        LookupError: If there is no such file, package, module, or name in it.
        SourceError: If a source file cannot be read.
    """
    where, colon, attribute = name.rpartition(":")
    if not colon:
        where, attribute = name, ""
    if where.endswith(".py"):
        return Entry(_in_file(where, attribute))
    prefix = f"{where}:"
    if prefix in _MODULES:
        return Entry(_in_modules(prefix, kind, attribute))
    return Entry(_in_module(where, attribute))


@remembered
def kind_of(target: str) -> Kind | None:
    """Return the kind of a class from its base classes; None if unknown or a function.

    Raises:
        LookupError: If the target is not installed, or not in the file.
        SourceError: If its file cannot be read.
    """
    for module, definition in ancestry(locate(target)):
        for base in definition.bases:
            package, _, root = dotted(module, base).rpartition(".")
            if root in _ROOTS and package.partition(".")[0] in ("avalanche", "torch"):
                return _ROOTS[root]
    return None


@cache
def registered() -> dict[str, str]:
    """Return the short names that installed packages register, and their targets."""
    points = entry_points(group=GROUP)
    return {point.name: point.value.partition("[")[0].strip() for point in points}


@remembered
def digests(target: str) -> dict[str, str]:
    """Return the files that decide what a component does, and a digest of the content of each.

    For a user's file, these are the file and its imports from its own folder, by paths relative to
    that folder. For an installed package, they are the named module and the one that defines the
    component. For a package under development, one installed from outside Python's own folders,
    their imports from the package are included too. Packages whose versions a result records have
    none.

    Raises:
        LookupError: If the target is not installed, or not in the file.
        SourceError: If a file cannot be read.
    """
    module = load(target)
    assert module is not None
    if module.is_known:
        return {}
    defining, _ = locate(target)
    modules = [module] if module.folder or defining.is_known else [module, defining]
    if module.folder or not {"site-packages", "dist-packages"} & {*module.file.parts}:
        modules = [*_own(modules)]
    return {_relative(each): _digest(each.file) for each in modules}


def _relative(module: Module) -> str:
    if module.folder:
        return module.file.relative_to(module.folder).as_posix()
    return module.name


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _own(modules: Sequence[Module]) -> Iterator[Module]:
    """Yield modules and all their direct and indirect imports from their folder or package."""
    waiting, seen = [*modules], {module.file for module in modules}
    while waiting:
        module = waiting.pop(0)
        yield module
        for name in imported_names(module.tree, module):
            for beside in _with_parents(module, name):
                if beside.file not in seen:
                    seen.add(beside.file)
                    waiting.append(beside)


def imported_names(tree: ast.AST, module: Module) -> Iterator[str]:
    """Yield the dotted names of a module's imports, including those inside functions.

    Calls of `import_module` and `__import__` count if their names are literal.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            node = _as_statement(node, module) or node
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = module.absolute(node)
            yield source
            yield from (f"{source}.{alias.name}".lstrip(".") for alias in node.names)


def _as_statement(call: ast.Call, module: Module) -> ast.stmt | None:
    """Return a call that imports a literal name as a statement; None for any other call."""
    given = {each.arg: each.value for each in call.keywords}
    name = _constant(call.args[0] if call.args else given.get("name"))
    if not isinstance(name, str) or not re.fullmatch(r"\.*[\w -]+(\.[\w -]+)*", name):
        return None
    parameters = _IMPORTERS.get(dotted(module, call.func).rpartition(".")[2])
    if parameters is None:
        return None
    given.update(zip(parameters, call.args, strict=False))
    level, package = (_constant(given.get(key)) for key in ("level", "package"))
    path = name.lstrip(".")
    dots = level if isinstance(level, int) else len(name) - len(path)
    if dots and isinstance(package, str):
        parent = package.split(".")[: 1 - dots or None]
        return ast.Import([ast.alias(".".join([*parent, path]))])
    return ast.ImportFrom(path, [], dots)


def _constant(node: ast.expr | None) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def _with_parents(module: Module, name: str) -> Iterator[Module]:
    """Yield the modules that importing `name` runs, of the user's folder or the module's package.

    These are packages, then the module.
    """
    package, *parts = name.split(".")
    folder = module.folder
    if not is_beside(folder, package) if folder else package != module.package:
        return
    for n in range(len(parts) + 1):
        inner = ".".join([package, *parts[:n]])
        found = load_beside(folder, inner) if folder else load_module(inner)
        if found:
            yield found


def _in_file(where: str, attribute: str) -> str:
    try:
        file = Path(os.path.abspath(_FOLDER.get() / Path(where).expanduser()))
        is_there = file.is_file()
    except (OSError, RuntimeError, ValueError):  # A null character, or an unknown ~user.
        raise LookupError(f"{where!r} is not the name of a file") from None
    if not is_there:
        if file.is_dir():
            raise LookupError(f"{file} is a folder, not a file")
        raise LookupError(f"{file}: there is no such file{_file_beside(file)}")
    if not re.fullmatch(r"[\w -]+", file.stem):
        raise LookupError(f"{file}: Python cannot import it: use only letters, digits and '_'")
    module = load(f"{file}:")
    assert module is not None
    _check(module, attribute, where, str(file))
    return f"{file}:{attribute}"


def _file_beside(file: Path) -> str:
    if not file.parent.is_dir():
        return f" (nor a folder {file.parent})"
    try:
        return did_you_mean(file.name, [each.name for each in file.parent.glob("*.py")])
    except OSError:
        return ""


def _in_module(where: str, attribute: str) -> str:
    package = where.partition(".")[0]
    if not all(part.isidentifier() for part in where.split(".")):
        raise LookupError(
            f"'{where}' is neither a module nor a file: write './file.py:Name' for a file next "
            "to the YAML, 'package.module:Name' for an installed one"
        )
    module = load_module(where)
    if module is None:
        outer = load_module(package) if "." in where else None
        reason = f"has no module '{where}'" if outer else "is not installed"
        advice = "" if outer else f" (for a file next to the YAML, write './{package}.py:Name')"
        raise LookupError(f"'{package}' {reason}{advice}")
    _check(module, attribute, where, f"'{where}'")
    return f"{where}:{attribute}"


def _in_modules(prefix: str, kind: Kind, attribute: str) -> str:
    modules = _MODULES[prefix].get(kind, ())
    known: list[str] = []
    for name in modules:
        module = load_module(name)
        if module is None:
            continue
        if find(module, attribute):
            return f"{name}:{attribute}"
        known += [f"{prefix}{each}" for each in defined_names(module)]
    raise LookupError(f"unknown {kind} '{prefix}{attribute}'{did_you_mean(attribute, known)}")


def _check(module: Module, attribute: str, where: str, place: str) -> None:
    """Refuse a name that the module does not define."""
    names = defined_names(module)
    if not attribute:
        has = f" (it has {', '.join(names)})" if names else ""
        raise LookupError(
            f"{place} is a file, but must also name a class or function in it: write "
            f"'{where}:Name'{has}"
        )
    if not find(module, attribute):
        raise LookupError(f"{place} has no '{attribute}'{did_you_mean(attribute, names)}")
