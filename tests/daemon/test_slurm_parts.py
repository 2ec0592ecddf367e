"""The parts of the manager for Slurm that need no Slurm."""

import json
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from job_helpers import entries, errors, make_job

from ctxlib.journal import JournalWriter, file_name
from daemon.backends.attempts import blame, called
from daemon.backends.configurations import SlurmConfig
from daemon.backends.slurm import batches
from daemon.backends.slurm import partition as partitions
from daemon.backends.slurm.commands import Commands
from daemon.backends.slurm.hostlist import expanded
from daemon.backends.slurm.mends import mended
from daemon.backends.slurm.partition import best
from daemon.backends.slurm.scheduler import (
    WHOLE,
    Later,
    NoAnswer,
    Node,
    Partition,
    Refused,
    Reservation,
    SlurmJob,
    Submission,
    TooLong,
)
from daemon.backends.slurm.script import Task, exports, quoted, script
from daemon.backends.slurm.states import place, verdict
from daemon.backends.slurm.transport import Output, ThisMachine
from daemon.job_part import HEADER
from daemon.settings import Settings


def job(state, **more):
    return SlurmJob(batch="b", array="1", index=0, number="1", state=state, **more)


@pytest.mark.parametrize(
    ("state", "kind", "words"),
    [
        (job("PENDING", reason="Priority"), "waiting", "others are before it (Priority)"),
        (
            job("PENDING", reason="AssocGrpCPULimit"),
            "waiting",
            "your account has as much as it may (Ass",
        ),
        (job("PENDING", reason="ReqNodeNotAvail, UnavailableNodes:n2"), "waiting", "UnavailableNo"),
        (job("PENDING", reason="PartitionTimeLimit"), "waiting", "or setting slurm_time (Par"),
        (
            job("PENDING", reason="Nodes required for job are DOWN, DRAINED or reserved"),
            "waiting",
            "the nodes that it could run on are down or reserved (Nodes required for job",
        ),
        (job("PENDING", reason="SomethingNew"), "waiting", "waits in Slurm: SomethingNew"),
        (job("CONFIGURING"), "waiting", "waits in Slurm"),
        (job("REQUEUED"), "waiting", "waits in Slurm"),
        (job("REQUEUE_HOLD"), "waiting", "waits in Slurm"),
        (job("RUNNING"), "running", ""),
        (job("COMPLETING"), "running", ""),
        (job("SUSPENDED"), "running", "Slurm has suspended it (SUSPENDED)"),
        (job("STOPPED"), "running", "(STOPPED)"),
        (job("RESIZING"), "running", ""),
        (job("STAGE_OUT"), "running", ""),
        (job("COMPLETED"), "done", "finished on Slurm but delivered no results"),
        (
            job("FAILED", exit_code=7),
            "failed",
            "could not begin, and its log may say why: exit code 7",
        ),
        (job("FAILED", exit_code=0, signal=9), "failed", "killed by signal SIGKILL (FAILED)"),
        (job("FAILED", exit_code=143), "failed", "killed by signal SIGTERM (FAILED)"),
        (job("FAILED", exit_code=0, signal=53), "failed", "or open its output there"),
        (job("FAILED", exit_code=1, reason="JobLaunchFailure"), "failed", "JobLaunchFailure"),
        (job("FAILED", exit_code=75), "lost", "requeued"),
        (job("TIMEOUT"), "lost", "Slurm's time limit was over (TIMEOUT)"),
        (job("DEADLINE"), "failed", "(DEADLINE)"),
        (job("OUT_OF_MEMORY"), "lost", "used more memory than Slurm gave it (OUT_OF_MEMORY)"),
        (job("CANCELLED", by="1000"), "failed", "somebody cancelled it in Slurm (CANCELLED by"),
        (job("REVOKED"), "failed", "(REVOKED)"),
        (job("NODE_FAIL"), "lost", "its node failed (NODE_FAIL)"),
        (job("BOOT_FAIL"), "lost", "(BOOT_FAIL)"),
        (job("PREEMPTED"), "lost", "(PREEMPTED)"),
        (job("A_NEW_ONE"), "failed", "it failed (A_NEW_ONE)"),
    ],
    ids=lambda value: value.state if isinstance(value, SlurmJob) else None,
)
def test_states(state, kind, words):
    found = verdict(state, claimed=False)
    assert found.kind == kind
    assert words in found.reason


def test_what_was_begun_and_waits_again_has_lost_its_turn():
    assert verdict(job("PENDING"), claimed=True).kind == "lost"
    assert verdict(job("RUNNING"), claimed=True).kind == "running"
    assert verdict(job("FAILED", exit_code=7), claimed=True).reason == "exit code 7 (FAILED)"


