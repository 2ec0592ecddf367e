"""What is known of an attempt that waits for an agent, or is with one: `agent.json` in its folder.

The ticket is written before anybody is told, so that the next daemon goes on from it. What agents
look at is beside it: `status.json` in the job's folder.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from ctxlib.journal import Entry, JournalReader, JournalWriter, file_name
from ctxlib.whole_file import write_whole

FILE = "agent.json"
STATUS = "status.json"
CONFIG = "config.yaml"
"""In a job's folder: what its command was asked to read."""
WISH = "agent-wish.json"
"""In a job's folder: which agent an operator wants for it."""


class Stage(StrEnum):
    """How far an attempt is with agents."""

    WAITING = "waiting"  # no agent has it
    GIVEN = "given"  # an agent has fetched it, and has not said that it runs
    RUNNING = "running"
    STOP_REQUESTED = "stop_requested"  # the agent has to end it
    FINISHED = "finished"  # as its agent says; so are the next two
    FAILED = "failed"
    STOPPED = "stopped"
    CANCELED = "canceled"  # taken back before an agent had it
    LOST = "lost"  # given up: what its agent says counts no more


ENDED = frozenset({Stage.FINISHED, Stage.FAILED, Stage.STOPPED, Stage.CANCELED, Stage.LOST})
WITH_AGENT = frozenset({Stage.GIVEN, Stage.RUNNING, Stage.STOP_REQUESTED})
SHOWN = {Stage.WAITING: "queued", Stage.GIVEN: "dispatched", Stage.LOST: "failed"}
"""What a stage is called in `status.json`, where that is another word."""


STAGES = {stage.value: stage for stage in (Stage.FINISHED, Stage.FAILED, Stage.STOPPED)}
"""The stages in which a journal can say that an attempt has ended."""


@dataclass(frozen=True)
class Ticket:
    """An attempt for agents.

    `agent` is who has it; `beats` counts that one's reports; `journaled` says that what it reports
    becomes the journal, as nobody else writes one. `before` is the stage in which it was told to
    stop, `overdue` that this was for the time it took; `began` is a Unix time. The rest comes from
    the configuration or from the agent.
    """

    job: str
    attempt: int
    name: str
    queued: float
    stage: Stage = Stage.WAITING
    journaled: bool = False
    preferred_host: str | None = None
    require_host: bool = False
    image: str | None = None
    command: str | None = None
    shell: bool = True
    working_dir: str | None = None
    timeout: float = 3600.0
    env_vars: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    agent: str | None = None
    before: Stage | None = None
    overdue: bool = False
    began: float | None = None
    beats: int = 0
    updated: float = 0.0
    container_id: str | None = None
    exit_code: int | None = None
    error: str | None = None

    @property
    def container_name(self) -> str:
        """What its container is called: another one for each attempt."""
        return f"runtable_{self.job}_{self.attempt}"

    def status(self) -> dict[str, Any]:
        """What agents and people are told of it."""
        return {
            "job_id": self.job,
            "status": SHOWN.get(self.stage, self.stage.value),
            "worker_id": self.agent,
            "attempt": self.attempt,
            "exit_code": self.exit_code,
            "error": self.error,
            "container_id": self.container_id,
            "container_name": self.container_name,
            "preferred_host": self.preferred_host,
            "require_host": self.require_host,
            "status_updated_at": self.updated,
        }


def read(attempt_dir: Path) -> Ticket | None:
    """The ticket of an attempt; None when it has none."""
    try:
        found = json.loads((attempt_dir / FILE).read_bytes())
        before = found["before"] and Stage(found["before"])
        return Ticket(**{**found, "stage": Stage(found["stage"]), "before": before})
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
        return None


def write(attempt_dir: Path, ticket: Ticket, **changes: Any) -> Ticket:
    """Keep `ticket` with `changes`, on disk when this returns; what agents see follows."""
    changed = replace(ticket, updated=time.time(), **changes)
    # Before the ticket: who is killed in between changes it again, and the file with it.
    write_json(attempt_dir.parent / STATUS, changed.status())
    write_json(attempt_dir / FILE, asdict(changed), synced=changed.stage is not ticket.stage)
    return changed


def say(attempt_dir: Path, kind: str, **fields: object) -> None:
    """Write a line of the journal on behalf of who does not write it: an agent, or nobody."""
    journal = JournalWriter(attempt_dir / file_name(0))
    try:
        journal.write(kind, **fields)
    finally:
        journal.close()


def end_of(attempt_dir: Path) -> Entry | None:
    """The last line of an attempt's journal, which says how it has ended; None before that."""
    entries = JournalReader(attempt_dir).read_watcher()
    return next((entry for entry in entries if entry.kind == "ended"), None)


def stage_of(ended: Entry) -> Stage:
    """The stage of an attempt whose journal has this end."""
    return STAGES.get(ended.fields["status"], Stage.FAILED)


def wish(job_dir: Path) -> dict[str, Any]:
    """`preferred_host` and `require_host` as an operator wants them for a job; empty for none."""
    try:
        found = json.loads((job_dir / WISH).read_bytes())
        return {name: found[name] for name in ("preferred_host", "require_host")}
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return {}


def write_wish(job_dir: Path, wanted: Mapping[str, Any]) -> None:
    """Have the next attempts of a job be for the agent that is wanted; for any when empty."""
    if wanted:
        job_dir.mkdir(parents=True, exist_ok=True)
        write_json(job_dir / WISH, wanted)
    else:
        (job_dir / WISH).unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any], *, synced: bool = False) -> None:
    """Replace a file as a whole."""
    write_whole(path, json.dumps(content, indent=1).encode(), durable=synced)
