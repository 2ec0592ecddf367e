"""A warm process that has imported a context and its libraries, and forks a runner per job.

It speaks JSON lines over a stream socket with whoever started it. In: `{"start": attempt_dir}` and
`{"cancel": attempt_dir, "reason": text}`. Out: once `ready` or `broken`, then for each start
`accepted`, `stale` (a file of the context has changed: start a new server), `claimed` (somebody
else is at it) or `rejected`, and `ended`. When the socket closes it finishes its jobs and exits.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from ctxlib import cgroup, limits, output, processes, runner, sources, starting
from ctxlib.attempt import AttemptSupervisor
from ctxlib.context import Context, files_changed, load
from ctxlib.errors import ContextError
from ctxlib.job_folder import read_request
from ctxlib.journal import waker
from ctxlib.loaded import Loaded


class Channel:
    """JSON lines over a stream socket. The other side may go at any time; that is no error."""

    def __init__(self, descriptor: int) -> None:
        self.socket = socket.socket(fileno=descriptor)
        self.socket.set_inheritable(False)
        self._buffer = b""

    def send(self, message: Mapping[str, object]) -> None:
        """Send one message, or nothing when nobody is there any more."""
        with contextlib.suppress(OSError):
            self.socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[dict[str, Any]] | None:
        """The messages that have arrived; None once the other side has closed."""
        try:
            new = self.socket.recv(65536)
        except OSError:
            return None
        if not new:
            return None
        *lines, self._buffer = (self._buffer + new).split(b"\n")
        return [json.loads(line) for line in lines]


class ForkServer:
    """Takes jobs from `channel` and runs them with `context`."""

    def __init__(
        self,
        channel: Channel,
        context: Context,
        *,
        fresh: bool,
        wake: socket.socket,
        terminal: bool,
    ) -> None:
        self._channel = channel
        self._open = True
        self._files = context.files
        self._loaded = Loaded.of(context)
        self._fresh = fresh
        self._wake = wake
        self._terminal = terminal
        self._attempts: dict[str, AttemptSupervisor] = {}
        self._me = os.getpid()
        # What the context started while it was imported belongs to no job.
        self._own_children = set(processes.descendants(self._me))
        self._selector = selectors.DefaultSelector()
        self._child_signal = os.pipe()

    def serve(self) -> None:
        """Work until the channel is closed and the last job has ended."""
        self._listen()
        _settle()
        self._channel.send({"ready": self._about_me()})
        while self._open or self._attempts:
            pauses = [attempt.check() for attempt in list(self._attempts.values())]
            if self._report_ends():
                continue
            for key, _ in self._selector.select(min(pauses, default=None)):
                key.data()

    def _about_me(self) -> dict[str, object]:
        note = ""
        others = starting.threads() - 1
        if others and not self._fresh:
            note = (
                f"importing the context started {others} more threads, which forked processes do "
                "not have and would wait for; each job gets a new interpreter instead"
            )
        mode, sha256 = self._mode(), self._loaded.sha256
        return {"mode": mode, "note": note, "context_sha256": sha256, "pid": self._me}

    def _mode(self) -> str:
        return "fresh" if self._fresh or starting.threads() > 1 else "fork"

    def _listen(self) -> None:
        reading, writing = self._child_signal
        for end in self._child_signal:
            os.set_blocking(end, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        # Without a handler of Python's the wake-up is not written.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(reading, selectors.EVENT_READ, self._reap)
        self._selector.register(self._channel.socket, selectors.EVENT_READ, self._hear)

    def _hear(self) -> None:
        messages = self._channel.receive()
        if messages is None:
            # The other side may still listen to how the last jobs end.
            self._selector.unregister(self._channel.socket)
            self._open = False
            return
        for message in messages:
            if "start" in message:
                self._channel.send(self._take(message["start"]))
            elif message["cancel"] in self._attempts:
                self._attempts[message["cancel"]].cancel(message["reason"])

    def _take(self, attempt_dir: str) -> dict[str, object]:
        """Begin an attempt; return the answer."""
        if files_changed(self._files):
            return {"stale": attempt_dir}
        folder = Path(attempt_dir)
        wake = waker(self._wake, folder)
        try:
            self._preload(read_request(folder))
            attempt = AttemptSupervisor(folder, self._start, self._leftovers, self._mode(), wake)
            # Its process has to be known before the first look at what nobody owns.
            self._attempts[attempt_dir] = attempt
            accepted = attempt.begin()
        except (OSError, ValueError, KeyError) as error:
            self._attempts.pop(attempt_dir, None)
            reason, number = f"{type(error).__name__}: {error}", getattr(error, "errno", None)
            return {"rejected": attempt_dir, "reason": reason, "errno": number}
        if not accepted:
            del self._attempts[attempt_dir]
            return {"claimed": attempt_dir}
        return {"accepted": attempt_dir}

    def _preload(self, request: Mapping[str, Any]) -> None:
        if self._mode() == "fresh":
            return
        known = len(sys.modules)
        sources.preload(request)
        if len(sys.modules) > known:
            _settle()

    def _report_ends(self) -> bool:
        ended = [folder for folder, attempt in self._attempts.items() if attempt.ended]
        for folder in ended:
            status = self._attempts.pop(folder).ended
            self._channel.send({"ended": folder, "status": status})
        return bool(ended)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._child_signal[0], 4096)
        for pid, wait_status in processes.ended_children():
            # Others are orphans of ended jobs, which fell to this process.
            for attempt in list(self._attempts.values()):
                if attempt.pid == pid:
                    attempt.runner_ended(wait_status)

    def _leftovers(self) -> list[int]:
        """Descendants that belong to no living runner.

        Runners adopt the orphans of their own jobs, so whatever falls to this process is what a
        runner that has ended left behind.
        """
        runners = {attempt.pid for attempt in self._attempts.values() if attempt.pid is not None}
        return processes.descendants(self._me, without=self._own_children | runners)

    def _start(self, attempt_dir: Path, n: int) -> int:
        if self._mode() == "fresh":
            return self._spawn(attempt_dir, n)
        output.flush()
        pid = os.fork()
        if pid == 0:
            self._be_runner(attempt_dir, n)
        return pid

    def _be_runner(self, attempt_dir: Path, n: int) -> NoReturn:
        def work() -> int:
            signal.set_wakeup_fd(-1)
            self._selector.close()
            self._channel.socket.close()
            for end in self._child_signal:
                os.close(end)
            starting.enter(self._me, attempt_dir)
            wake = waker(self._wake, attempt_dir)
            return runner.run(attempt_dir, n, self._loaded, wake, terminal=self._terminal)

        starting.end_with(work)

    def _spawn(self, attempt_dir: Path, n: int) -> int:
        terminal = ["--terminal"] if self._terminal else []
        self._wake.set_inheritable(True)
        try:
            return starting.spawn(attempt_dir, n, "--wake", str(self._wake.fileno()), *terminal)
        finally:
            self._wake.set_inheritable(False)


def _settle() -> None:
    """Find out once what forked processes need, and hide all there is from the garbage collector.

    Looking at it would write to pages that they share.
    """
    limits.find_thread_pools()
    gc.collect()
    gc.freeze()


def main() -> None:
    """Load the context and serve; exits with 1 when the context cannot be executed."""
    parser = argparse.ArgumentParser(prog="ctxlib.forkserver", description=__doc__)
    parser.add_argument("--context", type=Path, required=True)
    parser.add_argument("--channel", type=int, required=True, metavar="FD")
    parser.add_argument("--wake", type=int, required=True, metavar="FD")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--terminal", action="store_true")
    args = parser.parse_args()
    channel = Channel(args.channel)
    wake = socket.socket(fileno=args.wake)
    wake.set_inheritable(False)
    processes.adopt_orphans()
    # An import without end must not outlive who waits for it; jobs, later, shall.
    processes.die_with_parent(os.getppid())
    output.write_by_line()
    os.chdir(args.context.parent)
    try:
        context = load(args.context)
    except ContextError as error:
        channel.send({"broken": [problem.to_json() for problem in error.problems]})
        raise SystemExit(1) from None
    processes.outlive_parent()
    cgroup.sweep()
    ForkServer(channel, context, fresh=args.fresh, wake=wake, terminal=args.terminal).serve()


if __name__ == "__main__":
    main()
