"""Jobs on a cluster that Slurm manages: the manager of all ways to Slurm.

An attempt runs by itself there (`ctxlib.alone`), and its journal says how it went. What Slurm says
decides only of attempts whose journal has no end: they wait, run, were ended, or are gone. Nothing
is concluded from a Slurm that does not answer. Handles are `<job>/<attempt>`; what else is needed
to go on after a restart lies in the folders.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from ctxlib import claim
from daemon.backends import Status
from daemon.backends.attempts import Seen, blame, conclude, give_up, look
from daemon.backends.configurations.slurm import SlurmCommon
from daemon.backends.context import ManagerContext
from daemon.backends.slurm import batches
from daemon.backends.slurm.describing import Describing
from daemon.backends.slurm.judge import Attempt, Judge
from daemon.backends.slurm.patience import Patience
from daemon.backends.slurm.scheduler import Scheduler
from daemon.backends.slurm.sender import Sender
from daemon.backends.slurm.sent import Key, Sent
from daemon.backends.slurm.snapshot import is_active
from daemon.backends.slurm.states import Verdict
from daemon.backends.slurm.watch import Watch
from daemon.backends.slurm.ways import scheduler_of

MOST_AT_WORK = 5000
"""Attempts that are followed at once; more would only wait in Slurm instead of here."""
NEVER_BEGUN = "nobody had begun with it"


class SlurmManager:
    """Runs the jobs of one configuration on Slurm."""

    def __init__(
        self,
        config: SlurmCommon,
        context: ManagerContext,
        *,
        scheduler: Scheduler | None = None,
        patience: Patience | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`scheduler` is the way to Slurm, when it is not the configuration's own."""
        self._context = context
        self._scheduler = scheduler or scheduler_of(config)
        self._patience = patience = patience or Patience()
        self._clock = clock
        self._jobs = context.folder / "jobs"
        self._sender = Sender(
            self._jobs,
            self._scheduler,
            describe=Describing(config, context, self._scheduler).describe,
            refuse=self._refuse,
            limit=lambda: config.concurrent_jobs or context.settings().concurrent_jobs,
            log=context.log,
            clock=clock,
            retry_seconds=patience.retry,
            settle_seconds=patience.settle,
        )
        self._judge = Judge(self._scheduler, patience, clock)
        self._watch = Watch(self._scheduler, patience=patience, clock=clock, log=context.log)
        self._attempts: dict[Path, Attempt] = {}
        self._swept = False

    def room(self, at_work: int) -> int:
        """How many more attempts are taken: as many as can be followed; Slurm throttles them."""
        return MOST_AT_WORK - at_work

    async def submit(self, attempt_dir: Path) -> str:
        """Take an attempt for the next batch; the handle is `<job>/<attempt>`."""
        self._attempts[attempt_dir] = Attempt()
        await self._collect(attempt_dir)
        await self._leave_earlier(attempt_dir)
        return f"{attempt_dir.parent.name}/{attempt_dir.name}"

    async def poll(self, handles: Iterable[str]) -> dict[str, Status]:
        """How attempts are doing; Slurm's list is asked for once, and not at every call."""
        dirs = {handle: self._jobs / handle for handle in handles}
        seen = await asyncio.to_thread(lambda: {path: look(path) for path in dirs.values()})
        await self._take_up(seen)
        await self._forget_others(seen)
        await self._look_at_slurm()
        answers = {handle: await self._status(path, seen[path]) for handle, path in dirs.items()}
        # What has to go there goes before nobody asks about it any more.
        await self._look_at_slurm()
        await self._tidy()
        return answers

    async def cancel(self, handle: str, reason: str) -> None:
        """End an attempt: nobody begins with it, or whoever watches it ends it.

        When it has not ended soon, its job is cancelled in Slurm.
        """
        attempt_dir = self._jobs / handle
        await asyncio.to_thread(claim.request_stop, attempt_dir, reason)
        if await asyncio.to_thread(claim.make, attempt_dir, "revoked") is not None:
            await self._give_up(attempt_dir)
            self._context.on_wake(attempt_dir.parent.name)

    async def fence(self, handle: str, reason: str) -> None:
        """Nobody begins with the attempt any more, and its job in Slurm is cancelled."""
        attempt_dir = self._jobs / handle
        await asyncio.to_thread(give_up, attempt_dir, reason)
        await self._give_up(attempt_dir)
        await self._look_at_slurm()

    async def close(self) -> None:
        """Let go of everything; what waits in Slurm, runs there or was not submitted yet stays."""
        await self._sender.close()
        await self._scheduler.close()

    # Which batch an attempt is in

    async def _take_up(self, seen: Mapping[Path, Seen]) -> None:
        """Find out where attempts are; submit what an earlier daemon has taken and left."""
        if not self._swept:
            self._swept = True
            await asyncio.to_thread(batches.sweep, self._jobs, time.time())
        for path, found in seen.items():
            if not found.there:
                continue
            if path not in self._attempts:
                self._attempts[path] = Attempt()
                await self._leave_earlier(path)
            attempt = self._attempts[path]
            attempt.claimed = found.claimed
            if attempt.key is None and not self._sender.waits(path):
                attempt.key = await self._sender.key_of(path)
                if attempt.key is None and found.ended is None and not found.revoked:
                    await self._collect(path)

    async def _collect(self, attempt_dir: Path) -> None:
        live = await asyncio.to_thread(batches.is_live, attempt_dir)
        self._sender.collect(attempt_dir, live=live)

    async def _leave_earlier(self, attempt_dir: Path) -> None:
        """Have nothing more come in Slurm of the attempts that were before this one."""
        for number in range(1, int(attempt_dir.name)):
            await self._give_up(attempt_dir.with_name(str(number)))

    async def _give_up(self, attempt_dir: Path) -> None:
        """Have the job of an attempt cancelled in Slurm, or not submitted."""
        self._sender.forget(attempt_dir)
        self._drop(await self._sender.key_of(attempt_dir))

    def _drop(self, key: Key | None) -> None:
        sent = self._sent(key)
        if key is not None and sent is not None and key[1] not in sent.given_up:
            sent.given_up.add(key[1])
            self._watch.hurry()

    def _sent(self, key: Key | None) -> Sent | None:
        return None if key is None else self._sender.sent.get(key[0])

    # What Slurm says

    async def _look_at_slurm(self) -> None:
        """Ask for Slurm's list, unless there is nothing to ask for, or that was done lately."""
        if not any(sent.busy for sent in self._sender.sent.values()):
            return
        begun = {each.key for each in self._attempts.values() if each.key and each.claimed}
        if await self._watch.look(begun, self._sender.sent):
            self._sender.wake()

    async def _status(self, attempt_dir: Path, seen: Seen) -> Status:
        if seen.ended is not None:
            self._has_ended(attempt_dir)
            return Status("ended", seen.ended)
        if not seen.there or seen.revoked:
            return await self._given_up(attempt_dir, seen)
        attempt = self._attempts[attempt_dir]
        sent = self._sent(attempt.key)
        if sent is None or sent.sent_at is None:
            why, problem = self._sender.why_waits(attempt_dir), self._sender.problem
            if seen.claimed:  # before its submission was answered
                why = f"Slurm does not answer: {problem}" if problem else ""
            return Status("running", why)
        snapshot = self._watch.snapshot
        if snapshot is None:
            return Status("running", f"Slurm does not answer: {self._watch.silence}")
        if not snapshot.is_after(sent.sent_at):
            return Status("running", "submitted to Slurm")
        found = await self._judge.verdict(attempt_dir, attempt, sent, snapshot)
        if found.kind in ("waiting", "running"):
            self._insist_on_stop(attempt, seen)
            return Status("running", found.reason, place=attempt.place)
        return await self._end(attempt_dir, found)

    async def _given_up(self, attempt_dir: Path, seen: Seen) -> Status:
        """Of an attempt that nobody begins with: it is over when Slurm has no job for it."""
        self._sender.forget(attempt_dir)
        attempt = self._attempts.setdefault(attempt_dir, Attempt())
        self._drop(attempt.key)
        sent = self._sent(attempt.key)
        if attempt.key is not None and sent is not None and sent.batch.asked:
            snapshot = self._watch.snapshot
            if snapshot is None or not snapshot.is_after(sent.sent_at):
                why = self._watch.silence or self._sender.problem or "it has not been asked yet"
                return Status("running", f"is to be cancelled in Slurm: {why}")
            job = snapshot.job(attempt.key)
            if job is not None and is_active(job):
                return Status("running", "is being cancelled in Slurm")
        self._has_ended(attempt_dir)
        if not seen.there:
            return Status("lost", "its folder was deleted")
        if seen.stop is None:
            return Status("lost", NEVER_BEGUN)
        return Status("ended", await self._conclude(attempt_dir, "stopped", seen.stop, "stopped"))

    def _insist_on_stop(self, attempt: Attempt, seen: Seen) -> None:
        """Cancel a job in Slurm that was asked for its end and goes on."""
        if seen.stop is None:
            return
        now = self._clock()
        attempt.stop_since = attempt.stop_since or now
        if now - attempt.stop_since >= self._patience.stop:
            self._drop(attempt.key)

    # How an attempt ends that does not say so itself

    async def _end(self, path: Path, found: Verdict) -> Status:
        seen = await asyncio.to_thread(look, path)
        if seen.ended is None and found.kind == "lost" and seen.stop is None:
            if found.code is not None:
                await asyncio.to_thread(blame, path, found.reason, found.code)
            await asyncio.to_thread(give_up, path, found.reason)
            self._drop(self._attempts[path].key)
            self._has_ended(path)
            return Status("lost", found.reason)
        if seen.ended is not None:
            reason = seen.ended
        elif seen.stop is not None:
            reason = await self._conclude(path, "stopped", seen.stop, "stopped")
        else:
            reason = await self._conclude(path, "failed", found.reason, found.code or "exit")
        self._has_ended(path)
        return Status("ended", reason)

    async def _conclude(
        self, path: Path, status: Literal["failed", "stopped"], reason: str, code: str
    ) -> str:
        return await asyncio.to_thread(conclude, path, status, reason, code)

    async def _refuse(self, attempt_dirs: Sequence[Path], why: str) -> None:
        """End attempts that Slurm does not take."""
        for attempt_dir in attempt_dirs:
            with suppress(FileNotFoundError):  # its folder was deleted
                reason = f"Slurm did not take it: {why}"
                await asyncio.to_thread(conclude, attempt_dir, "failed", reason)
            self._context.on_wake(attempt_dir.parent.name)

    def _has_ended(self, attempt_dir: Path) -> None:
        attempt = self._attempts.pop(attempt_dir, None)
        sent = None if attempt is None else self._sent(attempt.key)
        if attempt is None or attempt.key is None or sent is None:
            return
        if attempt.key[1] not in sent.given_up:  # those go on until Slurm says otherwise
            sent.busy.discard(attempt.key[1])
            sent.ended[attempt.key[1]] = self._clock()
            self._sender.wake()  # its place is free

    async def _forget_others(self, asked: Collection[Path]) -> None:
        """Forget attempts whose end was read by others, who do not ask about them any more."""
        gone = {path for path in self._attempts if path not in asked}
        busy = {
            self._jobs / sent.batch.attempts[place]
            for sent in self._sender.sent.values()
            for place in sent.busy
        }
        ended = await asyncio.to_thread(
            lambda: {path for path in gone & busy if look(path).ended is not None}
        )
        for path in gone:
            sent = self._sent(self._attempts[path].key)
            if path in ended:
                self._has_ended(path)
            elif path not in busy and sent is not None and sent.sent_at is not None:
                del self._attempts[path]

    async def _tidy(self) -> None:
        """Remove the files of batches that nobody asks about any more."""
        wanted = {attempt.key[0] for attempt in self._attempts.values() if attempt.key}
        for sent in self._sender.sent.values():
            if sent.batch.id not in wanted and sent.sent_at is not None and not sent.busy:
                self._sender.drop(sent)
                await asyncio.to_thread(sent.batch.remove, self._jobs)
