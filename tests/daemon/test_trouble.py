"""What passes by itself, or when somebody mends it, is waited for."""

import errno
import sqlite3

import pytest

from daemon.database import SchemaError
from daemon.jobs.trouble import is_passing


def sqlite_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("trouble")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "full"),
        OSError(errno.EROFS, "read-only"),
        sqlite_error(sqlite3.SQLITE_FULL),
        sqlite_error(sqlite3.SQLITE_READONLY_DIRECTORY),
        sqlite_error(sqlite3.SQLITE_NOTADB),
        sqlite_error(sqlite3.SQLITE_CORRUPT),
        SchemaError("runs.sqlite is something else"),
    ],
)
def test_trouble_with_the_host_or_its_files_passes(error: Exception) -> None:
    assert is_passing(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("wrong"),
        FileNotFoundError(errno.ENOENT, "gone"),
        sqlite_error(sqlite3.SQLITE_CONSTRAINT),
    ],
)
def test_trouble_with_the_work_does_not(error: Exception) -> None:
    assert not is_passing(error)
