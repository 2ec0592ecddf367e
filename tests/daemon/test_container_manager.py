"""The manager for containers with real engines."""

import json
import os
import time
from pathlib import Path

import pytest
from container_helpers import ContainerBench
from containers import IMAGE
from job_helpers import ended, entries, errors, make_job, times_started, values

from daemon.backends import Unavailable
from daemon.backends.configurations.files import loads
from daemon.backends.container_engine import Engine
from daemon.backends.container_image import ready
from daemon.backends.container_states import GRACE_SECONDS, ContainerStates

MB = 1 << 20
CORES = min(2, os.cpu_count() or 1)
HEAD = """
import json, os, sys, time
from pathlib import Path
from damnit_ctx import Variable
"""
SLOW = (
    HEAD
    + """
@Variable
def first(run):
    return 1

@Variable
def slow(run, x: "var#first"):
    time.sleep(100)
"""
)


@pytest.fixture(params=["podman", "docker"])
def engine(request, monkeypatch):
    """Each engine, for this process to use."""
    engine = request.getfixturevalue(request.param)
    for name, value in engine.environment.items():
        monkeypatch.setenv(name, value)
    yield engine
    for name in engine.containers():  # a test that failed is not to fail those after it
        engine.run("rm", "--force", name)


def started(attempt):
    """Whether its second variable was begun."""
    return lambda _: bool(entries(attempt, "started")) and len(entries(attempt, "started")) > 1


SURROUNDINGS = (
    HEAD
    + """
def first_line(*paths):
    for path in paths:
        if os.path.exists(path):
            return open(path).read().split()

def may_write(folder):
    try:
        Path(folder, "try").write_text("x")
    except OSError as error:
        return error.strerror
    return "written"

@Variable
def surroundings(run):
    print("said by the variable")
    root = "/sys/fs/cgroup"
    return json.dumps({
        "user": [os.getuid(), os.getgid()],
        "memory": first_line(f"{root}/memory/memory.limit_in_bytes", f"{root}/memory.max"),
        "swap": first_line(f"{root}/memory/memory.memsw.limit_in_bytes", "/nowhere"),
        "cores": first_line(f"{root}/cpu.max") or
            [*first_line(f"{root}/cpu/cpu.cfs_quota_us"),
             *first_line(f"{root}/cpu/cpu.cfs_period_us")],
        "threads": os.environ["OMP_NUM_THREADS"],
        "shared": os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize,
        "umask": os.umask(0o077),
        "awkward": os.environ["AWKWARD"],
        "secret": os.environ["TOKEN"],
        "path": os.environ["LD_LIBRARY_PATH"],
        "docker": os.environ["DOCKER_HOST"],
        "host": os.uname().nodename,
        "here": os.getcwd(),
        "masks": Path("/masks/m").read_text(),
        "raw": may_write(PROPOSAL + "/raw/r0001"),
        "linked": may_write(PROPOSAL + "/proc/r0001"),
        "database": may_write(DATABASE),
        "library": may_write(Path(sys.modules["ctxlib"].__file__).parent),
        "read only": may_write("/masks"),
        "output": may_write("/output"),
        "working folder": may_write("."),
    })
"""
)


