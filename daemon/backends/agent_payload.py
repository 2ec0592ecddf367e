"""What an agent is told of a job that it is given, and the file for what the job says."""

import json
import os
import shlex
import time
from pathlib import Path
from typing import Any

from ctxlib.job_folder import REQUEST
from daemon.backends.agent_ticket import Ticket
from daemon.backends.configurations.secrets import Secret
from daemon.sandbox import Interpreter


def payload(
    ticket: Ticket, attempt_dir: Path, *, folder: Path, library: Path, interpreter: Interpreter
) -> dict[str, Any]:
    """All that the agent of an attempt has to know, with secrets as they are.

    `folder` is the database's, at the same place wherever the job runs. Raises SecretError, and
    OSError or ValueError for a request that cannot be read.
    """
    request = json.loads((attempt_dir.parent / REQUEST).read_bytes())
    arguments = _arguments(ticket, attempt_dir, interpreter)
    own = {} if ticket.journaled else {"PYTHONPATH": str(library)}
    secret = {name: Secret(place).read() for name, place in ticket.secrets.items()}
    folders = [(str(folder), "rw")]
    if request.get("proposal_path"):
        folders.append((request["proposal_path"], "ro"))
    return {
        "job_id": ticket.job,
        "job_name": ticket.name,
        "config_path": request.get("config_path") or f"jobs/{ticket.job}/{REQUEST}",
        "preferred_host": ticket.preferred_host,
        "image": ticket.image,
        "container_name": ticket.container_name,
        "command": shlex.join(arguments),
        "volumes": [{"host": path, "container": path, "mode": mode} for path, mode in folders],
        "env": {**own, **ticket.env_vars, **secret},
        "attempt": ticket.attempt,
        "arguments": arguments,
        "attempt_dir": str(attempt_dir),
        "working_dir": ticket.working_dir or str(attempt_dir.parent),
        "log": str(log_file(attempt_dir.parent)),
        "timeout": ticket.timeout,
    }


def log_file(job_dir: Path) -> Path:
    """Where an agent writes what its job says."""
    return job_dir / "logs" / f"{job_dir.name}.log"


def begin_log(ticket: Ticket, attempt_dir: Path, agent: str) -> None:
    """Have what `agent` writes there be what is shown of a job that nobody of ours watches."""
    job_dir = attempt_dir.parent
    log = Path(json.loads((job_dir / REQUEST).read_bytes())["log"])
    log.parent.mkdir(exist_ok=True)
    now = time.time()
    clock = time.strftime("%H:%M:%S", time.localtime(now)) + f".{int(now % 1 * 1e3):03d}"
    today = time.strftime("%Y-%m-%d", time.localtime(now))
    with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
        who = f"job {ticket.job}, attempt {ticket.attempt}: {ticket.command!r}; agent {agent}"
        file.write(f"# {clock} {today} {who}\n")
    link = log_file(job_dir)
    if not link.is_symlink():
        link.symlink_to(os.path.relpath(log, link.parent))


def _arguments(ticket: Ticket, attempt_dir: Path, interpreter: Interpreter) -> list[str]:
    if not ticket.journaled:
        alone = ("-m", "ctxlib.alone", str(attempt_dir))
        return ["python3", *alone] if ticket.image else interpreter.command(*alone)
    command = ticket.command or ""
    return ["/bin/sh", "-c", command] if ticket.shell else shlex.split(command)
