"""What a check of the context file depends on, and whether that is as it was."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ctxlib.imports import stamp
from daemon.jobs.folder import sources_signature
from daemon.sandbox import Interpreter

Stamp = tuple[int, ...] | None


@dataclass(frozen=True)
class Look:
    """What a check depends on, as it was when somebody looked; None stands for what is not there.

    `beside` are the Python files in the context's folder, `files` those that the last check named.
    """

    interpreter: Interpreter
    context: Stamp
    beside: object
    files: dict[str, Stamp]
    backends: dict[str, str] | None

    @classmethod
    def at(
        cls,
        path: Path,
        interpreter: Interpreter,
        files: Iterable[str],
        backends: dict[str, str] | None,
    ) -> "Look":
        """Look, which waits for the disk."""
        context: Stamp
        try:
            found = path.stat()
            # The last of them changes with the permissions too.
            context = (found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)
        except FileNotFoundError:
            context = None
        except OSError:
            context = ()  # why it cannot be read is for the check to say
        try:
            beside = sources_signature(path.parent)
        except OSError:
            beside = None
        return cls(interpreter, context, beside, {name: _stamp(name) for name in files}, backends)

    def same_files(self, other: "Look") -> bool:
        """Whether a check that began at `other` is still of what is there."""
        mine = (self.interpreter, self.context, self.files, self.backends)
        return mine == (other.interpreter, other.context, other.files, other.backends)


def _stamp(path: str) -> Stamp:
    try:
        return stamp(path)
    except OSError:
        return None


def known_stamp(known: list[int]) -> Stamp:
    """The stamp of a file as a check tells it: the file may have gone when it had been loaded."""
    return None if known == [-1, -1] else tuple(known)
