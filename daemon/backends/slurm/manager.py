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
from dataclasses import dataclass, replace
from pathlib import Path

from ctxlib import claim
from daemon.backends import Status
from daemon.backends.attempts import Seen, conclude, give_up, look
from daemon.backends.configurations.slurm import SlurmCommon
from daemon.backends.context import ManagerContext
from daemon.backends.slurm import batches
from daemon.backends.slurm.describing import Describing
from daemon.backends.slurm.patience import Patience
from daemon.backends.slurm.scheduler import Scheduler, SlurmError, SlurmJob
from daemon.backends.slurm.sender import Sender
from daemon.backends.slurm.sent import Key, Sent
from daemon.backends.slurm.snapshot import Snapshot, is_active
from daemon.backends.slurm.states import Verdict, verdict
from daemon.backends.slurm.unwanted import Unwanted
from daemon.backends.slurm.ways import scheduler_of

MOST_AT_WORK = 5000
"""Attempts that are followed at once; more would only wait in Slurm instead of here."""


@dataclass
class _Attempt:
    """What is remembered of an attempt whose journal has no end. Times are of the clock.

    `number` is its job's own number in Slurm; `over_since`, `missing_since` and `stop_since` are
    since when Slurm says that it is over, knows nothing of it, and its end is wished for.
    """

    key: Key | None = None
    number: str | None = None
    over_since: float | None = None
    missing_since: float | None = None
    stop_since: float | None = None


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
        self._config = config
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
        self._attempts: dict[Path, _Attempt] = {}
        self._snapshot: Snapshot | None = None
        self._silence = ""
        self._next_look = 0.0
        self._swept = False
        self._unwanted = Unwanted(self._scheduler, retry_seconds=patience.retry)

    def room(self, at_work: int) -> int:
        """How many more attempts are taken: as many as can be followed; Slurm throttles them."""
        return MOST_AT_WORK - at_work

    async def submit(self, attempt_dir: Path) -> str:
        """Take an attempt for the next batch; the handle is `<job>/<attempt>`."""
        self._attempts[attempt_dir] = _Attempt()
        self._sender.collect(attempt_dir)
        return f"{attempt_dir.parent.name}/{attempt_dir.name}"

    async def poll(self, handles: Iterable[str]) -> dict[str, Status]:
        """How attempts are doing; Slurm's list is asked for once, and not at every call."""
        dirs = {handle: self._jobs / handle for handle in handles}
        seen = await asyncio.to_thread(lambda: {path: look(path) for path in dirs.values()})
        open_ = {path for path, found in seen.items() if found.there and found.ended is None}
        await self._take_up([path for path, found in seen.items() if found.there], open_)
        busy = any(sent.busy for sent in self._sender.all_sent())
        if busy or any(self._attempts[path].key is not None for path in open_):
            await self._look_at_slurm(seen)
        answers = {handle: await self._status(path, seen[path]) for handle, path in dirs.items()}
        await self._tidy()
        return answers

    async def cancel(self, handle: str, reason: str) -> None:
        """End an attempt: at once when it has not begun, else whoever watches it ends it.

        When it has not ended soon, its job is cancelled in Slurm.
        """
        attempt_dir = self._jobs / handle
        stop = attempt_dir / claim.STOP_FILE
        await asyncio.to_thread(stop.write_text, reason)
        self._sender.forget(attempt_dir)
        if await asyncio.to_thread(claim.make, attempt_dir, "revoked") is not None:
            await asyncio.to_thread(conclude, attempt_dir, "stopped", reason, "stopped")
            self._unwanted.add(await self._sender.key_of(attempt_dir))
            self._context.on_wake(attempt_dir.parent.name)

    async def fence(self, handle: str, reason: str) -> None:
        """Nobody begins with the attempt any more, and its job in Slurm is cancelled."""
        attempt_dir = self._jobs / handle
        await asyncio.to_thread(give_up, attempt_dir, reason)
        self._unwanted.add(await self._sender.key_of(attempt_dir))

    async def close(self) -> None:
        """Let go of everything; what waits in Slurm, runs there or was not submitted yet stays."""
        await self._sender.close()
        await self._unwanted.close()
        await self._scheduler.close()

    # Which batch an attempt is in

    async def _take_up(self, attempt_dirs: Sequence[Path], open_: Collection[Path]) -> None:
        """Find out where attempts are; submit what an earlier daemon has taken and left.

        Only those that are `open_` may still have to be submitted.
        """
        if not self._swept:
            self._swept = True
            await asyncio.to_thread(batches.sweep, self._jobs, time.time())
        for attempt_dir in attempt_dirs:
            attempt = self._attempts.setdefault(attempt_dir, _Attempt())
            if attempt.key is None and not self._sender.waits(attempt_dir):
                attempt.key = await self._sender.key_of(attempt_dir)
                if attempt.key is None and attempt_dir in open_:
                    self._sender.collect(attempt_dir)

    def _sent(self, attempt_dir: Path) -> tuple[Sent | None, Key | None]:
        key = self._attempts[attempt_dir].key
        return (None, None) if key is None else (self._sender.sent(key[0]), key)

    # What Slurm says

    async def _look_at_slurm(self, seen: Mapping[Path, Seen]) -> None:
        """Ask for Slurm's list, unless that was done lately."""
        now = self._clock()
        if now < self._next_look:
            return
        claimed = {
            key
            for path, found in seen.items()
            if found.claimed and path in self._attempts and (key := self._attempts[path].key)
        }
        try:
            jobs = await self._scheduler.jobs()
        except SlurmError as error:
            if not self._silence:
                self._context.log(f"Slurm does not answer: {error}")
            self._silence = str(error)
            self._snapshot = None
        else:
            self._silence = ""
            self._snapshot = Snapshot.of(jobs, now, claimed)
            for sent in self._sender.all_sent():
                if self._snapshot.is_after(sent.sent_at):
                    self._snapshot.count(sent)
            self._sender.wake()
        # The list of a big cluster takes long, and longer when all ask.
        self._next_look = self._clock() + self._patience.poll

    async def _status(self, attempt_dir: Path, seen: Seen) -> Status:
        if not seen.there:
            attempt = self._attempts.pop(attempt_dir, None)
            self._sender.forget(attempt_dir)
            self._unwanted.add(attempt.key if attempt else None)
            return Status("lost", "its folder was deleted")
        if seen.ended is not None:
            self._has_ended(attempt_dir)
            return Status("ended", seen.ended)
        sent, key = self._sent(attempt_dir)
        if sent is None or key is None or sent.sent_at is None:
            return Status("running", self._sender.problem or "is about to be submitted to Slurm")
        snapshot = self._snapshot
        if snapshot is None:
            return Status("running", f"Slurm does not answer: {self._silence}")
        if not snapshot.is_after(sent.sent_at):
            return Status("running", "submitted to Slurm")
        return await self._judge(attempt_dir, seen, sent, snapshot)

    async def _judge(self, path: Path, seen: Seen, sent: Sent, snapshot: Snapshot) -> Status:
        """What Slurm's list means for an attempt without an end in its journal."""
        attempt = self._attempts[path]
        key = attempt.key
        assert key is not None, f"{path} is in no batch"
        job = snapshot.job(key)
        if job is None:
            return await self._missing(path, sent)
        attempt.missing_since, attempt.number = None, job.number
        found = verdict(job, claimed=key in snapshot.claimed)
        if found.kind in ("waiting", "running"):
            attempt.over_since = None
            self._insist_on_stop(attempt, seen)
            return Status("running", found.reason)
        return await self._over(path, sent, job, found)

    async def _missing(self, path: Path, sent: Sent) -> Status:
        """Slurm's list has nothing of it: its record may tell, or it has vanished."""
        attempt = self._attempts[path]
        job = await self._record(path, sent)
        if job is not None and not is_active(job):
            return await self._over(path, sent, job, verdict(job, claimed=True))
        now = self._clock()
        attempt.missing_since = attempt.missing_since or now
        if job is not None or now - attempt.missing_since < self._patience.vanished:
            return Status("running", "Slurm has it not in its list")
        words = f"vanished: Slurm knows nothing of its job {sent.batch.array}"
        return await self._end(path, Verdict("failed", words, "signal"))

    async def _record(self, path: Path, sent: Sent) -> SlurmJob | None:
        attempt = self._attempts[path]
        if attempt.key is None or sent.batch.array is None:
            return None
        batch, index = attempt.key
        try:
            return await self._scheduler.ended(batch, sent.batch.array, index, attempt.number)
        except SlurmError as error:
            self._silence = str(error)
            return None

    async def _over(self, path: Path, sent: Sent, job: SlurmJob, found: Verdict) -> Status:
        """Slurm says that it is over; its journal may only be late."""
        attempt = self._attempts[path]
        now = self._clock()
        if attempt.over_since is None:
            attempt.over_since = now
        if found.kind != "lost" and now - attempt.over_since < self._patience.visible:
            return Status("running", f"Slurm says {job.state}")
        if job.exit_code is None and found.kind == "failed":
            recorded = await self._record(path, sent)
            if recorded is not None and not is_active(recorded):
                found = verdict(recorded, claimed=True)
        if found.kind == "done":
            found = replace(found, kind="failed")
        return await self._end(path, found)

    def _insist_on_stop(self, attempt: _Attempt, seen: Seen) -> None:
        """Cancel a job in Slurm that was asked for its end and goes on."""
        if seen.stop is None:
            return
        now = self._clock()
        attempt.stop_since = attempt.stop_since or now
        if now - attempt.stop_since >= self._patience.stop:
            self._unwanted.add(attempt.key)

    # How an attempt ends that does not say so itself

    async def _end(self, path: Path, found: Verdict) -> Status:
        seen = await asyncio.to_thread(look, path)
        if seen.ended is None and found.kind == "lost" and seen.stop is None:
            self._unwanted.add(self._attempts[path].key)
            await asyncio.to_thread(give_up, path, found.reason)
            self._has_ended(path)
            return Status("lost", found.reason)
        if seen.ended is None and seen.stop is not None:
            reason = await asyncio.to_thread(conclude, path, "stopped", seen.stop, "stopped")
        elif seen.ended is None:
            reason = await asyncio.to_thread(conclude, path, "failed", found.reason, found.code)
        else:
            reason = seen.ended
        self._has_ended(path)
        return Status("ended", reason)

    async def _refuse(self, attempt_dirs: Sequence[Path], why: str) -> None:
        """End attempts that Slurm does not take."""
        for attempt_dir in attempt_dirs:
            with suppress(FileNotFoundError):  # its folder was deleted
                reason = f"Slurm did not take it: {why}"
                await asyncio.to_thread(conclude, attempt_dir, "failed", reason)
            self._context.on_wake(attempt_dir.parent.name)

    def _has_ended(self, attempt_dir: Path) -> None:
        attempt = self._attempts.pop(attempt_dir, None)
        sent = None if attempt is None or attempt.key is None else self._sender.sent(attempt.key[0])
        if attempt is not None and attempt.key is not None and sent is not None:
            sent.busy.discard(attempt.key[1])

    async def _tidy(self) -> None:
        """Remove the files of batches that nobody asks about any more."""
        wanted = {attempt.key[0] for attempt in self._attempts.values() if attempt.key}
        for sent in self._sender.all_sent():
            if sent.batch.id not in wanted and sent.sent_at is not None and not sent.busy:
                self._sender.drop(sent)
                await asyncio.to_thread(sent.batch.remove, self._jobs)
