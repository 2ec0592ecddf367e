import asyncio
import contextlib
import errno
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from beamtime import processes_of
from job_helpers import ended, entries, make_job, times_started, values

from ctxlib import claim, processes
from daemon.backends import ContextBroken, Status, forkserver
from daemon.backends.configurations.local import LocalConfig
from daemon.backends.context import ManagerContext
from daemon.backends.here import fence, look_at, revoke
from daemon.backends.local import LocalManager
from daemon.sandbox import Interpreter

LIBRARY = Path(__file__).parents[2]

PLAIN = """
from damnit_ctx import Variable

@Variable(title="Number")
def number(run):
    return 1
"""

WAITING = """
import os, subprocess, time
from damnit_ctx import Variable

@Variable()
def first(run):
    return 1

@Variable()
def waits(run):
    subprocess.Popen(["sleep", "1000.5"])
    while not os.path.exists("go"):
        time.sleep(0.01)
    return 2
"""


async def eventually(probe, timeout=30.0):
    """Poll until `probe()` gives something true and return that."""
    deadline = time.monotonic() + timeout
    while not (value := probe()):
        assert time.monotonic() < deadline, f"{probe} gave {value!r} for {timeout} s"
        await asyncio.sleep(0.01)
    return value


class Managed:
    """A manager, and what it has told."""

    def __init__(self, folder, *, idle_seconds=600, max_servers=4, **options):
        self.wakes, self.ends, self.logged = [], [], []
        self.mode, self.python, self.sandbox = "fork", sys.executable, ()
        self.idle_seconds, self.max_servers = idle_seconds, max_servers
        self.claim_ttl = 60.0
        context = ManagerContext(
            folder=folder,
            library=LIBRARY,
            interpreter=lambda: Interpreter(self.python, self.sandbox),
            settings=self.settings,
            on_wake=self.wakes.append,
            on_end=lambda job, attempt: self.ends.append((job, attempt)),
            log=self.logged.append,
        )
        self.manager = LocalManager(LocalConfig(), context, **options)

    def settings(self):
        return SimpleNamespace(
            process_start=self.mode,
            idle_seconds=self.idle_seconds,
            max_servers=self.max_servers,
            queue_claim_ttl=self.claim_ttl,
        )

    async def state(self, attempt):
        return (await self.manager.poll([str(attempt)]))[str(attempt)]

    async def do(self, attempt):
        handle = await self.manager.submit(attempt)
        await eventually(lambda: ended(attempt) and (attempt.parent.name, 1) in self.ends)
        return handle


@pytest.fixture
async def managed(tmp_path):
    made = []

    def manage(**options):
        made.append(Managed(tmp_path, **options))
        return made[-1]

    yield manage
    for each in made:
        await each.manager.close()
    # Those whose jobs do not end by themselves.
    processes.kill_until_gone(lambda: servers(tmp_path))


def servers(folder):
    """Pids of the fork servers that serve a context of this folder."""
    found = []
    for process in processes.everyone():
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode().split("\0")
            if "ctxlib.forkserver" in command and str(folder) in " ".join(command):
                found += [process.pid] if process.session == process.pid else []
    # A runner is a fork, with the same command line and a session of its own.
    there = {pid: process for pid in found if (process := processes.read(pid)) is not None}
    return [pid for pid, process in there.items() if process.parent not in found]


def server_of(attempt):
    return entries(attempt, "claimed")[0].fields["pid"]


async def test_a_command_that_nobody_begins_with_in_time_leaves_no_process(tmp_path, managed):
    local = managed()
    local.python = str(tmp_path / "hangs")
    Path(local.python).write_text('#!/bin/sh\ntail -f "$0"; true\n')
    Path(local.python).chmod(0o755)
    local.claim_ttl = 0.2
    attempt = make_job(tmp_path, context=PLAIN, command="true")
    with pytest.raises(TimeoutError, match=r"within 0\.2 s \(setting queue_claim_ttl\)"):
        await local.manager.submit(attempt)
    await eventually(lambda: local.ends == [(attempt.parent.name, 1)])
    assert processes_of(tmp_path) == []


