"""Where runs lie below their proposal's folder: a pattern with the run's number in it.

`{data}/r{run:04d}` is raw/r0042 and proc/r0042. The daemon finds runs by such a pattern, jobs open
them by it.
"""

import re
from pathlib import Path
from typing import Literal

Data = Literal["raw", "proc"]
KINDS: tuple[Data, ...] = ("raw", "proc")
"""What `{data}` stands for."""
MOST_LENGTH = 200
_RUN = re.compile(r"\{run(?::(?:0[1-9])?d)?\}")
_PADDED = re.compile(r"\{run:0([1-9])d\}")
_DATA = "{data}"
_WILD = frozenset("{}*?\\")


class RunPattern:
    """A pattern of run folders, such as `{data}/r{run:04d}`.

    It is a relative path. `{run}` is in it once: the number, with `:04d` filled up with zeros to
    four digits (or another number of them). `{data}` is raw or proc; without it all runs are raw.
    """

    def __init__(self, text: str) -> None:
        """Raises ValueError, in words, for what is no such pattern."""
        self.text = text
        parts = text.split("/")
        _refuse(text, parts)
        place = next(n for n, part in enumerate(parts) if _RUN.search(part))
        self._above, self._name, self._below = parts[:place], parts[place], parts[place + 1 :]
        self.kinds = KINDS if _DATA in text else KINDS[:1]
        padded = _PADDED.search(self._name)
        self._width = int(padded[1]) if padded else 1
        before, after = _RUN.sub("\0", self._name).split("\0")
        self._affixes: dict[str, tuple[str, str]] = {
            data: (before.replace(_DATA, data), after.replace(_DATA, data)) for data in KINDS
        }

    def root(self, data: str, proposal_path: Path) -> Path:
        """The folder in which the folders of runs lie."""
        return proposal_path.joinpath(*(part.replace(_DATA, data) for part in self._above))

    def name(self, data: str, run: int) -> str:
        """What of `run` lies in the root."""
        before, after = self._affixes[data]
        return f"{before}{run:0{self._width}d}{after}"

    def run_number(self, data: str, name: str) -> int | None:
        """The run of which `name` lies in the root; None when it is not the name of a run."""
        before, after = self._affixes[data]
        digits = name.removeprefix(before).removesuffix(after)
        if not re.fullmatch(r"[0-9]{1,9}", digits, re.ASCII):
            return None
        # So that no two names are the same run: r42 and r00042 are none.
        return int(digits) if name == self.name(data, int(digits)) else None

    def is_run(self, name: str) -> bool:
        """Whether `name` is that of a run, raw or proc."""
        return any(self.run_number(data, name) is not None for data in self.kinds)

    @property
    def nested(self) -> bool:
        """Whether a run's raw and proc data lie in one folder of the run."""
        return any(_DATA in part for part in self._below)

    def folder(self, data: str, run: int) -> str:
        """The folder of a run's data, relative to the proposal's folder."""
        parts = (part.replace(_DATA, data) for part in (*self._above, "", *self._below))
        return "/".join(part or self.name(data, run) for part in parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunPattern) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"RunPattern({self.text!r})"


def _refuse(text: str, parts: list[str]) -> None:
    literal = _RUN.sub("", text).replace(_DATA, "")
    if len(text) > MOST_LENGTH:
        raise ValueError(f"{text[:20]!r}… is longer than {MOST_LENGTH} characters")
    if len(_RUN.findall(text)) != 1:
        raise ValueError(f"{text!r} needs {{run}} or {{run:04d}} once")
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{text!r} is no path of names below the proposal's folder")
    if not literal.isprintable() or _WILD & set(literal):
        raise ValueError(f"{text!r} has signs that are neither {{run}}, {{data}} nor of a name")


DEFAULT = RunPattern("{data}/r{run:04d}")
"""European XFEL's."""
