"""Takes in whole jobs that `ctxlib.submit` has put into the folder `submitted`.

A job is entered in the queue first and its folder moved to `jobs/` then, so that a daemon that is
killed in between finds it in its old place, and goes on. From there it is followed like a job of
our own whose end is already written. Those of one run are taken in one after the other, in the
order of their ids, so that what was submitted last holds. What cannot be a job is set aside, with a
dead letter.
"""

import asyncio
import glob
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from ctxlib.job_folder import REQUEST
from ctxlib.places import SUBMITTED
from daemon.events.inbox import Inbox
from daemon.jobs import folder
from daemon.jobs.follower import Follower
from daemon.jobs.job import SUBMISSION, Job
from daemon.jobs.outside import Outside
from daemon.jobs.queue import Queue
from daemon.jobs.states import TERMINAL
from daemon.jobs.submission_check import NotAJob, check
from daemon.jobs.trouble import insist

LOOK_SECONDS = 1.0
"""How often to look for jobs that were submitted."""
NEXT_SECONDS = 0.05
"""How soon to look again while some wait for an earlier one of their run."""
COPY_SECONDS = 5.0
"""How long a folder that is no job may still become one: somebody may be copying it."""
LEFTOVER_SECONDS = 86400.0
"""After how long what an interrupted `submit` has left is removed."""
REFUSED = ".refused"
"""Where what is no job is kept, for a person to look at."""
LETTER_CHARACTERS = 4000


class Submitted:
    """Takes in what was submitted; `begun` is called with each job, to be followed."""

    def __init__(
        self,
        queue: Queue,
        inbox: Inbox,
        outside: Outside,
        *,
        begun: Callable[[Follower], None],
    ) -> None:
        """What is no job becomes a dead letter in `inbox`."""
        self._queue = queue
        self._inbox = inbox
        self._outside = outside
        self._begun = begun
        self._folder = outside.folder / SUBMITTED
        self._doubtful: dict[str, float] = {}
        self._active: dict[str, tuple[int, int]] = {}
        self._waiting: dict[str, tuple[int, int]] = {}
        self._unmovable: set[str] = set()
        self._told = ""

    async def recover(self) -> None:
        """Enter and move what is there, before jobs under way are taken up again: with these."""
        await asyncio.to_thread(self._remove_leftovers)
        for name in await self._look():
            await self._consider(name)

    async def run(self) -> None:
        """Take in jobs as they come, for ever."""
        while True:
            for name in await self._look():
                job = await self._consider(name)
                if job is not None:
                    await self._follow(job)
            await asyncio.sleep(min(NEXT_SECONDS, LOOK_SECONDS) if self._waiting else LOOK_SECONDS)

    async def _look(self) -> list[str]:
        """What is there, the earliest first; and which runs have one that is being taken in."""
        names = await asyncio.to_thread(self._names)
        self._doubtful = {n: since for n, since in self._doubtful.items() if n in names}
        self._waiting = {n: run for n, run in self._waiting.items() if n in names}
        if names:
            active = await insist(self._queue.active, "reading the queue", self._outside.log)
            self._active = {j.id: (j.proposal, j.run) for j in active if j.source == SUBMISSION}
        return names

    def _names(self) -> list[str]:
        try:
            names = os.listdir(self._folder)  # noqa: PTH208 - nothing else is needed of them
        except FileNotFoundError:
            return []
        return sorted(n for n in names if not n.startswith(".") and n not in self._unmovable)

    async def _consider(self, name: str) -> Job | None:
        """Enter what is called `name` in the queue, and move it; None if that came to nothing."""
        try:
            return await self._enter(name)
        except NotAJob as error:
            await self._doubt(name, str(error))
        except Exception as error:
            # A full disk, say: the next look may find it over.
            if self._told != str(error):
                self._told = str(error)
                self._outside.log.exception("%s cannot be taken in yet", self._folder / name)
        return None

    async def _enter(self, name: str) -> Job | None:
        log, path = self._outside.log, self._folder / name
        if self._waiting.get(name) in self._active.values():
            return None
        proposal = self._outside.settings().proposal
        work, provenance = await asyncio.to_thread(check, path, proposal)
        run = (work.proposal, work.run)
        # One that is entered already, as before a kill, has its turn.
        if name not in self._active and run in self._active.values():
            self._waiting[name] = run
            return None
        self._waiting.pop(name, None)
        adopt, why = self._queue.adopt, f"submitted by {provenance}"
        job = await insist(lambda: adopt(work, name, why), f"job {name}", log)
        target = self._outside.job_folder(name)
        if target.exists():
            log.info("%s has been taken in before; the second one is removed", job.name)
            await asyncio.to_thread(shutil.rmtree, path)
            return None
        if job.source != SUBMISSION or job.state in TERMINAL:
            raise NotAJob(f"there is a job of this id already, which is {job.state}: submit anew")
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
        self._active[name] = run
        log.info("%s: taken in, %s", job.name, why)
        return job

    async def _follow(self, job: Job) -> None:
        job_folder = self._outside.job_folder(job.id)
        attempt = folder.attempt_folder(job_folder, job.attempt)
        request = await asyncio.to_thread(folder.read_request, job_folder) or {}
        follower = Follower(
            *(job, attempt, request, str(attempt)),
            queue=self._queue,
            outside=self._outside,
            offsets={},
        )
        self._outside.publish(job.update())
        self._begun(follower)

    async def _doubt(self, name: str, why: str) -> None:
        """Set aside what is no job, unless it is so new that it may still become one."""
        now, log = self._outside.now(), self._outside.log
        if now - self._doubtful.setdefault(name, now) < COPY_SECONDS:
            return
        path = self._folder / name
        letter = await asyncio.to_thread(_letter, path)
        await insist(lambda: self._inbox.dead_letter(SUBMISSION, letter, why, now), name, log)
        log.error("%s cannot be taken in: %s (kept among the dead letters)", path, why)
        del self._doubtful[name]
        try:
            await asyncio.to_thread(self._set_aside, path)
        except OSError as error:
            self._unmovable.add(name)
            log.warning("%s stays where it is: %s", path, error)

    def _set_aside(self, path: Path) -> None:
        refused = self._folder / REFUSED
        refused.mkdir(exist_ok=True)
        number = sum(1 for _ in refused.glob(f"{glob.escape(path.name)}*"))
        path.rename(refused / (f"{path.name}.{number}" if number else path.name))

    def _remove_leftovers(self) -> None:
        """Remove what interrupted submissions left a day ago or earlier."""
        for path in self._folder.glob(".*"):
            if path.name == REFUSED:
                continue
            try:
                if self._outside.now() - path.stat().st_mtime > LEFTOVER_SECONDS:
                    shutil.rmtree(path)
            except OSError as error:
                self._outside.log.warning("%s stays: %s", path, error)


def _letter(path: Path) -> str:
    """What the dead letter of a folder says: its name, and the beginning of its request."""
    try:
        text = (path / REQUEST).read_text("utf-8", "backslashreplace")
    except OSError as error:
        text = f"no {REQUEST}: {error.strerror}"
    return f"{path.name}: {text[:LETTER_CHARACTERS]}"
