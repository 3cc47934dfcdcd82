"""Classes and functions of packages and of the user's files, found in their source, never run.

Importing torch or avalanche takes seconds, and importing a user's file runs it; parsing the file
that defines a class takes milliseconds and does nothing.
"""

from __future__ import annotations

import ast
import importlib.util
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, lru_cache, wraps
from pathlib import Path
from typing import Any, TypeVar

from avalanche_ext.results.copies import content_of, is_there

KNOWN_PACKAGES = ("avalanche", "avalanche_ext", "torch", "torchvision")
"""Packages whose versions a result records, so that their sources do not count in hashes."""

_Definition = ast.ClassDef | ast.FunctionDef


_ANSWERS: ContextVar[dict[tuple[str, Any], Any] | None] = ContextVar("answers", default=None)

Question = TypeVar("Question")
Answer = TypeVar("Answer")


@contextmanager
def files_stay() -> Iterator[None]:
    """Answer each question about a source file only once, as the files do not change meanwhile."""
    token = _ANSWERS.set({})
    try:
        yield
    finally:
        _ANSWERS.reset(token)


def remembered(function: Callable[[Question], Answer]) -> Callable[[Question], Answer]:
    """Answer a question about source files from memory, within `files_stay`."""

    @wraps(function)
    def answer(question: Question) -> Answer:
        answers = _ANSWERS.get()
        if answers is None:
            return function(question)
        key = function.__qualname__, question
        if key not in answers:
            answers[key] = function(question)
        known: Answer = answers[key]
        return known

    return answer


class SourceError(Exception):
    """A source file cannot be read; the text names the file, the line and the reason."""


@dataclass(frozen=True)
class Module:
    """A parsed module.

    Attributes:
        name: Its dotted name, for a user's file below `folder`.
        file: Where it is.
        tree: Its syntax tree.
        folder: The folder of the user's files, whose modules it may import by their bare names;
            None for a module of an installed package.
    """

    name: str
    file: Path
    tree: ast.Module
    folder: Path | None = None

    @property
    def package(self) -> str:
        """The first part of its name."""
        return self.name.partition(".")[0]

    @property
    def is_known(self) -> bool:
        """Whether it belongs to one of `KNOWN_PACKAGES`."""
        return self.is_of(*KNOWN_PACKAGES)

    def is_of(self, *packages: str) -> bool:
        """Return whether it belongs to one of these installed packages."""
        return self.folder is None and self.package in packages

    def absolute(self, node: ast.ImportFrom) -> str:
        """Return the dotted name of the module in a `from … import …`, relative or not."""
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        keep = len(parts) - node.level + (self.file.name == "__init__.py")
        return ".".join([*parts[: max(0, keep)], *([node.module] if node.module else [])])

    def place(self, node: ast.stmt) -> str:
        """Return where a statement stands, `/home/ann/mine.py:12`."""
        return f"{self.file}:{node.lineno}"


Found = tuple[Module, ast.stmt]


@cache
def package_directory(package: str) -> Path | None:
    """Return the directory of a top-level package, or None if it is not installed."""
    origin = _origin(package)
    return origin if origin and origin.is_dir() else None


@cache
def _origin(package: str) -> Path | None:
    """The directory of a top-level package, or the file of a single module."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # ValueError: an empty name, or `__main__`.
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None


@cache
def load_module(name: str) -> Module | None:
    """Parse the installed module with this dotted name, or return None if it has no source file.

    Raises:
        SourceError: If its file is not Python.
    """
    package, *below = name.split(".")
    origin = _origin(package)
    if origin is None or (below and not origin.is_dir()):
        return None
    file = origin if origin.is_file() else _file_of(origin.joinpath(*below))
    return Module(name, file, _parsed(file, _bytes(file))) if file else None


def load_file(file: Path) -> Module:
    """Parse a user's file, as it is now.

    Raises:
        SourceError: If there is no such file, or it is not Python.
    """
    return Module(file.stem, file, _parsed(file, _bytes(file)), file.parent)


def load_beside(folder: Path, name: str) -> Module | None:
    """Parse the module with this dotted name below a folder of the user's files."""
    file = _file_of(folder.joinpath(*name.split(".")))
    return Module(name, file, _parsed(file, _bytes(file)), folder) if file else None


