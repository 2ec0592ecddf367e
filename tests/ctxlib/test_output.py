import subprocess
import sys

import pytest

from ctxlib import output


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0123, "12 ms"), (3.4156, "3.42 s"), (30, "30 s"), (725, "12 min 5 s"), (7200, "2 h")],
)
def test_durations_in_words(seconds, words):
    assert output.words_for_seconds(seconds) == words


@pytest.mark.parametrize(
    "harm",
    [
        "os.closerange(0, 9)",
        "os.dup2(os.open(os.devnull, os.O_WRONLY), 1)",
        "sys.stdout = sys.stderr = None",
        "sys.stdout = object()",
        "sys.stdout.close()",
    ],
)
def test_whatever_is_done_to_the_output_lines_of_ours_get_through(tmp_path, harm):
    program = f"""
import os, sys
from pathlib import Path
from ctxlib import output
assert not output.redirect_again()
output.redirect(Path({str(tmp_path / "out")!r}))
assert not output.redirect_again()
{harm}
output.say("lost, or not")
output.redirect_again()
output.say("mark")
os._exit(5)
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=60)
    assert done.returncode == 5
    assert (tmp_path / "out").read_text().splitlines()[-1].endswith(" mark")


def test_a_full_disk_does_not_stop_who_says_something():
    program = """
import os
from pathlib import Path
from ctxlib import output
output.redirect(Path("/dev/full"))
print("held back")
output.say("mark")
os._exit(5)
"""
    # Without PYTHONUNBUFFERED, for something to be held back.
    assert subprocess.run([sys.executable, "-c", program], timeout=60, env={}).returncode == 5


def test_lines_of_ours_stand_after_what_was_printed_before(tmp_path):
    program = f"""
import ctypes, os, sys
from pathlib import Path
from ctxlib import output
output.redirect(Path({str(tmp_path / "logs" / "out")!r}))
output.write_by_line()
print("half a line", end="")
ctypes.CDLL(None).printf(b" and C")
output.say("mark")
sys.stdout.write("\\udc80 cannot be encoded\\n")
print("last")
os._exit(0)
"""
    # Without PYTHONUNBUFFERED, which would hide that anything is held back.
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, env={})
    lines = (tmp_path / "logs" / "out").read_text().splitlines()
    assert lines[0].startswith("half a line and C# ")
    assert lines[0].endswith(" mark")
    assert lines[1:] == ["\\udc80 cannot be encoded", "last"]
