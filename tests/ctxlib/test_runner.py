import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from job_helpers import entries, errors, make_job, times_started, values

from ctxlib import claim, known
from ctxlib.files import RunFile
from ctxlib.journal import JournalWriter

LIBRARY = Path(__file__).parents[2]


def run(attempt_dir, n=1, *options, check=True):
    """Be the watching process of one runner in an interpreter of its own."""
    claim.make(attempt_dir, "fresh")
    command = [sys.executable, "-m", "ctxlib.runner", str(attempt_dir), str(n), *options]
    result = subprocess.run(command, cwd=LIBRARY, capture_output=True, text=True, timeout=60)
    assert not check or result.returncode == 0, result.stderr
    return result


CONTEXT = """
import os
import sys
import numpy as np
from damnit_ctx import Cell, Skip, Variable

print("imported")

@Variable(title="Number", units="mJ")
def number(run):
    for line in range(3):
        print("out", line)
        print("err", line, file=sys.stderr)
    os.system("echo from a program")
    return 3.5

@Variable(title="Array", summary="mean")
def array(run, number: "var#number"):
    return np.arange(4.0) * number

@Variable(title="Failing")
def failing(run):
    raise ValueError("no beam")

@Variable(title="After failing")
def after(run, x: "var#failing"):
    return x

@Variable(title="Skipped")
def skipped(run):
    raise Skip("laser off")

@Variable(title="Hidden", transient=True)
def hidden(run):
    return object()

@Variable(title="Nothing")
def nothing(run, meta: "meta#run_number", hidden: "var#hidden"):
    return None

@Variable(title="Late", cluster=True)
def late(run, array: "var#array"):
    return float(array.sum())
"""


def test_a_log_that_cannot_be_written_is_named(tmp_path):
    attempt = make_job(tmp_path, context=CONTEXT)
    (tmp_path / "process_logs").write_text("no folder")
    run(attempt, check=False)
    (error,) = entries(attempt)
    assert error.kind == "error"
    assert "process_logs/r1-p1234.out cannot be written" in error.fields["message"]


def test_an_exception_outside_of_variables_is_said_in_words(tmp_path):
    attempt = make_job(tmp_path, context=CONTEXT, inputs=["j0"])
    (tmp_path / "jobs" / "j0" / "1" / "journal.1.jsonl").mkdir(parents=True)
    run(attempt, check=False)
    error = entries(attempt)[-1]
    assert error.kind == "error"
    assert "could not be processed: IsADirectoryError" in error.fields["message"]
    assert "known_results" in error.fields["traceback"]


def test_one_runner_does_the_whole_job(tmp_path):
    attempt = make_job(tmp_path, context=CONTEXT)
    run(attempt)
    assert [e.kind for e in entries(attempt)][:3] == ["begin", "plan", "run"]
    assert entries(attempt)[-1].kind == "end"
    assert values(attempt) == {"number": 3.5, "array": 5.25, "hidden": None, "nothing": None}
    assert errors(attempt) == {
        "failing": "ValueError: no beam",
        "after": "Skip: needs 'failing', which failed: ValueError: no beam",
        "skipped": "Skip: laser off",
    }
    plan = entries(attempt, "plan")[0].fields
    assert len(plan["variables"]) == 8
    assert plan["later"] == [{"part": "cluster", "variables": ["late"], "needs": []}]
    assert "late" not in plan["order"]
    assert entries(attempt, "run")[0].fields == {"start_time": 1_500_000_000.0}


def test_small_results_are_in_the_journal_and_others_in_fragments(tmp_path):
    attempt = make_job(tmp_path, context=CONTEXT)
    run(attempt)
    finished = {e.fields["variable"]: e.fields for e in entries(attempt, "finished")}
    assert finished["number"]["data"] is not None
    assert finished["number"]["fragment"] is None
    assert finished["number"]["summary"]["attributes"] == {"units": "mJ"}
    assert finished["array"]["data"] is None
    with RunFile(attempt / "fragments" / finished["array"]["fragment"]) as fragment:
        np.testing.assert_array_equal(fragment.read("array"), np.arange(4.0) * 3.5)
    assert finished["nothing"]["data"] is finished["nothing"]["fragment"] is None
    assert finished["hidden"]["summary"] is None


