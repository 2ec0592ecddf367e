"""The folder's log, in a process of its own, as it changes the whole process's logging."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import logging, sys
from pathlib import Path
from daemon.log import log_to
log_to(Path(sys.argv[1]), terminal=sys.argv[2] == "terminal")
logging.getLogger("runtable").info("silence")
"""


def _log(folder: Path, where: str, program: str = PROGRAM) -> str:
    command = [sys.executable, "-c", program, str(folder), where]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr


def test_lines_go_to_the_file_and_where_wanted_to_the_terminal(tmp_path: Path) -> None:
    assert _log(tmp_path, "file") == ""
    assert "INFO     runtable  silence" in _log(tmp_path, "terminal")
    assert (tmp_path / "amore.log").read_text().count("silence") == 2


def test_nothing_is_made_before_the_first_line(tmp_path: Path) -> None:
    _log(tmp_path, "file", PROGRAM.rpartition("logging.getLogger")[0])
    assert not (tmp_path / "amore.log").exists()
