"""A small job, and what has to be there of it after whatever was killed: what kills cost."""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
from witness import CALIBRATED, QUICK, Witness

CONTEXT = (
    QUICK
    + """
@Variable(title="Total")
def total(run, number: "meta#run_number", array: "var#array", factor: "var#passing"):
    call(number, "total")
    return float((array * factor).sum())
"""
    + CALIBRATED
)
"""Its variables say `call` when they are called; of raw data it has all but `calibrated`."""


@dataclass
class Cost:
    """What kills have cost, in words; nothing, if all is as it should be."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __iadd__(self, other: "Cost") -> "Cost":
        """Take over what another one has found."""
        self.lost += other.lost
        self.doubled += other.doubled
        self.wrong += other.wrong
        return self

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.lost or self.doubled or self.wrong)

    def lines(self) -> list[str]:
        """All of it, line by line."""
        named = {"lost": self.lost, "doubled": self.doubled, "wrong": self.wrong}
        return [f"{name}: {text}" for name, texts in named.items() for text in texts]


def jobs_of(witness: Witness, run: int) -> list[dict[str, Any]]:
    """The jobs of `run`; none while the database is just being opened."""
    try:
        return witness.queue("SELECT * FROM jobs WHERE run = ? ORDER BY position", run)
    except sqlite3.OperationalError:
        return []


def cost_of_run(witness: Witness, run: int, data: Sequence[str]) -> Cost:
    """What is missing, doubled or wrong of `run`, whose jobs for `data` have ended."""
    return Cost(_missing(witness, run, data), _doubled(witness, run, data), _wrong(witness, run))


def _missing(witness: Witness, run: int, data: Sequence[str]) -> list[str]:
    expected: dict[str, object] = {"first": 1, "total": 4950.0}
    if {"proc", "all"}.intersection(data):
        expected["calibrated"] = 1.5
    values = {name: witness.beamtime.value(run, name) for name in expected}
    found = [f"{n} is {v!r} in the table" for n, v in values.items() if v != expected[n]]
    if witness.errors(run) != {"fails": ("ValueError", "no such motor")}:
        found.append(f"the errors in the table are {witness.errors(run)}")
    try:
        arrays, errors = _contents(witness.beamtime.run_file(run))
    except (OSError, KeyError) as error:
        return [f"run {run}: {text}" for text in [*found, f"its file: {error}"]]
    for name, value in expected.items():
        if arrays.get(f"{name}/data") != value:
            found.append(f"{name} is {arrays.get(f'{name}/data')!r} in the run file")
    if "array/data" not in arrays or arrays["array/data"][99] != 99.0:
        found.append("the array in the run file")
    if errors != {"fails"} or "passing/data" in arrays:
        found.append(f"the run file has errors {errors} and {sorted(arrays)}")
    return [f"run {run}: {text}" for text in found]


def _contents(path: Path) -> tuple[dict[str, Any], set[str]]:
    """All arrays of a run file, which are read, and the names of its errors."""
    arrays: dict[str, Any] = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[()]

    with h5py.File(path) as file:
        file.visititems(visit)
        return arrays, set(file[".errors"])


def _doubled(witness: Witness, run: int, data: Sequence[str]) -> list[str]:
    found = []
    jobs = jobs_of(witness, run)
    if [job["data"] for job in jobs] != [*data]:
        found.append(f"its jobs are {[(job['id'], job['data'], job['state']) for job in jobs]}")
    begun: Counter[str] = Counter()
    for job in jobs:
        found += [f"{name} of {job['id']}" for name in witness.done_twice(job["id"])]
        lines = witness.journal(job["id"], "started")
        begun.update(line.fields["variable"] for line in lines)
    over = witness.calls(run) - begun
    found += [f"{name} was called {n} times more than begun" for name, n in over.items()]
    return [f"run {run}: {text}" for text in found]


def _wrong(witness: Witness, run: int) -> list[str]:
    found = []
    for job in jobs_of(witness, run):
        if (job["state"], job["combined"]) != ("finished", 1):
            found.append(f"{job['id']} is {job['state']}: {job['reason']}")
        try:
            witness.history(job["id"])
        except AssertionError as error:
            found.append(f"the history of {job['id']}: {error}")
    return [f"run {run}: {text}" for text in found]


def cost_of_folder(folder: Path) -> Cost:
    """What is wrong with the databases of a folder, and which temporary files are left.

    Those in the folder of an attempt go with its fragments, a little after its end.
    """
    found = []
    for name in ("daemon.sqlite", "runs.sqlite"):
        uri = f"file:{folder / name}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=20)) as database:
            (said,) = database.execute("PRAGMA integrity_check").fetchone()
        if said != "ok":
            found.append(f"{name}: {said}")
    places = [".*", "extracted_data/.*", "jobs/.*", "jobs/*/.*"]
    left = sorted(path for place in places for path in folder.glob(place))
    return Cost(wrong=[*found, *(f"left over: {path.relative_to(folder)}" for path in left)])


def left_of_attempts(folder: Path) -> list[str]:
    """What nobody needs any more of attempts that ended a while ago."""
    places = ["jobs/*/[0-9]*/.*", "jobs/*/[0-9]*/fragments"]
    return [str(path.relative_to(folder)) for place in places for path in folder.glob(place)]
