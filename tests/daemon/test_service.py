"""The parts of one folder put together, and what becomes of all when one is in trouble."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from daemon import locate, watching
from daemon.control import ServiceError
from daemon.control_server import ControlServer
from daemon.jobs.intake import Intake
from daemon.service import Service


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    monkeypatch.setenv("EXTRA_DATA_DATA_ROOT", str(tmp_path / "exp"))
    folder = tmp_path / "amore"
    folder.mkdir()
    (folder / "context.py").write_text("")
    service = Service(folder)
    await service.open(1234)
    yield service
    await service.close()


def test_it_loads_none_of_what_jobs_need() -> None:
    program = "import sys, daemon.service; print({'numpy', 'h5py', 'xarray'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


async def test_a_proposal_that_appears_later_is_watched(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (locate, watching):
        monkeypatch.setattr(module, "LOOK_SECONDS", 0.02)
    await service.start_work()
    await service.start_sources()
    assert len(service.sources()) == 1
    (tmp_path / "exp/SPB/202601/p001234/raw").mkdir(parents=True)
    async with asyncio.timeout(20):
        while len(service.sources()) == 1:
            await asyncio.sleep(0.01)
    assert "p001234" in service.sources()[0]


async def test_a_service_that_hears_nobody_ends(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def deaf(server: ControlServer) -> None:
        raise OSError("no more files")

    monkeypatch.setattr(ControlServer, "_receive", deaf)
    await service.start_work()
    with pytest.raises(OSError, match="no more files"):
        async with asyncio.timeout(20):
            await service.until(asyncio.Event())


async def test_a_part_that_dies_ends_who_waits_for_it(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(intake: Intake) -> None:
        raise sqlite3.DatabaseError("file is not a database")

    async def never() -> AsyncIterator[dict[str, str]]:
        await service.start_work()
        await asyncio.Event().wait()
        yield {}

    monkeypatch.setattr(Intake, "run", dies)
    async with asyncio.timeout(20):
        with pytest.raises(ServiceError, match=r"cannot be run any more .*file is not a database"):
            await service.handover.next_of(never())
        with pytest.raises(sqlite3.DatabaseError):
            await service.until(asyncio.Event())


async def test_results_are_combined_whatever_the_context_file_is(service: Service) -> None:
    (service.folder / "context.py").unlink()
    (service.folder / "context.py").mkdir()
    job = SimpleNamespace(id="j", proposal=1234, run=7, command=None)
    assert await service.processing.combine(job) == ()  # type: ignore[arg-type]
    assert (service.folder / "extracted_data/p1234_r7.h5").exists()


async def test_work_of_the_same_name_is_all_ended(service: Service) -> None:
    tasks = asyncio.all_tasks()
    for _ in range(2):
        service.processing._begin("pictures", asyncio.Event().wait())
    begun = asyncio.all_tasks() - tasks
    assert len(begun) == 2
    await service.processing.close()
    assert all(task.cancelled() for task in begun)
