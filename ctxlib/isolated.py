"""One call of a function in a process of its own, which costs nothing else whatever it does.

The process is forked, so that function and argument need no way to it; a *guard* between it and the
caller ends it, with all that it has started, when its time is over, when nobody waits for it any
more, and when the caller has died. The result comes back through memory, see `wire`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import threading
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from ctxlib import output, processes, wire
from ctxlib.guard import fork, guard

T = TypeVar("T")
R = TypeVar("R")

# Seconds that a guard has to end what it guards.
_GRACE = 10.0


class ItemError(Exception):
    """What there is instead of the result of an item that has none.

    `item` is what the function was called with. `reason` is "raised", "killed" (its process ended
    before it gave a result), "timeout", or "refused" (the result cannot be given to another
    process). `kind` is the name of the exception's class, and `traceback` its text, if it raised.
    """

    def __init__(
        self, item: object, reason: str, message: str, *, kind: str = "", traceback: str = ""
    ) -> None:
        super().__init__(message)
        self.item = item
        self.reason = reason
        self.kind = kind
        self.traceback = traceback


def isolated(func: Callable[[T], R], item: T, *, timeout: float | None = None) -> R | ItemError:
    """Call `func(item)` in a process of its own; give its result, or an ItemError.

    `timeout` is in seconds. What the process has started ends with it. The result is what
    `ctxlib.wire` makes of it. Raises OSError when no process can be started.
    """
    call = IsolatedCall(func, item, timeout=timeout)
    try:
        wait_for_any([call])
        result: R | ItemError = call.result()
        return result
    finally:
        call.stop()
        call.close()


class IsolatedCall:
    """A call on its way. It has to be closed; `stop` it before if its result is not wanted."""

    def __init__(
        self, func: Callable[[Any], Any], item: object, *, timeout: float | None = None
    ) -> None:
        self.item = item
        self._waiting = threading.Lock()  # others than who follows the call may end it
        self._status: int | None = None
        caller = os.getpid()
        # What is held back here would be written by both processes.
        output.flush()
        self._memory = os.memfd_create("runtable")
        self._verdict, sending = os.pipe()
        try:
            self._guard = fork()
            if self._guard == 0:
                guard(lambda: func(item), timeout, self._memory, sending, caller)
        except OSError:
            os.close(self._memory)
            os.close(self._verdict)
            raise
        finally:
            os.close(sending)

    def fileno(self) -> int:
        """A descriptor that is readable when the call has ended."""
        return self._verdict

    def result(self) -> Any:
        """The result of a call that has ended, or an ItemError; to be asked for once."""
        line = os.read(self._verdict, 4096)
        status = self._wait()
        if not line:
            message = f"the guard of its process was lost: {processes.words_for_end(status)}"
            return ItemError(self.item, "killed", message)
        verdict = json.loads(line)
        if verdict["reason"] is not None:
            return ItemError(self.item, verdict["reason"], verdict["message"])
        with os.fdopen(self._memory, "rb", closefd=False) as file:
            answer, *content = wire.read(file)
        if answer == "value":
            return content[0]
        message, kind, traceback = content
        return ItemError(self.item, answer, message, kind=kind, traceback=traceback)

    def stop(self) -> None:
        """Have the call ended, if it has not; waits for nothing."""
        with self._waiting, contextlib.suppress(ProcessLookupError):
            if self._status is None:
                os.kill(self._guard, signal.SIGTERM)

    def end(self) -> None:
        """Wait for the end of a call that has ended or was stopped."""
        if self._status is None and not wait_for_any([self], _GRACE):
            os.kill(self._guard, signal.SIGKILL)
        self._wait()

    def close(self) -> None:
        """`end` it, and let go of what it holds."""
        self.end()
        os.close(self._verdict)
        os.close(self._memory)

    def _wait(self) -> int:
        with self._waiting:
            if self._status is None:
                try:
                    _, self._status = os.waitpid(self._guard, 0)
                except ChildProcessError:
                    # A program that ignores SIGCHLD has nothing to wait for.
                    self._status = 0
            return self._status


def wait_for_any(
    calls: Collection[IsolatedCall], timeout: float | None = None
) -> list[IsolatedCall]:
    """Wait until one of the calls has ended, at most `timeout` seconds; give all that have."""
    poll = select.poll()
    for call in calls:
        poll.register(call, select.POLLIN)
    ended = {fd for fd, _ in poll.poll(None if timeout is None else timeout * 1000)}
    return [call for call in calls if call.fileno() in ended]
