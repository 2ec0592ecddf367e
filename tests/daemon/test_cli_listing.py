"""The commands that only show something: events, jobs, status, read-context, and notify."""

from pathlib import Path
from typing import Any

import pytest
from cli_fake import FakeService, Run

from daemon.backends.configurations import files
from daemon.cli.output import local_time
from daemon.control import ServiceError

NOON = 1_700_000_000.0


def test_events_lists_events_and_dead_letters(cli: Run, cli_service: FakeService) -> None:
    cli_service.answers["events"] = {
        "events": [
            {
                "id": 1,
                "time": NOON,
                "source": "filesystem",
                "proposal": 1234,
                "run": 42,
                "data": "raw",
                "state": "done",
            }
        ],
        "dead_letters": [
            {"id": 2, "time": NOON, "source": "zeromq", "payload": "{", "error": "no JSON"}
        ],
    }
    result = cli("events")
    assert result.exit_code == 0
    assert f"{local_time(NOON)}  1234      42   raw   filesystem  done" in result.output
    assert f"{local_time(NOON)}  2   zeromq  no JSON  {{" in result.output
    assert "--retry [ID]...` reads them once more" in result.output


def test_events_of_an_idle_folder(cli: Run, cli_service: FakeService) -> None:
    cli_service.answers["events"] = {"events": [], "dead_letters": []}
    assert cli("events").output == "No events so far.\n"


def test_dead_letters_are_read_once_more(
    cli: Run, cli_service: FakeService, cli_folder: Path
) -> None:
    event = {"proposal": 1234, "run": 42, "data": "raw"}
    cli_service.answers["retry-events"] = {
        "stored": [{"id": 2, "event": event, "new": True}, {"id": 3, "event": event, "new": False}],
        "kept": [{"id": 5, "error": "not JSON"}],
    }
    result = cli("events", cli_folder, "--retry", 2, 3, 5)
    assert cli_service.asked == [("retry-events", {"ids": [2, 3, 5]})]
    assert result.stdout == (
        "2: raw data of run 42, proposal 1234\n"
        "3: raw data of run 42, proposal 1234 (known already)\n"
    )
    assert result.stderr == "5 stays: not JSON\n"
    assert result.exit_code == 1
    cli_service.answers["retry-events"] = {"stored": [], "kept": []}
    result = cli("events", "--retry")
    assert cli_service.asked[-1] == ("retry-events", {"ids": None})
    assert (result.output, result.exit_code) == ("There are no dead letters.\n", 0)
    assert "a b is too much: one folder" in cli("events", "a", "b").output


JOB = {
    "id": "20261121-014455-3f9a2c",
    "proposal": 1234,
    "run": 42,
    "data": "raw",
    "state": "failed",
    "attempt": 3,
    "source": "filesystem",
    "created": NOON,
    "started": NOON,
    "ended": NOON + 2.25,
    "reason": "the run folder vanished",
    "waiting_reason": "",
}
WAITING = {**JOB, "started": None, "ended": None, "reason": "", "waiting_reason": "memory is low"}


def test_jobs(cli: Run, cli_service: FakeService) -> None:
    report = {"done": 3, "total": 10, "text": "frames"}
    running = {**WAITING, "waiting_reason": "", "running": {"variable": "a", "progress": report}}
    cli_service.answers["jobs"] = {"jobs": [JOB, WAITING, running]}
    result = cli("jobs", "--state", "failed", "--limit", 5)
    assert cli_service.asked == [("jobs", {"limit": 5, "state": "failed"})]
    assert "2.2 s" in result.output
    assert "the run folder vanished" in result.output
    assert "memory is low" in result.output
    assert "a 3 of 10, frames" in result.output


def test_jobs_when_there_are_none(cli: Run, cli_service: FakeService) -> None:
    cli_service.answers["jobs"] = {"jobs": []}
    assert cli("jobs").output == "No jobs so far.\n"
    assert cli("jobs", "--state", "queued").output == "No jobs in state queued.\n"
    assert cli("jobs", "--state", "lost").exit_code == 2


def status(**changes: Any) -> dict[str, Any]:
    return {
        "daemon": {"host": "node1", "pid": 77, "user": "sam", "since": NOON},
        "folder": "/d",
        "proposal": 1234,
        "proposal_path": "/p001234",
        "context": {"ok": True, "problems": []},
        "jobs": {"queued": 2, "running": 1},
        "running": [],
        "waiting": None,
        "dead_letters": 0,
        "sources": ["filesystem", "zeromq"],
        "warnings": [],
        **changes,
    }


