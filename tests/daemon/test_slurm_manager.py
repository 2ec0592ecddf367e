"""The manager for Slurm with a real cluster."""


from job_helpers import ended, make_job, values
from slurm_helpers import slurm_bench

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


async def test_a_job_runs_and_its_results_are_there(slurm_cluster, tmp_path):
    greeting = 'it\'s "me" $HOME\n`x` é'
    (attempt,) = make_jobs(tmp_path, 1)
    async with slurm_bench(tmp_path, slurm_cluster, env_vars={"GREETING": greeting}) as bench:
        (handle,) = await bench.submit([attempt])
        assert handle == "j1/1"
        await bench.until([handle], lambda status: status.reason != "" or status.state == "ended")
        answers = await bench.end([handle])
        ((_, index, _, name, comment, partition, _),) = [
            job
            for job in bench.queue("%F|%K|%T|%j|%k|%P|%r", "--states=all")
            if job[4].startswith("runtable:")
        ][-1:]
    assert answers == {handle: answers[handle]}
    assert (answers[handle].state, answers[handle].reason) == ("ended", "")
    assert ended(attempt)["status"] == "finished"
    assert values(attempt) == {"number": 3, "greeting": greeting}
    assert (index, name, partition) == ("0", "r1-p1234-damnit", "main")
    assert comment.startswith("runtable:")
    assert "said by the variable" in (tmp_path / "process_logs/r1-p1234.out").read_text()
    # Nothing is kept of a batch that is done.
    assert list((tmp_path / "jobs/.batches").iterdir()) == []
