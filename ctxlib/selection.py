"""What a job computes: chosen among the variables of a context, with all that is needed for it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ctxlib.errors import nearest


@dataclass(frozen=True)
class Choice:
    """A variable among others; `needs` names those that are computed for it.

    `data` ("raw" or "proc") and `cluster` are what holds for it, its dependencies considered.
    """

    name: str
    title: str
    data: str
    cluster: bool
    transient: bool
    needs: tuple[str, ...]

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> Choice:
        """Make it of what `Graph.describe` says of a variable.

        What a variable with a problem would need is left out: it is not computed.
        """
        needs = () if "problem" in described["fingerprint"] else tuple(described["dependencies"])
        names = ("name", "title", "data", "cluster", "transient")
        return cls(**{name: described[name] for name in names}, needs=needs)


class Selection:
    """The variables of a context, to choose from."""

    def __init__(self, choices: Iterable[Choice]) -> None:
        self._choices = {choice.name: choice for choice in choices}

    def chosen(
        self, data: str, variables: Collection[str] | None = None, match: Collection[str] = ()
    ) -> list[str]:
        """Name what is asked for, in the order of the file.

        `data` is what arrived: "raw", "proc" or "all". `variables` (exact names) and `match` (parts
        of titles, in any case) choose among what that triggers; without both it is all. Raises
        KeyError for an unknown name.
        """
        for name in variables or ():
            if name not in self._choices:
                mend = nearest(name, self._choices) or "see the names with read-context"
                raise KeyError(f"there is no variable {name!r} ({mend})")
        texts = [text.casefold() for text in match]
        return [
            choice.name
            for choice in self._choices.values()
            if data in (choice.data, "all")
            and (
                (variables is None and not texts)
                or choice.name in (variables or ())
                or any(text in choice.title.casefold() for text in texts)
            )
        ]

    def needed(self, names: Iterable[str], *, cluster: bool) -> set[str]:
        """Name what a job computes for these.

        With `cluster` only what belongs into a cluster job, and the transient results that it needs
        again; without it, only what does not.
        """
        needed = self._closure(names)
        if cluster:
            own = {name for name in needed if self._choices[name].cluster}
            return own | self._closure(own, transient_only=True)
        return {name for name in needed if not self._choices[name].cluster}

    def _closure(self, names: Iterable[str], *, transient_only: bool = False) -> set[str]:
        """Add what is needed, at any distance; if asked so, only transient ones and their needs."""
        closed, waiting = set(), list(names)
        while waiting:
            name = waiting.pop()
            if name in closed:
                continue
            closed.add(name)
            for target in self._choices[name].needs:
                if not transient_only or self._choices[target].transient:
                    waiting.append(target)
        return closed
