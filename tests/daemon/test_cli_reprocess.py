"""`reprocess`: what it asks for, how it follows, and what it says in the end."""

from pathlib import Path
from typing import Any

import pytest
from cli_fake import HOLDER, FakeService, Run

from daemon.cli.progress import Lines, Tally, view
from daemon.lock import Holder


def job(number: int, run: int, state: str, reason: str | None = None) -> dict[str, Any]:
    return {"kind": "job", "id": f"j{number}", "run": run, "state": state, "reason": reason}


def result(
    number: int, run: int, variable: str, status: str, error: str | None = None
) -> dict[str, Any]:
    return {
        "kind": "result",
        "job": f"j{number}",
        "run": run,
        "variable": variable,
        "status": status,
        "error": error,
    }


@pytest.fixture(autouse=True)
def _two_good_runs(cli_service: FakeService) -> None:
    cli_service.answers["reprocess"] = {
        "jobs": [{"id": "j1", "run": 1, "data": "all"}, {"id": "j2", "run": 2, "data": "all"}],
        "skipped": [],
    }
    cli_service.answers["follow"] = [
        job(1, 1, "running"),
        {"kind": "plan", "job": "j1", "run": 1, "total": 2},
        {"kind": "started", "job": "j1", "run": 1, "variable": "foo"},
        result(1, 1, "foo", "finished"),
        result(1, 1, "bar", "skipped", "no scan"),
        job(1, 1, "finished"),
        job(2, 2, "finished"),
    ]


def test_a_file_for_commands_is_named_as_it_was_given(
    cli: Run, cli_service: FakeService, tmp_path: Path
) -> None:
    file = tmp_path / "cmd one.yml"
    file.write_text("type: local\ncommand: echo\n")
    file.chmod(0o600)
    answer = cli("reprocess", "1-2", "--backend", str(file))
    assert answer.exit_code == 2
    said = f"is for commands, by its command: `runtable run --backend '{file}'` executes one"
    assert said in " ".join(answer.stderr.split())
    assert cli_service.asked == []


def test_all_goes_well(cli: Run, cli_service: FakeService) -> None:
    answer = cli("reprocess", "1-2")
    assert answer.exit_code == 0
    assert answer.stderr.splitlines() == [
        "run 1: finished, 2 variables, 1 skipped",
        "run 2: finished",
    ]
    assert answer.stdout == "Processed 2 of 2 runs\n"
    assert cli_service.asked == [
        (
            "reprocess",
            {"runs": [1, 2], "match": [], "variables": None, "mock": False, "foreground": False},
        ),
        ("follow", {"jobs": ["j1", "j2"]}),
    ]


def test_the_selection_is_handed_on(cli: Run, cli_service: FakeService, cli_folder: Path) -> None:
    cli("reprocess", "all", "--match", "XGM", "--var", "a", "--var", "b", "--mock", "--direct")
    assert cli_service.asked[0][1] == {
        "runs": "all",
        "match": ["XGM"],
        "variables": ["a", "b"],
        "mock": True,
        "foreground": False,
        "backend": "local",
    }
    assert cli("reprocess", "1", "--in", cli_folder).exit_code == 0


def test_a_backend_is_a_name_a_file_or_a_line(
    cli: Run, cli_service: FakeService, tmp_path: Path
) -> None:
    file = tmp_path / "fast.yml"
    file.write_text("type: local\ntimeout: 90\nworking_dir: here\n")
    assert cli("reprocess", "1", "--backend", "gpu", "--no-wait").exit_code == 0
    assert cli("reprocess", "1", "--backend", file, "--no-wait").exit_code == 0
    asked = [arguments for op, arguments in cli_service.asked if op in ("reprocess", "plan")]
    assert asked[0]["backend"] == "gpu"
    here = str(tmp_path / "here")
    assert (asked[1]["backend"], asked[1]["configuration"]) == (
        "fast",
        {"type": "local", "timeout": 90, "working_dir": here},
    )
    awkward = tmp_path / "so fast.v2.yml"
    file.rename(awkward)
    for given, name in [(awkward, "so-fast-v2"), ("local:timeout=90", "local")]:
        cli("reprocess", "1", "--backend", given, "--no-wait")
        last = cli_service.asked[-1][1]
        assert (last["backend"], last["configuration"]["timeout"]) == (name, 90)
    for line, why in [
        ("local:timeout=1", "local:timeout=1: timeout: Input should be greater"),
        ("loca:", "there is no 'loca' (did you mean 'local'?"),
        ("none.yml", "none.yml cannot be read: No such file or directory"),
    ]:
        answer = cli("reprocess", "1", "--backend", line)
        assert (answer.exit_code, why in answer.stderr) == (2, True), answer.stderr
    file.write_text("type: local\ntimeout: 1\n")
    answer = cli("reprocess", "1", "--backend", file)
    assert (answer.exit_code, "timeout" in answer.stderr) == (2, True)
    for wrong in (["--direct"], ["--foreground"]):
        assert cli("reprocess", "1", "--backend", "gpu", *wrong).exit_code == 2


