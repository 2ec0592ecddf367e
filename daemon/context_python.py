"""The Python that runs the context file: whether it has what that needs, asked of itself."""

import json
from pathlib import Path

from daemon.child import ask
from daemon.sandbox import Interpreter

TIMEOUT = 120.0
"""Seconds that starting it and importing its libraries may take, on a slow filesystem."""

LEAST_PYTHON = (3, 10)
LEAST = {"numpy": "1.26", "h5py": "3.10", "xarray": "2024.1"}
"""What ctxlib needs, each with the oldest version that its tests were run with."""
LEAST_BY_SOURCE = {"euxfel": {"extra_data": "1.20"}}

# Run by whatever Python the user named, so it is written in what the oldest understand.
_ASK = """
import json, sys
result, library, source, least_python, least = json.loads(sys.argv[1])
trouble, lacking = [], []

def numbers(version):
    return [int(part) for part in version.split(".")[:2] if part.isdigit()]

def ask():
    if list(sys.version_info[:2]) < least_python:
        have = ".".join(str(part) for part in sys.version_info[:3])
        need = ".".join(str(part) for part in least_python)
        trouble.append("it is Python %s, and %s or newer is needed" % (have, need))
        return
    for name in sorted(least):
        try:
            module = __import__(name)
        except ImportError as error:
            lacking.append(name)
            known = error.name == name
            trouble.append("it has no " + name if known else "%s: %s" % (name, error))
        except Exception as error:
            trouble.append("%s: %s: %s" % (name, type(error).__name__, error))
        else:
            have = str(getattr(module, "__version__", "0"))
            if numbers(have) < numbers(least[name]):
                lacking.append(name)
                need = "%s or newer is needed" % least[name]
                trouble.append("its %s is version %s, and %s" % (name, have, need))
    if not trouble:
        sys.path.insert(0, library)
        from ctxlib import sources
        try:
            sources.find(source)
        except sources.UnknownSource as error:
            trouble.append(str(error))

ask()
with open(result, "w") as file:
    json.dump([trouble, lacking], file)
"""


async def check_python(interpreter: Interpreter, library: Path, source: str) -> str | None:
    """Why it cannot run a context file on runs of `source`, in words; None when it can.

    `library` is where ctxlib is imported from.
    """
    python = interpreter.python
    if not (interpreter.sandbox or Path(python).is_file()):
        return f"there is no file {python}; give the path of a `python` executable"
    least = {**LEAST, **LEAST_BY_SOURCE.get(source, {})}

    def command(result: str) -> list[str]:
        question = [result, str(library), source, LEAST_PYTHON, least]
        return interpreter.command("-c", _ASK, json.dumps(question))

    try:
        # In a folder without modules that would be taken for those of the Python.
        answer, code, output = await ask(command, Path("/"), TIMEOUT)
    except TimeoutError:
        return f"{python} does not run: no end within {TIMEOUT:g} s"
    except OSError as error:
        what, mend = interpreter.not_started(error)
        return f"{what}; {mend}"
    if code or answer is None:
        last = output.splitlines()[-1] if output else "it is no Python"
        return f"{python} does not run as a Python does (exit code {code}): {last}"
    trouble, lacking = answer
    if not trouble:
        return None
    mend = f"; {python} -m pip install -U {' '.join(lacking)} mends that" if lacking else ""
    return f"{python} cannot run context files: {'; '.join(trouble)}{mend}"
