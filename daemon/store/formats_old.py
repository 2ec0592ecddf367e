"""Folders from before format 1: their table and run files are made anew beside them, then switched.

Until everything that is new is on disk nothing of the old is touched. Then the old is kept under
other names, run files take their places, and the table last: as long as it is the old one, the
whole can be done again.
"""

import errno
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ctxlib.whole_file import sync, temporary_name
from daemon.database import run_script
from daemon.store import rows, schema
from daemon.store.formats import copy
from daemon.store.formats_files import (
    DAMAGES,
    FilePlan,
    Known,
    convert_file,
    plan_file,
    read_known,
)
from daemon.store.views import Views

V0 = "v0-to-v1"
INTERMEDIATE = "intermediate-v1"
KINDS = (V0, INTERMEDIATE)
"""The old formats, by the names that DAMNIT gave their conversions."""

_TABLE = "runs.sqlite"
_WORK = ".migrating"
_NEW_TABLE = ".runs.sqlite.migrating"
_PNG = b"\x89PNG"
_NUMPY = b"\x93NUMPY"
_NOTHING = Known(None, None, None)
_RUN_COLUMNS = ("proposal", "runnr", "start_time", "added_at")


class MigrationError(Exception):
    """The folder cannot be converted, and is as it was; says why, and what would help."""


