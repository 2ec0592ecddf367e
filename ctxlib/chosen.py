"""Which pipeline a context file chooses as its own while it is executed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctxlib.pipeline import Pipeline


@dataclass
class Choice:
    """What a file says of its default pipeline: what it `added` to it, or which one it `set`."""

    added: Pipeline | None = None
    set: Pipeline | None = None


_current: ContextVar[Choice | None] = ContextVar("choice", default=None)


def current() -> Choice | None:
    """The choice of the file that is being executed; None when there is none."""
    return _current.get()


@contextmanager
def executing() -> Iterator[Choice]:
    """Take note of what the file chooses that is executed in here."""
    choice = Choice()
    token = _current.set(choice)
    try:
        yield choice
    finally:
        _current.reset(token)
