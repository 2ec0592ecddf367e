"""What a job's request says of the folder that it is for."""

import logging
from pathlib import Path

import pytest

from daemon.backends.managers import Backends
from daemon.database import Database
from daemon.jobs.job import Job, Work
from daemon.jobs.states import State
from daemon.jobs.tables import MIGRATIONS
from daemon.processing import Processing
from daemon.settings import Settings
from daemon.store.origins import Origins
from daemon.store.table import RunsTable


@pytest.mark.parametrize("kind", ["missing", "folder"])
async def test_a_context_that_cannot_be_read_is_left_to_the_one_who_loads_it(
    tmp_path: Path, kind: str
) -> None:
    if kind == "folder":
        (tmp_path / "context.py").mkdir()
    processing = Processing(
        tmp_path,
        RunsTable(tmp_path / "runs.sqlite"),
        Origins(
            Database(tmp_path / "daemon.sqlite", migrations=MIGRATIONS, wal=True), tmp_path / "jobs"
        ),
        settings=lambda: Settings(proposal=1234),
        backends=Backends(tmp_path),
        log=logging.getLogger("processing"),
    )
    try:
        request = processing.request(job())
    finally:
        await processing.close()
    assert request["context"] == str(tmp_path / "context.py")
    assert request["context_sha256"] is None


def job() -> Job:
    work = Work(proposal=1234, run=1, data="raw", source="test", live=True)
    return Job(
        **vars(work),
        id="j1",
        state=State.DISPATCHED,
        attempt=1,
        first_attempt=1,
        lost=0,
        reason="",
        waiting_reason="",
        created=1.0,
        started=None,
        ended=None,
        combined=0,
    )
