"""A runner as whoever watches it knows it: by what its journal has told so far."""

from dataclasses import dataclass
from typing import Any

from ctxlib.endings import Ending
from ctxlib.journal import Entry


@dataclass
class WatchedRunner:
    """Runner number `n` of an attempt.

    `running` is the variable that it is at, since `since` seconds after boot, beside so many
    `threads` that were there before; it may take `timeout` seconds, until `deadline` of the
    watcher's clock, and `memory` bytes, None being its job's.
    Its result cannot be saved and waits since `waits_since`, of the same clock, if it does.
    `ended` tells that it has told of some variable's end, `finished` that it is done, and `refused`
    why it does nothing. `ending` is why it is being ended, with SIGKILL from `kill_at` on.
    """

    n: int
    pid: int
    running: str | None = None
    since: float | None = None
    threads: int = 0
    timeout: float | None = None
    memory: int | None = None
    deadline: float | None = None
    waits_since: float | None = None
    ended: bool = False
    finished: bool = False
    refused: dict[str, Any] | None = None
    ending: Ending | None = None
    kill_at: float | None = None

    def note(self, entry: Entry, now: float) -> None:
        """Take note of a line of its journal, read at `now` of the watcher's clock."""
        match entry.kind:
            case "started":
                self.running = entry.fields["variable"]
                self.since = entry.fields.get("uptime")
                self.threads = entry.fields.get("threads", 0)
                self.memory = entry.fields.get("memory")
                self.timeout = entry.fields["timeout"]
                if self.timeout is not None:
                    self.deadline = now + self.timeout
            case "progress" if entry.fields.get("waits"):
                self.waits_since, self.deadline = now, None
            case "finished" | "failed":
                self.waits_since = None
                self.running = self.deadline = self.memory = None
                self.threads = 0
                self.ended = True
            case "error":
                self.refused = entry.fields
            case "end":
                self.finished = True
