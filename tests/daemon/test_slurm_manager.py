"""The manager for Slurm with a real cluster."""

import asyncio
import itertools
import json
import os
import re
import signal
import time

import pytest
from job_helpers import ended, entries, errors, make_job, times_started, values
from slurm_cluster import serve_cluster
from slurm_helpers import slurm_bench, until

from daemon.backends.configurations.slurm_rest import SlurmRestConfig
from daemon.backends.configurations.slurm_ssh import SlurmSshConfig
from daemon.backends.slurm import batches
from daemon.backends.slurm.commands import Commands
from daemon.backends.slurm.judge import CANCELLED_EARLY
from daemon.backends.slurm.scheduler import NoAnswer
from daemon.backends.slurm.transport import Output, ThisMachine

HEAD = """
import os, sys, time
from pathlib import Path
from damnit_ctx import Variable
"""
NUMBER = (
    HEAD
    + """
@Variable
def number(run):
    print("said by the variable")
    return 3

@Variable
def greeting(run, x: "var#number"):
    return os.environ.get("GREETING", "none")

@Variable
def where(run):
    return os.getcwd()
"""
)
SLOW = (
    HEAD
    + """
@Variable
def first(run):
    return 1

@Variable
def slow(run, x: "var#first"):
    time.sleep(100)

@Variable
def after(run, x: "var#slow"):
    return 2
"""
)


BUSY = (
    HEAD
    + """
@Variable
def busy(run, number: "meta#run_number"):
    time.sleep(0.3)
    return number
"""
)


def make_jobs(folder, number, context=NUMBER, **request):
    folder.mkdir(exist_ok=True)
    return [
        make_job(
            folder,
            f"j{n}",
            context=context,
            **{"run": n, "log": str(folder / f"process_logs/r{n}-p1234.out"), **request},
        )
        for n in range(1, number + 1)
    ]


WAYS = {"ssh_server": SlurmSshConfig, "slurmrestd": SlurmRestConfig, "later_rest": SlurmRestConfig}


@pytest.fixture(params=["here", *WAYS])
def way(request):
    """The options of a bench for one way to the cluster: on this machine, over SSH, over HTTP."""
    if request.param == "here":
        return {}
    return {"kind": WAYS[request.param], **request.getfixturevalue(request.param).options}


async def test_a_job_runs_and_its_results_are_there(slurm_cluster, tmp_path, way):
    greeting = 'it\'s "me" $HOME\n`x` é'
    (attempt,) = make_jobs(tmp_path, 1, working_dir="/usr")
    seen_there = tmp_path / "seen there"
    seen_there.symlink_to(tmp_path)
    options = {"env_vars": {"GREETING": greeting}, "working_dir": "/usr", **way}
    options["database_path"] = str(seen_there)
    async with slurm_bench(tmp_path, slurm_cluster, **options) as bench:
        (handle,) = await bench.submit([attempt])
        assert handle == "j1/1"
        await bench.until([handle], lambda status: status.reason != "" or status.state == "ended")
        answers = await bench.end([handle])
        await bench.tidied()
        ((_, index, _, name, comment, partition, _),) = [
            job
            for job in bench.queue("%F|%K|%T|%j|%k|%P|%r", "--states=all")
            if job[4].startswith("runtable:")
        ][-1:]
    assert answers == {handle: answers[handle]}
    assert (answers[handle].state, answers[handle].reason) == ("ended", "")
    assert ended(attempt)["status"] == "finished"
    assert values(attempt) == {"number": 3, "greeting": greeting, "where": "/usr"}
    assert (index, name, partition) == ("0", "r1-p1234-damnit", "main")
    assert comment.startswith("runtable:")
    log = (tmp_path / "process_logs/r1-p1234.out").read_text()
    assert "said by the variable" in log
    (claimed,) = entries(attempt, "claimed")
    assert re.fullmatch(r"Slurm job \d+_0 on n\d, partition main", claimed.fields["place"])
    assert f"job j1, attempt 1: {claimed.fields['place']}\n" in log


