"""A program that the daemon asks something: run to its end, with its output kept."""

import asyncio
import os
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ctxlib import processes


async def run(command: Sequence[str], cwd: Path, timeout: float) -> tuple[int, str]:
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
        )
        try:
            code = await asyncio.wait_for(process.wait(), timeout)
        finally:
            # With what it has started: an import can leave programs behind.
            session = partial(processes.session_members, process.pid)
            await asyncio.to_thread(processes.kill_until_gone, session)
            await process.wait()
        output.seek(0)
        return code, output.read().decode(errors="replace").strip()[-2000:]
