"""The source that notices runs that arrive, settle or grow again in the folders of runs."""

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ctxlib.run_pattern import RunPattern
from daemon.events import Data, MigrationEvent
from daemon.events.filesystem import event_key, fingerprint
from daemon.events.inbox import FILESYSTEM
from daemon.events.settler import Settler, Verdict
from daemon.events.watch import Watch
from daemon.settings import Settings

CHECK_SECONDS = 5.0
"""How often we look whether the folders of runs (raw/ and proc/) are (still) there."""
RESCAN_SECONDS = 600.0
"""How often all runs are compared with their last events, for changes that no hint told of."""
RETRY_SECONDS = 5.0
"""How long to wait when an event could not be stored."""
MOST_REMARKS = 10_000
"""Stray names and unreadable runs are each logged once; so many are remembered."""


@dataclass(frozen=True)
class _Look:
    """What one look at a run folder showed."""

    key: str | None
    complete: bool = False
    trouble: str = ""
    unreadable: bool = False


class FilesystemSource:
    """Watches the run folders of a proposal and stores an event for each run that has settled."""

    def __init__(
        self,
        proposal_path: Path,
        proposal: int,
        *,
        pattern: RunPattern,
        settings: Callable[[], Settings],
        store: Callable[[MigrationEvent], Awaitable[bool]],
        last_keys: Callable[[int], Awaitable[dict[tuple[str, int], str]]],
        log: logging.Logger,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watch the folders that `pattern` gives below `proposal_path`.

        `store` and `last_keys` are the inbox's; `settings` is asked again at each look. `now` dates
        the events (Unix time), `clock` measures how long a folder was still.
        """
        self._path = proposal_path
        self._proposal = proposal
        self._pattern = pattern
        self._settings = settings
        self._store = store
        self._last_keys = last_keys
        self._log = log
        self._now = now
        self._clock = clock
        self._settler = Settler({})
        self._watches: dict[Data, Watch] = {}
        self._hints: set[tuple[Data, int]] = set()
        self._unreadable: set[tuple[Data, int]] = set()
        self._hinted = asyncio.Event()
        self._remarked: set[tuple[object, ...]] = set()
        self._watching: asyncio.Task[list[Data]] | None = None

    def describe(self) -> str:
        """What is watched and how, in a few words."""
        parts = []
        for data in self._pattern.kinds:
            watch = self._watches.get(data)
            parts.append(f"{self._root(data)} ({watch.method if watch else 'not there yet'})")
        return "filesystem: " + ", ".join(dict.fromkeys(parts))

    def _root(self, data: Data) -> Path:
        return self._pattern.root(data, self._path)

    async def run(self) -> None:
        """Watch until cancelled."""
        loop = asyncio.get_running_loop()
        self._settler = Settler(await self._last_keys(self._proposal))
        scanned = tried = -RESCAN_SECONDS
        try:
            while True:
                began = self._clock()
                self._watching = asyncio.create_task(asyncio.to_thread(self._watch_roots, loop))
                appeared = await asyncio.shield(self._watching)
                # After the watches are there, so that nothing can arrive between the two.
                if appeared or began - scanned >= RESCAN_SECONDS:
                    await self._scan()
                    scanned = began
                if began - tried >= CHECK_SECONDS:
                    self._hints |= await asyncio.to_thread(self._readable_again)
                    self._unreadable -= self._hints
                    tried = began
                stored = await self._look_at_watched()
                await self._pause(self._clock() - began if stored else RETRY_SECONDS)
        finally:
            await self._close()

    async def _close(self) -> None:
        if self._watching is not None:
            await asyncio.wait([self._watching])  # a thread cannot be cancelled
        for data in self._pattern.kinds:
            await asyncio.to_thread(self._unwatch, data)

    async def _pause(self, took: float) -> None:
        """Wait for a hint or until the next look is due; looking takes a fifth of the time."""
        settle = self._settings().settle_seconds
        busy = bool(self._settler.watched)
        timeout = min(max(settle / 8, 0.1), 1.0) if busy else CHECK_SECONDS
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._hinted.wait()
        await asyncio.sleep(max(min(settle / 16, 0.5), 0.02, min(4 * took, 2.0)))

    # Watches

    def _watch_roots(self, loop: asyncio.AbstractEventLoop) -> list[Data]:
        """In a thread: follow the folders of runs as they come and go; those that have come."""
        appeared = []
        for data in self._pattern.kinds:
            root, watch = self._root(data), self._watches.get(data)
            try:
                info = root.stat()
                if watch is not None and watch.identity == (info.st_dev, info.st_ino):
                    continue
                self._unwatch(data)
                hint = partial(self._hint_from_thread, loop, data)
                self._watches[data] = Watch(root, hint, self._log)
            except OSError as error:
                self._unwatch(data)
                self._remark(("root", data), "%s: %s; waiting for it", root, error.strerror)
                continue
            self._remarked.discard(("root", data))
            self._log.info("watching %s by %s", root, self._watches[data].method)
            appeared.append(data)
        return appeared

    def _unwatch(self, data: Data) -> None:
        watch = self._watches.pop(data, None)
        if watch is not None:
            watch.close()

    def _hint_from_thread(self, loop: asyncio.AbstractEventLoop, data: Data, name: str) -> None:
        try:
            loop.call_soon_threadsafe(self._hint, data, name)
        except RuntimeError:
            self._log.debug("a change in %s came after the event loop had ended", name)

    def _hint(self, data: Data, name: str) -> None:
        run = self._pattern.run_number(data, name)
        if run is None:
            self._stray(data, name)
        else:
            self._hints.add((data, run))
            self._hinted.set()

    # Looking

    async def _scan(self) -> None:
        """Compare all runs with their last events."""
        for data in self._pattern.kinds:
            names = await asyncio.to_thread(self._names, data)
            for name in names:
                if self._pattern.run_number(data, name) is None:
                    self._stray(data, name)
            for run, look in await asyncio.to_thread(self._look_at_all, data, names):
                self._settler.compare((data, run), look.key)

    def _names(self, data: Data) -> list[str]:
        root = self._root(data)
        try:
            return sorted(os.listdir(root))  # noqa: PTH208 - names are all that is needed
        except OSError as error:
            self._log.debug("%s: %s", root, error)  # `_watch_roots` tells about that
            return []

    def _look_at_all(self, data: Data, names: list[str]) -> list[tuple[int, _Look]]:
        runs = [self._pattern.run_number(data, name) for name in names]
        return [(run, self._look(data, run)) for run in runs if run is not None]

    def _look(self, data: Data, run: int) -> _Look:
        folder = self._path / self._pattern.folder(data, run)
        marker = self._settings().marker_file
        try:
            found = fingerprint(folder)
            if found is None:
                return _Look(None, trouble=self._why_nothing(folder))
            complete = bool(marker) and (folder / str(marker)).exists()
        except OSError as error:
            trouble = f"cannot be read: {error.strerror}; waiting until it can"
            return _Look(None, trouble=trouble, unreadable=True)
        return _Look(event_key(data, run, found), complete)

    def _why_nothing(self, folder: Path) -> str:
        if folder.is_dir():
            return "has no files; waiting for them"
        # Where each run has a folder for both, its proc data may just not be there yet.
        return "" if self._pattern.nested else "is no folder (any more)"

    def _readable_again(self) -> set[tuple[Data, int]]:
        """In a thread: the runs that could not be read and now can, as nothing else tells."""
        runs = sorted(self._unreadable)
        return {(data, run) for data, run in runs if not self._look(data, run).unreadable}

    async def _look_at_watched(self) -> bool:
        """Look at all runs in which something happened; False when an event was not stored."""
        self._take_hints()
        settle = self._settings().settle_seconds
        for data in self._pattern.kinds:
            runs = [run for kind, run in self._settler.watched if kind == data]
            if not runs:
                continue
            looks = await asyncio.to_thread(self._look_at, data, runs)
            for run, at, look in looks:
                verdict = self._settler.observe((data, run), look.key, at, settle, look.complete)
                if verdict is Verdict.EMPTY and look.unreadable:
                    self._unreadable.add((data, run))
                if verdict is Verdict.EMPTY and look.trouble:
                    folder = self._pattern.folder(data, run)
                    self._remark((data, run), "%s %s", folder, look.trouble)
                elif verdict is Verdict.SETTLED and not await self._settled(data, run, look):
                    return False
        return True

    def _look_at(self, data: Data, runs: list[int]) -> list[tuple[int, float, _Look]]:
        return [(run, self._clock(), self._look(data, run)) for run in runs]

    def _take_hints(self) -> None:
        self._hinted.clear()
        hints, self._hints = self._hints, set()
        for key in sorted(hints):
            self._settler.touch(key)

    async def _settled(self, data: Data, run: int, look: _Look) -> bool:
        assert look.key is not None
        event = MigrationEvent(self._proposal, run, data, FILESYSTEM, look.key, self._now())
        folder = self._pattern.folder(data, run)
        try:
            new = await self._store(event)
        except (OSError, sqlite3.Error) as error:
            self._log.error("%s has settled, but: %s; trying again", folder, error)
            return False
        self._settler.stored((data, run), look.key, look.complete)
        self._remarked.discard((data, run))
        if new:
            self._log.info("%s has settled", folder)
        return True

    def _stray(self, data: Data, name: str) -> None:
        if not self._pattern.is_run(name):  # in a folder of both, it may be the other's
            place = (self._root(data) / name).relative_to(self._path)
            self._remark((place,), "%s is left alone: not the name of a run", place)

    def _remark(self, about: tuple[object, ...], text: str, *values: object) -> None:
        if about not in self._remarked and len(self._remarked) < MOST_REMARKS:
            self._remarked.add(about)
            self._log.warning(text, *values)