def test_who_was_killed_from_outside_goes_on_and_who_killed_himself_does_not():
    for signals, kind in [((9, 15, 2, 1), "lost"), ((11, 6), "failed")]:
        for number in signals:
            assert verdict(job("FAILED", signal=number), claimed=True).kind == kind
            assert verdict(job("FAILED", exit_code=128 + number), claimed=True).kind == kind
            assert verdict(job("FAILED", signal=number), claimed=False).kind == "failed"
    # The variable that was at work is to blame for these alone.
    blamed = {"TIMEOUT": "timeout", "OUT_OF_MEMORY": "memory", "NODE_FAIL": None, "PREEMPTED": None}
    assert {state: verdict(job(state), claimed=True).code for state in blamed} == blamed


def test_the_variable_at_work_is_told_even_if_its_runner_ended_a_moment_earlier(tmp_path):
    attempt = make_job(tmp_path)
    watcher, runner = (JournalWriter(attempt / file_name(n)) for n in (0, 1))
    watcher.write("runner", n=1)
    runner.write("plan", order=["first", "slow", "after"])
    for name in ("first", "slow"):
        runner.write("started", variable=name)
    runner.write("finished", variable="first", summary=None, data=None, fragment=None)
    watcher.write("died", n=1, reason="SIGTERM", code="signal", variable=None, retried="slow")
    watcher.write("runner", n=2)
    blame(attempt, "its time was over", "timeout")
    assert errors(attempt) == {"slow": "timeout: killed: its time was over"}
    blame(attempt, "its time was over", "timeout")
    assert len(entries(attempt, "died")) == 2
    for journal in (watcher, runner):
        journal.close()


def test_how_a_job_is_called_by_people():
    assert place(job("PENDING")) == "Slurm job 1_0"
    assert place(job("RUNNING", node="n1", partition="main")) == (
        "Slurm job 1_0 on n1, partition main"
    )


def partition(name, **more):
    return Partition(**{"name": name, "up": True, "default": False, "groups": None, **more})


@pytest.mark.parametrize(
    ("partitions", "chosen"),
    [
        ([partition("a"), partition("b", default=True)], "b"),
        ([partition("a", default=True), partition("upex")], "upex"),
        ([partition("upex"), partition("exfel", groups=["exfel"])], "exfel"),
        ([partition("upex", groups=["others"]), partition("b", default=True)], "b"),
        ([partition("upex", up=False), partition("b", default=True)], "b"),
        ([partition("b", default=True, groups=["others"]), partition("c", groups=["users"])], "c"),
        ([partition("b", hidden=True), partition("c")], "c"),
        ([partition("b", up=False)], None),
    ],
)
def test_the_partition_that_the_user_may_use(partitions, chosen):
    assert best(partitions, ["users", "exfel"]) == chosen


class Cluster:
    """Answers what is asked about places."""

    async def reservations(self):
        times = {"active": True, "start": "", "end": ""}
        return [
            Reservation(name="mine", partition="only", nodes="n1", **times),
            Reservation(name="elsewhere", partition=None, nodes="n1,gpu[08-10]", **times),
            Reservation(name="usual", partition=None, nodes="n1", **times),
            Reservation(name="shared", partition=None, nodes="gpu08", **times),
        ]

    async def partitions(self):
        names = {"only": {"default": True}, "gpus": {}, "old": {}, "closed": {"groups": ["staff"]}}
        return [partition(name, **more) for name, more in names.items()]

    async def nodes(self):
        gpus = {"partitions": ["closed", "gpus", "old"], "cpus": 16, "memory": 8000}
        return [
            Node(name="n1", partitions=["only"], cpus=8, memory=4000),
            *(Node(name=f"gpu{n:02d}", **gpus) for n in (8, 9, 10)),
        ]

    async def groups(self):
        return []


async def test_what_says_where_jobs_run():
    async def where(settings=None, **config):
        found = await partitions.place(
            SlurmConfig(**config), Settings(**(settings or {})), Cluster()
        )
        return found.partition, found.reservation, found.time_limit

    both = {"slurm_partition": "p", "slurm_reservation": "mine", "slurm_time": "2-00"}
    assert await where() == ("only", None, "1:00:00")
    assert await where({"slurm_partition": "p"}) == ("p", None, "1:00:00")
    assert await where(both) == (None, "mine", "2-00")
    assert await where(both, partition="q", time_limit="5:00:00") == ("q", None, "5:00:00")
    with pytest.raises(Refused, match="correct the configuration"):
        await where(both, reservation="gone")
    # Without a partition of its own a reservation is for jobs of the partition of its nodes.
    assert [
        (await where(reservation=name, partition=given))[0]
        for name, given in [
            *[("usual", None), ("usual", "old"), ("shared", None), ("shared", "old")],
            *[("elsewhere", "closed")],
        ]
    ] == [None, None, "gpus", "old", "gpus"]


