"""Engines that run containers for tests: podman and docker, each with a storage of its own.

Their only image is made here: a shell, two users, and no network. Python comes in as volumes, for
any image with the scientific libraries is as good as another.
"""

import os
import secrets
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers import wait_until

INSTALL = {
    "podman": "apt-get install -y --no-install-recommends podman runc busybox-static",
    "docker": "apt-get install -y --no-install-recommends docker.io busybox-static",
}
_PROGRAMS = {"podman": ("podman", "runc", "busybox"), "docker": ("docker", "dockerd", "busybox")}
_SEARCH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"

IMAGE = "runtable-lab:1"
PASSWD = "root:x:0:0:root:/root:/bin/sh\nmodeluser:x:1234:1235::/tmp:/bin/sh\n"
GROUP = "root:x:0:\nmodel:x:1235:\n"
SHELL = ("sh", "cat", "id", "ls", "sleep", "true", "touch")

_CONTAINERS = """\
[containers]
default_ulimits = ["nofile=20000:20000","nproc=32768:32768"]
log_driver = "k8s-file"
netns = "none"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
"""
_STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{prefix}/storage"
runroot = "{prefix}/run"
"""


class ContainerEngine:
    """An engine: its `program`, and the `environment` that makes it use what is under `prefix`."""

    def __init__(self, program: str, prefix: Path) -> None:
        self.program = program
        self.prefix = prefix
        self._daemon: subprocess.Popen[bytes] | None = None
        if program == "podman":
            (prefix / "containers.conf").write_text(_CONTAINERS)
            (prefix / "storage.conf").write_text(_STORAGE.format(prefix=prefix))
            self.environment = {
                "CONTAINERS_CONF": str(prefix / "containers.conf"),
                "CONTAINERS_STORAGE_CONF": str(prefix / "storage.conf"),
            }
        else:
            self.environment = {"DOCKER_HOST": f"unix://{prefix}/d.sock", "DOCKER_BUILDKIT": "0"}

    def run(self, *arguments: str, check: bool = True) -> str:
        """The output of the engine's program."""
        done = subprocess.run(
            [self.program, *arguments],
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout.strip()

    def containers(self) -> list[str]:
        """Names of all containers that there are."""
        names = ("ps", "--all", "--format", "{{.Names}}")
        try:
            return self.run(*names).split()
        except AssertionError:  # podman stumbles over what is just being removed
            return self.run(*names).split()

    def start(self) -> None:
        """Start what has to run, and make the image."""
        if self.program == "docker":
            self._start_daemon()
        self.run("import", str(_tree(self.prefix)), IMAGE)

    def _start_daemon(self) -> None:
        """Start dockerd and wait until it answers."""
        program = shutil.which("dockerd", path=_SEARCH)
        assert program is not None
        prefix = self.prefix
        command = [program, f"--data-root={prefix}/data", f"--exec-root={prefix}/exec"]
        command += [f"--host=unix://{prefix}/d.sock", f"--pidfile={prefix}/d.pid"]
        command += ["--bridge=none", "--iptables=false", "--ip6tables=false"]
        command += ["--default-ulimit=nofile=20000:20000"]
        with (prefix / "dockerd.log").open("ab") as log:
            self._daemon = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(lambda: self.run("version", "--format={{.Server.Version}}", check=False))

    def stop(self) -> None:
        """End and remove all containers, then what keeps them."""
        names = self.containers()
        if names:
            self.run("rm", "--force", *names)
        if self._daemon is not None:
            self._daemon.terminate()
            self._daemon.wait(timeout=30)
        if self.program == "podman":
            # Layers are mounted below it.
            self.run("system", "reset", "--force", check=False)
        subprocess.run(["umount", "--recursive", "--quiet", str(self.prefix)], check=False)


def volumes() -> list[str]:
    """What lets the image run this Python: `volumes` of a configuration."""
    seen = ["/usr", sys.prefix, sys.base_prefix]
    return [f"{path}:{path}:ro" for path in dict.fromkeys(seen)]


def _tree(prefix: Path) -> Path:
    """A tar file with the image's files."""
    tree = prefix / "tree"
    for name in ("bin", "etc", "tmp", "root", "proc", "sys", "dev", "usr", "opt"):
        (tree / name).mkdir(parents=True)
    (tree / "tmp").chmod(0o1777)
    for name in ("lib", "lib64"):
        (tree / name).symlink_to(f"usr/{name}")
    busybox = shutil.which("busybox", path=_SEARCH)
    assert busybox is not None
    shutil.copy(busybox, tree / "bin" / "busybox")
    for name in SHELL:
        (tree / "bin" / name).symlink_to("busybox")
    (tree / "etc" / "passwd").write_text(PASSWD)
    (tree / "etc" / "group").write_text(GROUP)
    packed = prefix / "tree.tar"
    with tarfile.open(packed, "w") as archive:
        archive.add(tree, arcname=".")
    return packed


@contextmanager
def serve_engine(program: str) -> Iterator[ContainerEngine]:
    """A running engine with the image IMAGE, ended with all of its containers in the end."""
    missing = [name for name in _PROGRAMS[program] if shutil.which(name, path=_SEARCH) is None]
    if missing or os.getuid() != 0:
        pytest.skip(f"needs root and {', '.join(missing) or program}: {INSTALL[program]}")
    prefix = Path("/tmp") / f"{program}-{secrets.token_hex(4)}"
    prefix.mkdir(mode=0o700)
    engine = ContainerEngine(program, prefix)
    try:
        engine.start()
        yield engine
    finally:
        engine.stop()
        shutil.rmtree(prefix)


@pytest.fixture(scope="session")
def podman() -> Iterator[ContainerEngine]:
    """podman with the image IMAGE; the tests share it."""
    with serve_engine("podman") as engine:
        yield engine


@pytest.fixture(scope="session")
def docker() -> Iterator[ContainerEngine]:
    """docker with the image IMAGE; the tests share it."""
    with serve_engine("docker") as engine:
        yield engine
