"""Saves what the variables of a job return, and says in its journal how each of them ended."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ctxlib import files, limits, output, plain, summaries
from ctxlib.errors import Skip, error_text, user_traceback
from ctxlib.graph import Node
from ctxlib.known import FRAGMENTS


@dataclass
class JobRecorder:
    """The recorder of one runner; `write` appends a line to its journal, `origin` is where
    its results come from, short of the time.
    """

    attempt_dir: Path
    write: Callable[..., None]
    origin: dict[str, object]
    _since: _Use | None = field(default=None, init=False)

    def started(self, node: Node) -> None:
        """Say that a variable's function is called now."""
        limits.reset_peak_memory()
        self.write("started", variable=node.name, timeout=node.variable.timeout)
        self._since = _Use.now()

    def finished(self, node: Node, value: object) -> None:
        """Save a value and say so; what is raised here is the variable's error."""
        origin = {**self.origin, "time": time.time()}
        saved: dict[str, object] = {"summary": None, "data": None, "fragment": None}
        saved["objtype"] = None
        if not node.variable.transient:
            saved = self._save(node, value, origin)
        duration, cpu = self._use()
        self.write(
            "finished",
            variable=node.name,
            **saved,
            duration=duration,
            cpu=cpu,
            memory=limits.peak_memory(),
            origin=origin,
        )
        output.say(f"{node.name}: finished in {output.words_for_seconds(duration)}")

    def failed(self, node: Node, error: BaseException) -> None:
        """Say that a variable failed or was skipped, and why."""
        duration, _ = self._use()
        name, message = type(error).__name__, error_text(error)
        trace = "" if isinstance(error, Skip) else user_traceback(error)
        self.write(
            "failed",
            variable=node.name,
            error={"type": name, "message": message, "traceback": trace},
            duration=duration,
        )
        if isinstance(error, Skip):
            output.say(f"{node.name}: skipped: {message}")
        else:
            took = output.words_for_seconds(duration)
            output.say(f"{node.name}: failed after {took}: {name}: {message}\n{trace}")

    def _save(self, node: Node, value: object, origin: dict[str, object]) -> dict[str, object]:
        variable = node.variable
        prepared = summaries.prepare(
            value, summary=variable.summary, units=variable.units, log=output.say
        )
        data = None if prepared.preview is not None else plain.encode_plain(prepared.data)
        fragment = None
        if data is None and (prepared.data is not None or prepared.preview is not None):
            fragment = f"{node.name}.h5"
            folder = self.attempt_dir / FRAGMENTS
            folder.mkdir(exist_ok=True)
            files.write_fragment(folder / fragment, node.name, prepared, origin)
        return {
            "summary": prepared.summary.to_json(),
            "data": data,
            "fragment": fragment,
            "objtype": prepared.objtype,
        }

    def _use(self) -> tuple[float, float]:
        """Seconds and CPU seconds since the variable started; zeros for one that was not."""
        since, self._since = self._since, None
        if since is None:
            return 0.0, 0.0
        now = _Use.now()
        return now.time - since.time, now.cpu - since.cpu


@dataclass(frozen=True)
class _Use:
    time: float
    cpu: float

    @classmethod
    def now(cls) -> _Use:
        times = os.times()
        return cls(time.perf_counter(), sum(times[:4]))
