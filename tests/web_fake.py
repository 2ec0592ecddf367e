"""A daemon for tests of the HTTP service alone: it only remembers what it was asked."""

from pathlib import Path
from typing import Any


class FakeLink:
    """Answers with what a test put there, and remembers what was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answer: Any = {}

    async def call(self, op: str, **arguments: Any) -> Any:
        self.asked.append((op, arguments))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def is_up(self) -> bool:
        return True

    def close(self) -> None:
        pass
