"""Classes and functions of installed packages, found in their source without any import.

Importing torch or avalanche takes seconds; parsing the file that defines a class takes
milliseconds.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Module:
    """A parsed module with its dotted name."""

    name: str
    is_package: bool
    tree: ast.Module

    def absolute(self, node: ast.ImportFrom) -> str:
        """Return the dotted name of the module in a `from … import …`, relative or not."""
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        keep = len(parts) - node.level + self.is_package
        return ".".join([*parts[:keep], *([node.module] if node.module else [])])


Found = tuple[Module, ast.stmt]


@cache
def package_directory(package: str) -> Path | None:
    """Return the directory of a top-level package, or None if it is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


@cache
def load_module(name: str) -> Module | None:
    """Parse the module with this dotted name, or return None if it has no source file."""
    package, *below = name.split(".")
    directory = package_directory(package)
    if directory is None:
        return None
    path = directory.joinpath(*below)
    is_package = path.is_dir()
    file = path / "__init__.py" if is_package else path.with_name(path.name + ".py")
    if not file.is_file():
        return None
    return Module(name, is_package, ast.parse(file.read_text(encoding="utf-8")))


def find(module: Module, name: str) -> Found | None:
    """Return the statement that defines or assigns `name` for `module`, and its module.

    Imports are followed within the same top-level package, including star imports.
    """
    return _find(module, name, visited=set())


def _find(module: Module, name: str, visited: set[tuple[str, str]]) -> Found | None:
    if (module.name, name) in visited:
        return None
    visited.add((module.name, name))
    # The last binding wins, as it does when the module runs.
    for statement in reversed([*_top_level(module.tree)]):
        if name in bound_names(statement):
            return module, statement
        if not isinstance(statement, ast.ImportFrom):
            continue
        for alias in statement.names:
            if alias.name != "*" and (alias.asname or alias.name) != name:
                continue
            source = module.absolute(statement)
            if source.split(".")[0] != module.name.split(".")[0]:
                continue
            origin = load_module(source)
            found = origin and _find(origin, name if alias.name == "*" else alias.name, visited)
            if found:
                return found
    return None


def _top_level(tree: ast.Module) -> Iterator[ast.stmt]:
    for statement in tree.body:
        yield statement
        if isinstance(statement, ast.If):  # `if TYPE_CHECKING:` and version checks.
            yield from statement.body


def bound_names(statement: ast.stmt) -> set[str]:
    """Return the names that a statement defines or assigns."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef):
        return {statement.name}
    if isinstance(statement, ast.Assign):
        return {target.id for target in statement.targets if isinstance(target, ast.Name)}
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return {statement.target.id}
    return set()


def assigned(found: Found | None) -> ast.expr | None:
    """Return the assigned expression if `found` is an assignment, else None."""
    statement = found[1] if found else None
    return statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None


def referred(module: Module, node: ast.expr) -> Found | None:
    """Return what a name in the code of `module` refers to, as a base class; None if not found."""
    node = node.value if isinstance(node, ast.Subscript) else node
    return find(module, node.id) if isinstance(node, ast.Name) else None


def class_attribute(found: Found, name: str) -> ast.expr | None:
    """Return what a class assigns to an attribute in its body, or inherits in the same package."""
    module, statement = found
    if not isinstance(statement, ast.ClassDef):
        return None
    for line in statement.body:
        if name in bound_names(line) and (value := assigned((module, line))) is not None:
            return value
    bases = filter(None, (referred(module, base) for base in statement.bases))
    return next(filter(None, (class_attribute(base, name) for base in bases)), None)


def bundled(found: Found) -> list[Found]:
    """Return the plugins of which a strategy of this package is made, its attribute `bundled`."""
    plugins = class_attribute(found, "bundled")
    nodes = plugins.elts if isinstance(plugins, ast.Tuple) else []
    return [plugin for node in nodes if (plugin := referred(found[0], node))]
