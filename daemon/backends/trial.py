"""Tries out a way to run jobs: one tiny job, and what each step of it has come to.

The job is of a database folder of its own, below the real one, that goes with it: no other job,
table or manager has to do with it.
"""

import asyncio
import dataclasses
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, cast

from ctxlib import claim
from ctxlib.errors import Problem
from ctxlib.job_folder import FRAGMENTS, REQUEST
from ctxlib.journal import Entry, JournalReader
from daemon.backends import ContextBroken, Manager, Status, Unavailable
from daemon.backends.configurations.base import BackendConfig
from daemon.backends.configurations.errors import NoManager
from daemon.backends.configurations.registry import host_problems
from daemon.backends.context import ManagerContext

PREFIX = ".backend-test-"
SAID = "said by the test of a backend"
LOOK_SECONDS = 0.1
END_SECONDS = 20.0
"""How long a job may take to end that was told to."""
LEAVE_SECONDS = 3.0
"""The same for one that has not begun: nobody can begin with it any more."""
CONTEXT = f'''"""The job of `runtable backends test`; it goes with the test."""
import platform
from damnit_ctx import Variable

@Variable
def libraries(run):
    import h5py, numpy, xarray
    print({SAID!r}, flush=True)
    return f"Python {{platform.python_version()}}, numpy {{numpy.__version__}}"
'''


@dataclasses.dataclass(frozen=True)
class Step:
    """What one step has come to: it works, something is to be known, or it does not work."""

    name: str
    state: Literal["ok", "note", "failed"]
    words: str

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return dataclasses.asdict(self)


async def trial(
    config: BackendConfig, context: ManagerContext, seconds: float
) -> AsyncIterator[Step]:
    """Run the job by `config` and tell each step; it has to begin and end within `seconds` each.

    `context` is the service's.
    """
    problems = await asyncio.to_thread(host_problems, config)
    for problem in problems:
        yield Step("host", "note", problem)
    if not problems:
        yield Step("host", "ok", "all that the configuration names is there")
    folder = await asyncio.to_thread(_make_folder, context.folder)
    try:
        async for step in _try(config, context, folder, seconds):
            yield step
    except NoManager as error:
        yield Step("manager", "failed", str(error))
    except Exception as error:  # noqa: BLE001 - a package's own code
        yield Step("manager", "failed", f"its manager failed: {type(error).__name__}: {error}")
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _try(
    config: BackendConfig, context: ManagerContext, folder: Path, seconds: float
) -> AsyncIterator[Step]:
    """Run the job as one of the database in `folder`; raises what the manager does."""
    log: list[str] = []
    surroundings = dataclasses.replace(
        context,
        folder=folder,
        log=log.append,
        on_wake=lambda _job: None,
        on_end=lambda _job, _attempt: None,
    )
    root = getattr(config, "database_path", None)
    if root is not None:
        config = config.model_copy(update={"database_path": str(Path(root) / folder.name)})
        # Jobs know only what is below the folder by its path there.
        inside = folder / "lib"
        inside.symlink_to(os.path.relpath(context.library, folder))
        surroundings = dataclasses.replace(surroundings, library=inside)
    make: Any = config.manager_class()
    manager = cast("Manager", make(config, surroundings))
    try:
        attempt = await asyncio.to_thread(_write_job, folder, config)
        said: list[str] = []
        async for step in _run(manager, attempt, seconds):
            said.append(step.words)
            yield step
        for line in log:
            if not any(part in line for words in said for part in _parts(words)):
                yield Step("log", "note", line)
    finally:
        await manager.close()


def _parts(words: str) -> list[str]:
    """What was said, and the reason in it: by either a line of the log says nothing new."""
    return [part for part in (words, words.partition(": ")[2]) if part]


