"""A real supervisord with the rendered file, and a program of a few lines in the daemon's place."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from helpers import wait_until

from daemon.settings import Settings
from daemon.supervisor import (
    SupervisorError,
    is_running,
    read_endpoint,
    render,
    runs_as,
    shutdown,
    start,
)

pytestmark = pytest.mark.system

PROGRAM = "import signal, sys; print('ready', *sys.argv[1:], flush=True); signal.pause()"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with a running Supervisor, stopped again at the end."""
    folder = tmp_path / "p 100% d'argent"
    folder.mkdir()
    render(folder, Settings(), [sys.executable, "-c", PROGRAM, str(folder)])
    try:
        start(folder)
        yield folder
    finally:
        shutdown(folder)


def supervisorctl(conf: Path, *words: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(conf), *words]
    done = subprocess.run(
        command, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout + done.stderr


def pid_of(conf: Path) -> int:
    return int(supervisorctl(conf, "pid", "damnit")[1])


def test_the_documented_commands_work_from_another_directory(folder: Path) -> None:
    conf = folder / "supervisord.conf"
    code, text = supervisorctl(conf, "status", "damnit")
    assert code == 0
    assert "RUNNING" in text

    first = pid_of(conf)
    assert supervisorctl(conf, "restart", "damnit") == (0, "damnit: stopped\ndamnit: started\n")
    assert pid_of(conf) != first

    assert supervisorctl(conf, "stop", "damnit") == (0, "damnit: stopped\n")
    assert "STOPPED" in supervisorctl(conf, "status", "damnit")[1]
    assert supervisorctl(conf, "start", "damnit") == (0, "damnit: started\n")
    assert (folder / "amore.log").read_text() == f"ready {folder}\n" * 3


def test_shutdown_returns_when_all_has_ended(tmp_path: Path) -> None:
    slow = (
        "import signal, time; "
        "signal.signal(15, lambda *_: (time.sleep(0.5), exit())); "
        "signal.pause()"
    )
    render(tmp_path, Settings(), [sys.executable, "-c", slow])
    start(tmp_path)
    supervisor = psutil.Process(int((tmp_path / "supervisord.pid").read_text()))
    programs = supervisor.children()
    shutdown(tmp_path)
    assert not any(process.is_running() for process in programs)
    assert not (tmp_path / "supervisord.pid").exists()


def test_a_killed_program_is_started_again(folder: Path) -> None:
    conf = folder / "supervisord.conf"
    first = pid_of(conf)
    os.kill(first, 9)
    wait_until(lambda: pid_of(conf) not in (0, first))


def test_a_wrong_password_is_refused(folder: Path) -> None:
    conf = folder / "supervisord.conf"
    endpoint = read_endpoint(folder)
    assert endpoint is not None
    wrong = folder / "wrong.conf"
    wrong.write_text(conf.read_text().replace(endpoint.password, "0" * 32))
    code, text = supervisorctl(wrong, "stop", "damnit")
    assert code != 0
    assert "authentication" in text
    assert "RUNNING" in supervisorctl(conf, "status", "damnit")[1]


def test_only_loopback_listens(folder: Path) -> None:
    endpoint = read_endpoint(folder)
    assert endpoint is not None
    supervisor = psutil.Process(int((folder / "supervisord.pid").read_text()))
    listening = [c.laddr for c in supervisor.net_connections("inet") if c.status == "LISTEN"]
    assert [(a.ip, a.port) for a in listening] == [("127.0.0.1", endpoint.port)]


def test_what_supervisord_reads_at_its_start_reaches_it(folder: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    supervisor = (folder / "supervisord.pid").read_text()
    before = runs_as(folder)
    render(folder, Settings(share_with="owner"), command)
    assert not is_running(folder)
    start(folder)
    assert (folder / "supervisord.pid").read_text() != supervisor
    program = runs_as(folder)
    assert program not in (None, before)
    assert "Umask:\t0077" in Path(f"/proc/{program}/status").read_text()


def test_starting_again_takes_up_what_changed(folder: Path) -> None:
    conf = folder / "supervisord.conf"
    supervisor = (folder / "supervisord.pid").read_text()
    before = read_endpoint(folder)
    render(folder, Settings(), [sys.executable, "-c", PROGRAM, "changed"])
    start(folder)
    assert read_endpoint(folder) == before
    assert (folder / "supervisord.pid").read_text() == supervisor
    assert (folder / "amore.log").read_text().endswith("ready changed\n")

    supervisorctl(conf, "stop", "damnit")
    start(folder)
    assert "RUNNING" in supervisorctl(conf, "status", "damnit")[1]


def test_a_program_that_cannot_start_is_an_error_naming_the_log(tmp_path: Path) -> None:
    conf = render(tmp_path, Settings(), [sys.executable, "-c", "raise SystemExit('no such thing')"])
    conf.write_text(conf.read_text().replace("startretries = 10", "startretries = 0"))
    try:
        with pytest.raises(SupervisorError, match=r"FATAL.*amore\.log"):
            start(tmp_path)
        assert "no such thing" in (tmp_path / "amore.log").read_text()
    finally:
        shutdown(tmp_path)


def test_another_address_ends_the_supervisor_of_the_old_one(folder: Path) -> None:
    old = psutil.Process(int((folder / "supervisord.pid").read_text()))
    settings = Settings(supervisor_host="0.0.0.0")
    render(folder, settings, [sys.executable, "-c", PROGRAM])
    wait_until(lambda: not old.is_running() or old.status() == psutil.STATUS_ZOMBIE)
    assert not is_running(folder)