def number_of(bench, attempt):
    """Slurm's name for the job of an attempt, as 12_0."""
    batch = json.loads((attempt / "slurm.json").read_text())["batch"]
    found = [job for job in bench.queue("%F|%K|%k") if job[2] == f"runtable:{batch}"]
    attempts = json.loads((bench.folder / f"jobs/.batches/{batch}.json").read_text())["attempts"]
    index = attempts.index(f"{attempt.parent.name}/{attempt.name}")
    (array,) = {job[0] for job in found if job[1] == str(index)}
    return f"{array}_{index}"


async def begin(bench, attempts, context_variable="slow"):
    """Submit attempts and wait until all of them are at their slow variable."""
    handles = await bench.submit(attempts)
    await bench.until(handles, lambda _: all(times_started(a)[context_variable] for a in attempts))
    return handles


def ours(bench, attempts):
    """The jobs in Slurm's list of attempts that are in batches."""
    marks = [attempt / "slurm.json" for attempt in attempts]
    comments = {f"runtable:{json.loads(m.read_text())['batch']}" for m in marks if m.exists()}
    return [job for job in bench.queue() if job[4] in comments]


@pytest.fixture
def own_cluster():
    """A cluster whose controller may be killed."""
    with serve_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module", autouse=True)
def running_out_of_time(slurm_cluster, tmp_path_factory):
    """A job that Slurm ends for its time while the other tests run: it looks twice a minute."""
    folder = tmp_path_factory.mktemp("late")
    (attempt,) = make_jobs(folder, 1, SLOW)

    async def start():
        async with slurm_bench(folder, slurm_cluster) as bench:
            await begin(bench, [attempt])
            slurm_cluster.run(
                "scontrol", "update", f"JobId={number_of(bench, attempt)}", "EndTime=now+1"
            )

    asyncio.run(start())
    return folder


@pytest.mark.parametrize("way", ["here", "later_rest"], indirect=True)
async def test_how_slurm_ends_a_job_is_said_in_words(slurm_cluster, tmp_path, way):
    names = ["cancelled", "killed", "requeued", "failed"]
    attempts = dict(zip(names, make_jobs(tmp_path, 4, SLOW), strict=True))
    run = slurm_cluster.run
    async with slurm_bench(tmp_path, slurm_cluster, explicit_node="n1", **way) as bench:
        handles = dict(zip(names, await begin(bench, list(attempts.values())), strict=True))
        ids = {name: number_of(bench, attempt) for name, attempt in attempts.items()}
        run("scancel", ids["cancelled"])
        run("scontrol", "update", f"JobId={ids['requeued']}", "Requeue=1")
        run("scontrol", "requeue", ids["requeued"])
        for name, number in {"killed": signal.SIGKILL, "failed": signal.SIGTERM}.items():
            (alone,) = entries(attempts[name], "claimed")
            os.kill(alone.fields["pid"], number)
        answers = await bench.end(list(handles.values()))
        # What was put back is cancelled there, as it goes on as a new attempt.
        await until(lambda: not [job for job in bench.queue("%F_%K") if job[0] in ids.values()])
    found = {name: answers[handle] for name, handle in handles.items()}
    words = "somebody cancelled it in Slurm (CANCELLED)"
    assert ended(attempts["cancelled"]) == {"status": "failed", "reason": words}
    assert errors(attempts["cancelled"]) == {
        "slow": f"signal: killed: {words}",
        "after": f"Killed: not run: {words}",
    }
    # Another attempt goes on with these; nothing is to blame for that.
    lost = {
        "killed": "killed by signal SIGKILL (FAILED)",
        "failed": "killed by signal SIGTERM (FAILED)",
        "requeued": "Slurm has put it back into its queue (requeued)",
    }
    for name, reason in lost.items():
        assert (found[name].state, found[name].reason) == ("lost", reason)
        assert (ended(attempts[name]), errors(attempts[name])) == (None, {})
    assert [values(attempt) for attempt in attempts.values()] == [{"first": 1}] * 4