def test_how_a_job_is_called_in_a_queue():
    assert called({"run": 7, "proposal": 1234}) == "r7-p1234-damnit"
    assert called({"run": 0, "proposal": 1234, "command": ""}) == "command-p1234-damnit"


def test_names_of_nodes_that_are_written_together():
    assert expanded("n[1-3,07],gpu2") == {"n1", "n2", "n3", "n07", "gpu2"}
    assert expanded("r[1-2]n[08-10]x") == {f"r{r}n{n}x" for r in (1, 2) for n in ("08", "09", "10")}
    assert expanded("") == set()


AWKWARD = [
    "a b",
    "it's",
    '"$(exit 1)`x`"',
    "new\nline\ttab\r",
    "ü\udcff",
    "-n",
    "%j\\",
    "!x #y",
    "",
]


def test_words_for_bash_mean_themselves(tmp_path):
    words = " ".join(map(quoted, AWKWARD))
    text = f"printf '%s\\0' {words}\n"
    (tmp_path / "script").write_bytes(text.encode(errors="surrogateescape"))
    out = subprocess.run(["bash", tmp_path / "script"], capture_output=True, check=True).stdout
    assert [os.fsdecode(word) for word in out.split(b"\0")[:-1]] == AWKWARD


def test_environment_for_bash(tmp_path):
    variables = {f"V{n}": word for n, word in enumerate(AWKWARD)}
    (tmp_path / "env").write_bytes(exports(variables).encode(errors="surrogateescape"))
    command = ["bash", "-c", f". {tmp_path}/env && env -0"]
    out = subprocess.run(command, capture_output=True, check=True).stdout
    set_ = dict(os.fsdecode(line).split("=", 1) for line in out.split(b"\0")[:-1])
    assert set_.items() >= variables.items()
    with pytest.raises(Refused, match="'a b' cannot be set in a job of Slurm"):
        exports({"a b": "1"})


def test_a_script_runs_the_attempt_of_its_place(tmp_path):
    folder = tmp_path / "it's$HOME"
    folder.mkdir()
    tasks = [Task(folder / f"{n} x", folder / "logs" / f"{n}.out", f"r{n}") for n in range(3)]
    text = script(tasks, library=folder, command=["printf", "%s|"], environment=None)
    (tmp_path / "script").write_text(text)
    for index in ("1", "7"):
        environment = {**os.environ, "SLURM_ARRAY_TASK_ID": index, "SLURM_ARRAY_JOB_ID": "12"}
        environment |= {"SLURMD_NODENAME": "n1", "SLURM_JOB_PARTITION": "main"}
        code = subprocess.run(["bash", tmp_path / "script"], env=environment).returncode
        assert code == (0 if index == "1" else 1)
    title, said = (folder / "logs/1.out").read_text().split("\n")
    assert HEADER.match(title.encode())[3] == folder.name.encode()
    assert title.endswith(", attempt 1 x: Slurm job 12_1 on n1, partition main")
    assert said == f"{folder}/1 x|"


def test_batches_on_disk(tmp_path):
    attempts = [make_job(tmp_path, name) for name in ("j1", "j2")]
    jobs = tmp_path / "jobs"
    batch = batches.make(jobs, [*attempts, jobs / "gone" / "1"], live=False)
    assert batch.attempts == ["j1/1", "j2/1"]
    assert batches.batch_of(attempts[1]) == batch.id
    batch.array, batch.asked = "12", True
    batch.save(jobs)
    assert batches.load(jobs, batch.id) == batch
    assert batch.place_of(attempts[1]) == 1
    old = jobs / ".batches" / "ffffffffffff.json"
    old.write_text("{}")
    os.utime(old, (0, 0))
    batches.sweep(jobs, time.time())
    assert [path.name for path in (jobs / ".batches").iterdir()] == [f"{batch.id}.json"]
    batch.remove(jobs)
    assert batches.load(jobs, batch.id) is None
    # Nothing else is looked for by what a damaged file says.
    (attempts[0] / batches.MARK).write_text(json.dumps({"batch": "../../etc/passwd"}))
    assert batches.batch_of(attempts[0]) is None


