"""The exceptions and problem reports that the rest of ctxlib speaks in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass


class Skip(Exception):
    """Raised by a variable that has nothing to give for this run; its text is the reason."""


@dataclass(frozen=True)
class Problem:
    """Something wrong in a context file.

    `line` counts from 1 in context.py, `variable` is the name of the variable that it costs (None:
    it costs no single variable) and `mend` says what would be right.
    """

    message: str
    line: int | None = None
    variable: str | None = None
    mend: str = ""

    def __str__(self) -> str:
        parts = [] if self.line is None else [f"line {self.line}"]
        if self.variable is not None:
            parts.append(self.variable)
        text = ": ".join([*parts, self.message])
        return f"{text} ({self.mend})" if self.mend else text

    def to_json(self) -> dict[str, object]:
        """Give the problem as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Problem:
        """Read what `to_json` gave."""
        line, variable = data.get("line"), data.get("variable")
        return cls(
            message=str(data["message"]),
            line=line if isinstance(line, int) else None,
            variable=None if variable is None else str(variable),
            mend=str(data.get("mend") or ""),
        )


class ContextError(Exception):
    """The context file cannot be executed at all; `problems` say why, with lines in it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class VariableError(Exception):
    """The error of a variable whose definition has a problem; it was not called."""


class UnsavableError(TypeError):
    """A variable returned something that cannot be saved; the message names its type."""


def describe(error: BaseException) -> str:
    """Give an exception as "ValueError: its text", whatever its own text does."""
    name = type(error).__name__
    try:
        text = str(error)
    except Exception as failure:  # noqa: BLE001  a user's __str__ may raise anything
        text = f"(its text cannot be given: {type(failure).__name__})"
    return f"{name}: {text}" if text else name


def nearest(word: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """Say which of the `known` names `word` was probably meant to be, as the mend of a problem."""
    import difflib  # only wrong files pay for it

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else otherwise
