"""Attempts reach the manager that their request names, and answers come back the same way."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import pytest

from ctxlib import claim
from daemon.backends import Status
from daemon.backends.choice import ByBackend
from daemon.backends.sequential import LOAD_SECONDS, TAKE_SECONDS, SequentialManager


class Remembering:
    """A manager that remembers what it was asked."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: list[tuple[str, str]] = []

    async def submit(self, attempt_dir: Path) -> str:
        self.asked.append(("submit", str(attempt_dir)))
        return str(attempt_dir)

    async def poll(self, handles: Iterable[str]) -> dict[str, Status]:
        return {handle: Status("running", f"{self.name} {handle}") for handle in handles}

    async def cancel(self, handle: str, reason: str) -> None:
        self.asked.append(("cancel", handle))

    async def close(self) -> None:
        self.asked.append(("close", ""))


def attempt(root: Path, backend: str | None) -> Path:
    folder = root / str(backend) / "1"
    folder.mkdir(parents=True)
    request = {} if backend is None else {"backend": backend}
    (folder.parent / "job.json").write_text(json.dumps(request))
    return folder


async def test_each_attempt_goes_to_its_backend_and_back(tmp_path: Path) -> None:
    local, other = Remembering("local"), Remembering("other")
    managers = ByBackend({"local": local, "other": other})
    folders = [attempt(tmp_path, backend) for backend in ("local", "other", None)]
    handles = [await managers.submit(folder) for folder in folders]
    assert handles == [str(folders[0]), f"other:{folders[1]}", str(folders[2])]
    polled = await managers.poll(handles)
    assert {handle: polled[handle].reason.split()[0] for handle in handles} == dict(
        zip(handles, ["local", "other", "local"], strict=True)
    )
    await managers.cancel(handles[1], "why")
    await managers.close()
    assert other.asked == [("submit", str(folders[1])), ("cancel", str(folders[1])), ("close", "")]
    assert ("close", "") in local.asked


async def test_an_unknown_backend_is_named_with_those_there_are(tmp_path: Path) -> None:
    managers = ByBackend({"local": Remembering("local")})
    with pytest.raises(ValueError, match=r"no backend 'moon'; there are: local"):
        await managers.submit(attempt(tmp_path, "moon"))


async def test_an_offered_attempt_waits_for_its_command_and_then_is_lost(tmp_path: Path) -> None:
    now = [0.0]
    manager = SequentialManager(lambda: now[0])
    folder = attempt(tmp_path, "sequential")
    handle = await manager.submit(folder)
    assert (await manager.poll([handle]))[handle].state == "running"
    now[0] = TAKE_SECONDS
    assert (await manager.poll([handle]))[handle].state == "lost"
    assert claim.exists(folder)  # so that the command cannot begin any more


async def test_a_command_that_has_taken_an_attempt_may_load_its_context_for_long(
    tmp_path: Path,
) -> None:
    now = [0.0]
    manager = SequentialManager(lambda: now[0])
    folder = attempt(tmp_path, "sequential")
    handle = await manager.submit(folder)
    claim.make(folder, "sequential", name="taken")
    now[0] = LOAD_SECONDS - 1
    assert (await manager.poll([handle]))[handle].state == "running"
    now[0] = LOAD_SECONDS
    assert (await manager.poll([handle]))[handle].state == "lost"


async def test_an_attempt_of_a_command_that_is_gone_is_lost_at_once(tmp_path: Path) -> None:
    now = [0.0]
    manager = SequentialManager(lambda: now[0])
    folder = attempt(tmp_path, "sequential")
    handle = await manager.submit(folder)
    taken = claim.make(folder, "sequential", name="taken")
    assert taken is not None
    (folder / "taken").write_text(json.dumps({**asdict(taken), "pid": 1 << 22}))
    now[0] = TAKE_SECONDS
    assert (await manager.poll([handle]))[handle].state == "lost"
