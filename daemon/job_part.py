"""Which lines of a run's log belong to one of its jobs.

The runner begins each job with a line of its own that has the time, the date and the job's id. What
another job of the run prints at the same time, raw data's and proc data's, stands in between.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

CUT = b"# what was printed here is left out of the log, which grew too long\n"
"""Shown in place of what was cut out of a log (`ctxlib.log_limit`) while it was being read."""
HEADER = re.compile(rb"# (\d\d:\d\d:\d\d\.\d+) (\d{4}-\d\d-\d\d) job ([^\s,]+)[,\s]")


class JobPart:
    """The part of one job: from its headers on, to those of jobs that began when it was over."""

    def __init__(self, job: str) -> None:
        """Nothing has been read yet."""
        self._job = job.encode()
        self._inside = False

    def has(self, line: bytes, attempts: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the next line of the log belongs to the job.

        `attempts` are the job's, with when each was `dispatched` and has `ended` (Unix times).
        """
        header = HEADER.match(line)
        if header is not None:
            self._inside = header[3] == self._job or (
                self._inside and any(_during(_time(header), attempt) for attempt in attempts)
            )
        return self._inside


def _during(time: float, attempt: Mapping[str, Any]) -> bool:
    ended = attempt["ended"]
    return bool(attempt["dispatched"] <= time and (ended is None or time <= ended))


def _time(header: re.Match[bytes]) -> float:
    return datetime.fromisoformat(f"{header[2].decode()} {header[1].decode()}").timestamp()
