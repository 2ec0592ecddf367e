"""Command lines for containers, and apptainer's with a program that stands in for it."""

import json
import os
import sys
from pathlib import Path

import pytest
from container_helpers import ContainerBench
from job_helpers import ended, errors, make_job, values

from daemon.backends import Unavailable
from daemon.backends import container_command as command
from daemon.backends.configurations import ContainerConfig
from daemon.backends.container_command import Mount
from daemon.backends.container_engine import Engine, in_words
from daemon.backends.container_image import tag_of
from daemon.backends.container_start import hand_over

ATTEMPT = Path("/data/db/jobs/j1/1")
LIBRARY = Path("/data/db/lib/1")
REQUEST = {
    "context": "/data/db/context.py",
    "proposal_path": None,
    "log": "/data/db/process_logs/r1-p1.out",
}


def options(config, user=(1000, 1000), places=(), names=()):
    return command.run_command(
        config, "lab:1", Path("/data/db"), LIBRARY, ATTEMPT, places, names, user
    )


def test_every_limit_is_an_option():
    config = ContainerConfig(engine="docker", image="lab:1", cpu=3, memory="2g", user="7:8")
    found = options(config, user=(7, 8), names=["A"])
    assert found[:2] == ["run", "--detach"]
    for option in ("--cpus=3", "--memory=2g", "--memory-swap=2g", "--user=7:8"):
        assert option in found
    assert f"--label=runtable.attempt={ATTEMPT}" in found
    assert found[found.index("--env") + 1] == "A"
    assert found[-5:] == ["--entrypoint=python3", "lab:1", "-m", "ctxlib.alone", str(ATTEMPT)]
    assert not any(option.startswith("--label=runtable.keep") for option in found)
    kept = ContainerConfig(image="lab:1", remove_container=False)
    assert "--label=runtable.keep=1" in options(kept)
    assert not any(option.startswith("--memory") for option in options(kept))


def test_names_are_of_one_attempt_and_fit():
    other = ATTEMPT.with_name("2")
    long = Path("/data/db/jobs") / ("j é/" * 1 + "x" * 300) / "1"
    names = {command.container_name(path) for path in (ATTEMPT, other, long)}
    assert len(names) == 3
    assert max(map(len, names)) < 100
    assert command.container_name(ATTEMPT) == command.container_name(ATTEMPT)
    assert len({command.host_name(path) for path in (ATTEMPT, other, long)}) == 3
    assert all(len(command.host_name(path)) < 64 for path in (ATTEMPT, long))


def test_what_is_seen_and_what_can_be_written(tmp_path):
    proposal, far = tmp_path / "p1", tmp_path / "far"
    (proposal / "raw").mkdir(parents=True)
    far.mkdir()
    (proposal / "proc").symlink_to(far)
    config = ContainerConfig(
        image="lab:1", volumes=["/a:/b:ro", "/c:/d", "/data/db/cache:/data/db/cache:rw"]
    )
    request = REQUEST | {"proposal_path": str(proposal)}
    found = command.mounts(config, Path("/data/db"), LIBRARY, ATTEMPT, request)
    writable = {mount.target for mount in found if mount.writable}
    assert writable == {"/d", "/data/db/cache", str(ATTEMPT), "/data/db/process_logs"}
    seen = {mount.target: mount.source for mount in found if not mount.writable}
    assert seen.pop("/b") == "/a"
    places = {str(proposal), str(proposal / "raw"), str(far), "/data/db", str(LIBRARY)}
    assert seen == {place: place for place in places}
    # What is within another comes after it.
    targets = [mount.target for mount in found]
    assert targets.index("/data/db") < targets.index("/data/db/cache")


def test_mounts_are_quoted_as_in_csv():
    assert Mount("/a", "/b").option() == "type=bind,source=/a,target=/b,readonly"
    assert Mount('/a "b",c', "/d", True).option() == 'type=bind,"source=/a ""b"",c",target=/d'


