"""What a container gets: its command line, what it sees and may write, its environment."""

import hashlib
import os
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctxlib.alone import ENVIRONMENT
from ctxlib.job_folder import CPUS, MEMORY
from daemon.backends.configurations.container import ContainerConfig

FOLDER, ATTEMPT, KEEP = "runtable.folder", "runtable.attempt", "runtable.keep"
"""Labels: which database's container it is, for which attempt, and that it stays when it ended."""

# What the engine's own program looks at: these must not be changed for it.
_ENGINES = re.compile(
    r"PATH|HOME|USER|LOGNAME|TMPDIR|TERM|REGISTRY_AUTH_FILE|NOTIFY_SOCKET|(?i:\w+_proxy)|"
    r"(LD|XDG|DOCKER|BUILDKIT|CONTAINERS?|PODMAN|BUILDAH|STORAGE|SSL|DBUS|GO|APPTAINER|SINGULARITY)"
    r"[A-Z_0-9]*"
)


@dataclass(frozen=True)
class Mount:
    """A file or folder of the host that is seen at `target` in the container."""

    source: str
    target: str
    writable: bool = False

    def option(self, only_read: str = "readonly") -> str:
        """The value of an engine's --mount, in which fields are quoted as in CSV."""
        fields = ["type=bind", f"source={self.source}", f"target={self.target}"]
        fields += [] if self.writable else [only_read]
        return ",".join(map(_quoted, fields))


def _quoted(field: str) -> str:
    if not any(character in field for character in ',"\r\n'):
        return field
    return '"' + field.replace('"', '""') + '"'


def digest(text: str) -> str:
    """A short name for a text of any length and any characters."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def folder_label(folder: Path) -> str:
    """The value of the label FOLDER for the database in `folder`."""
    return digest(str(folder.resolve()))


def container_name(attempt_dir: Path) -> str:
    """The name of an attempt's container: the same for the same attempt, so there is only one."""
    job = re.sub(r"[^A-Za-z0-9_.-]", "_", attempt_dir.parent.name)[:60]
    return f"runtable-{job}-{attempt_dir.name}-{digest(str(attempt_dir))[:8]}"


def host_name(attempt_dir: Path) -> str:
    """The container's host name: never this host's, for whose processes its would be taken."""
    return f"{socket.gethostname()[:40].rstrip('.-')}-{digest(str(attempt_dir))[:8]}"


def mounts(
    config: ContainerConfig,
    folder: Path,
    library: Path,
    attempt_dir: Path,
    request: Mapping[str, Any],
) -> list[Mount]:
    """What the container sees of the host, each at its own path but for the volumes.

    Runs, the database in `folder` and `library` can be read; the attempt's folder, the folder of
    the log and the working directory can be written.
    """
    found = {str(path): Mount(str(path), str(path)) for path in _seen(folder, request)}
    for volume in config.mounts():
        writable = "ro" not in volume.mode.split(",")
        target = str(volume.container)
        found[target] = Mount(str(volume.host), target, writable)
    if config.working_dir is not None and config.working_dir not in found:
        found[config.working_dir] = Mount(config.working_dir, config.working_dir, True)
    for path in (attempt_dir, Path(request["log"]).parent):
        found[str(path)] = Mount(str(path), str(path), True)
    found[str(library)] = Mount(str(library), str(library))
    # What lies within another comes after it.
    return sorted(found.values(), key=lambda mount: (len(Path(mount.target).parts), mount.target))


def groups(folder: Path, request: Mapping[str, Any]) -> list[int]:
    """The groups to which the database in `folder`, its context file and its runs are open."""
    return sorted({path.stat().st_gid for path in _seen(folder, request)})


def _seen(folder: Path, request: Mapping[str, Any]) -> list[Path]:
    return [*_data(request), Path(request["context"]).parent, folder]


def _data(request: Mapping[str, Any]) -> Iterable[Path]:
    """Where the runs are: the proposal's folder, and what its links lead to elsewhere."""
    if request["proposal_path"] is None:
        return
    proposal = Path(request["proposal_path"])
    yield proposal
    for data in ("raw", "proc"):
        # A mount of its own too: within one that can only be read it could be written.
        if (proposal / data).is_dir():
            yield (proposal / data).resolve()


