"""The agents of a folder and the attempts that wait for them, in the folder `agents/`.

`agents/queue/` has one small file for each attempt that waits; `agents/NAME.json` says when an
agent was last heard of and what it said of itself. Everything is on disk before it is told, and
only the process that holds the folder changes it.
"""

import json
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctxlib import claim
from daemon.backends import agent_ticket
from daemon.backends.agent_hosts import FOLDER, AgentHosts
from daemon.backends.agent_payload import begin_log, log_file, payload
from daemon.backends.agent_report import Report, Stale, check_whose, end_said, told_before
from daemon.backends.agent_ticket import ENDED, Stage, Ticket, end_of, say, stage_of
from daemon.backends.configurations.secrets import SecretError
from daemon.sandbox import Interpreter
from daemon.settings import Settings

CLAIM_MODE = "agent"
"""The mode of the claim of an attempt whose agent's reports are its journal."""


_CHANGES = threading.RLock()
"""Held by whoever changes a ticket: a manager of any configuration, or one who hears agents."""


@dataclass(frozen=True)
class Waiting:
    """An attempt in the queue, with the file that it has there."""

    entry: Path
    attempt_dir: Path
    ticket: Ticket


class AgentPool:
    """Gives attempts to agents, and takes their reports; safe to use from several threads."""

    def __init__(
        self,
        folder: Path,
        library: Path,
        *,
        interpreter: Callable[[], Interpreter],
        settings: Callable[[], Settings],
        now: Callable[[], float] = time.time,
    ) -> None:
        """For the database `folder`, whose ctxlib is in `library`; `now` is a Unix time."""
        self._folder = folder
        self._library = library
        self._interpreter = interpreter
        self._settings = settings
        self._now = now
        self._lock = _CHANGES
        self._hosts = AgentHosts(
            folder / FOLDER, ttl=lambda: settings().host_heartbeat_ttl, now=now
        )

    def heard(self, agent: str, info: Mapping[str, Any] | None = None) -> None:
        """An agent has said something; `info` is what it says of itself."""
        with self._lock:
            self._hosts.heard(agent, info)

    def hosts(self) -> dict[str, dict[str, Any]]:
        """All agents: `online`, `last_seen`, `info`, and the jobs that are `running` there."""
        running: dict[str, list[str]] = {}
        for waiting in self._entries():
            if waiting.ticket.agent is not None:
                running.setdefault(waiting.ticket.agent, []).append(waiting.ticket.job)
        found = self._hosts.all()
        return {name: {**known, "running": running.get(name, [])} for name, known in found.items()}

    def queue(self) -> list[dict[str, Any]]:
        """The attempts that wait for an agent, the first one first."""
        return [
            {
                "job_id": waiting.ticket.job,
                "preferred_host": waiting.ticket.preferred_host,
                "require_host": waiting.ticket.require_host,
                "queued": waiting.ticket.queued,
            }
            for waiting in self._entries()
            if waiting.ticket.stage is Stage.WAITING
        ]

    # Giving

    def give(
        self,
        agent: str,
        *,
        first: Sequence[str] = (),
        has: Collection[str] | None = None,
        containers: bool = True,
    ) -> dict[str, Any] | None:
        """What `agent` is to run next; None when there is nothing for it.

        `first` are jobs that go before others, if they wait. `has` are the jobs that the agent
        has: what it was given and does not have, as the answer was lost, it is given again. Only
        one that runs `containers` gets jobs with an image.
        """
        self.heard(agent)
        with self._lock:
            entries = self._entries()
            if has is not None:
                for waiting in entries:
                    ticket = waiting.ticket
                    mine = ticket.stage is Stage.GIVEN and ticket.agent == agent
                    if mine and ticket.job not in has and not claim.exists(waiting.attempt_dir):
                        return self._payload(waiting)
            for waiting in self._in_order(entries, agent, first, containers):
                given = self._give(waiting, agent)
                if given is not None:
                    return given
        return None

    def _in_order(
        self, entries: list[Waiting], agent: str, first: Sequence[str], containers: bool
    ) -> list[Waiting]:
        ranks = {job: rank for rank, job in enumerate(first)}
        fitting = [
            waiting
            for waiting in entries
            if (containers or not waiting.ticket.image) and self._fits(waiting.ticket, agent)
        ]
        return sorted(
            fitting,
            key=lambda waiting: (
                ranks.get(waiting.ticket.job, len(ranks)),
                waiting.ticket.preferred_host != agent,
            ),
        )

    def _fits(self, ticket: Ticket, agent: str) -> bool:
        """Whether an agent gets it: one that is preferred has the first choice, for a while."""
        if ticket.stage is not Stage.WAITING:
            return False
        preferred = ticket.preferred_host
        if preferred is None or preferred == agent:
            return True
        if ticket.require_host:
            return False
        waited = self._now() - ticket.queued
        return not self._hosts.is_online(preferred) or waited > self._settings().host_heartbeat_ttl

    def _give(self, waiting: Waiting, agent: str) -> dict[str, Any] | None:
        attempt_dir, ticket = waiting.attempt_dir, waiting.ticket
        if claim.exists(attempt_dir):
            return None  # an operator has just taken it back
        try:
            given = self._payload(waiting)
            if ticket.journaled:
                begin_log(ticket, attempt_dir, agent)
        except (OSError, ValueError, KeyError, SecretError) as error:
            claim.make(attempt_dir, "revoked")
            said = f"it cannot be given to an agent: {error}"
            agent_ticket.write(attempt_dir, ticket, stage=Stage.LOST, error=said)
            self.forget(attempt_dir)
            return None
        if ticket.journaled and claim.make(attempt_dir, CLAIM_MODE) is None:
            return None
        agent_ticket.write(attempt_dir, ticket, stage=Stage.GIVEN, agent=agent)
        return given

    def _payload(self, waiting: Waiting) -> dict[str, Any]:
        return payload(
            *(waiting.ticket, waiting.attempt_dir),
            folder=self._folder,
            library=self._library,
            interpreter=self._interpreter(),
        )

    # Reports

    def report(self, attempt_dir: Path, agent: str, report: Report) -> Ticket:
        """What `agent` says of the job whose present attempt is `attempt_dir`; its ticket then.

        Raises BadReport and, with nothing changed, Stale.
        """
        self.heard(agent)
        said = report.stage()
        with self._lock:
            ticket = agent_ticket.read(attempt_dir)
            if ticket is None:
                raise Stale("no agent has this job")
            check_whose(ticket, agent, report)
            if ticket.stage in ENDED:
                if told_before(ticket, said):
                    return ticket
                why = f": {ticket.error}" if ticket.error else ""
                raise Stale(f"job {ticket.job} is {ticket.stage} already{why}")
            told = {
                "beats": ticket.beats + 1,
                "container_id": report.container_id or ticket.container_id,
            }
            if said is Stage.RUNNING:
                return self._runs(attempt_dir, ticket, told)
            told |= {"exit_code": report.exit_code, "error": report.error}
            return self._ended(attempt_dir, ticket, said, told)

    def _runs(self, attempt_dir: Path, ticket: Ticket, told: Mapping[str, Any]) -> Ticket:
        begins = ticket.stage is Stage.GIVEN
        if ticket.journaled and begins:
            say(attempt_dir, "claimed", user="agent", host=ticket.agent)
        if begins:
            told = {**told, "stage": Stage.RUNNING, "began": self._now()}
        return agent_ticket.write(attempt_dir, ticket, **told)

    def _ended(
        self, attempt_dir: Path, ticket: Ticket, said: Stage, told: Mapping[str, Any]
    ) -> Ticket:
        if ticket.journaled:
            if ticket.stage is Stage.GIVEN or ticket.before is Stage.GIVEN:
                say(attempt_dir, "claimed", user="agent", host=ticket.agent)
            said, reason = end_said(ticket, said, told)
            told = {**told, "error": reason or None}
            say(attempt_dir, "ended", status=said.value, reason=reason)
        elif said is Stage.STOPPED and claim.make(attempt_dir, CLAIM_MODE) is not None:
            say(attempt_dir, "ended", status="stopped", reason="stopped before it began")
        ended = end_of(attempt_dir)
        stage = said if ended is None else stage_of(ended)
        changed = agent_ticket.write(attempt_dir, ticket, stage=stage, **told)
        self.forget(attempt_dir)
        return changed

    # For the manager

    def put(self, attempt_dir: Path, ticket: Ticket) -> None:
        """Have an attempt wait for an agent, unless that was said before."""
        log_file(attempt_dir.parent).parent.mkdir(exist_ok=True)
        with self._lock:
            known = agent_ticket.read(attempt_dir)
            if known is not None and known.stage is not Stage.WAITING:
                return
            ticket = known or ticket
            agent_ticket.write(attempt_dir, ticket)
            queue = self._folder / FOLDER / "queue"
            queue.mkdir(parents=True, exist_ok=True)
            content = {"attempt_dir": str(attempt_dir)}
            agent_ticket.write_json(queue / _entry_name(ticket), content, synced=True)

    def forget(self, attempt_dir: Path) -> None:
        """Take an attempt out of the queue."""
        ticket = agent_ticket.read(attempt_dir)
        if ticket is not None:
            (self._folder / FOLDER / "queue" / _entry_name(ticket)).unlink(missing_ok=True)

    def change(self, attempt_dir: Path, was: Collection[Stage], **changes: Any) -> Ticket | None:
        """Change a ticket that is in one of the stages `was`; None when it is in none of them."""
        with self._lock:
            ticket = agent_ticket.read(attempt_dir)
            if ticket is None or ticket.stage not in was:
                return None
            changed = agent_ticket.write(attempt_dir, ticket, **changes)
            if changed.stage in ENDED:
                self.forget(attempt_dir)
            return changed

    def _entries(self) -> list[Waiting]:
        """What is in the queue, in its order; what has ended or is gone is taken out of it."""
        found = []
        for entry in sorted((self._folder / FOLDER / "queue").glob("*.json")):
            try:
                attempt_dir = Path(json.loads(entry.read_bytes())["attempt_dir"])
            except (OSError, ValueError, TypeError, KeyError):
                continue
            ticket = agent_ticket.read(attempt_dir)
            if ticket is None or ticket.stage in ENDED:
                entry.unlink(missing_ok=True)
            else:
                found.append(Waiting(entry, attempt_dir, ticket))
        return found


def _entry_name(ticket: Ticket) -> str:
    return f"{int(ticket.queued * 1e6):020d}-{ticket.job}-{ticket.attempt}.json"
