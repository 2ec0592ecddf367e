"""Collects attempts for a moment and submits them together, as arrays that keep to a limit.

There are two lanes: runs that have just arrived never wait for work that is done again. In each at
most so many jobs run at once as the configuration says: an array is throttled by Slurm itself, and
free places are filled. What is done again and finds none waits there for those before it to end;
while one batch does, others are collected here. New runs wait here, each for the next place.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

from daemon.backends.slurm import batches
from daemon.backends.slurm.batches import Batch
from daemon.backends.slurm.mends import submit
from daemon.backends.slurm.scheduler import (
    Later,
    NoAnswer,
    NotAsked,
    Refused,
    Scheduler,
    SlurmError,
    Submission,
    TooLong,
)
from daemon.backends.slurm.sent import Key, Sent
from daemon.backends.slurm.snapshot import is_active

QUIET_SECONDS, LONGEST_SECONDS = 0.15, 1.0
"""How long to wait for more: since the last attempt came, and since the first one did."""


class Sender:
    """Submits what is collected. `describe(batch, array, after)` says how, `refuse(attempts, why)`
    is told what cannot be submitted, `limit()` is how many jobs of a lane may run at once.
    `problem` is why nothing can be submitted, while that is so."""

    def __init__(
        self,
        jobs: Path,
        scheduler: Scheduler,
        *,
        describe: Callable[[Batch, str, Sequence[str]], Awaitable[Submission]],
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
        # Whether they are live.
        self._waiting: dict[Path, bool] = {}
        self._making: set[Path] = set()
        self._sent: dict[str, Sent] = {}
        self._unsent: list[Sent] = []
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.problem = ""

    # What is asked of it

    def collect(self, attempt_dir: Path, *, live: bool) -> None:
        """Submit an attempt with the next batch."""
        self._waiting.setdefault(attempt_dir, live)
        self.wake()

    def forget(self, attempt_dir: Path) -> None:
        """Do not submit it, unless it is in a batch already."""
        self._waiting.pop(attempt_dir, None)

    def waits(self, attempt_dir: Path) -> bool:
        """Whether it is not in a batch yet."""
        return attempt_dir in self._waiting or attempt_dir in self._making

    def why_waits(self, attempt_dir: Path) -> str:
        """Why an attempt is not in Slurm's queue, for people."""
        if self.problem:
            return f"could not be submitted to Slurm yet: {self.problem}"
        live = self._waiting.get(attempt_dir)
        if live is not None and not self._room(live=live):
            when = "another one has ended" if live else "those before it have begun"
            said = f"is submitted to Slurm when {when}"
            return f"{said}: at most {self._limit()} run at once (concurrent_jobs)"
        return "is about to be submitted to Slurm"

    async def key_of(self, attempt_dir: Path) -> Key | None:
        """An attempt's batch and its place there, taken up from the disk if need be."""
        batch_id = await asyncio.to_thread(batches.batch_of, attempt_dir)
        if batch_id is None or self.waits(attempt_dir):
            return None
        if batch_id not in self._sent:
            batch = await asyncio.to_thread(batches.load, self._jobs, batch_id)
            if batch is None:
                return None
            wanted = await asyncio.to_thread(batch.wanted, self._jobs)
            if batch_id not in self._sent:
                self._take_up(batch, wanted)
        try:
            return batch_id, self._sent[batch_id].batch.place_of(attempt_dir)
        except ValueError:
            return None  # it was put into another batch since

    @property
    def sent(self) -> dict[str, Sent]:
        """All batches that are known, by their ids."""
        return dict(self._sent)

    def _take_up(self, batch: Batch, wanted: Sequence[int]) -> None:
        """Take up a batch of an earlier process: it is submitted unless Slurm has it."""
        now, places = self._clock(), set(range(len(batch.attempts)))
        sent = Sent(batch, busy=places, given_up=places - set(wanted))
        self._sent[batch.id] = sent
        if batch.array is None:
            # A program that was left behind may still be at it.
            sent.asked_at = now if batch.asked else None
            self._unsent.append(sent)
            self.wake()
        else:
            sent.sent_at = now

    def drop(self, sent: Sent) -> None:
        """Nothing more will be asked about a batch."""
        self._sent.pop(sent.batch.id, None)
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
            # What keeps one lane waiting need not keep the other one.
            problems = [await self._send_all(live=live) for live in (True, False)]
            problem = next(filter(None, problems), "")
            if problem and problem != self.problem:
                self._log(f"Slurm: {problem}; trying again")
            self.problem = problem
            if problem:
                await asyncio.sleep(self._retry_seconds)
                self._news.set()

    async def _gather(self) -> None:
        """Wait until nothing more comes, or enough is there."""
        began, count = self._clock(), -1
        while count != len(self._waiting) < self._most:
            count = len(self._waiting)
            if not count or self._clock() - began > LONGEST_SECONDS:
                return
            await asyncio.sleep(QUIET_SECONDS)

    async def _send_all(self, *, live: bool) -> str:
        """Submit what there is in a lane; why that did not go on, if it did not."""
        try:
            while True:
                unsent = [sent for sent in self._unsent if sent.batch.live is live]
                if unsent:
                    await self._send(unsent[0])
                elif not await self._make(live=live):
                    return ""
        except (SlurmError, OSError) as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - without this task nothing is submitted
            return f"{type(error).__name__}: {error}"

    def _lane(self, *, live: bool) -> list[Sent]:
        return [sent for sent in self._sent.values() if sent.batch.live is live]

    def _room(self, *, live: bool) -> int:
        """How many more of those that wait in a lane may be submitted now."""
        lane, waiting = self._lane(live=live), list(self._waiting.values()).count(live)
        busy = sum(len(sent.busy) for sent in lane)
        if 0 < busy < self._limit():
            return min(self._limit() - busy, self._most)
        chains = not live and all(sent.begun for sent in lane)
        return self._most if not busy or chains or waiting >= self._most else 0

    async def _make(self, *, live: bool) -> bool:
        """Make a batch of what waits in a lane; False when there is none to make now."""
        ours = [path for path, its in self._waiting.items() if its is live]
        chosen = ours[: self._room(live=live)]
        if not chosen:
            return False
        self._making = set(chosen)
        try:
            batch = await asyncio.to_thread(batches.make, self._jobs, chosen, live=live)
        finally:
            self._making = set()
        for attempt_dir in chosen:
            self._waiting.pop(attempt_dir, None)
        sent = Sent(batch)
        self._sent[batch.id] = sent
        self._unsent.append(sent)
        return True

    async def _send(self, sent: Sent) -> None:
        batch = sent.batch
        if not await self._is_there(sent):
            places = await asyncio.to_thread(batch.wanted, self._jobs)
            if not places:
                await self._remove(sent)
                return
            try:
                await self._submit(sent, places)
            except TooLong as error:
                if len(batch.attempts) > 1:
                    self._most = len(batch.attempts) // 2
                    await self._dissolve(sent)
                else:
                    await self._give_up(sent, str(error))
                return
            except Refused as error:
                await self._give_up(sent, str(error))
                return
        await asyncio.to_thread(batch.save, self._jobs)
        sent.sent_at = self._clock()
        self._unsent.remove(sent)

    async def _submit(self, sent: Sent, places: Sequence[int]) -> None:
        """Submit those places of a batch for whose attempts somebody waits."""
        batch, sent.busy = sent.batch, set()
        after = await self._those_before(sent, len(places))
        submission = await self._describe(batch, batches.array_of(places, self._limit()), after)
        batch.asked, sent.busy = True, set(places)
        await asyncio.to_thread(batch.save, self._jobs)
        try:
            batch.array = await submit(submission, self._scheduler)
        except (Later, NotAsked):
            batch.asked = False
            await asyncio.to_thread(batch.save, self._jobs)
            raise
        except NoAnswer:
            sent.asked_at = self._clock()
            raise

    async def _those_before(self, sent: Sent, count: int) -> list[str]:
        """The numbers of the arrays that a batch of so many jobs has to wait for.

        They are those that Slurm has now: it would wait for ever for one that it has forgotten,
        whose number it gives out again.
        """
        lane = self._lane(live=sent.batch.live)
        others = {its.batch.id: len(its.busy) for its in lane if its is not sent}
        if not (busy := sum(others.values())) or busy + count <= self._limit():
            return []
        jobs = [job for job in await self._scheduler.jobs() if job.batch in others]
        return sorted({job.array for job in jobs if is_active(job)})

    async def _is_there(self, sent: Sent) -> bool:
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
        await self._remove(sent)

    async def _remove(self, sent: Sent) -> None:
        """Let go of a batch that is not in Slurm."""
        self._unsent.remove(sent)
        self.drop(sent)
        await asyncio.to_thread(sent.batch.remove, self._jobs)

    async def _dissolve(self, sent: Sent) -> None:
        """Put the attempts of a batch that is too long first among those that wait."""
        again = dict.fromkeys(sent.batch.attempt_dirs(self._jobs), sent.batch.live)
        self._waiting = again | self._waiting
        await self._remove(sent)