def test_each_result_says_where_it_comes_from_and_what_it_took(tmp_path):
    attempt = make_job(tmp_path, context=CONTEXT)
    run(attempt)
    fields = entries(attempt, "finished")[0].fields
    begin = entries(attempt, "begin")[0].fields
    origin = fields["origin"]
    assert origin["context_sha256"] == begin["context_sha256"]
    assert (origin["job"], origin["attempt"]) == ("j1", 1)
    assert [origin[key] for key in ("host", "python")] == [begin[key] for key in ("host", "python")]
    assert origin["versions"]["numpy"] == np.__version__
    described = {each["name"]: each for each in entries(attempt, "plan")[0].fields["variables"]}
    assert origin["fingerprint"] == described[fields["variable"]]["fingerprint"]
    assert fields["duration"] >= 0
    assert fields["cpu"] >= 0
    assert fields["memory"] > 1 << 20
    assert begin["versions"]["numpy"] == np.__version__


def test_output_goes_to_the_log_in_its_order(tmp_path):
    attempt = make_job(tmp_path, context=CONTEXT)
    result = run(attempt)
    assert (result.stdout, result.stderr) == ("", "")
    log = (tmp_path / "process_logs" / "r1-p1234.out").read_text()
    lines = [re.sub(r"(?<=^# )[\d:.]+ ", "", line) for line in log.splitlines()]
    assert re.match(r"# \S+ job j1, attempt 1: proposal 1234, run 1, raw data", lines[0])
    assert lines[1:9] == [
        "imported",
        *("out 0", "err 0", "out 1", "err 1", "out 2", "err 2"),
        "from a program",
    ]
    assert lines[9].startswith("# number: finished in ")
    assert any(line.startswith("# array: finished in ") for line in lines)
    assert "ValueError: no beam" in log
    assert "context.py" in log
    assert "ctxlib/evaluate.py" not in log


def test_the_log_is_appended_to(tmp_path):
    run(make_job(tmp_path, "j1", context=CONTEXT))
    run(make_job(tmp_path, "j2", variables=["number"]))
    log = (tmp_path / "process_logs" / "r1-p1234.out").read_text()
    assert len(re.findall(r"job j[12], attempt 1", log)) == 2


def test_the_terminal_can_have_the_output(tmp_path):
    result = run(make_job(tmp_path, context=CONTEXT), 1, "--terminal")
    assert "number: finished" in result.stdout
    assert not (tmp_path / "process_logs").exists()


COUNTING = """
from pathlib import Path
import numpy as np
from damnit_ctx import Skip, Variable

def count(name):
    with open(Path(__file__).parent / "calls.txt", "a") as file:
        file.write(name + "\\n")

@Variable(transient=True)
def scratch(run):
    count("scratch")
    return {"deep": [1, 2]}

@Variable()
def plain(run, scratch: "var#scratch"):
    count("plain")
    return 7

@Variable()
def array(run, scratch: "var#scratch"):
    count("array")
    return np.arange(5)

@Variable()
def bad(run):
    count("bad")
    raise ValueError("bad")

@Variable()
def last(run, plain: "var#plain", array: "var#array", scratch: "var#scratch", bad: "var#bad" = 0):
    count("last")
    return plain + int(array.sum()) + len(scratch) + bad
"""


def calls(database):
    return (database / "calls.txt").read_text().split()


def cut(journal, kind, variable):
    """Leave a journal as a runner leaves it that is killed just before it writes this line."""
    kept = []
    for line in journal.read_text().splitlines(keepends=True):
        fields = json.loads(line)
        if (fields["kind"], fields.get("variable")) == (kind, variable):
            kept.append(line[:20])
            break
        kept.append(line)
    journal.write_text("".join(kept))


