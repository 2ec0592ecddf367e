"""What keeps queued jobs from starting: all of them, or those of one backend; and who is told."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from daemon.jobs import folder
from daemon.jobs.job import LOCAL, Job
from daemon.jobs.outside import Outside
from daemon.jobs.queue import Queue
from daemon.jobs.trouble import insist

HOLD_SECONDS = 30.0
"""After how long one job is tried although nothing has changed."""
TROUBLE_SECONDS = 5.0
"""The same when the host or its disks are in trouble, which nothing tells the end of."""

Signature = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Hold:
    """Nothing starts, because of `why`, until `until` or until the Python files have changed.

    `until` is by the clock that never steps; `broken` are the problems of the context file if these
    are why.
    """

    why: str
    until: float
    sources: Path | None = None
    signature: Signature | None = None
    broken: list[dict[str, Any]] | None = None


class Holds:
    """The holds that there are: at most one on everything, and one on each backend."""

    def __init__(self, queue: Queue, outside: Outside) -> None:
        self._queue = queue
        self._outside = outside
        self._all: Hold | None = None
        self._by_backend: dict[str, Hold] = {}
        self._short: dict[str, str] = {}
        self._explained: dict[str, str] = {}

    @property
    def waiting(self) -> str | None:
        """Why queued jobs do not start, if something is in the way of them."""
        if self._all is not None:
            return self._all.why
        reasons = {name: hold.why for name, hold in self._by_backend.items()} | self._short
        if set(reasons) == {LOCAL}:
            return reasons[LOCAL]
        return "; ".join(f"backend {name}: {why}" for name, why in reasons.items()) or None

    @property
    def broken(self) -> list[dict[str, Any]] | None:
        """The problems of the context file that all jobs wait for, if they do."""
        return None if self._all is None else self._all.broken

    def try_again(self) -> bool:
        """The context file was mended, which may not show in its files: whether anything waited."""
        if self._all is None or self._all.broken is None:
            return False
        self._all = replace(self._all, until=self._outside.clock())
        return True

    async def on_everything(
        self,
        why: str,
        sources: Path | None,
        signature: Signature | None,
        broken: list[dict[str, Any]] | None,
    ) -> None:
        """Start nothing until `why` may be over, or the files in `sources` differ."""
        if self._all is None or self._all.why != why:
            self._outside.log.error("%s; jobs wait until that has changed", why)
        if signature is None:
            signature = await asyncio.to_thread(signature_of, sources)
        seconds = HOLD_SECONDS if broken is not None else min(HOLD_SECONDS, TROUBLE_SECONDS)
        until = self._outside.clock() + seconds
        self._all = Hold(why, until, sources, signature, broken)

    async def on_backend(self, backend: str, why: str, seconds: float = HOLD_SECONDS) -> None:
        """Start nothing on a backend for so many seconds; all who wait for it are told."""
        before = self._by_backend.get(backend)
        if before is None or before.why != why:
            self._outside.log.error("backend %s: %s; its jobs wait", backend, why)
        self._by_backend[backend] = Hold(why, self._outside.clock() + seconds)
        await self.tell_waiting()

    def short(self, backend: str, why: str | None) -> None:
        """A backend has no room just now, because of `why`; None: it is not for a reason."""
        if why is None:
            self._short.pop(backend, None)
        else:
            self._short[backend] = why

    async def tell_waiting(self) -> None:
        """Tell jobs that were queued since why they do not start."""
        log = self._outside.log
        if (hold := self._all) is not None:
            held = await insist(lambda: self._queue.hold_back(hold.why), "the queue", log)
            await self._told(held, hold.why)
            return
        for backend, each in self._by_backend.items():
            why = f"backend {backend}: {each.why}"
            held = await insist(partial(self._queue.hold_back, why, backend), "the queue", log)
            await self._told(held, why)

    async def _told(self, held: tuple[Iterable[Job], bool], why: str) -> None:
        live, news = held
        await self.explain(live, why)
        if news:  # of thousands that are done again none is told by itself: who follows any, looks
            self._outside.publish({"kind": "held"})

    async def explain(self, jobs: Iterable[Job], why: str) -> None:
        """Tell the rows of jobs why they wait, each once."""
        for job in jobs:
            if self._explained.get(job.id) != why:
                self._explained[job.id] = why
                await self._outside.tell_row(job, why)
                job = await self._queue.get(job.id)
                self._outside.publish(job.update())

    async def everything_waits(self) -> bool:
        """Whether nothing may start now."""
        return self._all is not None and not await self._is_over(self._all)

    def waits(self, backend: str) -> bool:
        """Whether no job of a backend may start now."""
        hold = self._by_backend.get(backend)
        return hold is not None and self._outside.clock() < hold.until

    async def nobody_waits(self) -> bool:
        """No job is queued any more: whether no hold is left either.

        Not before what held is over: a job that is just being given back has to find why.
        """
        self._short.clear()
        now = self._outside.clock()
        self._by_backend = {n: hold for n, hold in self._by_backend.items() if now < hold.until}
        if self._all is not None and await self._is_over(self._all):
            self._all = None
        return self._all is None and not self._by_backend

    async def release(self, backend: str) -> None:
        """A job of `backend` has started: nothing holds it, or everything, any more."""
        hold, everything = self._by_backend.pop(backend, None), self._all
        if hold is None and everything is None:
            return
        self._all = None
        self._outside.log.info("jobs start again" if everything else f"backend {backend} is back")
        self._explained.clear()
        of = None if everything else backend
        await insist(lambda: self._queue.hold_back("", of), "the queue", self._outside.log)
        await self.tell_waiting()

    async def _is_over(self, hold: Hold) -> bool:
        if self._outside.clock() >= hold.until or hold.signature is None:
            return self._outside.clock() >= hold.until
        return await asyncio.to_thread(signature_of, hold.sources) != hold.signature


def signature_of(sources: Path | None) -> Signature | None:
    """The state of the Python files beside the context; None when they cannot be read."""
    try:
        return None if sources is None else folder.sources_signature(sources)
    except OSError:
        return None
