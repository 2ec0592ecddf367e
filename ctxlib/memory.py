"""Amounts of memory as people write them."""

from __future__ import annotations

import re

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT])(?:i?B)?", re.IGNORECASE)

LEAST = 2**26
"""Bytes that a job, or a variable, has to have at least: less is not enough to begin."""


def parse_memory(text: str) -> int:
    """Return the bytes that "25G", "512 MB" or "1.5TiB" mean (1G = 2**30); "0" is none.

    Raises ValueError for anything else, a number without a unit included.
    """
    if text.strip() == "0":
        return 0
    match = _MEMORY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no amount of memory")
    return int(float(match[1]) * _UNITS[match[2].upper()])
