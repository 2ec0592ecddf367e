"""A secret that programs are given, and that nobody may see afterwards or on a command line."""

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers import wait_until


@contextmanager
def kept_secret(file: Path, *folders: Path, ending: str) -> Iterator[str]:
    """The place of a secret with this `ending`, for a configuration; `file` then has it.

    In the end it has been on no command line, and is in no file of `folders`: what is private may
    have it for as long as it is needed.
    """
    secret = f"{secrets.token_hex(16)}-{ending}"
    file.write_text(secret)
    file.chmod(0o600)
    seen: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            seen.update(line for line in _command_lines() if secret in line)

    watching = threading.Thread(target=look)
    watching.start()
    try:
        yield f"file:{file}"
    finally:
        over.set()
        watching.join()
    assert seen == set()
    assert [path for path in _holders(folders, secret) if path.stat().st_mode & 0o077] == []
    wait_until(lambda: list(_holders(folders, secret)) == [])


def _command_lines() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has just ended


def _holders(folders: tuple[Path, ...], secret: str) -> Iterator[Path]:
    for folder in folders:
        for path in folder.rglob("*"):
            try:
                if path.is_file() and secret.encode() in path.read_bytes():
                    yield path
            except OSError:
                continue  # it has just gone