class Says:
    """A place whose programs say what they are told to."""

    def __init__(self, code, out="", err=""):
        self.output = Output(code, out, err)

    async def run(self, command, stdin=b""):
        return self.output

    async def close(self):
        pass


SUBMISSION = Submission(
    name="r1-p1-damnit",
    comment="runtable:0123456789ab",
    script="",
    array="0-0%1",
    after=(),
    chdir="/",
    output="/dev/null",
    error=None,
    partition=None,
    reservation=None,
    time_limit="1:00:00",
    config=SlurmConfig(),
)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Batch job submission failed: Invalid partition name specified", Refused),
        ("Batch job submission failed: Invalid job array specification", TooLong),
        (
            "Batch job submission failed: Job violates accounting/QOS policy (job submit limit, "
            "user's size and/or time limits)",
            Later,
        ),
        ("Batch job submission failed: Job dependency problem", Later),
        ("Unable to contact slurm controller (connect failure)", NoAnswer),
        ("Batch job submission failed: Socket timed out on send/recv operation", NoAnswer),
        ("Batch job submission failed: Zero Bytes were transmitted or received", NoAnswer),
    ],
)
async def test_what_sbatch_says(said, kind):
    with pytest.raises(kind, match="sbatch: error: ") as caught:
        await Commands(Says(1, err=f"sbatch: error: {said}\n")).submit(SUBMISSION)
    assert type(caught.value) is kind


async def test_a_reservation_is_told_whose_nodes_are_in_another_partition():
    wanted = replace(SUBMISSION, reservation="mine")
    said = await mended("Requested node configuration is not available", wanted, Cluster())
    assert said.endswith(
        "the 1 nodes of partition only have up to 8 cores and 4000M each; the nodes of reservation "
        "mine have to be among them, or it has to name their partition, which an administrator "
        "sees to: `scontrol update ReservationName=mine PartitionName=...`"
    )


async def test_a_login_may_greet_before_what_a_program_says():
    greeting = "Welcome to the cluster!\n12 users\n"
    assert await Commands(Says(0, f"{greeting}17;lab\n")).submit(SUBMISSION) == "17"
    assert await Commands(Says(0, f"{greeting}staff upex\n")).groups() == ["staff", "upex"]


async def test_only_jobs_of_ours_are_seen_in_a_list():
    lines = [
        "12|3|15|PENDING|main|n7|runtable:0123456789ab|Priority",
        "13|N/A|13|RUNNING|main||(null)|None",
        "16|N/A|16|CANCELLED|main||runtable:ffffffffffff|None",
        "14|0|14|RUNNING|main||a|runtable:x|None",
        "a line of something else",
    ]
    found, left = await Commands(Says(0, "\n".join(lines))).jobs()
    assert (left.batch, left.index) == ("ffffffffffff", WHOLE)
    assert found == SlurmJob(
        **{"batch": "0123456789ab", "array": "12", "index": 3, "number": "15"},
        **{"state": "PENDING", "reason": "Priority", "partition": "main", "node": "n7"},
    )
    with pytest.raises(NoAnswer, match="exit code 1 without a word"):
        await Commands(Says(1)).jobs()


async def test_the_record_of_another_job_with_the_same_number_is_not_ours():
    record = "JobId=15 ArrayJobId=12 ArrayTaskId=3 JobState=FAILED ExitCode=7:0 Comment=runtable:{}"
    other = Commands(Says(0, record.format("ffffffffffff")))
    assert await other.ended("0123456789ab", "12", 3, None, None) is None
    place_ = ("0123456789ab", "12", 3, "", None)
    ours = await Commands(Says(0, record.format("0123456789ab"))).ended(*place_)
    assert ours is not None
    assert (ours.state, ours.exit_code, ours.signal) == ("FAILED", 7, 0)


async def test_programs_on_this_machine(tmp_path):
    place_ = ThisMachine({**os.environ, "SLURM_JOB_ID": "7", "SLURM_CONF": "c"}, seconds=0.3)
    found = await place_.run(["sh", "-c", "cat; echo $SLURM_JOB_ID,$SLURM_CONF; exit 3"], b"in ")
    assert found == Output(3, "in ,c\n", "")
    with pytest.raises(NoAnswer, match=r"sh has not ended within 0\.3 s"):
        await place_.run(["sh", "-c", f"sleep 5; touch {tmp_path}/late"])
    # It may have done its work before.
    with pytest.raises(NoAnswer, match="sh was killed by signal 9"):
        await place_.run(["sh", "-c", "kill -9 $$"])
    with pytest.raises(Refused, match="no-such-program is not on PATH"):
        await place_.run(["no-such-program"])
    assert not list(Path(tmp_path).iterdir())