@pytest.mark.parametrize("way", ["here", "slurmrestd"], indirect=True)
async def test_who_is_cancelled_while_he_waits_in_slurm_does_not_come_back(
    slurm_cluster, tmp_path, way
):
    (alone,) = make_jobs(tmp_path / "alone", 1)
    pair = make_jobs(tmp_path / "pair", 2)
    closed = {"partition": "closed", **way}
    async with (
        slurm_bench(tmp_path / "alone", slurm_cluster, **closed) as one,
        slurm_bench(tmp_path / "pair", slurm_cluster, **closed) as two,
    ):
        (single,), (first, second) = await one.submit([alone]), await two.submit(pair)
        down = "waits in Slurm: its partition is down (PartitionDown)"
        await one.until([single], lambda status: status.reason == down)
        await two.until([first, second], lambda status: status.reason == down)
        slurm_cluster.run("scancel", number_of(one, alone), number_of(two, pair[0]))
        answers = {**await two.end([first]), **await one.end([single])}
        assert {status.reason for status in answers.values()} == {CANCELLED_EARLY}
        assert (await two.manager.poll([second]))[second].reason == down
        await two.manager.cancel(second, "enough")
        await two.end([second])
    assert [ended(a)["status"] for a in (alone, *pair)] == ["failed", "failed", "stopped"]


async def test_a_job_uses_more_memory_than_it_may(slurm_cluster, tmp_path):
    greedy = (
        HEAD
        + """
@Variable
def first(run):
    return 1

@Variable
def greedy(run, x: "var#first"):
    return len(bytearray(600 << 20))

@Variable
def other(run, x: "var#first"):
    return 2
"""
    )
    (attempt,) = make_jobs(tmp_path, 1, greedy, memory=None)
    async with slurm_bench(tmp_path, slurm_cluster, memory="200M") as bench:
        (handle,) = await bench.submit([attempt])
        await bench.end([handle])
    assert values(attempt)["other"] == 2
    if slurm_cluster.limits_memory:
        assert values(attempt) == {"first": 1, "other": 2}
        assert errors(attempt) == {"greedy": "memory: killed: used more than 200 MB"}


async def test_what_has_lost_its_place_can_be_tried_again(slurm_cluster, tmp_path):
    run = slurm_cluster.run
    (on_n2,) = make_jobs(tmp_path / "a", 1, SLOW)
    (low,) = make_jobs(tmp_path / "b", 1, SLOW)
    (high,) = make_jobs(tmp_path / "c", 1, NUMBER)
    async with (
        slurm_bench(tmp_path / "a", slurm_cluster, explicit_node="n2") as node,
        slurm_bench(tmp_path / "b", slurm_cluster, partition="low", cpus_per_task=16) as weak,
        slurm_bench(tmp_path / "c", slurm_cluster, partition="high", cpus_per_task=16) as strong,
    ):
        (first,) = await begin(node, [on_n2])
        (second,) = await begin(weak, [low])
        (third,) = await strong.submit([high])
        slurm_cluster.kill_node("n2")
        run("scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=test")
        try:
            failed = (await node.end([first]))[first]
        finally:
            slurm_cluster.start_node("n2")
            # Refused when it has come back by itself already.
            run("scontrol", "update", "NodeName=n2", "State=RESUME", check=False)
        preempted = (await weak.end([second]))[second]
        assert (await strong.end([third]))[third].state == "ended"
    assert (failed.state, failed.reason) == ("lost", "its node failed (NODE_FAIL)")
    assert (preempted.state, preempted.reason) == (
        "lost",
        "it had to make room for another job (PREEMPTED)",
    )
    # Whoever is still at it, cut off, learns that it is over.
    assert (on_n2 / "stop").read_text() == failed.reason
    assert values(high)["number"] == 3


@pytest.mark.parametrize("way", ["here", "slurmrestd", "later_rest"], indirect=True)
async def test_what_slurm_does_not_take_is_refused_in_words(slurm_cluster, tmp_path, way):
    asked = {
        "reservation": (
            {"settings": {"slurm_reservation": "upex_000001", "slurm_partition": "main"}},
            "Slurm has no reservation upex_000001: it has expired, or is called otherwise (there "
            "are: none); `runtable db-config slurm_reservation --delete` takes it away",
        ),
        "partition": (
            {"partition": "nowhere"},
            "nowhere was asked for, and you may use main, low, high; correct the partition, or",
        ),
        "memory": (
            {"memory": "900G"},
            "Requested node configuration is not available: asked for a node, memory 900G; the ",
        ),
        "node": ({"explicit_node": "n77"}, "correct explicit_node (n77)"),
    }
    for name, (options, words) in asked.items():
        (attempt,) = make_jobs(tmp_path / name, 1)
        async with slurm_bench(tmp_path / name, slurm_cluster, **options, **way) as bench:
            (handle,) = await bench.submit([attempt])
            status = (await bench.end([handle]))[handle]
        assert status.reason.startswith("Slurm did not take it: ")
        assert words in status.reason
        assert ended(attempt) == {"status": "failed", "reason": status.reason}
        assert not times_started(attempt)


