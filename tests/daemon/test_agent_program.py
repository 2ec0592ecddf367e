"""Our agent, as far as it needs no server."""

from pathlib import Path

import pytest

from daemon.agent import AgentError, check_folder


def test_jobs_need_the_folder_where_it_is(tmp_path: Path) -> None:
    check_folder(str(tmp_path))
    with pytest.raises(AgentError, match=rf"{tmp_path}/away is not on .+ mount it there"):
        check_folder(str(tmp_path / "away"))
