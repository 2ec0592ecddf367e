"""The backend that runs nothing."""

import sys
from pathlib import Path
from typing import Any

from job_helpers import ended, entries, make_job

from daemon.backends.configurations import DummyConfig
from daemon.backends.context import ManagerContext
from daemon.backends.dummy import REASON, DummyManager
from daemon.sandbox import Interpreter
from daemon.settings import Settings


async def test_jobs_are_remembered_and_have_ended(tmp_path: Path) -> None:
    told: list[Any] = []
    context = ManagerContext(
        folder=tmp_path,
        library=tmp_path / "lib",
        interpreter=lambda: Interpreter(sys.executable),
        settings=Settings,
        log=told.append,
        on_wake=told.append,
        on_end=lambda job, attempt: told.append((job, attempt)),
    )
    make: Any = DummyConfig.manager_class()
    manager: DummyManager = make(DummyConfig(), context)
    assert manager.room(500) > 0
    attempt = make_job(tmp_path, run=7)
    handle = await manager.submit(attempt)
    assert await manager.submit(attempt) == handle, "submitted twice"
    assert [request["run"] for request in manager.asked] == [7]
    assert told == ["j1", ("j1", 1)] * 2
    assert [entry.kind for entry in entries(attempt)] == ["claimed", "ended"]
    assert ended(attempt) == {"status": "finished", "reason": REASON}
    for one in (manager, make(DummyConfig(), context)):
        [status] = (await one.poll([handle])).values()
        assert (status.state, status.reason) == ("ended", REASON)
        await one.cancel(handle, "no more")
        await one.close()
