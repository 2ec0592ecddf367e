"""What an agent is told of a job that it is given."""

import json
import shlex
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
        "config_path": f"jobs/{ticket.job}/{REQUEST}",
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


def _arguments(ticket: Ticket, attempt_dir: Path, interpreter: Interpreter) -> list[str]:
    if ticket.command is not None:
        shell = ["/bin/sh", "-c", ticket.command]
        return shell if ticket.shell else shlex.split(ticket.command)
    alone = ("-m", "ctxlib.alone", str(attempt_dir))
    return ["python3", *alone] if ticket.image else interpreter.command(*alone)
