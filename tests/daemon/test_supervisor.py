"""Rendering supervisord.conf: who may read it, what is kept, what is refused."""

import configparser
import os
import socket
from pathlib import Path
from typing import Literal

import pytest

from daemon.settings import Settings
from daemon.supervisor import (
    Endpoint,
    SupervisorError,
    is_rendered,
    is_running,
    read_endpoint,
    render,
    shutdown,
)

COMMAND = ["/usr/bin/python3", "-m", "daemon.cli", "listen", "/data/p001234"]


def parsed(path: Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    parser.read(path)
    return parser


def endpoint_of(folder: Path) -> Endpoint:
    endpoint = read_endpoint(folder)
    assert endpoint is not None
    return endpoint


def test_the_program_is_the_daemon_and_only_it_is_signalled(tmp_path: Path) -> None:
    program = parsed(render(tmp_path, Settings(stop_grace=30), COMMAND))["program:damnit"]
    assert program["command"] == "/usr/bin/python3 -m daemon.cli listen /data/p001234"
    assert program["autorestart"] == "true"
    assert program["stopsignal"] == "TERM"
    assert program["killasgroup"] == program["stopasgroup"] == "false"
    assert int(program["stopwaitsecs"]) > 30


def test_it_listens_on_loopback_with_a_password_of_the_folder(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    files = [parsed(render(folder, Settings(), COMMAND)) for folder in (here, there)]
    for file in files:
        assert file["inet_http_server"]["port"].startswith("127.0.0.1:")
        assert file["supervisorctl"]["password"] == file["inet_http_server"]["password"]
    assert endpoint_of(here).password != endpoint_of(there).password
    assert len(endpoint_of(here).password) == 32


def test_password_and_port_stay_when_rendered_again(tmp_path: Path) -> None:
    render(tmp_path, Settings(), COMMAND)
    first = endpoint_of(tmp_path)
    render(tmp_path, Settings(stop_grace=20), COMMAND)
    assert endpoint_of(tmp_path) == first


def test_a_port_taken_by_another_program_is_replaced(tmp_path: Path) -> None:
    render(tmp_path, Settings(), COMMAND)
    first = endpoint_of(tmp_path)
    with socket.socket() as other:
        other.bind((first.host, first.port))
        render(tmp_path, Settings(), COMMAND)
    second = endpoint_of(tmp_path)
    assert second.port != first.port
    assert second.password == first.password


@pytest.mark.parametrize(
    ("share_with", "mode"), [("owner", 0o600), ("group", 0o640), ("all", 0o640)]
)
def test_nobody_but_owner_and_group_reads_the_password(
    tmp_path: Path, share_with: Literal["owner", "group", "all"], mode: int
) -> None:
    old_umask = os.umask(0)
    try:
        path = render(tmp_path, Settings(share_with=share_with), COMMAND)
    finally:
        os.umask(old_umask)
    assert path.stat().st_mode & 0o777 == mode
    assert (
        parsed(path)["supervisord"]["umask"]
        == {"owner": "077", "group": "007", "all": "002"}[share_with]
    )
    assert [p.name for p in tmp_path.iterdir()] == ["supervisord.conf"]


def test_a_named_host_opens_it_beyond_loopback(tmp_path: Path) -> None:
    file = parsed(render(tmp_path, Settings(supervisor_host="0.0.0.0"), COMMAND))
    assert file["inet_http_server"]["port"].startswith("0.0.0.0:")
    assert file["supervisorctl"]["serverurl"].startswith(f"http://{socket.getfqdn()}:")


def test_a_host_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SupervisorError, match=r"'192\.0\.2\.1' is not an address.*supervisor_host"):
        render(tmp_path, Settings(supervisor_host="192.0.2.1"), COMMAND)
    assert not list(tmp_path.iterdir())


def test_spaces_and_percents_reach_supervisor_whole(tmp_path: Path) -> None:
    path = render(tmp_path, Settings(), ["/usr/bin/python3", "/data/100% of it/x"])
    assert parsed(path)["program:damnit"]["command"] == "/usr/bin/python3 '/data/100%% of it/x'"


@pytest.mark.parametrize("name", ["/data/run ;1", "/data/a #1", "/data/a\nb"])
def test_what_supervisors_file_cannot_say_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SupervisorError, match="another name"):
        render(tmp_path, Settings(), ["/usr/bin/python3", name])


def test_a_damaged_file_is_rendered_anew(tmp_path: Path) -> None:
    (tmp_path / "supervisord.conf").write_text("[inet_http_server]\nport = none\n")
    assert not is_running(tmp_path)
    render(tmp_path, Settings(), COMMAND)
    assert endpoint_of(tmp_path).port > 0


def test_a_file_is_rendered_again_when_a_setting_about_it_has_changed(tmp_path: Path) -> None:
    assert not is_rendered(tmp_path, Settings(), COMMAND)
    render(tmp_path, Settings(), COMMAND)
    assert is_rendered(tmp_path, Settings(), COMMAND)
    assert is_rendered(tmp_path, Settings(noncluster_cpus=2), COMMAND)
    for changed in (
        Settings(stop_grace=20),
        Settings(share_with="owner"),
        Settings(share_with="all"),
        Settings(supervisor_host="0.0.0.0"),
    ):
        assert not is_rendered(tmp_path, changed, COMMAND)
    assert not is_rendered(tmp_path, Settings(), [*COMMAND, "more"])


def test_what_cannot_be_written_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        render(tmp_path, Settings(), COMMAND)
    assert list(tmp_path.iterdir()) == []


def test_stopping_what_does_not_run_is_no_error(tmp_path: Path) -> None:
    render(tmp_path, Settings(), COMMAND)
    shutdown(tmp_path)
