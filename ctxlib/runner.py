"""One runner: a process that works on one attempt of one job, start to end.

Every result is written, to the journal or a fragment, before its `finished` line says so; whoever
goes on after this process was killed computes the rest and nothing twice.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import os
import platform
import socket
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctxlib import claim, limits, output, processes, sources
from ctxlib.command import execute, missing
from ctxlib.context import load
from ctxlib.deferred import deferred, lost_errors, running_when_lost
from ctxlib.errors import ContextError, Problem
from ctxlib.evaluate import evaluate
from ctxlib.graph import Node
from ctxlib.job_folder import read_request
from ctxlib.journal import JournalReader, Wake, file_name, waker
from ctxlib.known import known_results
from ctxlib.loaded import Loaded, part_of
from ctxlib.metadata import Metadata
from ctxlib.recorder import JobRecorder
from ctxlib.selection import FIRST
from ctxlib.staleness import complete
from ctxlib.starting import end_with, enter
from ctxlib.telling import Telling

Request = Mapping[str, Any]


def run(
    attempt_dir: Path, n: int, loaded: Loaded | None, wake: Wake | None, *, terminal: bool = False
) -> int:
    """Do what is left of a job as its runner number `n`; return the exit code.

    `loaded` is the context where this process has it already. Output goes to the job's log, or
    stays on the terminal.
    """
    request = read_request(attempt_dir)
    # By this whoever tidies up knows the programs that variables start, in whatever session.
    os.environ[processes.ATTEMPT] = str(attempt_dir)
    telling = Telling(attempt_dir / file_name(n), wake)
    work = _Run(request, attempt_dir, n, telling)
    if not terminal:
        try:
            output.redirect(Path(request["log"]))
        except OSError as error:
            work.refuse(f"the log {request['log']} cannot be written: {error.strerror}")
            return 1
    output.write_by_line()
    # Says in the log which line of Python it was that crashed in C.
    faulthandler.enable(2)
    output.say(_header(request, attempt_dir, n))
    try:
        return work.go(loaded)
    finally:
        output.flush()


@dataclass
class _Run:
    request: Request
    attempt_dir: Path
    n: int
    telling: Telling
    recorder: JobRecorder | None = None

    def go(self, loaded: Loaded | None) -> int:
        """Load, plan, open, evaluate; 1 when one of the first three did not work.

        When something of our own fails after that, this process ends for another to go on.
        """
        try:
            return self._go(loaded)
        except BaseException as error:
            if self.recorder is not None and self.recorder.begun:
                self.telling.leave(_words_for_spoilt(error))
            if not isinstance(error, Exception):
                raise
            # Whatever it is, the run's row has to say it.
            self.refuse(
                f"it could not be processed: {type(error).__name__}: {error}",
                traceback=traceback.format_exc(),
            )
            return 1

    def _go(self, loaded: Loaded | None) -> int:
        limits.apply_inside(self.request["cpus"], self.request["memory"])
        limits.reseed()
        if self.request.get("command") is not None:
            return self._command()
        try:
            loaded = loaded or Loaded.of(load(Path(self.request["context"])))
        except ContextError as error:
            self.refuse("the context file cannot be executed", error.problems)
            return 1
        loaded = loaded.for_backends(self.request.get("backends"))
        self.telling.write("begin", **_about_me(), context_sha256=loaded.sha256)
        # Requests that were written before there were parameters have none.
        params = loaded.graph.context.set_parameters(self.request.get("params", {}))
        try:
            data = sources.available_data(self.request)
            nodes = self._plan(loaded, data, params)
            known = known_results([*self._inputs(), self.attempt_dir.parent])
            if self.n > 1 and all(known.done(node.name) for node in nodes):
                opened = sources.OpenedRun(None, None)
            else:
                opened = sources.open_run({**self.request, "data": data})
                self.telling.write("run", start_time=opened.start_time)
        except sources.RunUnavailable as error:
            self.telling.write("run", start_time=error.start_time)
            self.refuse(str(error))
            return 1
        except KeyError as error:
            self.refuse(str(error.args[0]))
            return 1
        if (folder := self.request.get("working_dir")) is not None:
            if why := missing(folder):
                self.refuse(why)
                return 1
            os.chdir(folder)
        self.recorder = self._recorder(loaded, nodes, params)
        evaluate(
            nodes,
            opened.run,
            self._meta(),
            self.recorder,
            known=known,
            params=params,
            metadata=Metadata.of_run(self.request, output.say),
            interruptible=False,  # whatever raises KeyboardInterrupt here is no person
        )
        self.telling.write("end")
        return 0

    def _command(self) -> int:
        if self.n > 1:
            self.refuse("its process was lost, and a command is not begun twice")
            return 1
        self.telling.write("begin", **_about_me("pid", "host", "python"))
        why = execute(self.request)
        if why:
            self.refuse(why)
            return 1
        self.telling.write("end")
        return 0

    def refuse(
        self, message: str, problems: list[Problem] | None = None, traceback: str = ""
    ) -> None:
        """End the job with this reason, here and in its journal; `problems` are the context's."""
        lines = "".join(f"\n#   {problem}" for problem in problems or [])
        output.say(f"nothing done: {message}{lines}\n{traceback}".rstrip())
        listed = [problem.to_json() for problem in problems or []]
        self.telling.write("error", message=message, traceback=traceback, problems=listed)

    def _plan(self, loaded: Loaded, data: str, params: Mapping[str, Any]) -> list[Node]:
        """Choose the variables and say which; KeyError for a name that there is not."""
        graph, part = loaded.graph, part_of(self.request)
        chosen = {
            "data": data,
            "variables": self.request["variables"],
            "match": self.request["match"],
            # Only a first job takes what is for its own backend into its part.
            "home": self.request.get("backend", "") if part == FIRST else "",
        }
        lost = running_when_lost(self.attempt_dir)
        nodes = deferred(graph.select(**chosen, part=part), lost)
        later = graph.later(**chosen) if part == FIRST else []
        self.telling.write(
            "plan",
            variables=loaded.described,
            params=params,
            order=[node.name for node in nodes],
            later=[
                {"part": each.name, "variables": list(each.variables), "needs": list(each.needs)}
                for each in later
            ],
            problems=[problem.to_json() for problem in graph.problems],
        )
        errors = lost_errors(lost, self.request.get("max_attempts", 0))
        for name in (node.name for node in nodes if node.name in errors):
            output.say(f"{name}: {errors[name]['message']}")
            self.telling.write("failed", variable=name, error=errors[name], duration=0.0)
        return nodes

    def _inputs(self) -> list[Path]:
        jobs = self.attempt_dir.parent.parent
        return [jobs / name for name in self.request["inputs"]]

    def _meta(self) -> dict[str, object]:
        root = self.request["proposal_path"]
        return {
            "run_number": self.request["run"],
            "proposal": self.request["proposal"],
            "proposal_path": None if root is None else Path(root),
        }

    def _recorder(
        self, loaded: Loaded, nodes: Sequence[Node], params: Mapping[str, Any]
    ) -> JobRecorder:
        names = [node.name for node in nodes]
        return JobRecorder(
            self.attempt_dir,
            self.telling,
            self._origin(loaded.sha256),
            params=params,
            fingerprints=complete(loaded.described, params, names),
            cpus=self.request["cpus"],
            memory=self.request["memory"],
        )

    def _origin(self, sha256: str) -> dict[str, object]:
        return {
            "context_sha256": sha256,
            "job": self.request["id"],
            "attempt": int(self.attempt_dir.name),
            **_about_me("host", "python", "versions"),
        }


