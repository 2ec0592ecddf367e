"""Where the programs of Slurm are started: on this machine, or where a `Transport` leads."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from daemon.backends.slurm.scheduler import NoAnswer, NotAsked, Refused

CALL_SECONDS = 30.0
"""How long one program may take: clients of a controller that is away wait for some ten seconds."""


@dataclass(frozen=True)
class Output:
    """What a program has left: its exit code and its two outputs as text."""

    code: int
    out: str
    err: str


class Transport(Protocol):
    """A place with Slurm's programs."""

    async def run(self, command: Sequence[str], stdin: bytes = b"") -> Output:
        """Run a program with its arguments (no shell in between that takes them apart).

        Raises NoAnswer when it has not ended in time, was killed, or the place cannot be reached:
        what it was to do may have been done; Refused when there is no such program.
        """

    async def close(self) -> None:
        """Let go of the connection, if there is one."""


class ThisMachine:
    """The machine that this process runs on."""

    def __init__(
        self, environment: Mapping[str, str] = os.environ, *, seconds: float = CALL_SECONDS
    ) -> None:
        """Programs get `environment`, without what belongs to a job or a call that this is in.

        Each is ended after `seconds`.
        """
        self._environment = {
            name: value
            for name, value in environment.items()
            if name in ("SLURM_CONF", "SLURM_JWT") or not name.startswith(("SLURM_", "SBATCH_"))
        }
        self._seconds = seconds

    async def run(self, command: Sequence[str], stdin: bytes = b"") -> Output:
        """Run a program; see `Transport`."""
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=self._environment,
                start_new_session=True,
            )
        except FileNotFoundError:
            words = f"{command[0]} is not on PATH: run on a machine of the cluster"
            raise Refused(words) from None
        except OSError as error:
            raise NotAsked(f"{command[0]} cannot be started: {error}") from error
        try:
            async with asyncio.timeout(self._seconds):
                out, err = await process.communicate(stdin)
        except TimeoutError:
            raise NoAnswer(f"{command[0]} has not ended within {self._seconds:g} s") from None
        finally:
            if process.returncode is None:
                # With what it has started, so that nobody keeps its outputs open.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        assert process.returncode is not None
        if process.returncode < 0:
            # It may have done what it was to do before.
            raise NoAnswer(f"{command[0]} was killed by signal {-process.returncode}")
        return Output(
            process.returncode, out.decode(errors="replace"), err.decode(errors="replace")
        )

    async def close(self) -> None:
        """Nothing is held."""
