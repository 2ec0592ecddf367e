"""A private Slurm cluster on this machine: munged, slurmctld and several slurmd under one folder.

It listens on loopback alone, on free ports, and touches nothing in /etc. `run` gives the output of
a Slurm program, `environment` what makes every Slurm program use it.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import wait_until

INSTALL = (
    "apt-get install -y --no-install-recommends slurmctld slurmd slurm-client slurmrestd "
    "slurm-wlm-basic-plugins slurm-wlm-jwt-plugin munge"
)
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
_NODES = ("n1", "n2", "n3")

_CONFIGURATION = """\
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={prefix}/run/munge.socket
CredType=cred/munge
AuthAltTypes=auth/jwt
AuthAltParameters=jwt_key={prefix}/etc/jwt_hs256.key
StateSaveLocation={prefix}/state
SlurmdSpoolDir={prefix}/spool/%n
SlurmctldPidFile={prefix}/run/slurmctld.pid
SlurmdPidFile={prefix}/run/slurmd.%n.pid
SlurmctldLogFile={prefix}/log/slurmctld.log
SlurmdLogFile={prefix}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin={tasks}
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,bf_interval=1,defer_batch=no
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobCompType=jobcomp/filetxt
JobCompLoc={prefix}/log/jobcomp.log
AccountingStorageType=accounting_storage/none
MinJobAge=300
KillWait=2
InactiveLimit=0
UnkillableStepTimeout=30
SlurmctldTimeout=30
SlurmdTimeout=300
BatchStartTimeout=10
MessageTimeout=5
PropagateResourceLimits=NONE
PartitionName=main Nodes=n1,n2 Default=YES \
    MaxTime=INFINITE State=UP DefMemPerCPU=200 PriorityTier=10
PartitionName=upex Nodes=n1,n2 AllowGroups=daemon \
    MaxTime=60 State=UP DefMemPerCPU=200 PriorityTier=10
PartitionName=low Nodes=n3 \
    MaxTime=INFINITE State=UP DefMemPerCPU=200 PriorityTier=1 PreemptMode=CANCEL
PartitionName=high Nodes=n3 \
    MaxTime=INFINITE State=UP DefMemPerCPU=200 PriorityTier=20
PartitionName=closed Nodes=n1 \
    MaxTime=60 State=DOWN DefMemPerCPU=200
