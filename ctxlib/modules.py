"""The project's modules that a piece of source imports, at any distance, and what is in each."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType

from ctxlib.imports import is_project
from ctxlib.source import syntax_tree
from ctxlib.syntax import Reading, Syntax, digest
from ctxlib.syntax_text import Imported

PYTHON = ".py"


class ProjectFile:
    """A file of the project: its syntax, and what it imports."""

    def __init__(self, path: str) -> None:
        self.path = path

    @cached_property
    def syntax(self) -> Syntax | None:
        """Its syntax; None if it cannot be read as Python."""
        tree = syntax_tree(self.path)
        return None if tree is None else Syntax(tree)

    @cached_property
    def whole(self) -> Reading:
        """All that it says; the content of a file that is not Python."""
        if self.syntax is not None:
            return self.syntax.whole()
        try:
            content = Path(self.path).read_bytes().decode("latin-1")
        except OSError:
            content = ""
        return Reading(digest([content]), frozenset(), frozenset(), None, ())


class ProjectFiles:
    """The files of a project whose context file is in `folder`, each read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, ProjectFile] = {}
        self._found: dict[str, str | None] = {}

    def file(self, path: str) -> ProjectFile:
        """Give a file by its path."""
        return self._files.setdefault(path, ProjectFile(path))

    def name_of(self, path: str) -> str:
        """Give a file's path for people, who know where the context file is."""
        return os.path.relpath(path, self._folder) if Path(path).is_absolute() else path

    def imported(self, imports: Iterable[Imported], package: str) -> set[str]:
        """Give the paths of the project's files that import statements in a package mean."""
        names = (name for each in imports for name in _module_names(each, package))
        return {path for path in map(self._path_of, names) if path is not None}

    def of_module(self, module: ModuleType) -> set[str]:
        """Give the paths of a module, and of what is loaded of it if it is a package."""
        name = module.__name__
        names = [name]
        if hasattr(module, "__path__") and is_own_package(module):
            names += [known for known in list(sys.modules) if known.startswith(name + ".")]
        return {path for path in map(self._path_of, names) if path is not None}

    def with_imports(self, paths: Iterable[str]) -> set[str]:
        """Add what files import, at any distance."""
        closed: set[str] = set()
        waiting = list(paths)
        while waiting:
            path = waiting.pop()
            if path not in closed:
                closed.add(path)
                waiting += self.imported(self.file(path).whole.imports, _package_of(path))
        return closed

    def _path_of(self, name: str) -> str | None:
        """Find the file of a module, whether it is loaded already or not; None: not ours."""
        if name not in self._found:
            self._found[name] = self._look_for(name)
        return self._found[name]

    def _look_for(self, name: str) -> str | None:
        if name in sys.modules:
            path = getattr(sys.modules[name], "__dict__", {}).get("__file__")
            return path if isinstance(path, str) and is_project(path) else None
        below = self._folder.joinpath(*name.split("."))
        for candidate in (below.with_name(below.name + PYTHON), below / f"__init__{PYTHON}"):
            if candidate.is_file():
                return str(candidate)
        return None


def is_own_package(module: ModuleType) -> bool:
    """Whether a package is the project's."""
    return all(is_project(str(path)) for path in module.__path__)


def _module_names(imported: Imported, package: str) -> Iterator[str]:
    """Give the full names of all modules that an import statement may load."""
    base = imported.module or ""
    if imported.level:
        above = package.split(".")[: len(package.split(".")) - imported.level + 1]
        base = ".".join([*above, *([base] if base else [])])
    parts = base.split(".")
    yield from (".".join(parts[: number + 1]) for number in range(len(parts)) if base)
    yield from (f"{base}.{name}" for name in imported.names if base and name != "*")


def _package_of(path: str) -> str:
    """Give the name of the package that a file belongs to, "" if it cannot be told."""
    for name, module in list(sys.modules.items()):
        if getattr(module, "__dict__", {}).get("__file__") == path:
            return str(getattr(module, "__package__", None) or name.rpartition(".")[0])
    return ""
