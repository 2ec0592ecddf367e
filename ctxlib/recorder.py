"""Saves what the variables of a job return, and says in its journal how each of them ended."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ctxlib import files, limits, output, patience, plain, processes, reporting, summaries
from ctxlib.errors import (
    LONGEST_TRACEBACK,
    Skip,
    UnsavableError,
    describe,
    error_text,
    shortened,
    user_traceback,
)
from ctxlib.graph import Node
from ctxlib.job_folder import FRAGMENTS
from ctxlib.surroundings import Surroundings
from ctxlib.telling import Telling

_LOG = "the run's log"
_GOOD = np.arange(3.0)

_Saved = dict[str, object]
"""What a `finished` line says of a result."""


@dataclass
class JobRecorder:
    """The recorder of one runner; `telling` is its journal, `origin` is where its results come
    from, short of what differs between them: `params` are the values that parameters
    have, `fingerprints` those of the variables. `cpus` and `memory` (bytes) are what the job may
    use. `begun` tells that a function of a variable was called in this process.
    """

    attempt_dir: Path
    telling: Telling
    origin: dict[str, object]
    params: Mapping[str, object] = field(default_factory=dict)
    fingerprints: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    cpus: int | None = None
    memory: int | None = None
    begun: bool = field(default=False, init=False)
    _waited: set[str] = field(default_factory=set, init=False)
    _since: _Use | None = field(default=None, init=False)
    _limits: ExitStack = field(default_factory=ExitStack, init=False)
    _surroundings: Surroundings = field(default_factory=Surroundings.now, init=False)

    def started(self, node: Node) -> None:
        """Say that a variable's function is called now, and hold it to its own limits."""
        variable = node.variable
        self.begun = True
        self._say_excess(node)
        memory = None if variable.memory is None else self._memory_of(node)
        limits.reset_peak_memory()
        self.telling.write(
            "started",
            variable=node.name,
            timeout=variable.timeout,
            memory=memory,
            # Those of earlier variables, which may do to it whatever they like.
            threads=threading.active_count() - 1,
            uptime=processes.after_children(),
        )
        self._limits.enter_context(limits.narrowed(variable.cpus, memory))
        tell = self.telling.write
        reporting.listen(lambda report: tell("progress", variable=node.name, **report))
        self._since = _Use.now()

    def retried(self, node: Node, error: Exception, left: int) -> None:
        """Say that a variable's function raised and is called again."""
        tries = node.variable.retries + 1
        which = f"try {tries - left} of {tries}"
        output.say(f"{node.name}: {which} failed, trying again: {describe(error)}")

    def finished(self, node: Node, value: object) -> None:
        """Save a value and say so; what is raised here is the variable's error."""
        self._release(node)
        origin = self._origin(node)
        saved: dict[str, object] = {"summary": None, "data": None, "fragment": None}
        saved["objtype"] = None
        if not node.variable.transient:
            saved = self._save_soundly(node, value, origin)
        duration, cpu = self._use()
        self.telling.write(
            "finished",
            variable=node.name,
            **saved,
            duration=duration,
            cpu=cpu,
            memory=limits.peak_memory(),
            origin=origin,
        )
        output.say(f"{node.name}: finished in {output.words_for_seconds(duration)}")
        self._leave(node)

    def failed(self, node: Node, error: BaseException) -> None:
        """Say that a variable failed or was skipped, and why."""
        self._release(node)
        duration, _ = self._use()
        name, message = type(error).__name__, error_text(error)
        if isinstance(error, MemoryError):
            message = message or self._words_for_refusal(node)  # Python itself gives none
        trace = "" if isinstance(error, Skip) else user_traceback(error)
        kept = {
            "message": shortened(message, whole_in=_LOG),
            "traceback": shortened(trace, LONGEST_TRACEBACK, whole_in=_LOG),
        }
        self.telling.write(
            "failed",
            variable=node.name,
            error={"type": name, **kept},
            duration=duration,
            origin=self._origin(node),
        )
        if isinstance(error, Skip):
            output.say(f"{node.name}: skipped: {message}")
        else:
            took = output.words_for_seconds(duration)
            output.say(f"{node.name}: failed after {took}: {name}: {message}\n{trace}")
        self._leave(node)

    def _save_soundly(self, node: Node, value: object, origin: dict[str, object]) -> _Saved:
        """Save a value; where nothing can be saved any more, whatever it is, this process ends."""
        try:
            return self._save(node, value, origin)
        except UnsavableError:
            raise
        except Exception as error:
            if not self._can_save():
                trace = user_traceback(error)
                self.telling.leave(f"{node.name}: nothing can be saved any more:\n{trace}")
            raise

    def _can_save(self) -> bool:
        """Try with a value that is good; a variable may have put something else into h5py, say."""
        path = self.attempt_dir / f".sound.{os.getpid()}"
        try:
            good = summaries.prepare(_GOOD, log=output.say)
            files.write_fragment(path, "sound", good, None)
            with files.RunFile(path) as file:
                return bool((file.read("sound") == _GOOD).all())
        except Exception as error:  # noqa: BLE001 - whatever the state of things is
            # On a full disk they are as they should be.
            return isinstance(error, OSError) and error.errno is not None
        finally:
            path.unlink(missing_ok=True)

    def _save(self, node: Node, value: object, origin: dict[str, object]) -> _Saved:
        variable = node.variable
        prepared = summaries.prepare(
            value, summary=variable.summary, units=variable.units, log=output.say
        )
        return patience.until_written(
            lambda: save_result(self.attempt_dir, node.name, prepared, origin),
            self.attempt_dir,
            lambda error: self._wait(node, error),
        )

    def _wait(self, node: Node, error: OSError) -> None:
        """Say, once it can be said, that a result waits to be saved, which costs it no time."""
        if node.name in self._waited:
            return
        text = f"its result cannot be saved, and waits until it can: {error.strerror}"
        output.say(f"{node.name}: {text}")
        fields = {"variable": node.name, "done": 1, "total": 1, "text": text, "waits": True}
        if self.telling.try_to_write("progress", **fields):
            self._waited.add(node.name)

    def _origin(self, node: Node) -> dict[str, object]:
        params = {name: self.params[name] for name in node.parameters if name in self.params}
        fingerprint = self.fingerprints.get(node.name, {})
        return {**self.origin, "params": params, "fingerprint": fingerprint, "time": time.time()}

    def _release(self, node: Node) -> None:
        """Take back the limits and the reports of a variable, and what it did to its process."""
        self.telling.leave_if_forked()
        reporting.listen(None)
        self._limits.close()
        changed = self._surroundings.restore()
        if output.redirect_again():
            changed.append("the process's output")
        if changed:
            output.say(f"{node.name}: left changed, and put back: {', '.join(changed)}")

    def _leave(self, node: Node) -> None:
        """Take leave of a variable whose end has been told."""
        self._surroundings.close_figures()
        # A transient one would do it again in the next process, before what needs its value.
        if not node.variable.transient:
            self.telling.leave_if_closed()
            if self._surroundings.confined:
                self.telling.leave("a variable has lowered this process's limits for good")

    def _memory_of(self, node: Node) -> int | None:
        """The bytes that a variable may use: its own limit or its job's, whichever is less."""
        known = [memory for memory in (node.variable.memory, self.memory) if memory is not None]
        return min(known, default=None)

    def _words_for_refusal(self, node: Node) -> str:
        memory = self._memory_of(node)
        if memory is None:
            return "there is no more memory"
        return f"used more than {limits.words_for_bytes(memory)}"

    def _say_excess(self, node: Node) -> None:
        memory, cpus = node.variable.memory or 0, node.variable.cpus or 0
        if self.memory is not None and memory > self.memory:
            asked, had = map(limits.words_for_bytes, (memory, self.memory))
            output.say(f"{node.name}: asks for {asked}, but its job has {had} (noncluster_mem)")
        if self.cpus is not None and cpus > self.cpus:
            asked = f"{cpus} cores, but its job has {self.cpus} (noncluster_cpus)"
            output.say(f"{node.name}: asks for {asked}")

    def _use(self) -> tuple[float, float]:
        """Seconds and CPU seconds since the variable started; zeros for one that was not."""
        since, self._since = self._since, None
        if since is None:
            return 0.0, 0.0
        now = _Use.now()
        return now.time - since.time, now.cpu - since.cpu


def save_result(
    attempt_dir: Path, name: str, prepared: summaries.Prepared, origin: dict[str, object]
) -> _Saved:
    """Save a result, and give what its `finished` line says of it.

    What is small and plain is in the line itself, all else in a fragment in the attempt's folder.
    """
    data = None if prepared.preview is not None else plain.encode_plain(prepared.data)
    fragment = None
    if data is None and (prepared.data is not None or prepared.preview is not None):
        fragment = f"{name}.h5"
        folder = attempt_dir / FRAGMENTS
        folder.mkdir(exist_ok=True)
        files.write_fragment(folder / fragment, name, prepared, origin)
    return {
        "summary": prepared.summary.to_json(),
        "data": data,
        "fragment": fragment,
        "objtype": prepared.objtype,
    }


@dataclass(frozen=True)
class _Use:
    time: float
    cpu: float

    @classmethod
    def now(cls) -> _Use:
        times = os.times()
        return cls(time.perf_counter(), sum(times[:4]))
