"""Makes the run files: the daemon's side, and the process that alone opens HDF5 files.

A run file can make the HDF5 library crash; in a process of its own that costs one job's file.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.store.worker import Worker, WorkerDied, serve

IDLE_SECONDS = 60.0


class CombineError(RuntimeError):
    """The run file could not be made, and is as it was before; the fragments must stay."""


@dataclass(frozen=True)
class Combined:
    """What came of it: the old file if it could not be read and was moved aside to this path,
    and the variables whose results did not survive, which have to be computed again."""

    moved: Path | None
    lost: tuple[str, ...]


class Combiner:
    """Puts results into run files, one after the other, through one process."""

    def __init__(self, *, idle_seconds: float = IDLE_SECONDS) -> None:
        """The process starts with the first request and ends when idle for `idle_seconds`."""
        self._worker = Worker(__name__, idle_seconds=idle_seconds)

    @property
    def pid(self) -> int | None:
        """Pid of the process while there is one."""
        return self._worker.pid

    async def combine(
        self,
        job_dir: Path | None,
        target: Path,
        start_time: float | None,
        expected: Sequence[str] = (),
    ) -> Combined:
        """Put the results of a job into the run file `target`, which is replaced.

        Without a job the file is only made, or gets its `start_time` (seconds since the epoch).
        `expected` are variables that the job has said to have ended.
        When this returns the file is on disk, and the job's fragments are not needed any more.
        Raises CombineError, or OSError for what the system refused, such as a full disk.
        """
        request = {
            "job_dir": None if job_dir is None else str(job_dir),
            "target": str(target),
            "start_time": start_time,
            "expected": list(expected),
        }
        try:
            answer = await self._worker.ask(request)
        except WorkerDied as death:
            raise CombineError(f"{target}: the process that makes it {death}, twice") from death
        if "error" in answer:
            if answer.get("errno") is not None:
                raise OSError(answer["errno"], answer["strerror"], str(target))
            raise CombineError(f"{target} could not be made: {answer['error']}")
        moved = answer["moved"]
        return Combined(None if moved is None else Path(moved), tuple(answer["lost"]))

    async def publish_empty(self, target: Path, start_time: float | None) -> None:
        """Make a run file without results if there is none: readers want one for each row."""
        if not await asyncio.to_thread(target.exists):
            await self.combine(None, target, start_time)

    async def close(self) -> None:
        """End the process, after what it is working on."""
        await self._worker.close()


def _handle(request: Mapping[str, Any]) -> Mapping[str, Any]:
    from ctxlib import files
    from daemon.store.results import Collected, collect

    target = Path(request["target"])
    job_dir = request["job_dir"]
    expected = request["expected"]
    collected = Collected([], []) if job_dir is None else collect(Path(job_dir), expected)
    results, lost = collected.results, collected.lost
    while True:
        try:
            moved = files.combine(target, results, start_time=request["start_time"])
            return {"moved": None if moved is None else str(moved), "lost": lost}
        except files.BrokenFragmentError as broken:
            # One damaged result must not keep the others out of the file.
            results = [result for result in results if result.name != broken.variable]
            lost = sorted({*lost, broken.variable})


if __name__ == "__main__":
    serve(_handle)
