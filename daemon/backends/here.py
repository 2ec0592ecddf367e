"""Attempts as their folders tell of them, and what can be done about those on this host."""

from collections.abc import Iterable
from pathlib import Path

from ctxlib import cgroup, claim, processes
from ctxlib.journal import Entry, JournalReader
from daemon.backends import Status


def revoke(attempt_dir: Path) -> bool:
    """Claim an attempt so that nobody can start it later; True if nobody had."""
    return claim.make(attempt_dir, "revoked") is not None


def fence(attempt_dir: Path, reason: str) -> None:
    """End whoever claimed the attempt on this host; on another host it is asked for its end."""
    claim.request_stop(attempt_dir, reason)
    made = claim.read(attempt_dir)
    if made is not None and made.alive():
        processes.kill_until_gone(lambda: [made.pid] if made.alive() else [])
        look_at(attempt_dir)


def look_at(attempt_dir: Path) -> Status:
    """Tell from its folder how an attempt is doing.

    What is lost leaves no process behind, and one that nobody has claimed cannot be started late.
    """
    if not attempt_dir.is_dir():
        # Whoever watches the attempt notices this too, and ends it.
        return Status("lost", "its folder was deleted")
    entries = JournalReader(attempt_dir).read_watcher()
    ended = next((entry for entry in entries if entry.kind == "ended"), None)
    if ended is not None:
        return Status("ended", ended.fields["reason"])
    made = claim.read(attempt_dir)
    if made is None:
        if not claim.exists(attempt_dir):
            revoke(attempt_dir)
            return Status("lost", "no process had begun with it")
        return Status("lost", "the process that claimed it was killed at once")
    if made.mode == "revoked":
        return Status("lost", "no process had begun with it")
    if not made.here():
        return Status("running", f"on {made.host}", signs="elsewhere")
    if made.alive():
        return Status("running", signs="here")
    if made.boot_id != processes.boot_id():
        return Status("lost", f"{made.host} was restarted")
    _end_remains(attempt_dir, entries)
    # It may have ended the job, and itself, between the two looks.
    if any(entry.kind == "ended" for entry in JournalReader(attempt_dir).read_watcher()):
        return look_at(attempt_dir)
    return Status("lost", f"its process {made.pid} is gone")


def _end_remains(attempt_dir: Path, entries: Iterable[Entry]) -> None:
    """Kill what is left of runners whose watcher is gone: sessions, control group, what left these.

    The runners themselves end with their watcher; programs that they started do not.
    """
    entries = list(entries)
    began = {e.fields["pid"]: e.fields["pid_start"] for e in entries if e.kind == "runner"}
    if not began:
        return
    claimed = (entry.fields.get("group") for entry in entries if entry.kind == "claimed")
    groups = [Path(group) for group in claimed if group is not None]

    def remains() -> list[int]:
        # A session's number is not given out again as long as it has members.
        members = [
            process.pid
            for process in processes.everyone()
            if process.session in began
            and process.start >= (began[process.session] or 0)
            and not process.zombie
        ]
        members += [pid for group in groups for pid in cgroup.members(group)]
        return [*members, *processes.started_with(processes.ATTEMPT, str(attempt_dir))]

    processes.kill_until_gone(remains)
    for group in groups:
        cgroup.remove(group)
