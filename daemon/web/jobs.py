"""`/api/jobs`: what was, is and will be processed."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field

from daemon.jobs.states import State
from daemon.web.access import Viewer

ROUTER = APIRouter(tags=["jobs"])
MOST = 1000
"""Jobs in one answer."""

JobId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="the id of a job")]


class Job(BaseModel):
    """A job in a list."""

    job_id: str
    status: str = Field(description="where it stands")
    job_info: dict[str, Any] = Field(description="all that the queue has of it")


@ROUTER.get("/jobs", response_model=list[Job])
async def list_jobs(
    request: Request,
    caller: Viewer,  # noqa: ARG001 - it is what lets them in
    limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
    state: State | None = None,
) -> list[Job]:
    """The last jobs, newest first, of one state or of all."""
    wanted = None if state is None else state.value
    found = await request.app.state.link.call("jobs", limit=limit, state=wanted)
    return [Job(job_id=job["id"], status=str(job["state"]), job_info=job) for job in found["jobs"]]


@ROUTER.get("/jobs/{job_id}")
async def show_job(request: Request, caller: Viewer, job_id: JobId) -> dict[str, Any]:  # noqa: ARG001
    """All that is known of a job: its request, attempts, history, and what became of it.

    The id may be shortened to a beginning that no other job has.
    """
    found: dict[str, Any] = await request.app.state.link.call("job", job=job_id)
    return found
