"""The commands below `runtable jobs`: what they ask the service for, and what they show."""

import getpass
import socket
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cli_fake import FakeService, Run

from daemon.cli.jobs_show import describe

ME = f"{getpass.getuser()}@{socket.gethostname()}"
JOB = "20261121-014455-3f9a2c"


@pytest.mark.parametrize("words", [[], ["--state", "failed"], ["list", "--limit", "3"], ["."]])
def test_without_a_command_it_lists(cli: Run, cli_service: FakeService, words: list[str]) -> None:
    cli_service.answers["jobs"] = {"jobs": []}
    assert cli("jobs", *words).output.startswith("No jobs")


def test_a_mistyped_command_is_no_folder(cli: Run) -> None:
    result = cli("jobs", "requeu", JOB)
    assert (result.exit_code, "No such command 'requeu'" in result.stderr) == (2, True)
    assert "no folder" in cli("jobs", "elsewhere").stderr


@pytest.mark.parametrize("act", ["stop", "cancel", "requeue", "fail"])
def test_an_act_is_asked_for_with_who_and_why(cli: Run, cli_service: FakeService, act: str) -> None:
    told = {"id": JOB, "run": 42, "data": "raw", "state": "odd"}
    refusal = {"id": "x", "reason": "there is no job 'x'"}
    cli_service.answers[act] = {"jobs": [told], "refused": [refusal]}
    result = cli("jobs", act, JOB, "x", "--reason", "too dark")
    assert result.stdout == f"{JOB}  run 42 raw: odd\n"
    assert (result.exit_code, result.stderr) == (1, "Error: there is no job 'x'\n")
    more = {"force": False} if act in ("requeue", "fail") else {}
    expected = {"jobs": [JOB, "x"], "by": ME, "reason": "too dark", **more}
    assert cli_service.asked == [(act, expected)]
    cli_service.answers[act] = {"jobs": [], "refused": []}
    assert cli("jobs", act, JOB).exit_code == 0
    assert ME in cli_service.asked[1][1]["reason"]
    assert cli("jobs", act).exit_code == 2


def test_force_is_handed_on(cli: Run, cli_service: FakeService) -> None:
    cli_service.answers["requeue"] = {"jobs": [], "refused": []}
    cli("jobs", "requeue", "--force", JOB)
    assert cli_service.asked[0][1]["force"] is True


def test_who_has_no_daemon_is_told(cli: Run, cli_service: FakeService) -> None:
    cli_service.daemon = None
    told = {"id": JOB, "run": 42, "data": "raw", "state": "queued"}
    cli_service.answers["requeue"] = {"jobs": [told], "refused": []}
    assert "No daemon runs" in cli("jobs", "requeue", JOB).stderr


def header(when: datetime, job: str, attempt: int = 1) -> str:
    """The line that begins a job in a log, as the runner writes it."""
    clock = f"{when:%H:%M:%S}.{when.microsecond // 1000:03d}"
    return f"# {clock} {when:%Y-%m-%d} job {job}, attempt {attempt}: proposal 1, run 2, raw data\n"


def job_with_log(log: Path, *attempts: tuple[datetime, datetime | None]) -> dict[str, Any]:
    return {
        **{"id": JOB, "log": str(log), "settled": True, "state": "finished", "reason": ""},
        "waiting_reason": "",
        "attempts": [
            {"dispatched": begun.timestamp(), "ended": ended and ended.timestamp()}
            for begun, ended in attempts
        ],
    }


