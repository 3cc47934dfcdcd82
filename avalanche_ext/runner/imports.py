"""Imports classes and functions by target, from installed packages and the user's files.

The name of a user's file is not unique in Python: two folders may each have a `mine.py`. Here
`/home/ann/mine.py` is the module `avalanche_ext.runner.imports._2f_home_2f_ann.mine` in every
process, so its classes can be pickled. Modules that it imports from its own folder, with or without
a dot, belong to the same package. Python's path does not change, and no bytecode is written.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from avalanche_ext.config.sources import KNOWN_PACKAGES, is_beside, is_file
from avalanche_ext.results.copies import content_of, is_there

__path__: list[str] = []  # Makes this module a package, whose modules `_Finder` finds.

_digests: dict[str, bytes] = {}
"""The digest of each imported file of the user's, by the name of its module."""


def locate(target: str) -> Any:
    """Import the object that a target names, `package.module:Name` or `/folder/file.py:Name`.

    A user's file that has changed since its import is imported again, with all modules in its
    folder.
    """
    module, _, name = target.rpartition(":")
    if is_file(target):
        file = Path(module)
        package = f"{__name__}.{_encoded(file.parent)}"
        _forget_changed(package)
        module = f"{package}.{file.stem}"
    return getattr(import_module(module), name)


def loaded() -> dict[str, ModuleType]:
    """Return the user's files that have been imported, by the names of their modules."""
    return {name: module for name, module in sys.modules.items() if name in _digests}


def forget() -> None:
    """Forget the user's files, so that each cell imports them anew, with nothing of other cells."""
    for name in [*sys.modules]:
        if name.startswith(f"{__name__}."):
            del sys.modules[name]


def is_users(kind: type) -> bool:
    """Return whether a class is from one of the user's files or packages."""
    module = kind.__module__
    is_known = module.partition(".")[0] in KNOWN_PACKAGES
    return module.startswith(f"{__name__}.") or not is_known


def _encoded(folder: Path) -> str:
    return re.sub(r"[^A-Za-z0-9]", lambda match: f"_{ord(match[0]):x}_", str(folder))


def _decoded(name: str) -> Path:
    return Path(re.sub(r"_([0-9a-f]+)_", lambda match: chr(int(match[1], 16)), name))


def _forget_changed(package: str) -> None:
    loaded = [name for name in sys.modules if name == package or name.startswith(f"{package}.")]
    if any(_has_changed(name) for name in loaded):
        for name in loaded:
            del sys.modules[name]


def _has_changed(name: str) -> bool:
    file = getattr(sys.modules[name], "__file__", None)
    if name not in _digests or file is None:
        return False
    try:
        return _digest(content_of(Path(file))) != _digests[name]
    except OSError:
        return True


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


class _Finder(MetaPathFinder):
    """Finds modules in the user's folders."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the location of a module `…runner.imports.FOLDER.NAME`; None for all others."""
        if not fullname.startswith(f"{__name__}."):
            return None
        encoded, *parts = fullname.removeprefix(f"{__name__}.").split(".")
        folder = _decoded(encoded)
        place = folder.joinpath(*parts)
        for file in (place / "__init__.py", place.with_name(f"{place.name}.py")):
            if parts and is_there(file):
                loader = _Loader(fullname, str(file), f"{__name__}.{encoded}", folder)
                within = [str(place)] if file.name == "__init__.py" else None
                return spec_from_file_location(
                    fullname, file, loader=loader, submodule_search_locations=within
                )
        if not place.is_dir():
            return None
        spec = ModuleSpec(fullname, None, is_package=True)
        spec.submodule_search_locations = [str(place)]
        return spec


class _Loader(SourceFileLoader):
    """Loads a user's file so that imports from its own folder stay within the folder's package."""

    def __init__(self, fullname: str, path: str, package: str, folder: Path) -> None:
        super().__init__(fullname, path)
        self.package = package
        self.folder = folder

    def get_code(self, fullname: str) -> CodeType:
        """Return the compiled file, never from a cache."""
        content = content_of(Path(self.path))
        _digests[fullname] = _digest(content)
        tree = _WithinPackage(self.package, self.folder).visit(ast.parse(content, self.path))
        code: CodeType = compile(tree, self.path, "exec", dont_inherit=True)
        return code


class _WithinPackage(ast.NodeTransformer):
    """Gives the modules of a folder their full names in imports: `helper` is `PACKAGE.helper`."""

    def __init__(self, package: str, folder: Path) -> None:
        self.package = package
        self.folder = folder

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom:
        """Complete `from helper import Name`."""
        if not node.level and node.module and self._is_beside(node.module):
            node.module = f"{self.package}.{node.module}"
        return node

    def visit_Import(self, node: ast.Import) -> ast.Import:
        """Complete `import helper`, which binds `helper` as before."""
        node.names = [each for alias in node.names for each in self._completed(alias)]
        return node

    def _completed(self, alias: ast.alias) -> list[ast.alias]:
        if not self._is_beside(alias.name):
            return [alias]
        top, dot, _ = alias.name.partition(".")
        whole = f"{self.package}.{alias.name}"
        if alias.asname or not dot:
            return [_alias(alias, whole, alias.asname or top)]
        # `import models.small` binds `models`.
        return [_alias(alias, whole, f"_{top}"), _alias(alias, f"{self.package}.{top}", top)]

    def _is_beside(self, name: str) -> bool:
        return is_beside(self.folder, name.partition(".")[0])


def _alias(old: ast.alias, name: str, bound: str) -> ast.alias:
    return ast.copy_location(ast.alias(name, bound), old)


sys.meta_path.insert(0, _Finder())  # Before Python's finders, which would not rewrite imports.