def test_a_runner_that_goes_on_computes_only_what_is_not_finished(tmp_path):
    attempt = make_job(tmp_path, context=COUNTING)
    run(attempt)
    cut(attempt / "journal.1.jsonl", "finished", "last")
    run(attempt, 2)
    assert values(attempt)["last"] == 7 + 10 + 1
    # What is transient was not kept, so it is computed again for whoever needs it.
    assert calls(tmp_path) == ["scratch", "plain", "array", "bad", "last", "scratch", "last"]
    assert entries(attempt)[-1].kind == "end"


def test_nothing_is_opened_or_computed_when_all_is_done(tmp_path):
    attempt = make_job(tmp_path, context=COUNTING)
    run(attempt)
    cut(attempt / "journal.1.jsonl", "end", None)
    run(attempt, 2)
    assert len(calls(tmp_path)) == 5
    assert [e.kind for e in entries(attempt) if e.runner == 2] == ["begin", "plan", "end"]


def test_a_later_attempt_goes_on_from_an_earlier_one(tmp_path):
    attempt = make_job(tmp_path, context=COUNTING)
    run(attempt)
    cut(attempt / "journal.1.jsonl", "started", "last")
    second = attempt.parent / "2"
    second.mkdir()
    run(second)
    assert times_started(second) == {"scratch": 1, "last": 1}


def test_a_fragment_that_is_not_whole_is_computed_again(tmp_path):
    attempt = make_job(tmp_path, context=COUNTING)
    run(attempt)
    cut(attempt / "journal.1.jsonl", "finished", "last")
    os.truncate(attempt / "fragments" / "array.h5", 100)
    run(attempt, 2)
    assert calls(tmp_path)[5:] == ["scratch", "array", "last"]
    assert values(attempt)["last"] == 18


def test_fragments_of_before_the_host_was_booted_are_not_relied_on(tmp_path):
    attempt = make_job(tmp_path, context=COUNTING)
    run(attempt)
    made = json.loads((attempt / "claim").read_text())
    (attempt / "claim").write_text(json.dumps({**made, "boot_id": "an earlier one"}))
    results = known.known_results([attempt.parent])
    assert results.done("plain")
    assert not results.done("array")
    assert results.value("plain") == 7


def test_a_fragment_that_would_lie_elsewhere_is_computed_again(tmp_path):
    attempt = make_job(tmp_path, context=COUNTING)
    run(attempt)
    journal = attempt / "journal.1.jsonl"
    journal.write_text(journal.read_text().replace('"array.h5"', '"../fragments/array.h5"'))
    assert not known.known_results([attempt.parent]).done("array")


def test_a_cluster_job_says_that_its_input_is_gone(tmp_path):
    attempt = make_job(tmp_path, context=CONTEXT, part="cluster", inputs=["deleted"])
    run(attempt)
    gone = tmp_path / "jobs" / "deleted"
    assert errors(attempt)["late"].startswith("Skip: needs 'array', which cannot be read: ")
    assert f"{gone}, with the results of a job, is gone: reprocess" in errors(attempt)["late"]


def test_a_fragment_that_another_program_has_locked_is_whole(tmp_path):
    attempt = make_job(tmp_path, context=COUNTING)
    run(attempt)
    with (attempt / "fragments" / "array.h5").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert known.known_results([attempt.parent]).done("array")


def test_a_variable_that_killed_its_process_is_not_tried_by_the_next(tmp_path):
    attempt = make_job(tmp_path, context=COUNTING)
    run(attempt)
    cut(attempt / "journal.1.jsonl", "finished", "array")
    watcher = JournalWriter(attempt / "journal.0.jsonl")
    reason = "killed: used more than 1 GB"
    watcher.write("died", n=1, variable="array", reason=reason, code="memory")
    run(attempt, 2)
    assert calls(tmp_path).count("array") == 1
    assert errors(attempt)["last"] == (
        "Skip: needs 'array', which failed: MemoryLimit: killed: used more than 1 GB"
    )


def test_a_cluster_job_takes_the_results_of_its_inputs(tmp_path):
    run(make_job(tmp_path, "first", context=CONTEXT))
    # Its own backend is not for what the first job should have computed there.
    second = make_job(tmp_path, "second", part="cluster", backend="cluster", inputs=["first"])
    run(second)
    assert values(second) == {"late": 21.0}
    assert entries(second, "plan")[0].fields["later"] == []


