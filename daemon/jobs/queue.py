"""The durable queue: jobs, their attempts and their history, in `daemon.sqlite`."""

import json
import logging
import sqlite3
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from daemon.database import Database
from daemon.events.inbox import StoredEvent, job_of_event, mark_done
from daemon.jobs import changes, choice
from daemon.jobs.endings import Endings
from daemon.jobs.folder import new_id
from daemon.jobs.job import (
    LOCAL,
    Job,
    Work,
    job_of,
)
from daemon.jobs.parts import Later, part_id, part_work
from daemon.jobs.states import ACTIVE, State, Who
from daemon.jobs.views import listed

T = TypeVar("T")

RETRY_PAUSE = 5.0
"""Seconds that each loss after the first adds to the pause before the next attempt."""


class Queue(Endings):
    """Jobs and what is known of them. Every change is one transaction, on disk when it returns."""

    def __init__(
        self,
        db: Database,
        *,
        log: logging.Logger,
        by: str = "",
        now: Callable[[], float] = time.time,
        new_id: Callable[[float], str] = new_id,
    ) -> None:
        """Keep everything in `db`, whose migrations are `tables.MIGRATIONS`.

        `by` is who this process is, as `user@host`, for the history.
        """
        super().__init__(db, log=log, now=now, by=by)
        self._new_id = new_id

    # Making

    async def create(self, works: Sequence[Work], *, at_once: int | None = None) -> list[Job]:
        """Queue `works` in the order given, all or none; at most `at_once` of them run at once.

        For that each comes after the one that is so many places before it.
        """
        at = self._stamp()

        def create(connection: sqlite3.Connection) -> list[Job]:
            made: list[Job] = []
            for place, work in enumerate(works):
                if at_once is not None and place >= at_once:
                    work = replace(work, after=made[place - at_once].id)
                made.append(changes.insert(connection, work, self._unused_id(connection), at))
            return made

        return await self._db.write(create)

    async def take(self, stored: StoredEvent, backend: str = LOCAL) -> Job:
        """Make a job of an event; see `take_all`."""
        return (await self.take_all([stored], backend))[0]

    async def take_all(self, events: Sequence[StoredEvent], backend: str = LOCAL) -> list[Job]:
        """Make a job of each event, or let the queued one for the same run and data absorb it.

        The events are done in the same transaction; one that was done before stays with its job.
        A job that has results of an earlier attempt absorbs nothing, as it goes on from these.
        """
        at = self._stamp()
        return await self._db.write(
            lambda c: [self._take(c, stored, at, backend) for stored in events]
        )

    def _take(
        self,
        connection: sqlite3.Connection,
        stored: StoredEvent,
        at: changes.Stamp,
        backend: str,
    ) -> Job:
        event = stored.event
        work = Work(
            proposal=event.proposal,
            run=event.run,
            data=event.data,
            source=event.source,
            live=True,
            backend=backend,
        )
        taken_by = job_of_event(connection, stored.id)
        if taken_by is not None:
            return job_of(changes.row_of(connection, taken_by))
        job = choice.absorbing(connection, work)
        if job is None:
            job = changes.insert(connection, work, self._unused_id(connection), at)
        else:
            connection.execute("UPDATE jobs SET live = 1 WHERE id = ?", (job.id,))
            job = replace(job, live=True)
            changes.note(connection, job, f"absorbed event {stored.id} ({event.source})", at)
        mark_done(connection, [stored.id], job.id)
        return job

    def _unused_id(self, connection: sqlite3.Connection) -> str:
        """A new id: of thousands that are made in the same second some are the same."""
        while True:
            new = self._new_id(self._now())
            if connection.execute("SELECT 1 FROM jobs WHERE id = ?", (new,)).fetchone() is None:
                return new

    async def adopt(self, work: Work, job_id: str, why: str, attempt: int = 1) -> Job:
        """Enter a job that has run elsewhere, with its attempt number `attempt` at work.

        A job that is there under this id already is left as it is.
        """
        at = self._stamp()
        return await self._db.write(lambda c: changes.adopt(c, work, job_id, why, at, attempt))

    # Running

    async def waiting_for(self) -> list[str]:
        """The backends that queued jobs are for."""
        return await self._db.read(choice.backends)

    async def claim(self, among: Collection[str] | None = None) -> Job | None:
        """Take the job that is next: it is dispatched, with a new attempt. None: none may start.

        Live jobs come before others, the newest first; others in the order they were given. With
        `among` only jobs for these backends are looked at.
        """
        at = self._stamp()

        def claim(connection: sqlite3.Connection) -> Job | None:
            while (row := choice.next_row(connection, at.time, among)) is not None:
                try:
                    job = job_of(row)
                except ValueError as error:
                    self._log.error("%s; it is canceled", error)
                    changes.cancel_unreadable(connection, row, at)
                    continue
                to, who = State.DISPATCHED, Who.CLAIM
                changes.move(connection, job.id, job.attempt, to, who, "its turn", at)
                return job_of(changes.row_of(connection, job.id))
            return None

        return await self._db.write(claim)

    async def transition(
        self,
        job: Job,
        to: State,
        who: Who,
        why: str,
        by: str | None = None,
        *,
        time: float | None = None,
    ) -> State:
        """Take `job` to state `to` for the attempt that it had when it was read.

        `by` is who asks for it, as `user@host`, if that is somebody else than this process; `time`
        is when it was by their clock, if it was seen only now.
        Returns the state that it then has; raises Refused, OldAttempt, UnknownJob.
        """
        now = self._stamp(by)

        def move(connection: sqlite3.Connection) -> State:
            at = changes.seen_late(connection, job, now, time)
            return changes.move(connection, job.id, job.attempt, to, who, why, at)

        return await self._db.write(move)

    async def finish(
        self,
        job: Job,
        to: State,
        why: str,
        *,
        offsets: Mapping[str, int],
        later: Sequence[Later] = (),
        by: str | None = None,
        times: tuple[float | None, float | None] = (None, None),
    ) -> Job:
        """The attempt of `job` has ended, with `to`; all its lines up to `offsets` are taken in.

        `later` are the parts of its run that are left: a job for each is queued in the same
        transaction, under an id of its own that makes it exactly one. `times` are when it began
        and ended by the clock of its host.
        """
        now = self._stamp(by)

        def finish(connection: sqlite3.Connection) -> Job:
            began, at = (changes.seen_late(connection, job, now, time) for time in times)
            if State(changes.row_of(connection, job.id)["state"]) is State.DISPATCHED:
                running = State.RUNNING
                changes.move(connection, job.id, job.attempt, running, Who.OWNER, "claimed", began)
            changes.move(connection, job.id, job.attempt, to, Who.OWNER, why, at)
            changes.save_offsets(connection, job.id, job.attempt, offsets)
            for part in later:
                changes.insert(connection, part_work(job, part), part_id(job, part.part), at)
            return job_of(changes.row_of(connection, job.id))

        return await self._db.write(finish)

    async def lose(self, job: Job, why: str, *, max_attempts: int) -> State:
        """The attempt of `job` was lost: queued for the next one, or failed if they are used up."""
        at = self._stamp()
        return await self._db.write(
            lambda connection: changes.lose(
                *(connection, job.id, job.attempt, why, at),
                max_attempts=max_attempts,
                pause=RETRY_PAUSE,
                longest=choice.LONGEST_PAUSE,
            )
        )

    async def give_back(self, job: Job, why: str, *, ran: bool) -> State:
        """Queue `job` again, with `why` as what it waits for; its attempt is not held against it.

        `ran` says that the attempt has left results, which the next one goes on from.
        """
        at = self._stamp()
        return await self._db.write(
            lambda connection: changes.give_back(connection, job.id, job.attempt, why, at, ran=ran)
        )

    async def take_back(self, job: Job, why: str) -> None:
        """`job` could not be handed over because of `why`, and nothing is left of the attempt.

        It is queued as it was before it was claimed.
        """
        at = self._stamp()
        await self._db.write(lambda c: changes.take_back(c, job.id, job.attempt, why, at))

    async def hold_back(self, why: str, backend: str | None = None) -> tuple[list[Job], bool]:
        """Everything queued, for `backend` if given, waits for `why`.

        Returns the live jobs for which that is news, and whether it is for any job at all.
        """
        held = "state = 'queued' AND waiting_reason != :why"
        held += "" if backend is None else " AND backend = :backend"
        values = {"why": why, "backend": backend}

        def hold_back(connection: sqlite3.Connection) -> tuple[list[sqlite3.Row], bool]:
            find = f"SELECT * FROM jobs WHERE {held} AND live = 1"
            rows = connection.execute(find, values).fetchall()
            update = f"UPDATE jobs SET waiting_reason = :why WHERE {held}"
            return rows, connection.execute(update, values).rowcount > 0

        rows, news = await self._db.write(hold_back)
        return self._readable(rows), news

    async def cancel_unreadable(self) -> None:
        """Take jobs under way whose rows make no sense out of the way of the others.

        A queued one is found when it is its turn.
        """
        at, query = self._stamp(), f"SELECT * FROM jobs WHERE state IN {listed(ACTIVE)}"

        def cancel(connection: sqlite3.Connection) -> None:
            for row in connection.execute(query).fetchall():
                try:
                    job_of(row)
                except ValueError as error:
                    self._log.error("%s; it is canceled", error)
                    changes.cancel_unreadable(connection, row, at)

        await self._db.write(cancel)

    async def save_handle(self, job: Job, handle: str) -> None:
        """Remember by which handle its manager knows the attempt of `job`."""
        query = "UPDATE attempts SET handle = ? WHERE job = ? AND number = ?"
        values = (handle, job.id, job.attempt)
        await self._db.write(lambda connection: connection.execute(query, values))

    async def save_offsets(self, job: Job, offsets: Mapping[str, int]) -> None:
        """Remember how far the journals of the attempt of `job` have been taken in."""
        kept = dict(offsets)
        await self._db.write(
            lambda connection: changes.save_offsets(connection, job.id, job.attempt, kept)
        )

    async def progress(self, job: Job) -> tuple[str | None, dict[str, int]]:
        """The handle (None: by its folder) and the offsets kept of the attempt of `job`."""
        query = "SELECT handle, offsets FROM attempts WHERE job = ? AND number = ?"
        values = (job.id, job.attempt)
        row = await self._db.read(lambda c: c.execute(query, values).fetchone())
        if row is None:
            return None, {}
        return row["handle"], json.loads(row["offsets"])
