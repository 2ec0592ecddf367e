"""What the variables of a job share although none of them owns it, put back after each of them.

That is what belongs to the whole process: its directory, its environment, its signal handlers, its
timers, its output streams, its limits, what NumPy and `warnings` complain of, and the open plots of
pyplot.
"""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_UNCHANGEABLE = (signal.SIGKILL, signal.SIGSTOP)
_LIMITS = sorted({value for name, value in vars(resource).items() if name.startswith("RLIMIT_")})
_SIGNALS = sorted(signal.valid_signals() - set(_UNCHANGEABLE))


@dataclass
class Surroundings:
    """The surroundings at one moment; `now` takes them, `restore` puts them back.

    Figures are for `close_figures`, once what the variable returned has been saved. `confined`
    tells that a limit could not be put back, so that this process is less than others.
    """

    directory: str
    environment: dict[str, str]
    umask: int
    handlers: dict[int, Any]
    blocked: set[int]
    streams: tuple[Any, Any, Any]
    recursion: int
    limits: dict[int, tuple[int, int]]
    filters: list[Any]
    numpy: Any
    figures: frozenset[int]
    confined: bool = False

    @classmethod
    def now(cls) -> Surroundings:
        """Take note of how things are."""
        return cls(
            directory=str(Path.cwd()),
            environment=dict(os.environ),
            umask=_umask(),
            handlers={number: signal.getsignal(number) for number in _SIGNALS},
            blocked=set(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
            streams=(sys.stdin, sys.stdout, sys.stderr),
            recursion=sys.getrecursionlimit(),
            limits={number: resource.getrlimit(number) for number in _LIMITS},
            filters=list(warnings.filters),
            numpy=_numpy_errors(),
            figures=frozenset(_figures()),
        )

    def restore(self) -> list[str]:
        """Put everything back; say in words what had to be that others could have stumbled over."""
        steps = {
            "the directory": self._restore_directory,
            "the environment": self._restore_environment,
            "the umask": self._restore_umask,
            "signal handlers": self._restore_signals,
            "a timer": _stop_timers,
            "sys.stdin, sys.stdout or sys.stderr": self._restore_streams,
            "the recursion limit": self._restore_recursion,
            "resource limits": self._restore_limits,
        }
        changed = [what for what, step in steps.items() if step()]
        self._restore_complaints()
        return changed

    def close_figures(self) -> None:
        """Have pyplot forget the figures made since: the next plot would be drawn into them."""
        for number in _figures() - self.figures:
            sys.modules["matplotlib.pyplot"].close(number)

    def _restore_directory(self) -> bool:
        try:
            if str(Path.cwd()) == self.directory:
                return False
        except FileNotFoundError:
            pass  # the one that it changed to was removed
        os.chdir(self.directory)
        return True

    def _restore_environment(self) -> bool:
        if dict(os.environ) == self.environment:
            return False
        for name in set(os.environ) - set(self.environment):
            del os.environ[name]
        os.environ.update(self.environment)
        return True

    def _restore_umask(self) -> bool:
        return os.umask(self.umask) != self.umask

    def _restore_signals(self) -> bool:
        changed = False
        for number, handler in self.handlers.items():
            # None is one that was not set by Python, and so cannot be set again by it.
            if handler is not None and signal.getsignal(number) != handler:
                signal.signal(number, handler)
                changed = True
        if changed and faulthandler.is_enabled():
            # It has set its own below those that Python knows of.
            faulthandler.disable()
            faulthandler.enable(2)
        if signal.pthread_sigmask(signal.SIG_SETMASK, self.blocked) != self.blocked:
            changed = True
        return changed

    def _restore_streams(self) -> bool:
        changed = (sys.stdin, sys.stdout, sys.stderr) != self.streams
        sys.stdin, sys.stdout, sys.stderr = self.streams
        return changed

    def _restore_recursion(self) -> bool:
        changed = sys.getrecursionlimit() != self.recursion
        sys.setrecursionlimit(self.recursion)
        return changed

    def _restore_limits(self) -> bool:
        changed = [
            (number, limits)
            for number, limits in self.limits.items()
            if resource.getrlimit(number) != limits
        ]
        for number, (soft, hard) in changed:
            try:
                resource.setrlimit(number, (soft, hard))
            except ValueError:  # nobody but root raises a hard limit that was lowered
                now = resource.getrlimit(number)[1]
                resource.setrlimit(number, (_lower(soft, now), now))
                self.confined = True
        return bool(changed)

    def _restore_complaints(self) -> None:
        if warnings.filters != self.filters:
            # Sets also the number by which the warnings already shown are told from new ones.
            warnings.resetwarnings()
            warnings.filters[:] = self.filters  # type: ignore[index]
        numpy = sys.modules.get("numpy")
        if numpy is not None and self.numpy is not None:
            numpy.seterr(**self.numpy)


def _umask() -> int:
    # It can only be read by setting it.
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _lower(one: int, other: int) -> int:
    """The lower of two limits, of which infinity is not the highest number."""
    return min((one, other), key=lambda limit: (limit == resource.RLIM_INFINITY, limit))


def _stop_timers() -> bool:
    running = [timer for timer in _TIMERS if signal.getitimer(timer)[0] > 0]
    for timer in running:
        signal.setitimer(timer, 0)
    return bool(running)


def _numpy_errors() -> dict[str, Any] | None:
    numpy = sys.modules.get("numpy")
    return None if numpy is None else dict(numpy.geterr())


def _figures() -> set[int]:
    pyplot = sys.modules.get("matplotlib.pyplot")
    return set() if pyplot is None else set(pyplot.get_fignums())