def _header(request: Request, attempt_dir: Path, n: int) -> str:
    where = f"process {os.getpid()} of {claim.user_name()} on {processes.host()}"
    if n > 1:
        return f"{_last_death(attempt_dir)}; job {request['id']} goes on in {where}"
    what = "" if request.get("command") is None else f"{request['command']!r}"
    what = what or f"proposal {request['proposal']}, run {request['run']}, {request['data']} data"
    today = time.strftime("%Y-%m-%d")
    return f"{today} job {request['id']}, attempt {attempt_dir.name}: {what}; {where}"


def _words_for_spoilt(error: BaseException) -> str:
    """Say what failed; what a variable has done may have its effect here too."""
    words = "something that all variables need does not work any more"
    with contextlib.suppress(Exception):
        return f"{words}:\n{''.join(traceback.format_exception(error))}"
    return words


def _last_death(attempt_dir: Path) -> str:
    died = [entry for entry in JournalReader(attempt_dir).read() if entry.kind == "died"]
    if not died:
        return "the process ended"
    fields = died[-1].fields
    variable = fields["variable"] or fields.get("retried") or "outside of any variable"
    return f"{variable}: {fields['reason']}"


def _about_me(*names: str) -> dict[str, object]:
    """Say what process this is; if `names` are given, only these of it."""
    modules = ("numpy", "h5py", "xarray", "extra_data")
    about = {
        "pid": os.getpid(),
        "host": processes.host(),
        "python": platform.python_version(),
        "versions": {m: str(sys.modules[m].__version__) for m in modules if m in sys.modules},
    }
    return {name: about[name] for name in names or about}


def main() -> None:
    """Be a runner in an interpreter of its own; the process that claimed the attempt starts it."""
    parser = argparse.ArgumentParser(prog="ctxlib.runner", description=__doc__)
    parser.add_argument("attempt_dir", type=Path)
    parser.add_argument("n", type=int)
    parser.add_argument("--wake", type=int, metavar="FD")
    parser.add_argument("--terminal", action="store_true")
    args = parser.parse_args()
    claimed = claim.read(args.attempt_dir)
    if claimed is None:
        raise SystemExit(f"{args.attempt_dir} is not claimed; its fork server has to start this")
    enter(claimed.pid, args.attempt_dir)
    os.chdir(Path(read_request(args.attempt_dir)["context"]).parent)
    wake = None
    if args.wake is not None:
        channel = socket.socket(fileno=args.wake)
        channel.set_inheritable(False)
        wake = waker(channel, args.attempt_dir)
    end_with(lambda: run(args.attempt_dir, args.n, None, wake, terminal=args.terminal))


if __name__ == "__main__":
    main()
