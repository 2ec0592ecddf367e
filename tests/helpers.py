"""Small helpers that several tests share."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(probe: Callable[[], T | None], timeout: float = 20.0, interval: float = 0.02) -> T:
    """Call `probe` until it gives something true and return that; fail after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{probe} gave nothing true within {timeout} s, last: {value!r}")
        time.sleep(interval)
