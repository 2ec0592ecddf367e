"""Files that take the place of others when they are complete, or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_whole(
    path: Path, content: bytes, *, mode: int | None = None, durable: bool = False
) -> None:
    """Make `content` that of the file `path`; when that fails, what was there stays.

    With `mode` these are the file's permissions, and at no moment can more people read it. With
    `durable` it is on disk when this returns.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with replaced(path, durable=durable) as new:
        fd = os.open(new, flags, 0o666 if mode is None else 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            if mode is not None:
                os.fchmod(fd, mode)
            if durable:
                os.fsync(fd)


@contextmanager
def replaced(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Give a name under which to make a file, which is renamed to `path` after the block.

    When anything fails, what was at `path` stays and nothing is left over. With `durable` the
    renaming is on disk when this returns; the file's content is up to the block.
    """
    new = temporary_name(path)
    try:
        yield new
        new.rename(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    if durable:
        sync(path.parent)


def temporary_name(path: Path) -> Path:
    """A hidden name beside `path`, which no reader takes for a result."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def remove_leftovers(path: Path) -> None:
    """Remove temporary files of `path` that a killed process left; nobody may be writing it."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        leftover.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Have a file's content, or a folder's list of files, on disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
