"""What is removed by age, or because nothing needs it: job folders, rows, copies of ctxlib.

Results are never among it: a job's folder goes when its results are in the run file, no job waits
for them, and it has ended long ago. What a person asks to be cleaned up is the same, and besides
what is wrong: rows that cannot be read, folders and rows that belong to no job.
"""

import asyncio
import json
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ctxlib.job_folder import FRAGMENTS, attempts
from daemon.backends.named import Backends
from daemon.database import Database
from daemon.events.letters import OLD_LETTERS
from daemon.jobs.job import COMBINED, job_of
from daemon.jobs.states import ACTIVE, TERMINAL
from daemon.jobs.views import listed

FIRST_SECONDS, EVERY_SECONDS = 60.0, 3600.0
"""How long after a start to look for the first time, and how often then."""
DAY = 86400.0
KEPT_JOBS = 1000
"""So many of the newest stay however old they are."""
AT_ONCE = 500
"""Rows that one transaction removes, so that it is short."""

_DONE = f"""j.state IN {listed(TERMINAL)} AND j.ended < :before
    AND (j.combined = {COMBINED} AND j.cleaned = 1 OR j.attempt < j.first_attempt)"""
_OLD_FOLDERS = f"""SELECT j.id FROM jobs AS j WHERE j.id IN (SELECT value FROM json_each(:names))
    AND {_DONE}"""
_OLD_JOBS = f"""SELECT j.id FROM jobs AS j WHERE {_DONE}
    AND j.id NOT IN (SELECT value FROM json_each(:names))
    AND j.position <= (SELECT max(position) FROM jobs) - {KEPT_JOBS}
    AND NOT EXISTS (SELECT 1 FROM jobs AS o WHERE o.after = j.id
                    AND o.state NOT IN {listed(TERMINAL)})"""
_UNUSED = f"""{_OLD_FOLDERS} AND NOT EXISTS (SELECT 1 FROM jobs AS o WHERE o.after = j.id
    AND o.state NOT IN {listed(TERMINAL)})"""
_OLD_EVENTS = """SELECT e.id FROM events AS e WHERE e.state != 'pending' AND e.time < :before
    AND EXISTS (SELECT 1 FROM events AS o WHERE o.proposal = e.proposal AND o.run = e.run
                AND o.data = e.data AND o.source = e.source AND o.id > e.id)"""
"""The last event of each source, run and kind of data stays: by it a repeated one is known."""
_ORPHANS = {
    table: f"SELECT DISTINCT job AS id FROM {table} WHERE job NOT IN (SELECT id FROM jobs)"
    for table in ("attempts", "history")
}


@dataclass(frozen=True)
class Waste:
    """Something that can go: `kind` and `name` say what it is, `why` for what reason.

    `kept` says why it stays for all that; "" that it does not.
    """

    kind: str
    name: str
    why: str
    kept: str = ""


