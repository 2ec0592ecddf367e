"""What a job computes: chosen among the variables of a context, with all that is needed for it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ctxlib.errors import nearest


@dataclass(frozen=True)
class Choice:
    """A variable among others; `needs` names those that are computed for it.

    `data` ("raw" or "proc") and `backend` ("": that of the run's first job) are what holds for it,
    its dependencies considered.
    """

    name: str
    title: str
    data: str
    backend: str
    transient: bool
    needs: tuple[str, ...]

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> Choice:
        """Make it of what `Graph.describe` says of a variable.

        What a variable with a problem would need is left out: it is not computed.
        """
        needs = () if "problem" in described["fingerprint"] else tuple(described["dependencies"])
        names = ("name", "title", "data", "backend", "transient")
        return cls(**{name: described[name] for name in names}, needs=needs)


FIRST, WHOLE = "", "*"
"""The part of a run's first job, which has what names no backend; and all parts as one."""


@dataclass(frozen=True)
class Part:
    """What one job of a run computes: the variables of one backend, and what it `needs` for that.

    `name` is the backend's, with a number where one backend has several parts, as "gpu+2". Beside
    what the first job has computed it needs that of the parts `needs`. `variables` are in the order
    of the file, `again` the transient ones of other parts that are computed again for them.
    """

    name: str
    variables: tuple[str, ...]
    again: frozenset[str] = frozenset()
    needs: tuple[str, ...] = ()

    @property
    def backend(self) -> str:
        """The backend that its job runs on; "" for the first one."""
        return self.name.partition("+")[0]


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

    def parts(self, names: Iterable[str], home: str = "") -> list[Part]:
        """Share out what is computed for these among jobs, in an order in which they can run.

        The first part is that of the run's first job, which runs on the backend `home`. A backend
        has one part, unless its variables need others that need its own.
        """
        needed = self._closure(names)
        remaining = {name: each for name, each in self._choices.items() if name in needed}
        first = [name for name, each in remaining.items() if each.backend == FIRST]
        parts, place = [Part(FIRST, tuple(first))], dict.fromkeys(first, FIRST)
        counts: dict[str, int] = {}
        while remaining := {n: c for n, c in remaining.items() if n not in place}:
            backend, own = self._next(remaining, place)
            counts[backend] = counts.get(backend, 0) + 1
            number = f"+{counts[backend]}" if counts[backend] > 1 else ""
            place |= dict.fromkeys(own, f"{backend}{number}")
            parts.append(self._part(f"{backend}{number}", own, place))
        return _at_home(parts, home)

    def part(self, names: Iterable[str], part: str, home: str = "") -> set[str]:
        """Name what the job of one part computes for these, with what it computes again.

        WHOLE is all of it; a part that there is not has nothing.
        """
        if part == WHOLE:
            return self._closure(names)
        found = [each for each in self.parts(names, home) if each.name == part]
        return {name for each in found for name in (*each.variables, *each.again)}

    def _next(
        self, remaining: Mapping[str, Choice], place: Mapping[str, str]
    ) -> tuple[str, list[str]]:
        """Choose the backend of the next part: the first that is done with then, else the first."""
        can: dict[str, list[str]] = {}
        for backend in dict.fromkeys(each.backend for each in remaining.values()):
            theirs = {n: each for n, each in remaining.items() if each.backend == backend}
            own: set[str] = set()
            while more := {
                name
                for name, each in theirs.items()
                if name not in own and all(need in place or need in own for need in each.needs)
            }:
                own |= more
            can[backend] = [name for name in theirs if name in own]
            if len(own) == len(theirs):
                return backend, can[backend]
        return next((backend, own) for backend, own in can.items() if own)

    def _part(self, name: str, own: Collection[str], place: Mapping[str, str]) -> Part:
        again = self._closure(own, transient_only=True) - set(own)
        inside = {*own, *again}
        needs = (
            place[need]
            for each in self._choices
            if each in inside
            for need in self._choices[each].needs
            if need not in inside
        )
        others = dict.fromkeys(need for need in needs if need != FIRST)
        return Part(name, tuple(own), frozenset(again), tuple(others))

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


def _at_home(parts: list[Part], home: str) -> list[Part]:
    """Have the first job compute what is for its own backend and needs no other's results."""
    first, *others = parts
    here = {*first.variables}
    can = (part for part in others if not part.needs and here.issuperset(part.again))
    mine = next((part for part in can if part.name == home), None)
    if mine is None:
        return parts
    others.remove(mine)
    first = Part(FIRST, (*first.variables, *mine.variables))
    rest = (replace(o, needs=tuple(n for n in o.needs if n != mine.name)) for o in others)
    return [first, *rest]
