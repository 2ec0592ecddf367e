"""Whether jobs can run in the sandbox of `sandbox_args`, tried with a Python in it."""

import json
from pathlib import Path

from ctxlib import processes
from daemon.child import ask
from daemon.sandbox import DATABASE, LEAVE_PROCESSES, Interpreter

TIMEOUT = 60.0

_TRY = """
import json, os, socket, sys
result, folder, library = json.loads(sys.argv[1])
found = {"host": socket.gethostname(), "library": os.path.isdir(library)}
try:
    found["processes"] = os.readlink("/proc/self/ns/pid")
except OSError:
    found["processes"] = None
probe = os.path.join(folder, ".sandbox-%d" % os.getpid())
try:
    os.close(os.open(probe, os.O_WRONLY | os.O_CREAT, 0o600))
    os.unlink(probe)
    found["writing"] = None
except OSError as error:
    found["writing"] = error.strerror
with open(result, "w") as file:
    json.dump(found, file)
"""


async def check_sandbox(interpreter: Interpreter, folder: Path, library: Path) -> str | None:
    """Why jobs of the database in `folder` cannot run there, in words; None when they can."""

    def command(result: str) -> list[str]:
        return interpreter.command("-c", _TRY, json.dumps([result, str(folder), str(library)]))

    try:
        found, code, output = await ask(command, library, TIMEOUT)
    except TimeoutError:
        return f"a Python in it does not end within {TIMEOUT:g} s"
    except OSError as error:
        what, mend = interpreter.not_started(error)
        return f"{what.removeprefix('sandbox_args: ')}; {mend}"
    if found is None:
        last = output.splitlines()[-1] if output else "it says nothing"
        return f"no Python can be run in it (exit code {code}): {last}; it needs /dev and /proc too"
    if found["processes"] is None:
        return "it has no /proc, which shows the processes of a job; add --proc /proc"
    if found["processes"] != str(Path("/proc/self/ns/pid").readlink()):
        return f"the daemon could not watch its processes; {LEAVE_PROCESSES}"
    if found["host"] != processes.host():
        return f"it changes the name of the host to {found['host']}; leave --hostname out"
    if not found["library"]:
        return f"it does not show {library}; add --ro-bind / /"
    if found["writing"] is not None:
        return f"it cannot write {folder} ({found['writing']}); add --bind {DATABASE} {DATABASE}"
    return None