def test_a_log_is_the_part_of_one_job(cli: Run, cli_service: FakeService, tmp_path: Path) -> None:
    log = tmp_path / "r42-p1234.out"

    def at(minute: int) -> datetime:
        return datetime(2026, 11, 21, 1, minute)

    log.write_bytes(
        (header(at(0), "other") + "not mine\n").encode()
        + (header(at(2), JOB) + "mine\n").encode()
        + (header(at(3), "beside") + "printed at the same time \udcff\n").encode(errors="replace")
        + b"\xff no text\n"
        + (header(at(7), "later") + "not mine\n").encode()
        + (header(at(11), JOB, 2) + "mine again\n").encode()
        + (header(at(20), "last") + "not mine\n").encode()
    )
    cli_service.answers["job"] = job_with_log(log, (at(1), at(5)), (at(10), at(15)))
    lines = cli("jobs", "log", "2026").stdout_bytes.splitlines()
    assert [line for line in lines if not line.startswith(b"#")] == [
        b"mine",
        b"printed at the same time ?",
        b"\xff no text",
        b"mine again",
    ]
    assert cli_service.asked == [("job", {"job": "2026"})]


def test_a_job_that_has_printed_nothing(cli: Run, cli_service: FakeService, tmp_path: Path) -> None:
    log = tmp_path / "none.out"
    cli_service.answers["job"] = job_with_log(log) | {"attempt": 1}
    assert cli("jobs", "log", JOB).stderr == f"Nothing of job {JOB} is in {log}\n"
    waiting = {"attempt": 0, "state": "queued", "waiting_reason": "memory is low"}
    cli_service.answers["job"] = job_with_log(log) | waiting
    assert cli("jobs", "log", JOB).stderr == f"Job {JOB} is queued: memory is low\n"


def test_a_command_is_shown_as_one() -> None:
    row: dict[str, Any] = dict.fromkeys(
        ["params", "problem", "ended", "after", "following", "running", "reason", "waiting_reason"]
    )
    row |= {"id": JOB, "backend": "gpu", "source": "run", "live": False, "state": "queued"}
    row |= {"attempt": 0, "combined": 0, "folder": "jobs/1", "log": "1.out"}
    shown = dict(describe(row | {"command": {"command": ""}}))
    assert (shown["Command"], shown["From"]) == ("that of the image", "run")
    row |= {"command": None, "data": "raw", "run": 1, "proposal": 1234, "part": ""}
    row |= {"variables": None, "match": [], "source": "reprocess"}
    assert dict(describe(row))["From"] == "reprocess, again"


def test_cleanup_counts_what_is_much(cli: Run, cli_service: FakeService) -> None:
    def waste(kind: str, name: str, why: str, kept: str = "") -> dict[str, str]:
        return {"kind": kind, "name": name, "why": why, "kept": kept}

    events = [waste("event", str(number), "later ones followed") for number in range(30)]
    stray = waste("folder", "stray", "it belongs to no job", "no permission")
    cli_service.answers["cleanup"] = {"found": [stray, *events]}
    lines = cli("jobs", "cleanup", "--dry-run").output.splitlines()
    assert lines[1].split(maxsplit=2) == [
        "folder",
        "stray",
        "it belongs to no job; stays: no permission",
    ]
    assert lines[2].split() == ["event", "30", "of", "them", "later", "ones", "followed"]
    assert lines[3] == "30 things would be removed"
    assert cli_service.asked == [("cleanup", {"by": ME, "dry_run": True})]
    cli_service.answers["cleanup"] = {"found": []}
    assert cli("jobs", "cleanup").output == "There is nothing to remove.\n"


def test_the_folder_may_come_before_the_command(
    cli: Run, cli_service: FakeService, tmp_path: Path
) -> None:
    cli_service.answers["stop"] = {"jobs": [], "refused": []}
    (tmp_path / "runs.sqlite").touch()
    result = cli("jobs", "--in", tmp_path, "stop", JOB, "--reason", "bad\udcff")
    assert (result.exit_code, result.stderr) == (0, "")
    assert cli_service.asked == [("stop", {"jobs": [JOB], "by": ME, "reason": "bad\\udcff"})]
    unknown = cli("events", "--retry", "nosuch", "9999")
    assert (unknown.exit_code, "'nosuch' is neither" in unknown.stderr) == (2, True)