def load(target: str) -> Module | None:
    """Parse the module of a target, `package.module:Name` or `/folder/file.py:Name`.

    Raises:
        SourceError: If its file cannot be read.
    """
    module, _, _ = target.rpartition(":")
    return load_file(Path(module)) if is_file(target) else load_module(module)


def is_file(target: str) -> bool:
    """Return whether a target is in a user's file rather than in an installed package.

    >>> is_file("/home/ann/mine.py:MyPlugin"), is_file("avalanche_ext.plugins:DRLPlugin")
    (True, False)
    """
    return target.rpartition(":")[0].endswith(".py")


def is_beside(folder: Path, package: str) -> bool:
    """Return whether an import of `package` by a file in `folder` means a module in the folder."""
    if package in KNOWN_PACKAGES or not package:
        return False
    return is_there(folder / f"{package}.py") or any(folder.joinpath(package).glob("*.py"))


def _file_of(path: Path) -> Path | None:
    """The source file of a module, given its path without suffix."""
    files = (path / "__init__.py", path.with_name(f"{path.name}.py"))
    return next((file for file in files if is_there(file)), None)


def _bytes(file: Path) -> bytes:
    try:
        return content_of(file)
    except (OSError, ValueError) as error:  # ValueError: a null character in the name.
        raise SourceError(f"{file}: {getattr(error, 'strerror', None) or error}") from None


