"""`sandbox_args`: what becomes of the text, and whether jobs can run in it, tried for real."""

import shutil
import sys
from pathlib import Path

import pytest

from daemon import sandbox_check
from daemon.sandbox import FROM_LISTENER, Interpreter
from daemon.sandbox_check import check_sandbox

LIBRARY = Path(__file__).parents[2]
BWRAP = "bwrap --ro-bind / / --dev /dev --proc /proc"
OPEN = "--bind {database} {database}"

needs_bwrap = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="bwrap is missing: apt install bubblewrap"
)


async def check(sandbox: str, folder: Path) -> str | None:
    interpreter = Interpreter.of(sys.executable, sandbox, folder, {})
    return await check_sandbox(interpreter, folder, LIBRARY)


def test_the_database_is_put_into_the_command_and_a_listener_goes_first() -> None:
    folder = Path("/a folder")
    setting = "bwrap --bind {database} {database} --setenv A 'b c'"
    ours = Interpreter.of("python", setting, folder, {})
    words = ["bwrap", "--bind", "/a folder", "/a folder", "--setenv", "A", "b c"]
    assert ours.command("-m", "x") == [*words, "python", "-m", "x"]
    theirs = Interpreter.of("python", setting, folder, {FROM_LISTENER: "other {database}"})
    assert theirs.sandbox == ("other", "/a folder")
    assert Interpreter.of("python", None, folder, {}).command("-V") == ["python", "-V"]


def test_signals_are_told_apart_from_exit_codes() -> None:
    inside = Interpreter("python", ("bwrap",))
    assert [inside.signal_of(code) for code in (0, 3, 139)] == [0, 3, -11]
    assert Interpreter("python").signal_of(139) == 139


@needs_bwrap
async def test_what_jobs_cannot_run_in_is_refused_with_its_mend(tmp_path: Path) -> None:
    assert await check(f"{BWRAP} {OPEN} --unshare-net", tmp_path) is None
    refusals = {
        f"{BWRAP} {OPEN} --unshare-pid": "take what gives processes numbers of their own",
        BWRAP: f"cannot write {tmp_path} (Read-only file system); add --bind",
        "bwrap --nonsense": "bwrap: Unknown option --nonsense",
        "/no/such/program": "/no/such/program cannot be started: No such file",
        f"{BWRAP} {OPEN} --unshare-uts --hostname elsewhere": "the name of the host to elsewhere",
        f"bwrap --ro-bind / / --dev /dev --tmpfs /proc {OPEN}": "no Python can be run in it",
        "true": "no Python can be run in it (exit code 0): it says nothing",
    }
    for sandbox, words in refusals.items():
        assert words in (await check(sandbox, tmp_path) or ""), sandbox
    assert list(tmp_path.iterdir()) == []


async def test_one_that_does_not_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox_check, "TIMEOUT", 0.3)
    assert await check("sh -c 'sleep 100'", tmp_path) == "a Python in it does not end within 0.3 s"
