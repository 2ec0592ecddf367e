"""Variables that do what they should not: each costs itself alone, and its cell says why."""

import signal
from collections.abc import Iterator
from pathlib import Path

import h5py
import pytest
from beamtime import Beamtime
from helpers import wait_until
from witness import PRELUDE, Witness, marked

from daemon.cli.connection import connect

pytestmark = pytest.mark.system

CONTEXT = (
    PRELUDE
    + """
import sys, threading, warnings
from damnit_ctx import Cell

HOME = os.getcwd()
LEFT = []
HOARD = "x = b'x' * (100 << 20); import time; time.sleep(1000)"
GROW = "x = []\\nimport time\\nwhile 1: x.append(b'x' * (4 << 20)); time.sleep(0.01)"

@Variable()
def first(run):
    return 1

@Variable()
def raises(run):
    raise ValueError("no such motor")

@Variable()
def exits(run):
    sys.exit("enough")

@Variable()
def exits_at_once(run):
    os._exit(3)

@Variable()
def aborts(run):
    os.abort()

@Variable()
def crashes(run):
    ctypes.string_at(0)

@Variable(timeout=0.3)
def endless(run):
    while True:
        pass

@Variable(timeout=0.3)
def ignores_sigterm(run):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(1)

@Variable()
def leaves_grandchildren(run):
    subprocess.run(["sh", "-c", "setsid env -i sleep 1001 & setsid sleep 1002 &"])
    return 2

@Variable()
def array_far_too_big(run):
    return np.ones(200 << 27)

@Variable(memory="300M")
def fills_memory_in_one_array(run):
    return float(np.ones(60 << 20).sum())

@Variable()
def fills_memory_slowly(run):
    hoard = []
    while True:
        hoard.append(np.ones(1_000_000))
        time.sleep(0.001)

@Variable(memory="300M")
def fills_memory_in_children(run):
    children = [subprocess.Popen([sys.executable, "-c", HOARD]) for _ in range(4)]
    return max(child.wait() for child in children)

@Variable()
def leaves_a_growing_child(run):
    LEFT.append(subprocess.Popen([sys.executable, "-c", GROW], start_new_session=True))
    return 3

@Variable()
def outlives_the_growing_child(run):
    return 4 + sum(child.wait() for child in LEFT)

@Variable()
def starts_threads(run):
    stop = threading.Event()
    for _ in range(200):
        threading.Thread(target=stop.wait).start()
    return threading.active_count()

@Variable()
def leaves_a_killer(run):
    threading.Timer(0.2, os._exit, [9]).start()
    return 5

@Variable()
def there_when_it_kills(run, number: "meta#run_number"):
    time.sleep(0.5 if number == 1 else 0)
    return 6

@Variable()
def talks(run):
    lines = b"".join(b"%07d " % n + b"x" * 91 + b"\\n" for n in range(10_000))
    for _ in range(1000):
        os.write(1, lines)
    time.sleep(0.5)  # what is written in the moment of a cut may be lost
    print("the end of the talk")
    return 7

@Variable()
def closes_descriptors(run):
    os.closerange(0, 256)
    return np.arange(8.0)

@Variable()
def changes_everything(run):
    os.chdir("/")
    os.umask(0o777)
    os.environ.clear()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGSEGV, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    sys.stdout = sys.stderr = None
    np.seterr(all="raise")
    warnings.simplefilter("error")
    return np.arange(9.0)

@Variable()
def as_it_was(run, number: "meta#run_number"):
    time.sleep(0.4 if number == 1 else 0)
    np.float64(1) / np.float64(0)
    umask = os.umask(0)
    os.umask(umask)
    handler = signal.getsignal(signal.SIGTERM)
    return os.getcwd() == HOME and "PATH" in os.environ and umask != 0o777 and handler == 0

@Variable()
def leaves_a_plot(run):
    import matplotlib.pyplot as plt
    plt.plot([1, 2, 3])
    return 10

@Variable()
def open_plots(run):
    import matplotlib.pyplot as plt
    return len(plt.get_fignums())

@Variable()
def unsavable(run):
    return object()

@Variable(summary="mean")
def failing_summary(run):
    return np.array(["a", "b"])

@Variable()
def no_preview(run):
    return Cell(np.arange(4), preview=object())

@Variable()
def failing_preview(run):
    from matplotlib.figure import Figure
    figure = Figure()
    figure.suptitle("$unfinished^$")
    return Cell(np.arange(4), preview=figure)

@Variable()
def interactive(run):
    import plotly.graph_objects as go
    return go.Figure(go.Scatter(y=[1, 2]))

@Variable()
def forks(run):
    if os.fork() == 0:
        time.sleep(0.2)
        return np.zeros(1000)
    time.sleep(0.5)
    return np.ones(1000)

@Variable()
def last(run, first: "var#first"):
    return first + 1
"""
)