@dataclass
class Plan:
    """What a conversion does, or would do. `lost` are values that the new table will not have."""

    kind: str
    folder: Path
    runs: int = 0
    values: int = 0
    files: list[FilePlan] = field(default_factory=list)
    unreadable: list[tuple[Path, Exception]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    @property
    def backups(self) -> tuple[Path, Path]:
        """Where the old table and the old run files are kept."""
        name = "v0" if self.kind == V0 else self.kind
        return (
            self.folder / f"runs.{name}-backup.sqlite",
            self.folder / f"extracted_data.{name}-backup",
        )


def migrate(folder: Path, kind: str, *, dry_run: bool) -> Plan:
    """Convert a folder from the old format `kind` to the current one; with `dry_run` only look.

    The caller holds the folder's lock. Raises MigrationError, or OSError and sqlite3.Error for
    what the system refused; after that, or after a kill, the old table is as it was, and the
    conversion can be begun again.
    """
    plan = Plan(kind, folder)
    with _held(folder / _TABLE) as old:
        found = schema.unnumbered_format(old)
        if found != kind:
            raise MigrationError(_other_format(folder, old, found))
        _check_backup(plan, old)
        _look_at_files(plan)
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as new:
            new.row_factory = sqlite3.Row
            _fill(new, old, plan)
            if not dry_run:
                work = folder / _WORK
                _clear(work)  # of what was killed
                try:
                    work.mkdir()
                    _write_new(new, plan, work)
                    _switch(plan, work, old)
                finally:
                    _clear(work)
    return plan


def _clear(work: Path) -> None:
    shutil.rmtree(work, ignore_errors=True)
    work.with_name(_NEW_TABLE).unlink(missing_ok=True)


def _look_at_files(plan: Plan) -> None:
    for path in sorted(_files(plan).values()):
        try:
            if file := plan_file(path):
                plan.files.append(file)
        except DAMAGES as error:
            plan.unreadable.append((path, error))


def _files(plan: Plan) -> dict[str, Path]:
    """The old run files by name; those that a killed conversion has replaced are in the backup."""
    folders = (plan.folder / "extracted_data", plan.backups[1])
    return {path.name: path for folder in folders for path in folder.glob("*.h5")}


def _other_format(folder: Path, connection: sqlite3.Connection, found: str | None) -> str:
    if found is not None:
        return f"{folder} has another old format: `runtable migrate {found}` converts it"
    version = schema.format_version(connection)
    return f"{folder} has format {version}: `runtable migrate` without the name of an old format"


@contextmanager
def _held(path: Path) -> Iterator[sqlite3.Connection]:
    """The old database, which nobody else changes meanwhile."""
    uri = f"{path.absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, timeout=30, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.execute("ROLLBACK")


def _check_backup(plan: Plan, old: sqlite3.Connection) -> None:
    (backup, files_backup), table = plan.backups, plan.folder / _TABLE
    if not backup.exists():
        in_the_way = files_backup if files_backup.exists() else None
    elif backup.samefile(table):
        in_the_way = None
    else:
        # To open the table and close it would give up the lock on it.
        in_the_way = backup if backup.read_bytes() != old.serialize() else None
    if in_the_way is not None:
        raise MigrationError(f"{in_the_way} is in the way: move it elsewhere and try again")


def _fill(new: sqlite3.Connection, old: sqlite3.Connection, plan: Plan) -> None:
    """Make the new table from the old one, and from what the run files know better."""
    new.execute("BEGIN")
    run_script(new, schema.TABLES)
    new.execute("INSERT INTO metameta VALUES ('data_format_version', ?)", (schema.FORMAT,))
    settings = old.execute("SELECT key, value FROM metameta WHERE key != 'data_format_version'")
    new.executemany("INSERT INTO metameta VALUES (?, ?)", settings.fetchall())
    for table in ("variables", "time_comments"):
        _copy_rows(old, new, table)
    if plan.kind == V0:
        _fill_from_v0(new, old)
    else:
        _copy_rows(old, new, "run_info")
        _copy_rows(old, new, "run_variables")
    _take_from_files(new, plan)
    query = "SELECT DISTINCT name FROM run_variables WHERE name != 'comment' ORDER BY name"
    rows.register_names(new, [row["name"] for row in new.execute(query).fetchall()])
    names = [row["name"] for row in new.execute("SELECT name FROM variables ORDER BY rowid")]
    Views(plan.folder).show(new, ["comment", *names])
    new.execute("COMMIT")
    plan.runs = new.execute("SELECT count(*) FROM run_info").fetchone()[0]
    plan.values = new.execute("SELECT count(*) FROM run_variables").fetchone()[0]


def _copy_rows(old: sqlite3.Connection, new: sqlite3.Connection, table: str) -> None:
    shared = [name for name in schema.COLUMNS[table] if name in schema.columns(old, table)]
    listed, marks = ", ".join(shared), ", ".join("?" * len(shared))
    found = old.execute(f"SELECT {listed} FROM {table}").fetchall()
    new.executemany(f"INSERT INTO {table} ({listed}) VALUES ({marks})", map(tuple, found))


def _fill_from_v0(new: sqlite3.Connection, old: sqlite3.Connection) -> None:
    names = [name for name in schema.columns(old, "runs") if name not in _RUN_COLUMNS]
    for row in old.execute("SELECT * FROM runs ORDER BY proposal, runnr").fetchall():
        new.execute(
            "INSERT INTO run_info VALUES (?, ?, ?, ?)", [row[name] for name in _RUN_COLUMNS]
        )
        new.executemany(
            "INSERT INTO run_variables (proposal, run, name, version, value, timestamp) "
            "VALUES (?, ?, ?, 1, ?, ?)",
            [
                (row["proposal"], row["runnr"], name, row[name], row["added_at"])
                for name in names
                if row[name] is not None
            ],
        )


def _take_from_files(new: sqlite3.Connection, plan: Plan) -> None:
    """Put into the table what only the run files tell: times, spreads, and values for blobs."""
    unreadable = {path for path, _ in plan.unreadable}
    pictures = {file.path: file.pictures for file in plan.files}
    files = _files(plan)
    runs = new.execute("SELECT proposal, run, added_at FROM run_info").fetchall()
    for proposal, run, added_at in runs:
        path = files.get(f"p{proposal}_r{run}.h5")
        known: dict[str, Known] = {}
        if path is not None and path not in unreadable:
            try:
                known = read_known(path)
            except DAMAGES as error:
                _give_up(plan, path, error)
        time = None if path is None or plan.kind != V0 else path.stat().st_mtime
        # Images that the table has no blob of are shown from now on.
        new.executemany(
            "INSERT OR IGNORE INTO run_variables (proposal, run, name, version, value, timestamp) "
            "VALUES (?, ?, ?, 1, x'', ?)",
            [
                (proposal, run, name, added_at)
                for name in (pictures.get(path, ()) if path is not None else ())
            ],
        )
        cells = new.execute(
            "SELECT rowid, name, value FROM run_variables WHERE proposal = ? AND run = ?",
            (proposal, run),
        ).fetchall()
        for cell in cells:
            found = known.get(cell["name"], _NOTHING)
            value, kind = cell["value"], None
            if isinstance(value, bytes):
                value, kind = _blob(value, found)
                if value is None:
                    plan.lost.append(f"{cell['name']} of run {run}")
            new.execute(
                "UPDATE run_variables SET value = ?, summary_type = ?, "
                "max_diff = coalesce(max_diff, ?), timestamp = coalesce(?, timestamp) "
                "WHERE rowid = ?",
                (value, kind, found.max_diff, time, cell["rowid"]),
            )


def _give_up(plan: Plan, path: Path, error: Exception) -> None:
    """Leave one damaged run file as it is, so that the others can be converted."""
    plan.files = [file for file in plan.files if file.path != path]
    plan.unreadable.append((path, error))


def _blob(stored: bytes, known: Known) -> tuple[object, str | None]:
    """What to show in place of a blob, with its type: pickles of v0 are not read, as they may do
    anything; the run file has what is in them."""
    if known.value is not None:
        return known.value, known.kind
    if stored.startswith(_PNG):
        return stored, None
    return (stored, "numpy") if stored.startswith(_NUMPY) else (None, None)


def _write_new(new: sqlite3.Connection, plan: Plan, work: Path) -> None:
    for file in list(plan.files):
        target = work / file.path.name
        try:
            convert_file(file, target)
        except DAMAGES as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            _give_up(plan, file.path, error)
        else:
            shutil.copystat(file.path, target)
    table = plan.folder / _NEW_TABLE
    copy(new, table)
    shutil.copymode(plan.folder / _TABLE, table)
    sync(table)
    sync(work)


def _switch(plan: Plan, work: Path, old: sqlite3.Connection) -> None:
    table_backup, files_backup = plan.backups
    table = plan.folder / _TABLE
    files = {file.path.name: file.path for file in plan.files}
    # The table's first: it tells whose the other ones are.
    _keep(table, table_backup, old.serialize)
    if files:
        files_backup.mkdir(exist_ok=True)
    for name, path in files.items():
        _keep(path, files_backup / name, path.read_bytes)
    if files:
        sync(files_backup)
    sync(plan.folder)
    for name in files:
        (work / name).rename(plan.folder / "extracted_data" / name)
    if files:
        sync(plan.folder / "extracted_data")
    work.rmdir()
    (plan.folder / _NEW_TABLE).rename(table)
    sync(plan.folder)


def _keep(path: Path, backup: Path, content: Callable[[], bytes]) -> None:
    """Give a file a second name, or where the filesystem has no such thing, a copy."""
    if backup.exists():
        return  # a conversion that was begun before has made it, and may have replaced `path`
    try:
        backup.hardlink_to(path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.EXDEV):
            raise
        temporary = temporary_name(backup)
        temporary.write_bytes(content())
        shutil.copystat(path, temporary)
        sync(temporary)
        temporary.rename(backup)
