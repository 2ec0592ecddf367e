"""The two processes of an isolated call: the guard, and below it the one that makes the call."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from ctxlib import limits, output, processes, wire
from ctxlib.errors import describe, user_traceback

# How often to see whether the caller is still there, in seconds.
_LOOK = 0.5
_WATCHED = {signal.SIGCHLD, signal.SIGTERM}


_forking = threading.Lock()


def _renew_lock() -> None:
    global _forking  # the one that was held for the fork is held for ever here
    _forking = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def fork() -> int:
    """Fork this process, also where it has more threads than one.

    Newer Pythons warn of that: a lock that another thread holds stays locked in the child. Who
    starts processes from a notebook has no other way to hand its functions over.
    """
    # Warnings are switched off for all threads, and on again in the order in which they end this.
    with _forking, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def guard(
    call: Callable[[], Any], timeout: float | None, memory: int, sending: int, caller: int
) -> NoReturn:
    """Be the guard of a call in this process, a child of process `caller`.

    The result goes to the file descriptor `memory`; then a line of JSON to `sending` says how it
    went: `reason` is None where there is a result. SIGTERM ends the call without a word.
    """
    try:
        gc.disable()  # it would only touch, and so copy, the caller's memory
        os.setsid()
        processes.adopt_orphans()
        for number in (signal.SIGINT, signal.SIGHUP, *_WATCHED):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        me = os.getpid()
        worker = fork()
        if worker == 0:
            os.close(sending)
            _work(call, memory, me)
        verdict = _watch(worker, timeout, memory, caller)
        processes.kill_until_gone(lambda: processes.descendants(me))
        _wait_for_ended()
        if verdict is not None:
            os.write(sending, json.dumps(verdict).encode())
        os._exit(0)
    finally:
        os._exit(1)


def _watch(
    worker: int, timeout: float | None, memory: int, caller: int
) -> dict[str, str | None] | None:
    """Wait for the end of the worker, or of its time; None if nobody wants to know any more."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while os.getppid() == caller:
        left = _LOOK if deadline is None else max(0.0, min(_LOOK, deadline - time.monotonic()))
        told = signal.sigtimedwait(_WATCHED, left)
        if told is not None and told.si_signo == signal.SIGTERM:
            return None
        ended = _wait_for_ended()
        if worker in ended:
            return _verdict(ended[worker], memory)
        if deadline is not None and time.monotonic() >= deadline:
            limit = output.words_for_seconds(timeout or 0.0)
            return {"reason": "timeout", "message": f"killed: took longer than {limit}"}
    return None


def _wait_for_ended() -> dict[int, int]:
    """Take the children that have ended off the system's list; give their wait statuses by pid."""
    ended = {}
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0] != 0:
            ended[found[0]] = found[1]
    return ended


def _verdict(status: int, memory: int) -> dict[str, str | None]:
    # One that has called os._exit(0) itself has written nothing.
    if status == 0 and os.fstat(memory).st_size > 0:
        return {"reason": None}
    return {"reason": "killed", "message": processes.words_for_end(status)}


def _work(call: Callable[[], Any], memory: int, parent: int) -> NoReturn:
    """Make the call and write what came of it; then end, whatever else there is in the process."""
    try:
        processes.die_with_parent(parent)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        gc.enable()
        limits.reseed()
        me = os.getpid()
        answer = _answer(call)
        if os.getpid() != me:
            # The function forked and its child came back from it; one answer is enough.
            os._exit(0)
        _write(answer, memory)
        with contextlib.suppress(OSError, ValueError):
            # There may be nobody left to print for; the answer counts.
            output.flush()
        os._exit(0)
    finally:
        os._exit(1)


def _answer(call: Callable[[], Any]) -> tuple[object, ...]:
    try:
        return "value", call()
    except BaseException as error:  # noqa: BLE001  whatever it is, it is the item's own
        return "raised", describe(error), type(error).__name__, user_traceback(error)


def _write(answer: tuple[object, ...], memory: int) -> None:
    try:
        with os.fdopen(memory, "wb", closefd=False) as file:
            wire.write(answer, file)
    except Exception as error:  # noqa: BLE001  the result is the user's, and can be anything
        os.ftruncate(memory, 0)
        os.lseek(memory, 0, os.SEEK_SET)
        refused = ("refused", describe(error), type(error).__name__, "")
        with os.fdopen(memory, "wb", closefd=False) as file:
            wire.write(refused, file)