def test_the_environment_of_the_engine_is_left_as_it_is():
    given = {"A": "x\ny", "DOCKER_HOST": "b", "PATH": "/p", "https_proxy": "c", "MYPATH": "d"}
    direct, lines = command.for_client(given)
    assert direct == {"A": "x\ny", "MYPATH": "d"}
    assert lines == "DOCKER_HOST=b\nPATH=/p\nhttps_proxy=c\n"
    with pytest.raises(ValueError, match="PATH must be one line"):
        command.for_client({"PATH": "a\nb"})


def test_limits_are_said_inside_too():
    config = ContainerConfig(image="lab:1", cpu=3, memory="2G")
    found = command.environment(config)
    assert (found["RUNTABLE_CPUS"], found["RUNTABLE_MEMORY"]) == ("3", str(2 << 30))
    assert "RUNTABLE_MEMORY" not in command.environment(ContainerConfig(image="lab:1"))


SAYING = {
    "kill -9 $$": (Unavailable, "was killed by signal 9"),
    "echo 'docker: Cannot connect to the Docker daemon at x' >&2; exit 1": (
        Unavailable,
        "^docker cannot run containers now: Cannot connect to the Docker daemon at x$",
    ),
    "echo 'permission denied while trying to connect to the Docker daemon socket' >&2; exit 1": (
        Unavailable,
        "its users are those of the group docker$",
    ),
}


@pytest.mark.parametrize("body", SAYING)
async def test_what_is_no_refusal_may_pass(body, tmp_path, monkeypatch):
    program(tmp_path / "docker", f"#!/bin/sh\n{body}\n", monkeypatch)
    kind, words = SAYING[body]
    engine = Engine("docker", tmp_path)
    with pytest.raises(kind, match=words):
        await engine.check()
    with pytest.raises(kind):
        await engine.has_image("lab:1")


def test_complaints_are_shown_without_advice():
    said = "DEPRECATED\nError response from daemon: no such image\nRun 'docker --help'\n"
    assert in_words(said) == "DEPRECATED; no such image"


def test_users_without_root(monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 500)
    monkeypatch.setattr(os, "getgroups", lambda: [500, 600])
    assert command.user_options("docker", (500, 500), given=False) == [
        "--user=500:500",
        "--group-add=600",
    ]
    assert command.user_options("podman", (500, 500), given=False) == [
        "--user=500:500",
        "--userns=keep-id",
    ]
    assert command.user_options("podman", (7, 8), given=True) == [
        "--user=7:8",
        "--userns=keep-id:uid=7,gid=8",
    ]
    assert command.user_options("podman", (0, 0), given=True, groups=[9]) == ["--user=0:0"]
    with pytest.raises(ValueError, match="leave `user` out"):
        hand_over(ATTEMPT, ATTEMPT / "log", (7, 8))


def test_another_user_than_the_daemon_that_is_root(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "getuid", lambda: 0)
    options = command.user_options("docker", (7, 8), given=True, groups=[8, 9])
    assert options == ["--user=7:8", "--group-add=9"]
    assert command.user_options("docker", (0, 0), given=True, groups=[9]) == ["--user=0:0"]
    tmp_path.chmod(0o700)
    with pytest.raises(ValueError, match="share_with"):
        hand_over(tmp_path / "1", tmp_path / "log", (7, 8))


def test_the_tag_of_what_is_built(tmp_path):
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM x\n")
    (tmp_path / "sub").mkdir()
    file = tmp_path / "sub" / "file"
    file.write_text("a")
    tags = [tag_of(dockerfile, tmp_path, {})]
    assert tag_of(dockerfile, tmp_path, {}) == tags[0]

    def changed(change, arguments=None):
        change()
        tags.append(tag_of(dockerfile, tmp_path, arguments or {}))

    changed(lambda: file.write_text("b"))
    changed(lambda: file.chmod(0o755))
    changed(lambda: file.rename(file.with_name("other")))
    changed(lambda: (tmp_path / "link").symlink_to("nowhere"))
    changed(lambda: dockerfile.write_text("FROM y\n"))
    changed(lambda: None, {"A": "1"})
    changed((tmp_path / "empty").mkdir)
    assert len(set(tags)) == len(tags)


