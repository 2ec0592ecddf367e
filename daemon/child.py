"""A program that the daemon asks something: run to its end, with its answer and its output."""

import asyncio
import json
import os
import signal
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ctxlib import processes


async def ask(
    command: Callable[[str], Sequence[str]], cwd: Path, timeout: float
) -> tuple[Any | None, int, str]:
    """The JSON that `command(path)` writes to the file `path`, None if it writes none.

    Beside it the program's exit code and the end of its output. Raises TimeoutError after killing
    it. The file is in memory, so that nothing is left of it whoever is killed.
    """
    answer = os.memfd_create("runtable-answer")
    try:
        code, output = await _run(command(f"/dev/fd/{answer}"), cwd, timeout, pass_fds=(answer,))
        os.lseek(answer, 0, os.SEEK_SET)
        with os.fdopen(answer, "rb", closefd=False) as file:
            return json.load(file), code, output
    except json.JSONDecodeError:
        return None, code, output
    finally:
        os.close(answer)


async def _run(
    command: Sequence[str], cwd: Path, timeout: float, *, pass_fds: Sequence[int]
) -> tuple[int, str]:
    """Exit code and the end of the output of `command`; raises TimeoutError after killing it."""
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    environment.pop("PYTHONSAFEPATH", None)  # it would keep `-m` from looking into `cwd`
    with tempfile.TemporaryFile() as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            cwd=cwd,
            env=environment,
            start_new_session=True,
            pass_fds=pass_fds,
        )
        try:
            async with asyncio.timeout(timeout):
                code = await process.wait()
        finally:
            # With what it has started: an import can leave programs behind.
            await asyncio.to_thread(_end_all, process.pid)
            await process.wait()
        output.seek(0)
        return code, output.read().decode(errors="replace").strip()[-2000:]


def _end_all(pid: int) -> None:
    """End the process and its session, and what it has started in others, as sandboxes do."""
    started = processes.descendants(pid)
    processes.kill_until_gone(partial(processes.session_members, pid))
    processes.signal_all(started, signal.SIGKILL)
