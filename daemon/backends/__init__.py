"""How jobs are run: what every manager offers, and what its answers are made of."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class Status:
    """What is known of one submitted attempt.

    `running`: claimed, or waiting to be; `ended`: its journal has the line `ended`;
    `lost`: nobody is at work on it any more and it can be tried again. `reason` is in words.
    `place` is what whoever has it calls it, and where it is, as far as they tell.
    `signs` says from where one that runs gives signs of life, so that it is lost when they stay
    away: this host or another one. `none`: whoever runs it is asked how it is, and has no limit.
    """

    state: Literal["running", "ended", "lost"]
    reason: str = ""
    signs: Literal["none", "here", "elsewhere"] = "none"
    place: str = ""

    @property
    def waits_for(self) -> str:
        """What stands in the way of one that is under way; "" when nothing does."""
        return self.reason if self.state == "running" and self.signs == "none" else ""


class ContextBroken(Exception):
    """The context file cannot be executed at all; `problems` are its problems as JSON objects."""

    def __init__(self, problems: Sequence[Mapping[str, Any]]) -> None:
        self.problems = [dict(problem) for problem in problems]
        super().__init__("; ".join(str(problem["message"]) for problem in self.problems))


class Unavailable(Exception):
    """A backend takes no jobs now, and may later; str() says why. Its jobs wait, others do not."""


class Manager(Protocol):
    """One way to run jobs. An attempt is known by its folder, `jobs/<id>/<attempt>`.

    A configuration's manager is made as `manager_class()(config, context)`; see `context`.
    """

    def room(self, at_work: int) -> int:
        """How many more attempts it takes now that it has `at_work`; 0 or less: none.

        It does not wait for anything. Raises Unavailable to say why it takes none.
        """

    async def submit(self, attempt_dir: Path) -> str:
        """Hand the attempt over and return a handle for it, one line of text.

        Raises ContextBroken, Unavailable when it can be tried again later, and other exceptions
        when the attempt is lost.
        """

    async def poll(self, handles: Iterable[str]) -> dict[str, Status]:
        """Tell how the attempts are doing, those of an earlier daemon too; one query for all."""

    async def cancel(self, handle: str, reason: str) -> None:
        """End the attempt with all its processes; its journal then says `stopped` and why."""

    async def fence(self, handle: str, reason: str) -> None:
        """Let nothing more come of an attempt that gives no sign of life.

        What can be reached of it has ended when this returns; the rest ends when it finds out.
        """

    async def close(self) -> None:
        """Let go of everything; what runs goes on by itself."""
