"""docker and podman as programs: what is asked of them, and what they answer, in words."""

import asyncio
import json
import math
import os
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from daemon.backends import Unavailable
from daemon.backends.container_command import ATTEMPT, FOLDER, KEEP, folder_label

ANSWER_SECONDS = 60.0
"""Within this time an engine has to answer; what makes images has longer."""
CHECK_SECONDS = 15.0
"""Within this time it has to say that it is there; a job that is to start waits for it."""
FRESH_SECONDS = 5.0
"""For so long an engine that has answered is not asked whether it does, nor for the same image."""
IMAGE_SECONDS = 3600.0
"""Within this time an image has to be pulled or built."""

# What watches podman's containers leaves a file `oom` in the folder that podman was started in.
_NOWHERE = "/proc"

_PREFIX = re.compile(r"^(docker: |Error response from daemon: |Error: )+")
_ADVICE = re.compile(r"(Run|See) 'docker|BuildKit is currently disabled|environment-variable\.$")
# What docker's program says when it is not its engine that says no.
_AWAY = re.compile(
    r"(?i)cannot connect to the docker daemon|error during connect|docker daemon socket"
)
_DENIED = "permission denied while trying to connect"

_STARTING = frozenset({"created", "configured", "initialized"})
_RUNNING = frozenset({"running", "paused", "restarting", "stopping", "removing"})


class EngineError(Exception):
    """An engine has refused something; says what, in its own last words."""


@dataclass(frozen=True)
class Container:
    """One of our containers, as its engine describes it; `state` is starting, running or over.

    `memory` is its limit in bytes, 0 for none; the times are seconds since the epoch.
    """

    id: str
    attempt: str
    state: str
    keep: bool
    exit_code: int
    out_of_memory: bool
    error: str
    memory: int
    started: float
    finished: float

    def why(self, last_line: str) -> str:
        """Why it is over, in words; `last_line` is the end of what it said."""
        if self.out_of_memory:
            return f"its container used more than its {_megabytes(self.memory)} of memory"
        if self.exit_code == 137 and self.memory:
            limit = _megabytes(self.memory)
            return f"its container was killed, by someone or for more than its {limit} of memory"
        if self.exit_code == 137:
            return "its container was killed"
        said = self.error or last_line
        return f"its container ended with exit code {self.exit_code}" + (
            f": {said}" if said else ""
        )


