"""How a context file's own modules are imported, and which project files it was made of."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
)
from pathlib import Path

_STDLIB = str(Path(os.__file__).parent) + os.sep
_OURS = str(Path(__file__).parent) + os.sep
_OUR_ENTRY = str(Path(__file__).parent.parent)
CONTEXT = "context"
"""What a context file is called as a module, wherever it lies."""
_PACKAGES = ("site-packages", "dist-packages")

# Size and time of modification of each module's file just before it was read: one that is edited
# between its import and a later look would otherwise pass for unchanged.
_as_read: dict[str, tuple[int, int]] = {}


class _FreshLoader(SourceFileLoader):
    """Loads a module from its source only.

    Cached bytecode is trusted by whole seconds and size, so that a helper edited twice within a
    second would run as it was before; and a folder that several people share is no place for it.
    """

    def path_stats(self, path: str | os.PathLike[str] | bytes) -> Mapping[str, int]:
        raise OSError(f"no cached bytecode for {path!r}")

    def get_data(self, path: str) -> bytes:
        _as_read[path] = stamp(path)
        return super().get_data(path)


def stamp(path: str) -> tuple[int, int]:
    """Give size (bytes) and time of modification (ns) of a file."""
    found = Path(path).stat()
    return found.st_size, found.st_mtime_ns


@dataclass(frozen=True)
class _Finders:
    """Finds modules below `root`, for `sys.path_hooks`."""

    root: str

    def __call__(self, entry: str) -> FileFinder:
        if not _is_beside(entry, self.root):
            raise ImportError(f"{entry} is not part of {self.root}")
        extensions = (ExtensionFileLoader, EXTENSION_SUFFIXES)
        return FileFinder(entry, extensions, (_FreshLoader, SOURCE_SUFFIXES))


def prepare_imports(folder: Path) -> None:
    """Let a context file import the modules beside it, always as they are now."""
    root = str(folder)
    # In front, where no module of the same name in the folder of another context hides them.
    sys.path[:] = [root, *(entry for entry in sys.path if entry != root)]
    finders = _Finders(root)
    if finders not in sys.path_hooks:
        sys.path_hooks.insert(0, finders)
    for entry in list(sys.path_importer_cache):
        if _is_beside(entry, root):
            del sys.path_importer_cache[entry]


def files_read() -> dict[str, tuple[int, int]]:
    """Give size and time of modification (ns) of the modules beside contexts that were read.

    Those that could not be executed are among them.
    """
    return dict(_as_read)


def modules_beside(folder: Path, before: Collection[str]) -> set[str]:
    """Name the modules that were imported from in and below `folder`, without those in `before`."""
    return {name for name, path in _module_files(before) if _is_beside(path, str(folder))}


def project_files(folder: Path, before: set[str]) -> dict[str, tuple[int, int]]:
    """List the imported files that belong neither to Python, nor to a package, nor to us.

    `before` are the names of the modules that were there already; of them, only those in `folder`
    count. Gives size and time of modification (ns) of each, as it was read where that is known.
    """
    files = {}
    for name, path in _module_files(()):
        if not is_project(path) or (name in before and not _is_beside(path, str(folder))):
            continue
        try:
            files[path] = _as_read.get(path) or stamp(path)
        except OSError:
            files[path] = (-1, -1)  # gone since: it counts as changed
    return files


def _module_files(without: Collection[str]) -> Iterator[tuple[str, str]]:
    """Give names and files of the modules that have one."""
    for name, module in list(sys.modules.items()):
        # Not getattr: some modules import others when they are asked for what they do not have.
        path = getattr(module, "__dict__", {}).get("__file__")
        if isinstance(path, str) and name not in without:
            yield name, path


def is_own_module(name: str) -> bool:
    """Whether a module is the project's, which context files and notebooks always are."""
    path = getattr(sys.modules.get(name), "__dict__", {}).get("__file__")
    return name in ("__main__", CONTEXT) or (isinstance(path, str) and is_project(path))


def files_changed(files: Mapping[str, tuple[int, int]]) -> list[str]:
    """Name the files that are not what they were when they were loaded, or are gone."""
    changed = []
    for path, known in files.items():
        try:
            same = stamp(path) == tuple(known)
        except OSError:
            same = False
        if not same:
            changed.append(path)
    return changed


def is_project(path: str) -> bool:
    """Whether a file belongs neither to Python, nor to a package, nor to us."""
    if f"{path}{os.sep}".startswith((_STDLIB, _OURS)):
        return False
    return not any(part in _PACKAGES for part in Path(path).parts)


def _is_beside(path: str, root: str) -> bool:
    # A copy of ctxlib may lie in the folder too; it does not change while it runs.
    within = path == root or path.startswith(root + os.sep)
    return within and path != _OUR_ENTRY and is_project(path)