class Housekeeping:
    """Keeps a database folder from growing for ever."""

    def __init__(
        self,
        folder: Path,
        db: Database,
        *,
        library: Callable[[], Path],
        keep_days: Callable[[], float],
        now: Callable[[], float],
        log: logging.Logger,
    ) -> None:
        """Keep the database `folder`; `library` is the copy of ctxlib that is used now."""
        self._folder = folder
        self._jobs = folder / "jobs"
        self._db = db
        self._library = library
        self._keep_days = keep_days
        self._now = now
        self._log = log

    async def run(self) -> None:
        """Remove by age, for ever."""
        pause = FIRST_SECONDS
        while True:
            await asyncio.sleep(pause)
            pause = EVERY_SECONDS
            try:
                found = await self.by_age()
                if found:
                    self._log.info("removed by age: %s", counted(found))
            except Exception:  # noqa: BLE001 - the next look may find it over
                self._log.exception("old jobs could not be removed")

    async def by_age(self, *, dry_run: bool = False) -> list[Waste]:
        """Remove what is older than `keep_days`, and what it was; with `dry_run` what it would be.

        Copies of ctxlib of earlier versions go when no job is at work.
        """
        values: dict[str, object] = {"before": self._now() - self._keep_days() * DAY}
        names = await asyncio.to_thread(self._names)
        found = []
        for id_ in await self._ids(_OLD_FOLDERS, {**values, "names": json.dumps(names)}):
            waste = Waste("folder", id_, "its results are in the run file")
            if dry_run:
                found.append(waste)
            else:
                one = {**values, "names": json.dumps([id_])}
                found += await self._db.write(partial(self._remove_old, waste=waste, values=one))
        left = sorted(set(names).difference(w.name for w in found if not w.kept))
        for kind, why, query, more in (
            ("job", "it ended long ago", _OLD_JOBS, {"names": json.dumps(left)}),
            ("event", "later ones followed", _OLD_EVENTS, {}),
            ("dead letter", "it is old", OLD_LETTERS, {}),
        ):
            found += await self._rows(kind, why, query, {**values, **more}, dry_run=dry_run)
        found += await self._unused_configurations(dry_run=dry_run)
        return found + await self._old_libraries(dry_run=dry_run)

    async def forget(self, id_: str) -> bool:
        """Remove a job that has ended, with its folder; False when something still needs it."""
        values = {"before": float("inf"), "names": json.dumps([id_])}

        def remove(connection: sqlite3.Connection) -> bool:
            waste = Waste("job", id_, "somebody has deleted it")
            if connection.execute(_UNUSED, values).fetchone() is None:
                return False
            # A folder that stays is one of no job, and goes with the next cleanup.
            self._remove(self._jobs / id_, waste)
            _delete(connection, [waste])
            return True

        return await self._db.write(remove)

    async def what_is_wrong(self, *, dry_run: bool = False) -> list[Waste]:
        """Remove rows that cannot be read, and folders and rows that belong to no job."""
        names = await asyncio.to_thread(self._names)
        # After the folders: each of these had its row before it was made.
        known, found = await self._db.write(partial(_unreadable, dry_run=dry_run))
        for name in names:
            if name not in known:
                waste = await asyncio.to_thread(self._stray, name)
                found.append(await self._remove_unless(dry_run, self._jobs / name, waste))
        for table, query in _ORPHANS.items():
            why = "there is no such job"
            found += await self._rows(f"{table} rows", why, query, {}, dry_run=dry_run)
        return found

    def _names(self) -> list[str]:
        try:
            with os.scandir(self._jobs) as entries:
                return sorted(
                    entry.name for entry in entries if entry.is_dir(follow_symlinks=False)
                )
        except FileNotFoundError:
            return []

    def _stray(self, name: str) -> Waste:
        """In a thread: the folder of a job that is in no row that can be read."""
        waste = Waste("folder", name, "it belongs to no job")
        fragments = [attempt / FRAGMENTS for attempt in attempts(self._jobs / name)]
        if any(any(each.iterdir()) for each in fragments if each.is_dir()):
            kept = "it has results that may be in no run file: reprocess its run, then delete it"
            return Waste(waste.kind, name, waste.why, kept)
        return waste

    def _remove_old(
        self, connection: sqlite3.Connection, waste: Waste, values: Mapping[str, object]
    ) -> list[Waste]:
        """In a transaction, so that nobody can requeue its job meanwhile: remove an old folder.

        Nothing when somebody has since it was found.
        """
        if connection.execute(_OLD_FOLDERS, values).fetchone() is None:
            return []
        return [self._remove(self._jobs / waste.name, waste)]

    async def _remove_unless(self, dry_run: bool, path: Path, waste: Waste) -> Waste:
        if waste.kept or dry_run:
            return waste
        return await asyncio.to_thread(self._remove, path, waste)

    def _remove(self, path: Path, waste: Waste) -> Waste:
        """In a thread; a file goes in the same way."""
        try:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        except FileNotFoundError:
            pass  # somebody else was quicker
        except OSError as error:
            self._log.warning("%s stays: %s", path, error)
            return Waste(waste.kind, waste.name, waste.why, kept=str(error))
        return waste

    async def _unused_configurations(self, *, dry_run: bool) -> list[Waste]:
        """Configurations that were given for once, and whose jobs are forgotten."""
        used = await self._ids("SELECT DISTINCT backend AS id FROM jobs", {})
        before = self._now() - DAY
        unused = await asyncio.to_thread(Backends(self._folder).unused, used, before)
        found = []
        for path in unused:
            waste = Waste("configuration", path.stem, "it was for once, and no job uses it")
            found.append(await self._remove_unless(dry_run, path, waste))
        return found

    async def _old_libraries(self, *, dry_run: bool) -> list[Waste]:
        active = f"SELECT id FROM jobs WHERE state IN {listed(ACTIVE)} LIMIT 1"
        if await self._ids(active, {}):
            return []  # it may have begun with an earlier copy
        found = []
        current = self._library()
        if not current.parent.is_dir():
            return []  # somebody has deleted all of them
        for path in sorted(current.parent.iterdir()):
            if path.is_dir() and path != current:
                waste = Waste("library", path.name, "another one is used now")
                found.append(await self._remove_unless(dry_run, path, waste))
        return found

    async def _rows(
        self, kind: str, why: str, query: str, values: Mapping[str, object], *, dry_run: bool
    ) -> list[Waste]:
        """Remove the rows that `query` finds, in the transactions that find them."""
        if dry_run:
            return [Waste(kind, id_, why) for id_ in await self._ids(query, values)]

        def remove(connection: sqlite3.Connection) -> list[Waste]:
            rows = connection.execute(f"{query} LIMIT {AT_ONCE}", values).fetchall()
            return _delete(connection, [Waste(kind, str(row["id"]), why) for row in rows])

        found: list[Waste] = []
        while True:
            some = await self._db.write(remove)
            found += some
            if len(some) < AT_ONCE:
                return found

    async def _ids(self, query: str, values: Mapping[str, object]) -> list[str]:
        rows = await self._db.read(lambda c: c.execute(query, values).fetchall())
        return [str(row["id"]) for row in rows]