LONG = """
from damnit_ctx import Variable

@Variable()
def failing(run):
    raise ValueError("begin" + "x" * 1_000_000 + "end")

@Variable()
def after(run, x: "var#failing"):
    return x
"""


def test_long_errors_are_whole_in_the_log_alone(tmp_path):
    attempt = make_job(tmp_path, context=LONG)
    run(attempt)
    first, second = (entry.fields["error"] for entry in entries(attempt, "failed"))
    assert first["message"].startswith("beginxxx")
    assert first["message"].endswith("xxxend")
    assert "characters left out here; the run's log has them" in first["message"]
    assert len(first["message"]) < 11_000
    assert first["traceback"].startswith("Traceback")
    assert len(first["traceback"]) < 51_000
    assert len(second["message"]) < 11_000
    log = Path(json.loads((attempt.parent / "job.json").read_text())["log"]).read_text()
    assert "x" * 1_000_000 + "end" in log
    assert len(log) < 2_100_000


def test_unknown_names_are_refused_with_the_nearest(tmp_path):
    attempt = make_job(tmp_path, context=CONTEXT, variables=["numbr"])
    run(attempt, check=False)
    message = entries(attempt, "error")[0].fields["message"]
    assert "numbr" in message
    assert "number" in message
    assert not entries(attempt, "end", "started")


WORDS = """
from damnit_ctx import Group, Parameter, Variable, progress

low = Parameter(3)
tries = []

@Group
class Camera:
    gain: float = Parameter(1.5)

    @Variable(title="Mean")
    def mean(self, run, low: "param#low", other: "param#other" = 9):
        return self.gain + low + other

camera = Camera()

@Variable(title="Plain")
def plain(run):
    return 1

@Variable(title="Reports", memory="128M", cpus=1, timeout=30)
def reports(run):
    for done in range(3):
        progress(done, 3, "frames")
    return 1

@Variable(title="Settles", retries=2, cpus=64, memory="64G")
def settles(run):
    tries.append(1)
    if len(tries) < 3:
        raise OSError(f"no {len(tries)}")
    return len(tries)

@Variable(title="Run type")
def kind(run, kind: "mymdc#run_type"):
    return kind
"""


def test_parameters_are_given_and_recorded(tmp_path):
    attempt = make_job(tmp_path, context=WORDS, params={"low": 10, "unused": 1})
    run(attempt)
    assert values(attempt)["camera.mean"] == 20.5
    ended = [*entries(attempt, "finished"), *entries(attempt, "failed")]
    origins = {e.fields["variable"]: e.fields["origin"] for e in ended}
    assert origins["camera.mean"]["params"] == {"camera.gain": 1.5, "low": 10}
    assert origins["plain"]["params"] == {}
    assert origins["camera.mean"]["fingerprint"]["parameter:low"] == "10"
    assert "folder of proposal 1234 is not known" in errors(attempt)["kind"]


def test_a_variable_says_what_it_may_use_how_far_it_is_and_which_try_it_is(tmp_path):
    attempt = make_job(tmp_path, context=WORDS, memory=1 << 30, cpus=2)
    run(attempt)
    begun = {e.fields["variable"]: e.fields for e in entries(attempt, "started")}
    assert (begun["reports"]["timeout"], begun["reports"]["memory"]) == (30.0, 128 << 20)
    assert begun["settles"]["memory"] == 1 << 30
    assert begun["plain"]["memory"] is None
    (report,) = entries(attempt, "progress")
    assert report.fields == {"variable": "reports", "done": 0, "total": 3, "text": "frames"}
    assert values(attempt)["settles"] == 3
    log = (tmp_path / "process_logs" / "r1-p1234.out").read_text()
    assert "settles: try 1 of 3 failed, trying again: OSError: no 1" in log
    assert "settles: try 2 of 3 failed, trying again: OSError: no 2" in log
    assert "settles: asks for 64 GB, but its job has 1 GB (noncluster_mem)" in log
    assert "settles: asks for 64 cores, but its job has 2 (noncluster_cpus)" in log


