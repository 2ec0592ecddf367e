"""What a job's request says of the folder that it is for."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from daemon.backends.named import Backends
from daemon.database import Database
from daemon.jobs.job import Job, Work
from daemon.jobs.states import State
from daemon.jobs.tables import MIGRATIONS
from daemon.processing import LONGEST_SECONDS, Processing
from daemon.settings import Settings
from daemon.store.origins import Origins
from daemon.store.table import RunsTable


@pytest.mark.parametrize("kind", ["missing", "folder"])
async def test_a_context_that_cannot_be_read_is_left_to_the_one_who_loads_it(
    tmp_path: Path, kind: str
) -> None:
    if kind == "folder":
        (tmp_path / "context.py").mkdir()
    async with processing_in(tmp_path) as processing:
        request = processing.request(job())
    assert request["context"] == str(tmp_path / "context.py")
    assert request["context_sha256"] is None


async def test_how_long_jobs_may_take(tmp_path: Path) -> None:
    (tmp_path / "backends").mkdir(mode=0o700)
    kinds = {"cluster": "slurm", "short": "slurm\ntimeout: 3600", "here": "local"}
    for name, kind in kinds.items():
        (tmp_path / f"backends/{name}.yml").write_text(f"type: {kind}\n")
        (tmp_path / f"backends/{name}.yml").chmod(0o600)
    async with processing_in(tmp_path) as processing:
        backends = Backends(tmp_path)
        for name in ("short", "here"):
            kinds[backends.once(name, backends.configuration(name))] = "the same, for once"
        names = [*kinds, "local"]
        times = [processing.request(job(backend=name))["timeout"] for name in names]
    # Slurm ends its jobs itself, after the time that it was told.
    assert times == [LONGEST_SECONDS, 3600, 3600, 3600, 3600, 7200]


@asynccontextmanager
async def processing_in(folder: Path) -> AsyncIterator[Processing]:
    database = Database(folder / "daemon.sqlite", migrations=MIGRATIONS, wal=True)
    processing = Processing(
        folder,
        RunsTable(folder / "runs.sqlite"),
        Origins(database, folder / "jobs"),
        settings=lambda: Settings(proposal=1234),
        backends=Backends(folder),
        log=logging.getLogger("processing"),
    )
    try:
        yield processing
    finally:
        await processing.close()


def job(backend: str = "local") -> Job:
    work = Work(proposal=1234, run=1, data="raw", source="test", live=True, backend=backend)
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
