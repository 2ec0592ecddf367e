"""What the HTTP service reads itself: what jobs have left, which may be anything; the table."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from web_fake import FakeLink

from ctxlib import table_file
from daemon.control import Endpoint
from daemon.lock import FolderLock
from daemon.store.table import RunsTable
from daemon.web.access import Access
from daemon.web.app import make_app
from daemon.web.link import Link
from daemon.web.tokens import Tokens

OWN = "printed-token"
HEADER = b"# 10:00:00.000 2026-11-20 job j1, attempt 1: run 1\n"
OTHER = b"# 10:00:01.000 2026-11-20 job j2, attempt 1: run 1\n"


@pytest.fixture
def link(tmp_path: Path) -> FakeLink:
    link = FakeLink(tmp_path)
    attempts = [{"dispatched": 0.0, "ended": 1.0}]
    link.answer = {"state": "finished", "reason": "", "results": [], "running": None}
    link.answer |= {"id": "j1", "attempts": attempts, "log": str(tmp_path / "r1.out")}
    return link


@pytest.fixture
async def web(link: FakeLink) -> AsyncIterator[httpx.AsyncClient]:
    tokens = Tokens(link.folder)
    app = make_app(link, Access(tokens, OWN, "cookie"), tokens, {"localhost"})  # type: ignore[arg-type]
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://localhost"
    ) as client:
        client.headers["Authorization"] = f"Bearer {OWN}"
        yield client


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only how many


async def test_a_command_is_of_no_run(web: httpx.AsyncClient, link: FakeLink) -> None:
    link.answer |= {"request": {}, "proposal": 1234, "run": 0, "backend": "gpu", "worker_id": None}
    link.answer |= {"status": "finished", "command": {"command": ""}}
    info = (await web.get("/api/job-info/j1")).json()
    assert (info["run_name"], info["job_name"]) == ("command", "command-p1234-damnit")


async def test_what_a_job_leaves_in_place_of_a_file_is_none(
    web: httpx.AsyncClient, link: FakeLink
) -> None:
    job = link.folder / "jobs" / "j1"
    (job / "progress" / "progress.json").mkdir(parents=True)
    (job / "results").mkdir()
    os.mkfifo(job / "results" / "result.json")
    (job / "logs").mkdir()
    (job / "logs" / "j1.log").symlink_to("/etc/passwd")
    (link.folder / "r1.out").mkdir()
    await web.get("/api/progress/j1")  # what is opened once stays open
    before = open_files()
    keeps = os.open(job / "results" / "result.json", os.O_RDWR)  # its reader would wait for more
    try:
        assert (await web.get("/api/progress/j1")).json() == {"progress": "No updates yet."}
        assert (await web.get("/api/result/j1")).json()["status"] == "finished"
        assert (await web.get("/api/logs/j1")).json()["code"] == "no_log"
    finally:
        os.close(keeps)
    assert open_files() == before


async def test_a_log_has_only_lines_of_its_job_however_long(
    web: httpx.AsyncClient, link: FakeLink
) -> None:
    # Where it is cut for reading it looks as if another job began.
    long = b"x" * (1 << 16) + OTHER
    (link.folder / "r1.out").write_bytes(b"before\n" + HEADER + long + b"y\n" * 9 + OTHER + b"z\n")
    assert (await web.get("/api/logs/j1")).content == HEADER + long + b"y\n" * 9


async def test_a_table_that_is_locked_keeps_nobody_else_waiting(
    web: httpx.AsyncClient, link: FakeLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_file, "LOCK_SECONDS", 1.0)
    path = link.folder / "runs.sqlite"
    table = RunsTable(path, 1234)
    await table.open()
    await table.close()
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        waiting = asyncio.create_task(web.get("/api/runs"))
        await asyncio.sleep(0)
        assert (await web.get("/api/health")).status_code == 200
        assert not waiting.done()
        answer = await waiting
    assert (answer.status_code, answer.json()["code"]) == (503, "table_unreadable")
    assert "locked" in answer.json()["detail"]


async def test_a_daemon_on_another_host_is_away_for_who_asks_whether_it_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, lock = Link(tmp_path), FolderLock(tmp_path)
    Endpoint("tcp://127.0.0.1:1", os.getpid(), "", "", "").publish(tmp_path, 0o600)
    assert lock.acquire("daemon", 1.0)
    assert await link.is_up()
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    assert not await link.is_up()
    lock.release()
    link.close()
