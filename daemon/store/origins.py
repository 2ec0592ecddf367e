"""Where the newest result of each variable of each run comes from, kept in `daemon.sqlite`."""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ctxlib.journal import Entry
from ctxlib.staleness import complete
from daemon.database import Database
from daemon.store.outcomes import journals

ORIGIN_TABLES = """
CREATE TABLE origin_contents (
    id INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    content TEXT NOT NULL
);
CREATE TABLE origins (
    proposal INTEGER NOT NULL,
    run INTEGER NOT NULL,
    variable TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('finished', 'failed', 'skipped', 'submitted')),
    time REAL NOT NULL,
    job TEXT NOT NULL,
    content INTEGER NOT NULL REFERENCES origin_contents (id),
    PRIMARY KEY (proposal, run, variable)
) WITHOUT ROWID;
"""
"""Most of an origin is the same for many runs, so that is kept once."""

_OF_ONE = ("job", "time")
_KEEP = """INSERT INTO origins (proposal, run, variable, status, time, job, content)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (proposal, run, variable) DO UPDATE SET status = excluded.status,
    time = excluded.time, job = excluded.job, content = excluded.content
    WHERE excluded.time >= origins.time"""


class Record(NamedTuple):
    """What is kept of one result: finished, failed, skipped or submitted, when (seconds), and the
    key of the fingerprint that it has."""

    status: str
    time: float
    content: int


@dataclass(frozen=True)
class Records:
    """The records of runs by run and variable, and the fingerprints that they have."""

    runs: Mapping[int, Mapping[str, Record]]
    fingerprints: Mapping[int, Mapping[str, str]]


class _Origin(NamedTuple):
    variable: str
    status: str
    time: float
    content: Mapping[str, Any]


class Origins:
    """The origins of results, in the database of the daemon; jobs are in the folder `jobs`."""

    def __init__(self, database: Database, jobs: Path) -> None:
        self._database = database
        self._jobs = jobs

    async def keep(self, job: Mapping[str, Any], entries: Sequence[Entry]) -> None:
        """Keep what new journal lines of a job (`job.json`) say; again, it changes nothing."""
        found = [origin for entry in entries for origin in self._origins(job, entry)]
        if found:
            await self._database.write(lambda connection: _write(connection, job, found))

    async def made_by(self, proposal: int, run: int, job: str) -> list[str]:
        """Give the variables of a run whose newest result is of the job with this id.

        What it made before it was requeued does not count.
        """
        query = """SELECT variable FROM origins WHERE proposal = ? AND run = ? AND job = ?
                   AND time >= coalesce((SELECT min(a.dispatched) FROM attempts AS a
                       JOIN jobs AS j ON j.id = a.job AND a.number >= j.first_attempt
                       WHERE j.id = origins.job), 0)"""
        rows = await self._database.read(
            lambda c: c.execute(query, (proposal, run, job)).fetchall()
        )
        return [row["variable"] for row in rows]

    async def of_runs(self, proposal: int, runs: Sequence[int]) -> Records:
        """Give the records of runs of a proposal."""

        def read(connection: sqlite3.Connection) -> Records:
            found = {run: dict(_records(connection, proposal, run)) for run in runs}
            used = {each.content for records in found.values() for each in records.values()}
            contents = connection.execute("SELECT id, content FROM origin_contents")
            fingerprints = {
                key: json.loads(content).get("fingerprint", {})
                for key, content in contents
                if key in used
            }
            return Records(found, fingerprints)

        return await self._database.read(read)

    def _origins(self, job: Mapping[str, Any], entry: Entry) -> Iterator[_Origin]:
        name: Any = entry.fields.get("variable")
        if entry.kind in ("finished", "failed"):
            status = _status(job, entry)
            origin = entry.fields.get("origin") or {}
            content = {key: value for key, value in origin.items() if key not in _OF_ONE}
            yield _Origin(name, status, entry.time, content)
        elif entry.kind == "died" and name is not None:
            content = {"fingerprint": self._fingerprint(job, name)}
            yield _Origin(name, "failed", entry.time, content)

    def _fingerprint(self, job: Mapping[str, Any], name: str) -> Mapping[str, str]:
        """Give the fingerprint of a variable that could not tell its own any more."""
        entries = [entry for _, entries in journals(self._jobs / job["id"]) for entry in entries]
        plans = [entry.fields for entry in entries if entry.kind == "plan"]
        if not plans or name not in plans[-1]["order"] or "params" not in plans[-1]:
            return {}
        return complete(plans[-1]["variables"], plans[-1]["params"], [name])[name]


def _status(job: Mapping[str, Any], entry: Entry) -> str:
    if "provenance" in job:
        return "submitted"
    if entry.kind == "failed" and entry.fields["error"]["type"] == "Skip":
        return "skipped"
    return entry.kind


def _write(
    connection: sqlite3.Connection, job: Mapping[str, Any], found: Iterable[_Origin]
) -> None:
    for origin in found:
        text = json.dumps(origin.content, sort_keys=True)
        digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        connection.execute(
            "INSERT OR IGNORE INTO origin_contents (digest, content) VALUES (?, ?)", (digest, text)
        )
        select = "SELECT id FROM origin_contents WHERE digest = ?"
        (content,) = connection.execute(select, (digest,)).fetchone()
        place = (job["proposal"], job["run"], origin.variable)
        connection.execute(_KEEP, (*place, origin.status, origin.time, job["id"], content))


def _records(
    connection: sqlite3.Connection, proposal: int, run: int
) -> Iterator[tuple[str, Record]]:
    rows = connection.execute(
        "SELECT variable, status, time, content FROM origins WHERE proposal = ? AND run = ?",
        (proposal, run),
    )
    for variable, *record in rows:
        yield variable, Record(*record)