APPTAINER = """#!{python}
import json, os, sys
given = {{k[13:]: v for k, v in os.environ.items() if k.startswith("APPTAINERENV_")}}
words = sys.argv[1:]
with open({said!r}, "w") as file:
    json.dump([words, given], file)
start = words.index("docker://lab:1") + 1
os.chdir(words[words.index("--pwd") + 1])
if {fails}:
    sys.exit("FATAL: no such image")
os.execvpe(words[start], words[start:], {{"PATH": os.environ["PATH"], **given}})
"""


def program(path, text, monkeypatch):
    """A program of this name that is found before any other."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")


def stand_in(folder, monkeypatch, *, fails):
    said = folder / "said.json"
    text = APPTAINER.format(python=sys.executable, said=str(said), fails=fails)
    program(folder / "bin" / "apptainer", text, monkeypatch)
    return said


async def test_apptainer(tmp_path, monkeypatch):
    said = stand_in(tmp_path, monkeypatch, fails=False)
    context = """
import os, time
from damnit_ctx import Variable

@Variable
def greeting(run):
    return os.environ["GREETING"]

@Variable
def cores(run):
    return os.environ["OMP_NUM_THREADS"] + " " + str(len(os.sched_getaffinity(0)))

@Variable
def greedy(run):
    return len(b"x" * (1 << 30))

@Variable(tags="slow")
def slow(run):
    if run is None or os.path.exists("slow"):
        time.sleep(100)
"""
    # As a job's request is that leaves limits to its backend.
    attempt = make_job(tmp_path, context=context, cpus=None)
    config = {
        "memory": "300m",
        "image": "lab:1",
        "env_vars": {"GREETING": 'a\n"b"'},
        "volumes": ["/usr:/host:ro"],
    }
    bench = ContainerBench(tmp_path, "apptainer", **config)
    assert (await bench.run(attempt)).state == "ended"
    assert values(attempt)["greeting"] == 'a\n"b"'
    # Nothing but our own watcher holds these.
    assert values(attempt)["cores"] == "1 1"
    assert "greedy" in errors(attempt)
    words, given = json.loads(said.read_text())
    assert words[:6] == ["exec", "--cleanenv", "--no-home", "--pwd", str(bench.library), "--mount"]
    mounts = [words[n + 1] for n, word in enumerate(words) if word == "--mount"]
    assert "type=bind,source=/usr,target=/host,ro" in mounts
    assert f"type=bind,source={attempt},target={attempt}" in mounts
    assert given["GREETING"] == 'a\n"b"'
    assert 'a\n"b"' not in words
    # Stopped, and found again by another daemon: they are processes like any others.
    (tmp_path / "slow").touch()
    stopped = make_job(tmp_path, "j2", context=context)
    handle = await bench.manager.submit(stopped)
    await bench.until(handle, lambda status: status.signs == "here")
    await bench.manager.close()
    await bench.another().cancel(handle, "no beam")
    assert (await bench.end(handle)).reason == "no beam"
    assert ended(stopped)["status"] == "stopped"
    # What apptainer itself says is why.
    stand_in(tmp_path, monkeypatch, fails=True)
    failed = make_job(tmp_path, "j3", context=context)
    status = await bench.run(failed)
    assert (status.state, ended(failed)["status"]) == ("ended", "failed")
    assert status.reason == "apptainer ended with exit code 1: FATAL: no such image"
    other = make_job(tmp_path, "j4", context=context)
    status = await ContainerBench(tmp_path, "apptainer", image="lab:1", user="7:8").run(other)
    assert "apptainer runs jobs as the daemon's own user" in status.reason
