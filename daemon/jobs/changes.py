"""Changes of a job within a transaction of the caller: the state and its history row together."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, replace

from daemon.jobs.job import LOCAL, PENDING, SEQUENTIAL, Job, Work, columns_of, job_of
from daemon.jobs.states import ACTIVE, TERMINAL, Refused, State, Who, check_attempt, next_state

UNFINISHED = "('queued', 'dispatched', 'running', 'stop_requested')"


@dataclass(frozen=True)
class Stamp:
    """When something is done, in seconds since the epoch, and by whom, as `user@host`."""

    time: float
    by: str = ""


def seen_late(connection: sqlite3.Connection, job: Job, now: Stamp, time: float | None) -> Stamp:
    """When something of the present attempt was that is seen `now`, and was at `time` elsewhere.

    Clocks differ: it was not before the attempt was handed over, nor is it still to come.
    """
    query = "SELECT dispatched FROM attempts WHERE job = ? AND number = ?"
    row = connection.execute(query, (job.id, job.attempt)).fetchone()
    if time is None or row is None:
        return now
    return replace(now, time=min(max(time, row["dispatched"]), now.time))


class UnknownJob(LookupError):
    """There is no job with this id."""


def row_of(connection: sqlite3.Connection, job_id: str) -> sqlite3.Row:
    """The row of a job; raises UnknownJob."""
    row: sqlite3.Row | None = connection.execute(
        "SELECT * FROM jobs WHERE id = ?", (job_id,)
    ).fetchone()
    if row is None:
        raise UnknownJob(f"there is no job {job_id}")
    return row


def insert(connection: sqlite3.Connection, work: Work, job_id: str, at: Stamp) -> Job:
    """Add a queued job; one that is there under this id already is left as it is."""
    values = {**columns_of(work), "id": job_id, "state": State.QUEUED.value, "created": at.time}
    names = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    cursor = connection.execute(
        f"INSERT INTO jobs ({names}) VALUES ({marks}) ON CONFLICT (id) DO NOTHING", values
    )
    if cursor.rowcount:
        _note(connection, job_id, 0, State.LAUNCHING, State.QUEUED, Who.SERVER, work.source, at)
    return job_of(row_of(connection, job_id))


def adopt(
    connection: sqlite3.Connection, work: Work, job_id: str, why: str, at: Stamp, attempt: int
) -> Job:
    """Add a job whose attempt number `attempt` has run; one that is there is left as it is."""
    job = insert(connection, work, job_id, at)
    if job.state is State.QUEUED and (job.attempt, job.source) == (0, work.source):
        _update(connection, job_id, {"attempt": attempt - 1})
        move(connection, job_id, attempt - 1, State.DISPATCHED, Who.CLAIM, why, at)
    return job_of(row_of(connection, job_id))


def move(
    connection: sqlite3.Connection,
    job_id: str,
    attempt: int,
    to: State,
    who: Who,
    why: str,
    at: Stamp,
) -> State:
    """Take a job to the state `to`, on behalf of `attempt`; the state that it then has.

    Raises Refused, OldAttempt, UnknownJob.
    """
    row = row_of(connection, job_id)
    check_attempt(row["attempt"], attempt)
    was = State(row["state"])
    became = next_state(was, to, who)
    if became is was:
        return became
    values: dict[str, object] = {"state": became.value, "waiting_reason": ""}
    if became is State.DISPATCHED:
        attempt += 1
        values["attempt"] = attempt
    if became is State.RUNNING and row["started"] is None:
        values["started"] = at.time
    if became in TERMINAL:
        values |= {"ended": at.time, "reason": why}
    elif was in TERMINAL:
        values |= _anew(row)
    _update(connection, job_id, values)
    _note(connection, job_id, attempt, was, became, who, why, at)
    _follow_attempt(connection, job_id, attempt, was, became, at.time)
    return became


def lose(
    connection: sqlite3.Connection,
    job_id: str,
    attempt: int,
    why: str,
    at: Stamp,
    *,
    max_attempts: int,
    pause: float,
    longest: float,
) -> State:
    """The present attempt was lost: queue the job for another one; fail it when they are used up.

    The first one follows at once, later ones after `pause` seconds more each, `longest` at most.
    The command that ran it is gone, if it was one: the daemon goes on with it.
    """
    row = row_of(connection, job_id)
    _check_active(row, attempt)
    lost = row["lost"] + 1
    stopping = row["state"] == State.STOP_REQUESTED
    if stopping or lost >= max_attempts:
        reason = why if lost == 1 else f"{why} (the last of {lost} attempts that were lost)"
        state = move(connection, job_id, attempt, State.FAILED, Who.LEASE, reason, at)
    else:
        state = move(connection, job_id, attempt, State.QUEUED, Who.LEASE, why, at)
        _update(connection, job_id, {"not_before": at.time + min(pause * (lost - 1), longest)})
    backend = LOCAL if row["backend"] == SEQUENTIAL else row["backend"]
    _update(connection, job_id, {"lost": lost, "backend": backend})
    _end_attempt(connection, job_id, attempt, "lost", at.time)
    return state


def give_back(
    connection: sqlite3.Connection, job_id: str, attempt: int, why: str, at: Stamp, *, ran: bool
) -> State:
    """Nobody's fault: queue the job again without counting the attempt as lost.

    `ran` False says that its folder has no results and goes, so that the job is as if new.
    """
    _check_active(row_of(connection, job_id), attempt)
    state = move(connection, job_id, attempt, State.QUEUED, Who.LEASE, why, at)
    _update(connection, job_id, {"waiting_reason": why})
    if ran:
        _end_attempt(connection, job_id, attempt, "given back", at.time)
    else:
        connection.execute("DELETE FROM attempts WHERE job = ? AND number = ?", (job_id, attempt))
    return state


def take_back(
    connection: sqlite3.Connection, job_id: str, attempt: int, why: str, at: Stamp
) -> None:
    """The present attempt, of which nothing is left, could not be handed over because of `why`.

    The job is as it was before it was claimed: the next attempt has the same number. What it waits
    for is a remark in its history, which is there once however often it is tried.
    """
    row = row_of(connection, job_id)
    check_attempt(row["attempt"], attempt)
    if row["state"] != State.DISPATCHED:
        raise Refused(f"attempt {attempt} was not just dispatched: the job is {row['state']}")
    queued, values = State.QUEUED, (job_id, attempt)
    _update(connection, job_id, {"state": queued.value, "attempt": attempt - 1})
    _update(connection, job_id, {"waiting_reason": why})
    connection.execute("DELETE FROM attempts WHERE job = ? AND number = ?", values)
    connection.execute(
        "DELETE FROM history WHERE job = ? AND attempt = ? AND became = 'dispatched'", values
    )
    last = connection.execute(
        "SELECT was, became, why FROM history WHERE job = ? ORDER BY id DESC LIMIT 1", (job_id,)
    ).fetchone()
    if last is None or tuple(last) != (queued.value, queued.value, why):
        _note(connection, job_id, attempt - 1, queued, queued, Who.SERVER, why, at)


def cancel_unreadable(connection: sqlite3.Connection, row: sqlite3.Row, at: Stamp) -> None:
    """Take a job whose row makes no sense out of everyone's way, whatever state it claims."""
    why = "its row in the queue cannot be read"
    canceled = State.CANCELED.value
    values = {"state": canceled, "reason": why, "ended": at.time, "combined": 2}
    _update(connection, row["id"], values)
    connection.execute(
        """INSERT INTO history (time, job, attempt, was, became, who, by, why)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
        (*(at.time, row["id"], row["attempt"], row["state"]), *(canceled, Who.SERVER, at.by, why)),
    )


def note(connection: sqlite3.Connection, job: Job, why: str, at: Stamp) -> None:
    """Put a remark into the history of a job that keeps its state."""
    _note(connection, job.id, job.attempt, job.state, job.state, Who.SERVER, why, at)


def save_offsets(
    connection: sqlite3.Connection, job_id: str, attempt: int, offsets: Mapping[str, int]
) -> None:
    """Remember how far the journals of an attempt have been taken in."""
    connection.execute(
        "UPDATE attempts SET offsets = ? WHERE job = ? AND number = ?",
        (json.dumps(offsets), job_id, attempt),
    )


def _anew(row: sqlite3.Row) -> dict[str, object]:
    """What changes when a job that has ended is queued for an attempt that computes everything."""
    backend = LOCAL if row["backend"] == SEQUENTIAL else row["backend"]
    forgotten = {"started": None, "ended": None, "reason": "", "lost": 0, "not_before": 0}
    begin = {"first_attempt": row["attempt"] + 1, "combined": PENDING, "cleaned": 0}
    return {**forgotten, **begin, "backend": backend}


def _check_active(row: sqlite3.Row, attempt: int) -> None:
    """Raise unless `attempt` is the present one and under way: it can be lost only once."""
    check_attempt(row["attempt"], attempt)
    if row["state"] not in ACTIVE:
        raise Refused(f"attempt {attempt} is not under way any more: the job is {row['state']}")


def _follow_attempt(
    connection: sqlite3.Connection, job_id: str, attempt: int, was: State, became: State, now: float
) -> None:
    if became is State.DISPATCHED:
        connection.execute(
            "INSERT INTO attempts (job, number, dispatched) VALUES (?, ?, ?)",
            (job_id, attempt, now),
        )
    elif was in ACTIVE and became not in ACTIVE:
        _end_attempt(connection, job_id, attempt, became.value, now)


def _end_attempt(
    connection: sqlite3.Connection, job_id: str, attempt: int, outcome: str, now: float
) -> None:
    connection.execute(
        "UPDATE attempts SET outcome = ?, ended = ? WHERE job = ? AND number = ?",
        (outcome, now, job_id, attempt),
    )


def _update(connection: sqlite3.Connection, job_id: str, values: Mapping[str, object]) -> None:
    assignments = ", ".join(f"{name} = :{name}" for name in values)
    connection.execute(f"UPDATE jobs SET {assignments} WHERE id = :id", {**values, "id": job_id})


def _note(
    connection: sqlite3.Connection,
    job_id: str,
    attempt: int,
    was: State,
    became: State,
    who: Who,
    why: str,
    at: Stamp,
) -> None:
    connection.execute(
        """INSERT INTO history (time, job, attempt, was, became, who, by, why)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
        (at.time, job_id, attempt, was.value, became.value, who.value, at.by, why),
    )