async def test_a_job_from_submission_to_its_end(managed, tmp_path):
    local = managed()
    attempt = make_job(tmp_path, context=PLAIN)
    assert await local.do(attempt) == str(attempt)
    assert (await local.state(attempt)).state == "ended"
    assert local.ends == [("j1", 1)]
    assert set(local.wakes) == {"j1"}
    assert values(attempt) == {"number": 1}


async def test_jobs_share_a_server(managed, tmp_path):
    local = managed()
    attempts = [make_job(tmp_path, f"j{i}", context=PLAIN) for i in range(5)]
    await asyncio.gather(*(local.do(attempt) for attempt in attempts))
    assert len({server_of(attempt) for attempt in attempts}) == 1


async def test_libraries_are_told_to_be_single_threaded(managed, tmp_path):
    context = """
    import os
    from damnit_ctx import Variable
    seen = os.environ["OPENBLAS_NUM_THREADS"], os.environ["MPLBACKEND"]

    @Variable()
    def environment(run):
        return " ".join(seen)
    """
    local = managed()
    attempt = make_job(tmp_path, context=context)
    await local.do(attempt)
    assert values(attempt) == {"environment": "1 Agg"}


async def test_an_edited_context_gets_a_new_server(managed, tmp_path):
    local = managed()
    first = make_job(tmp_path, "j1", context=PLAIN)
    await local.do(first)
    second = make_job(tmp_path, "j2", context=PLAIN.replace("return 1", "return 22"))
    await local.do(second)
    assert values(second) == {"number": 22}
    await eventually(lambda: servers(tmp_path) == [server_of(second)])


async def test_the_old_server_ends_with_its_last_job(managed, tmp_path):
    local = managed()
    first = make_job(tmp_path, "j1", context=WAITING)
    await local.manager.submit(first)
    await eventually(lambda: times_started(first)["waits"])
    await local.do(make_job(tmp_path, "j2", context=PLAIN))
    assert len(servers(tmp_path)) == 2
    (tmp_path / "go").touch()
    await eventually(lambda: ("j1", 1) in local.ends)
    assert values(first) == {"first": 1, "waits": 2}
    await eventually(lambda: len(servers(tmp_path)) == 1)


@pytest.mark.parametrize(
    ("context", "told"),
    [
        ("1 +", "invalid syntax"),
        ("raise RuntimeError('beam off')", "beam off"),
        ("import os; os._exit(5)", "ended the whole Python process with exit code 5"),
        ("import os; os.abort()", "ended the whole Python process with signal Aborted"),
        ("import sys; sys.exit()", "the file ends the process"),
        ("raise ValueError('beam off' * 20_000)", "beam off"),
    ],
)
async def test_a_broken_context_is_told_and_mended(managed, tmp_path, context, told):
    local = managed()
    attempt = make_job(tmp_path, context=context)
    with pytest.raises(ContextBroken, match=told) as caught:
        await local.manager.submit(attempt)
    assert set(caught.value.problems[0]) == {"message", "line", "variable", "mend"}
    assert not (attempt / "claim").exists()
    (tmp_path / "context.py").write_text(PLAIN)
    await local.do(attempt)
    assert values(attempt) == {"number": 1}


async def test_a_context_that_hangs_is_left_when_it_is_edited(managed, tmp_path):
    local = managed()
    hanging = "import pathlib, time\npathlib.Path('began').touch()\ntime.sleep(1000)\n"
    attempt = make_job(tmp_path, context=hanging)
    submitting = asyncio.create_task(local.manager.submit(attempt))
    await eventually((tmp_path / "began").exists)
    (tmp_path / "context.py").write_text(PLAIN)
    await asyncio.wait_for(submitting, 30)
    await eventually(lambda: ended(attempt))
    assert values(attempt) == {"number": 1}
    assert servers(tmp_path) == [server_of(attempt)]


async def test_a_server_killed_while_it_loads_is_tried_once_more(managed, tmp_path):
    context = """
    import os, signal
    from damnit_ctx import Variable

    with open("loads", "a") as loads:
        loads.write("x")
    if os.path.getsize("loads") < OFTEN:
        os.kill(os.getpid(), signal.SIGKILL)

    @Variable()
    def number(run):
        return 1
    """
    local = managed()
    attempt = make_job(tmp_path, context=context.replace("OFTEN", "2"))
    await local.do(attempt)
    assert values(attempt) == {"number": 1}
    again = make_job(tmp_path, "j2", context=context.replace("OFTEN", "9"))
    with pytest.raises(ContextBroken, match="with signal Killed"):
        await local.manager.submit(again)
    assert (tmp_path / "loads").read_text() == "xxxx"


