"""What journal lines say that variables came to."""

from collections.abc import Iterable
from pathlib import Path

from ctxlib.job_folder import attempts, fragment_path
from ctxlib.journal import Entry, JournalReader
from ctxlib.known import died_error
from ctxlib.summary import PLOTLY_PLACEHOLDER, Summary
from daemon.store.rows import CellValue


def transient_names(entries: Iterable[Entry]) -> frozenset[str]:
    """Return the variables that the plans among `entries` say are transient."""
    return frozenset(
        described["name"]
        for entry in entries
        if entry.kind == "plan"
        for described in entry.fields["variables"]
        if described["transient"]
    )


def journals(job_dir: Path) -> list[tuple[Path, list[Entry]]]:
    """Return the attempt folders of a job with all their journal lines, the first one first."""
    return [(folder, JournalReader(folder).read()) for folder in attempts(job_dir)]


def outcome(entry: Entry) -> CellValue | None:
    """Return what a line says that a variable came to; None for lines that say no such thing.

    That of a transient variable that finished is None too.
    """
    fields = entry.fields
    if entry.kind == "finished" and fields["summary"] is not None:
        return CellValue(fields["variable"], Summary.from_json(fields["summary"]))
    if entry.kind == "failed":
        error = (fields["error"]["type"], fields["error"]["message"])
        return CellValue(fields["variable"], error=error)
    if entry.kind == "died" and fields["variable"] is not None:
        return CellValue(fields["variable"], error=died_error(entry))
    return None


def placeholders(job_dir: Path) -> dict[str, Path]:
    """Return the variables of a job that show a placeholder, each with its fragment."""
    found: dict[str, Path] = {}
    for attempt_dir, entries in journals(job_dir):
        for entry in entries:
            ended = outcome(entry)
            if ended is None:
                continue
            found.pop(ended.name, None)
            fragment = fragment_path(attempt_dir, entry.fields.get("fragment"))
            if is_placeholder(ended) and fragment is not None:
                found[ended.name] = fragment
    return found


def is_placeholder(cell: CellValue) -> bool:
    """Tell whether a cell shows the placeholder of a Plotly figure."""
    return cell.summary is not None and cell.summary.value == PLOTLY_PLACEHOLDER


def picture_beside(fragment: Path) -> Path:
    """Return where the picture is that replaces the placeholder of a fragment, once it is drawn."""
    return fragment.with_suffix(".png")
