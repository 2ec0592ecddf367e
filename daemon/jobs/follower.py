"""Follows one attempt: takes in what its journals say, until it has ended or is lost."""

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ctxlib.errors import Problem
from ctxlib.journal import Entry, JournalReader, file_name
from ctxlib.selection import FIRST
from daemon.backends import Status
from daemon.backends.vigil import Vigil
from daemon.jobs.job import Job
from daemon.jobs.outside import Outside
from daemon.jobs.parts import Later
from daemon.jobs.progress import Progress
from daemon.jobs.queue import Queue
from daemon.jobs.states import State, Who
from daemon.jobs.trouble import insist, is_passing
from daemon.jobs.vigil import too_silent

SAVE_SECONDS = 1.0
"""How often the offsets of a running attempt are saved. Lines may be taken in twice."""
VISIBLE_SECONDS = 30.0
"""How long an end that a manager has seen may take to be visible here (network filesystems)."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt came to its end.

    `how` is finished, failed, stopped, broken (the context) or lost; `later` are the parts of the
    run that are left for other jobs, `ran` says that it has left results; `problems` are those of a
    broken context; `by` is who ran it, as `user@host`, if it said so, or what its backend called
    it; `began` and `ended` are when that was, by the clock of its host.
    """

    how: str
    reason: str
    offsets: Mapping[str, int]
    later: Sequence[Later] = ()
    ran: bool = True
    problems: list[dict[str, Any]] | None = None
    by: str | None = None
    began: float | None = None
    ended: float | None = None


