"""`/api/agent/…`: agents fetch jobs here and report on them; and which agents there are."""

from collections.abc import Collection
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from daemon.web.access import Agent, Anybody, Viewer
from daemon.web.errors import Refusal
from daemon.web.jobs import JobId
from daemon.web.sendable import Plain
from daemon.web.tokens import Caller

ROUTER = APIRouter(tags=["agents"])
STATUS = APIRouter(tags=["jobs"])
"""What is at the root too, where documents have it."""

Text = Annotated[str, Field(max_length=2000)]
Details = Annotated[Plain, Field(max_length=100)]
WorkerId = Annotated[str, Field(min_length=1, max_length=64)]


class Message(BaseModel):
    """What every call of an agent has."""

    # Agents of other versions may say more.
    model_config = ConfigDict(extra="ignore")

    worker_id: WorkerId = Field(description="the agent's id, which its token is bound to")


class Ask(Message):
    """An agent asks for a job."""

    jobs: Annotated[list[Text], Field(max_length=1000)] | None = Field(
        None, description="the jobs that it has, so that an answer that was lost is given again"
    )
    containers: bool = Field(True, description="whether it runs jobs that have an image")


class Report(Message):
    """An agent says how a job is."""

    job_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    status: Annotated[str, Field(max_length=40)] = Field(
        description="running, finished, failed or stopped"
    )
    attempt: int | None = Field(None, description="which attempt, as the payload had it")
    container_id: Text | None = None
    container_name: Text | None = None
    exit_code: int | None = Field(None, ge=-1_000_000, le=1_000_000)
    error: Text | None = None
    details: Details | None = Field(None, description="what the agent says of itself")


class Heartbeat(Message):
    """An agent is there."""

    info: Details | None = Field(None, description="what it says of itself")


class Volume(BaseModel):
    """A folder that the job sees."""

    host: str
    container: str
    mode: str


class Payload(BaseModel):
    """A job for an agent."""

    job_id: str
    job_name: str
    config_path: str = Field(description="the job's request, below the first volume")
    preferred_host: str | None
    image: str | None = Field(description="the image of its container; null: none is needed")
    container_name: str
    command: str
    volumes: list[Volume]
    env: dict[str, str]
    attempt: int
    arguments: list[str] = Field(description="the command as a list")
    attempt_dir: str
    working_dir: str
    log: str = Field(description="the file for what the job prints")
    timeout: float = Field(description="seconds that it may take")


class Taken(BaseModel):
    """A report was taken in."""

    ok: bool
    status: str = Field(description="how the job is now; stop_requested: end it")


class Beaten(BaseModel):
    """It was taken in."""

    ok: bool
    folder: str = Field(description="the database's folder, which has to be there too")


@ROUTER.post(
    "/agent/next-job",
    response_model=Payload,
    responses={204: {"description": "There is no job for this agent", "model": None}},
)
async def next_job(request: Request, caller: Agent, ask: Ask) -> Any:
    """The next job for an agent, or 204."""
    agent = _bound(caller, ask)
    answer = await request.app.state.link.call(
        "agent-next", agent=agent, jobs=ask.jobs, containers=ask.containers
    )
    return Response(status_code=204) if answer["job"] is None else answer["job"]


@ROUTER.post("/agent/job-status", response_model=Taken)
async def job_status(request: Request, caller: Agent, report: Report) -> Any:
    """Say how a job is; the answer has the status that it then has.

    To be repeated while it runs. 409 says that the job is not this agent's, or not any more: what
    runs of it has to be ended.
    """
    agent = _bound(caller, report)
    said = report.model_dump(exclude={"worker_id"})
    return await request.app.state.link.call("agent-report", agent=agent, **said)


@ROUTER.post("/agent/heartbeat", response_model=Beaten)
async def heartbeat(request: Request, caller: Agent, beat: Heartbeat) -> Any:
    """Say that the agent is there."""
    agent = _bound(caller, beat)
    return await request.app.state.link.call("agent-heartbeat", agent=agent, info=beat.info)


@ROUTER.get("/queue")
async def queue(request: Request, caller: Viewer) -> list[dict[str, Any]]:  # noqa: ARG001
    """The jobs that wait for an agent, the first one first."""
    found: list[dict[str, Any]] = (await request.app.state.link.call("agents"))["queue"]
    return found


@ROUTER.get("/hosts")
async def hosts(request: Request, caller: Viewer) -> dict[str, Any]:  # noqa: ARG001
    """The agents that were heard of, and those that have a token."""
    found = (await request.app.state.link.call("agents"))["hosts"]
    return {"available_hosts": _available(request, found), "hosts": found}


async def check_known(request: Request, agent: str) -> None:
    """Raise Refusal when no agent of this name was heard of, or has a token."""
    known = _available(request, (await request.app.state.link.call("agents"))["hosts"])
    if agent not in known:
        raise Refusal(
            400,
            "unknown_host",
            f"Unknown host {agent!r}. Allowed: {', '.join(known) or 'none so far'}; "
            "`runtable token add agent NAME` makes one known",
        )


def _available(request: Request, heard_of: Collection[str]) -> list[str]:
    named = {token.agent for token in request.app.state.tokens.all() if token.agent is not None}
    return sorted({*named, *heard_of})


@STATUS.get("/status/{job_id}")
async def status(request: Request, caller: Anybody, job_id: JobId) -> dict[str, Any]:  # noqa: ARG001
    """How a job is, in short; an agent learns here that it has to stop it."""
    found: dict[str, Any] = await request.app.state.link.call("job-state", job=job_id)
    return found


def _bound(caller: Caller, message: Message) -> str:
    """The agent that the token is bound to; raises Refusal for another one's messages."""
    if caller.agent != message.worker_id:
        raise Refusal(
            403, "other_agent", f"this token is for agent {caller.agent}, not {message.worker_id}"
        )
    return message.worker_id
