"""Services of Slurm over HTTP: a real slurmrestd, and one that has the shapes of later versions.

The latter stands in front of the former and puts what goes through into the shape of v0.0.41, as
its documentation has it, so that the same jobs run on the same cluster. It is stricter than the
real one: it takes no field and no value that is not in the published lists.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from helpers import wait_until
from slurm_cluster import INSTALL, SlurmCluster

_NOBODY = "65534"
_SEARCH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
_TEXTS = frozenset(
    {"account", "array", "comment", "constraints", "current_working_directory", "dependency"}
    | {"licenses", "mail_user", "name", "partition", "qos", "reservation", "script"}
    | {"standard_error", "standard_input", "standard_output", "tres_per_job", "tres_per_node"}
)
_INTEGERS = frozenset({"cpus_per_task", "maximum_nodes", "minimum_nodes", "nice", "tasks"})
_NUMBERS = frozenset({"memory_per_node", "time_limit"})
_MAILS = {"INVALID_DEPENDENCY": "INVALID_DEPEND", "TIME=100%": "TIME_LIMIT"}
_LISTS: dict[str, frozenset[str] | None] = {
    "environment": None,
    "excluded_nodes": None,
    "required_nodes": None,
    "mail_type": frozenset(
        {"BEGIN", "END", "FAIL", "REQUEUE", "STAGE_OUT", "ARRAY_TASKS", *_MAILS}
    ),
    "open_mode": frozenset({"APPEND", "TRUNCATE"}),
    "shared": frozenset({"none", "oversubscribe", "user", "mcs", "topo"}),
}
"""The fields of a job to submit as v0.0.40 to v0.0.44 have them, by their types, and the words that
may stand in lists."""


def _is_good(name: str, value: Any) -> bool:
    """Whether a field of a job is one, and its value of its type."""
    if name in _LISTS:
        known = _LISTS[name]
        words = isinstance(value, list) and all(isinstance(word, str) for word in value)
        return words and (known is None or known.issuperset(value))
    if name in _NUMBERS:
        kinds = {"set": bool, "infinite": bool, "number": int}
        return isinstance(value, dict) and {key: type(value[key]) for key in value} == kinds
    kinds_of = ((_TEXTS, str), (_INTEGERS, int), ({"requeue"}, bool))
    return any(name in names and type(value) is kind for names, kind in kinds_of)


class RestServer:
    """A service at `port`; `options` are those of a configuration that reaches it."""

    def __init__(self, port: int, token: Path) -> None:
        """`token` is the file with root's token."""
        self.port = port
        self.token = token
        self.options: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": port,
            "use_http": True,
            "user": "root",
            "token": f"file:{token}",
        }


@contextlib.contextmanager
def serve_rest(cluster: SlurmCluster, folder: Path) -> Iterator[RestServer]:
    """The real service of `cluster`, with its files in `folder`, ended in the end."""
    program = shutil.which("slurmrestd", path=_SEARCH)
    if program is None:
        pytest.skip(f"needs slurmrestd: {INSTALL}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = folder / "token"
    token.write_text(cluster.run("scontrol", "token", "username=root", "lifespan=3600"))
    # It refuses to run as root.
    as_nobody = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
    plugins = "openapi/v0.0.37,openapi/v0.0.38"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*as_nobody, program, "-a", "rest_auth/jwt", "-s", plugins, f"127.0.0.1:{port}"],
            env={
                **cluster.environment,
                "SLURM_JWT": "daemon",
                "SLURMRESTD_SECURITY": "disable_unshare_files",
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: _answers(port), 60)
        yield RestServer(port, token)
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.fixture(scope="session")
def slurmrestd(
    slurm_cluster: SlurmCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RestServer]:
    """The service that tests share; see `serve_rest`."""
    with serve_rest(slurm_cluster, tmp_path_factory.mktemp("rest")) as server:
        yield server


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port)):
            return True
    except OSError:
        return False