async def test_all_of_the_configuration_holds_inside(tmp_path, engine, monkeypatch):
    monkeypatch.setenv("LAB_TOKEN", "s3cret")
    # Names as people give them, and those that a listener's colons and commas would split.
    database = tmp_path / "a b'c\"d,e:f$HOME\n%j;é"
    proposal, elsewhere = tmp_path / "p001234", tmp_path / "elsewhere"
    for folder in (database, proposal / "raw/r0001", elsewhere / "r0001"):
        folder.mkdir(parents=True)
    (proposal / "proc").symlink_to(elsewhere)
    for name in ("masks", "output", "work"):
        (tmp_path / name).mkdir()
    for name in ("output", "work"):
        os.chown(tmp_path / name, 1234, 1235)
    for folder in (database, proposal):
        folder.chmod(0o770)  # as `runtable init` and beamtimes have it
    (tmp_path / "masks/m").write_text("mask")
    awkward = 'it\'s "me", $HOME\n`x` é\\'
    context = SURROUNDINGS.replace("PROPOSAL", repr(str(proposal)))
    attempt = make_job(
        database,
        context=context.replace("DATABASE", repr(str(database))),
        proposal_path=str(proposal),
        cpus=None,
        umask=0o007,
        working_dir=str(tmp_path / "work"),
    )
    bench = ContainerBench(
        database,
        engine.program,
        cpu=CORES,
        memory="300m",
        user="modeluser",
        volumes=[f"{tmp_path}/masks:/masks:ro", f"{tmp_path}/output:/output:rw,Z"],
        working_dir=str(tmp_path / "work"),
        env_vars={"AWKWARD": awkward, "LD_LIBRARY_PATH": "/opt/a b", "DOCKER_HOST": "unix:///no"},
        secret_env_vars={"TOKEN": "env:LAB_TOKEN"},
    )
    status = await bench.run(attempt)
    assert (status.state, status.reason) == ("ended", "")
    assert ended(attempt)["status"] == "finished", ended(attempt)
    assert errors(attempt) == {}
    seen = json.loads(values(attempt)["surroundings"])
    assert seen["user"] == [1234, 1235]
    assert seen["memory"] == [str(300 * MB)]
    assert seen["swap"] in (None, [str(300 * MB)])
    assert seen["cores"] == [f"{CORES}00000", "100000"]
    assert seen["threads"] == str(CORES)
    assert (seen["shared"], seen["umask"]) == (300 * MB, 0o007)
    assert (seen["awkward"], seen["secret"]) == (awkward, "s3cret")
    assert (seen["path"], seen["docker"]) == ("/opt/a b", "unix:///no")
    assert seen["host"] != os.uname().nodename
    assert (seen["here"], seen["masks"]) == (str(tmp_path / "work"), "mask")
    refused = {"raw", "linked", "database", "library", "read only"}
    assert {seen[what] for what in refused} == {"Read-only file system"}
    assert seen["output"] == seen["working folder"] == "written"
    log = database / "process_logs/r1-p1234.out"
    assert "said by the variable" in log.read_text()
    assert (log.stat().st_uid, log.stat().st_gid) == (1234, os.getgid())
    assert engine.containers() == []


async def test_the_configuration_of_the_documentation(tmp_path, podman, monkeypatch):
    for name, value in podman.environment.items():
        monkeypatch.setenv(name, value)
    page = (Path(__file__).parents[2] / "docs" / "containers.md").read_text()
    text = page.split("<<'EOF'\n")[1].split("EOF\n")[0]
    config = loads(text, "yaml").model_dump(exclude_unset=True, exclude={"type", "image", "python"})
    context = HEAD + '@Variable\ndef name(run):\n    return os.environ["DETECTOR"]\n'
    attempt = make_job(tmp_path, context=context)
    assert (await ContainerBench(tmp_path, **config).run(attempt)).state == "ended"
    assert values(attempt) == {"name": "jungfrau"}


