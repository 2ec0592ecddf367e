"""Our agent, as far as it needs no server."""

import http.server
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from daemon import agent
from daemon.agent import AgentError, check_folder
from daemon.agent_server import Away, Refused, Server
from daemon.cli.agent import command

BEGINS = "j1: attempt None begins"


def test_jobs_need_the_folder_where_it_is(tmp_path: Path) -> None:
    check_folder(str(tmp_path))
    with pytest.raises(AgentError, match=rf"{tmp_path}/away is not on .+ mount it there"):
        check_folder(str(tmp_path / "away"))


class Serving:
    """In place of a server: has one job, and remembers what it was asked."""

    url = "http://here"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.given = False

    def post(self, path: str, **_: object) -> dict[str, Any] | None:
        self.asked.append(path)
        if path == "heartbeat":
            return {"folder": str(self.folder)}
        if path == "job-status":
            return {"status": "running"}
        if self.given:
            return None
        self.given = True
        log = self.folder / "logs" / "j1.log"
        return {"job_id": "j1", "arguments": ["sleep", "1000"], "env": {}, "log": str(log)}


def test_a_folder_that_goes_away_for_a_while_costs_no_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HEARTBEAT_SECONDS", "POLL_SECONDS", "REPORT_SECONDS"):
        monkeypatch.setattr(agent, name, 0.0)
    folder = tmp_path / "amore"
    folder.mkdir()
    server = Serving(folder)
    told: list[str] = []

    def away() -> None:
        folder.rename(tmp_path / "hidden")
        server.asked.clear()

    def back() -> None:
        assert "next-job" not in server.asked
        assert "job-status" in server.asked
        (tmp_path / "hidden").rename(folder)
        server.asked.clear()

    def end() -> None:
        assert "next-job" in server.asked
        assert told == [f"works for {server.url} on {socket.gethostname()}", BEGINS, told[2]]
        assert "is not on" in told[2]
        raise KeyboardInterrupt

    acts = iter([away, lambda: None, back, end])
    monkeypatch.setattr("time.sleep", lambda _: next(acts)())
    started: list[agent.Running] = []
    start = agent._start

    def remembered(asked: dict[str, Any]) -> agent.Running:
        started.append(start(asked))
        return started[-1]

    monkeypatch.setattr(agent, "_start", remembered)
    with pytest.raises(KeyboardInterrupt):
        agent.Agent(server, 2, told.append).run()  # type: ignore[arg-type]
    [job] = started
    assert job.process is not None
    assert job.process.wait() == -signal.SIGKILL


def test_what_is_no_token_is_not_sent_and_not_shown(tmp_path: Path) -> None:
    token = tmp_path / "token"
    for text, words in (("", "has no token"), ("rt_1_secret\nmore", "has more than a token")):
        token.write_text(text)
        asked = ["--server", "http://127.0.0.1:1", "--id", "a", "--token-file", str(token)]
        done = CliRunner().invoke(command, asked)
        assert done.exit_code == 1
        assert f"{token} {words}" in done.output
        assert "secret" not in done.output


def test_a_token_that_is_being_renewed_costs_no_job(tmp_path: Path) -> None:
    server = Server("http://127.0.0.1:1", "a", (tmp_path / "token").read_text)
    with pytest.raises(Away, match="the token cannot be read"):
        server.post("heartbeat")


@contextmanager
def answering(answer: bytes) -> Iterator[tuple[Server, list[str]]]:
    """A server that sends `answer` to everything and hangs up; and the paths it was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers["Content-Length"]))
            self.wfile.write(answer)

        def do_GET(self) -> None:
            asked.append(self.path)
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Server(f"http://127.0.0.1:{served.server_port}", "a", lambda: "rt_1_x"), asked
        finally:
            served.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"no HTTP\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.0 500 No\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.0 200 OK\r\n\r\n{",
    ],
)
def test_an_answer_that_breaks_off_costs_no_job(answer: bytes) -> None:
    with answering(answer) as (server, _), pytest.raises(Away):
        server.post("heartbeat")


def test_the_token_goes_to_no_other_server() -> None:
    with answering(b"HTTP/1.0 200 OK\r\n\r\n{}") as (other, asked):
        there = f"HTTP/1.0 303 See Other\r\nLocation: {other.url}/\r\n\r\n"
        with answering(there.encode()) as (server, _), pytest.raises(Refused, match="303"):
            server.post("heartbeat")
    assert asked == []