def _make_folder(database: Path) -> Path:
    """A folder in the database's, for those who may use that one."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=database))
    folder.chmod(database.stat().st_mode & 0o7777)
    return folder


def _write_job(folder: Path, config: BackendConfig) -> Path:
    """Write the job and its context file; the folder of its attempt."""
    path = folder / "context.py"
    path.write_text(CONTEXT)
    job = f"test-{secrets.token_hex(3)}"
    attempt = folder / "jobs" / job / "1"
    (attempt / FRAGMENTS).mkdir(parents=True)
    (folder / "process_logs").mkdir()
    request = {
        "id": job,
        "proposal": 1,
        "run": 1,
        "data": "raw",
        "variables": None,
        "match": [],
        "part": "",
        "inputs": [],
        "database": str(folder),
        "context": str(path),
        "proposal_path": None,
        "mock": True,
        "cpus": None,
        "memory": None,
        "timeout": 60,
        "working_dir": config.working_dir,
        "log": str(folder / "process_logs" / "test.out"),
    }
    (attempt.parent / REQUEST).write_text(json.dumps(request))
    return attempt


async def _submit(manager: Manager, attempt: Path, seconds: float) -> str | Step:
    """The handle of the attempt, or what stands in its way."""
    try:
        manager.room(0)
        async with asyncio.timeout(seconds):
            return await manager.submit(attempt)
    except Unavailable as error:
        words = f"it takes no jobs now: {error}"
    except ContextBroken as error:
        found = [Problem.from_json(problem) for problem in error.problems]
        why = "; ".join(
            f"{each.message} ({each.mend})" if each.mend else each.message for each in found
        )
        words = f"its Python cannot load a context file: {why}"
    except TimeoutError as error:
        words = str(error) or f"not taken within {seconds:g} s"
    except (OSError, ValueError) as error:
        words = str(error)
    return Step("submit", "failed", words)


async def _run(manager: Manager, attempt: Path, seconds: float) -> AsyncIterator[Step]:
    began = time.monotonic()
    handle = await _submit(manager, attempt, seconds)
    if isinstance(handle, Step):
        yield handle
        return
    yield Step("submit", "ok", "the job is taken")
    told = ""
    while True:
        status = (await manager.poll([handle]))[handle]
        made = await asyncio.to_thread(claim.read, attempt)
        if status.state != "running" or (made is not None and made.mode != "revoked"):
            break
        if status.reason not in ("", told):
            told = status.reason
            yield Step("queue", "note", told)
        if time.monotonic() - began > seconds:
            words = f"it has not begun within {seconds:g} s (--wait S)"
            yield Step("begin", "failed", f"{words}: {told}" if told else words)
            await _stop(manager, handle, LEAVE_SECONDS)
            return
        await asyncio.sleep(LOOK_SECONDS)
    if made is not None and made.mode != "revoked":
        after = f"after {time.monotonic() - began:.1f} s"
        yield Step("begin", "ok", f"on {made.host} as {made.user}, {after}")
    began = time.monotonic()
    while status.state == "running":
        if time.monotonic() - began > seconds:
            words = f"it has not ended within {seconds:g} s (--wait S)"
            yield Step("end", "failed", f"{words}: {status.reason}" if status.reason else words)
            await _stop(manager, handle, END_SECONDS)
            return
        await asyncio.sleep(LOOK_SECONDS)
        status = (await manager.poll([handle]))[handle]
    for step in await asyncio.to_thread(_results, attempt, status):
        yield step


async def _stop(manager: Manager, handle: str, seconds: float) -> None:
    """End the job, whose folder is about to go; wait for that at most so long."""
    await manager.cancel(handle, "the test is over")
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while (await manager.poll([handle]))[handle].state == "running":
                await asyncio.sleep(LOOK_SECONDS)


def _results(attempt: Path, status: Status) -> list[Step]:
    """What has come of the job that has ended."""
    entries = JournalReader(attempt).read()
    steps = [step for entry in entries if (step := _result(entry)) is not None]
    ended = next((entry for entry in entries if entry.kind == "ended"), None)
    printed = attempt.parents[2] / "process_logs" / "test.out"
    said = printed.read_text(errors="replace") if printed.exists() else ""
    if ended is None or ended.fields["status"] != "finished":
        words = status.reason or (ended.fields["reason"] if ended else "nothing says why")
        steps.append(Step("end", "failed", words))
    elif not steps:
        steps.append(Step("result", "failed", f"none came back: {ended.fields['reason']}"))
    if steps[-1].state == "failed":
        last = "\n".join(said.strip().splitlines()[-5:])
        return [Step("output", "note", last), *steps] if last else steps
    if SAID not in said:
        words = "what the job prints does not arrive in process_logs/ here: both have to see the "
        words += "database's folder on the same filesystem, writable"
        return [*steps, Step("output", "failed", words)]
    return [*steps, Step("output", "ok", "what it prints is in the log")]


def _result(entry: Entry) -> Step | None:
    """What a line of the journal says of the job's variable."""
    if entry.kind == "finished":
        return Step("result", "ok", str((entry.fields["summary"] or {}).get("value")))
    if entry.kind == "failed":
        error = entry.fields["error"]
        words = f"{error['type']}: {error['message']}"
        if error["type"] in ("ModuleNotFoundError", "ImportError"):
            words += "; install h5py, numpy and xarray in the Python that runs the context file"
        return Step("result", "failed", words)
    if entry.kind == "died":
        return Step("result", "failed", entry.fields["reason"])
    return None
