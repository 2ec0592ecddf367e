"""Starts attempts in containers of apptainer, which are processes of this host like any others."""

import asyncio
import os
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctxlib import claim
from daemon.backends import Status, Unavailable, attempts
from daemon.backends.configurations.container import ContainerConfig
from daemon.backends.container_command import apptainer_command, environment, mounts
from daemon.backends.here import look_at, revoke

OUTPUT = "apptainer.out"
"""The file in an attempt's folder with what apptainer itself says."""


class Apptainer:
    """Starts attempts as `config` says, for the database in `folder`."""

    def __init__(self, config: ContainerConfig, folder: Path, library: Path) -> None:
        self._config = config
        self._folder = folder
        self._library = library
        self._started: dict[Path, subprocess.Popen[bytes]] = {}

    async def start(self, attempt_dir: Path, request: Mapping[str, Any]) -> None:
        """Start an attempt, which goes on whatever becomes of this process.

        Raises SecretError, ValueError for what cannot be given to a container, and Unavailable.
        """
        await asyncio.to_thread(self._start, attempt_dir, request)

    def _start(self, attempt_dir: Path, request: Mapping[str, Any]) -> None:
        log = Path(request["log"])
        log.parent.mkdir(parents=True, exist_ok=True)
        places = mounts(self._config, self._folder, self._library, attempt_dir, request)
        command = apptainer_command(self._config, self._library, attempt_dir, places)
        given = environment(self._config)
        # By this name it hands a variable on; its own stay as they are.
        passed = {f"APPTAINERENV_{name}": value for name, value in given.items()}
        with (attempt_dir / OUTPUT).open("ab") as output:
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={**os.environ, **passed},
                    start_new_session=True,
                )
            except OSError as error:
                raise Unavailable(f"apptainer cannot be started: {error.strerror}") from error
        self._started[attempt_dir] = process
        # Somebody has to, whatever becomes of the manager.
        threading.Thread(target=process.wait, daemon=True).start()

    def look(self, attempt_dir: Path) -> Status:
        """Tell how an attempt is doing; one that never began says why."""
        process = self._started.get(attempt_dir)
        if process is None:
            return look_at(attempt_dir)
        code = process.poll()
        if code is None and attempt_dir.is_dir() and not claim.exists(attempt_dir):
            return Status("running", "apptainer is starting")
        if code is not None:
            del self._started[attempt_dir]
            if attempt_dir.is_dir() and revoke(attempt_dir):
                said = last_line(attempt_dir / OUTPUT)
                why = f"apptainer ended with exit code {code}: {said}"
                if code < 0 or not attempts.never_begins(code):
                    return Status("lost", why)
                return Status("ended", attempts.conclude(attempt_dir, "failed", why))
        return look_at(attempt_dir)

    def end(self, attempt_dir: Path) -> None:
        """End a container that has not begun with its attempt yet."""
        process = self._started.get(attempt_dir)
        if process is not None and not claim.exists(attempt_dir):
            process.kill()
            process.wait()


def last_line(path: Path) -> str:
    """The last line of a file that has something in it, "" when there is none."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")[-500:]
