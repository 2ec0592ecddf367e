"""The exceptions and problem reports that the rest of ctxlib speaks in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

# Characters of an error that are kept; a printed array can be longer than any table bears.
LONGEST_MESSAGE = 10_000
LONGEST_TRACEBACK = 50_000


class Skip(Exception):
    """Raised by a variable that has nothing to give for this run; its text is the reason."""


class GroupError(Exception):
    """A wrong group, for existing context files that name it.

    Nothing raises it here: what is wrong with a group is a problem of its variables.
    """


@dataclass(frozen=True)
class Problem:
    """Something wrong in a context file.

    `line` counts from 1 in context.py, `variable` is the name of the variable that it costs (None:
    it costs no single variable) and `mend` says what would be right.

    Before it is located (`Variable.locate`), `at` names the part of the variable's definition that
    is wrong, as `positions.line_in_function` takes it, or `source` the file that `line` is in.
    """

    message: str
    line: int | None = None
    variable: str | None = None
    mend: str = ""
    at: str = field(default="", compare=False, repr=False)
    source: str | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        parts = [] if self.line is None else [f"line {self.line}"]
        if self.variable is not None:
            parts.append(self.variable)
        text = ": ".join([*parts, self.message])
        return f"{text} ({self.mend})" if self.mend else text

    def in_file(self, path: str) -> Problem:
        """Give it with `line` in the context file `path`, or in the message where it is not."""
        if self.source is None or self.source == path:
            return replace(self, source=None)
        message = f"{self.message}, in {self.source}, line {self.line}"
        return replace(self, message=message, line=None, source=None)

    def to_json(self) -> dict[str, object]:
        """Give the problem as a JSON object, its message shortened."""
        return {
            "message": shortened(self.message),
            "line": self.line,
            "variable": self.variable,
            "mend": self.mend,
        }

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


class ForeignError(Exception):
    """An exception of another process: of its class only the name is known."""


def error_text(error: BaseException) -> str:
    """The text of an exception, whatever its own `__str__` does."""
    try:
        return str(error)
    except Exception as failure:  # noqa: BLE001  a user's __str__ may raise anything
        return f"(its text cannot be given: {type(failure).__name__})"


def describe(error: BaseException) -> str:
    """Give an exception as "ValueError: its text", shortened, whatever its own text does."""
    name, text = type(error).__name__, shortened(error_text(error))
    return f"{name}: {text}" if text else name


def shortened(text: str, most: int = LONGEST_MESSAGE, *, whole_in: str = "") -> str:
    """Give a text of more than `most` characters without its middle, and say so where that was.

    `whole_in` names what has the whole text.
    """
    if len(text) <= most:
        return text
    where = f"; {whole_in} has them" if whole_in else ""
    note = f"\n[... {len(text) - most} characters left out here{where} ...]\n"
    head = most // 2
    return text[:head] + note + text[len(text) - (most - head) :]


def user_traceback(error: BaseException) -> str:
    """The traceback from where the user's code begins, or the whole one if there is none."""
    import traceback  # only errors pay for it

    ours = str(Path(__file__).parent)
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(ours):
        trace = trace.tb_next
    lines = traceback.format_exception(type(error), error, trace or error.__traceback__)
    return "".join(lines)


def nearest(word: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """Say which of the `known` names `word` was probably meant to be, as the mend of a problem."""
    import difflib  # only wrong files pay for it

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else otherwise


def foreign_error(kind: str, text: str) -> Exception:
    """Make an exception again of its class's name and its text: `Skip`, or a ForeignError.

    It is shown by the name that it had; `except ValueError` does not catch it.
    """
    if kind == Skip.__name__:
        return Skip(text)
    named: type[Exception] = type(kind, (ForeignError,), {})
    return named(text)
