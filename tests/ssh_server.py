"""An SSH server of our own on loopback, with keys of its own, whose sessions reach a Slurm cluster.

Everything is under one folder but /run/sshd, which the server insists on and which stays empty.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers import wait_until
from slurm_cluster import SlurmCluster

INSTALL = "apt-get install -y --no-install-recommends openssh-server"

_CONFIGURATION = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
UseDNS no
LogLevel VERBOSE
"""


class SshServer:
    """One server; `key_file` lets in, `known_hosts` knows its key, `options` has both."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        """Make the keys in `folder`; its sessions have `environment`."""
        self.folder = folder
        self._environment = environment
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.key_file, self.known_hosts = folder / "key", folder / "known_hosts"
        self.make_key(self.key_file)
        shutil.copy(folder / "key.pub", folder / "authorized_keys")
        self.make_key(folder / "host_key")
        public = (folder / "host_key.pub").read_text()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {public}")
        self.options: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": self.port,
            "key_file": str(self.key_file),
            "known_hosts": str(self.known_hosts),
        }
        text = _CONFIGURATION.format(port=self.port, folder=folder)
        # The user's own .bashrc, which may take long, is not read by a shell within another one.
        given = {**environment, "SHLVL": "2"}
        set_ = " ".join(f'"{name}={value}"' for name, value in given.items())
        (folder / "sshd_config").write_text(f"{text}SetEnv {set_}\n")
        self._process: subprocess.Popen[bytes] | None = None

    def make_key(self, path: Path, passphrase: str = "") -> None:
        """Make a pair of keys."""
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)]
        subprocess.run(command, check=True)

    def start(self) -> None:
        """Serve."""
        sshd = shutil.which("sshd", path=_SEARCH)
        assert sshd is not None
        Path("/run/sshd").mkdir(exist_ok=True)
        with (self.folder / "sshd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sshd, "-D", "-e", "-f", self.folder / "sshd_config"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._answers)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def logins(self) -> int:
        """How often somebody was let in."""
        return (self.folder / "sshd.log").read_text().count("Accepted publickey")

    def cut(self) -> None:
        """Kill all connections; the server goes on."""
        assert self._process is not None
        for child in psutil.Process(self._process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.name().startswith("sshd"):
                    child.kill()

    def stop(self) -> None:
        """End the server and all connections."""
        if self._process is not None:
            self.cut()
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(timeout=10)
            self._process = None


_SEARCH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


@contextlib.contextmanager
def serve_ssh(cluster: SlurmCluster, folder: Path) -> Iterator[SshServer]:
    """A running server in front of `cluster`, with its files in `folder`, ended in the end."""
    if shutil.which("sshd", path=_SEARCH) is None or os.getuid() != 0:
        pytest.skip(f"needs root and sshd: {INSTALL}")
    environment = {"SLURM_CONF": cluster.environment["SLURM_CONF"]}
    server = SshServer(folder, environment)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def ssh_server(
    slurm_cluster: SlurmCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SshServer]:
    """The server that tests share; see `serve_ssh`."""
    with serve_ssh(slurm_cluster, tmp_path_factory.mktemp("sshd")) as server:
        yield server