async def test_an_import_without_end_is_ended(managed, tmp_path):
    context = "import subprocess, time\nsubprocess.Popen(['sleep', '1000'])\ntime.sleep(1000)\n"
    local = managed(load_limit=0.5)
    attempt = make_job(tmp_path, context=context)
    with pytest.raises(ContextBroken, match=r"not loaded within 0\.5 s"):
        await local.manager.submit(attempt)
    await eventually(lambda: not servers(tmp_path))


async def test_a_log_that_cannot_be_written_is_named(managed, tmp_path):
    local = managed()
    attempt = make_job(tmp_path, context="")
    (tmp_path / "process_logs").write_text("no folder")
    with pytest.raises(ContextBroken, match=r"process_logs\S* cannot be written"):
        await local.manager.submit(attempt)


async def test_a_python_that_is_not_there_is_named(managed, tmp_path):
    local = managed()
    local.python = "/no/such/python"
    with pytest.raises(ContextBroken, match=r"/no/such/python cannot be started: No such file"):
        await local.manager.submit(make_job(tmp_path, context=PLAIN))


@pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="bwrap is missing: apt install bubblewrap"
)
async def test_a_sandbox_whose_processes_cannot_be_watched_is_refused(managed, tmp_path):
    local, attempt = managed(), make_job(tmp_path, context=PLAIN)
    local.sandbox = ("bwrap", "--bind", "/", "/", "--dev", "/dev", "--unshare-pid")
    local.sandbox += ("--proc", "/proc")
    with pytest.raises(ContextBroken, match="cannot watch the processes of the sandbox"):
        await local.manager.submit(attempt)
    await eventually(lambda: not processes_of(tmp_path))
    local.sandbox = ("bwrap", "--bind", "/", "/", "--dev", "/dev", "--proc", "/proc")
    await local.do(attempt)


async def test_a_request_that_cannot_be_read(managed, tmp_path):
    with pytest.raises(FileNotFoundError):
        await managed().manager.submit(tmp_path / "jobs" / "absent" / "1")


async def test_threads_of_a_context_are_noted_in_the_log(managed, tmp_path):
    context = "import threading, time\n"
    context += "threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n" + PLAIN
    local = managed()
    attempt = make_job(tmp_path, context=context)
    await local.do(attempt)
    assert "threads" in local.logged[0]
    assert values(attempt) == {"number": 1}


async def test_new_interpreters_if_asked_for(managed, tmp_path):
    local = managed()
    local.mode = "fresh"
    attempt = make_job(tmp_path, context=PLAIN)
    await local.do(attempt)
    assert entries(attempt, "claimed")[0].fields["mode"] == "fresh"


async def test_idle_servers_end(managed, tmp_path):
    local = managed(idle_seconds=0.3)
    await local.do(make_job(tmp_path, "j1", context=PLAIN))
    await eventually(lambda: not servers(tmp_path))
    await local.do(make_job(tmp_path, "j2"))


async def test_busy_servers_do_not_count_as_idle(managed, tmp_path):
    local = managed(idle_seconds=0.1)
    attempt = make_job(tmp_path, context=WAITING)
    await local.manager.submit(attempt)
    await eventually(lambda: times_started(attempt)["waits"])
    (tmp_path / "other.py").write_text(PLAIN)
    other = make_job(tmp_path, "other", context_path=tmp_path / "other.py")
    await local.do(other)
    await eventually(lambda: server_of(other) not in servers(tmp_path))
    assert servers(tmp_path) == [server_of(attempt)]
    (tmp_path / "go").touch()
    await eventually(lambda: ended(attempt))


async def test_there_are_no_more_servers_than_allowed(managed, tmp_path):
    local = managed(max_servers=2)

    async def use(name):
        (tmp_path / f"{name}.py").write_text(PLAIN)
        await local.do(make_job(tmp_path, name, context_path=tmp_path / f"{name}.py"))

    for name in ("a", "b", "c"):
        await use(name)
    await eventually(lambda: len(servers(tmp_path)) == 2)
    remaining = servers(tmp_path)
    assert server_of(tmp_path / "jobs" / "a" / "1") not in remaining
    local.max_servers = 1
    await use("d")
    await eventually(lambda: servers(tmp_path) == [server_of(tmp_path / "jobs" / "d" / "1")])