async def test_a_job_over_its_memory_costs_the_variable_that_took_it(tmp_path, engine, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    context = (
        HEAD
        + """
@Variable
def first(run):
    return 1

@Variable
def greedy(run, x: "var#first"):
    hold = []
    while True:
        hold.append(b"x" * (8 << 20))

@Variable
def after(run, x: "var#first"):
    return 2
"""
    )
    attempt = make_job(tmp_path, context=context)
    bench = ContainerBench(tmp_path, engine.program, memory="200m")
    status = await bench.run(attempt)
    assert (status.state, ended(attempt)["status"]) == ("ended", "finished")
    assert values(attempt) == {"first": 1, "after": 2}
    assert errors(attempt) == {"greedy": "memory: killed: used more than 200 MB"}
    assert engine.containers() == []
    assert list(Path.cwd().iterdir()) == []  # podman is not to leave anything where we happen to be


async def test_a_container_that_dies_whole_says_why(tmp_path, engine):
    # Everything in it dies: the first process of the container is what takes the memory.
    context = HEAD + "@Variable\ndef first(run):\n    return 1\n"
    attempt = make_job(tmp_path, context=context)
    bench = ContainerBench(tmp_path, engine.program, memory="16m")
    status = await bench.run(attempt)
    if engine.program == "docker":  # which always tells
        assert (status.state, ended(attempt)["status"]) == ("ended", "failed")
        assert status.reason == "its container used more than its 16 MB of memory"
    else:
        assert "16 MB of memory" in status.reason
    # Nothing of ours in the image's Python.
    lacking = make_job(tmp_path, "j2", context=context)
    bench = ContainerBench(tmp_path, engine.program, env_vars={"PYTHONHOME": "/nowhere"})
    status = await bench.run(lacking)
    assert (status.state, ended(lacking)["status"]) == ("ended", "failed")
    assert "ended with exit code 1: " in status.reason
    assert "(the image needs Python 3.10 or newer with NumPy" in status.reason
    assert engine.containers() == []


async def test_what_is_refused_ends_the_job_at_once(tmp_path, engine):
    absent = "localhost:1/absent:1" if engine.program == "docker" else "absent-short-name"
    refused = {
        f"the image {IMAGE} has no user nobodyhere: ": {"user": "nobodyhere"},
        'exec: "/usr/bin/nopython": ': {"python": "/usr/bin/nopython"},
        f"the image {absent} cannot be had: ": {"image": absent},
        "Host path does not exist: /nowhere/x": {"volumes": ["/nowhere/x:/x"]},
    }
    for number, (words, config) in enumerate(refused.items()):
        attempt = make_job(tmp_path, f"j{number}")
        bench = ContainerBench(tmp_path, engine.program, **config)
        status = await bench.run(attempt)
        assert (status.state, ended(attempt)["status"]) == ("ended", "failed"), status
        assert status.reason.startswith("its container cannot be started: ")
        assert words in status.reason
        assert bench.ended == [(f"j{number}", 1)]
    assert engine.containers() == []


@pytest.mark.parametrize("engine", ["docker"], indirect=True)
async def test_time_is_held_inside_and_from_outside(tmp_path, engine):
    short = make_job(tmp_path, "j1", context=SLOW, timeout=8)
    hanging = make_job(tmp_path, "j2", context=SLOW, timeout=60)
    deaf = make_job(tmp_path, "j3", context=SLOW)
    bench = ContainerBench(tmp_path, engine.program)
    # By itself, as its time passes from the beginning of its process.
    handles = [await bench.manager.submit(short)]
    await bench.until(handles[0], started(short))
    handles += [await bench.manager.submit(attempt) for attempt in (hanging, deaf)]
    status = await bench.end(handles[0])
    assert (status.state, status.reason) == ("ended", "the job took longer than 8 s")
    assert errors(short)["slow"].startswith("timeout: killed")
    for handle, attempt in zip(handles, (short, hanging, deaf), strict=True):
        await bench.until(handle, started(attempt))
    # What nobody inside ends any more is ended from here, some time after.
    ahead = [0.0]
    asked = Engine(engine.program, tmp_path)
    states = ContainerStates(asked, clock=lambda: time.time() + ahead[0])
    states.told_to_end(deaf)
    ahead[0] = GRACE_SECONDS + 5
    seen = await states.look([hanging, deaf])
    assert [seen[path].state for path in (hanging, deaf)] == ["running", "ended"]
    assert ended(deaf)["status"] == "stopped"
    ahead[0] = GRACE_SECONDS + 65
    assert (await states.look([hanging]))[hanging].reason == "the job took longer than 1 min"
    assert errors(hanging)["slow"] == "timeout: killed: the job took longer than 1 min"
    await bench.manager.close()
    assert engine.containers() == []


async def test_cancel_fence_and_what_is_killed(tmp_path, engine):
    bench = ContainerBench(tmp_path, engine.program)
    attempts = [make_job(tmp_path, f"j{n}", context=SLOW) for n in range(4)]
    handles = [await bench.manager.submit(attempt) for attempt in attempts]
    for attempt, handle in zip(attempts, handles, strict=True):
        await bench.until(handle, started(attempt))
    assert len(engine.containers()) == 4
    await bench.until(handles[0], lambda _: set(bench.woken) == {"j0", "j1", "j2", "j3"})
    # Told to stop it says so itself.
    await bench.manager.cancel(handles[0], "no beam")
    assert (await bench.end(handles[0])).reason == "no beam"
    assert ended(attempts[0])["status"] == "stopped"
    # One that is fenced ends at once, whatever it is at.
    name = next(name for name in engine.containers() if "j1" in name)
    engine.run("pause", name, check=False)
    await bench.manager.fence(handles[1], "it hangs")
    assert not any("j1" in name for name in engine.containers())
    status = await bench.end(handles[1])  # it may have had the time to say so itself
    assert status.state == "lost" or (status.state, status.reason) == ("ended", "it hangs")
    # Another daemon finds them by their labels, and says what somebody else has done.
    await bench.manager.close()
    engine.run("kill", next(name for name in engine.containers() if "j2" in name))
    bench.another()
    status = await bench.end(handles[2])
    assert (status.state, status.reason) == ("lost", "its container was killed")
    status = (await bench.manager.poll([handles[3]]))[handles[3]]
    assert (status.state, status.signs) == ("running", "here")
    assert status.place in {f"container {name}" for name in engine.containers()}
    # A job that is gone takes its container with it, though nobody asks for it.
    (attempts[3].parent).rename(tmp_path / "gone")
    assert await bench.manager.poll([]) == {}
    assert engine.containers() == []
    await bench.manager.close()


@pytest.mark.parametrize("engine", ["docker"], indirect=True)
async def test_a_container_that_was_made_and_never_started_goes(tmp_path, engine):
    """Whoever starts one, the engine's program or the daemon, can be killed in between."""
    attempt = make_job(tmp_path, context=SLOW)
    bench = ContainerBench(tmp_path, engine.program)
    handle = await bench.manager.submit(attempt)
    await bench.until(handle, started(attempt))
    described = json.loads(engine.run("inspect", *engine.containers()))[0]
    labels = [f"--label={k}={v}" for k, v in described["Config"]["Labels"].items()]
    await bench.manager.fence(handle, "for this test")
    await bench.manager.close()
    late = make_job(tmp_path, "j2", context=SLOW)
    labels = [label.replace(str(attempt), str(late)) for label in labels]
    engine.run("create", *labels, IMAGE, "true")
    status = await bench.another().poll([str(late)])
    assert status[str(late)].reason == "its container was made and never started"
    assert engine.containers() == []
    # Submitted now, nobody begins with it any more.
    assert (await bench.run(late)).state == "lost"
    assert times_started(late) == {}
    assert engine.containers() == []


async def test_what_is_built_is_built_once_for_the_same_files(tmp_path, engine):
    build = tmp_path / "image"
    build.mkdir()
    (build / "greeting").write_text("hello")
    dockerfile = f"FROM {IMAGE}\nARG VERSION=0\nENV VERSION=$VERSION\nCOPY greeting /greeting\n"
    (build / "Dockerfile").write_text(dockerfile)
    context = (
        HEAD
        + """
@Variable
def greeting(run):
    return Path("/greeting").read_text() + os.environ["VERSION"]
"""
    )
    first, broken = make_job(tmp_path, "j1", context=context), make_job(tmp_path, "j2")
    bench = ContainerBench(
        tmp_path,
        engine.program,
        dockerfile="Dockerfile",
        build_context=str(build),
        build_args={"VERSION": "2.1"},
        remove_container=False,
    )
    assert (await bench.run(first)).state == "ended"
    assert values(first) == {"greeting": "hello2.1"}
    # It was to be kept, and has ended.
    (kept,) = engine.containers()
    assert engine.run("inspect", "--format={{.State.Status}}", kept) == "exited"
    engine.run("rm", kept)
    # The same again is the image that is there; what differs in anything is another one.
    asked = Engine(engine.program, tmp_path)
    built = await ready(bench.config, asked)

    def built_images():
        return set(engine.run("images", "--all", "--quiet", "--no-trunc").split())

    images = built_images()
    (build / "Dockerfile").touch()
    assert await ready(bench.config, asked) == built
    assert built_images() == images
    (build / "greeting").write_text("good day")
    assert await ready(bench.config, asked) != built
    assert built_images() != images
    # What cannot be built says where, and the container of the failed step goes.
    (build / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN ls /nothing\n")
    status = await bench.run(broken)
    assert (status.state, ended(broken)["status"]) == ("ended", "failed")
    assert f"{build}/Dockerfile cannot be built: " in status.reason
    assert "nothing" in status.reason
    assert engine.containers() == []


async def test_an_engine_that_is_away_loses_nothing(tmp_path, docker, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", docker.environment["DOCKER_HOST"])
    attempt = make_job(tmp_path, context=SLOW)
    bench = ContainerBench(tmp_path, "docker")
    handle = await bench.manager.submit(attempt)
    await bench.until(handle, started(attempt))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/d.sock")
    status = (await bench.manager.poll([handle]))[handle]
    assert status.state == "running"
    assert "Cannot connect to the Docker daemon" in status.reason
    with pytest.raises(Unavailable, match="Cannot connect to the Docker daemon"):
        await bench.manager.submit(make_job(tmp_path, "j2", context=SLOW))
    monkeypatch.setenv("DOCKER_HOST", docker.environment["DOCKER_HOST"])
    assert (await bench.manager.poll([handle]))[handle].reason == ""
    await bench.manager.fence(handle, "for this test")
    await bench.manager.close()
    assert docker.containers() == []