@pytest.mark.parametrize("named", [["PartitionName=high"], []])
async def test_a_reservation_wins_over_the_partition(slurm_cluster, tmp_path, named):
    run = slurm_cluster.run
    run(
        *("scontrol", "create", "reservation", "ReservationName=upex_001234", "StartTime=now"),
        *("Duration=10", "Users=root", "Nodes=n3", *named),
    )
    try:
        (attempt,) = make_jobs(tmp_path, 1)
        settings = {"slurm_reservation": "upex_001234", "slurm_partition": "closed"}
        settings["slurm_time"] = "00:07:00"
        async with slurm_bench(tmp_path, slurm_cluster, settings=settings) as bench:
            (handle,) = await bench.submit([attempt])
            await bench.end([handle])
            await until(lambda: not bench.queue("%i", "--reservation=upex_001234"))
            used = bench.queue("%v|%N|%l|%j|%k", "--states=all", "--reservation=upex_001234")
    finally:
        run("scontrol", "delete", "ReservationName=upex_001234")
    assert [job[:3] for job in used] == [["upex_001234", "n3", "7:00"]]
    assert values(attempt)["number"] == 3


async def test_many_jobs_keep_to_the_limit_in_chained_arrays(slurm_cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "MOST", 5)
    attempts = make_jobs(tmp_path, 12, BUSY)
    async with slurm_bench(tmp_path, slurm_cluster, concurrent_jobs=4) as bench:
        handles = await bench.submit(attempts)
        chained = lambda: {job[3] for job in ours(bench, attempts) if "Depend" in job[6]}  # noqa: E731
        await until(chained)
        # One has its own name once it runs, the others that of their array.
        assert chained() == {"r6-r10-p1234-damnit"}
        await bench.end(handles, timeout=60)
    assert [values(attempt) for attempt in attempts] == [{"busy": n} for n in range(1, 13)]
    begun = [(entry.time, 1) for a in attempts for entry in entries(a, "claimed")]
    over = [(entry.time, -1) for a in attempts for entry in entries(a, "ended")]
    counts = itertools.accumulate(change for _, change in sorted(begun + over))
    assert 2 <= max(counts) <= 4


async def test_a_new_daemon_goes_on_with_handles_alone(slurm_cluster, tmp_path):
    slow, short = tmp_path / "slow", tmp_path / "short"
    context = HEAD + "@Variable\ndef slow(run):\n    time.sleep(1.5)\n    return run\n"
    attempts = make_jobs(slow, 2, context.replace("return run", "return 1"))
    more = make_jobs(short, 2)
    async with slurm_bench(slow, slurm_cluster, concurrent_jobs=1) as bench:
        handles = await bench.submit(attempts)
        await bench.until(handles, lambda _: any(times_started(a) for a in attempts))
    async with slurm_bench(short, slurm_cluster) as bench:
        # Taken, and not submitted yet.
        left = await bench.submit(more)
    assert not (more[0] / "slurm.json").exists()
    async with (
        slurm_bench(slow, slurm_cluster, concurrent_jobs=1) as bench,
        slurm_bench(short, slurm_cluster) as other,
    ):
        await other.end(left)
        await bench.end(handles)
        await bench.tidied()
        await other.tidied()
    assert [times_started(a) for a in attempts] == [{"slow": 1}] * 2
    assert [values(a)["number"] for a in more] == [3, 3]


