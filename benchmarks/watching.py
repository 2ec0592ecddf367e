"""When values become visible in a run table, to a reader who gets in nobody's way."""

import sqlite3
import threading
import time
from pathlib import Path
from types import TracebackType

LOOK_SECONDS = 0.001


class Watcher:
    """Notes when the values of a run appear; `seen` is Unix time by variable.

    It asks the database only after the file has changed, so that it holds up no writer.
    """

    def __init__(self, database: Path, run: int, names: list[str]) -> None:
        """Wait for `names` of `run` in `database`, until the end of the `with` block."""
        self.seen: dict[str, float] = {}
        self._database = database
        self._run = run
        self._names = set(names)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def wait(self, timeout: float = 120.0) -> None:
        """Wait until all are there; TimeoutError names those that are not."""
        self._thread.join(timeout)
        if self._thread.is_alive():
            missing = sorted(self._names - self.seen.keys())
            raise TimeoutError(f"run {self._run} has no {', '.join(missing)} in {timeout:g} s")

    def _watch(self) -> None:
        journal = self._database.with_name(self._database.name + "-journal")
        before: tuple[int, bool] | None = None
        while not self._stop.is_set() and self._names - self.seen.keys():
            now = (self._database.stat().st_mtime_ns, journal.exists())
            if now != before and not now[1]:
                self._read()
            before = now
            time.sleep(LOOK_SECONDS)

    def _read(self) -> None:
        uri = f"file:{self._database}?mode=ro"
        connection = sqlite3.connect(uri, uri=True, timeout=20)
        try:
            query = "SELECT name FROM run_variables WHERE run = ? AND value IS NOT NULL"
            names = [name for (name,) in connection.execute(query, (self._run,))]
        finally:
            connection.close()
        now = time.time()
        for name in names:
            self.seen.setdefault(name, now)
