"""Watches one attempt of one job: starts its runners, holds them to their limits, says how it went.

A runner that dies costs the variable it was at; the next runner goes on with the rest. The watcher
never blocks on a runner: it is told when one has ended, and asked to look at them now and then.
"""

import os
import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ctxlib import claim, limits, processes
from ctxlib.endings import Ending, blameless, how_it_died
from ctxlib.job_folder import read_request
from ctxlib.journal import JournalReader, JournalWriter, Wake, file_name
from ctxlib.known import known_results
from ctxlib.log_limit import LogLimit
from ctxlib.memory_watch import MemoryWatch
from ctxlib.output import words_for_seconds
from ctxlib.watched import WatchedRunner

# Seconds that processes have after SIGTERM.
_GRACE = 2.0
# How often to look, in seconds: at least, and at most.
_OFTEN, _SELDOM = 0.05, 1.0
# How often to give a sign of life, in seconds.
_SIGN = 10.0
# No program fills memory faster than this, in bytes per second: how long not to look.
_FASTEST_GROWTH = 8 << 30


@dataclass
class AttemptSupervisor:
    """One attempt. `start(attempt_dir, n)` begins runner n and returns its pid; `leftovers()`
    gives the pids of processes that ended runners left behind; `clock` is monotonic.

    Call `begin` once, then `check` when the time that it returned is over, and `runner_ended` when
    a runner has been waited for, until `ended` is set: the status of the whole.
    """

    attempt_dir: Path
    start: Callable[[Path, int], int]
    leftovers: Callable[[], list[int]]
    mode: str
    wake: Wake | None = None
    clock: Callable[[], float] = time.monotonic
    ended: str | None = field(default=None, init=False)
    _runner: WatchedRunner | None = field(default=None, init=False)

    def begin(self) -> bool:
        """Claim the attempt and start its first runner; False when somebody else has claimed it.

        Raises OSError when that cannot be, and ValueError when the request cannot be read.
        """
        self._request = read_request(self.attempt_dir)
        self._deadline = self.clock() + float(self._request["timeout"])
        # Before the claim: nobody else could begin with what is claimed and cannot be told of.
        self._journal = JournalWriter(self.attempt_dir / file_name(0), self.wake)
        claimed = self._claim()
        if claimed is None:
            return False
        self._log = LogLimit(Path(self._request["log"]))
        self._memory = MemoryWatch(self.attempt_dir, self._request["memory"], self._log.note)
        self._reader = JournalReader(self.attempt_dir)
        self._unsaid: deque[tuple[str, dict[str, object]]] = deque()
        self._retried: set[str | None] = set()
        self._order: list[str] = []
        self._next_look = 0.0
        self._next_sign = self.clock() + _SIGN
        said = asdict(claimed)
        del said["time"]
        place = os.environ.get(claim.PLACE, "")
        self._say("claimed", **said, group=self._memory.place, place=place)
        self._then: Callable[[], None] | None = lambda: self._start_runner(1)
        self._go_on()
        return True

    def _claim(self) -> claim.Claim | None:
        claimed = None
        try:
            claimed = claim.make(self.attempt_dir, self.mode)
        finally:
            if claimed is None:
                self._journal.close()
        return claimed

    @property
    def pid(self) -> int | None:
        """Pid of the runner at work."""
        return None if self._runner is None else self._runner.pid

    def cancel(self, reason: str) -> None:
        """End the attempt with all its processes, whatever it is at."""
        if self._runner is not None:
            self._end_runner(Ending("stopped", reason, whole_job=True))
        elif self.ended is None:
            self._then = lambda: self._end("stopped", reason)
            self._go_on()

    def runner_ended(self, wait_status: int) -> None:
        """Take note that the runner is gone, end what it left behind, and go on."""
        processes.kill_until_gone(lambda: {*self.leftovers(), *self._memory.members()})
        self._log.look()
        self._follow()
        runner, self._runner = self._runner, None
        assert runner is not None, f"no runner of {self.attempt_dir} was at work"
        if runner.finished:
            self._then = lambda: self._end("finished", "")
        elif runner.refused is not None and runner.ending is None:
            refused = runner.refused
            self._then = lambda: self._refused(refused)
        else:
            ending = runner.ending
            if ending is None and self._memory.killed() and os.WIFSIGNALED(wait_status):
                ending = self._too_much_memory(runner)
            forgiven = ending is None and blameless(wait_status)
            ending = ending or how_it_died(wait_status)
            if runner.threads and ending.code != "timeout":
                forgiven = True  # it may have been one of them
            self._died(runner, ending, blameless=forgiven)
        self._go_on()

    def check(self) -> float:
        """Look after the limits; return after how many seconds to look again."""
        self._go_on()
        now = self.clock()
        self._give_sign(now)
        runner = self._runner
        if runner is None:
            return _SELDOM
        if runner.kill_at is not None:
            if now >= runner.kill_at:
                self._signal(runner, signal.SIGKILL)
            return _OFTEN
        if now < self._next_look:
            return self._next_look - now
        self._follow()
        self._log.look()
        self._look_at_time(runner, now)
        pause = self._look_at_memory(runner)
        why = claim.stop_reason(self.attempt_dir)
        if why is not None:
            self.cancel(why)
        elif not self.attempt_dir.is_dir():
            # Nobody can learn what comes of it, and another attempt may be under way.
            self.cancel("its folder was deleted")
        nearest = min(self._deadline, runner.deadline or self._deadline)
        pause = max(min(pause, nearest - now), _OFTEN)
        self._next_look = now + pause
        return pause

    def _give_sign(self, now: float) -> None:
        """Show that somebody watches, however long a variable says nothing."""
        if self.ended is None and now >= self._next_sign:
            self._next_sign = now + _SIGN
            # Where the file cannot be touched its lines cannot be written either, and wait.
            with suppress(OSError):
                self._journal.touch()

    def _look_at_time(self, runner: WatchedRunner, now: float) -> None:
        if runner.waits_since is not None:
            # It is done, but for what the disk lets nobody do.
            self._deadline += now - runner.waits_since
            runner.waits_since = now
        elif now >= self._deadline:
            limit = words_for_seconds(self._request["timeout"])
            reason = f"killed: the job took longer than {limit}"
            self._end_runner(Ending("timeout", reason, whole_job=True))
        elif runner.timeout is not None and runner.deadline is not None and now >= runner.deadline:
            limit = words_for_seconds(runner.timeout)
            self._end_runner(Ending("timeout", f"killed: took longer than its timeout of {limit}"))

    def _look_at_memory(self, runner: WatchedRunner) -> float:
        """End the runner if it uses too much; else say in how many seconds it could."""
        limit = self._limit(runner)
        if limit is None:
            return _SELDOM
        began = self.clock()
        if self._memory.too_much(runner.pid, limit, runner.since):
            # Another variable, with another limit, may have begun meanwhile.
            self._follow()
            if self._limit(runner) != limit:
                return _OFTEN
            self._end_runner(self._too_much_memory(runner), number=signal.SIGKILL)
        headroom = max(0, limit - self._memory.used(runner.pid))
        # Looking takes no more than a twentieth of a core, however many processes there are.
        pause = max(headroom / _FASTEST_GROWTH, 20 * (self.clock() - began))
        return min(pause, _SELDOM)

    def _too_much_memory(self, runner: WatchedRunner) -> Ending:
        known = [limit for limit in (self._limit(runner), self._memory.bound) if limit is not None]
        limit = limits.words_for_bytes(min(known))
        return Ending("memory", f"killed: used more than {limit}")

    def _limit(self, runner: WatchedRunner) -> int | None:
        """Bytes that the runner may use now: the variable's own limit, or the job's."""
        job: int | None = self._request["memory"]
        return job if runner.memory is None else runner.memory

    def _end_runner(self, ending: Ending, number: int = signal.SIGTERM) -> None:
        runner = self._runner
        if runner is None or (runner.ending is not None and not ending.whole_job):
            return
        runner.ending = ending
        runner.kill_at = self.clock() + _GRACE
        self._signal(runner, number)

    def _signal(self, runner: WatchedRunner, number: int) -> None:
        processes.signal_all([*processes.descendants(runner.pid), runner.pid], number)

    def _follow(self) -> None:
        """Read what the runner has written since the last look."""
        for entry in self._reader.read():
            if self._runner is not None and entry.runner == self._runner.n:
                self._runner.note(entry, self.clock())
                if entry.kind == "plan":
                    self._order = entry.fields["order"]

    def _died(self, runner: WatchedRunner, ending: Ending, *, blameless: bool) -> None:
        said = {"n": runner.n, "reason": ending.reason, "code": ending.code}
        variable = runner.running
        if ending.code == "stopped":
            self._say("died", **said, variable=None)
            self._then = lambda: self._end("stopped", ending.reason)
        elif ending.whole_job:
            self._say("died", **said, variable=variable)
            self._then = lambda: self._end_late(ending.reason, variable)
        elif self._may_go_on(runner, blameless=blameless):
            self._say("died", **said, variable=None, retried=variable)
            self._then = lambda: self._start_runner(runner.n + 1)
        elif variable is None:
            self._say("died", **said, variable=None)
            reason = f"its process was twice lost outside of any variable: {ending.reason}"
            self._then = lambda: self._end("failed", reason)
        else:
            self._say("died", **said, variable=variable)
            self._then = lambda: self._start_runner(runner.n + 1)

    def _may_go_on(self, runner: WatchedRunner, *, blameless: bool) -> bool:
        """Tell whether the next runner may begin where this one died, with the same variable.

        Once each may; and between variables as long as each runner gets on with some.
        """
        variable = runner.running
        if variable is None and runner.ended:
            return True
        if (variable is not None and not blameless) or variable in self._retried:
            return False
        self._retried.add(variable)
        return True

    def _refused(self, error: dict[str, Any]) -> None:
        problems = error["problems"]
        self._end("broken" if problems else "failed", error["message"], problems=problems)

    def _end_late(self, reason: str, running: str | None) -> None:
        """End a job whose time is over: what was not begun gets an error that says so."""
        known = known_results([self.attempt_dir.parent])
        message = f"not run: {reason.removeprefix('killed: ')}"
        for name in self._order:
            if name != running and not known.done(name):
                error = {"type": "Timeout", "message": message, "traceback": ""}
                self._say("failed", variable=name, error=error, duration=0.0)
        self._end("failed", reason.removeprefix("killed: "))

    def _start_runner(self, n: int) -> None:
        try:
            pid = self.start(self.attempt_dir, n)
        except OSError as error:
            self._end("failed", f"no process can be started: {error}")
            return
        process = processes.read(pid)
        self._runner = WatchedRunner(n, pid)
        self._next_look = 0.0
        self._say("runner", n=n, pid=pid, pid_start=None if process is None else process.start)

    def _end(self, status: str, reason: str, **more: object) -> None:
        self._say("ended", status=status, reason=reason, **more)

        def mark() -> None:
            # A fork server lives for thousands of attempts.
            self._journal.close()
            self._memory.close()
            self.ended = status

        self._then = mark

    def _say(self, kind: str, **fields: object) -> None:
        self._unsaid.append((kind, fields))

    def _go_on(self) -> None:
        """Write what there is to say, and take the next step once all of it is written.

        While the disk is full nothing goes on; each look tries again.
        """
        while self._unsaid or self._then is not None:
            while self._unsaid:
                kind, fields = self._unsaid[0]
                try:
                    self._journal.write(kind, **fields)
                except OSError:
                    return
                self._unsaid.popleft()
            then, self._then = self._then, None
            if then is not None:
                then()
