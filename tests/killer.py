"""Runs a program and kills it, or what it started, before the N-th write to a kind of file.

    python killer.py [--leash] FOLDER ORDERS COMMAND...

With --leash everything is ended when standard input is closed: when who started it is gone.
Every write below the database folder FOLDER is a line of ORDERS/log. What to kill is said by the
file ORDERS/order, which may be replaced at any time; counting begins anew then.
"""

import json
import os
import re
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tracing

KINDS: Mapping[str, str] = {
    "queue": r"daemon\.sqlite.*",
    "table": r"runs\.sqlite.*",
    "request": r"jobs(/[^/]+(/\.?job\.json.*)?)?",
    "claim": r"jobs/[^/]+/\d+(/\.?claim.*)?",
    "journal": r"jobs/[^/]+/\d+/journal.*",
    "fragment": r"jobs/[^/]+/\d+/fragments.*",
    "run file": r"extracted_data.*",
    "control": r"(\.?control.*|daemon\.lock)",
    "log": r"(amore\.log|process_logs).*",
}
"""Kinds of files that are counted, by their paths in the database folder; the rest is not ours."""
PROGRAMS: Mapping[str, str] = {
    "ctxlib.forkserver": "fork server",
    "ctxlib.runner": "runner",
    "daemon.store.combiner": "combiner",
    "daemon.store.drawing": "drawing",
    "daemon.cli listen": "daemon",
    "daemon.cli reprocess": "reprocess",
    "ctxlib.context": "check",
}
"""What processes are, by words of their command lines."""


@dataclass(frozen=True)
class Order:
    """Kill before write `n` (from 1) of those that `role` makes to files of `kind`, or of any.

    With `everything` all processes are killed at that moment, as with a machine that goes down.
    """

    id: int
    role: str = ""
    kind: str = ""
    n: int = 0
    everything: bool = False

    def give(self, orders: Path) -> None:
        """Say it to the killer that has this folder of orders."""
        new = orders / "order.new"
        new.write_text(json.dumps(asdict(self)))
        new.rename(orders / "order")


def kind_of(path: str) -> str | None:
    """The kind of the file at `path`, which is relative to the database folder."""
    return next((kind for kind, form in KINDS.items() if re.fullmatch(form, path)), None)


class Killer:
    """Counts, and kills when it is time."""

    def __init__(self, folder: Path, orders: Path) -> None:
        self._folder = f"{folder}/"
        self._orders = orders / "order"
        self._log = (orders / "log").open("a", buffering=1)
        self._roles: dict[int, str] = {}
        self._parents: dict[int, int] = {}
        self._order = Order(0)
        self._seen: tuple[int, int] | None = None
        self._count = 0

    def forked(self, parent: int, child: int) -> None:
        self._parents[child] = parent

    def executed(self, pid: int) -> None:
        self._roles.pop(pid, None)
        self._parents.pop(pid, None)

    def stopped(self, call: tracing.Call) -> None:
        if not call.path.startswith(self._folder):
            return
        kind = kind_of(call.path.removeprefix(self._folder))
        if kind is None:
            return
        self._look()
        role = self._role(call.pid)
        self._say(role=role, kind=kind, call=call.name, path=call.path.removeprefix(self._folder))
        order = self._order
        if order.n and order.role in ("", role) and order.kind in ("", kind):
            self._count += 1
            if self._count == order.n:
                self._say(fired=order.id, role=role, kind=kind, pid=call.pid)
                for pid in self._everybody() if order.everything else [call.pid]:
                    os.kill(pid, signal.SIGKILL)

    def _look(self) -> None:
        """Read the order when there is a new one."""
        try:
            info = self._orders.stat()
        except FileNotFoundError:
            return
        if self._seen != (info.st_ino, info.st_mtime_ns):
            self._seen = info.st_ino, info.st_mtime_ns
            self._order = Order(**json.loads(self._orders.read_text()))
            self._count = 0
            self._say(order=self._order.id)

    def _role(self, pid: int) -> str:
        if pid not in self._roles:
            parent = self._parents.get(pid)
            if parent is None:
                self._roles[pid] = _program(pid)
            else:
                above = self._role(parent)
                self._roles[pid] = "runner" if above == "fork server" else above
        return self._roles[pid]

    def _everybody(self) -> list[int]:
        """All processes that are traced, the newest first."""
        mine = f"\nTracerPid:\t{os.getpid()}\n"
        found = []
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                if mine in status.read_text():
                    found.append(int(status.parent.name))
            except OSError:
                continue  # it has just ended
        return sorted(found, reverse=True)

    def _say(self, **fields: Any) -> None:
        self._log.write(json.dumps(fields) + "\n")


def _program(pid: int) -> str:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return "gone"
    return next((role for words, role in PROGRAMS.items() if words in command), "other")


def _end_with(leash: int) -> None:
    os.read(leash, 1)
    os._exit(1)  # what is traced ends with its tracer


def main() -> None:
    """Run the program; exits as it does."""
    arguments = sys.argv[1:]
    if arguments[0] == "--leash":
        del arguments[0]
        leash = os.dup(0)
        threading.Thread(target=_end_with, args=(leash,), daemon=True).start()
        with Path(os.devnull).open() as nothing:
            os.dup2(nothing.fileno(), 0)
    folder, orders, *command = arguments
    killer = Killer(Path(folder).resolve(), Path(orders))
    status = tracing.run(command, killer.stopped, forked=killer.forked, executed=killer.executed)
    sys.exit(os.waitstatus_to_exitcode(status) % 256)


if __name__ == "__main__":
    main()
