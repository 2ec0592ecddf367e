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