class Follower:
    """Follows one attempt of `job`, whose journals are in `attempt` and whose job.json says
    `request`. Call `wake` when there may be something to read."""

    def __init__(
        self,
        job: Job,
        attempt: Path,
        request: Mapping[str, Any],
        handle: str,
        *,
        queue: Queue,
        outside: Outside,
        offsets: Mapping[str, int],
    ) -> None:
        """`offsets` say how far the journals have been taken in before."""
        self.job = job
        self.handle = handle
        self.request = request
        self.progress = Progress()
        self._attempt = attempt
        self._queue = queue
        self._outside = outside
        self._clock = outside.clock
        self._reader = JournalReader(attempt, offsets)
        self._taken: dict[str, int] = dict(offsets)
        self._saved = self._clock()
        self._unsaved = False
        self._news = asyncio.Event()
        self._status = Status("running")
        self._place = ""
        self._unseen_since: float | None = None
        self._began = job.state is not State.DISPATCHED
        self._spoilt = ""
        self._vigil = Vigil(outside.clock)
        self._written: int | None = None

    def wake(self) -> None:
        """There may be something to read."""
        self._news.set()

    def note(self, status: Status) -> None:
        """The manager says that the attempt has this status."""
        before, self._status = self._status.waits_for, status
        self._place = status.place or self._place
        if not self._began and status.waits_for != before:
            self._outside.publish(self.waits())
        self.wake()

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for something before it begins."""
        return not self._began and self._status.waits_for != ""

    def waits(self) -> dict[str, Any]:
        """What it waits for before it begins, as an update."""
        head = {"job": self.job.id, "proposal": self.job.proposal, "run": self.job.run}
        return {"kind": "waiting", **head, "reason": self._status.waits_for}

    def describe(self) -> dict[str, Any]:
        """Where it is, as JSON: job, proposal, run, data, variable, done, total, since, progress.

        `progress` is what its variable last said of itself: done, total, text. `begun` tells
        whether somebody is at work on it, `waits` what stands in its way, `place` what its backend
        calls it; `command` is that of a job without variables.
        """
        progress, job = self.progress, self.job
        return {
            **{"job": job.id, "proposal": job.proposal, "run": job.run, "data": job.data},
            **{"variable": progress.variable, "since": job.started},
            **{"done": len(progress.done), "total": len(progress.order)},
            "progress": progress.report,
            **{"backend": job.backend, "command": (job.command or {}).get("command")},
            **{"begun": self._began, "waits": self._status.waits_for},
            "place": progress.place or self._place,
        }

    async def follow(self) -> Outcome:
        """Take in all lines until the attempt has ended or is lost."""
        if self._taken:
            # What was taken in before a restart is needed for the progress, not for the tables.
            for entry in await asyncio.to_thread(JournalReader(self._attempt).read):
                self.progress.take(entry)
        try:
            return await self._until_the_end()
        except asyncio.CancelledError:
            await self._save()
            raise

    async def _until_the_end(self) -> Outcome:
        while True:
            self._news.clear()
            status = self._status  # before reading: what a lost one has written is there by now
            entries = await insist(self._read, self.job.name, self._outside.log)
            await self._take(entries)
            if self.progress.ended is not None:
                return self._outcome(self.progress.ended)
            if status.state == "lost":
                return self._lost(status.reason)
            if silent := self._too_silent(status):
                return await self._fence(silent)
            if status.state == "ended" and self._unseen_for_long():
                return self._lost("its end cannot be read")
            if self._clock() - self._saved >= SAVE_SECONDS:
                await self._save()
            await self._wait()

    def _too_silent(self, status: Status) -> str:
        silence = self._vigil.look((self._written, sum(self._reader.offsets.values())))
        if status.signs == "none":
            return ""
        return too_silent(status, silence, self._outside.settings())

    async def _fence(self, why: str) -> Outcome:
        """Nobody shall be at work on it any more before another attempt begins."""
        name, log = self.job.name, self._outside.log
        log.error("%s: %s; it is ended", name, why)
        await insist(lambda: self._outside.manager.fence(self.handle, why), name, log)
        await self._take(await insist(self._read, name, log))  # it may have ended just now
        return (
            self._lost(why) if self.progress.ended is None else self._outcome(self.progress.ended)
        )

    async def _wait(self) -> None:
        timeout = SAVE_SECONDS if self._unsaved else None
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._news.wait()

    async def _read(self) -> list[Entry]:
        def read() -> list[Entry]:
            self._written = _written(self._attempt)
            return self._reader.read()

        return await asyncio.to_thread(read)

    async def _take(self, entries: list[Entry]) -> None:
        if not entries:
            return
        for entry in entries:
            self.progress.take(entry)
        await self._begin()
        for update in await self._apply(entries):
            self._outside.publish(update)
        self._taken, self._unsaved = dict(self._reader.offsets), True

    async def _begin(self) -> None:
        """Its first lines show that it runs; an attempt that has ended says so with its end."""
        if self._began or self.progress.ended is not None:
            return
        self._began = True
        await insist(
            lambda: self._queue.transition(
                *(self.job, State.RUNNING, Who.OWNER, "claimed", self.progress.where),
                time=self.progress.began,
            ),
            self.job.name,
            self._outside.log,
        )
        self.job = await self._queue.get(self.job.id)
        self._outside.publish(self.job.update())

    async def _apply(self, entries: list[Entry]) -> list[dict[str, Any]]:
        """Bring lines into the tables; one that cannot be is left out and told at the end."""
        name, log = self.job.name, self._outside.log
        try:
            apply = self._outside.apply
            return list(await insist(lambda: apply(self.request, entries), name, log))
        except Exception as error:
            if is_passing(error):
                raise
            if len(entries) > 1:
                return [update for entry in entries for update in await self._apply([entry])]
            log.exception("%s: its line %r cannot be recorded", name, entries[0].kind)
            variable = entries[0].fields.get("variable")
            what = f"line {entries[0].kind!r}" + (f" of {variable}" if variable else "")
            self._spoilt = f"{what} could not be recorded: {type(error).__name__}: {error}"
            return []

    async def _save(self) -> None:
        if not self._unsaved:
            return
        try:
            await self._queue.save_offsets(self.job, self._taken)
        except sqlite3.Error as error:
            # Without them lines are taken in again, no more.
            self._outside.log.warning("%s: offsets not saved: %s", self.job.name, error)
        self._saved, self._unsaved = self._clock(), False

    def _unseen_for_long(self) -> bool:
        if self._unseen_since is None:
            self._unseen_since = self._clock()
        return self._clock() - self._unseen_since >= VISIBLE_SECONDS

    def _lost(self, reason: str) -> Outcome:
        return Outcome("lost", reason or "it was lost", self._taken, ran=bool(self.progress.done))

    def _outcome(self, ended: Entry) -> Outcome:
        how, reason = ended.fields["status"], ended.fields["reason"]
        problems = ended.fields.get("problems") or None
        if how == "broken":
            reason = broken_context(self.request, problems) if problems else reason
        elif self._spoilt:
            reason = f"{reason}; {self._spoilt}" if reason else self._spoilt
            how = "failed" if how == "finished" else how
        left = how == "finished" and self.job.part == FIRST
        later = self.progress.later if left else ()
        ran = bool(self.progress.done)
        outcome = Outcome(how, reason, self._taken, later=later, ran=ran, problems=problems)
        by = self.progress.where or self._place or None
        return replace(outcome, by=by, began=self.progress.began, ended=ended.time)


def _written(attempt: Path) -> int | None:
    """When whoever watches the attempt has last written something, in ns of whatever clock."""
    try:
        return (attempt / file_name(0)).stat().st_mtime_ns
    except OSError:
        return None


def broken_context(request: Mapping[str, Any], problems: list[dict[str, Any]]) -> str:
    """Why nothing can run, in words, from the problems of the context file."""
    name = Path(str(request["context"])).name
    said = "; ".join(str(Problem.from_json(problem)) for problem in problems)
    return f"{name} cannot be executed: {said}"
