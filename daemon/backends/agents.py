"""Has jobs run by agents, which fetch them: each attempt waits until one asks, and is with it then.

Three leases hold what an agent has: it says within `queue_claim_ttl` that it has begun, it reports
on the job at least every `job_status_ttl`, and it is heard of at least every `host_heartbeat_ttl`
and `worker_stale_grace_seconds`. Jobs are watched by our code where they run, write their journals
themselves, and are judged by these once they have begun. In an image that has only to have its
command none of our code is: of such a job the agent's reports become the journal.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from ctxlib import claim
from ctxlib.job_folder import REQUEST
from ctxlib.output import words_for_seconds
from daemon.backends import Status, agent_ticket
from daemon.backends.agent_hosts import FOLDER, AgentHosts
from daemon.backends.agent_pool import AgentPool
from daemon.backends.agent_ticket import ENDED, WITH_AGENT, Stage, Ticket, end_of, say, stage_of
from daemon.backends.attempts import called
from daemon.backends.configurations.agent import AgentConfig
from daemon.backends.context import ManagerContext
from daemon.backends.vigil import Vigil
from daemon.filesystem import is_network

MANY = 1_000_000
HANDLE = "agent:"
"""Before the attempt's folder in a handle, which shows that somebody else may begin with it yet."""
VISIBLE_SECONDS = 15.0
"""How long the end of a journal may take to be seen on a network filesystem."""