def test_status_when_all_is_well(cli: Run, cli_service: FakeService) -> None:
    cli_service.answers["status"] = status()
    assert cli("status").output.splitlines() == [
        "Folder        /d",
        "Proposal      1234 in /p001234",
        f"Daemon        on node1, process 77 of sam, since {local_time(NOON)}",
        "Events from   filesystem, zeromq",
        "context.py    in order",
        "Jobs          2 queued, 1 running",
    ]


def test_status_names_jobs_and_what_they_wait_for(cli: Run, cli_service: FakeService) -> None:
    job = {
        **{"job": "x", "proposal": 1234, "run": 42, "data": "raw", "variable": None, "done": 0},
        **{"total": 0, "since": None, "progress": None, "backend": "cluster", "command": None},
        **{"begun": False, "waits": "waits in Slurm: all is taken (Resources)", "place": ""},
    }
    command = {**job, "run": 0, "command": "ls"}
    begun = {**command, "begun": True, "since": NOON, "waits": "Slurm has suspended it (SUSPENDED)"}
    many = [{**job, "begun": True, "run": run, "waits": "", "since": NOON} for run in range(25)]
    cli_service.answers["status"] = status(
        running=[job, command, {**job, "run": 43}, {**job, "run": 44, "waits": ""}, begun, *many]
    )
    lines = [line.strip() for line in cli("status").output.splitlines()][6:]
    since = local_time(NOON)
    assert lines[:2] == [
        f"command x on cluster since {since}; Slurm has suspended it (SUSPENDED)",
        f"run 0 raw on cluster since {since}",
    ]
    assert [line for line in lines[2:] if "since" not in line] == [
        "and 6 more; `main jobs --state running` lists them",
        "runs 42,43 and 1 command on cluster: waits in Slurm: all is taken (Resources)",
        "run 44 on cluster: about to begin",
    ]


def test_jobs_elsewhere_are_named_with_their_backends(cli: Run, cli_service: FakeService) -> None:
    waits = {"variable": None, "progress": None, "waits": "its partition is down (PartitionDown)"}
    there = {**WAITING, "waiting_reason": "", "backend": "cluster", "running": waits}
    command = {**JOB, "backend": "local", "command": {"command": "ls"}, "run": 0}
    cli_service.answers["jobs"] = {"jobs": [there, command]}
    header, first, second = cli("jobs").output.splitlines()
    assert header.split()[2:4] == ["data", "backend"]
    assert first.split()[1:5] == ["42", "raw", "cluster", "failed"]
    assert first.endswith("its partition is down (PartitionDown)")
    assert second.split()[1:3] == ["command", "local"]


def test_status_shows_what_stands_in_the_way(cli: Run, cli_service: FakeService) -> None:
    problem = {"message": "invalid syntax", "line": 3, "variable": None, "mend": "close the ("}
    running = {
        "job": "x",
        "proposal": 1234,
        "run": 42,
        "data": "raw",
        "variable": "foo",
        "done": 3,
        "total": 10,
        "since": NOON,
        "progress": {"done": 2.5, "total": 10, "text": ""},
    }
    cli_service.answers["status"] = status(
        daemon=None,
        proposal_path=None,
        context={"ok": False, "problems": [problem]},
        jobs={},
        running=[running],
        waiting="context.py cannot be executed",
        dead_letters=2,
        sources=[],
        warnings=["runs.sqlite was made by a newer version"],
    )
    lines = cli("status").output.splitlines()
    assert "Proposal      1234, folder not found" in lines
    assert any(line.startswith("Daemon        none; ") for line in lines)
    assert "              line 3: invalid syntax (close the ()" in lines
    assert (
        f"              run 42 raw since {local_time(NOON)}, 3 of 10 variables done, "
        "now foo 2.5 of 10" in lines
    )
    assert "Waiting       context.py cannot be executed" in lines
    assert "Warning       runs.sqlite was made by a newer version" in lines
    assert any(line.startswith("Dead letters  2; ") for line in lines)


