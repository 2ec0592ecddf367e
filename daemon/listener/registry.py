"""`listener.sqlite`: the databases that a listener serves, and its settings, as DAMNIT keeps them.

Commands and the listener each open it for a moment; SQLite's own lock keeps them apart.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ctxlib.places import DATABASE_IN_PROPOSAL, NotFoundError, find_proposal, proposals_named
from daemon.listener import DATABASE, NAME

T = TypeVar("T")

WAIT_SECONDS = 10.0
"""How long another program may hold the file locked."""

_TABLES = (
    "CREATE TABLE IF NOT EXISTS proposal_databases(proposal, db_dir UNIQUE, official)",
    "CREATE INDEX IF NOT EXISTS proposals ON proposal_databases (proposal)",
    "CREATE TABLE IF NOT EXISTS settings(key PRIMARY KEY NOT NULL, value)",
)


class RegistryError(Exception):
    """What was asked for cannot be; str() says why and what to do."""


@dataclass(frozen=True)
class Registered:
    """A database that is served for a proposal.

    `official` is the one at the proposal's own place. `stored` is how the file names its folder.
    """

    proposal: int
    folder: Path
    official: bool
    stored: str


class Registry:
    """The file of one listener's folder, made with the first write."""

    def __init__(self, folder: Path) -> None:
        """Keep it in `folder`, which must exist."""
        self._folder = folder
        self._path = folder / NAME

    def databases(self) -> list[Registered]:
        """All databases, by proposal, in the order in which they were added."""
        query = "SELECT proposal, db_dir, official FROM proposal_databases ORDER BY proposal, rowid"
        return [
            Registered(int(proposal), self._folder / stored, bool(official), stored)
            for proposal, stored, official in self._read(query)
        ]

    def add(self, proposal: int, folder: Path) -> bool:
        """Serve the database in `folder` for `proposal`; False when that is so already.

        Raises RegistryError when it is another proposal's.
        """
        for known in self.databases():
            if known.folder == folder:
                if known.proposal == proposal:
                    return False
                raise RegistryError(
                    f"{folder} is served for proposal {known.proposal} already; take it out with "
                    f"`runtable listener rm {folder}` first"
                )
        own = proposal_of(folder)
        if own not in (None, proposal):
            raise RegistryError(f"the database in {folder} is for proposal {own}, not {proposal}")
        values = (proposal, str(folder), int(folder == official_folder(proposal)))
        self._write(
            lambda database: database.execute(
                "INSERT INTO proposal_databases VALUES (?, ?, ?)", values
            )
        )
        return True

    def remove(self, folder: Path) -> bool:
        """Serve the database in `folder` no more; False when it was not served."""
        found = [known.stored for known in self.databases() if known.folder == folder]
        query = "DELETE FROM proposal_databases WHERE db_dir = ?"
        self._write(lambda database: [database.execute(query, (name,)) for name in found])
        return bool(found)

    def settings(self) -> dict[str, object]:
        """The settings as they are stored."""
        return dict(self._read("SELECT key, value FROM settings"))

    def set(self, key: str, value: object) -> None:
        """Store a setting."""
        query = "INSERT OR REPLACE INTO settings VALUES (?, ?)"
        self._write(lambda database: database.execute(query, (key, value)))

    def delete(self, key: str) -> None:
        """Take a setting back to its default."""
        query = "DELETE FROM settings WHERE key = ?"
        self._write(lambda database: database.execute(query, (key,)))

    def exists(self) -> bool:
        """Tell whether the file is there."""
        return self._path.exists()

    def make(self) -> None:
        """Make the file unless it is there."""
        self._write(lambda _database: None)

    def _read(self, query: str) -> list[tuple[Any, ...]]:
        if not self.exists():
            return []
        with self._open("?mode=ro") as database:
            return database.execute(query).fetchall()

    def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if (self._folder / DATABASE).exists():
            raise RegistryError(
                f"{self._folder} is a database's folder, which has a daemon of its own; give a "
                "listener for several databases a folder of its own"
            )
        with self._open("") as database, database:
            for table in _TABLES:
                database.execute(table)
            return work(database)

    @contextmanager
    def _open(self, how: str) -> Iterator[sqlite3.Connection]:
        try:
            uri = self._path.as_uri() + how
            with closing(sqlite3.connect(uri, uri=True, timeout=WAIT_SECONDS)) as database:
                yield database
        except sqlite3.Error as error:
            raise RegistryError(f"{self._path} cannot be used: {error}") from error


def official_folder(proposal: int) -> Path | None:
    """Where the proposal's own database belongs; None when the proposal is not found."""
    try:
        return find_proposal(proposal) / DATABASE_IN_PROPOSAL
    except NotFoundError:
        return None


def official_databases(proposal: int) -> list[Path]:
    """The folders of the proposal's own databases that there are: one at most, as a rule."""
    found = (path / DATABASE_IN_PROPOSAL for path in proposals_named(proposal))
    return [folder for folder in found if (folder / DATABASE).exists()]


def proposal_of(folder: Path) -> int | None:
    """The proposal that the database in `folder` is for; None when nobody can tell."""
    path = folder / DATABASE
    if not path.exists():
        return None
    query = "SELECT value FROM metameta WHERE key = 'proposal'"
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=2)) as database:
            row = database.execute(query).fetchone()
        return None if row is None else int(row[0])
    except (sqlite3.Error, ValueError, TypeError):
        return None  # its own daemon will say what is wrong with it
