"""Our agent, as far as it needs no server."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from daemon.agent import AgentError, check_folder
from daemon.agent_server import Away, Server
from daemon.cli.agent import command


def test_jobs_need_the_folder_where_it_is(tmp_path: Path) -> None:
    check_folder(str(tmp_path))
    with pytest.raises(AgentError, match=rf"{tmp_path}/away is not on .+ mount it there"):
        check_folder(str(tmp_path / "away"))


def test_what_is_no_token_is_not_sent_and_not_shown(tmp_path: Path) -> None:
    token = tmp_path / "token"
    for text, words in (("", "has no token"), ("rt_1_secret\nmore", "has more than a token")):
        token.write_text(text)
        asked = ["--server", "http://127.0.0.1:1", "--id", "a", "--token-file", str(token)]
        done = CliRunner().invoke(command, asked)
        assert done.exit_code == 1
        assert f"{token} {words}" in done.output
        assert "secret" not in done.output


def test_a_token_that_is_being_renewed_costs_no_job(tmp_path: Path) -> None:
    server = Server("http://127.0.0.1:1", "a", (tmp_path / "token").read_text)
    with pytest.raises(Away, match="the token cannot be read"):
        server.post("heartbeat")
