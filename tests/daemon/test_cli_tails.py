"""Logs that commands show while they grow, and are cut in the middle when they grow too long."""

from pathlib import Path

import pytest

from ctxlib.log_limit import LogLimit
from daemon.cli import jobs_log, live_log
from daemon.job_part import CUT

JOB = "20261121-014455-3f9a2c"
HEADER = f"# 01:44:55.0 2026-11-21 job {JOB}, attempt 1: it begins\n".encode()


def test_what_follows_a_cut_is_shown(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]):
    log = tmp_path / "r1-p1.out"
    # The job that followed this one has an id that begins alike.
    log.write_bytes(b"earlier\n" + HEADER.replace(JOB.encode(), f"{JOB}-cluster".encode()))
    limit = LogLimit(log, most=20_000, kept=1000)
    live = live_log._Tail(log, JOB)
    live.close()  # its thread; here it looks when it is told
    with jobs_log._Tail(log) as tail, log.open("ab", buffering=0) as out:
        out.write(HEADER + b"line\n" * 10_000)
        assert list(tail.lines())[2:4] == [HEADER, b"line\n"]
        position = live._write_from(None)
        limit.look()
        assert position is not None
        assert log.stat().st_size < position
        assert list(tail.lines()) == [CUT]
        position = live._write_from(position)
        out.write(b"new\n")
        assert list(tail.lines()) == [b"new\n"]
        assert live._write_from(position) == log.stat().st_size
    assert capfdbinary.readouterr().out.endswith(b"line\n" + CUT + b"new\n")
