"""Ways to map a function over items, such as the runs of a proposal: one at a time, or several.

Every item is worked on in a process of its own, forked from the caller's, so that one that crashes,
hangs or is killed costs only itself.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from ctxlib.isolated import IsolatedCall, ItemError, isolated, wait_for_any

__all__ = [
    "ExecutionBackend",
    "ItemError",
    "LocalExecutionBackend",
    "SequentialExecutionBackend",
    "isolated",
]

T = TypeVar("T")
R = TypeVar("R")
B = TypeVar("B", bound="ExecutionBackend")


class ExecutionBackend(ABC):
    """A way to map a function over items; a context manager that shuts down at its end."""

    @abstractmethod
    def map(
        self,
        func: Callable[[T], R],
        items: Iterable[T],
        *,
        max_workers: int | None = None,
        timeout: float | None = None,
    ) -> Iterator[R | ItemError]:
        """Call `func` with each item and give the results as they come.

        Items are taken from `items` when there is room for them, so that these may never end. Where
        an item has no result, because it raised, its process died or it took longer than `timeout`
        seconds, an ItemError takes its place, and the others go on. At most `max_workers` items are
        worked on at once (None: what the backend has). What `items` itself raises is raised when
        the results of what it gave before have been given. Leaving the iteration early ends what
        is still going on.
        """

    @abstractmethod
    def shutdown(self) -> None:
        """End everything that is still going on; `map` raises RuntimeError from then on."""

    def __enter__(self: B) -> B:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()


class _ForkingBackend(ExecutionBackend):
    """What the two backends of this machine have in common: the calls that are going on."""

    def __init__(self) -> None:
        self._calls: set[IsolatedCall] = set()
        self._closed = False

    def shutdown(self) -> None:
        """End everything that is still going on; `map` raises RuntimeError from then on."""
        self._closed = True
        calls = list(self._calls)
        for call in calls:
            call.stop()
        for call in calls:
            call.end()

    def map(
        self,
        func: Callable[[T], R],
        items: Iterable[T],
        *,
        max_workers: int | None = None,
        timeout: float | None = None,
    ) -> Iterator[R | ItemError]:
        """See ExecutionBackend."""
        self._check_open()
        workers, seconds = _checked_workers(max_workers), _checked_timeout(timeout)
        return self._map(func, iter(items), workers, seconds)

    @abstractmethod
    def _map(
        self, func: Callable[[T], R], items: Iterator[T], workers: int | None, timeout: float | None
    ) -> Iterator[R | ItemError]: ...

    def _start(self, func: Callable[[T], object], item: T, timeout: float | None) -> IsolatedCall:
        self._check_open()
        call = IsolatedCall(func, item, timeout=timeout)
        self._calls.add(call)
        return call

    def _result(self, call: IsolatedCall) -> Any:
        """The result of a call that has ended, by itself and not by a shutdown."""
        self._check_open()
        return call.result()

    def _let_go(self, calls: Iterable[IsolatedCall]) -> None:
        calls = list(calls)
        for call in calls:
            call.stop()
        for call in calls:
            call.close()
            self._calls.discard(call)

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError(f"this {type(self).__name__} was shut down; make a new one")


class SequentialExecutionBackend(_ForkingBackend):
    """One item at a time, in their order; none is begun before its result is asked for.

    There is one worker, whatever `max_workers` says.
    """

    def _map(
        self,
        func: Callable[[T], R],
        items: Iterator[T],
        workers: int | None,  # noqa: ARG002
        timeout: float | None,
    ) -> Iterator[R | ItemError]:
        for item in items:
            call = self._start(func, item, timeout)
            try:
                wait_for_any([call])
                result = self._result(call)
            finally:
                self._let_go([call])
            yield result


class LocalExecutionBackend(_ForkingBackend):
    """Several items at a time; results come in the order in which they are ready.

    `max_workers` is how many at most (None: the cores that this process may use); a call of `map`
    can say another number. So many items are taken before the first result is given.
    """

    def __init__(self, max_workers: int | None = None) -> None:
        super().__init__()
        self._max_workers = _checked_workers(max_workers) or len(os.sched_getaffinity(0))

    def _map(
        self, func: Callable[[T], R], items: Iterator[T], workers: int | None, timeout: float | None
    ) -> Iterator[R | ItemError]:
        at_once = workers or self._max_workers
        going: list[IsolatedCall] = []
        no_more: list[Exception] = []

        def fill() -> None:
            while len(going) < at_once and not no_more:
                try:
                    item = next(items)
                except Exception as error:  # noqa: BLE001  StopIteration, or an error of theirs
                    no_more.append(error)
                else:
                    going.append(self._start(func, item, timeout))

        try:
            fill()
            while going:
                call = wait_for_any(going)[0]
                result = self._result(call)
                going.remove(call)
                self._let_go([call])
                # Before the result is given: whoever takes it may need a while for it.
                fill()
                yield result
            if not isinstance(no_more[0], StopIteration):
                raise no_more[0]
        finally:
            self._let_go(going)


def _checked_workers(max_workers: int | None) -> int | None:
    if max_workers is not None and (not isinstance(max_workers, int) or max_workers < 1):
        raise ValueError(f"max_workers={max_workers!r}: give a whole number from 1 on, or None")
    return max_workers


def _checked_timeout(timeout: float | None) -> float | None:
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout={timeout!r}: give a number of seconds above 0, or None")
    return timeout
