"""The options before a command, and the program's first name, in processes of their own."""

import subprocess
import sys
import types
from pathlib import Path

import pytest

from daemon.cli import debug_repl


def runtable(
    *arguments: object, where: Path, stdin: str = "", code: str = "from daemon.cli import main as m"
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-c", f"{code}; m()", *map(str, arguments)]
    return subprocess.run(command, cwd=where, input=stdin, capture_output=True, text=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("debug") / "db"
    made = runtable("init", folder, "--proposal", 1234, where=folder.parent)
    assert made.returncode == 0, made.stderr
    return folder


def test_debug_shows_what_is_asked_on_standard_error(folder: Path) -> None:
    done = runtable("--debug", "proposal", where=folder)
    assert (done.returncode, done.stdout) == (0, "Current proposal number: 1234\n")
    assert "DEBUG    runtable  asking for settings {}" in done.stderr
    assert runtable("proposal", where=folder).stderr == ""
    log = folder / "amore.log"
    assert not log.exists() or "DEBUG" not in log.read_text()


def test_debug_repl_opens_a_prompt_in_our_deepest_function(folder: Path) -> None:
    wrong = ("--debug-repl", "db-config", "noncluster_cpus", "abc")
    done = runtable(*wrong, where=folder, stdin="print(key, value)\n")
    assert done.returncode == 1
    assert "noncluster_cpus abc" in done.stdout
    assert "SettingError: noncluster_cpus cannot be 'abc'" in done.stderr
    assert "In TypedSettings._checked (" in done.stderr
    assert done.stderr.endswith("Error: " + done.stderr.rpartition("Error: ")[2])
    for arguments in (("--debug-repl", "proposal", "x"), ("--debug-repl", "proposal", "--help")):
        quiet = runtable(*arguments, where=folder, stdin="print('prompt')\n")
        assert "prompt\n" not in quiet.stdout, arguments


def test_the_prompt_is_ipythons_where_that_is(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    ipython = types.ModuleType("IPython")
    monkeypatch.setattr(
        ipython, "start_ipython", lambda **given: asked.append(given["user_ns"]), raising=False
    )
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    try:
        debug_repl._root(3)  # type: ignore[arg-type]
    except AttributeError as error:
        debug_repl.look_into(error)
    assert [names["error"] for names in asked] == [3]


def test_a_cause_that_was_never_raised_is_not_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(debug_repl, "_prompt", asked.append)
    try:
        raise OSError("no such folder") from ValueError("only named")
    except OSError as error:
        debug_repl.look_into(error)
    assert len(asked) == 1


def test_the_first_name_works_with_a_warning(folder: Path) -> None:
    done = runtable("proposal", where=folder, code="from daemon.cli import renamed as m")
    assert (done.returncode, done.stdout) == (0, "Current proposal number: 1234\n")
    assert "'amore-proto' has been renamed to 'damnit'" in done.stderr
    told = runtable("statuss", where=folder, code="from daemon.cli import renamed as m")
    assert told.returncode == 2
    assert "Usage: damnit" in told.stderr