def test_how_many_at_once_and_whose_runs(cli: Run, cli_service: FakeService) -> None:
    cli("reprocess", "1", "--concurrent-jobs", "3", "--proposal", "900042", "--no-wait")
    cli("reprocess", "1", "--watch", "--concurrent-jobs", "3")
    cli("reprocess", "1", "--proposal", "900042", "--dry-run")
    asked = [arguments for op, arguments in cli_service.asked if op in ("reprocess", "plan")]
    assert [arguments.get("at_once") for arguments in asked] == [3, 1, None]
    assert [arguments.get("proposal") for arguments in asked] == [900042, None, 900042]


def test_parameters_are_read_and_handed_on(cli: Run, cli_service: FakeService) -> None:
    values = ["low=5", "name=dark run", "low=-1.5", "expression=a=b", "off=false", "empty="]
    cli("reprocess", "1", *(word for value in values for word in ("--param", value)))
    assert cli_service.asked[0][1]["params"] == {
        "low": -1.5,
        "name": "dark run",
        "expression": "a=b",
        "off": False,
        "empty": "",
    }
    for text in ("low", "=5"):
        wrong = cli("reprocess", "1", "--param", text)
        assert wrong.exit_code == 2
        assert "give NAME=VALUE" in wrong.stderr


def test_failures_are_named_at_the_end(cli: Run, cli_service: FakeService) -> None:
    cli_service.answers["follow"] = [
        result(1, 1, "foo", "failed", "ValueError: x"),
        job(1, 1, "finished"),
        result(2, 2, "foo", "failed", "ValueError: x"),
        job(2, 2, "failed", "killed twice"),
    ]
    answer = cli("reprocess", "1-2")
    assert answer.exit_code == 1
    assert answer.stderr.splitlines() == [
        "run 1: finished, 1 variable, 1 failed",
        "run 2: failed: killed twice",
        "run 2 failed: killed twice",
        "foo failed in runs 1,2: ValueError: x",
    ]
    assert answer.stdout == "Processed 1 of 2 runs\n"


def test_a_failed_variable_alone_is_no_failed_run(cli: Run, cli_service: FakeService) -> None:
    cli_service.answers["follow"].insert(5, result(1, 1, "bar", "failed", "KeyError: 'x'"))
    answer = cli("reprocess", "1-2")
    assert answer.exit_code == 0
    assert "bar failed in run 1: KeyError: 'x'" in answer.stderr


def test_results_that_are_not_in_the_run_file_are_told(cli: Run, cli_service: FakeService) -> None:
    cli_service.answers["follow"][-1] = job(2, 2, "finished", "its results are not in the run file")
    answer = cli("reprocess", "1-2")
    assert answer.exit_code == 1
    assert answer.stdout == "Processed 1 of 2 runs\n"
    told = "run 2 finished: its results are not in the run file"
    assert answer.stderr.splitlines()[-1] == told


def test_a_later_job_of_the_same_run_counts_for_it(cli: Run, cli_service: FakeService) -> None:
    cli_service.answers["follow"].append(job(3, 2, "failed", "memory"))
    answer = cli("reprocess", "1-2")
    assert answer.exit_code == 1
    assert answer.stdout == "Processed 1 of 2 runs\n"


def test_skipped_runs_are_named_together(cli: Run, cli_service: FakeService) -> None:
    cli_service.answers["reprocess"]["skipped"] = [
        {"run": number, "reason": "it does not exist"} for number in (3, 4, 5)
    ]
    answer = cli("reprocess", "1-5")
    assert answer.exit_code == 0
    assert "Skipped runs 3-5: it does not exist\n" in answer.stderr


def test_nothing_to_do_is_said(cli: Run, cli_service: FakeService) -> None:
    cli_service.answers["reprocess"] = {
        "jobs": [],
        "skipped": [{"run": 9, "reason": "it does not exist"}],
    }
    answer = cli("reprocess", "9")
    assert answer.exit_code == 0  # as for runs that are skipped beside others
    assert answer.stderr == "Skipped run 9: it does not exist\n"
    assert answer.stdout == "There was no run to process\n"


