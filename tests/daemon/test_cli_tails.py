"""Logs that commands show while they grow, and are cut in the middle when they grow too long."""

from pathlib import Path

from ctxlib.log_limit import LogLimit
from daemon.cli.live_log import beginning
from daemon.cli.log_tail import LogTail
from daemon.job_part import CUT

JOB = "20261121-014455-3f9a2c"
BEGINS = beginning(JOB)
HEADER = f"# 01:44:55.0 2026-11-21 job {JOB}, attempt 1: it begins\n".encode()


def test_what_follows_a_cut_is_shown(tmp_path: Path):
    log = tmp_path / "r1-p1.out"
    by_lines, by_pieces = LogTail(log), LogTail(log)
    assert list(by_lines.lines()) == []
    # The job that followed this one has an id that begins alike.
    log.write_bytes(b"earlier\n" + HEADER.replace(JOB.encode(), f"{JOB}-cluster".encode()))
    assert not by_pieces.skip_to(BEGINS)
    limit = LogLimit(log, most=20_000, kept=1000)
    with log.open("ab", buffering=0) as out:
        out.write(HEADER + b"line\n" * 10_000 + b"li")
        assert by_pieces.skip_to(BEGINS)
        assert list(by_lines.lines())[2:] == [HEADER, *[b"line\n"] * 10_000]
        assert list(by_pieces.pieces()) == [HEADER, *[b"line\n"] * 10_000, b"li"]
        length = log.stat().st_size
        limit.look()
        assert log.stat().st_size < length
        assert list(by_lines.lines()) == list(by_pieces.pieces()) == [CUT]
        out.write(b"new\n")
        assert list(by_lines.lines()) == list(by_pieces.pieces()) == [b"new\n"]
