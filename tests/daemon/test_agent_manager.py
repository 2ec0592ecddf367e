"""The manager of agents through its protocol: who gets what, leases, late reports, restarts."""

import json
from pathlib import Path
from typing import Any

import pytest

from ctxlib import claim
from ctxlib.journal import JournalReader
from daemon.backends import Status, agent_ticket
from daemon.backends.agent_pool import AgentPool
from daemon.backends.agent_report import BadReport, Report, Stale
from daemon.backends.agent_ticket import Stage, Ticket
from daemon.backends.agents import AgentManager
from daemon.backends.configurations.agent import AgentConfig
from daemon.backends.context import ManagerContext
from daemon.job_part import JobPart
from daemon.jobs.folder import new_attempt, write_request
from daemon.sandbox import Interpreter
from daemon.settings import Settings

SETTINGS = Settings(
    queue_claim_ttl=10, job_status_ttl=30, host_heartbeat_ttl=30, worker_stale_grace_seconds=10
)


class Ground:
    """A folder with a manager and the pool, both of which can be made anew, and their clocks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.time = 1000.0
        self.said: list[str] = []
        self.jobs = 0
        self.restart()

    def restart(self) -> None:
        self.managers: dict[str, AgentManager] = {}
        self.pool = AgentPool(
            self.folder,
            Path("/lib"),
            interpreter=lambda: Interpreter("/py"),
            settings=lambda: SETTINGS,
            now=lambda: self.time,
        )

    def manager(self, **config: Any) -> AgentManager:
        key = json.dumps(config, sort_keys=True)
        if key not in self.managers:
            context = ManagerContext(
                folder=self.folder,
                library=Path("/lib"),
                interpreter=lambda: Interpreter("/py"),
                settings=lambda: SETTINGS,
                log=self.said.append,
                on_wake=lambda job: None,
                on_end=lambda job, attempt: None,
            )
            self.managers[key] = AgentManager(
                AgentConfig(**config), context, clock=lambda: self.time, now=lambda: self.time
            )
        return self.managers[key]

    async def submit(
        self, *, command: str | None = None, job: str = "", attempt: int = 1, **config: Any
    ) -> Path:
        """A job of variables, or with a command for an image, which only its agent knows of."""
        self.jobs += 1
        if command is not None:
            config = {"image": "img:1", **config}
        job_dir = self.folder / "jobs" / (job or f"job-{self.jobs}")
        log = str(self.folder / "process_logs" / f"{job_dir.name}.out")
        request = {"run": 7, "proposal": 1234, "timeout": 60, "proposal_path": "/data", "log": log}
        write_request(job_dir, request if command is None else {**request, "command": command})
        attempt_dir = new_attempt(job_dir, attempt)
        assert await self.manager(**config).submit(attempt_dir) == f"agent:{attempt_dir}"
        return attempt_dir

    async def look(self, attempt_dir: Path) -> Status:
        handle = f"agent:{attempt_dir}"
        return (await self.manager().poll([handle]))[handle]

    async def after(self, attempt_dir: Path, seconds: int) -> Status:
        """How it is after so many seconds, in which somebody looks each second."""
        for _ in range(seconds):
            self.time += 1
            status = await self.look(attempt_dir)
        return status

    def fetch(self, agent: str, **more: Any) -> str | None:
        payload = self.pool.give(agent, **more)
        return None if payload is None else str(payload["job_id"])

    def report(self, attempt_dir: Path, agent: str, status: str, **said: Any) -> Ticket:
        return self.pool.report(attempt_dir, agent, Report(status, **said))


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def kinds(attempt_dir: Path) -> list[str]:
    return [entry.kind for entry in JournalReader(attempt_dir).read()]


def shown(attempt_dir: Path) -> str:
    return str(json.loads((attempt_dir.parent / "status.json").read_text())["status"])


async def test_a_command_from_waiting_to_its_end(ground: Ground) -> None:
    attempt = await ground.submit(command="echo 'a b'", env_vars={"A": "1"})
    assert (await ground.look(attempt)).state == "running"
    assert shown(attempt) == "queued"
    payload = ground.pool.give("gpu-1")
    assert payload is not None
    assert payload["arguments"] == ["/bin/sh", "-c", "echo 'a b'"]
    assert (payload["image"], payload["env"], payload["attempt"]) == ("img:1", {"A": "1"}, 1)
    assert payload["volumes"][0]["mode"] == "rw"
    assert shown(attempt) == "dispatched"
    with Path(payload["log"]).open("a") as log:
        log.write("a b\n")
    part, (header, line) = JobPart("job-1"), log_lines(ground.folder, "job-1")
    assert (part.has(header, []), part.has(line, []), line) == (True, True, b"a b\n")
    for _ in range(2):  # it may be told again
        ticket = ground.report(attempt, "gpu-1", "running", container_id="c1")
        assert ticket.stage is Stage.RUNNING
    for _ in range(2):
        ground.report(attempt, "gpu-1", "finished", exit_code=0, container_id="c1")
    assert kinds(attempt) == ["claimed", "ended"]
    assert await ground.look(attempt) == Status("ended", "")
    status = json.loads((attempt.parent / "status.json").read_text())
    assert (status["status"], status["worker_id"], status["exit_code"]) == ("finished", "gpu-1", 0)
    assert status["container_id"] == "c1"  # nothing that was known is forgotten
    with pytest.raises(Stale, match=r"finished already$"):
        ground.report(attempt, "gpu-1", "failed")


def log_lines(folder: Path, job: str) -> list[bytes]:
    return (folder / "process_logs" / f"{job}.out").read_bytes().splitlines(keepends=True)


async def test_a_command_that_takes_too_long_is_stopped_and_has_failed(ground: Ground) -> None:
    attempt = await ground.submit(command="sleep 1000")
    ground.time += 100  # that it has waited is not its time
    ground.fetch("a")
    for _ in range(6):
        ground.report(attempt, "a", "running")
        await ground.after(attempt, 10)
        ground.restart()
    assert ground.report(attempt, "a", "running").stage is Stage.STOP_REQUESTED
    ground.report(attempt, "a", "stopped", exit_code=137)
    assert await ground.look(attempt) == Status("ended", "killed: the job took longer than 1 min")
    assert shown(attempt) == "failed"
    assert JournalReader(attempt).read()[-1].fields["status"] == "failed"


async def test_commands_are_watched_by_our_code_where_they_need_no_image(ground: Ground) -> None:
    attempt = await ground.submit(command="x", image=None, working_dir="/data")
    payload = ground.pool.give("a", containers=False)
    assert payload is not None
    assert payload["arguments"] == ["/py", "-m", "ctxlib.alone", str(attempt)]
    assert payload["env"] == {"PYTHONPATH": "/lib"}
    with_image = await ground.submit(command="x", require_host=True, preferred_host="a")
    assert ground.fetch("a", containers=False) is None
    assert (await ground.look(with_image)).reason == "it waits for agent a to run a container"
    ground.time += SETTINGS.host_heartbeat_ttl + 1
    assert (await ground.look(with_image)).reason == (
        "it waits for agent a to run a container, which is away"
    )
    assert ground.fetch("a") == "job-2"


async def test_exit_codes_and_errors_are_the_reason(ground: Ground) -> None:
    for said, reason in (
        ({"status": "finished", "exit_code": 3}, "it ended with exit code 3"),
        ({"status": "failed", "error": "no such image"}, "no such image"),
    ):
        attempt = await ground.submit(command="x")
        ground.fetch("a")
        ground.report(attempt, "a", **said)
        assert await ground.look(attempt) == Status("ended", reason)
        assert shown(attempt) == "failed"


async def test_who_gets_what(ground: Ground) -> None:
    for config in (
        {"preferred_host": "a", "require_host": True},
        {"preferred_host": "b"},
        {},
        {},
    ):
        await ground.submit(command="x", **config)
    ground.pool.heard("b")
    # job-1 is for a alone, job-2 is left to b for as long as that one is there.
    assert ground.fetch("c") == "job-3"
    assert ground.fetch("b", first=["job-4"]) == "job-4"
    assert ground.fetch("c") is None
    assert ground.fetch("b") == "job-2"
    assert ground.fetch("a") == "job-1"
    assert ground.pool.hosts()["b"]["running"] == ["job-2", "job-4"]
    await ground.submit(command="x", preferred_host="b")
    assert ground.fetch("c") is None
    ground.time += SETTINGS.host_heartbeat_ttl + 1
    assert [ground.pool.hosts()[name]["online"] for name in "bc"] == [False, False]
    assert ground.fetch("c") == "job-5"


async def test_only_who_has_it_reports_and_only_what_can_be(ground: Ground) -> None:
    attempt = await ground.submit(command="x")
    with pytest.raises(Stale, match="with no agent"):
        ground.report(attempt, "a", "running")
    ground.fetch("a")
    with pytest.raises(Stale, match="with agent a now"):
        ground.report(attempt, "b", "running")
    with pytest.raises(Stale, match="attempt 2"):
        ground.report(attempt, "a", "running", attempt=2)
    ground.report(attempt, "a", "running", container_id="c1")
    with pytest.raises(Stale, match="a report of container c2"):
        ground.report(attempt, "a", "running", container_id="c2")
    with pytest.raises(Stale, match="a report of container other"):
        ground.report(attempt, "a", "running", container_name="other")
    for wrong in ("queued", "canceled", "unknown", "not_found", "", "done"):
        with pytest.raises(BadReport, match="running, finished, failed, stopped"):
            ground.report(attempt, "a", wrong)
    assert (await ground.look(attempt)).state == "running"


async def test_leases(ground: Ground) -> None:
    waits = await ground.submit()
    assert (await ground.after(waits, 1000)).state == "running"  # as long as nobody comes
    ground.fetch("a")
    assert (await ground.after(waits, 9)).state == "running"
    status = await ground.after(waits, 3)
    assert status.state == "lost"
    assert "queue_claim_ttl" in status.reason
    assert not claim.make(waits, "late")  # nobody can begin with it any more
    with pytest.raises(Stale, match="lost already"):
        ground.report(waits, "a", "running")

    silent = await ground.submit(command="x")
    ground.fetch("a")
    ground.report(silent, "a", "running")
    for _ in range(8):  # the agent is there, and says nothing of the job
        status = await ground.after(silent, 4)
        ground.pool.heard("a")
    assert status.state == "lost"
    assert status.reason.startswith("stale_status")

    gone = await ground.submit(command="x")
    ground.fetch("b")
    for _ in range(12):  # a job whose agent reports is never lost
        ground.report(gone, "b", "running")
        assert (await ground.after(gone, 4)).state == "running"
    assert (await ground.after(gone, 24)).state == "running"
    ground.restart()  # what a daemon has not seen it does not hold against anybody
    assert (await ground.after(gone, 29)).state == "running"
    assert (await ground.after(gone, 3)).reason.startswith("stale_status")


async def test_an_agent_that_is_gone(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "SETTINGS", SETTINGS.model_copy(update={"job_status_ttl": 300}))
    attempt = await ground.submit(command="x")
    ground.fetch("a")
    ground.report(attempt, "a", "running")
    assert (await ground.after(attempt, 39)).state == "running"
    status = await ground.after(attempt, 3)
    assert (status.state, status.reason.split(":")[0]) == ("lost", "worker_offline")
    # Its late report harms nothing: not of this attempt, and not of the next one.
    again = await ground.submit(command="x", job="job-1", attempt=2)
    for late in (attempt, again):
        with pytest.raises(Stale):
            ground.report(late, "a", "finished", exit_code=0)
    assert ground.fetch("b") == "job-1"
    with pytest.raises(Stale, match="with agent b now, as attempt 2"):
        ground.report(again, "a", "finished", exit_code=0)
    assert kinds(again) == []


async def test_stop(ground: Ground) -> None:
    waiting = await ground.submit(command="x")
    await ground.manager().cancel(str(waiting), "not needed")
    assert await ground.look(waiting) == Status("ended", "not needed")
    assert ground.fetch("a") is None

    running = await ground.submit(command="x")
    ground.fetch("a")
    ground.report(running, "a", "running")
    await ground.manager().cancel(str(running), "enough")
    assert shown(running) == "stop_requested"
    assert ground.report(running, "a", "running").stage is Stage.STOP_REQUESTED
    ground.report(running, "a", "stopped", exit_code=143)
    assert (await ground.look(running)).state == "ended"
    assert shown(running) == "stopped"
    assert JournalReader(running).read()[-1].fields["status"] == "stopped"

    faster = await ground.submit(command="x")
    ground.fetch("a")
    ground.report(faster, "a", "running")
    await ground.manager().cancel(str(faster), "enough")
    ground.report(faster, "a", "finished", exit_code=0)
    assert shown(faster) == "finished"


async def test_a_stop_reaches_an_agent_that_begins_at_that_moment(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = await ground.submit(command="x")
    ground.fetch("a")
    change = AgentPool.change

    def late(pool: AgentPool, attempt_dir: Path, was: set[Stage], **changes: Any) -> Ticket | None:
        if Stage.GIVEN in was:
            ground.report(attempt_dir, "a", "running")
        return change(pool, attempt_dir, was, **changes)

    monkeypatch.setattr(AgentPool, "change", late)
    await ground.manager().cancel(str(attempt), "enough")
    assert shown(attempt) == "stop_requested"


async def test_what_an_operator_takes_back_nobody_gets(ground: Ground) -> None:
    attempt = await ground.submit()
    assert claim.make(attempt, "revoked")
    assert ground.fetch("a") is None
    assert (await ground.look(attempt)).state == "lost"
    assert shown(attempt) == "canceled"
    assert ground.pool.queue() == []


async def test_nothing_is_lost_when_the_daemon_or_an_answer_is(ground: Ground) -> None:
    first, second = await ground.submit(), await ground.submit()
    ground.restart()
    assert [entry["job_id"] for entry in ground.pool.queue()] == ["job-1", "job-2"]
    assert ground.fetch("a", has=[]) == "job-1"
    ground.restart()
    assert ground.fetch("a", has=[]) == "job-1"  # the answer was lost
    assert ground.fetch("b", has=[]) == "job-2"
    assert claim.make(first, "alone")
    assert ground.fetch("a", has=[]) is None  # it runs, whoever has started it
    assert (await ground.look(first)).signs == "elsewhere"
    ground.report(second, "b", "running")
    assert ground.fetch("b", has=[]) is None


async def test_variables_are_judged_by_their_journal(ground: Ground) -> None:
    attempt = await ground.submit()
    payload = ground.pool.give("a")
    assert payload is not None
    assert payload["arguments"] == ["/py", "-m", "ctxlib.alone", str(attempt)]
    assert payload["env"] == {"PYTHONPATH": "/lib"}
    ground.report(attempt, "a", "finished", exit_code=0)
    status = await ground.look(attempt)  # nobody has begun with it
    assert status.state == "lost"
    assert "left no results" in status.reason

    ended = await ground.submit()
    ground.fetch("a")
    assert claim.make(ended, "alone")
    agent_ticket.say(ended, "ended", status="stopped", reason="enough")
    ticket = ground.report(ended, "a", "finished", exit_code=0)
    assert ticket.stage is Stage.STOPPED  # as the journal has it
    assert await ground.look(ended) == Status("ended", "enough")


async def test_a_secret_reaches_the_agent_alone(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SECRET", "swordfish")
    await ground.submit(command="x", secret_env_vars={"KEY": "env:MY_SECRET"})
    payload = ground.pool.give("a")
    assert payload is not None
    assert payload["env"] == {"KEY": "swordfish"}
    files = [path for path in ground.folder.rglob("*") if path.is_file()]
    assert [path for path in files if "swordfish" in path.read_text()] == []
    monkeypatch.delenv("MY_SECRET")
    unreadable = await ground.submit(command="x", secret_env_vars={"KEY": "env:MY_SECRET"})
    assert ground.fetch("a") is None
    assert "MY_SECRET is not set" in (await ground.look(unreadable)).reason