_OF_A_ROW = "(SELECT id FROM jobs WHERE position = ?)"
_STATEMENTS = {
    "row": (
        f"DELETE FROM history WHERE job = {_OF_A_ROW}",
        f"DELETE FROM attempts WHERE job = {_OF_A_ROW}",
        "DELETE FROM jobs WHERE position = ?",
    ),
    "job": tuple(
        f"DELETE FROM {table} WHERE {column} = ?"
        for table, column in (("history", "job"), ("attempts", "job"), ("jobs", "id"))
    ),
    "event": ("DELETE FROM events WHERE id = ?",),
    "dead letter": ("DELETE FROM dead_letters WHERE id = ?",),
    "attempts rows": ("DELETE FROM attempts WHERE job = ?",),
    "history rows": ("DELETE FROM history WHERE job = ?",),
}
"""How the rows of each kind of waste are removed."""


def _delete(connection: sqlite3.Connection, found: list[Waste]) -> list[Waste]:
    for waste in found:
        for statement in () if waste.kept else _STATEMENTS[waste.kind]:
            connection.execute(statement, (waste.name,))
    return found


def _unreadable(connection: sqlite3.Connection, *, dry_run: bool) -> tuple[set[str], list[Waste]]:
    """Remove rows that cannot be read: the ids of the other jobs, and the places of these.

    What may be at work is in both, and stays.
    """
    known, wrong = set(), []
    for row in connection.execute("SELECT * FROM jobs"):
        try:
            known.add(job_of(row).id)
        except ValueError as error:
            kept = ""
            if row["state"] in ACTIVE:
                known.add(str(row["id"]))
                kept = "it may be at work; the daemon's next start ends it"
            wrong.append(Waste("row", str(row["position"]), str(error), kept))
    return known, wrong if dry_run else _delete(connection, wrong)


def counted(found: Sequence[Waste]) -> str:
    """How much of each kind has gone: "3 folder, 1 library"."""
    kinds = [waste.kind for waste in found if not waste.kept]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)) or "nothing"