def test_memory_refused_without_words_is_said_in_words(tmp_path):
    greedy = """
        from damnit_ctx import Variable
        @Variable(memory="64M")
        def own(run):
            bytearray(1 << 33)
        @Variable
        def whole(run):
            bytearray(1 << 36)
        @Variable(memory="64M")
        def worded(run):
            raise MemoryError("no room for the frames")
    """
    attempt = make_job(tmp_path, context=greedy, memory=1 << 30)
    run(attempt)
    assert errors(attempt) == {
        "own": "MemoryError: used more than 64 MB",
        "whole": "MemoryError: used more than 1 GB",
        "worded": "MemoryError: no room for the frames",
    }


def test_titles_can_be_matched(tmp_path):
    attempt = make_job(tmp_path, context=CONTEXT, match=["ARR"])
    run(attempt)
    assert entries(attempt, "plan")[0].fields["order"] == ["number", "array"]


def test_a_broken_context_is_told_with_its_lines(tmp_path):
    attempt = make_job(tmp_path, context="x = 1\nraise RuntimeError('no config')\n")
    run(attempt, check=False)
    error = entries(attempt, "error")[0].fields
    assert [p["line"] for p in error["problems"]] == [2]
    assert "no config" in error["problems"][0]["message"]


def test_a_run_that_cannot_be_opened_ends_the_job_in_words(tmp_path):
    attempt = make_job(tmp_path, context=CONTEXT, mock=False, proposal_path=str(tmp_path))
    run(attempt, check=False)
    assert "there is no folder" in entries(attempt, "error")[0].fields["message"]
    assert "there is no folder" in (tmp_path / "process_logs" / "r1-p1234.out").read_text()
    assert not entries(attempt, "started", "end")


def test_a_job_runs_in_its_folder(tmp_path):
    context = """
    from pathlib import Path
    from damnit_ctx import Variable
    beside = Path("context.py").exists()

    @Variable
    def where(run):
        return f"{beside} {Path.cwd()}"
    """
    there = make_job(tmp_path, "j1", context=context, working_dir="/usr")
    run(there)
    assert values(there) == {"where": "True /usr"}
    gone = make_job(tmp_path, "j2", working_dir=f"{tmp_path}/gone")
    run(gone, check=False)
    assert entries(gone, "error")[0].fields["message"] == (
        f"its working_dir {tmp_path}/gone is not there: make it, or name another one"
    )


def test_a_genuine_run_is_given_to_the_variables(tmp_path, example_proposal):
    context = """
    from damnit_ctx import Variable

    @Variable(title="Trains")
    def trains(run):
        return len(run.train_ids)

    @Variable(title="Corrected", data="proc")
    def corrected(run):
        return str(run["SPB_DET_AGIPD1M-1/DET/0CH0:xtdf", "image.data"].dtype)
    """
    shutil.copytree(example_proposal, tmp_path / "p001234")
    path = str(tmp_path / "p001234")
    attempt = make_job(tmp_path, context=context, mock=False, proposal_path=path, data="all")
    run(attempt)
    assert values(attempt) == {"trains": 64, "corrected": "float32"}


def test_a_variable_that_forks_is_still_computed_by_one_process(tmp_path):
    context = """
    import os
    from damnit_ctx import Variable

    @Variable()
    def forks(run):
        return os.fork() > 0

    @Variable()
    def after(run):
        return 1
    """
    attempt = make_job(tmp_path, context=context)
    run(attempt)
    assert [e.kind for e in entries(attempt)].count("finished") == 2
    assert values(attempt) == {"forks": True, "after": 1}


def test_a_runner_without_its_watching_process_does_nothing(tmp_path):
    attempt = make_job(tmp_path, context=CONTEXT)
    assert "not claimed" in run_unclaimed(attempt)
    made = claim.make(attempt, "fresh")
    (attempt / "claim").write_text(json.dumps({**made.__dict__, "pid": 1 << 22}))
    run(attempt, check=False)
    assert entries(attempt) == []


def run_unclaimed(attempt):
    command = [sys.executable, "-m", "ctxlib.runner", str(attempt), "1"]
    return subprocess.run(command, cwd=LIBRARY, capture_output=True, text=True, timeout=60).stderr
