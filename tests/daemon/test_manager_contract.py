"""What every manager does, wherever its jobs run: one life of each with all cases at once.

`pytest -rP` shows the table that docs/backends.md has.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from job_helpers import ended, entries, errors, make_job, times_started, values
from places import PLACES, Place
from slurm_helpers import until

from daemon.backends import Manager, Status

pytestmark = pytest.mark.system

MANY = 50
MEMORY = 200 << 20
CONTEXT = """
import os, time
from pathlib import Path
from damnit_ctx import Variable

DATABASE = Path(__file__).parent

def wait_for(path):
    while not path.exists():
        time.sleep(0.02)

@Variable
def number(run, n: "meta#run_number"):
    return n

@Variable
def raises(run):
    raise ValueError("no beam")

@Variable
def needs_it(run, x: "var#raises"):
    return 1

@Variable
def sleeps(run):
    time.sleep(1000)

@Variable
def greedy(run):
    return len(b"x" * (600 << 20))

@Variable
def waits(run, n: "meta#run_number"):
    wait_for(DATABASE / "go")
    return n

@Variable
def loud(run):
    for _ in range(300):
        print("x" * 1000)

@Variable
def awkward(run):
    return os.environ["AWKWARD"] + "|" + Path(__file__).parent.name
"""
LOADS_LONG = """
from damnit_ctx import Variable
import pathlib, time
jobs = pathlib.Path(__file__).parent / "jobs"
(jobs / "in-queue/loading").touch()
while not (jobs / "in-queue/go").exists():
    time.sleep(0.02)

@Variable
def number(run):
    return 1
"""
NAME = "a b'c\"d,e$HOME $(touch x)\n%j%%\\;é"
AWKWARD = 'it\'s "me", $HOME `id`\n%j\\ é|'


@dataclass
class Case:
    """A job of some variables, and what has to be true in the end; `tell` gives words for it."""

    attempt: Path
    tell: Callable[[Path], str]
    handle: str = ""


class Life:
    """All cases of one place, in one database folder with an awkward name."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.folder = place.folder
        (self.folder / "context.py").write_text(CONTEXT)
        self.told: dict[str, str] = {}

    def job(self, name: str, *variables: str, **request: Any) -> Path:
        """A job of some variables of the context file, with a log of its own."""
        log = str(self.folder / f"process_logs/{name} 'ü' $x %j.out")
        given = {"variables": ["number", *variables], "run": 7, "log": log, **request}
        return make_job(self.folder, name, **given)

    def cases(self) -> dict[str, Case]:
        """Those that only have to be submitted and waited for."""
        return {
            "success": Case(self.job("success"), succeeded),
            "failure of a variable": Case(self.job("fails", "raises", "needs_it"), failed),
            "timeout": Case(self.job("late", "sleeps", timeout=6), too_late),
            "memory": Case(self.job("greedy", "greedy", memory=MEMORY), too_much),
            "daemon restart meanwhile": Case(self.job("goes-on", "waits"), went_on),
            "cancel while running": Case(self.job("stopped", "sleeps"), stopped),
            "300 kB of output": Case(self.job("loud", "loud"), was_heard),
            "awkward names and paths": Case(self.job("awkward", "awkward"), was_awkward),
            "submitted twice": Case(self.job("twice", "waits"), ran_once),
        }

    async def live(self) -> None:
        """Everything, from the first submission to the last end."""
        (self.folder / "long.py").write_text(LOADS_LONG)
        path = self.folder / "long.py"
        queued = make_job(self.folder, "in-queue", context_path=path, variables=["number"])
        early = await self.place.cancel_in_queue(queued, "not wanted")
        try:
            async with self.place.working():
                await self._work(queued)
        finally:
            await early.close()

    async def _work(self, queued: Path) -> None:
        cases = self.cases()
        first = self.place.manager(env_vars={"AWKWARD": AWKWARD})
        for case in cases.values():
            case.handle = await first.submit(case.attempt)
        waiting = [cases[n] for n in ("daemon restart meanwhile", "cancel while running")]
        await until(lambda: all(times_started(case.attempt).total() == 2 for case in waiting))
        await first.close()
        # Whoever comes next has the handles alone.
        second = self.place.manager(env_vars={"AWKWARD": AWKWARD})
        try:
            await second.cancel(cases["cancel while running"].handle, "enough")
            again = await second.submit(cases["submitted twice"].attempt)
            (self.folder / "go").touch()
            began = time.monotonic()
            many = [self.job(f"m{n}", run=n) for n in range(MANY)]
            handles = await asyncio.gather(*(second.submit(attempt) for attempt in many))
            followed = [*(case.handle for case in cases.values()), again, *handles]
            answers = await ends(second, followed)
            await until(lambda: ended(queued))
            lost = {h: status for h, status in answers.items() if status.state == "lost"}
            assert lost == {}
        finally:
            await second.close()
        for name, case in cases.items():
            self.told[name] = case.tell(case.attempt)
        self.told["cancel while queued"] = never_began(queued)
        assert [values(attempt) for attempt in many] == [{"number": n} for n in range(MANY)]
        over = max(entries(attempt, "ended")[0].time for attempt in many)
        begun = min(entries(attempt, "claimed")[0].time for attempt in many)
        self.told[f"{MANY} jobs at once"] = f"{time.monotonic() - began:.1f} s, {over - begun:.1f}"


