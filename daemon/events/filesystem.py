"""Runs on disk: which there are, and whether one has changed."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from ctxlib.run_pattern import RunPattern
from daemon.events import Data, MigrationEvent
from daemon.events.inbox import FILESYSTEM

READERS_FILE = b"karabo_data_map.json"
"""What extra_data itself leaves in a run that it may write to; with more letters while it writes,
which is what stays of one that was killed then."""


def fingerprint(folder: Path) -> str | None:
    """A text that changes with any name, size or mtime in `folder`; None when it has no files.

    A folder that is not there has none. Raises OSError when it cannot be read.
    """
    try:
        entries = sorted(_entries(os.fsencode(folder), b""))
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not entries:
        return None
    digest = hashlib.blake2b(digest_size=16)
    for name, size, mtime_ns in entries:
        digest.update(b"%s\0%d\0%d\0" % (name, size, mtime_ns))
    return digest.hexdigest()


def _entries(folder: bytes, prefix: bytes) -> Iterator[tuple[bytes, int, int]]:
    with os.scandir(folder) as found:
        for entry in found:
            name = prefix + entry.name
            if READERS_FILE in entry.name:
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    yield from _entries(entry.path, name + b"/")
                    continue
                info = _stat(entry)
            except FileNotFoundError:
                continue  # gone since it was listed
            yield name, info.st_size, info.st_mtime_ns


def _stat(entry: "os.DirEntry[bytes]") -> os.stat_result:
    try:
        return entry.stat()
    except FileNotFoundError:
        return entry.stat(follow_symlinks=False)  # a link whose target is not there (yet)


def event_key(data: str, run: int, found: str) -> str:
    """The key of an event for `run`, whose folder has the fingerprint `found`."""
    return f"fs:{data}:{run}:{found}"


def existing_runs(proposal_path: Path, pattern: RunPattern) -> list[tuple[Data, int, Path]]:
    """(data, run, folder) of all run folders that `pattern` gives, by run, raw before proc.

    Names that are no runs are left out. Raises OSError when a folder of runs cannot be read.
    """
    runs: list[tuple[Data, int, Path]] = []
    for data in pattern.kinds:
        try:
            names = os.listdir(pattern.root(data, proposal_path))  # noqa: PTH208 - names are enough
        except (FileNotFoundError, NotADirectoryError):
            continue
        for run in (pattern.run_number(data, name) for name in names):
            if run is None:
                continue
            folder = proposal_path / pattern.folder(data, run)
            if folder.is_dir():
                runs.append((data, run, folder))
    return sorted(runs, key=lambda item: (item[1], pattern.kinds.index(item[0])))


def present_events(
    proposal_path: Path, pattern: RunPattern, proposal: int, now: float
) -> list[MigrationEvent]:
    """The events of all runs as they are on disk now, for `Inbox.mark_seen`.

    Runs that cannot be read have none: what they are like is seen when they can.
    """
    events = []
    for data, run, folder in existing_runs(proposal_path, pattern):
        try:
            found = fingerprint(folder)
        except PermissionError:
            continue
        if found is not None:
            key = event_key(data, run, found)
            events.append(MigrationEvent(proposal, run, data, FILESYSTEM, key, now))
    return events
