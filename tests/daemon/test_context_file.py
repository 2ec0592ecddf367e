"""The context file is checked in a process of its own, whenever it changes."""

import asyncio
import logging
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

import pytest

from ctxlib import processes
from daemon import context_file
from daemon.context_file import ContextFile, check
from daemon.sandbox import Interpreter

LIBRARY = Path(__file__).parents[2]
IN_ORDER = {"ok": True, "problems": [], "loading": False}
PLAIN = "from damnit_ctx import Variable\n\n@Variable()\ndef number(run):\n    return 1\n"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "context.py"
    path.write_text(PLAIN)
    return path


async def ignore(variables):
    """Register nothing."""


def made(path, register=ignore, mended=lambda: None, clock=time.monotonic):
    return ContextFile(
        path,
        library=lambda: LIBRARY,
        interpreter=lambda: Interpreter(sys.executable),
        register=register,
        mended=mended,
        clock=clock,
        log=logging.getLogger("context"),
    )


async def test_variables_are_registered_once_for_each_version(path, monkeypatch):
    monkeypatch.setattr(context_file, "WATCH_SECONDS", 0.01)
    registered = asyncio.Queue()

    async def register(variables):
        registered.put_nowait([variable["name"] for variable in variables])

    context = made(path, register)
    watching = asyncio.create_task(context.watch())
    assert await asyncio.wait_for(registered.get(), 20) == ["number"]
    assert await context.state(20) == IN_ORDER
    path.write_text("1 +\n")
    broken = await context.state(20)
    assert not broken["ok"]
    assert broken["problems"][0]["line"] == 1
    path.write_text(PLAIN.replace("number", "other"))
    assert await asyncio.wait_for(registered.get(), 20) == ["other"]
    assert (await context.state(20))["ok"]
    watching.cancel()
    await asyncio.wait([watching])
    assert registered.empty()


async def test_the_state_is_told_while_the_table_is_locked(path):
    asked = asyncio.Event()

    async def register(variables):
        asked.set()
        await asyncio.Event().wait()

    context = made(path, register)
    watching = asyncio.create_task(context.watch())
    await asyncio.wait_for(asked.wait(), 20)
    assert await asyncio.wait_for(context.state(20), 20) == IN_ORDER
    path.write_text("1 +\n")
    assert not (await asyncio.wait_for(context.state(20), 20))["ok"]
    watching.cancel()
    await asyncio.wait([watching])


async def test_a_table_that_cannot_be_written_ends_nothing(path, monkeypatch, caplog):
    monkeypatch.setattr(context_file, "RETRY_SECONDS", 0.01)
    registered = asyncio.Event()
    refusals = [sqlite3.OperationalError("database or disk is full")]

    async def register(variables):
        if refusals:
            raise refusals.pop()
        registered.set()

    watching = asyncio.create_task(made(path, register).watch())
    try:
        async with asyncio.timeout(30):
            await registered.wait()
    finally:
        watching.cancel()
    assert "cannot be checked; trying again" in caplog.text


@pytest.mark.parametrize("then", ["", "import time; time.sleep(1000)"])
async def test_what_an_import_has_started_ends_with_the_check(path, tmp_path, then):
    path.write_text(
        f"import pathlib, subprocess\nprocess = subprocess.Popen(['sleep', '1000'])\n"
        f"pathlib.Path('pid').write_text(str(process.pid))\n{then}\n"
    )
    seconds = 3.0 if then else 30.0
    answer = await check(path, LIBRARY, Interpreter(sys.executable), timeout=seconds)
    assert ("did not load within 3 s" in str(answer)) == bool(then)
    found = processes.read(int((tmp_path / "pid").read_text()))
    assert found is None or found.zombie


async def test_a_check_that_is_killed_leaves_nothing_behind(tmp_path, path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    path.write_text("import os, time\nopen('begun', 'w').close()\ntime.sleep(1000)\n")
    checking = asyncio.create_task(check(path, LIBRARY, Interpreter(sys.executable)))
    async with asyncio.timeout(20):
        while not (tmp_path / "begun").exists():
            await asyncio.sleep(0.01)
    assert list(scratch.iterdir()) == []
    checking.cancel()
    await asyncio.wait([checking])


@pytest.mark.parametrize("helper", ["helper.py", "parts/helper.py"])
async def test_a_helper_that_is_broken_and_mended_shows(path, tmp_path, helper):
    (tmp_path / "parts").mkdir()
    module = helper.removesuffix(".py").replace("/", ".")
    path.write_text(f"import {module}\n{PLAIN}")
    mended = []
    context = made(path, mended=lambda: mended.append(True))
    missing = await context.state(20)
    assert "No module named" in missing["problems"][0]["message"]
    (tmp_path / helper).write_text("x = 1 +\n")
    found = await context.read()
    assert found["broken"]
    assert found["problems"][0]["message"].startswith("SyntaxError")
    assert mended == []
    (tmp_path / helper).write_text("x = 1\n")
    assert await context.state(20) == IN_ORDER
    assert mended == [True]
    (tmp_path / helper).write_text("x = 1 / 0\n")
    assert not (await context.state(20))["ok"]


async def test_what_was_installed_is_found_by_one_who_asks(path, tmp_path, monkeypatch):
    away = tmp_path / "away"
    away.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(away))
    path.write_text(f"import needed\n{PLAIN}")
    now = [0.0]
    context = made(path, clock=lambda: now[0])
    assert not (await context.state(20))["ok"]
    (away / "needed.py").write_text("")
    assert not (await context.state(20))["ok"]  # that was just now
    now[0] = context_file.AGAIN_SECONDS
    assert await context.state(20) == IN_ORDER


async def test_what_others_found_has_it_checked_again(path, monkeypatch):
    gone = {"message": "No module named 'numpy'"}
    answers = [{"variables": [], "problems": []}, {"broken": [gone]}]

    async def check(*_):
        return answers.pop(0)

    monkeypatch.setattr(context_file, "check", check)
    context = made(path)
    assert await context.state(20) == IN_ORDER
    context.hear(loads=True)
    assert await context.state(20) == IN_ORDER
    context.hear(loads=False)
    assert await context.state(20) == {"ok": False, "problems": [gone], "loading": False}


async def test_nobody_waits_for_a_version_that_is_no_more(path):
    path.write_text("import time\ntime.sleep(1000)\n")
    context = made(path)
    assert (await context.state(0.1))["loading"]
    reading = asyncio.create_task(context.read())
    await asyncio.sleep(0)
    path.write_text(PLAIN)
    found = await asyncio.wait_for(reading, 30)
    assert [variable["name"] for variable in found["variables"]] == ["number"]
    assert await context.state(20) == IN_ORDER


async def test_a_check_ends_with_the_one_who_asked(path, tmp_path):
    path.write_text(
        "import os, pathlib, time\npathlib.Path('pid').write_text(str(os.getpid()))\n"
        "time.sleep(1000)\n"
    )
    context = made(path)
    async with asyncio.timeout(30):
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert (await context.state(0.1))["loading"]
    await context.close()
    assert processes.read(int((tmp_path / "pid").read_text())) is None


async def test_a_folder_in_place_of_the_file(tmp_path):
    (tmp_path / "context.py").mkdir()
    state = await made(tmp_path / "context.py").state(20)
    assert "cannot be read: Is a directory" in state["problems"][0]["message"]
