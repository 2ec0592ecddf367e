"""The command line against a service that only remembers what it was asked."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from daemon.cli import main
from daemon.control import ServiceError
from daemon.lock import Holder

HOLDER = Holder(role="daemon", host="node1", pid=77, user="sam", since=1_700_000_000.0)


@dataclass
class FakeService:
    """Answers operations with what a test put into `answers`; a ServiceError there is raised."""

    answers: dict[str, Any] = field(default_factory=dict)
    remote: bool = True
    daemon: Holder | None = HOLDER
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    created: list[int | None] = field(default_factory=list)

    def call(self, op: str, **arguments: Any) -> Any:
        self.asked.append((op, arguments))
        answer = self.answers[op]
        if isinstance(answer, ServiceError):
            raise answer
        return answer(**arguments) if callable(answer) else answer

    def stream(self, op: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        self.asked.append((op, arguments))
        for item in self.answers[op]:
            if isinstance(item, BaseException):
                raise item
            yield item


@pytest.fixture
def cli_service() -> FakeService:
    return FakeService()


@pytest.fixture
def cli_folder(tmp_path: Path) -> Path:
    """A folder that looks as if a database were in it."""
    (tmp_path / "runs.sqlite").touch()
    return tmp_path


Run = Callable[..., Result]


@pytest.fixture
def cli(cli_service: FakeService, cli_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Call the command line in `folder`; output as one text, errors in `stderr` too."""
    monkeypatch.chdir(cli_folder)

    @contextmanager
    def connect(where: Path, *, create: int | None = None) -> Iterator[FakeService]:
        assert where == cli_folder
        cli_service.created.append(create)
        yield cli_service

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(main, [str(each) for each in arguments], obj=connect)

    return invoke
