"""Results that DAMNIT's own jobs left beside the run files, as nobody was there to combine them.

Such a file holds the results of one run, laid out as in a run file. It is handed in as a job that
was submitted. A process of its own opens it: a damaged one can make the HDF5 library crash.
"""

import hashlib
import os
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctxlib.column_names import trouble_with
from ctxlib.job_folder import FRAGMENTS
from ctxlib.journal import JournalWriter
from daemon.store.worker import Worker, WorkerDied, serve

_NAME = re.compile(r"p(\d+)_r(\d+)\.[^.]+\.ready\.h5", re.ASCII)
_FRAGMENT = "left.h5"


class NotTakenError(ValueError):
    """What was left cannot be taken in, and stays; says why."""


@dataclass(frozen=True)
class LeftFragment:
    """A file that was left, with results of a run; `time` is when it was written.

    The job that it becomes has always the same id, so that it is taken in once.
    """

    path: Path
    proposal: int
    run: int
    time: float

    @property
    def job_id(self) -> str:
        """The id of that job; ids sort by the time."""
        moment = time.strftime("%Y%m%d-%H%M%S", time.gmtime(self.time))
        return f"{moment}-{hashlib.sha256(self.path.name.encode()).hexdigest()[:6]}"


def left_fragments(folder: Path) -> list[LeftFragment]:
    """What was left in the database `folder`, the oldest first."""
    found = []
    for path in (folder / "extracted_data").glob("*.ready.h5"):
        if match := _NAME.fullmatch(path.name):
            with suppress(FileNotFoundError):  # a combiner of DAMNIT's was faster
                written = path.stat().st_mtime
                found.append(LeftFragment(path, int(match[1]), int(match[2]), written))
    return sorted(found, key=lambda left: (left.time, left.path.name))


async def take_in(folder: Path, left: LeftFragment) -> tuple[str | None, float | None]:
    """Hand in what was left; the id of its job, and when the run began (None: not known).

    There is no job where all that it says is when the run began. The file is gone then. Raises
    NotTakenError.
    """
    worker = Worker(__name__, idle_seconds=0)
    request = {
        "folder": str(folder),
        "path": str(left.path),
        "id": left.job_id,
        "proposal": left.proposal,
        "run": left.run,
    }
    try:
        answer = await worker.ask(request)
    except WorkerDied as death:
        raise NotTakenError(f"the process that reads it {death}, twice") from death
    finally:
        await worker.close()
    if "error" in answer:
        raise NotTakenError(answer["error"])
    return left.job_id if answer["names"] else None, answer["start_time"]


def _handle(request: Mapping[str, Any]) -> Mapping[str, Any]:
    import h5py

    from ctxlib.runfile import RunFile
    from ctxlib.submission import hand_in

    path, folder = Path(request["path"]), Path(request["folder"])
    with h5py.File(path, "r") as file:
        provenance = str(file.attrs.get("provenance", "context.py"))
        began = file[".reduced/start_time"][()] if ".reduced/start_time" in file else None
    with RunFile(path) as file:
        names = file.names()
        _check(folder, names)
        job = {key: request[key] for key in ("id", "proposal", "run")}

        def write(attempt: Path, journal: JournalWriter, _host: str) -> None:
            if file.data_names():
                _link(path, attempt / FRAGMENTS / _FRAGMENT)
            for name in names:
                _write(journal, file, name)

        if names and not (folder / "jobs" / request["id"]).exists():
            hand_in(
                folder, {**job, "data": "all", "variables": names, "provenance": provenance}, write
            )
    path.unlink()
    return {"names": names, "start_time": None if began is None else float(began)}


def _check(folder: Path, names: list[str]) -> None:
    from ctxlib.table_file import TableFile

    columns = TableFile(folder / "runs.sqlite").columns()
    for name in names:
        if trouble := trouble_with(name):
            raise ValueError(trouble)
        if name in columns and columns[name].type is not None:
            raise ValueError(f"people fill in the variable {name!r}, of which it has a result")


def _write(journal: JournalWriter, file: Any, name: str) -> None:
    """Write the line of one result, as the runner would have that computed it."""
    from ctxlib.summary import Summary

    if error := file.error(name):
        described = {"type": error[0], "message": error[1], "traceback": ""}
        journal.write("failed", variable=name, error=described, duration=0.0)
        return
    has_data = name in file.data_names()
    hint = file.type_hint(name) if has_data else None
    journal.write(
        "finished",
        variable=name,
        summary=(file.summary(name) or Summary()).to_json(),
        data=None,
        fragment=_FRAGMENT if has_data else None,
        objtype=None if hint is None else hint.value,
        **{"duration": 0.0, "cpu": 0.0, "memory": None, "origin": None},
    )


def _link(path: Path, target: Path) -> None:
    """Have the file under another name too, without a copy where the filesystem can do that."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


if __name__ == "__main__":
    serve(_handle)
