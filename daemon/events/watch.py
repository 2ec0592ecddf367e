"""One watched folder: hints that something happened below it, from inotify or by polling.

Hints may be early, doubled or missing; they only say where to look.
"""

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path

from watchdog import events as happenings
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver
from watchdog.observers.polling import PollingObserver

from daemon.filesystem import is_network

POLL_SECONDS = 5.0

# Not the events of reading: our own jobs would cause them.
_CHANGES: list[type[FileSystemEvent]] = [
    happenings.DirCreatedEvent,
    happenings.DirDeletedEvent,
    happenings.DirModifiedEvent,
    happenings.DirMovedEvent,
    happenings.FileClosedEvent,
    happenings.FileCreatedEvent,
    happenings.FileDeletedEvent,
    happenings.FileModifiedEvent,
    happenings.FileMovedEvent,
]


class Watch:
    """Calls `hint(name)`, from a thread, when something happens at or below `root/name`.

    Where other hosts can write, inotify would miss their changes, so the folder is polled: only
    `root` itself and its folders' times, as reading all files of all runs takes too long there.
    """

    def __init__(self, root: Path, hint: Callable[[str], None], log: logging.Logger) -> None:
        """Begin to watch. Raises OSError when `root` cannot be read."""
        info = root.stat()
        self.identity = (info.st_dev, info.st_ino)
        target = root.resolve()  # raw/ may be a link to another filesystem
        handler = _Handler(target, hint)
        self.method = "polling" if is_network(target) else "inotify"
        if self.method == "inotify":
            try:
                self._observer = _start(Observer(), handler, target, recursive=True)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EMFILE):
                    raise
                log.warning(
                    "%s is polled every %g s, as inotify has no room for it (%s): "
                    "raise fs.inotify.max_user_watches and max_user_instances",
                    *(root, POLL_SECONDS, error),
                )
                self.method = "polling"
        if self.method == "polling":
            observer = PollingObserver(timeout=POLL_SECONDS)
            self._observer = _start(observer, handler, target, recursive=False)

    def close(self) -> None:
        """Stop watching; no hint comes after this."""
        self._observer.stop()
        self._observer.join()


def _start(
    observer: BaseObserver, handler: FileSystemEventHandler, root: Path, *, recursive: bool
) -> BaseObserver:
    observer.schedule(handler, str(root), recursive=recursive, event_filter=_CHANGES)
    try:
        observer.start()
    except OSError:
        observer.stop()
        raise
    return observer


class _Handler(FileSystemEventHandler):
    def __init__(self, root: Path, hint: Callable[[str], None]) -> None:
        self._root = os.fsencode(root) + b"/"
        self._hint = hint

    def on_any_event(self, event: FileSystemEvent) -> None:
        for path in (event.src_path, event.dest_path):
            encoded = os.fsencode(path)
            if encoded.startswith(self._root):
                self._hint(os.fsdecode(encoded[len(self._root) :].split(b"/")[0]))
