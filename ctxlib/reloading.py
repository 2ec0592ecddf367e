"""Context files loaded one after the other in a process that goes on: a notebook, or a variable."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from ctxlib.context import load, load_text
from ctxlib.definitions import Context
from ctxlib.imports import modules_beside

_texts = count(1)
# Modules that came from beside a context file, by name: they are imported anew by the next load.
_imported: set[str] = set()


def load_anew(path: Path) -> Context:
    """Load a context file, and the modules beside it, as they are now; see `context.load`.

    What was loaded from other folders, or earlier, goes on to work with the modules that it has.
    """
    for name in _imported:
        sys.modules.pop(name, None)
    _imported.clear()
    before = set(sys.modules)
    try:
        with _module_name_kept():
            return load(path)
    finally:
        _imported.update(modules_beside(path.absolute().parent, before))


def load_string(code: str, name: str | None) -> Context:
    """Load the text of a context file, see `context.load_text`; tracebacks show its lines."""
    name = name or f"<context {next(_texts)}>"
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    with _module_name_kept():
        return load_text(code.encode(), name)


@contextmanager
def _module_name_kept() -> Iterator[None]:
    """Give the module called `context` back its name, which may be another file or the user's."""
    kept = sys.modules.get("context")
    try:
        yield
    finally:
        if kept is None:
            sys.modules.pop("context", None)
        else:
            sys.modules["context"] = kept