class Engine:
    """docker or podman, for the containers of the database in `folder`."""

    def __init__(self, program: str, folder: Path) -> None:
        self.program = program
        self._label = f"{FOLDER}={folder_label(folder)}"
        self._answered = -math.inf
        self._images: dict[str, float] = {}

    async def check(self) -> None:
        """Raise Unavailable when the engine cannot be asked: not running, or not for us."""
        if time.monotonic() - self._answered < FRESH_SECONDS:
            return
        try:
            await self.ask("version", "--format", "{{json .}}", seconds=CHECK_SECONDS)
        except (EngineError, Unavailable) as error:
            group = "; its users are those of the group docker" if _DENIED in str(error) else ""
            raise Unavailable(f"{self.program} cannot run containers now: {error}{group}") from None

    async def containers(self) -> list[Container]:
        """All containers of the database, those that have ended too."""
        which = ("ps", "--all", "--quiet", "--no-trunc", f"--filter=label={self._label}")
        try:
            listed = await self.ask(*which)
        except EngineError:  # podman stumbles over what is just being removed
            listed = await self.ask(*which)
        ids = listed.split()
        if not ids:
            return []
        # What was removed meanwhile is not among the answers.
        answer = await self.ask("inspect", "--type=container", *ids, codes=None)
        return [_container(found) for found in json.loads(answer or "[]")]

    async def last_line(self, container: str) -> str:
        """The last line that a container has written, "" when there is none."""
        try:
            said = await self.ask("logs", "--tail=20", container, both=True)
        except (EngineError, Unavailable):
            return ""
        return next((line for line in reversed(said.splitlines()) if line.strip()), "")[:500]

    async def remove(self, *containers: str) -> None:
        """End containers, by their names or ids, and remove them; nothing happens without any."""
        at_once = ["--time=0"] if self.program == "podman" else []
        with suppress(EngineError, Unavailable):
            if containers:
                await self.ask("rm", "--force", "--volumes", *at_once, *containers)

    async def end(self, container: str, *, keep: bool) -> None:
        """End a container, and remove it unless it is to be kept; nothing happens without one."""
        if not keep:
            await self.remove(container)
            return
        with suppress(EngineError, Unavailable):
            await self.ask("kill", container)

    async def has_image(self, image: str) -> bool:
        """Tell whether an image is on this host."""
        if time.monotonic() - self._images.get(image, -math.inf) < FRESH_SECONDS:
            return True
        try:
            await self.ask("image", "inspect", "--format={{.Id}}", image)
        except EngineError:
            return False
        self._images[image] = time.monotonic()
        return True

    async def ask(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        environment_file: str = "",
        codes: Sequence[int] | None = (0,),
        seconds: float = ANSWER_SECONDS,
        both: bool = False,
    ) -> str:
        """Run the program; return its output, `both`: with its errors.

        `environment` is added to its own. `environment_file` is what an environment file holds,
        which takes the place of {file} in the arguments; it is in memory, so that nothing of it is
        left whoever is killed. Raises EngineError for an exit code that is not among `codes` (None:
        for none), and Unavailable when nothing was said by the engine itself: the program cannot be
        started, or reach it, was killed, or has taken too long.
        """
        file = os.memfd_create("runtable-environment")
        try:
            os.write(file, environment_file.encode())
            place = f"/proc/self/fd/{file}"
            words = [
                word.replace("{file}", place) if word == "{file}" else word for word in arguments
            ]
            with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
                code = await self._run(words, environment or {}, file, (out, err), seconds)
                said, complaint = (_text(output) for output in (out, err))
        finally:
            os.close(file)
        self._answered = -math.inf if code else time.monotonic()
        if code < 0:
            raise Unavailable(f"{self.program} {arguments[0]} was killed by signal {-code}")
        if code and _AWAY.search(complaint):
            raise Unavailable(in_words(complaint))
        if codes is not None and code not in codes:
            raise EngineError(in_words(complaint or said) or f"exit code {code}")
        return said + complaint if both else said

    async def _run(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        file: int,
        outputs: tuple[Any, Any],
        seconds: float,
    ) -> int:
        try:
            process = await asyncio.create_subprocess_exec(
                *(self.program, *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=outputs[0],
                stderr=outputs[1],
                env={**os.environ, **environment},
                pass_fds=(file,),
                cwd=_NOWHERE,
                start_new_session=True,
            )
        except OSError as error:
            raise Unavailable(f"{self.program} cannot be started: {error.strerror}") from error
        try:
            async with asyncio.timeout(seconds):
                return await process.wait()
        except TimeoutError:
            raise Unavailable(f"{self.program} {arguments[0]} took over {seconds:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def _text(output: Any) -> str:
    output.seek(0)
    text: str = output.read().decode(errors="replace")
    return text


def in_words(complaint: str) -> str:
    """What an engine complains about: its last lines but for advice, in one."""
    lines = [_PREFIX.sub("", line.strip()) for line in complaint.splitlines()]
    lines = [line for line in lines if line and not _ADVICE.match(line)]
    return "; ".join(lines[-3:])[-1000:]


def _container(found: Mapping[str, Any]) -> Container:
    state, labels = found["State"], found["Config"]["Labels"] or {}
    status = str(state["Status"])
    kind = "starting" if status in _STARTING else "running" if status in _RUNNING else "over"
    return Container(
        id=found["Id"],
        attempt=labels.get(ATTEMPT, ""),
        state=kind,
        keep=KEEP in labels,
        exit_code=int(state["ExitCode"]),
        out_of_memory=bool(state["OOMKilled"]),
        error=in_words(str(state.get("Error", ""))),
        memory=int(found["HostConfig"].get("Memory", 0)),
        started=_seconds(state["StartedAt"]),
        finished=_seconds(state["FinishedAt"]),
    )


def _seconds(stamp: str) -> float:
    """Seconds since the epoch; now for a time that has not come, which is one of the year 1."""
    moment = datetime.fromisoformat(stamp)
    return time.time() if moment.year < 1971 else moment.timestamp()


def _megabytes(memory: int) -> str:
    from ctxlib.limits import words_for_bytes

    return words_for_bytes(memory)
