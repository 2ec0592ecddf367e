"""Collects attempts for a moment and submits them together, as arrays that keep to a limit.

At most so many jobs run at once as the configuration says: an array is throttled by Slurm itself,
and one that would exceed the limit together with others waits until those have ended. While one
waits in this way, what comes then is collected for the next.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

from daemon.backends.slurm import batches
from daemon.backends.slurm.batches import Batch
from daemon.backends.slurm.scheduler import (
    Later,
    NoAnswer,
    Refused,
    Scheduler,
    SlurmError,
    Submission,
    TooLong,
)
from daemon.backends.slurm.sent import Key, Sent

QUIET_SECONDS, LONGEST_SECONDS = 0.15, 1.0
"""How long to wait for more: since the last attempt came, and since the first one did."""


class Sender:
    """Submits what is collected. `describe(batch)` says how, `refuse(attempts, why)` is told what
    cannot be submitted, `limit()` is how many jobs may run at once."""

    def __init__(
        self,
        jobs: Path,
        scheduler: Scheduler,
        *,
        describe: Callable[[Batch, int], Awaitable[Submission]],
        refuse: Callable[[Sequence[Path], str], Awaitable[None]],
        limit: Callable[[], int],
        log: Callable[[str], None],
        clock: Callable[[], float],
        retry_seconds: float,
        settle_seconds: float,
    ) -> None:
        self._jobs = jobs
        self._scheduler = scheduler
        self._describe = describe
        self._refuse = refuse
        self._limit = limit
        self._log = log
        self._clock = clock
        self._retry_seconds = retry_seconds
        self._settle_seconds = settle_seconds
        self._most = batches.MOST
        self._waiting: dict[Path, float] = {}
        self._making: set[Path] = set()
        self._sent: dict[str, Sent] = {}
        self._unsent: list[Sent] = []
        # Each of the others that were sent ends before one of these does.
        self._tails: list[Sent] = []
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.problem = ""

    # What is asked of it

    def collect(self, attempt_dir: Path) -> None:
        """Submit an attempt with the next batch."""
        self._waiting.setdefault(attempt_dir, self._clock())
        self.wake()

    def forget(self, attempt_dir: Path) -> bool:
        """Do not submit it; False when it is in a batch already."""
        return self._waiting.pop(attempt_dir, None) is not None

    def waits(self, attempt_dir: Path) -> bool:
        """Whether it is not in a batch yet."""
        return attempt_dir in self._waiting or attempt_dir in self._making

    def sent(self, batch_id: str) -> Sent | None:
        """What is known of a batch."""
        return self._sent.get(batch_id)

    async def key_of(self, attempt_dir: Path) -> Key | None:
        """An attempt's batch and its place there, taken up from the disk if need be."""
        batch_id = await asyncio.to_thread(batches.batch_of, attempt_dir)
        if batch_id is None or self.waits(attempt_dir):
            return None
        if batch_id not in self._sent:
            batch = await asyncio.to_thread(batches.load, self._jobs, batch_id)
            if batch is None:
                return None
            if batch_id not in self._sent:
                self.take_up(batch)
        try:
            return batch_id, self._sent[batch_id].batch.place_of(attempt_dir)
        except ValueError:
            return None  # it was put into another batch since

    def all_sent(self) -> list[Sent]:
        """All batches that are known."""
        return list(self._sent.values())

    def take_up(self, batch: Batch) -> None:
        """Take up a batch of an earlier process: it is submitted unless Slurm has it."""
        sent = Sent(batch, busy=set(range(len(batch.attempts))))
        self._sent[batch.id] = sent
        if batch.array is None:
            self._unsent.append(sent)
            self.wake()
        else:
            sent.sent_at = self._clock()
            self._follow(sent)

    def drop(self, sent: Sent) -> None:
        """Nothing more will be asked about a batch."""
        self._sent.pop(sent.batch.id, None)
        if sent in self._tails:
            self._tails.remove(sent)
        self.wake()

    def wake(self) -> None:
        """There may be something to submit."""
        self._news.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop; what was not submitted stays for the next one to take up."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    # How it is done

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            await self._gather()
            self._news.clear()
            try:
                while await self._step():
                    pass
                self.problem = ""
            except (SlurmError, OSError) as error:
                self._complain(str(error))
                await asyncio.sleep(self._retry_seconds)
                self._news.set()
            except Exception as error:  # noqa: BLE001 - without this task nothing is submitted
                self._complain(f"{type(error).__name__}: {error}")
                await asyncio.sleep(self._retry_seconds)
                self._news.set()

    def _complain(self, problem: str) -> None:
        if problem != self.problem:
            self._log(f"Slurm: {problem}; trying again")
        self.problem = problem

    async def _gather(self) -> None:
        """Wait until nothing more comes, or enough is there."""
        began, count = self._clock(), -1
        while count != len(self._waiting) < self._most:
            count = len(self._waiting)
            if not count or self._clock() - began > LONGEST_SECONDS:
                return
            await asyncio.sleep(QUIET_SECONDS)

    async def _step(self) -> bool:
        """Submit one batch; False when there is none to submit now."""
        if self._unsent:
            await self._send(self._unsent[0])
            return True
        chosen, after = self._choose()
        if not chosen:
            return False
        self._making = set(chosen)
        try:
            batch = await asyncio.to_thread(batches.make, self._jobs, chosen)
        finally:
            self._making = set()
        for attempt_dir in chosen:
            self._waiting.pop(attempt_dir, None)
        batch.after = [sent.batch.array for sent in after if sent.batch.array is not None]
        if batch.attempts:
            sent = Sent(batch, busy=set(range(len(batch.attempts))))
            self._sent[batch.id] = sent
            self._unsent.append(sent)
        return True

    def _choose(self) -> tuple[list[Path], list[Sent]]:
        """The attempts of the next batch, and the batches that it has to wait for."""
        waiting = list(self._waiting)[: self._most]
        busy = sum(len(sent.busy) for sent in self._sent.values())
        if len(waiting) <= self._limit() - busy or not busy:
            return waiting, []
        if len(waiting) < self._most and any(sent.holds_back for sent in self._sent.values()):
            return [], []
        return waiting, list(self._tails)

    async def _send(self, sent: Sent) -> None:
        batch = sent.batch
        if not await self._has_been_asked(sent):
            count = len(batch.attempts)
            try:
                submission = await self._describe(batch, min(self._limit(), count))
                batch.asked, sent.asked_at = True, self._clock()
                await asyncio.to_thread(batch.save, self._jobs)
                batch.array = await self._scheduler.submit(submission)
            except Later:
                batch.asked = False
                raise
            except TooLong as error:
                if count == 1:
                    await self._give_up(sent, str(error))
                    return
                self._most = count // 2
                await self._dissolve(sent)
                return
            except Refused as error:
                await self._give_up(sent, str(error))
                return
        await asyncio.to_thread(batch.save, self._jobs)
        sent.sent_at = self._clock()
        self._unsent.remove(sent)
        self._follow(sent)

    def _follow(self, sent: Sent) -> None:
        if sent.batch.after:
            self._tails.clear()
        self._tails.append(sent)

    async def _has_been_asked(self, sent: Sent) -> bool:
        """Whether Slurm has a batch whose submission it has not answered, or we have forgotten."""
        if not sent.batch.asked:
            return False
        found = [job for job in await self._scheduler.jobs() if job.batch == sent.batch.id]
        if found:
            sent.batch.array = found[0].array
            return True
        if sent.asked_at is not None:
            left = sent.asked_at + self._settle_seconds - self._clock()
            if left > 0:
                raise NoAnswer("it has not said whether it has taken a batch")
        return False

    async def _give_up(self, sent: Sent, why: str) -> None:
        self._log(f"Slurm refuses {len(sent.batch.attempts)} jobs: {why}")
        await self._refuse(sent.batch.attempt_dirs(self._jobs), why)
        self._unsent.remove(sent)
        self.drop(sent)
        await asyncio.to_thread(sent.batch.remove, self._jobs)

    async def _dissolve(self, sent: Sent) -> None:
        """Put the attempts of a batch that is too long first among those that wait."""
        self._unsent.remove(sent)
        self.drop(sent)
        await asyncio.to_thread(sent.batch.remove, self._jobs)
        again = dict.fromkeys(sent.batch.attempt_dirs(self._jobs), self._clock())
        self._waiting = again | self._waiting