TOO_MUCH = "MemoryLimit: killed: used more than"
UNSAVABLE = "UnsavableError: object cannot be saved: return a number, a text, an array"
PREVIEW = "Cell(preview=...)"
ERRORS = {
    "raises": "ValueError: no such motor",
    "exits": "SystemExit: enough",
    "exits_at_once": "Killed: ended by itself with exit code 3",
    "aborts": "Killed: killed by signal SIGABRT (Aborted)",
    "crashes": "Killed: killed by signal SIGSEGV (Segmentation fault)",
    "endless": "Timeout: killed: took longer than its timeout of 300 ms",
    "ignores_sigterm": "Timeout: killed: took longer than its timeout of 300 ms",
    "array_far_too_big": "MemoryError: Unable to allocate 200. GiB for an array",
    "fills_memory_in_one_array": f"{TOO_MUCH} 300 MB",
    "fills_memory_slowly": f"{TOO_MUCH} 1 GB",
    "fills_memory_in_children": f"{TOO_MUCH} 300 MB",
    "unsavable": UNSAVABLE,
    "no_preview": f"UnsavableError: {PREVIEW} is a object: give numbers in an array",
    "failing_preview": f"TypeError: {PREVIEW} cannot be drawn: ValueError: ",
}
VALUES = {
    "first": 1,
    "leaves_grandchildren": 2,
    "leaves_a_growing_child": 3,
    "outlives_the_growing_child": 4 - signal.SIGKILL,
    "starts_threads": 201,
    "leaves_a_killer": 5,
    "there_when_it_kills": 6,
    "talks": 7,
    "as_it_was": 1,
    "leaves_a_plot": 10,
    "open_plots": 0,
    "failing_summary": "string: (2,)",
    "last": 2,
}
ARRAYS = {"closes_descriptors": 7.0, "changes_everything": 8.0, "forks": 1.0}
"""The last item of each."""
EVERYONE = sorted([*ERRORS, *VALUES, *ARRAYS, "interactive"])


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory, example_proposal: Path) -> Iterator[Witness]:
    beamtime = Beamtime(tmp_path_factory.mktemp("misbehaving"), example_proposal)
    with marked(beamtime) as witness, pytest.MonkeyPatch.context() as patch:
        patch.setenv("BROWSER_PATH", str(beamtime.path / "no-browser"))
        beamtime.init(CONTEXT, noncluster_mem="1G", stop_grace=0, local_jobs=2)
        witness.served()
        yield witness


def process(witness: Witness, run: int, variable: str | None) -> str:
    """Have a run processed, whole or for the sake of one variable; the id of its job."""
    variables = None if variable is None else [variable]
    with connect(witness.folder) as service:
        done = service.call("reprocess", runs=[run], match=[], variables=variables, mock=True)
    (job,) = done["jobs"]
    return str(job["id"])


def check(witness: Witness, run: int, variable: str) -> None:
    """See that the cell of a variable and its place in the run file say what they should."""
    errors = witness.errors(run)
    if variable in ERRORS:
        kind, text = errors[variable]
        assert f"{kind}: {text}".startswith(ERRORS[variable]), f"{variable}: {kind}: {text}"
        return
    assert variable not in errors, errors[variable]
    if variable == "outlives_the_growing_child" and run > 1:
        assert witness.beamtime.value(run, variable) == 4  # nobody was there
        return
    value = witness.beamtime.value(run, variable)
    if variable in VALUES:
        assert value == VALUES[variable], variable
    elif variable in ARRAYS:
        with h5py.File(witness.beamtime.run_file(run)) as file:
            assert file[f"{variable}/data"][-1] == ARRAYS[variable]
    else:
        assert value.startswith(b"\x89PNG")