async def test_a_job_is_stopped_with_all_its_processes(managed, tmp_path):
    local = managed()
    attempt = make_job(tmp_path, context=WAITING)
    handle = await local.manager.submit(attempt)
    await eventually(lambda: times_started(attempt)["waits"])
    await local.manager.cancel(handle, "asked to")
    await eventually(lambda: local.ends)
    assert await local.state(attempt) == look_at(attempt)
    assert ended(attempt) == {"status": "stopped", "reason": "asked to"}
    assert processes.descendants(server_of(attempt)) == []


async def test_a_killed_server_loses_its_jobs_and_leaves_no_process(managed, tmp_path):
    local = managed()
    away = 'subprocess.Popen(["sleep", "1000.5"], start_new_session=True)\n    while'
    attempt = make_job(tmp_path, context=WAITING.replace("while", away))
    await local.manager.submit(attempt)
    await eventually(lambda: times_started(attempt)["waits"])
    runner = entries(attempt, "runner")[0].fields["pid"]
    mark = processes.ATTEMPT, str(attempt)
    await eventually(lambda: len(processes.session_members(runner)) == 2)
    await eventually(lambda: len(processes.started_with(*mark)) == 2)
    os.kill(server_of(attempt), signal.SIGKILL)
    await eventually(lambda: local.ends == [("j1", 1)])
    status = await local.state(attempt)
    assert status.state == "lost"
    assert str(server_of(attempt)) in status.reason
    assert processes.session_members(runner) == []
    assert processes.started_with(*mark) == []

    (tmp_path / "go").touch()
    again = make_job_again(attempt)
    await local.manager.submit(again)
    await eventually(lambda: ended(again))
    assert times_started(again) == {"waits": 1}


def make_job_again(attempt):
    folder = attempt.parent / str(int(attempt.name) + 1)
    folder.mkdir()
    return folder


async def test_a_killed_runner_costs_nothing(managed, tmp_path):
    local = managed()
    attempt = make_job(tmp_path, context=WAITING)
    await local.manager.submit(attempt)
    await eventually(lambda: times_started(attempt)["waits"])
    os.kill(entries(attempt, "runner")[0].fields["pid"], signal.SIGKILL)
    (tmp_path / "go").touch()
    await eventually(lambda: ended(attempt))
    assert values(attempt) == {"first": 1, "waits": 2}
    assert (await local.state(attempt)).state == "ended"


async def test_a_server_killed_while_idle_is_replaced(managed, tmp_path):
    local = managed()
    first = make_job(tmp_path, "j1", context=PLAIN)
    await local.do(first)
    os.kill(server_of(first), signal.SIGKILL)
    await local.do(make_job(tmp_path, "j2"))
    assert local.ends == [("j1", 1), ("j2", 1)]


async def test_what_was_never_begun_is_lost_and_stays_so(managed, tmp_path):
    local = managed()
    attempt = make_job(tmp_path, context=PLAIN)
    assert (await local.state(attempt)).state == "lost"
    assert (await local.state(attempt)).state == "lost"
    await local.manager.submit(attempt)
    assert not entries(attempt)


def test_revoking_wins_or_loses_against_a_claim(tmp_path):
    free, taken = make_job(tmp_path, "j1"), make_job(tmp_path, "j2")
    claim.make(taken, "fork")
    assert revoke(free)
    assert not revoke(free)
    assert not revoke(taken)
    assert claim.make(free, "fork") is None


def test_a_claim_of_before_the_host_was_booted_is_lost(tmp_path):
    attempt = make_job(tmp_path)
    claim.make(attempt, "fork")
    edit_claim(attempt, boot_id="earlier")
    status = look_at(attempt)
    assert (status.state, "was restarted" in status.reason) == ("lost", True)


def test_an_attempt_whose_folder_was_deleted_is_lost(tmp_path):
    status = look_at(tmp_path / "jobs" / "j1" / "1")
    assert (status.state, status.reason) == ("lost", "its folder was deleted")


