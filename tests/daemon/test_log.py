"""The folder's log: in processes of its own, as `log_to` changes a whole process's logging."""

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from daemon.log import SharedLog

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


MANY = """
import logging, sys
from pathlib import Path
from daemon.log import SharedLog
log = logging.getLogger("many")
log.addHandler(SharedLog(Path(sys.argv[1]) / "amore.log", largest=4000, kept=200))
for number in range(1000):
    log.warning("%s-%04d", sys.argv[2], number)
"""


def test_processes_that_share_a_log_lose_no_line_when_it_is_rotated(tmp_path: Path) -> None:
    log = tmp_path / "amore.log"
    log.touch()
    log.chmod(0o660)
    others = log.open("a")  # as Supervisor has it open all the time
    command = [sys.executable, "-c", MANY, str(tmp_path)]
    writers = [subprocess.Popen([*command, name]) for name in ("one", "two")]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    others.write("last\n")
    others.close()
    assert log.read_text().endswith("last\n")
    files = sorted(tmp_path.iterdir())
    lines = [line for file in files for line in file.read_text().splitlines()]
    expected = [f"{name}-{number:04d}" for name in ("one", "two") for number in range(1000)]
    assert sorted(lines) == ["last", *expected]
    assert len(files) >= 4
    assert {file.stat().st_mode & 0o777 for file in files} == {0o660}


def _shared(tmp_path: Path, **limits: int) -> tuple[SharedLog, Callable[[str], None]]:
    handler = SharedLog(tmp_path / "amore.log", **limits)

    def write(text: str) -> None:
        handler.handle(logging.LogRecord("test", logging.INFO, "", 0, text, None, None))

    return handler, write


def test_so_many_earlier_ones_are_kept(tmp_path: Path) -> None:
    handler, write = _shared(tmp_path, largest=2, kept=2)
    for word in ("first", "second", "third", "fourth"):
        write(word)
    handler.close()
    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert kept == {"amore.log": "", "amore.log.1": "fourth\n", "amore.log.2": "third\n"}


def test_a_log_that_cannot_be_rotated_grows_and_says_so_now_and_then(tmp_path: Path) -> None:
    handler, write = _shared(tmp_path, largest=1000, kept=2)
    (tmp_path / "amore.log.1").mkdir()
    (tmp_path / "amore.log.2").mkdir()
    (tmp_path / "amore.log.2/in the way").touch()
    for _ in range(50):
        write("x" * 99)
    text = (tmp_path / "amore.log").read_text()
    assert text.count("x" * 99) == 50
    assert 2 <= text.count("amore.log cannot be rotated") < 45
    (tmp_path / "amore.log.2/in the way").unlink()
    for _ in range(10):
        write("x")
        write("y" * 99)
    handler.close()
    assert (tmp_path / "amore.log.1").is_file()


def test_a_log_that_was_moved_away_is_begun_again(tmp_path: Path) -> None:
    handler, write = _shared(tmp_path)
    write("before")
    (tmp_path / "amore.log").rename(tmp_path / "old")
    write("after")
    handler.close()
    assert (tmp_path / "amore.log").read_text() == "after\n"


UNWRITABLE = """
import logging, os, sys
from pathlib import Path
from daemon.log import log_to
log_to(Path(sys.argv[1]), terminal=False)
for number in range(3):
    logging.getLogger("runtable").info("silence")
logging.getLogger("runtable").warning("no space for %s", "this")
"""


def test_what_the_log_cannot_take_goes_to_the_terminal_if_it_matters(tmp_path: Path) -> None:
    log = tmp_path / "amore.log"
    log.symlink_to("/dev/full")
    said = _log(tmp_path, "file", UNWRITABLE)
    assert said.count("\n") == 1
    assert "WARNING  runtable  no space for this  (amore.log: [Errno 28]" in said
    log.unlink()
    log.mkdir()
    assert "no space for this  (amore.log: [Errno 21]" in _log(tmp_path, "file", UNWRITABLE)