def environment(config: ContainerConfig) -> dict[str, str]:
    """The environment of the job, secrets included. Raises SecretError."""
    given = config.environment()
    home = {"HOME": "/tmp"} if config.user is None and os.getuid() != 0 else {}
    limits = {CPUS: str(config.cpu)}
    if config.memory is not None:
        limits[MEMORY] = str(_bytes(config.memory))
    # It would keep the folder that Python is started in, where ctxlib is, from being looked at.
    return {**ENVIRONMENT, **home, **given, "PYTHONSAFEPATH": "", **limits}


def _bytes(memory: str) -> int:
    units = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
    unit = units.get(memory[-1].lower(), 1)
    return int(memory.rstrip("kmgKMG")) * unit


def _shared_memory() -> str:
    """How much memory processes of this host can share, in bytes; an engine's default else."""
    try:
        found = os.statvfs("/dev/shm")
    except OSError:
        return "64m"
    return str(found.f_blocks * found.f_frsize)


def for_client(variables: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """How the engine's program gets `variables`, never on its command line.

    Most stand in its own environment, from where it takes them by name, whatever is in them. Those
    that mean something to itself are lines of an environment file. Raises ValueError.
    """
    direct = {name: value for name, value in variables.items() if not _ENGINES.fullmatch(name)}
    lines = []
    for name in sorted(set(variables) - set(direct)):
        if "\n" in variables[name] or "\r" in variables[name]:
            raise ValueError(f"env_vars: {name} must be one line")
        lines.append(f"{name}={variables[name]}\n")
    return direct, "".join(lines)


def user_options(
    engine: str, user: tuple[int, int], given: bool, groups: Iterable[int] = ()
) -> list[str]:
    """Options for the container's processes to be of `user`; not `given`: the daemon's own.

    `groups` are those that another user than the daemon's needs to read what a job reads.
    """
    uid, gid = user
    options = [f"--user={uid}:{gid}"]
    if engine == "podman" and os.getuid() != 0:
        # Without root all the container's users but one are others on the host.
        options += [f"--userns=keep-id:uid={uid},gid={gid}" if given else "--userns=keep-id"]
        return options[:1] if uid == 0 else options
    if not given and os.getuid() != 0:
        groups = os.getgroups()
    elif uid in (0, os.getuid()):
        groups = ()
    return options + [f"--group-add={group}" for group in groups if group != gid]


def run_command(
    config: ContainerConfig,
    image: str,
    folder: Path,
    library: Path,
    attempt_dir: Path,
    places: Iterable[Mount],
    names: Iterable[str],
    user: tuple[int, int],
    groups: Iterable[int] = (),
) -> list[str]:
    """The arguments with which docker and podman start an attempt in the background.

    `names` are the environment variables that they take from their own environment; `groups` see
    `user_options`.
    """
    command = ["run", "--detach", f"--name={container_name(attempt_dir)}"]
    command += [f"--hostname={host_name(attempt_dir)}"]
    command += [f"--label={FOLDER}={folder_label(folder)}", f"--label={ATTEMPT}={attempt_dir}"]
    command += [] if config.remove_container else [f"--label={KEEP}=1"]
    command += [f"--cpus={config.cpu}"]
    if config.memory is not None:
        # Without the second there would be as much swap again.
        command += [f"--memory={config.memory}", f"--memory-swap={config.memory}"]
    # What the processes of a job share is its memory, and would have 64 MB else.
    command += [f"--shm-size={config.memory or _shared_memory()}"]
    # Folders on a cluster's filesystem cannot be labelled for SELinux.
    command += ["--security-opt=label=disable"]
    command += user_options(config.engine, user, config.user is not None, groups)
    for mount in places:
        command += ["--mount", mount.option()]
    for name in names:
        command += ["--env", name]
    command += ["--workdir", str(library), f"--entrypoint={config.python}"]
    return [*command, image, "-m", "ctxlib.alone", str(attempt_dir)]


def apptainer_command(
    config: ContainerConfig, library: Path, attempt_dir: Path, places: Iterable[Mount]
) -> list[str]:
    """The command with which apptainer runs an attempt.

    Its processes are this host's like any others: cores, memory and time are held by Runtable's
    own watcher. Raises ValueError for a user, as it runs everything as the daemon's.
    """
    if config.user is not None:
        raise ValueError("apptainer runs jobs as the daemon's own user: leave `user` out")
    image = config.image or ""
    if "://" not in image and not image.startswith("/"):
        image = f"docker://{image}"
    command = ["apptainer", "exec", "--cleanenv", "--no-home"]
    command += ["--pwd", str(library)]
    for mount in places:
        command += ["--mount", mount.option("ro")]
    return [*command, image, config.python, "-m", "ctxlib.alone", str(attempt_dir)]