def test_a_claim_that_was_cut_off_is_lost(tmp_path):
    attempt = make_job(tmp_path)
    (attempt / "claim").write_text("")
    assert look_at(attempt).state == "lost"


def test_a_job_on_another_host_is_at_work_as_long_as_that_gives_signs(tmp_path):
    attempt = make_job(tmp_path)
    claim.make(attempt, "fork")
    edit_claim(attempt, host="max-exfl001", time=0.0)  # whatever its clock says
    assert look_at(attempt) == Status("running", "on max-exfl001", signs="elsewhere")
    fence(attempt, "it says nothing any more")
    assert (attempt / claim.STOP_FILE).read_text() == "it says nothing any more"


async def test_a_hanging_server_is_ended_with_all_that_it_is_at(managed, tmp_path):
    local = managed()
    attempts = [make_job(tmp_path, name, context=WAITING) for name in ("j1", "j2")]
    for attempt in attempts:
        await local.manager.submit(attempt)
        await eventually(lambda attempt=attempt: times_started(attempt)["waits"])
    server = server_of(attempts[0])
    os.kill(server, signal.SIGSTOP)
    assert await local.state(attempts[0]) == Status("running", signs="here")
    await local.manager.fence(str(attempts[0]), "stale_status")
    assert not processes.session_members(server)
    assert not processes.started_with(processes.ATTEMPT, str(attempts[0]))
    for attempt in attempts:
        assert (await local.state(attempt)).state == "lost"
        assert times_started(attempt) == {"first": 1, "waits": 1}


async def test_a_server_that_does_not_take_a_job_is_replaced(managed, tmp_path):
    local = managed()
    await local.do(make_job(tmp_path, "j1", context=PLAIN))
    server = server_of(tmp_path / "jobs" / "j1" / "1")
    os.kill(server, signal.SIGSTOP)
    local.claim_ttl, attempt = 0.2, make_job(tmp_path, "j2")
    with pytest.raises(TimeoutError, match=r"within 0\.2 s"):
        await local.manager.submit(attempt)
    local.claim_ttl = 60.0
    assert revoke(attempt)
    await local.do(make_job(tmp_path, "j3"))
    assert server_of(tmp_path / "jobs" / "j3" / "1") != server
    await eventually(lambda: not processes.session_members(server))


async def test_a_stopped_server_is_replaced_before_its_time(managed, tmp_path, monkeypatch):
    monkeypatch.setattr(forkserver, "STOPPED_SECONDS", 0.3)
    local = managed()
    await local.do(make_job(tmp_path, "j1", context=PLAIN))
    idle = server_of(tmp_path / "jobs" / "j1" / "1")
    os.kill(idle, signal.SIGSTOP)
    async with asyncio.timeout(20):
        await local.do(make_job(tmp_path, "j2"))
    await eventually(lambda: processes.read(idle) is None)
    waiting = make_job(tmp_path, "j3", context=WAITING)
    await local.manager.submit(waiting)
    await eventually(lambda: times_started(waiting)["waits"])
    # The runners of one that has jobs are not stopped, and go on.
    busy = server_of(waiting)
    os.kill(busy, signal.SIGSTOP)
    other = make_job(tmp_path, "j4")
    async with asyncio.timeout(20):
        await local.manager.submit(other)
    await eventually(lambda: times_started(other)["waits"])
    os.kill(busy, signal.SIGCONT)
    (tmp_path / "go").touch()
    await eventually(lambda: ended(waiting) and ended(other))
    assert values(waiting) == values(other) == {"first": 1, "waits": 2}
    assert times_started(other) == {"first": 1, "waits": 1}
    assert any(f"process {busy}, is stopped" in line for line in local.logged)
    await eventually(lambda: servers(tmp_path) == [server_of(other)])


def edit_claim(attempt, **fields):
    path = attempt / "claim"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


async def test_where_nothing_can_be_written_nothing_is_claimed(managed, tmp_path):
    context = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n" + PLAIN
    attempt = make_job(tmp_path, context=context)
    with pytest.raises(OSError, match="cannot be run") as caught:
        await managed().manager.submit(attempt)
    assert caught.value.errno == errno.EFBIG
    assert not claim.exists(attempt)
    assert revoke(attempt)