class AgentManager:
    """Attempts for whichever agent fetches them."""

    def __init__(
        self,
        config: AgentConfig,
        context: ManagerContext,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """By what `config` says; `clock` is monotonic, `now` a Unix time."""
        self._config = config
        self._context = context
        self._clock = clock
        self._now = now
        self._pool = AgentPool(
            context.folder,
            context.library,
            interpreter=context.interpreter,
            settings=context.settings,
        )
        self._hosts = AgentHosts(
            context.folder / FOLDER,
            ttl=lambda: context.settings().host_heartbeat_ttl,
            now=now,
        )
        self._visible = VISIBLE_SECONDS if is_network(context.folder) else 0.0
        self._vigils: dict[tuple[str, str], Vigil] = {}

    def room(self, at_work: int) -> int:  # noqa: ARG002 - each manager's
        """As many as there are: they wait for agents."""
        return MANY

    async def submit(self, attempt_dir: Path) -> str:
        """Have an attempt wait for an agent. Raises OSError or ValueError for a bad request."""
        await asyncio.to_thread(self._submit, attempt_dir)
        return f"{HANDLE}{attempt_dir}"

    def _submit(self, attempt_dir: Path) -> None:
        request = json.loads((attempt_dir.parent / REQUEST).read_bytes())
        config = self._config
        command = request.get("command")
        hosts = {"preferred_host": config.preferred_host, "require_host": config.require_host}
        hosts |= {name: request[name] for name in hosts if name in request}
        if "config" in request:
            (attempt_dir.parent / agent_ticket.CONFIG).write_text(
                request["config"], encoding="utf-8"
            )
        ticket = Ticket(
            **{**hosts, **agent_ticket.wish(attempt_dir.parent)},
            job=attempt_dir.parent.name,
            attempt=int(attempt_dir.name),
            name=request.get("name") or called(request),
            queued=self._now(),
            journaled=command is not None and config.image is not None,
            image=config.image,
            command=command,
            shell=request.get("shell", True),
            working_dir=config.working_dir,
            timeout=float(request["timeout"]),
            env_vars=config.env_vars,
            secrets={name: secret.reference for name, secret in config.secret_env_vars.items()},
        )
        self._pool.put(attempt_dir, ticket)

    async def poll(self, handles: Iterable[str]) -> dict[str, Status]:
        """Read how attempts are doing from their folders, whoever submitted them."""
        return await asyncio.to_thread(self._poll, list(handles))

    def _poll(self, handles: list[str]) -> dict[str, Status]:
        answers = {handle: self._look(_folder(handle)) for handle in handles}
        for handle, status in answers.items():
            if status.state != "running":
                folder = str(_folder(handle))
                for key in [key for key in self._vigils if key[0] == folder]:
                    del self._vigils[key]
        return answers

    async def cancel(self, handle: str, reason: str) -> None:
        """Tell whoever has the attempt to end it; one that nobody has ends at once."""
        await asyncio.to_thread(self._cancel, _folder(handle), reason)

    def _cancel(self, attempt_dir: Path, reason: str) -> None:
        claim.request_stop(attempt_dir, reason)
        waiting = self._pool.change(attempt_dir, {Stage.WAITING}, stage=Stage.CANCELED)
        if waiting is not None:
            if _revoke(attempt_dir):
                say(attempt_dir, "ended", status="stopped", reason=reason)
            return
        # In the order in which one follows the other: meanwhile its agent may say that it runs.
        for stage in (Stage.GIVEN, Stage.RUNNING):
            changes = {"stage": Stage.STOP_REQUESTED, "before": stage, "error": reason}
            if self._pool.change(attempt_dir, {stage}, **changes) is not None:
                return

    async def fence(self, handle: str, reason: str) -> None:
        """Refuse all that its agent says from now on; what runs there is asked for its end."""
        await asyncio.to_thread(self._lose, _folder(handle), reason)

    async def close(self) -> None:
        """Let go; agents go on with what they have, and tell the next daemon."""

    # How an attempt is

    def _look(self, attempt_dir: Path) -> Status:
        if not attempt_dir.is_dir():
            return Status("lost", "its folder was deleted")
        ended = end_of(attempt_dir)
        ticket = agent_ticket.read(attempt_dir)
        if ended is not None:
            stage = stage_of(ended)
            if ticket is not None and ticket.stage is not stage:
                error = ended.fields["reason"] or None
                self._pool.change(attempt_dir, {ticket.stage}, stage=stage, error=error)
            return Status("ended", ended.fields["reason"])
        if ticket is None:
            return Status("lost", "nothing says which agent has it")
        if ticket.stage is Stage.WAITING:
            return self._look_at_waiting(attempt_dir, ticket)
        if ticket.stage in WITH_AGENT:
            return self._look_at_leases(attempt_dir, ticket)
        if ticket.stage is Stage.CANCELED:
            return Status("lost", "no agent had begun with it")
        if ticket.stage is Stage.LOST:
            return Status("lost", ticket.error or "it was given up")
        return self._look_for_end(attempt_dir, ticket)

    def _look_at_waiting(self, attempt_dir: Path, ticket: Ticket) -> Status:
        if claim.exists(attempt_dir):  # an operator has taken it back
            self._pool.change(attempt_dir, {Stage.WAITING}, stage=Stage.CANCELED)
            return Status("lost", "no agent had begun with it")
        return Status("running", self._waits_for(ticket))

    def _waits_for(self, ticket: Ticket) -> str:
        """Why nobody has it, for people."""
        if ticket.require_host:
            online = self._hosts.is_online(ticket.preferred_host or "")
            able = " to run a container" if ticket.image else ""
            away = "" if online else ", which is away"
            return f"it waits for agent {ticket.preferred_host}{able}{away}"
        able = " that runs containers" if ticket.image else ""
        return f"it waits for an agent{able}"

    def _look_at_leases(self, attempt_dir: Path, ticket: Ticket) -> Status:
        settings, agent = self._context.settings(), ticket.agent or ""
        if not ticket.journaled and claim.exists(attempt_dir):
            return Status("running", f"on {agent}", signs="elsewhere")
        begun = ticket.stage is Stage.RUNNING or ticket.before is Stage.RUNNING
        silence = self._silence(attempt_dir, "job", (ticket.beats, begun))
        if not begun and silence >= settings.queue_claim_ttl:
            return self._lose(
                attempt_dir,
                f"agent {agent} has fetched it and not begun within {settings.queue_claim_ttl} s "
                "(setting queue_claim_ttl)",
            )
        if begun and silence >= settings.job_status_ttl:
            return self._lose(
                attempt_dir,
                f"stale_status: agent {agent} has said nothing of it for "
                f"{settings.job_status_ttl} s (setting job_status_ttl)",
            )
        limit = settings.host_heartbeat_ttl + settings.worker_stale_grace_seconds
        beats = self._hosts.beats(agent)
        if begun and self._silence(attempt_dir, "host", beats) >= limit:
            return self._lose(
                attempt_dir,
                f"worker_offline: agent {agent} has not been heard of for {limit} s (settings "
                "host_heartbeat_ttl and worker_stale_grace_seconds)",
            )
        if ticket.began is not None and self._now() - ticket.began >= ticket.timeout:
            self._end_overdue(attempt_dir, ticket)
        return Status("running", f"on {agent}")

    def _end_overdue(self, attempt_dir: Path, ticket: Ticket) -> None:
        """Have the agent end what takes too long, unless something of ours watches it there."""
        if ticket.journaled and ticket.stage is Stage.RUNNING:
            why = f"killed: the job took longer than {words_for_seconds(ticket.timeout)}"
            changes = {"stage": Stage.STOP_REQUESTED, "before": Stage.RUNNING, "error": why}
            self._pool.change(attempt_dir, {Stage.RUNNING}, overdue=True, **changes)

    def _look_for_end(self, attempt_dir: Path, ticket: Ticket) -> Status:
        """The agent says that it has ended, and the journal does not, yet."""
        begun = claim.exists(attempt_dir) or not _revoke(attempt_dir)
        if begun and self._silence(attempt_dir, "end", ticket.stage) < self._visible:
            return Status("running", f"on {ticket.agent}")
        if end_of(attempt_dir) is not None:
            return self._look(attempt_dir)  # it was written between the two looks
        if ticket.stage is Stage.STOPPED:
            say(attempt_dir, "ended", status="stopped", reason="ended by its agent")
            return Status("ended")
        why = ticket.error or f"its process ended with exit code {ticket.exit_code}"
        said = f"agent {ticket.agent} says that it has {ticket.stage}, but it left no results"
        return Status("lost", f"{said}: {why}")

    def _silence(self, attempt_dir: Path, what: str, sign: object) -> float:
        key = (str(attempt_dir), what)
        if key not in self._vigils:
            self._vigils[key] = Vigil(self._clock)
        return self._vigils[key].look(sign)

    def _lose(self, attempt_dir: Path, why: str) -> Status:
        """Give an attempt up, so that nothing comes of it any more."""
        if not attempt_dir.is_dir():
            return Status("lost", "its folder was deleted")
        _revoke(attempt_dir)
        claim.request_stop(attempt_dir, why)
        open_stages = set(Stage) - ENDED
        if self._pool.change(attempt_dir, open_stages, stage=Stage.LOST, error=why):
            self._context.log(f"{attempt_dir.parent.name}: {why}")
        return Status("lost", why)


def _folder(handle: str) -> Path:
    """The folder of the attempt with this handle."""
    return Path(handle.removeprefix(HANDLE))


def _revoke(attempt_dir: Path) -> bool:
    """See to it that nobody can begin with an attempt; False when somebody has."""
    return claim.make(attempt_dir, "revoked") is not None
