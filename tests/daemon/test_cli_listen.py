"""`listen`: what it refuses before anything is started. Running it is for the system tests."""

import subprocess
import sys
from pathlib import Path

from cli_fake import FakeService, Run


def test_daemonize_refuses_beside_a_daemon(cli: Run, cli_service: FakeService) -> None:
    result = cli("listen", "--daemonize")
    assert result.exit_code == 1
    assert "is served already, by a daemon on node1 (process 77 of sam)" in result.stderr
    assert cli_service.asked == []


def test_a_folder_without_a_database_is_refused(cli: Run, cli_folder: Path) -> None:
    (cli_folder / "runs.sqlite").unlink()
    for arguments in ([], ["--daemonize"]):
        result = cli("listen", *arguments)
        assert result.exit_code == 1
        assert "no database in" in result.stderr


def test_a_database_that_is_none_is_refused_and_left_alone(cli_folder: Path) -> None:
    (cli_folder / "runs.sqlite").write_text("these are no tables")
    # A process of its own, as a daemon takes over the whole process's logging.
    command = [sys.executable, "-m", "daemon.cli", "listen", str(cli_folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "runs.sqlite cannot be used and was left as it is" in done.stderr
    assert "Traceback" not in done.stderr
    assert (cli_folder / "runs.sqlite").read_text() == "these are no tables"
