"""How `run`, the first argument of every variable, is opened: by a source that a setting names.

Sources are modules or objects like `Source`. Other packages add theirs by the entry-point group
`runtable.sources`, in the environment that the context file runs in.
"""

import contextlib
import importlib
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Request = Mapping[str, Any]
"""What job.json says; to a source matter `proposal`, `run`, `data`, and where the files are."""

DEFAULT = "euxfel"
BUILT_IN = ("euxfel", "hdf5", "mock")
GROUP = "runtable.sources"


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


class UnknownSource(RunUnavailable):
    """There is no source of that name, or it cannot be used."""


class Source(Protocol):
    """What a source of runs has to have; `ctxlib.sources.folders` helps with files in folders."""

    def preload(self) -> None:
        """Import what opening a run needs, so that processes forked from here have it."""

    def available_data(self, request: Request) -> str:
        """What of `all` can be worked on: `all`, or `raw` while there is no proc data."""

    def open_run(self, request: Request) -> OpenedRun:
        """Open the run, for `data` being raw, proc or all; raises RunUnavailable."""


def find(name: str) -> Source:
    """The source called `name`; raises UnknownSource."""
    if name in BUILT_IN:
        built_in: Source = importlib.import_module(f"ctxlib.sources.{name}")
        return built_in
    from importlib.metadata import entry_points  # late: it takes longer than the built-in ones

    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        names = ", ".join([*BUILT_IN, *sorted(found.keys() - {*BUILT_IN})])
        raise UnknownSource(
            f"there is no source of runs {name!r} in the context's Python; there are {names}"
        )
    try:
        source: Source = found[name].load()
    except Exception as error:
        raise UnknownSource(
            f"the source of runs {name!r} ({found[name].value}) cannot be loaded: "
            f"{type(error).__name__}: {error}"
        ) from error
    parts = ("preload", "available_data", "open_run")
    missing = [part for part in parts if not callable(getattr(source, part, None))]
    if missing:
        raise UnknownSource(
            f"the source of runs {name!r} ({found[name].value}) has no {' and no '.join(missing)}"
        )
    return source


def available_data(request: Request) -> str:
    """What of the asked `data` can be worked on: `all` is `raw` while there is nothing in proc."""
    if request["data"] != "all":
        return str(request["data"])
    name = _name(request)
    with _in_words(name):
        return find(name).available_data(request)


def preload(request: Request) -> None:
    """Import what opening such a run needs, so that processes forked from here have it."""
    # Whatever is wrong with the source is said when the run is opened.
    with contextlib.suppress(Exception):
        find(_name(request)).preload()


def open_run(request: Request) -> OpenedRun:
    """Open the run that a job's request names; raises RunUnavailable."""
    name = _name(request)
    with _in_words(name):
        return find(name).open_run(request)


def _name(request: Request) -> str:
    # Requests that were written before there was a choice do not name a source.
    return "mock" if request["mock"] else str(request.get("source", DEFAULT))


@contextlib.contextmanager
def _in_words(name: str) -> Any:
    """Make a source's own mistakes RunUnavailable too, with their traceback in the job's log."""
    try:
        yield
    except RunUnavailable:
        raise
    except Exception as error:
        traceback.print_exc()
        what = f"{type(error).__name__}: {error}"
        raise RunUnavailable(f"the source {name!r} failed with {what}") from error
