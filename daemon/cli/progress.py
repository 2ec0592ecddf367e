"""How the progress of jobs shows while somebody waits for them: a bar, or calm lines in a pipe."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import click

from daemon.cli.output import how_far, on_backend, plural
from daemon.cli.runs import format_runs
from daemon.jobs.states import TERMINAL


@dataclass
class Job:
    """What is known of one job: its run, id, state, reason, each variable's status and error.

    `variable` is the one that was last begun, `report` what it said of its progress, `total` the
    number of variables in the plan; `waits` is what holds it up since its `backend` has it.
    """

    run: int
    id: str = ""
    proposal: int | None = None
    backend: str | None = None
    state: str = "queued"
    reason: str | None = None
    variable: str | None = None
    report: Mapping[str, Any] | None = None
    waits: str | None = None
    total: int | None = None
    results: dict[str, tuple[str, str | None]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What people know it by: its run, and its backend where that is not this machine."""
        return f"run {self.run}{on_backend(self.backend)}"

    @property
    def ended(self) -> bool:
        """Whether the job has come to an end of any kind."""
        return self.state in TERMINAL

    @property
    def went_well(self) -> bool:
        """Whether it has ended with all that its variables gave in the run file."""
        return self.state == "finished" and not self.reason

    def count(self, status: str) -> int:
        """The number of variables that ended as `status` (finished, failed, skipped)."""
        return sum(found == status for found, _ in self.results.values())


class Tally:
    """Adds up what the service tells about jobs, one item of its stream at a time."""

    def __init__(self) -> None:
        """Begin without jobs."""
        self.jobs: dict[str, Job] = {}
        self.current: list[int] = []
        """Runs without a job, as nothing in them is stale."""

    def add(self, job: str, run: int) -> None:
        """Count `job` in, which processes `run`."""
        self.jobs.setdefault(job, Job(run, job))

    def take(self, item: Mapping[str, Any]) -> Job:
        """Take in one item of the stream; return the job that it is about.

        Items of kinds that a newer daemon has change nothing.
        """
        name = item["id"] if item["kind"] == "job" else item["job"]
        job = self.jobs.setdefault(name, Job(item["run"], name))
        if item["kind"] == "job":
            job.state, job.reason, job.waits = item["state"], item["reason"], None
            job.proposal, job.backend = item.get("proposal"), item.get("backend")
        elif item["kind"] == "plan":
            job.total = item["total"]
        elif item["kind"] == "started":
            job.variable, job.report = item["variable"], None
        elif item["kind"] == "progress":
            job.variable, job.report = item["variable"], item
        elif item["kind"] == "result":
            job.results[item["variable"]] = (item["status"], item["error"])
            job.report = job.waits = None
        elif item["kind"] == "waiting":
            job.waits = item["reason"]
        return job

    @property
    def ended(self) -> int:
        """How many jobs have ended."""
        return sum(job.ended for job in self.jobs.values())

    @property
    def all_finished(self) -> bool:
        """Whether every job has ended well."""
        return all(job.went_well for job in self.jobs.values())

    def failures(self) -> Iterator[str]:
        """One line per thing that went wrong: jobs first, then variables with all their runs."""
        for job in self.jobs.values():
            if job.ended and not job.went_well:
                yield f"{job.name} {job.state}: {job.reason or 'no reason was given'}"
        errors: dict[tuple[str, str], list[int]] = {}
        for job in self.jobs.values():
            for variable, (status, error) in job.results.items():
                if status == "failed":
                    errors.setdefault((variable, error or "no message"), []).append(job.run)
        for (variable, error), runs in errors.items():
            noun = "run" if len(set(runs)) == 1 else "runs"
            yield f"{variable} failed in {noun} {format_runs(runs)}: {error}"


def job_line(job: Job) -> str:
    """One line on a job that ended: "run 42: finished, 12 variables, 1 failed".

    Who began to follow when the job was over knows of no variables, and so says nothing of them.
    """
    if not job.went_well:
        return f"{job.name}: {job.state}: {job.reason or 'no reason was given'}"
    parts = [f"{job.name}: finished"]
    if job.results:
        parts.append(plural(len(job.results), "variable"))
    parts += [f"{job.count(kind)} {kind}" for kind in ("failed", "skipped") if job.count(kind)]
    return ", ".join(parts)


class View(Protocol):
    """Shows how far a tally is."""

    def update(self, job: Job) -> None:
        """Show what changed about `job`."""


@contextmanager
def view(tally: Tally) -> Iterator[View]:
    """A bar in a terminal, lines elsewhere, on standard error as no program reads them."""
    if sys.stderr.isatty():
        with _bar(tally) as bar:
            yield bar
    else:
        yield Lines()


class Waits:
    """Says what jobs wait for, each reason once, and nothing else."""

    def __init__(self) -> None:
        """Begin with nothing said."""
        self._said: set[str] = set()

    def update(self, job: Job) -> None:
        """Say what `job` waits for, if it does."""
        if job.state == "queued" and job.reason:
            self._say(f"waiting: {job.reason}")
        elif job.waits and job.state == "dispatched":
            self._say(f"{job.backend}: {job.waits}")  # as all of them do there
        elif job.waits:
            self._say(f"waiting: run {job.run}: {job.waits}")

    def _say(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            click.echo(line, err=True)


class Lines(Waits):
    """Says each job once when it ends, and what jobs wait for."""

    def update(self, job: Job) -> None:
        """Say what is new about `job`, if it is worth a line."""
        if job.ended:
            self._say(job_line(job))
        else:
            super().update(job)


@contextmanager
def _bar(tally: Tally) -> Iterator[View]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    progress = Progress(
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=Console(stderr=True),
    )
    with progress:
        task = progress.add_task("", total=len(tally.jobs))

        class Bar:
            def update(self, job: Job) -> None:
                progress.update(
                    task,
                    completed=tally.ended,
                    total=len(tally.jobs),
                    description=_now(job),
                )

        yield Bar()


def _now(job: Job) -> str:
    """What the bar says beside itself: the run that was last heard of."""
    if job.ended:
        return f"run {job.run} {job.state}"
    if job.state == "queued" and job.reason:
        return f"waiting: {job.reason}"
    if job.waits:
        return f"{job.name}: {job.waits}"
    if job.total is None:
        return f"{job.name} {job.state}"
    now = f", {how_far(job.variable, job.report)}" if job.variable else ""
    return f"{job.name}: {len(job.results)} of {job.total} variables{now}"
