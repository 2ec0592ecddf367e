"""Our agent: fetches jobs over HTTP, runs each in processes of its own, and says how they are.

It needs nothing but the standard library, so that it starts at once on any host. Each job is a
process of ours that watches what it runs (`ctxlib.alone`). Whatever the network does, jobs go on: a
report that cannot be made is made later. A job that the server says is not this agent's any more is
ended.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daemon.agent_server import Away, Refused, Server

POLL_SECONDS = 1.0
"""How often to ask for a job while there is room for one, and to look at those that run."""
MOST_SECONDS = 10.0
"""The longest pause while the server is away."""
REPORT_SECONDS = 2.0
"""How often to say that a job runs, and so to hear that it is to be stopped."""
HEARTBEAT_SECONDS = 20.0
STOP_SECONDS = 10.0
"""How long what was asked for its end may take before it is killed."""
CLAIMED = 75
"""How `ctxlib.alone` ends when another process is at the attempt: nothing is to be said of that."""
OUTSIDE = ("RUNTABLE_TOKEN",)
"""What jobs do not get of our environment."""


class AgentError(Exception):
    """The agent cannot work; str() says why and what to do."""


@dataclass
class Running:
    """A job that this agent has: its payload and its process."""

    payload: Mapping[str, Any]
    process: subprocess.Popen[bytes] | None
    error: str = ""
    reported: float = 0.0
    stopping_since: float | None = None
    gone: bool = False
    unsaid: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The job's id."""
        return str(self.payload["job_id"])


def run(
    server: str, name: str, max_jobs: int, *, token: Callable[[], str], say: Callable[[str], None]
) -> None:
    """Work for `server` as agent `name` until a signal says to end; raises AgentError.

    `token` gives the token; `say` gets a line for what happens.
    """
    agent = Agent(Server(server, name, token), max_jobs, say)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.end())
    agent.run()


