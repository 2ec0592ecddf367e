"""Looks at Slurm's list now and then, and has the jobs in it cancelled that nobody wants.

That needs no memory: what waits or runs there although nothing shall come of it is found in each
list anew, also after Slurm, or we, were away. Jobs are known by their comments; numbers are given
out again.
"""

from collections.abc import Callable, Collection, Mapping

from daemon.backends.slurm.patience import Patience
from daemon.backends.slurm.scheduler import Scheduler, SlurmError
from daemon.backends.slurm.sent import Key, Sent
from daemon.backends.slurm.snapshot import Snapshot


class Watch:
    """`snapshot` is the last list, None while Slurm does not answer; `silence` says why not."""

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        patience: Patience,
        clock: Callable[[], float],
        log: Callable[[str], None],
    ) -> None:
        """Of `patience`, `poll` and `stop` matter here."""
        self._scheduler = scheduler
        self._patience = patience
        self._clock = clock
        self._log = log
        self._next = 0.0
        self._cancelled: set[tuple[str, int]] = set()
        self.snapshot: Snapshot | None = None
        self.silence = ""

    def hurry(self) -> None:
        """Look the next time that anybody asks."""
        self._next = 0.0

    async def look(self, claimed: Collection[Key], batches: Mapping[str, Sent]) -> bool:
        """Ask for the list, unless that was done lately; whether there is a new one.

        `claimed` are the attempts that were claimed before, `batches` those that are ours.
        """
        now = self._clock()
        if now < self._next:
            return False
        try:
            jobs = await self._scheduler.jobs()
        except SlurmError as error:
            if not self.silence:
                self._log(f"Slurm does not answer: {error}")
            self.silence = str(error)
            self.snapshot = None
            self._next = self._clock() + self._patience.poll
            return False
        self.silence = ""
        self.snapshot = Snapshot.of(jobs, now, claimed)
        for sent in batches.values():
            if self.snapshot.is_after(sent.sent_at):
                self.snapshot.count(sent)
            # Slurm may not have heard of their end, and wait for it for long.
            late = now - self._patience.stop
            sent.given_up |= {place for place, since in sent.ended.items() if since < late}
        self._next = self._clock() + self._patience.poll
        await self._cancel(self.snapshot, batches)
        return True

    async def _cancel(self, snapshot: Snapshot, batches: Mapping[str, Sent]) -> None:
        unwanted = {(job.array, job.index) for job in snapshot.unwanted(batches)}
        if not unwanted:
            self._cancelled.clear()
            return
        try:
            await self._scheduler.cancel(sorted(unwanted))
        except SlurmError as error:
            self._log(f"Slurm: {len(unwanted)} jobs are not cancelled: {error}; trying again")
        else:
            if unwanted - self._cancelled:
                self.hurry()  # whoever waits for their end learns of it soon
            self._cancelled = unwanted
