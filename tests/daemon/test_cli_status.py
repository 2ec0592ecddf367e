"""What `status` says of the context file."""

from typing import Any

import pytest

from daemon.cli.status import describe

PROBLEM = {"message": "invalid syntax", "line": 3, "variable": None, "mend": ""}


def said(context: dict[str, Any]) -> list[str]:
    status = {
        "folder": "/db",
        "proposal": 1234,
        "proposal_path": None,
        "daemon": None,
        "context": context,
        "jobs": {},
        "running": [],
        "waiting": None,
        "dead_letters": 0,
        "sources": [],
        "warnings": [],
    }
    lines = list(describe(status, "runtable"))
    first = next(number for number, (label, _) in enumerate(lines) if label == "context.py")
    return [text for label, text in lines[first:] if label in ("context.py", "")]


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ({"ok": True, "problems": []}, ["in order"]),
        (
            {"ok": False, "problems": [PROBLEM], "loading": False},
            ["cannot be executed; events wait until it can", "line 3: invalid syntax"],
        ),
        (
            {"ok": False, "problems": [PROBLEM], "loading": True},
            ["is being loaded; ask again to see what comes of it"],
        ),
    ],
)
def test_the_state_of_the_context_file(context: dict[str, Any], words: list[str]) -> None:
    assert said(context) == words