class Agent:
    """Has at most `most` jobs of `server` at once."""

    def __init__(self, server: Server, most: int, say: Callable[[str], None]) -> None:
        """`say` gets a line for what happens."""
        self._server = server
        self._most = most
        self._say = say
        self._jobs: dict[str, Running] = {}
        self._ends = 0
        self._beat = float("-inf")
        self._ask_at = 0.0
        self._away = ""
        self._unfit = ""
        self._pause = POLL_SECONDS

    def end(self) -> None:
        """Take no more jobs and end when those here have; asked again, end them too."""
        self._ends += 1

    def run(self) -> None:
        """Work until told to end; raises AgentError when the server does not take this agent."""
        self._say(f"works for {self._server.url} on {socket.gethostname()}")
        try:
            while not (self._ends and not self._jobs):
                self._step()
                time.sleep(0.1 if self._jobs else 0.2)
        finally:
            for job in self._jobs.values():
                _signal(job, signal.SIGKILL)

    def _step(self) -> None:
        now = time.monotonic()
        for job in list(self._jobs.values()):
            self._look(job, now)
        if now < self._ask_at:
            return
        self._ask_at = now + POLL_SECONDS
        try:
            if now - self._beat >= HEARTBEAT_SECONDS:
                self._heartbeat()
                self._beat = now
            for job in list(self._jobs.values()):
                self._report(job, now)
            takes = not (self._ends or self._unfit)
            while takes and len(self._jobs) < self._most and self._fetch():
                pass
        except Away as away:
            self._wait(str(away), now)
        except Refused as refused:
            if refused.status in (401, 403):
                # A token may be renewed, and what runs is not to be lost for it.
                if not self._jobs:
                    raise AgentError(f"{self._server.url}: {refused}") from refused
                self._wait(str(refused), now)
            else:
                self._wait(str(refused), now)
        else:
            if self._away:
                self._say("is back at work")
            self._away, self._pause = "", POLL_SECONDS

    def _wait(self, why: str, now: float) -> None:
        if why != self._away:
            self._say(why)
        self._away = why
        self._ask_at = now + self._pause
        self._pause = min(2 * self._pause, MOST_SECONDS)

    def _heartbeat(self) -> None:
        """Say that this is here, and see whether jobs can run here."""
        answer = self._server.post("heartbeat", info=_info(self._most))
        try:
            check_folder((answer or {}).get("folder"))
        except AgentError as error:
            # Its filesystem may only hang: what runs is not to be lost for it.
            if not self._jobs:
                raise
            if not self._unfit:
                self._say(str(error))
            self._unfit = str(error)
        else:
            self._unfit = ""

    def _fetch(self) -> bool:
        payload = self._server.post("next-job", jobs=list(self._jobs), containers=False)
        if payload is None:
            return False
        job = _start(payload)
        self._jobs[job.id] = job
        self._say(f"{job.id}: attempt {payload.get('attempt')} begins")
        return True

    # One job

    def _look(self, job: Running, now: float) -> None:
        """See to the end of a job's process."""
        if self._ends > 1 and job.stopping_since is None:
            job.stopping_since = now
            _signal(job, signal.SIGTERM)
        if job.stopping_since is not None and now - job.stopping_since > STOP_SECONDS:
            _signal(job, signal.SIGKILL)
        code = None if job.process is None else job.process.poll()
        if job.unsaid or (job.process is not None and code is None):
            return
        if job.process is not None:
            _kill_group(job.process.pid, signal.SIGKILL)  # what it has left behind
        if job.gone or code == CLAIMED:
            del self._jobs[job.id]
            return
        stopped = job.stopping_since is not None and code != 0
        status = "stopped" if stopped else "finished" if code == 0 else "failed"
        job.unsaid = {"status": status, "exit_code": code, "error": job.error or None}
        self._ask_at = 0.0

    def _report(self, job: Running, now: float) -> None:
        """Say how a job is, when it is time for that."""
        if job.gone or (not job.unsaid and now - job.reported < REPORT_SECONDS):
            return
        said = job.unsaid or {"status": "running"}
        attempt, name = job.payload.get("attempt"), job.payload.get("container_name")
        try:
            answer = self._server.post(
                "job-status", job_id=job.id, attempt=attempt, container_name=name, **said
            )
        except Refused as refused:
            if refused.status not in (400, 404, 409, 422):
                raise
            self._say(f"{job.id}: {refused}")
            if job.unsaid:
                del self._jobs[job.id]
            else:
                job.gone, job.stopping_since = True, now
                _signal(job, signal.SIGTERM)
            return
        job.reported = now
        if job.unsaid:
            status = (answer or {}).get("status", said["status"])  # as its journal has it
            self._say(f"{job.id}: {status} {said['error'] or ''}".rstrip())
            del self._jobs[job.id]
        elif (answer or {}).get("status") == "stop_requested" and job.stopping_since is None:
            self._say(f"{job.id}: is to be stopped")
            job.stopping_since = now  # it looks itself whether it is to be stopped, and says so


def check_folder(text: str | None) -> None:
    """Raise AgentError when the database's folder cannot be used here: jobs would fail for that."""
    if text is None or os.access(text, os.R_OK | os.W_OK | os.X_OK):
        return
    here = f"on {socket.gethostname()}"
    if Path(text).is_dir():
        raise AgentError(f"jobs have to write in {text}, and {here} this agent may not")
    raise AgentError(
        f"the database's folder {text} is not {here}: jobs need it at the place where its daemon "
        "has it, so mount it there"
    )


def _start(payload: Mapping[str, Any]) -> Running:
    inherited = {name: text for name, text in os.environ.items() if name not in OUTSIDE}
    try:
        log = Path(payload["log"])
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                payload["arguments"],
                cwd=log.parent,
                env={**inherited, **payload["env"]},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except (OSError, ValueError) as error:
        return Running(payload, None, f"it cannot be started on {socket.gethostname()}: {error}")
    return Running(payload, process)


def _signal(job: Running, number: signal.Signals) -> None:
    """Send a signal to all processes of a job that has not ended."""
    if job.process is not None and job.process.returncode is None:
        _kill_group(job.process.pid, number)


def _kill_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # all have ended
        os.killpg(group, number)


def _info(most: int) -> dict[str, Any]:
    load = os.getloadavg()[0]
    cores = len(os.sched_getaffinity(0))
    return {"host": socket.gethostname(), "max_jobs": most, "cores": cores, "load": round(load, 2)}
