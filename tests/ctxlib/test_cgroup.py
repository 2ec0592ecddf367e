"""Control groups: those of this machine where it lets us, and version 2 laid out in a folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import wait_until

from ctxlib import cgroup
from ctxlib.cgroup import MemoryGroup

MB = 1 << 20
ATTEMPT = Path("/data/jobs/j1/1")


@pytest.fixture
def group(tmp_path):
    made = MemoryGroup.make(tmp_path / "jobs" / "j1" / "1", 100 * MB)
    if made is None:
        pytest.skip("control groups may not be made here: run it as root of a container of its own")
    yield made
    wait_until(lambda: not made.pids())
    made.remove()
    assert not made.path.exists()


def run_in(attempt_dir, program):
    code = f"""
import os, sys
from pathlib import Path
from ctxlib import cgroup
cgroup.of_attempt(Path({str(attempt_dir)!r}), os.getppid()).enter()
{program}
"""
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def test_what_its_processes_hold_is_counted_wherever_they_go(group, tmp_path):
    program = """
x = b"x" * (40 << 20)
if os.fork() == 0:
    os.setsid()
    y = b"y" * (40 << 20)
os.write(1, b"r")
sys.stdin.read()
"""
    with run_in(tmp_path / "jobs" / "j1" / "1", program) as process:
        assert process.stdout.read(1) + process.stdout.read(1) == b"rr"
        assert len(group.pids()) == 2
        assert process.pid in group.pids()
        assert 80 * MB < group.used() < 100 * MB
        assert group.kills() == 0
        group.remove()
        assert group.path.exists()
        process.communicate()


def test_cached_files_are_not_counted(group, tmp_path):
    program = """
with open("big", "wb") as file:
    for _ in range(150): file.write(bytes(1 << 20))
os.write(1, b"r")
sys.stdin.read()
""".replace('"big"', repr(str(tmp_path / "big")))
    with run_in(tmp_path / "jobs" / "j1" / "1", program) as process:
        assert process.stdout.read(1) == b"r"
        assert group.used() < 50 * MB
        process.communicate()


def test_the_kernel_stops_what_fills_it(group, tmp_path):
    with run_in(tmp_path / "jobs" / "j1" / "1", 'b"x" * (200 << 20)') as process:
        process.communicate()
    assert process.returncode == -9
    assert group.kills() == 1


def test_groups_that_were_left_behind_are_swept_up(group, tmp_path):
    program = "from ctxlib.cgroup import MemoryGroup, Path\n"
    program += f"print(MemoryGroup.make(Path({str(tmp_path)!r}), None).path)"
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    left = Path(done.stdout.strip())
    assert left.exists()
    empty = MemoryGroup.make(tmp_path / "jobs" / "j2" / "1", None)
    with run_in(tmp_path / "jobs" / "j1" / "1", "os.write(1, b'r'); sys.stdin.read()") as process:
        assert process.stdout.read(1) == b"r"
        cgroup.sweep()
        assert not left.exists()
        assert empty.path.exists()
        assert group.path.exists()
        process.communicate()
    empty.remove()


def lay_out(root, cgroup_lines, mountinfo, files):
    for name, text in {
        "proc/self/cgroup": cgroup_lines,
        "proc/self/mountinfo": mountinfo,
        **files,
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


V2_MOUNT = "29 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
SCOPE = "sys/fs/cgroup/user.slice/app.slice"


@pytest.fixture
def two(tmp_path):
    """A machine with version 2, in a session that systemd has delegated."""
    lay_out(
        tmp_path,
        "0::/user.slice/app.slice/term.scope\n",
        V2_MOUNT,
        {
            f"{SCOPE}/cgroup.subtree_control": "memory pids\n",
            f"{SCOPE}/term.scope/cgroup.subtree_control": "\n",
        },
    )
    return tmp_path


def test_the_group_that_one_is_in_says_its_bound(two):
    around = cgroup.own(two)
    assert around.path == two / SCOPE / "term.scope"
    for text, bound in (("max\n", None), (f"{100 * MB}\n", 100 * MB)):
        (around.path / "memory.max").write_text(text)
        assert around.bound() == bound


def test_version_1_says_its_bound(group):
    assert group.bound() == 100 * MB
    unbounded = MemoryGroup.make(ATTEMPT, None)
    assert unbounded.bound() is None
    unbounded.remove()


def test_version_2_makes_groups_beside_its_own(two):
    made = MemoryGroup.make(ATTEMPT, 100 * MB, two)
    assert made == cgroup.of_attempt(ATTEMPT, os.getpid(), two)
    assert made.path.parent == two / SCOPE
    assert (made.path / "memory.max").read_text() == str(100 * MB)
    assert (made.path / "memory.swap.max").read_text() == "0"
    made.enter()
    assert (made.path / "cgroup.procs").read_text() == "0"


def test_groups_of_others_with_such_a_name_are_left_alone(two):
    service, left = two / SCOPE / "runtable-beam.service", two / SCOPE / f"runtable-{2**31}-j1-1-0"
    for group in (service, left):
        group.mkdir()
    cgroup.sweep(two)
    assert service.exists()
    assert not left.exists()


def test_version_2_tells_what_is_used_and_who_was_killed(two):
    made = MemoryGroup.make(ATTEMPT, 100 * MB, two)
    (made.path / "memory.stat").write_text("anon 1000\nfile 5000\nkernel 7\nshmem 200\n")
    assert made.used() == 1200
    (made.path / "memory.events").write_text("low 0\nhigh 0\nmax 9\noom 0\noom_kill 1\n")
    assert made.kills() == 0  # it was the machine that was full
    (made.path / "memory.events").write_text("low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\n")
    assert made.kills() == 1


def test_two_attempts_have_two_groups(two):
    paths = [ATTEMPT, Path("/data/jobs/j1/2"), Path("/data/jobs/j2/1"), Path("/other/jobs/j1/1")]
    assert len({cgroup.of_attempt(path, 7, two).path for path in paths}) == 4


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"proc/self/cgroup": "0::/\n"},
        {"proc/self/cgroup": "0::/a\n", "proc/self/mountinfo": V2_MOUNT},
        {
            "proc/self/cgroup": "4:memory:/a\n0::/\n",
            "proc/self/mountinfo": "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n",
        },
        {
            "proc/self/cgroup": "4:memory:/a\n",
            "proc/self/mountinfo": "35 31 0:3 /b /sys/fs/cgroup/memory rw - cgroup c rw,memory\n",
        },
        {
            "proc/self/cgroup": "4:memory:/a\n",
            "proc/self/mountinfo": "35 31 0:3 / /sys/fs/cgroup/memory rw - cgroup c rw,memory\n",
        },
    ],
    ids=["nothing", "no mount", "not delegated", "not mounted", "elsewhere", "no such folder"],
)
def test_where_none_can_be_made_there_is_none(tmp_path, files):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert MemoryGroup.make(ATTEMPT, 100 * MB, tmp_path) is None