async def test_an_end_is_asked_for(slurm_cluster, tmp_path):
    run = slurm_cluster.run
    attempts = make_jobs(tmp_path, 4, SLOW)
    async with slurm_bench(tmp_path, slurm_cluster, concurrent_jobs=2) as bench:
        handles = await bench.submit(attempts)
        started = lambda: [a for a in attempts if times_started(a)["slow"]]  # noqa: E731
        await bench.until(handles, lambda _: len(started()) == 2)
        running, hanging = started()
        queued, unseen = (a for a in attempts if a not in started())
        names = {a: f"{a.parent.name}/1" for a in attempts}
        # One that hears nothing any more is ended by Slurm.
        (claimed,) = entries(hanging, "claimed")
        os.kill(claimed.fields["pid"], signal.SIGSTOP)
        await bench.manager.cancel(names[queued], "not wanted")
        for attempt in (unseen, running, hanging):
            await bench.manager.cancel(names[attempt], "no beam")
        answers = await bench.end(handles)
        await until(lambda: not ours(bench, attempts))
    assert {status.state for status in answers.values()} == {"ended"}
    assert ended(queued) == {"status": "stopped", "reason": "not wanted"}
    for attempt in (unseen, running, hanging):
        assert (ended(attempt)["status"], ended(attempt)["reason"]) == ("stopped", "no beam")
    assert values(running) == values(hanging) == {"first": 1}
    assert not times_started(queued)
    assert not times_started(unseen)
    assert run("squeue", "--noheader", "--states=running", f"--name={queued}") == ""


class Deaf:
    """A place whose programs do what they are told, and whose answers are lost when `deaf` is."""

    def __init__(self, place, *programs):
        self.place = place
        self.deaf = set(programs)
        self.asked = []

    async def run(self, command, stdin=b""):
        done = await self.place.run(command, stdin)
        self.asked.append(command[0])
        if command[0] in self.deaf:
            raise NoAnswer(f"{command[0]} has not ended within 5 s")
        return done

    async def close(self):
        await self.place.close()


async def test_what_slurm_took_without_an_answer_is_not_submitted_again(slurm_cluster, tmp_path):
    attempts = make_jobs(tmp_path, 2)
    place = Deaf(ThisMachine(slurm_cluster.environment), "sbatch")
    async with slurm_bench(tmp_path, slurm_cluster, scheduler=Commands(place)) as bench:
        handles = await bench.submit(attempts)
        await bench.end(handles)
    assert place.asked.count("sbatch") == 1
    assert [values(a)["number"] for a in attempts] == [3, 3]


async def test_a_batch_submitted_twice_runs_once(slurm_cluster, tmp_path):
    (attempt,) = make_jobs(tmp_path, 1, BUSY)
    scheduler = Commands(ThisMachine(slurm_cluster.environment))
    numbers = []

    async def twice(submission, submit=scheduler.submit):
        numbers.extend([await submit(submission), await submit(submission)])
        return numbers[0]

    scheduler.submit = twice
    async with slurm_bench(tmp_path, slurm_cluster, scheduler=scheduler) as bench:
        handles = await bench.submit([attempt])
        assert (await bench.end(handles))["j1/1"].state == "ended"
        await until(lambda: not {job[0] for job in bench.queue()} & set(numbers))
    assert times_started(attempt) == {"busy": 1}
    assert ended(attempt)["status"] == "finished"


async def test_how_a_job_ended_is_on_record(slurm_cluster):
    """Also when the controller has forgotten it: this cluster has a file of its jobs."""
    run = slurm_cluster.run
    comment = "--comment=runtable:0123456789ab"
    number = run(
        "sbatch", "--parsable", "--array=0-1", comment, "--output=/dev/null", "--wrap=exit 7"
    )
    scheduler = Commands(ThisMachine(slurm_cluster.environment))

    async def listed():
        return [job for job in await scheduler.jobs() if job.array == number]

    await until(lambda: not run("squeue", "--noheader", f"--jobs={number}", check=False))
    (first,) = [job for job in await listed() if job.index == 0]
    place = ("0123456789ab", number, 0, first.number, time.time())
    remembered = await scheduler.ended(*place)
    deaf = Forgetful(slurm_cluster.environment)
    recorded = await Commands(deaf).ended(*place)
    for found in (remembered, recorded):
        assert found is not None
        assert (found.state, found.exit_code, found.signal) == ("FAILED", 7, 0)
    assert await Commands(deaf).ended("0123456789ab", "9999", 0, "9999", time.time()) is None
    # Another one had this number before, or has it since.
    for begun in (time.time() - 60, None):
        assert await Commands(deaf).ended(*place[:4], begun) is None