class LaterServer(RestServer):
    """A service of v0.0.41 before a real one of v0.0.38; `recorded` are the jobs of its accounting.

    `asked` has the methods and paths of all requests.
    """

    def __init__(self, real: RestServer) -> None:
        """Serve at once."""
        self.real = real
        self.recorded: list[Any] = []
        self.asked: list[str] = []
        handler = type("Handler", (_Handler,), {"later": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        super().__init__(self._server.server_address[1], real.token)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    later: ClassVar[LaterServer]

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer(*self._served())

    do_POST = do_DELETE = do_GET

    def _served(self) -> tuple[int, Any]:
        self.later.asked.append(f"{self.command} {self.path}")
        length = int(self.headers.get("Content-Length", 0))
        content = json.loads(self.rfile.read(length)) if length else None
        if self.path == "/openapi/v3":
            return 200, {"paths": {f"/slurm/v0.0.{n}/jobs": {} for n in (39, 40, 41)}}
        if self.path.startswith("/slurmdb/v0.0.41/job/"):
            return 200, {"jobs": self.later.recorded, "errors": [], "warnings": []}
        if not self.path.startswith("/slurm/v0.0.41/"):
            return 404, "Unable find requested URL"
        if content is not None:
            job = content["job"]
            wrong = [name for name in job if not _is_good(name, job[name])]
            if wrong := wrong + [name for name in content if name != "job"]:
                return 400, {"errors": [{"error": f"unexpected {wrong}", "error_number": 9202}]}
            content = _submission(job)
        status, answer = self._ask(content)
        return (404, answer) if _is_missing(answer) else (status, answer)

    def _ask(self, content: Any) -> tuple[int, Any]:
        url = f"http://127.0.0.1:{self.later.real.port}{self.path.replace('41', '38', 1)}"
        headers = {name: self.headers[name] for name in self.headers if name.startswith("X-")}
        with httpx.Client(trust_env=False) as client:
            answer = client.request(self.command, url, json=content, headers=headers)
        try:
            found = answer.json()
        except ValueError:
            return answer.status_code, answer.text
        found["warnings"] = []
        found["jobs"] = [_job(job) for job in found.get("jobs", ())]
        found["partitions"] = [_partition(each) for each in found.get("partitions", ())]
        for each in found.get("reservations", ()):
            each |= {name: _number(each[name]) for name in ("start_time", "end_time")}
        return answer.status_code, found

    def _answer(self, status: int, content: Any) -> None:
        text = content if isinstance(content, str) else json.dumps(content)
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())


def _is_missing(answer: Any) -> bool:
    errors = answer.get("errors", ()) if isinstance(answer, dict) else ()
    return any(error.get("error_number") == 2017 for error in errors)


def _number(value: int | None) -> dict[str, Any]:
    return {"set": value is not None, "infinite": False, "number": value or 0}


def _submission(job: Mapping[str, Any]) -> dict[str, Any]:
    """A request of v0.0.41 as v0.0.38 has it."""
    given = dict(job)
    script = given.pop("script")
    given["environment"] = dict(entry.split("=", 1) for entry in given["environment"])
    given["nodes"] = [given.pop("minimum_nodes"), given.pop("maximum_nodes")]
    for name in ("time_limit", "memory_per_node"):
        if name in given:
            assert given[name]["set"] is True
            given[name] = given[name]["number"]
    if "required_nodes" in given:
        given["nodelist"] = ",".join(given.pop("required_nodes"))
    given["no_requeue"] = not given.pop("requeue")
    if "excluded_nodes" in given:
        given["exclude_nodes"] = ",".join(given.pop("excluded_nodes"))
    if "mail_type" in given:
        given["mail_type"] = ",".join(_MAILS.get(word, word) for word in given["mail_type"])
    if given.pop("shared", None) == ["none"]:
        given["exclusive"] = "exclusive"
    (given["open_mode"],) = [mode.lower() for mode in given["open_mode"]]
    return {"script": script, "job": given}


def _job(job: dict[str, Any]) -> dict[str, Any]:
    """A job of v0.0.38 as v0.0.41 has it."""
    code, signal = job["exit_code"] >> 8, job["exit_code"] & 127
    status = "SIGNALED" if signal else "ERROR" if code else "SUCCESS"
    numbers = {name: _number(job[name]) for name in ("array_job_id", "array_task_id")}
    return {
        **job,
        **numbers,
        "job_state": [job["job_state"]],
        "exit_code": {
            "status": [status],
            "return_code": _number(code),
            "signal": {"id": _number(signal or None), "name": ""},
        },
    }


def _partition(partition: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": partition["name"],
        "partition": {"state": [partition["state"]]},
        "groups": {"allowed": partition["allowed_groups"]},
    }


@pytest.fixture(scope="session")
def later_rest(slurmrestd: RestServer) -> Iterator[LaterServer]:
    """A service with the shapes of later versions, of the same cluster."""
    server = LaterServer(slurmrestd)
    yield server
    server.close()
