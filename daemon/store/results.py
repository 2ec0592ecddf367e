"""What a finished job leaves for the run file: its results, collected from its journals."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from ctxlib import claim
from ctxlib.files import Result
from ctxlib.job_folder import fragment_path
from ctxlib.journal import Entry
from daemon.store.outcomes import (
    is_placeholder,
    journals,
    outcome,
    picture_beside,
    transient_names,
)


@dataclass(frozen=True)
class Collected:
    """The results of a job, and the names of those whose fragments cannot be relied on."""

    results: list[Result]
    lost: list[str]


def collect(job_dir: Path, expected: Collection[str] = ()) -> Collected:
    """Return the results of all attempts of a job, later ones in place of earlier ones.

    Fragments are not synced to the disk: those of a host that has been booted since are lost,
    whatever they look like. So are those whose names lead elsewhere, and variables that are
    `expected` but not mentioned at all: their lines were torn, or the folder was deleted.
    """
    written = journals(job_dir)
    transient = transient_names(entry for _, entries in written for entry in entries)
    results: dict[str, Result] = {}
    lost = set(expected) - {
        entry.fields["variable"] for _, entries in written for entry in entries if _ends(entry)
    }
    for attempt_dir, entries in written:
        booted_since = _booted_since(attempt_dir)
        for entry in entries:
            result = _result(entry, attempt_dir)
            if result is None or result.name in transient:
                continue
            in_fragment = entry.fields.get("fragment") is not None
            if in_fragment and (booted_since or result.fragment is None):
                lost.add(result.name)
                continue
            results[result.name] = result
            lost.discard(result.name)
    return Collected(list(results.values()), sorted(lost))


def _ends(entry: Entry) -> bool:
    return entry.kind in ("finished", "failed", "died")


def _booted_since(attempt_dir: Path) -> bool:
    made_by = claim.read(attempt_dir)
    return made_by is not None and made_by.booted_since()


def _result(entry: Entry, attempt_dir: Path) -> Result | None:
    cell = outcome(entry)
    if cell is None:
        return None
    fields = entry.fields
    fragment = fragment_path(attempt_dir, fields.get("fragment"))
    summary = cell.summary
    if summary is not None and fragment is not None and is_placeholder(cell):
        picture = picture_beside(fragment)
        if picture.exists():
            summary = replace(summary, value=picture.read_bytes())
    return Result(
        name=cell.name,
        summary=summary,
        data=fields.get("data"),
        fragment=fragment,
        error=cell.error,
        objtype=fields.get("objtype"),
        origin=fields.get("origin"),
    )