class Forgetful(ThisMachine):
    """A machine whose scontrol knows no job any more."""

    async def run(self, command, stdin=b""):
        if command[0] == "scontrol":
            return Output(1, "", "slurm_load_jobs error: Invalid job id specified")
        return await super().run(command, stdin)


async def test_the_controller_is_away(tmp_path, own_cluster):
    cluster = own_cluster
    before, meanwhile = tmp_path / "before", tmp_path / "meanwhile"
    (first,) = make_jobs(before, 1, BUSY.replace("0.3", "2"))
    (second,) = make_jobs(meanwhile, 1)
    places = [Commands(ThisMachine(cluster.environment, seconds=1)) for _ in range(2)]
    async with (
        slurm_bench(before, cluster, scheduler=places[0]) as bench,
        slurm_bench(meanwhile, cluster, scheduler=places[1]) as other,
    ):
        handles = await begin(bench, [first], "busy")
        cluster.kill_controller()
        waiting = await other.submit([second])
        answers = await bench.until(handles, lambda status: "does not answer" in status.reason)
        assert answers["j1/1"].state == "running"
        await other.until(waiting, lambda status: status.reason != "" and bool(other.log))
        # What ends meanwhile is known from its journal.
        assert (await bench.end(handles))["j1/1"].reason == ""
        cluster.start_controller()
        await asyncio.to_thread(cluster.greet_controller)
        assert (await other.end(waiting))["j1/1"].reason == ""
    assert values(first) == {"busy": 1}
    assert values(second)["number"] == 3
    assert any("does not answer" in line for line in bench.log)
    assert any("Slurm: " in line for line in other.log)


async def test_a_job_that_slurm_has_forgotten_and_whose_number_another_one_has(
    tmp_path, own_cluster
):
    cluster = own_cluster
    (forgotten,) = make_jobs(tmp_path / "a", 1, SLOW)
    (waiting,) = make_jobs(tmp_path / "b", 1, SLOW)
    async with (
        slurm_bench(tmp_path / "a", cluster) as bench,
        slurm_bench(tmp_path / "b", cluster) as other,
    ):
        handles = await begin(bench, [forgotten])
        number = number_of(bench, forgotten)
        cluster.kill_controller()
        cluster.forget_everything()
        cluster.start_controller("-c")
        await asyncio.to_thread(cluster.greet_controller)
        others = await begin(other, [waiting])
        assert number_of(other, waiting) == number
        answers = await bench.end(handles)
        await bench.manager.fence(handles[0], "it is gone")
        assert (await other.manager.poll(others))["j1/1"].state == "running"
        await other.manager.cancel(others[0], "enough")
        await other.end(others)
    assert answers["j1/1"].reason.startswith("vanished: Slurm knows nothing of its job ")
    assert ended(forgotten)["status"] == "failed"
    assert errors(forgotten)["slow"].startswith("signal: killed: vanished")


async def test_time_is_over(running_out_of_time, slurm_cluster):
    folder = running_out_of_time
    attempt = folder / "jobs/j1/1"
    async with slurm_bench(folder, slurm_cluster) as bench:
        (lost,) = (await bench.end(["j1/1"], timeout=45)).values()
        # It costs what was running alone: another attempt goes on with the rest.
        again = folder / "jobs/j1/2"
        (again / "fragments").mkdir(parents=True)
        await bench.end(await bench.submit([again]))
    words = "killed: Slurm's time limit was over (TIMEOUT)"
    assert (lost.state, lost.reason) == ("lost", words.removeprefix("killed: "))
    assert (values(attempt), errors(attempt)) == ({"first": 1}, {"slow": f"timeout: {words}"})
    needs = f"Skip: needs 'slow', which failed: Timeout: {words}"
    assert (times_started(again), errors(again)) == ({}, {"after": needs})