def test_no_wait_returns_at_once(cli: Run, cli_service: FakeService) -> None:
    answer = cli("reprocess", "1-2", "--no-wait")
    assert answer.exit_code == 0
    assert answer.stdout.startswith("The daemon processes runs 1,2; ")
    assert [op for op, _ in cli_service.asked] == ["reprocess"]


def test_no_wait_needs_a_daemon(cli: Run, cli_service: FakeService) -> None:
    cli_service.daemon = None
    answer = cli("reprocess", "1", "--no-wait")
    assert answer.exit_code == 1
    assert "Error: no daemon runs for" in answer.stderr
    assert cli_service.asked == []


@pytest.mark.parametrize(
    ("daemon", "words"),
    [
        (HOLDER, "The daemon goes on with run 2"),
        (None, "the rest of run 2 stays queued"),
    ],
)
def test_ctrl_c(cli: Run, cli_service: FakeService, daemon: Holder | None, words: str) -> None:
    cli_service.daemon = daemon
    cli_service.answers["follow"] = [job(1, 1, "finished"), KeyboardInterrupt()]
    answer = cli("reprocess", "1-2")
    assert answer.exit_code == 130
    assert words in answer.stderr


def test_foreground_does_not_wait_for_a_context_that_is_broken(
    cli: Run, cli_service: FakeService, cli_folder: Path
) -> None:
    problem = {"message": "invalid syntax", "line": 3, "variable": None, "mend": ""}
    cli_service.answers["status"] = {"context": {"ok": False, "problems": [problem]}}
    cli_service.answers["settings"] = {"rows": {}}
    answer = cli("reprocess", "1", "--foreground")
    assert answer.exit_code == 1
    assert answer.stderr.splitlines() == [
        f"Error: {cli_folder / 'context.py'} cannot be executed:",
        "  line 3: invalid syntax",
    ]
    assert [op for op, _ in cli_service.asked] == ["settings", "status"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["5-1"],
        ["1", "--foreground", "--no-wait"],
        ["all", "--foreground"],
        ["1", "--watch", "--no-wait"],
        ["1", "--watch", "--foreground"],
        ["1", "--concurrent-jobs", "0"],
        ["1", "--proposal", "x"],
    ],
)
def test_used_wrongly(cli: Run, cli_service: FakeService, arguments: list[str]) -> None:
    assert cli("reprocess", *arguments).exit_code == 2
    assert cli_service.asked == []


def test_what_is_waited_for_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    tally, lines = Tally(), Lines()
    for number in (1, 2, 1):
        lines.update(tally.take(job(number, number, "queued", "context.py is broken")))
    assert capsys.readouterr().err == "waiting: context.py is broken\n"


def test_what_a_backend_has_jobs_wait_for_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    tally, lines = Tally(), Lines()
    for number in (1, 2):
        there = {"backend": "cluster"}
        lines.update(tally.take({**job(number, number, "dispatched"), **there}))
        why = "waits in Slurm: all is taken (Resources)"
        waits = {"kind": "waiting", "job": f"j{number}", "run": number, "reason": why}
        lines.update(tally.take(waits))
    lines.update(tally.take({**job(2, 2, "running"), **there}))
    lines.update(tally.take({**job(2, 2, "finished"), **there}))
    lines.update(tally.take({**job(1, 1, "failed", "killed"), **there}))
    assert capsys.readouterr().err.splitlines() == [
        "cluster: waits in Slurm: all is taken (Resources)",
        "run 2 on cluster: finished",
        "run 1 on cluster: failed: killed",
    ]
    assert list(tally.failures()) == ["run 1 on cluster failed: killed"]


