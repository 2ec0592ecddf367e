"""A running `runtable web` for tests, and clients with tokens for it."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
from beamtime import RUNTABLE
from helpers import wait_until


@dataclass
class WebServer:
    """The program, its address, and the token that it has printed."""

    process: subprocess.Popen[str]
    url: str
    token: str

    def client(self, token: str | None = None) -> httpx.Client:
        """A client with a token; the printed one by default."""
        headers = {"Authorization": f"Bearer {self.token if token is None else token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30)

    def end(self) -> int:
        """Tell it to end; its exit code."""
        self.process.terminate()
        return self.process.wait(20)


@contextmanager
def web_server(folder: Path, *options: object) -> Iterator[WebServer]:
    """Run `runtable web` for `folder` until the end of the block."""
    process = subprocess.Popen(
        [*RUNTABLE, "web", str(folder), *map(str, options)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    try:
        printed = process.stdout.readline().strip()
        parts = urlsplit(printed)
        url = f"{parts.scheme}://{parts.netloc}"
        wait_until(lambda: _answers(url))
        assert json.loads((folder / "web.json").read_text()) == {"url": printed}
        yield WebServer(process, url, parse_qs(parts.query)["token"][0])
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(20)
        process.stdout.close()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/health").status_code == 200
    except httpx.TransportError:
        return False


def token(folder: Path, role: str, name: str) -> str:
    """A token made on the command line."""
    done = subprocess.run(
        [*RUNTABLE, "token", "add", role, name, "--in", str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()
