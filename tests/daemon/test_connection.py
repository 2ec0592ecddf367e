"""What one is told who may not use a folder."""

import getpass
import os
from pathlib import Path
from typing import Any

import pytest

from daemon import lock
from daemon.cli.connection import connect
from daemon.control import ServiceError


@pytest.mark.parametrize(("mode", "shared"), [(0o640, False), (0o660, True)])
def test_one_who_may_only_read_is_told_whom_to_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, shared: bool
) -> None:
    closed = tmp_path / "daemon.lock"
    closed.touch()
    closed.chmod(mode)

    def refuse(path: Path, *_rest: Any) -> int:  # the superuser, who may run this, never is
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(lock.os, "open", refuse)  # type: ignore[attr-defined]
    with pytest.raises(ServiceError) as caught, connect(tmp_path):
        pass
    said = str(caught.value)
    assert f"{getpass.getuser()} may not use the service of {tmp_path}" in said
    assert f"daemon.lock is for the user {closed.owner()}" in said
    assert (f"and the group {closed.group()}" in said) == shared
    assert f"Ask {closed.owner()} for access" in said


def test_one_who_may_not_even_make_the_lock_is_told_whose_the_folder_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_rest: Any) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ServiceError, match=f"{tmp_path} is for the user"), connect(tmp_path):
        pass