def leftovers(witness: Witness) -> list[str]:
    """What jobs have left running: also what hides its environment and its session."""
    sleeping = [p for p in Path("/proc").iterdir() if p.name.isdecimal() and _sleeps(p)]
    known = ("daemon", "ctxlib.forkserver")
    others = [line for line in witness.processes().values() if not any(k in line for k in known)]
    return [*map(str, sleeping), *others]


def _sleeps(process: Path) -> bool:
    try:
        return (process / "cmdline").read_bytes() in (b"sleep\x001001\0", b"sleep\x001002\0")
    except OSError:
        return False


def test_all_beside_each_other(witness: Witness) -> None:
    job = process(witness, 1, None)
    row = witness.wait_until_done(job)
    assert (row["state"], row["attempt"]) == ("finished", 1), row["reason"]
    for variable in EVERYONE:
        check(witness, 1, variable)
    assert witness.done_twice(job) == []
    assert set(witness.errors(1)) == set(ERRORS)
    with h5py.File(witness.beamtime.run_file(1)) as file:
        assert set(file[".errors"]) == set(ERRORS)
    wait_until(lambda: not leftovers(witness))
    log = (witness.folder / "process_logs/r1-p1234.out").read_bytes()
    assert len(log) < 150 << 20
    assert b"MB of output are left out here" in log
    assert b"the end of the talk\n" in log
    assert b"ended what earlier variables had left running" in log
    put_back = "the directory, the environment, the umask, signal handlers, a timer"
    assert f"changes_everything: left changed, and put back: {put_back}".encode() in log


def test_each_alone_and_whoever_comes_next(witness: Witness) -> None:
    jobs = {name: process(witness, run, name) for run, name in enumerate(EVERYONE, 101)}
    for run, (name, job) in enumerate(jobs.items(), 101):
        row = witness.wait_until_done(job)
        assert (row["state"], row["attempt"]) == ("finished", 1), f"{name}: {row['reason']}"
        check(witness, run, name)
        assert set(witness.errors(run)) == ({name} & set(ERRORS))
    wait_until(lambda: not leftovers(witness))
    assert witness.done_twice(process_and_wait(witness, 99)) == []
    assert witness.beamtime.value(99, "last") == 2
    wait_until(lambda: "there is no browser" in witness.beamtime.log())
    assert witness.beamtime.log().count("there is no browser") == 1
    # All that time it was one fork server and one daemon.
    servers = {witness.journal(job, "claimed")[0].fields["pid"] for job in jobs.values()}
    assert len(servers) == 1
    assert not list(control_groups(witness))


POISON = (
    PRELUDE
    + """
@Variable()
def first(run):
    return 1

@Variable()
def kills_what_watches_it(run, number: "meta#run_number"):
    if number == 1:
        call(number, "kills")
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(1000)
    return 2

@Variable()
def needs_it(run, it: "var#kills_what_watches_it"):
    return it + 1

@Variable()
def last(run):
    return 4
"""
)


def test_a_job_that_is_lost_again_and_again(witness: Witness) -> None:
    witness.beamtime.write_context(POISON)
    poison = process(witness, 1, None)
    healthy = process(witness, 98, None)
    row = witness.wait_until_done(poison)
    assert (row["state"], row["lost"]) == ("finished", 2), row["reason"]
    assert witness.calls(1)["kills"] == 2
    # All others came first, from the second attempt on.
    assert witness.beamtime.value(1, "last") == 4
    killed = "its job was lost while it ran, in attempts 1 and 2"
    errors = witness.errors(1)
    assert errors["kills_what_watches_it"] == ("Killed", killed)
    assert killed in errors["needs_it"][1]
    assert witness.done_twice(poison) == []
    row = witness.wait_until_done(healthy)
    assert row["state"] == "finished", row["reason"]
    assert row["lost"] <= 1  # it may have been at work beside the first attempt
    assert witness.beamtime.value(98, "needs_it") == 3
    wait_until(lambda: not leftovers(witness))


def process_and_wait(witness: Witness, run: int) -> str:
    job = process(witness, run, "last")
    witness.wait_until_done(job)
    return job


def control_groups(witness: Witness) -> Iterator[Path]:
    """The control groups of this folder's attempts that are still there."""
    for job in witness.queue("SELECT id FROM jobs"):
        for entry in witness.journal(job["id"], "claimed"):
            group = entry.fields["group"]
            if group is not None and Path(group).exists():
                yield Path(group)
