"""What a command gets, and how it is said in words that it did not succeed."""

import re

import pytest

from ctxlib.command import execute


@pytest.fixture
def asked(tmp_path):
    """A request for a command, with what is given in place of it."""
    return lambda command, **more: {"command": command, "database": str(tmp_path), **more}


def test_a_shell_only_where_it_is_wanted(asked, capfd):
    assert execute(asked("echo $((6 * 7)) 'a b'")) == ""
    assert execute(asked("echo $((6 * 7)) 'a b'", shell=False)) == ""
    assert capfd.readouterr().out == "42 a b\n$((6 * 7)) a b\n"


def test_output_only_where_it_is_wanted(asked, capfd):
    assert execute(asked("echo said; echo complained >&2", capture_output=False)) == ""
    assert capfd.readouterr() == ("", "")
    execute(asked("echo said; echo complained >&2"))
    assert capfd.readouterr() == ("said\n", "complained\n")


def test_where_it_runs(asked, capfd, tmp_path):
    (tmp_path / "there").mkdir()
    execute(asked("pwd"))
    execute(asked("pwd", working_dir=str(tmp_path / "there")))
    assert capfd.readouterr().out == f"{tmp_path}\n{tmp_path}/there\n"
    said = execute(asked("pwd", working_dir=str(tmp_path / "gone")))
    assert said == f"its working_dir {tmp_path}/gone is not there: make it, or name another one"


@pytest.mark.parametrize(
    ("command", "shell", "words"),
    [
        ("exit 3", True, "the command ended with exit code 3"),
        ("kill -KILL $$", True, "the command was killed by SIGKILL"),
        ("no-such-program", False, "the command cannot be executed: .*no-such-program"),
        ("echo 'open", False, "the command cannot be executed: No closing quotation"),
    ],
)
def test_why_it_did_not_succeed(asked, command, shell, words):
    assert re.fullmatch(f"{words}.*", execute(asked(command, shell=shell)))