def test_read_context(cli: Run, cli_service: FakeService) -> None:
    problem = {"message": "depends on 'baz'", "line": 12, "variable": "foo", "mend": "bar?"}
    cli_service.answers["read-context"] = {
        "variables": [{"name": "foo", "title": "All of it"}, {"name": "bar", "title": "bar"}],
        "problems": [problem],
        "broken": False,
    }
    result = cli("read-context")
    assert result.exit_code == 0
    assert "context.py: line 12: foo: depends on 'baz' (bar?)" in result.stderr
    words = [line.split() for line in result.stdout.splitlines()]
    assert ["foo", "All", "of", "it"] in words
    assert ["bar", "bar"] in words
    assert result.stdout.endswith("\n2 variables, 1 problem\n")


def test_a_broken_context_exits_with_1(cli: Run, cli_service: FakeService) -> None:
    problem = {"message": "invalid syntax", "line": 3, "variable": None, "mend": ""}
    cli_service.answers["read-context"] = {"variables": [], "problems": [problem], "broken": True}
    result = cli("read-context")
    assert result.exit_code == 1
    assert "context.py: line 3: invalid syntax\n" in result.stderr
    assert "Error: context.py cannot be executed" in result.stderr


def test_notify_says_what_was_stored(cli: Run, cli_service: FakeService) -> None:
    cli_service.answers["event"] = {"stored": True, "event": {"proposal": 1234}}
    result = cli("notify", "--run", 42, "--data", "raw")
    assert result.output == "Stored: raw data of run 42, proposal 1234\n"
    cli("notify", "--run", 42, "--data", "proc", "--proposal", 5)
    assert cli_service.asked == [
        ("event", {"run": 42, "data": "raw"}),
        ("event", {"run": 42, "data": "proc", "proposal": 5}),
    ]


def test_notify_without_a_daemon_is_an_error(cli: Run, cli_service: FakeService) -> None:
    cli_service.daemon = None
    result = cli("notify", "--run", 42, "--data", "raw")
    assert result.exit_code == 1
    assert "Error: no daemon answers for" in result.stderr
    assert cli_service.asked == []


@pytest.mark.parametrize("arguments", [[], ["--run", "x"], ["--run", "4", "--data", "all"]])
def test_notify_used_wrongly(cli: Run, arguments: list[str]) -> None:
    assert cli("notify", *arguments).exit_code == 2


def test_what_the_service_refuses_is_one_line(cli: Run, cli_service: FakeService) -> None:
    cli_service.answers["status"] = ServiceError("no answer for 10 s")
    result = cli("status")
    assert (result.exit_code, result.stderr) == (1, "Error: no answer for 10 s\n")


def test_check_looks_at_any_file_and_touches_no_database(
    cli: Run, cli_service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    file = tmp_path / "elsewhere/draft.py"
    file.write_text(
        "from damnit_ctx import Variable\n\n"
        "@Variable()\ndef energy(run):\n    return 1\n\n"
        '@Variable(data="prco")\ndef twice(run, e: "var#enregy"):\n    return 2 * e\n'
    )
    result = cli("read-context", "--check", file)
    assert result.exit_code == 0
    assert result.stdout.endswith("\n2 variables, 2 problems\n")
    assert "draft.py: line 7: twice:" in result.stderr
    assert "energy" in result.stderr
    file.write_text("import no_such_module\n")
    result = cli("read-context", "--check", file)
    assert result.exit_code == 1
    assert "line 1" in result.stderr
    assert cli_service.asked == []
    assert list((tmp_path / "elsewhere").iterdir()) == [file]
    # Beside a database it is known which backends there are.
    file.write_text(
        "from damnit_ctx import Variable\n\n"
        '@Variable(backend="fits")\ndef fit(run):\n    return 1\n\n'
        '@Variable(backend="fast")\ndef quick(run):\n    return 1\n\n'
        '@Variable(backend="fats")\ndef slow(run):\n    return 1\n'
    )
    assert "3 variables, 0 problems" in cli("read-context", "--check", file).stdout
    cli_service.answers["settings"] = {"rows": {}}
    for name, text in [("fast", "type: local\n"), ("fits", "type: local\ncommand: make\n")]:
        files.save(tmp_path / f"backends/{name}.yml", text)
    result = cli("read-context", tmp_path, "--check", file)
    assert "3 variables, 2 problems" in result.stdout
    assert "fit: backend 'fits' is for commands, by its command: `runtable run" in result.stderr
    assert "slow: there is no backend 'fats' (did you mean 'fast'?" in result.stderr