"""


_CGROUP = """\
CgroupPlugin=cgroup/v1
CgroupAutomount=no
ConstrainRAMSpace=yes
ConstrainSwapSpace=no
"""
_MEMORY = Path("/sys/fs/cgroup/memory")


class SlurmCluster:
    """One private cluster; `start` it, and `stop` it in the end.

    `limits_memory` tells whether jobs are held to their memory, as this machine lets us do so.
    """

    def __init__(self, prefix: Path) -> None:
        """Make the configuration under `prefix`, which must be short: it holds sockets."""
        self.prefix = prefix
        for name in ("etc", "run", "log", "state", "spool"):
            (prefix / name).mkdir(parents=True)
        self.configuration = prefix / "etc" / "slurm.conf"
        self.environment = {**_plain_environment(), "SLURM_CONF": str(self.configuration)}
        self.limits_memory = os.access(_MEMORY / "cgroup.procs", os.W_OK)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._secret("munge.key", 1024, 0o400)
        self._secret("jwt_hs256.key", 32, 0o600)
        self._configure()

    def _secret(self, name: str, size: int, mode: int) -> None:
        path = self.prefix / "etc" / name
        path.write_bytes(secrets.token_bytes(size))
        path.chmod(mode)

    def _configure(self) -> None:
        host = socket.gethostname().partition(".")[0]
        self.port, *ports = _free_ports(1 + len(_NODES))
        tasks = "task/cgroup" if self.limits_memory else "task/none"
        text = _CONFIGURATION.format(host=host, port=self.port, tasks=tasks, prefix=self.prefix)
        for name, port in zip(_NODES, ports, strict=True):
            text += (
                f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=16 "
                "RealMemory=8000 State=UNKNOWN\n"
            )
        self.configuration.write_text(text)
        (self.prefix / "etc" / "cgroup.conf").write_text(_CGROUP)

    def start(self) -> None:
        """Start everything and wait until jobs can be run."""
        run = self.prefix / "run"
        self._spawn(
            "munged",
            *("munged", "--foreground", "--force", "--num-threads=4"),
            f"--socket={run}/munge.socket",
            f"--key-file={self.prefix}/etc/munge.key",
            f"--pid-file={run}/munged.pid",
            f"--log-file={self.prefix}/log/munged.log",
            f"--seed-file={run}/munge.seed",
        )
        wait_until((run / "munge.socket").exists)
        self.start_controller("-c")
        for node in _NODES:
            self.start_node(node)
        wait_until(self._ready)

    def _ready(self) -> bool:
        states = self.run("sinfo", "--Node", "--noheader", "--format=%N %T", check=False).split(
            "\n"
        )
        return {line for line in states if line} == {f"{node} idle" for node in _NODES}

    def start_controller(self, *options: str) -> None:
        """Start slurmctld; one that was killed goes on from its state."""
        self._spawn("slurmctld", "slurmctld", "-D", *options)

    def greet_controller(self) -> None:
        """Have the nodes make themselves known to a new controller, which asks only later."""
        wait_until(lambda: self.run("sinfo", check=False))
        for node in _NODES:
            self._processes[node].send_signal(signal.SIGHUP)

    def kill_controller(self) -> None:
        """Kill slurmctld at once."""
        self._kill("slurmctld", signal.SIGKILL)

    def forget_everything(self) -> None:
        """Lose the state of a controller that was killed: it counts jobs from 1 again."""
        shutil.rmtree(self.prefix / "state")
        (self.prefix / "state").mkdir()

    def start_node(self, node: str) -> None:
        """Start the slurmd of a node."""
        self._spawn(node, "slurmd", "-D", "-N", node)

    def kill_node(self, node: str) -> None:
        """Kill the slurmd of a node; the steps that it has started go on."""
        self._kill(node, signal.SIGKILL)

    def run(self, *command: str, check: bool = True) -> str:
        """The output of a Slurm program."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=30
        )
        assert not check or done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def stop(self) -> None:
        """End all jobs, then the daemons; stopping these alone would leave jobs running."""
        if "slurmctld" in self._processes:
            self.run("scancel", "--full", f"--user={os.getuid()}", check=False)
            with contextlib.suppress(AssertionError):
                wait_until(lambda: not self.run("squeue", "--noheader", check=False), timeout=15)
        for name in [*_NODES, "slurmctld", "munged"]:
            self._kill(name, signal.SIGTERM)

        for node in _NODES:
            # What another cluster of ours is at stays.
            for path in sorted((_MEMORY / f"slurm_{node}").glob("**/"), reverse=True):
                with contextlib.suppress(OSError):
                    path.rmdir()

    def _spawn(self, name: str, program: str, *arguments: str) -> None:
        path = shutil.which(program, path=_SEARCH)
        assert path is not None, f"{program} is gone"
        with (self.prefix / "log" / f"{name}.out").open("ab") as output:
            self._processes[name] = subprocess.Popen(
                [path, *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _kill(self, name: str, number: signal.Signals) -> None:
        process = self._processes.pop(name, None)
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


_SEARCH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def _plain_environment() -> dict[str, str]:
    """Ours, without what another cluster or a job of it has put there."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SLURM_", "SBATCH_"))
    }


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def serve_cluster() -> Iterator[SlurmCluster]:
    """A running cluster of three nodes with 16 declared CPUs each, ended in the end.

    Partitions: `main` (the default), `upex` (for a group that root is not in), `low` and `high`
    (the latter preempts the former, on n3), `closed`.
    """
    missing = [name for name in _PROGRAMS if shutil.which(name, path=_SEARCH) is None]
    if missing or os.getuid() != 0:
        pytest.skip(f"needs root and {', '.join(missing) or 'Slurm'}: {INSTALL}")
    prefix = Path("/tmp") / f"slurm-{secrets.token_hex(4)}"
    cluster = SlurmCluster(prefix)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(prefix, ignore_errors=True)


@pytest.fixture(scope="session")
def slurm_cluster() -> Iterator[SlurmCluster]:
    """The cluster that tests share; see `serve_cluster`."""
    with serve_cluster() as cluster:
        yield cluster


if __name__ == "__main__":
    # By hand: `python tests/slurm_cluster.py FOLDER` serves until it is interrupted.
    by_hand = SlurmCluster(Path(sys.argv[1]).absolute())
    by_hand.start()
    print(f"export SLURM_CONF={by_hand.configuration}", flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        by_hand.stop()
