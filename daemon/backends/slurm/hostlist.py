"""The names of nodes that Slurm writes together, as n[1-3,7],gpu2."""

import itertools
import re

_NAME = re.compile(r"(?:[^,\[\]]|\[[^\]]*\])+")
_PART = re.compile(r"\[([^\]]*)\]|([^\[]+)")


def expanded(text: str) -> set[str]:
    """Return each name; what is no range stands for itself."""
    found: set[str] = set()
    for name in _NAME.findall(text):
        parts = [_spread(ranges) if ranges else [plain] for ranges, plain in _PART.findall(name)]
        found |= {"".join(words) for words in itertools.product(*parts)}
    return found


def _spread(ranges: str) -> list[str]:
    """The words of 1-3,007: numbers keep their leading zeros."""
    words: list[str] = []
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        if first.isdecimal() and last.isdecimal():
            words += [f"{n:0{len(first)}d}" for n in range(int(first), int(last) + 1)]
        else:
            words.append(part)
    return words
