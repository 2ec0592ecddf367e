"""Databases of the formats 1 to 3: what each lacks, and how they are brought up to format 4."""

import filecmp
import itertools
import logging
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from ctxlib.whole_file import remove_leftovers, sync, temporary_name
from daemon.database import SchemaError, run_script
from daemon.database_thread import is_locked
from daemon.store import schema

log = logging.getLogger(__name__)

OLDEST = 1
"""The oldest format that is converted when a database is opened."""

STEPS = {
    2: ("column run_variables.attributes", ""),  # made in `convert`, as SQL has no condition for it
    3: ("tables tags and variable_tags", schema.TAG_TABLES),
    4: ("trigger that drops a tag with its last use", schema.TAG_TRIGGER),
}
"""What each format has that the one before has not: in words, and how it is made."""


def missing(version: int) -> list[str]:
    """Return in words what a database of format `version` is given to be of the current one."""
    return [f"format {number}: {words}" for number, (words, _) in STEPS.items() if number > version]


def backup_path(path: Path, version: int) -> Path:
    """Return where the copy of a database is kept that is converted from `version`."""
    return path.with_name(f"{path.name}.v{version}.backup")


def convert(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the database at `path` up to the current format, in the transaction that is open.

    A copy of it as it was is on disk before that. Raises SchemaError when there cannot be one;
    nothing was changed then.
    """
    version = schema.format_version(connection)
    assert version is not None, "the tables have been checked"
    backup = _back_up(path, backup_path(path, version))
    for number, (_, script) in STEPS.items():
        if number > version:
            run_script(connection, script)
    if "attributes" not in schema.columns(connection, "run_variables"):
        connection.execute("ALTER TABLE run_variables ADD COLUMN attributes")
    connection.execute(
        "UPDATE metameta SET value = ? WHERE key = 'data_format_version'", (schema.FORMAT,)
    )
    log.warning(
        "%s is being converted from format %d to %d; %s is a copy of it as it was",
        *(path, version, schema.FORMAT, backup.name),
    )


def _back_up(path: Path, target: Path) -> Path:
    """Copy the database to `target`, or to a name after it where another database's copy is."""
    remove_leftovers(target)
    temporary = temporary_name(target)
    try:
        _copy(path, temporary)
        for number in itertools.count(1):
            numbered = target if number == 1 else target.with_name(f"{target.name}-{number}")
            if numbered.exists() and filecmp.cmp(temporary, numbered, shallow=False):
                return numbered  # a conversion that was begun before has made it
            if not numbered.exists():
                temporary.rename(numbered)
                sync(numbered.parent)
                return numbered
    except (OSError, sqlite3.Error) as error:
        if isinstance(error, sqlite3.Error) and is_locked(error):
            raise
        raise SchemaError(
            f"{path} has an older format, and cannot be converted because there is no copy of it: "
            f"{target} could not be written ({error}). Nothing was changed; make room, or see to "
            f"it that files can be made in {path.parent}, and try again"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    raise AssertionError("unreachable")


def _copy(path: Path, target: Path) -> None:
    # By SQLite: to open and close the file oneself would drop the locks that this process has.
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as source:
        copy(source, target)
    shutil.copymode(path, target)
    sync(target)


def copy(source: sqlite3.Connection, target: Path) -> None:
    """Copy an open database to a new file, without a journal that a kill would leave beside it."""
    with closing(sqlite3.connect(target)) as new:
        new.execute("PRAGMA journal_mode = OFF")
        source.backup(new)
