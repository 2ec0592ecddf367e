"""`/api/ops/…` and `/api/stop`: what operators do to jobs, recorded with who and why."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from daemon.jobs.states import TERMINAL, State
from daemon.web.access import Operator, acting
from daemon.web.agents import WorkerId, check_known
from daemon.web.errors import STATUS, Refusal
from daemon.web.jobs import JobId
from daemon.web.tokens import Caller

ROUTER = APIRouter(tags=["ops"])

Reason = Annotated[str, Field(min_length=1, max_length=1000)]


class _Act(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Stop(_Act):
    """Why a job is stopped."""

    reason: Reason = "ops_stopped"


class Cancel(_Act):
    """Why a job is taken back."""

    reason: Reason = "ops_canceled"


class Fail(_Act):
    """Why a job is given up; `force` also one that only waits."""

    reason: Reason = "ops_failed"
    force: bool = False


class Requeue(_Act):
    """Run a job once more; `force` also one that has finished."""

    reason: Reason = "ops_requeued"
    force: bool = False
    preferred_host: WorkerId | None = Field(
        None, description="the agent that gets it first, if the job is for agents"
    )
    require_host: bool | None = Field(None, description="no other agent gets it")


class Cleanup(_Act):
    """Whether only to tell."""

    dry_run: bool = False


class Acted(BaseModel):
    """How a job is after an act."""

    job_id: str
    status: str
    message: str


class Cleaned(BaseModel):
    """What was removed."""

    removed: list[str] = Field(description="what was removed, or would be, by its name")
    count: int
    found: list[dict[str, Any]] = Field(
        description="all that was found, with why, and why it stays"
    )


@ROUTER.post("/ops/jobs/{job_id}/requeue", response_model=Acted)
async def requeue(
    request: Request, caller: Operator, job_id: JobId, act: Requeue | None = None
) -> Acted:
    """Queue a job that has ended for another attempt, which computes everything anew."""
    act = act or Requeue()
    await _exact(request, job_id)
    op = "requeue"
    more: dict[str, object] = {"force": act.force}
    if act.preferred_host is not None:
        await check_known(request, act.preferred_host)
    if act.preferred_host is not None or act.require_host is not None:
        op = "agent-requeue"
        more |= {"agent": act.preferred_host, "require": bool(act.require_host)}
    job = await _act(request, caller, op, job_id, act.reason, **more)
    return _acted(job, "Queued for another attempt")


@ROUTER.post("/ops/jobs/{job_id}/fail", response_model=Acted)
async def fail(request: Request, caller: Operator, job_id: JobId, act: Fail | None = None) -> Acted:
    """Give up a job that is under way, with all its processes."""
    act = act or Fail()
    await _exact(request, job_id)
    job = await _act(request, caller, "fail", job_id, act.reason, force=act.force)
    return _acted(job, "Given up")


@ROUTER.post("/ops/jobs/{job_id}/cancel", response_model=Acted)
async def cancel(
    request: Request, caller: Operator, job_id: JobId, act: Cancel | None = None
) -> Acted:
    """Take back a job that has not begun; one that has is stopped instead."""
    act = act or Cancel()
    await _exact(request, job_id)
    job = await _act(request, caller, "cancel", job_id, act.reason)
    return _acted(job, "Job canceled from queue")


@ROUTER.post("/ops/jobs/{job_id}/stop", response_model=Acted)
async def stop(request: Request, caller: Operator, job_id: JobId, act: Stop | None = None) -> Acted:
    """Stop a job with all its processes; one that only waits is canceled."""
    act = act or Stop()
    await _exact(request, job_id)
    job = await _act(request, caller, "stop", job_id, act.reason)
    return _acted(job, _stopped(State(job["state"])))


@ROUTER.post("/stop/{job_id}", response_model=Acted)
async def stop_unless_ended(request: Request, caller: Operator, job_id: JobId) -> Acted:
    """Stop a job, as above; one that has ended or is being stopped already is left as it is."""
    state = State((await _exact(request, job_id))["status"])
    if state in TERMINAL:
        return Acted(job_id=job_id, status=state, message=f"Job already finished ({state.value})")
    if state is State.STOP_REQUESTED:
        return Acted(job_id=job_id, status=state, message="Stop already requested")
    job = await _act(request, caller, "stop", job_id, "ops_stopped")
    return _acted(job, _stopped(State(job["state"])))


@ROUTER.delete("/job/{job_id}", response_model=Acted)
async def delete(request: Request, caller: Operator, job_id: JobId) -> Acted:
    """Remove a job that has ended, with its folder; what it has computed stays in the table."""
    state = (await _exact(request, job_id))["status"]
    await request.app.state.link.call("forget", job=job_id, by=acting(request, caller))
    return Acted(job_id=job_id, status=state, message="Job deleted")


@ROUTER.post("/ops/queue/cleanup", response_model=Cleaned)
async def cleanup(request: Request, caller: Operator, act: Cleanup | None = None) -> Cleaned:
    """Remove what nothing needs: rows that cannot be read, folders without jobs, old jobs."""
    act = act or Cleanup()
    by, link = acting(request, caller), request.app.state.link
    found = (await link.call("cleanup", by=by, dry_run=act.dry_run))["found"]
    removed = [waste["name"] for waste in found if not waste["kept"]]
    return Cleaned(removed=removed, count=len(removed), found=found)


def _acted(job: dict[str, Any], message: str) -> Acted:
    return Acted(job_id=job["id"], status=job["state"], message=message)


def _stopped(state: State) -> str:
    if state is State.CANCELED:
        return "Job canceled from queue"
    return "Stop requested; whoever runs the job ends it"


async def _exact(request: Request, job_id: str) -> dict[str, Any]:
    """The job with this very id: nothing is done to one whose id only begins so."""
    found: dict[str, Any] = await request.app.state.link.call("job-state", job=job_id)
    return found


async def _act(
    request: Request, caller: Caller, op: str, job_id: str, reason: str, **more: object
) -> dict[str, Any]:
    answer = await request.app.state.link.call(
        op, jobs=[job_id], by=acting(request, caller), reason=reason, **more
    )
    for refused in answer["refused"]:
        code = refused.get("code", "conflict")
        raise Refusal(STATUS.get(code, 409), code, refused["reason"])
    job: dict[str, Any] = answer["jobs"][0]
    return job
