"""What the folder of an attempt says, and its end written by whoever knows it from elsewhere.

For managers whose attempts run by themselves (`ctxlib.alone`) and may be ended by others, who say
nothing in the journal: a scheduler, a container engine.
"""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ctxlib import alone, claim
from ctxlib.job_folder import REQUEST
from ctxlib.journal import Entry, JournalReader, JournalWriter, file_name
from ctxlib.known import known_results

_FAILED_TO_START = 255
"""What apptainer ends with when it cannot start what it should."""


@dataclass(frozen=True)
class Seen:
    """What an attempt's folder says: whether it is there, claimed, its end and the wish for one.

    `revoked`: nobody has begun with it, and nobody can any more.
    """

    there: bool
    claimed: bool
    revoked: bool
    ended: str | None
    stop: str | None


def look(attempt_dir: Path) -> Seen:
    """Read it. `ended` is the reason in the journal's last word, `stop` why it shall end."""
    if not attempt_dir.is_dir():
        return Seen(there=False, claimed=False, revoked=False, ended=None, stop=None)
    claimed = claim.exists(attempt_dir)
    stop = claim.stop_reason(attempt_dir)
    ended = _end(JournalReader(attempt_dir).read_watcher())
    reason = None if ended is None else str(ended.fields["reason"])
    revoked = claimed and is_revoked(attempt_dir)
    return Seen(there=True, claimed=claimed, revoked=revoked, ended=reason, stop=stop)


def called(request: Mapping[str, Any]) -> str:
    """What people elsewhere see a job as: its run, or that it is a command, and its proposal."""
    what = "command" if request.get("command") is not None else f"r{request.get('run', 0)}"
    return f"{what}-p{request.get('proposal', 0)}-damnit"


def is_revoked(attempt_dir: Path) -> bool:
    """Whether an attempt was claimed for nobody, so that nobody begins with it."""
    made = claim.read(attempt_dir)
    return made is not None and made.mode == "revoked"


def conclude(
    attempt_dir: Path, status: Literal["failed", "stopped"], reason: str, code: str = "exit"
) -> str:
    """Say in the journal that an attempt has ended, of which no process is left; give the reason.

    What its journal says already is left as it is. The variable that was running gets `reason` as
    its error, with `code` as in the journal; what had not begun was not run. Nobody can begin with
    the attempt afterwards. Raises OSError.
    """
    claim.make(attempt_dir, "revoked")
    entries = JournalReader(attempt_dir).read()
    ended = _end(entries)
    if ended is not None:
        return str(ended.fields["reason"])
    journal = JournalWriter(attempt_dir / file_name(0))
    try:
        runner, variable, order = _progress(entries)
        if status == "stopped":
            variable, order, code = None, [], "stopped"
        if runner:
            words = reason if status == "stopped" else f"killed: {reason}"
            journal.write("died", n=runner, reason=words, code=code, variable=variable)
        known = known_results([attempt_dir.parent]) if order else None
        for name in order:
            if known is not None and name != variable and not known.done(name):
                kind = "Timeout" if code == "timeout" else "Killed"
                error = {"type": kind, "message": f"not run: {reason}", "traceback": ""}
                journal.write("failed", variable=name, error=error, duration=0.0)
        journal.write("ended", status=status, reason=reason)
    finally:
        journal.close()
    note(attempt_dir, reason)
    return reason


def never_begins(exit_code: int) -> bool:
    """Whether what should run an attempt, and has ended without, would do the same again.

    Our own code says when it may go better next time, and who is killed is no judge.
    """
    own = (alone.FINISHED, alone.NOT_BEGUN, alone.CLAIMED)
    return exit_code not in own and not alone.TOLD_TO_END <= exit_code < _FAILED_TO_START


def blame(attempt_dir: Path, reason: str, code: str) -> None:
    """Tell the variable that was running when an attempt was ended, of which no process is left.

    It gets `reason` as its error, with `code` as in the journal; another attempt goes on with the
    rest. Raises OSError.
    """
    runner, variable, _ = _progress(JournalReader(attempt_dir).read())
    if variable is not None:
        journal = JournalWriter(attempt_dir / file_name(0))
        try:
            journal.write(
                "died", n=runner, reason=f"killed: {reason}", code=code, variable=variable
            )
        finally:
            journal.close()


def give_up(attempt_dir: Path, reason: str) -> None:
    """Let nobody begin with an attempt that is lost; who has, and is cut off, ends when he can."""
    claim.make(attempt_dir, "revoked")
    claim.request_stop(attempt_dir, reason)
    note(attempt_dir, reason)


def note(attempt_dir: Path, text: str) -> None:
    """Add a line to the log of the attempt's run; one that cannot be written is left out."""
    with suppress(OSError, ValueError, KeyError):
        log = Path(json.loads((attempt_dir.parent / REQUEST).read_bytes())["log"])
        log.parent.mkdir(parents=True, exist_ok=True)
        now = time.strftime("%H:%M:%S.000 %F")  # as runners begin their parts of the log
        line = f"# {now} job {attempt_dir.parent.name}, attempt {attempt_dir.name}: {text}\n"
        with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(line)


def _end(entries: list[Entry]) -> Entry | None:
    return next((entry for entry in entries if entry.kind == "ended"), None)


def _progress(entries: list[Entry]) -> tuple[int, str | None, list[str]]:
    """The runner that was last begun, the variable that it was at, and the plan."""
    runner, variable, order = 0, None, []
    for entry in entries:
        if entry.kind == "runner":
            runner = entry.fields["n"]
        elif entry.kind == "plan":
            order = entry.fields["order"]
        elif entry.kind == "started":
            variable = entry.fields["variable"]
        elif entry.kind == "died":
            # Told to end together with its watcher, it may be begun again for a moment.
            variable = entry.fields.get("retried")
        elif entry.kind in ("finished", "failed"):
            variable = None
    return runner, variable, order
