"""Kills before single writes, spread over all of them; `make kills` tries every one."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import killer
import pytest
import tracing
from kill_ground import VICTIMS, Ground
from killpoints import count_points, make_template, spread, summary, try_all

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(bool(tracing.possible()), reason=tracing.possible() or "-"),
]

TRIES = {
    "daemon": 12,
    "starting daemon": 10,
    "fork server": 5,
    "runner": 9,
    "combiner": 7,
    "combiner, second job": 4,
    "reprocess": 6,
    "whole machine": 9,
}
"""How many of each victim's kills are tried here."""


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Ground]]:
    root = tmp_path_factory.mktemp("killpoints")
    template = make_template(root / "template")
    grounds = [Ground(root / f"{n}", template) for n in range(2)]
    yield grounds
    try:
        costs = [ground.close() for ground in grounds]
    finally:
        for ground in grounds:
            ground.abandon()
    assert not any(costs), [line for cost in costs for line in cost.lines()]


@pytest.mark.parametrize("victim", list(VICTIMS))
def test_nothing_is_lost_or_done_twice(grounds: list[Ground], victim: str) -> None:
    points = spread(count_points(grounds[0], victim), TRIES[victim])
    outcomes = try_all(points, grounds, lambda outcome: None)
    bad = [f"{o.point}: {line}" for o in outcomes for line in o.cost.lines()]
    assert not bad, "\n".join(bad)
    # The last writes are not always as many, so that a late moment may not come.
    assert sum(outcome.fired for outcome in outcomes) > len(points) / 2, summary(outcomes)


BUSY = """
import os, subprocess, sys, threading

def write():
    for _ in range(5):
        with open("amore.log", "a") as file:
            file.write("x")

threads = [threading.Thread(target=write) for _ in range(int(sys.argv[1]))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
subprocess.run([sys.executable, "-c", "open('control.json', 'w').write('x')"], check=True)
os.rename("control.json", "control.old")
os.unlink("control.old")
os.mkdir("jobs")
"""


def busy(tmp_path: Path, threads: int) -> list[str]:
    """A command that writes, in its working directory."""
    program = tmp_path / "busy.py"
    program.write_text(BUSY)
    return [sys.executable, str(program), str(threads)]


def test_the_count_is_that_of_strace(tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt-get install strace")
    seen = []
    for way in ("ours", "strace"):
        folder = tmp_path / way
        folder.mkdir()
        if way == "ours":
            command = [sys.executable, killer.__file__, str(folder), str(tmp_path)]
        else:
            calls = ",".join(tracing.CALLS)
            command = [
                "strace",
                "-f",
                "-y",
                "-o",
                str(tmp_path / "strace.log"),
                "-e",
                f"trace={calls}",
            ]
        subprocess.run([*command, *busy(tmp_path, 3)], cwd=folder, check=True, timeout=60)
        log = (tmp_path / ("log" if way == "ours" else "strace.log")).read_text()
        if way == "ours":
            names = re.findall(r'"call": "(\w+)"', log)
        else:
            files = r"amore\.log|control\.json|control\.old|\"jobs"
            lines = [line for line in log.splitlines() if re.search(files, line)]
            made = [line for line in lines if " open" not in line or "O_CREAT" in line]
            names = [found[1] for line in made if (found := re.match(r"\d+ +(\w+)\(", line))]
        seen.append(sorted(names))
    assert seen[0] == seen[1]
    assert len(seen[0]) == 35


def test_the_kill_comes_before_the_write_in_question(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    killer.Order(1, role="", kind="log", n=8).give(tmp_path)
    command = [sys.executable, killer.__file__, str(folder), str(tmp_path), *busy(tmp_path, 1)]
    ended = subprocess.run(command, cwd=folder, timeout=60, check=False)
    assert ended.returncode == 256 - 9
    log = (tmp_path / "log").read_text()
    assert re.findall(r'"call": "(\w+)"', log) == ["openat", "write"] * 4
    assert (folder / "amore.log").read_text() == "xxx"
