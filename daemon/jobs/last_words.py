"""The last words on a variable that ran when the last attempt of its job was lost."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from ctxlib.deferred import killed, running_at_the_end
from ctxlib.journal import Entry, JournalReader, JournalWriter, file_name
from daemon.jobs import folder
from daemon.jobs.job import Job
from daemon.jobs.outside import Outside
from daemon.jobs.trouble import insist


async def tell_variable(job: Job, outside: Outside) -> None:
    """`job` has failed with its attempt: what ran then, if anything did, gets that as its error.

    To do it again changes nothing. Trouble with that is only logged.
    """
    try:
        await insist(lambda: _tell(job, outside), job.name, outside.log)
    except Exception:
        outside.log.exception("%s: the variable that ran when it was lost is not told", job.name)


async def _tell(job: Job, outside: Outside) -> None:
    attempt = folder.attempt_folder(outside.job_folder(job.id), job.attempt)
    message = f"its job was lost while it ran: {job.reason}"
    words = await asyncio.to_thread(_words, attempt, message)
    request = await asyncio.to_thread(folder.read_request, attempt.parent)
    if words and request is not None:
        for update in await outside.apply(request, words):
            outside.publish(update)


def _words(attempt: Path, message: str) -> Sequence[Entry]:
    """The error of the variable that never came to an end, once it is in the journals."""
    reader = JournalReader(attempt)
    said = reader.read()
    if not said or any(entry.kind == "ended" for entry in said):
        return []
    running = running_at_the_end(said)
    if running is not None:
        # In a file of its own: the last line of another may be torn.
        last = max(entry.runner for entry in said)
        journal = JournalWriter(attempt / file_name(last + 1))
        journal.write("failed", variable=running, error=killed(message), duration=0.0)
        journal.close()
        said = reader.read()
    # Where they were written before, perhaps nobody has brought them into the table.
    last = max(entry.runner for entry in said)
    return [entry for entry in said if entry.runner == last and entry.kind == "failed"]
