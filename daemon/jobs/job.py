"""A job as the queue keeps it: what is to be done (Work) and what became of it (Job)."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ctxlib.selection import FIRST
from daemon.jobs.states import TERMINAL, State

Selection = Literal["raw", "proc", "all"]

PENDING, COMBINED, NOT_COMBINED = 0, 1, 2
"""Whether the results are in the run file: not yet, yes, it could not be done."""

LOCAL, SEQUENTIAL = "local", "sequential"
"""Backends: the daemon runs the job on its machine; the command that asked for it runs it.

All others are configurations of the database, by their names.
"""

SUBMISSION = "submitted"
"""The source of a job whose results came with it; it cannot be computed again."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is to be computed for one run.

    `variables` are exact names (None: all), `match` parts of titles; of these it computes a `part`
    (see `ctxlib.selection`), with what it needs from the jobs `inputs`. `params` are values of
    parameters that hold for it alone. `after` is a job that has to end first. `source` says who
    asked for it; `live` work goes before what is done again. `mock` opens no run; `backend` says
    what runs it. A `command` (see `ctxlib.command`) is executed instead of variables: without a
    run.
    """

    proposal: int
    run: int
    data: Selection
    source: str
    live: bool
    variables: tuple[str, ...] | None = None
    match: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    part: str = FIRST
    mock: bool = False
    backend: str = LOCAL
    inputs: tuple[str, ...] = ()
    after: str | None = None
    command: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Job(Work):
    """Work with its place in the queue. Times are Unix times in seconds.

    `attempt` is the number of the present attempt (0: never dispatched), `lost` how many attempts
    were lost, `reason` why it ended as it did, `waiting_reason` why a queued one is held up.
    What attempts before `first_attempt` have left counts no more: the job was queued anew since.
    """

    id: str
    state: State
    attempt: int
    first_attempt: int
    lost: int
    reason: str
    waiting_reason: str
    created: float
    started: float | None
    ended: float | None
    combined: int

    @property
    def settled(self) -> bool:
        """Nothing more will come of it: it has ended and its results are where they belong."""
        never_ran = self.attempt < self.first_attempt
        return self.state in TERMINAL and (self.combined != PENDING or never_ran)

    @property
    def name(self) -> str:
        """The job in a log line: its id and what it is for."""
        if self.command is not None:
            return f"job {self.id} (a command)"
        return f"job {self.id} (p{self.proposal}, r{self.run}, {self.data})"

    def update(self) -> dict[str, Any]:
        """What those who follow are told when it has changed."""
        reason = self.waiting_reason if self.state is State.QUEUED else self.reason
        names = ("id", "proposal", "run", "data", "attempt", "after", "backend")
        values = {name: getattr(self, name) for name in names}
        return {"kind": "job", **values, "state": self.state.value, "reason": reason}

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON."""
        return asdict(self)


def work_of(job: Job) -> Work:
    """What `job` is to do, without what became of it."""
    return Work(**{name: getattr(job, name) for name in Work.__dataclass_fields__})


def columns_of(work: Work) -> dict[str, Any]:
    """The columns of table `jobs` that describe `work`."""
    variables = None if work.variables is None else json.dumps(work.variables)
    return {
        **{
            name: getattr(work, name)
            for name in ("proposal", "run", "data", "source", "after", "backend", "part")
        },
        **{name: int(getattr(work, name)) for name in ("live", "mock")},
        "cluster": int(work.part != FIRST),  # all that earlier versions knew of parts
        "command": None if work.command is None else json.dumps(work.command),
        **{name: json.dumps(getattr(work, name)) for name in ("match", "inputs", "params")},
        "variables": variables,
    }


def job_of(row: sqlite3.Row | Mapping[str, Any]) -> Job:
    """The job in a row of table `jobs`; raises ValueError when the row makes no sense."""
    try:
        return Job(
            id=row["id"],
            proposal=row["proposal"],
            run=row["run"],
            data=row["data"],
            variables=None if row["variables"] is None else _names(row["variables"]),
            match=_names(row["match"]),
            params=_values(row["params"]),
            part=row["part"],
            command=None if row["command"] is None else _values(row["command"]),
            mock=bool(row["mock"]),
            backend=row["backend"],
            inputs=_names(row["inputs"]),
            after=row["after"],
            source=row["source"],
            live=bool(row["live"]),
            state=State(row["state"]),
            attempt=row["attempt"],
            first_attempt=row["first_attempt"],
            lost=row["lost"],
            reason=row["reason"],
            waiting_reason=row["waiting_reason"],
            created=row["created"],
            started=row["started"],
            ended=row["ended"],
            combined=row["combined"],
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"the row of job {row['id']} cannot be read: {error}") from error


def _values(text: str) -> dict[str, Any]:
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError(f"{text!r} is no JSON object")
    return values


def _names(text: str) -> tuple[str, ...]:
    names = json.loads(text)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{text!r} is no list of names")
    return tuple(names)
