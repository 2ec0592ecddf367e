"""How far an attempt is: what its journals have said so far, line by line."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ctxlib.journal import Entry, JournalReader
from ctxlib.variable import CLUSTER
from daemon.jobs.parts import Later


@dataclass
class Progress:
    """How far an attempt is, as its journals say.

    `began` is when it was claimed, by the clock of its host; `where` is who did that, as
    `user@host`, and `place` what its job is called there.
    """

    order: list[str] = field(default_factory=list)
    later: list[Later] = field(default_factory=list)
    done: set[str] = field(default_factory=set)
    began: float | None = None
    where: str | None = None
    place: str = ""
    variable: str | None = None
    report: dict[str, Any] | None = None
    ended: Entry | None = None

    def take(self, entry: Entry) -> None:
        """Take note of one line; to take it again changes nothing."""
        fields = entry.fields
        if entry.kind == "claimed" and "user" in fields:
            self.where = f"{fields['user']}@{fields['host']}"
            self.began, self.place = entry.time, fields.get("place", "")
        elif entry.kind == "plan":
            self.order, self.later = fields["order"], _later(fields)
        elif entry.kind == "started":
            self.variable, self.report = fields["variable"], None
        elif entry.kind == "progress":
            self.report = {name: fields[name] for name in ("done", "total", "text")}
        elif entry.kind in ("finished", "failed", "died"):
            self.variable = self.report = None
            if fields["variable"] is not None:
                self.done.add(fields["variable"])
        elif entry.kind == "ended":
            self.ended = entry


def where_was(attempt: Path) -> str:
    """Who has begun with an attempt, on which host, and what its job was called there; or ""."""
    progress = Progress()
    for entry in JournalReader(attempt).read_watcher():
        if entry.kind == "claimed":
            progress.take(entry)
    return ", ".join(filter(None, (progress.where, progress.place)))


def _later(plan: Mapping[str, Any]) -> list[Later]:
    """The parts that a plan leaves to others; those of earlier versions knew of `cluster` alone."""
    if "later" not in plan:
        return [Later(CLUSTER)] if plan.get("cluster") else []
    return [Later(each["part"], tuple(each["needs"])) for each in plan["later"]]
