"""Commands that only read, by who may not write the folder: another user, or on such a disk."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from beamtime import RUNTABLE, STRANGER, Beamtime

pytestmark = pytest.mark.system

CONTEXT = """
from damnit_ctx import Variable

@Variable(title="Number")
def number(run, number: "meta#run_number"):
    print("said by the job")
    return number
"""
READ_ONLY = (
    *("unshare", "--mount", "sh", "-c"),
    'mount --bind "$FOLDER" "$FOLDER" && mount -o remount,bind,ro "$FOLDER" && exec "$@"',
    "sh",
)


@pytest.fixture(scope="module")
def beamtime(
    tmp_path_factory: pytest.TempPathFactory, example_proposal: Path
) -> Iterator[Beamtime]:
    """A folder with a job that has ended, and everybody may read it."""
    if os.geteuid() != 0:
        pytest.skip("only root can be another user: run the tests as root, in a container say")
    root = tmp_path_factory.mktemp("reading")
    beamtime = Beamtime(root, example_proposal)
    beamtime.init(CONTEXT, share_with="all")
    beamtime.arrive(1)
    beamtime.run("reprocess", 1)
    subprocess.run(["chmod", "-R", "o=rX", str(root)], check=True)
    subprocess.run(["chown", "-R", "nobody:", str(root)], check=True)
    yield beamtime
    beamtime.close()


def ask(beamtime: Beamtime, how: Sequence[str], *arguments: object) -> tuple[int, str]:
    """The exit code of a command under `how`, and all that it said."""
    done = subprocess.run(
        [*how, *RUNTABLE, *map(str, arguments)],
        cwd=beamtime.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        env={**os.environ, "FOLDER": str(beamtime.folder)},
    )
    assert "Traceback" not in done.stdout
    return done.returncode, done.stdout


def check_reading(beamtime: Beamtime, how: Sequence[str], denied: str) -> None:
    ((job, *_),) = beamtime.jobs()
    expected = {
        ("jobs",): job,
        ("jobs", "show", job): "in the run file",
        ("jobs", "log", job): "said by the job",
        ("status",): f"finished\nWarning       {beamtime.folder} may not be written from here",
        ("events",): "",  # none, or what the daemon noticed
        ("db-config", "settle_seconds"): "0.2",
        ("read-context", "--check", "context.py"): "1 variable, 0 problems",
        ("reprocess", "1", "--dry-run"): "number",
    }
    for command, said in expected.items():
        code, told = ask(beamtime, how, *command)
        assert (code, "") == (0, "" if said in told else told), command
    for writing in (
        ("db-config", "settle_seconds", "1"),
        ("reprocess", "1"),
        ("jobs", "stop", job),
    ):
        code, told = ask(beamtime, how, *writing)
        assert (code, denied in told) == (1, True), (writing, told)


@pytest.mark.parametrize("how", [STRANGER, READ_ONLY], ids=["another user", "read-only disk"])
def test_who_may_only_read(beamtime: Beamtime, how: Sequence[str]) -> None:
    denied = "Ask nobody for access" if how is STRANGER else "mounted read-only here"
    before = files(beamtime)
    check_reading(beamtime, how, denied)
    assert files(beamtime) == before


def test_who_may_only_read_beside_a_daemon(beamtime: Beamtime) -> None:
    beamtime.listen()
    ((job, *_), *_) = beamtime.jobs()
    for command, said in ((("jobs", "show", job), "in the run file"), (("status",), "not known")):
        code, told = ask(beamtime, STRANGER, *command)
        assert (code, said in told) == (0, True), told


def files(beamtime: Beamtime) -> dict[Path, int]:
    """When each file was changed; the log of the queue is everybody's who reads."""
    paths = [path for path in beamtime.folder.rglob("*") if "sqlite-" not in path.name]
    return {path: path.stat().st_mtime_ns for path in paths if path != beamtime.folder}
