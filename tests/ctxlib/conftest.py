"""Context files for tests: written, loaded in this process, and forgotten again."""

import sys
import textwrap

import pytest

from ctxlib.context import load

HEAD = "from damnit_ctx import Cell, Group, Skip, Variable\n"


@pytest.fixture
def context(tmp_path, monkeypatch):
    """Give a function that loads a text as a context file; the words of the language are imported.

    Line numbers count from that import, so that the text's first line is line 2.
    """
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "path_hooks", list(sys.path_hooks))
    before = dict(sys.modules)

    def loaded(text, *, head=HEAD):
        path = tmp_path / "context.py"
        path.write_text(head + textwrap.dedent(text).removeprefix("\n"), encoding="utf-8")
        return load(path)

    yield loaded
    for name in sys.modules.keys() - before.keys():
        # Libraries stay: most of them cannot be imported twice.
        path = getattr(sys.modules[name], "__file__", None) or ""
        if name in ("context", "damnit_ctx") or path.startswith(str(tmp_path)):
            del sys.modules[name]
    for entry in [e for e in sys.path_importer_cache if e.startswith(str(tmp_path))]:
        del sys.path_importer_cache[entry]