@lru_cache(maxsize=1024)
def _parsed(file: Path, content: bytes) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python repeats them when the file runs.
            return ast.parse(content, str(file))
    except SyntaxError as error:
        raise SourceError(f"{file}:{error.lineno or 1}: not valid Python: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise SourceError(f"{file}: not valid Python: {error or 'nested too deeply'}") from None


def find(module: Module, name: str) -> Found | None:
    """Return the statement that defines or assigns `name` for `module`, and its module.

    Imports are followed, star imports too. Those of the known packages, whose bases in other
    packages add no argument, are followed within the same package only.

    Raises:
        SourceError: If a file on the way cannot be read.
    """
    return _find(module, name, visited=set())


def _find(module: Module, name: str, visited: set[tuple[Path, str]]) -> Found | None:
    if (module.file, name) in visited:
        return None
    visited.add((module.file, name))
    # The last binding wins, as it does when the module runs.
    for statement in reversed([*_executed(module.tree.body)]):
        if name in bound_names(statement):
            return module, statement
        if not isinstance(statement, ast.ImportFrom):
            continue
        for alias in statement.names:
            if alias.name != "*" and (alias.asname or alias.name) != name:
                continue
            origin = _imported(module, module.absolute(statement), statement.level > 0)
            found = origin and _find(origin, name if alias.name == "*" else alias.name, visited)
            if found:
                return found
    return None


def _imported(module: Module, name: str, is_relative: bool = False) -> Module | None:
    """The module that an import in `module` means; None if it is not looked into."""
    package = name.partition(".")[0]
    if module.folder and (is_relative or is_beside(module.folder, package)):
        return load_beside(module.folder, name)
    if module.is_known and package != module.package:
        return None
    return load_module(name)


def _executed(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module that run when it is imported, the usual branch last."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If):  # `if TYPE_CHECKING:` and version checks.
            yield from _executed(statement.orelse)
            yield from _executed(statement.body)
        elif isinstance(statement, ast.Try):
            for handler in statement.handlers:
                yield from _executed(handler.body)
            yield from _executed([*statement.body, *statement.orelse])


def bound_names(statement: ast.stmt) -> set[str]:
    """Return the names that a statement defines or assigns."""
    if isinstance(statement, _Definition):
        return {statement.name}
    if isinstance(statement, ast.Assign):
        return {target.id for target in statement.targets if isinstance(target, ast.Name)}
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return {statement.target.id}
    return set()


def defined_names(module: Module) -> list[str]:
    """Return the names of the public classes and functions that a module defines or imports."""
    names: dict[str, None] = {}
    for statement in _executed(module.tree.body):
        if isinstance(statement, _Definition):
            names[statement.name] = None
        elif isinstance(statement, ast.ImportFrom):
            origin = None
            for alias in statement.names:
                if alias.name == "*":
                    origin = _imported(module, module.absolute(statement), statement.level > 0)
                    names.update(dict.fromkeys(defined_names(origin) if origin else ()))
                elif module.folder is None:  # A user's file does not offer its imports.
                    names[alias.asname or alias.name] = None
    return [name for name in names if not name.startswith("_")]


def assigned(found: Found | None) -> ast.expr | None:
    """Return the assigned expression if `found` is an assignment, else None."""
    statement = found[1] if found else None
    return statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None


def referred(module: Module, node: ast.expr) -> Found | None:
    """Return what a name in the code of `module` refers to, as a base class; None if not found."""
    node = node.value if isinstance(node, ast.Subscript) else node
    if isinstance(node, ast.Name):
        return find(module, node.id)
    if isinstance(node, ast.Attribute) and (name := _module_name(module, node.value)):
        origin = _imported(module, name)
        return find(origin, node.attr) if origin else None
    return None


def dotted(module: Module, node: ast.expr) -> str:
    """Return the full name of what `node` refers to, `torch.nn.Module`, as `module` has it."""
    node = node.value if isinstance(node, ast.Subscript) else node
    if isinstance(node, ast.Attribute):
        return f"{_module_name(module, node.value) or ast.unparse(node.value)}.{node.attr}"
    name = _module_name(module, node) or ast.unparse(node)
    is_own = any(name in bound_names(statement) for statement in _executed(module.tree.body))
    return f"{module.name}.{name}" if is_own else name


def _module_name(module: Module, node: ast.expr) -> str | None:
    """The full dotted name of what an import of `module` binds to `node`; None if none does."""
    if isinstance(node, ast.Attribute):
        parent = _module_name(module, node.value)
        return f"{parent}.{node.attr}" if parent else None
    if not isinstance(node, ast.Name):
        return None
    for statement in reversed([*_executed(module.tree.body)]):
        if not isinstance(statement, ast.Import | ast.ImportFrom):
            continue
        for alias in statement.names:
            if isinstance(statement, ast.ImportFrom):
                if (alias.asname or alias.name) == node.id:
                    return f"{module.absolute(statement)}.{alias.name}".lstrip(".")
            elif alias.asname == node.id:
                return alias.name
            elif alias.asname is None and alias.name.partition(".")[0] == node.id:
                return node.id
    return None


def class_attribute(found: Found, name: str) -> ast.expr | None:
    """Return what a class assigns to an attribute in its body, or inherits."""
    for module, statement in _ancestors(found):
        for line in statement.body:
            if name in bound_names(line) and (value := assigned((module, line))) is not None:
                return value
    return None


@remembered
def _ancestors(found: Found) -> list[tuple[Module, ast.ClassDef]]:
    return [*ancestry(found)]


def ancestry(found: Found) -> Iterator[tuple[Module, ast.ClassDef]]:
    """Yield a class and the base classes that can be found, depth first; nothing for a function."""
    yield from _ancestry(found, visited=set())


def _ancestry(found: Found, visited: set[str]) -> Iterator[tuple[Module, ast.ClassDef]]:
    module, statement = found
    if not isinstance(statement, ast.ClassDef) or module.place(statement) in visited:
        return
    visited.add(module.place(statement))
    yield module, statement
    for base in filter(None, (referred(module, base) for base in statement.bases)):
        yield from _ancestry(base, visited)


def bundled(found: Found) -> list[Found]:
    """Return the plugins of which a strategy of this package is made, its attribute `bundled`."""
    ours = [each for each in ancestry(found) if each[0].package == "avalanche_ext"]
    plugins = class_attribute(ours[0], "bundled") if ours else None
    nodes = plugins.elts if isinstance(plugins, ast.Tuple) else []
    return [plugin for node in nodes if (plugin := referred(found[0], node))]
