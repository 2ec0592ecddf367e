"""The jobs that follow the first one of a run: one for each part that another backend has."""

from dataclasses import dataclass, replace

from daemon.jobs.endings import following_id
from daemon.jobs.job import Job, Work, work_of


@dataclass(frozen=True)
class Later:
    """A part of a run that follows the first one, and the parts whose results it needs."""

    part: str
    needs: tuple[str, ...] = ()


def part_id(job: Job, part: str) -> str:
    """The id of the job that follows `job` with a part of its run."""
    return following_id(job, part)


def part_work(job: Job, later: Later) -> Work:
    """The work that follows `job`: a part of its run, from what it and others have computed."""
    inputs = (*job.inputs, job.id, *(part_id(job, part) for part in later.needs))
    backend = later.part.partition("+")[0]
    work = replace(work_of(job), part=later.part, backend=backend)
    return replace(work, inputs=inputs, after=job.id)
