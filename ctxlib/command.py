"""Jobs with a command of their own: a runner executes it in place of a context's variables."""

from __future__ import annotations

import shlex
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def execute(request: Mapping[str, Any]) -> str:
    """Execute the command of a request to its end; why it did not succeed, or "".

    Its output goes where that of this process does, or nowhere without `capture_output`. It gets
    the environment of this process, and runs in `working_dir` or the database's folder.
    """
    command: str = request["command"]
    folder = request.get("working_dir") or request["database"]
    if why := missing(folder):
        return why
    output = None if request.get("capture_output", True) else subprocess.DEVNULL
    try:
        arguments = (
            ["/bin/sh", "-c", command] if request.get("shell", True) else shlex.split(command)
        )
        done = subprocess.run(
            arguments,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
        )
    except (OSError, ValueError) as error:
        return f"the command cannot be executed: {error}"
    if done.returncode < 0:
        return f"the command was killed by {signal.Signals(-done.returncode).name}"
    return f"the command ended with exit code {done.returncode}" if done.returncode else ""


def missing(folder: str) -> str:
    """Why a job cannot run in its `working_dir`, or ""."""
    if Path(folder).is_dir():
        return ""
    return f"its working_dir {folder} is not there: make it, or name another one"
