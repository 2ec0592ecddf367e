"""What is known already: results that a job, or the jobs it builds on, wrote down earlier."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctxlib import claim
from ctxlib.job_folder import attempts, fragment_path
from ctxlib.journal import Entry, JournalReader

_ERROR_TYPES = {"memory": "MemoryLimit", "timeout": "Timeout"}


@dataclass(frozen=True)
class _Outcome:
    """The last word on a variable: its error, or where its value is (both None: no value).

    A transient variable's value is not `kept`.
    """

    error: tuple[str, str] | None = None
    data: dict[str, Any] | None = None
    fragment: Path | None = None
    kept: bool = True


class Known:
    """Results by variable name, read when they are asked for."""

    def __init__(self, outcomes: dict[str, _Outcome], gone: Sequence[Path] = ()) -> None:
        self._outcomes = outcomes
        self._gone = gone

    def done(self, name: str) -> bool:
        """Tell whether the variable has come to an end, well or not."""
        return name in self._outcomes

    def value(self, name: str) -> object:
        """The value, None where it returned nothing or failed.

        KeyError if it is not done, or was transient; FileNotFoundError if it is not known because
        the folder of a job was deleted.
        """
        from ctxlib import files, plain

        if name not in self._outcomes and self._gone:
            folders = ", ".join(map(str, self._gone))
            raise FileNotFoundError(f"{folders}, with the results of a job, is gone: reprocess")
        outcome = self._outcomes[name]
        if not outcome.kept:
            raise KeyError(name)
        if outcome.data is not None:
            return plain.decode_plain(outcome.data)
        if outcome.fragment is not None:
            with files.RunFile(outcome.fragment) as fragment:
                return fragment.read(name)
        return None

    def error(self, name: str) -> tuple[str, str] | None:
        """Type and message of the error of a variable that failed or was skipped, else None."""
        outcome = self._outcomes.get(name)
        return None if outcome is None else outcome.error


def died_error(entry: Entry) -> tuple[str, str]:
    """Type and message of the error of the variable that a `died` line names."""
    return _ERROR_TYPES.get(entry.fields["code"], "Killed"), entry.fields["reason"]


def known_results(job_dirs: Sequence[Path]) -> Known:
    """What the attempts of jobs have written, later ones winning.

    A job whose folder was deleted has no results: what needs them is told so when it asks.
    """
    outcomes: dict[str, _Outcome] = {}
    for job_dir in job_dirs:
        for attempt_dir in attempts(job_dir):
            outcomes |= _outcomes(JournalReader(attempt_dir).read(), attempt_dir)
    return Known(outcomes, [job_dir for job_dir in job_dirs if not job_dir.is_dir()])


def _outcomes(entries: Iterable[Entry], attempt_dir: Path) -> dict[str, _Outcome]:
    outcomes: dict[str, _Outcome] = {}
    for entry in entries:
        outcome = _outcome(entry, attempt_dir)
        if outcome is not None:
            outcomes[entry.fields["variable"]] = outcome
    return outcomes


def _outcome(entry: Entry, attempt_dir: Path) -> _Outcome | None:
    fields = entry.fields
    if entry.kind == "failed":
        return _Outcome(error=(fields["error"]["type"], fields["error"]["message"]))
    if entry.kind == "died" and fields["variable"] is not None:
        return _Outcome(error=died_error(entry))
    if entry.kind != "finished":
        return None
    if fields["summary"] is None:
        return _Outcome(kept=False)
    if fields["fragment"] is None:
        return _Outcome(data=fields["data"])
    fragment = fragment_path(attempt_dir, fields["fragment"])
    whole = fragment is not None and _whole(fragment, attempt_dir)
    return _Outcome(fragment=fragment) if whole else None


def _whole(fragment: Path, attempt_dir: Path) -> bool:
    """Tell whether a fragment can be relied on.

    Fragments are not synced to the disk. One that this machine wrote before it was last booted
    may have a good size and holes in it, so it is computed again.
    """
    made_by = claim.read(attempt_dir)
    if made_by is not None and made_by.booted_since():
        return False
    from ctxlib.runfile import open_file

    try:
        open_file(fragment).close()
    except OSError:
        return False
    return True
