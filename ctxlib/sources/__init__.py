"""How `run`, the first argument of every variable, is opened."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class OpenedRun:
    """A run that variables can be given; `start_time` is in seconds since the epoch, UTC."""

    run: object
    start_time: float | None


class RunUnavailable(Exception):
    """The run cannot be opened; says in words why. `start_time` is what its files' times give."""

    def __init__(self, message: str, start_time: float | None = None) -> None:
        super().__init__(message)
        self.start_time = start_time


def available_data(request: Mapping[str, Any]) -> str:
    """What of the asked `data` can be worked on: `all` is `raw` while there is nothing in proc."""
    if request["mock"] or request["data"] != "all":
        return str(request["data"])
    from ctxlib.sources import euxfel

    return euxfel.available_data(request)


def preload(request: Mapping[str, Any]) -> None:
    """Import what opening such a run needs, so that processes forked from here have it."""
    if not request["mock"]:
        from ctxlib.sources import euxfel

        euxfel.preload()


def open_run(request: Mapping[str, Any]) -> OpenedRun:
    """Open the run that a job's request names; raises RunUnavailable."""
    if request["mock"]:
        from ctxlib.sources import mock

        return mock.open_run()
    from ctxlib.sources import euxfel

    return euxfel.open_run(request)