def test_a_terminal_gets_a_bar(
    capsys: pytest.CaptureFixture[str], cli_service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    tally = Tally()
    tally.add("j1", 1)
    tally.add("j2", 2)
    with view(tally) as bar:
        for item in cli_service.answers["follow"]:
            bar.update(tally.take(item))
    shown = capsys.readouterr().err
    assert "2/2" in shown
    assert "run 2 finished" in shown


def test_every_stage_of_a_job_has_words_in_the_bar() -> None:
    from daemon.cli.progress import _now

    tally = Tally()
    stages = [
        (job(1, 1, "queued", "context.py is broken"), "waiting: context.py is broken"),
        (job(1, 1, "running"), "run 1 running"),
        ({"kind": "plan", "job": "j1", "run": 1, "total": 2}, "run 1: 0 of 2 variables"),
        (
            {"kind": "started", "job": "j1", "run": 1, "variable": "foo"},
            "run 1: 0 of 2 variables, foo",
        ),
        (
            {"kind": "progress", "job": "j1", "run": 1, "variable": "foo"}
            | {"done": 3, "total": 10, "text": "frames"},
            "run 1: 0 of 2 variables, foo 3 of 10, frames",
        ),
        (result(1, 1, "foo", "finished"), "run 1: 1 of 2 variables, foo"),
        ({"kind": "news", "job": "j1", "run": 1}, "run 1: 1 of 2 variables, foo"),
        (job(1, 1, "stopped"), "run 1 stopped"),
    ]
    assert [_now(tally.take(item)) for item, _ in stages] == [words for _, words in stages]


STALE = [
    {
        "runs": [1, 2],
        "data": "raw",
        "variables": [{"name": "foo", "why": ["its source changed", "parameter k was 1, is 2"]}],
        "jobs": [
            {"backend": "local", "variables": ["bar", "foo"]},
            {"backend": "cluster", "variables": ["big"]},
        ],
    }
]


def test_what_is_stale_is_told_and_computed(cli: Run, cli_service: FakeService) -> None:
    cli_service.answers["reprocess"].update(plan=STALE, current=[3])
    answer = cli("reprocess", "all", "--changed", "--no-wait")
    assert cli_service.asked[0][1]["changed"] is True
    assert answer.stdout.splitlines() == [
        "Runs 1,2 (raw data): 1 stale variable",
        "  foo: its source changed; parameter k was 1, is 2",
        "  job: bar, foo",
        "  cluster job after it: big",
        "  computed again as others need it: bar, big",
        "Run 3: nothing is stale",
        "The daemon processes runs 1,2; `main jobs` shows how far it is",
    ]


@pytest.mark.parametrize("way", [[], ["--no-wait"]])
def test_nothing_is_stale(cli: Run, cli_service: FakeService, way: list[str]) -> None:
    cli_service.answers["reprocess"] = {"jobs": [], "skipped": [], "plan": [], "current": [1]}
    cli_service.answers["settings"] = {"rows": {}}
    cli_service.answers["status"] = {"context": {"ok": True, "problems": []}}
    answer = cli("reprocess", "1", "--changed", *way)
    assert (answer.exit_code, answer.stdout) == (0, "Run 1: nothing is stale\n")
    assert "follow" not in [op for op, _ in cli_service.asked]


def test_watch_shows_the_log_of_each_job(
    cli: Run, cli_service: FakeService, cli_folder: Path
) -> None:
    logs = cli_folder / "process_logs"
    logs.mkdir()
    (logs / "r1-p1234.out").write_text(
        "# old job j0, attempt 1\nold\n# new job j1, attempt 1\none\n"
    )
    (logs / "r2-p1234.out").write_bytes("# new job j2, attempt 1\nzwei \u00b5\n\xff".encode())
    told = [job(1, 1, "running"), job(1, 1, "finished"), job(2, 2, "finished")]
    cli_service.answers["follow"] = [
        *({**item, "proposal": 1234} for item in told),
        {**job(3, 3, "stopped", "by sam"), "proposal": 1234},  # one without a log
    ]
    answer = cli("reprocess", "1-2", "--watch")
    assert answer.stdout == (
        "# new job j1, attempt 1\none\n# new job j2, attempt 1\nzwei \u00b5\n\xff"
        "Processed 2 of 3 runs\n"
    )
    assert answer.stderr.splitlines()[0] == "run 1: finished"


def test_a_dry_run_only_asks_for_the_plan(cli: Run, cli_service: FakeService) -> None:
    variables = [{"name": "foo", "why": []}]
    plan = [{**STALE[0], "variables": variables, "jobs": STALE[0]["jobs"][:1]}]
    skipped = [{"run": 9, "reason": "no data"}]
    cli_service.answers["plan"] = {"plan": plan, "current": [4], "skipped": skipped}
    answer = cli("reprocess", "1-9", "--var", "foo", "--dry-run")
    assert answer.exit_code == 0
    assert answer.stderr == "Skipped run 9: no data\n"
    assert answer.stdout.splitlines() == [
        "Runs 1,2 (raw data): 1 variable",
        "  job: bar, foo",
        "  computed again as others need it: bar",
        "Run 4: no variable is chosen",
        "Nothing was done, because of --dry-run",
    ]
    request = {"runs": [*range(1, 10)], "match": [], "variables": ["foo"], "mock": False}
    assert cli_service.asked == [("plan", request)]