async def ends(manager: Manager, handles: Sequence[str]) -> dict[str, Status]:
    """Ask, for all with one query, until every attempt has ended or is lost."""
    async with asyncio.timeout(150):
        while True:
            answers = await manager.poll(handles)
            if all(status.state != "running" for status in answers.values()):
                return answers
            await asyncio.sleep(0.5)  # to look costs more than to wait


def succeeded(attempt: Path) -> str:
    assert values(attempt) == {"number": 7}
    assert errors(attempt) == {}
    return status_of(attempt, "finished")


def failed(attempt: Path) -> str:
    assert values(attempt) == {"number": 7}
    assert errors(attempt)["raises"] == "ValueError: no beam"
    assert times_started(attempt)["needs_it"] == 0
    status_of(attempt, "finished")
    return errors(attempt)["raises"]


def too_late(attempt: Path) -> str:
    assert values(attempt) == {"number": 7}
    status_of(attempt, "failed")
    assert errors(attempt) == {"sleeps": "timeout: killed: the job took longer than 6 s"}
    took = entries(attempt, "ended")[0].time - entries(attempt, "claimed")[0].time
    assert 5.5 <= took < 30
    return errors(attempt)["sleeps"]


def too_much(attempt: Path) -> str:
    assert values(attempt) == {"number": 7}
    assert list(errors(attempt)) == ["greedy"]
    words = errors(attempt)["greedy"]
    assert words.endswith("used more than 200 MB")
    return words


def went_on(attempt: Path) -> str:
    assert values(attempt) == {"number": 7, "waits": 7}
    assert times_started(attempt) == {"number": 1, "waits": 1}
    return status_of(attempt, "finished")


def stopped(attempt: Path) -> str:
    assert values(attempt) == {"number": 7}
    assert ended(attempt) == {"status": "stopped", "reason": "enough"}
    return "stopped: enough"


def was_heard(attempt: Path) -> str:
    (log,) = (attempt.parents[2] / "process_logs").glob("loud*")
    assert log.read_text().count("x" * 1000) == 300
    return status_of(attempt, "finished")


def was_awkward(attempt: Path) -> str:
    assert values(attempt)["awkward"] == f"{AWKWARD}|{NAME}"
    assert not list(attempt.parents[2].parent.glob("**/x"))
    return status_of(attempt, "finished")


def ran_once(attempt: Path) -> str:
    assert times_started(attempt) == {"number": 1, "waits": 1}
    assert len(entries(attempt, "ended")) == 1
    return status_of(attempt, "finished")


def never_began(attempt: Path) -> str:
    assert ended(attempt) == {"status": "stopped", "reason": "not wanted"}
    assert times_started(attempt).total() == 0
    return "stopped: not wanted"


def status_of(attempt: Path, wanted: str) -> str:
    """How the attempt ended, which has to be as `wanted`."""
    end = ended(attempt)
    assert end is not None
    assert end["status"] == wanted, end
    return wanted


@pytest.mark.parametrize("name", PLACES)
async def test_the_contract(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = tmp_path / NAME
    folder.mkdir()
    life = Life(PLACES[name](folder, request))
    await life.live()
    for case, words in life.told.items():
        print(f"{name} | {case} | {words}")
    assert len(life.told) == 11
