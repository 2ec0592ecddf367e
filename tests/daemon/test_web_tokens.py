"""Tokens: what the file has of them, whom they let in, and for how long."""

import json
import os
import threading
from pathlib import Path

import pytest
from cli_fake import Run, cli, cli_folder, cli_service  # noqa: F401 - fixtures

from daemon.web.tokens import Caller, TokenError, Tokens


def add(folder: Path, role: str, name: str = "", agent: str | None = None) -> str:
    return Tokens(folder).add(role, name=name, agent=agent, by="sam@node1", now=1.0)


def test_a_token_is_kept_as_its_digest_alone_and_privately(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        text = add(tmp_path, "viewer", "control room")
    finally:
        os.umask(old)
    path = tmp_path / "tokens.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert text.split("_", 2)[2] not in path.read_text()
    assert Tokens(tmp_path).find(text) == Caller("viewer", "control room")
    assert [p.name for p in tmp_path.iterdir()] == ["tokens.json"]


@pytest.mark.parametrize("wrong", ["", "rt_", "x", "rt__", "rt_00000000_x", "é_é_é", "\ud800__"])
def test_what_is_no_token_lets_nobody_in(tmp_path: Path, wrong: str) -> None:
    store = Tokens(tmp_path)
    assert store.find(wrong) is None
    text = add(tmp_path, "operator")
    assert store.find(wrong) is None
    assert store.find(text[:-1]) is None
    assert store.find(text + "x") is None


def test_a_revoked_token_is_refused_at_once_by_who_had_read_the_file(tmp_path: Path) -> None:
    serving = Tokens(tmp_path)
    kept, gone = add(tmp_path, "viewer"), add(tmp_path, "operator")
    assert serving.find(gone) is not None
    Tokens(tmp_path).revoke(gone.split("_")[1])
    assert serving.find(gone) is None
    assert serving.find(kept) is not None
    with pytest.raises(TokenError, match="there is no token"):
        Tokens(tmp_path).revoke(gone.split("_")[1])


def test_roles_have_ranks_and_an_agent_is_none_of_them() -> None:
    editor, agent = Caller("editor", "e"), Caller("agent", "a", "a")
    assert [editor.may(role) for role in ("viewer", "editor", "operator", "agent")] == [
        *(True, True, False, False)
    ]
    assert [agent.may(role) for role in ("viewer", "operator", "agent")] == [False, False, True]
    assert not Caller("operator", "o").may("agent")


@pytest.mark.parametrize("agent", ["", "..", ".hidden", "a/b", "a b", "x" * 65, "a\n"])
def test_what_no_agent_can_be_called(tmp_path: Path, agent: str) -> None:
    with pytest.raises(TokenError, match="cannot be called"):
        add(tmp_path, "agent", agent, agent)
    assert not (tmp_path / "tokens.json").exists()


def test_many_made_at_once_are_all_kept(tmp_path: Path) -> None:
    threads = [threading.Thread(target=add, args=(tmp_path, "viewer", str(n))) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {token.name for token in Tokens(tmp_path).all()} == {str(n) for n in range(12)}


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"tokens": [{"id": "1"}]}', '{"tokens": [1]}'])
def test_a_damaged_file_lets_nobody_in_and_is_not_overwritten(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokens.json").write_text(text)
    with pytest.raises(TokenError, match="mend it, or delete it"):
        Tokens(tmp_path).find("rt_1_2")
    with pytest.raises(TokenError, match="mend it, or delete it"):
        add(tmp_path, "viewer")
    assert (tmp_path / "tokens.json").read_text() == text


def test_commands(cli: Run, cli_folder: Path) -> None:  # noqa: F811
    assert cli("token", "list").output == "No tokens so far.\n"
    text = cli("token", "add", "agent", "gpu-1").output.strip()
    found = Tokens(cli_folder).find(text)
    assert found == Caller("agent", "gpu-1", "gpu-1")
    number = json.loads((cli_folder / "tokens.json").read_text())["tokens"][0]["id"]
    listed = cli("token", "list").output
    assert number in listed
    assert text not in listed
    assert cli("token", "add", "agent").exit_code == 2
    assert cli("token", "add", "boss").exit_code == 2
    assert cli("token", "revoke", number[:5]).output == f"{number}  agent gpu-1: revoked\n"
    assert cli("token", "revoke", number).exit_code == 1
